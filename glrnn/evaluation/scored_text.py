"""A text to score: a split of a corpus, or a text of one's own."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from glrnn.data import Corpus
from glrnn.data.texts import read_given
from glrnn.data.tokens import line_end_warnings, split_tokens
from glrnn.data.vocabulary import Ids, Vocabulary


class Text(NamedTuple):
    """A text to score.

    Attributes:
        name: What it is, to a person.
        ids: Its tokens.
        vocabulary: The vocabulary of the ids.
        tokens: Its words, if the unknown ones are to be listed.
    """

    name: str
    ids: Ids
    vocabulary: Vocabulary
    tokens: Sequence[str] | None = None

    @property
    def symbol(self) -> str | None:
        """The word that unknown ones are read as; `None` if there is none."""
        return self.vocabulary.unknown_symbol

    @property
    def num_unknown(self) -> int:
        """How many tokens are unknown words."""
        if self.symbol is None:
            return 0
        return int(np.count_nonzero(self.ids == self.vocabulary.index[self.symbol]))

    @property
    def unknown_words(self) -> Mapping[str, int] | None:
        """The counts of the unknown words, if they are to be listed."""
        if self.tokens is None:
            return None
        return self.vocabulary.unknown_words(self.tokens)

    def beginning(self, count: int) -> "Text":
        """The text up to a number of tokens."""
        tokens = None if self.tokens is None else self.tokens[:count]
        return self._replace(ids=self.ids[:count], tokens=tokens)


def read_text(
    path: str, vocabulary: Vocabulary, listed: bool, say: Callable[[str], None]
) -> Text:
    """Reads a text of one's own.

    Args:
        path: The file; `-` for standard input.
        vocabulary: The vocabulary of the model.
        listed: Whether its unknown words are to be listed.
        say: Called with a line for each thing that looks wrong about the text.

    Raises:
        UsageError: It cannot be read, holds no words, or has words that a vocabulary
            without a symbol for them does not know.

    Example:
        >>> read_text("nowhere.txt", Vocabulary(("a", "<eos>")), False, print)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere.txt: No such file or directory
    """
    name = "standard input" if path == "-" else path
    text = read_given(path)
    tokens = split_tokens(text, name)
    for warning in line_end_warnings(text):
        say(f"warning: {name}: {warning}")
    ids, _ = vocabulary.encode(tokens, name)
    return Text(name, ids, vocabulary, tokens if listed else None)


def split_of(corpus: Corpus, name: str) -> Text:
    """A split of a corpus as a text to score.

    Args:
        corpus: The corpus.
        name: `train`, `valid` or `test`.
    """
    ids = getattr(corpus, name)
    return Text(f"{name} split of {corpus.name}", ids, corpus.vocabulary)
