"""The output distributions by name. A new head is one file here and one line below."""

import inspect
from collections.abc import Callable
from typing import Any

from glrnn.errors import UsageError
from glrnn.heads.adaptive import adaptive
from glrnn.heads.head import Head
from glrnn.heads.mixture import mixture
from glrnn.heads.projected import projected
from glrnn.heads.softmax import softmax

# A head's own settings are keywords with defaults, and fields of the same name in
# `Config`.
HEADS: dict[str, Callable[..., Head]] = {
    "adaptive": adaptive,
    "mixture": mixture,
    "projected": projected,
    "softmax": softmax,
}


def make_head(
    name: str,
    hidden_size: int,
    embedding_size: int,
    num_softmaxes: int = 1,
    **options: Any,
) -> Head:
    """The head of a network.

    Args:
        name: A name in `HEADS`.
        hidden_size: The hidden size of the last layer, H.
        embedding_size: E.
        num_softmaxes: K.
        **options: Settings that only some heads have; an empty one is left out.

    Raises:
        ValueError: if the head refuses a size, or has no such setting.

    Example:
        >>> make_head("softmax", 4, 4, cutoffs=(10,))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: Config.cutoffs is (10,), but the head softmax has no \
cutoffs; leave it out
    """
    given = {option: value for option, value in options.items() if value}
    known = inspect.signature(HEADS[name]).parameters
    for option, value in given.items():
        if option not in known:
            raise UsageError(
                f"Config.{option} is {value}, but the head {name} has no {option}; "
                f"leave it out"
            )
    return HEADS[name](hidden_size, embedding_size, num_softmaxes, **given)


__all__ = ["HEADS", "Head", "make_head"]
