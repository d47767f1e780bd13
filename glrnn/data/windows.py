"""Token stream -> columns -> windows.

A stream is cut into B columns, `[rows, B]`, and a window is a segment of it: rows `i ..
i + T - 1` are the inputs, and the same rows one step later the targets. In training the
lengths of the windows are drawn at random and padded up to one of a few static lengths,
so that a run compiles a handful of programs instead of seventy.

Everything here is NumPy on the host. Source: Merity et al., "Regularizing and
Optimizing LSTM Language Models", ICLR 2018.
"""

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from glrnn.data.ids import Ids, check_ids
from glrnn.errors import UsageError
from glrnn.ground.validation import check_integers


def columns(
    tokens: npt.ArrayLike,
    batch_size: int,
    what: str = "stream",
    min_rows: int = 2,
    vocabulary_size: int | None = None,
) -> Ids:
    """Cuts a stream into B contiguous columns, time-major; drops the tail.

    Args:
        tokens: The stream, integers `[N]`.
        batch_size: The number of columns, B.
        what: The name of the stream in an error message, such as `train split of ptb`.
        min_rows: The fewest rows allowed: 2 to evaluate (one target a column), 3 to
            train (the shortest window that `draw_lengths` draws has two targets).
        vocabulary_size: V, which all ids must be below, or `None` if it is not known.

    Returns:
        int32 `[N // B, B]`; column b holds tokens `b * rows .. (b + 1) * rows - 1`. It
        is a view of an int32 stream, which may be a file that is mapped to memory.

    Raises:
        UsageError: if B is no integer of at least 1, there are fewer than `min_rows`
            rows, or `check_ids` refuses the stream.

    Example:
        >>> columns(np.arange(7), 2)
        array([[0, 3],
               [1, 4],
               [2, 5]], dtype=int32)
    """
    check_integers("batch size", batch_size)
    if batch_size < 1:
        raise UsageError(f"the batch size must be at least 1, got {batch_size}")
    stream = check_ids(tokens, what, vocabulary_size)
    rows = stream.size // batch_size
    if rows < min_rows:
        raise UsageError(
            f"the {what} has {stream.size} tokens: too few for batch size "
            f"{batch_size}, which needs at least {min_rows * batch_size} "
            f"({min_rows} rows)"
        )
    return stream[: rows * batch_size].reshape(batch_size, rows).T


def draw_lengths(
    rng: np.random.Generator, rows: int, window_length: int = 70, max_extra: int = 40
) -> list[int]:
    """Draws the window lengths of one epoch.

    With w the window length: base = w with probability 0.95, else w / 2;
    s = max(5, trunc(Normal(base, 5))), at most w + `max_extra`; while i < rows - 2, a
    window starts at row i, and i grows by s. The last window is cut to the rows that
    remain. So every window has at least two targets, as the temporal regulariser needs,
    and the windows hold rows - 1 targets, or rows - 2 if the last would be alone.
    The floor of 5 is lowered to w where w is smaller. The mean of s at w = 70 is 67.75.

    Args:
        rng: The generator; each window draws a uniform, then a normal number.
        rows: The rows of the stream, at least 3.
        window_length: w, at least 2.
        max_extra: The largest excess of a window over w.

    Returns:
        The lengths, in order.

    Raises:
        UsageError: if `rows`, `window_length` or `max_extra` is too small or no
            integer.

    Source: Merity et al. 2018, section 5, as in their code and that of Aharoni et al.

    Example:
        >>> draw_lengths(np.random.default_rng(0), rows=200)
        [69, 70, 60]
    """
    check_integers("number of rows", rows)
    if rows < 3:
        raise UsageError(f"training needs at least 3 rows a column, got {rows}")
    _check_window(window_length, max_extra)
    floor, cap = min(5, window_length), window_length + max_extra
    lengths = []
    start = 0
    while start < rows - 2:
        base = window_length if rng.random() < 0.95 else window_length / 2
        length = min(max(floor, int(rng.normal(base, 5))), cap, rows - 1 - start)
        lengths.append(length)
        start += length
    return lengths


def _check_window(window_length: int, max_extra: int) -> None:
    check_integers("window length", window_length)
    check_integers("excess of a window, max_extra,", max_extra)
    if window_length < 2:
        raise UsageError(f"the window length must be at least 2, got {window_length}")
    if max_extra < 0:
        raise UsageError(f"max_extra must be at least 0, got {max_extra}")


def fixed_lengths(rows: int, window_length: int = 70) -> list[int]:
    """Window lengths that score every target once: all equal, the last one shorter.

    Args:
        rows: The rows of the stream, at least 2; it has rows - 1 targets a column.
        window_length: The length of all windows but the last, at least 1.

    Returns:
        The lengths, in order.

    Raises:
        UsageError: if `rows` or `window_length` is too small or no integer.

    Example:
        >>> fixed_lengths(rows=10, window_length=4)
        [4, 4, 1]
    """
    check_integers("number of rows", rows)
    check_integers("window length", window_length)
    if rows < 2:
        raise UsageError(f"evaluation needs at least 2 rows a column, got {rows}")
    if window_length < 1:
        raise UsageError(f"the window length must be at least 1, got {window_length}")
    whole, rest = divmod(rows - 1, window_length)
    return [window_length] * whole + [rest] * (rest > 0)


def passes(
    draw: Callable[[int], list[int]], first: int, count: int
) -> Iterator[tuple[list[int], int, int]]:
    """The places of windows that are counted through pass after pass over a stream.

    Args:
        draw: Returns the lengths of the windows of a pass, given its number, from 1.
        first: The number of windows to skip.
        count: The number of windows.

    Yields:
        `(lengths, start, stop)` for each pass that has some of them: the lengths of the
        pass, and which of its windows, `start .. stop - 1`.

    Example:
        >>> list(passes(lambda number: [number] * 3, first=2, count=5))
        [([1, 1, 1], 2, 3), ([2, 2, 2], 0, 3), ([3, 3, 3], 0, 1)]
    """
    for number in itertools.count(1):
        if count <= 0:
            return
        lengths = draw(number)
        stop = min(len(lengths), first + count)
        if first < stop:
            yield lengths, first, stop
            count -= stop - first
        first = max(0, first - len(lengths))


def paddings(
    window_length: int = 70,
    rows: int | None = None,
    max_extra: int = 40,
    platform: str = "cpu",
) -> tuple[int, ...]:
    """The static lengths that drawn lengths are padded up to.

    Each length costs the compilation of a program once, and saves padding in every
    epoch. With w the window length, padding lengthens simulated epochs by

        w                                           70   50   35   20   10
        w/2 + 5, w - 4, w, w + 5, w + 12, w + 40   4.1  5.6  7.6   12   19 percent
        w, w + 10, w + 40                          9.7   13   17   28   47 percent

    A CPU uses the six lengths, which are close to the best six: a program compiles in a
    few seconds there, less than the padding of three lengths would cost in an epoch. A
    GPU or TPU uses the three: a program compiles in 10 to 20 seconds there, hardly less
    than an epoch of Penn Treebank at full size takes, so that three fewer programs pay
    for a hundred epochs of padding. The longest length is rarely needed, and a length
    that is not used is never compiled.

    Args:
        window_length: w, at least 2.
        rows: The rows of the stream, if known; no length exceeds its rows - 1 targets.
        max_extra: As in `draw_lengths`.
        platform: The platform of the device that trains, from `devices.platform`.

    Returns:
        Ascending lengths: at most six on a CPU, at most three elsewhere.

    Raises:
        UsageError: if `window_length` or `max_extra` is too small or no integer.

    Example:
        >>> paddings(70)
        (40, 66, 70, 75, 82, 110)
        >>> paddings(70, rows=51)
        (40, 50)
        >>> paddings(70, platform="gpu")
        (70, 80, 110)
    """
    _check_window(window_length, max_extra)
    longest = window_length + max_extra
    if rows is not None:
        longest = min(longest, rows - 1)
    wanted = [window_length, window_length + 10]
    if platform == "cpu":
        wanted = [window_length // 2 + 5, *(window_length + d for d in (-4, 0, 5, 12))]
    return (*sorted({p for p in wanted if 2 <= p < longest}), longest)


class Window(NamedTuple):
    """A segment of a stream, padded to a static length T.

    Windows stacked along a new first axis are a `Window` too.

    Attributes:
        inputs: The input tokens, int32 `[T, B]`.
        targets: The target tokens, one step later, int32 `[T, B]`.
        length: The number of rows before the padding, which is zeros; int32.
    """

    inputs: Ids
    targets: Ids
    length: np.int32 | Ids


Apply = TypeVar("Apply", bound=Callable[..., Any])


def ignores_padding(apply: Apply) -> Apply:
    """Marks a model's `apply` whose results do not depend on a window's padding.

    A model is scored without padding, which takes a second program if the last window
    is shorter than the others. A model that leaves out what lies beyond `window.length`
    may say so, and is then scored by one program.

    Example:
        >>> @ignores_padding
        ... def apply(params, carry, window):
        ...     nll = -params[window.targets].mean(where=window.length > np.arange(5))
        ...     return nll, carry
    """
    marked: Any = apply
    # Itself: functools.wraps copies the mark to functions that may not deserve it.
    marked.ignores_padding = apply
    return apply


def windows(
    stream: Ids, lengths: Sequence[int], paddings: Sequence[int], start: int = 0
) -> Iterator[Window]:
    """Cuts a stream into padded windows that follow one another.

    Args:
        stream: The columns, integers `[rows, B]`.
        lengths: The lengths of an epoch, from `draw_lengths` or `fixed_lengths`.
        paddings: Ascending static lengths; each window gets the smallest that holds it.
        start: The index, in `lengths`, of the first window.

    Returns:
        The windows from `start` on, made one by one.

    Raises:
        ValueError: if the lengths exceed the stream, one is below 1 or exceeds every
            padding, the paddings do not ascend, or `start` is outside
            `0 .. len(lengths)`.
        UsageError: if `check_ids` refuses the stream, or one of these is no integer.

    Example:
        >>> stream = columns(np.arange(8), 2)
        >>> first, second = windows(stream, lengths=[2, 1], paddings=(2,))
        >>> first.inputs.tolist(), first.targets.tolist(), int(first.length)
        ([[0, 4], [1, 5]], [[1, 5], [2, 6]], 2)
        >>> second.inputs.tolist(), second.targets.tolist(), int(second.length)
        ([[2, 6], [0, 0]], [[3, 7], [0, 0]], 1)
    """
    stream = check_ids(stream, num_axes=2)
    check_integers("length of a window", *lengths)
    check_integers("padding of a window", *paddings)
    check_integers("start", start)
    lengths, paddings = list(lengths), tuple(paddings)
    if not paddings or sorted(set(paddings)) != [*paddings]:
        raise ValueError(f"paddings must ascend, got {tuple(paddings)}")
    offsets = [0, *itertools.accumulate(lengths)]
    if offsets[-1] > len(stream) - 1:
        raise ValueError(
            f"windows of {offsets[-1]} rows in all exceed the {len(stream) - 1} "
            "targets of the stream"
        )
    if lengths and not 1 <= min(lengths) <= max(lengths) <= paddings[-1]:
        raise ValueError(
            f"window lengths must be in 1 .. {paddings[-1]}, the longest padding; got "
            f"{min(lengths)} .. {max(lengths)}"
        )
    if not 0 <= start <= len(lengths):
        raise ValueError(f"start must be in 0 .. {len(lengths)}, got {start}")
    return (
        _window(stream, offset, length, paddings[bisect.bisect_left(paddings, length)])
        for offset, length in zip(offsets[start:], lengths[start:], strict=False)
    )


def _window(stream: Ids, offset: int, length: int, padding: int) -> Window:
    inputs = np.zeros((padding, stream.shape[1]), np.int32)
    targets = np.zeros_like(inputs)
    inputs[:length] = stream[offset : offset + length]
    targets[:length] = stream[offset + 1 : offset + length + 1]
    return Window(inputs, targets, np.int32(length))
