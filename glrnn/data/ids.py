"""Token ids: the check of those from outside, and facts about those that are known."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glrnn.errors import UsageError

Ids = npt.NDArray[np.int32]

LARGEST_ID = 2**31 - 1


class Facts(NamedTuple):
    """What is known of a stream without looking at its tokens again.

    Attributes:
        sha256: The SHA-256 of its ids, in 32 bits, the lowest byte first.
        counts: How often each word occurs, `[V]`.
    """

    sha256: str
    counts: npt.NDArray[np.int64]


class KnownIds(np.ndarray):
    """A stream that cannot be written to, with facts about it.

    What is made of it, such as a slice, has none.
    """

    facts: Facts | None = None


def with_facts(ids: Ids, facts: Facts) -> Ids:
    """A stream with facts about it; `facts_of` finds them.

    Args:
        ids: The stream, int32 `[N]`, which must not be changed from here on.
        facts: What is known of it.

    Example:
        >>> ids = np.array([0, 2], np.int32)
        >>> known = with_facts(ids, Facts("a3", np.array([1, 0, 1])))
        >>> facts_of(known).sha256, facts_of(known[:1])
        ('a3', None)
    """
    known = ids.view(KnownIds)
    known.facts = facts
    known.flags.writeable = False
    return known


def facts_of(ids: npt.ArrayLike) -> Facts | None:
    """What is known of a stream; `None` for most. See `with_facts`."""
    return ids.facts if isinstance(ids, KnownIds) else None


def count_ids(ids: Ids, vocabulary_size: int) -> npt.NDArray[np.int64]:
    """How often each word occurs in a stream, `[V]`.

    Args:
        ids: The stream, `[N]`, all of it below V.
        vocabulary_size: V.

    Example:
        >>> count_ids(np.array([0, 2, 0]), 4)
        array([2, 0, 1, 0])
    """
    facts = facts_of(ids)
    if facts is not None and facts.counts.size == vocabulary_size:
        return facts.counts
    return np.bincount(ids, minlength=vocabulary_size)


def check_ids(
    ids: npt.ArrayLike,
    what: str = "stream",
    vocabulary_size: int | None = None,
    num_axes: int = 1,
) -> Ids:
    """Token ids as int32, refused rather than rounded, wrapped or flattened.

    Args:
        ids: The ids.
        what: Their name in an error message.
        vocabulary_size: V, or `None` if it is not known.
        num_axes: The number of axes that they must have.

    Raises:
        UsageError: if they are not integers, have another number of axes, or one is
            below 0, V or above, or too large for int32.

    Example:
        >>> check_ids([2, 0, 3], vocabulary_size=3)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: the stream holds the id 3; ids must be in 0 .. 2
    """
    if isinstance(ids, np.ma.MaskedArray):
        raise UsageError(f"the {what} is a masked array; token ids have no mask")
    try:
        array = np.asarray(ids)
    except (TypeError, ValueError):  # rows of several lengths, PRNG keys
        raise UsageError(f"the {what} is no array; give token ids [N]") from None
    if array.ndim != num_axes:
        raise UsageError(
            f"the {what} has shape {array.shape}; token ids must have {num_axes} "
            f"{'axis' if num_axes == 1 else 'axes'}"
        )
    if not array.size:  # an empty list has no integers to be recognised by
        return array.astype(np.int32)
    if array.dtype.kind == "V" and np.can_cast(array.dtype, np.int32):
        array = array.astype(np.int32)  # integers of 4 bits, which NumPy does not know
    if array.dtype.kind not in "iu":
        raise UsageError(
            f"the {what} has dtype {array.dtype}; token ids must be integers"
        )
    largest = LARGEST_ID if vocabulary_size is None else vocabulary_size - 1
    facts = facts_of(ids)
    if facts is not None:
        extremes = 0, int(np.flatnonzero(facts.counts)[-1])
    else:
        extremes = int(array.min()), int(array.max())
    for extreme in extremes:
        if not 0 <= extreme <= largest:
            raise UsageError(
                f"the {what} holds the id {extreme}; ids must be in 0 .. {largest}"
            )
    return array.astype(np.int32, copy=False)
