"""How a command line loads a corpus: with a bar, while texts are read and encoded."""

import contextlib
import functools
from typing import Any

from glrnn import data
from glrnn.console.bar import Bar
from glrnn.data.texts import PathLike


def load_corpus(
    name_or_folder: PathLike, *arguments: Any, **options: Any
) -> data.Corpus:
    """Loads a corpus as `data.load` does, and shows how far it is.

    Nothing is shown of a corpus whose streams are kept.

    Args:
        name_or_folder: As for `data.load`, like all others.
        *arguments: More of them.
        **options: Its options.

    Returns:
        The corpus.

    Raises:
        UsageError: as `data.load` does.

    Example:
        >>> load_corpus("python-docs").name
        'python-docs'
    """
    with contextlib.ExitStack() as shown:
        bar = functools.cache(lambda: shown.enter_context(Bar()))
        return data.load(
            name_or_folder,
            *arguments,
            **options,
            begin=lambda title, total: bar().begin(title, total),
            advance=lambda units: bar().advance(units),
        )
