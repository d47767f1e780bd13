"""The check of token ids that come from outside."""

import numpy as np
import numpy.typing as npt

from glrnn.errors import UsageError

Ids = npt.NDArray[np.int32]

LARGEST_ID = 2**31 - 1


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
    for extreme in (int(array.min()), int(array.max())):
        if not 0 <= extreme <= largest:
            raise UsageError(
                f"the {what} holds the id {extreme}; ids must be in 0 .. {largest}"
            )
    return array.astype(np.int32, copy=False)
