"""Several runs beside one another: at equal epochs, and at equal time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from glrnn.reports.axis import Limits, count_axis, in_time, limits, perplexity_axis
from glrnn.reports.drawing import (
    DASHES,
    INK,
    MARKERS,
    MOST_MARKERS,
    SERIES,
    is_wide,
    legend_below,
    shortened,
)
from glrnn.reports.epochs import Epochs, Numbers, best_perplexity, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


class Equal(NamedTuple):
    """How far every one of some runs has come.

    Attributes:
        epochs: The number of epochs.
        seconds: The time of training and validation.
    """

    epochs: int
    seconds: float


def equal(runs: Sequence[Epochs]) -> Equal:
    """How far every run has come, of those that have any epoch."""
    begun = [run for run in runs if len(run)]
    return Equal(min(map(len, begun)), min(float(run.seconds.sum()) for run in begun))


def at_equal(run: Epochs, at: Equal) -> tuple[float | None, float | None]:
    """The best validation perplexity of a run after equal epochs and equal time.

    Example:
        >>> from glrnn.reports.epochs import columns
        >>> from glrnn.storage.metrics_log import EpochRecord
        >>> fast, slow = (
        ...     columns(
        ...         EpochRecord(
        ...             phase=1, stage="main", epoch=n, valid_loss=-n, seconds=time
        ...         )
        ...         for n in (1, 2, 3)
        ...     )
        ...     for time in (1.0, 2.0)
        ... )
        >>> [round(p, 4) for p in at_equal(slow, equal([fast, slow]))]
        [0.0498, 0.3679]
    """
    within = np.cumsum(run.seconds) <= at.seconds * (1 + 1e-9)
    return best_perplexity(run.valid_loss[: at.epochs]), best_perplexity(
        run.valid_loss[within]
    )


def comparison_limits(runs: Sequence[Epochs]) -> Limits | None:
    """The limits of the figure's losses; `None` if there is nothing to draw."""
    return limits([run.valid_loss for run in runs])


def draw_comparison(
    figure: Figure, names: Sequence[str], runs: Sequence[Epochs]
) -> None:
    """Draws validation perplexities by epoch and by time.

    Args:
        figure: The figure to draw on.
        names: The name of each run.
        runs: Their epochs, some of which can be drawn by `comparison_limits`.
    """
    wide = is_wide(figure)
    shown, at = comparison_limits(runs), equal(runs)
    assert shown is not None
    left, right = figure.subplots(*((1, 2) if wide else (2, 1)), sharey=True)
    unit, unit_name = in_time(max(float(run.seconds.sum()) for run in runs))
    styles = itertools.cycle(
        (color, DASHES[turn % len(DASHES)], marker)
        for turn, (color, marker) in enumerate(zip(SERIES, MARKERS, strict=True))
    )
    lines = []
    for run, style in zip(runs, styles, strict=False):
        losses, numbers = shown.shown(run.valid_loss), np.arange(1.0, len(run) + 1)
        lines += _curve(left, numbers, losses, style)
        _curve(right, np.cumsum(run.seconds) / unit, losses, style)
    for axes, label, place in (
        (left, "epoch", float(at.epochs)),
        (right, f"time of training and validation ({unit_name})", at.seconds / unit),
    ):
        perplexity_axis(axes, shown)
        axes.set_xlabel(label)
        axes.set_xlim(left=0)
        axes.axvline(place, color=INK, linewidth=0.9, linestyle=DASHES[2])
    count_axis(left.xaxis, 8)
    left.set_ylabel("validation perplexity (log scale)")
    right.set_ylabel("" if wide else "validation perplexity (log scale)")
    legend_below(figure, lines, [*map(shortened, names)], 2 if wide else 1)


def _curve(
    axes: Axes, x: Numbers, losses: Numbers, style: tuple[str, Any, str]
) -> list[Line2D]:
    color, dashes, marker = style
    x, y = thinned(x, losses)
    return axes.plot(
        x,
        y,
        color=color,
        linestyle=dashes,
        marker=marker if len(x) <= MOST_MARKERS else "",
        markerfacecolor="none",
    )
