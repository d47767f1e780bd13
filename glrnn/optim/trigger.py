"""When averaging begins: the triggers, functions of the validation losses so far.

The non-monotonic one ends finetuning too. This module needs nothing but Python.
"""

import math
from collections.abc import Callable, Sequence


def non_monotonic_trigger(losses: Sequence[float], window: int = 5) -> bool:
    """Whether the current loss is above the lowest of the losses before the window.

    e >= n + 2 and v_e > min(v_1, ..., v_{e-n-1}), for the validation losses v_1 ... v_e
    and a window of n. A NaN is never the lowest.

    Args:
        losses: The validation losses so far, the current one last.
        window: The number n of losses just before the current one that are not compared
            with it.

    Returns:
        Whether to begin averaging or, in finetuning, to stop. False if the current loss
        is NaN.

    Raises:
        ValueError: if `window` is negative.

    Example:
        >>> falling = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
        >>> non_monotonic_trigger([*falling, 8.5])
        False
        >>> non_monotonic_trigger([*falling, 9.5])
        True

    Source:
        Merity, Keskar and Socher (2018), arXiv:1708.02182, as in their code; algorithm
        1 of the paper has a misprint here.
    """
    if window < 0:
        raise ValueError(f"window must be at least 0; got {window}")
    before = losses[: max(0, len(losses) - window - 1)]
    return len(before) > 0 and bool(losses[-1] > min(_nan_as_infinite(before)))


def plateau_trigger(losses: Sequence[float], window: int) -> bool:
    """Whether the lowest loss is at least `window` epochs old.

    Args:
        losses: The validation losses so far, the current one last.
        window: The number of epochs, at least 1.

    Raises:
        ValueError: if `window` is below 1.

    Example:
        >>> plateau_trigger([3.0, 2.0, 2.5], 2), plateau_trigger([2.0, 2.0, 2.5], 2)
        (False, True)

    Source:
        Melis, Kočiský and Blunsom (2020), "Mogrifier LSTM", as in their code.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1; got {window}")
    return epochs_since_best(losses) >= window


def epochs_since_best(losses: Sequence[float]) -> int:
    """The number of losses after the lowest one (the first, if several are lowest).

    A NaN is never the lowest.

    Example:
        >>> epochs_since_best([3.0, 1.0, 2.0]), epochs_since_best([])
        (1, 0)
    """
    values = _nan_as_infinite(losses)
    return len(values) - 1 - values.index(min(values)) if values else 0


# The triggers of averaging by name: functions of the losses and the window. After every
# epoch `training.stages` asks one of them, and has a latest epoch beside it.
TRIGGERS: dict[str, Callable[[Sequence[float], int], bool]] = {
    "never": lambda losses, window: False,
    "non_monotonic": non_monotonic_trigger,
    "plateau": plateau_trigger,
}


def _nan_as_infinite(losses: Sequence[float]) -> list[float]:
    return [math.inf if math.isnan(loss) else float(loss) for loss in losses]
