"""The output distributions by name. A new head is one file here and one line below."""

from collections.abc import Callable

from glrnn.heads.head import Head
from glrnn.heads.mixture import mixture
from glrnn.heads.projected import projected
from glrnn.heads.softmax import softmax

HEADS: dict[str, Callable[[int, int, int], Head]] = {
    "mixture": mixture,
    "projected": projected,
    "softmax": softmax,
}

__all__ = ["HEADS", "Head"]
