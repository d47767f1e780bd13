"""The figure of a run's learning curves, across its phases."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from glrnn.config import Config
from glrnn.reports.axis import Limits, count_axis, limits, perplexity_axis
from glrnn.reports.drawing import (
    DASHES,
    GRID,
    INK,
    MOST_MARKERS,
    MUTED,
    SERIES,
    is_wide,
    legend_below,
)
from glrnn.reports.epochs import (
    Epochs,
    Numbers,
    Segment,
    best_row,
    by_stage,
    growths,
    segments,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The largest number of points of a curve.
MOST_POINTS = 1000
# The share of an axis that the label of a phase takes at least.
LABEL_SHARE = {True: 0.07, False: 0.17}


def learning_limits(epochs: Epochs) -> Limits | None:
    """The limits of the figure's losses; `None` if there is nothing to draw."""
    unigram = np.log(np.array([epochs.unigram]))
    losses = epochs.valid_loss, epochs.raw_valid_loss, epochs.train_loss
    return limits((*losses, unigram)) if limits(losses) is not None else None


def draw_learning(figure: Figure, epochs: Epochs, config: Config) -> None:
    """Draws perplexities by epoch, and marks what happened.

    Args:
        figure: The figure to draw on.
        epochs: The epochs, some of which can be drawn by `learning_limits`.
        config: The settings of the run.
    """
    wide = is_wide(figure)
    axes, shown = figure.subplots(), learning_limits(epochs)
    assert shown is not None
    perplexity_axis(axes, shown)
    _epoch_axis(axes, len(epochs))
    parts = segments(epochs)
    _curve(axes, epochs.valid_loss, parts, shown, "validation", 0)
    raw = np.where(epochs.averaging, epochs.raw_valid_loss, math.nan)
    if np.isfinite(raw).any():
        _curve(axes, raw, parts, shown, "validation, raw parameters", 1)
    _curve(axes, epochs.train_loss, parts, shown, "training, with dropout", 2)
    unigram = math.log(epochs.unigram) if epochs.unigram > 0 else math.nan
    if shown.low <= unigram <= shown.high:
        label = "word frequencies alone"
        axes.axhline(unigram, color=MUTED, linestyle=DASHES[3], label=label)
    _mark_epochs(axes, epochs, parts, shown)
    _mark_stages(axes, parts, config, wide)
    legend_below(figure, *axes.get_legend_handles_labels(), 3 if wide else 1)


def _epoch_axis(axes: Axes, count: int) -> None:
    axes.set_xlabel("epoch")
    axes.set_xlim(0.5 - 0.02 * count, count + 0.5 + 0.02 * count)
    count_axis(axes.xaxis, 8)
    axes.xaxis.grid(visible=False)


def _mark_stages(
    axes: Axes, parts: Sequence[Segment], config: Config, wide: bool
) -> None:
    """Marks where the network grows, and shades finetuning."""
    first, last = axes.get_xlim()
    free = -math.inf
    for begin in (parts[0].start + 0.5, *growths(parts)):
        phase = next(p.stage.phase for p in parts if p.start + 0.5 == begin)
        layers = config.phases[phase - 1].num_layers
        where = (begin - first) / (last - first)
        if where >= free:
            free = where + LABEL_SHARE[wide]
            label = f" {layers} layer{'s' if layers > 1 else ''}"
            axes.text(begin, 1.01, label, transform=axes.get_xaxis_transform())
    whole = axes.get_xaxis_transform()
    axes.vlines(growths(parts), 0, 1, transform=whole, color=INK, linewidth=0.9)
    tuned = [part for part in parts if part.stage.name == "finetune"]
    if tuned:
        ends = [(part.start + 0.5, part.stop - part.start) for part in tuned]
        shade = axes.broken_barh(ends, (0, 1), transform=whole, zorder=0)
        shade.set(facecolor=GRID, alpha=0.4, linewidth=0, label="finetuning")
    axes.set_xlim(first, last)


def _curve(
    axes: Axes,
    losses: Numbers,
    parts: Sequence[Segment],
    shown: Limits,
    label: str,
    style: int,
) -> None:
    """Draws some losses, each stage by itself."""
    marker = ("o", "s", ".")[style]
    look = {
        "color": (SERIES[0], SERIES[1], MUTED)[style],
        "zorder": 3 - 0.1 * style,
        # What is averaged lies near what it is the average of: both can be seen.
        "markerfacecolor": "none" if style == 1 else None,
    }
    several = [part for part in parts if part.stop - part.start > 1]
    if several:
        x, y = by_stage(several, shown.shown(losses), MOST_POINTS)
        few = len(losses) <= MOST_MARKERS and style < 2
        line = {"linestyle": DASHES[style], "linewidth": (2.0, 1.4, 1.4)[style]}
        axes.plot(x, y, marker=marker if few else "", label=label, **line, **look)
    rows = np.array([part.start for part in parts if part not in several], int)
    if len(rows):
        name = "_" if several else label
        y = shown.shown(losses[rows])
        axes.plot(rows + 1.0, y, linestyle="", marker=marker, label=name, **look)


def _mark_epochs(
    axes: Axes, epochs: Epochs, parts: Sequence[Segment], shown: Limits
) -> None:
    """Marks the best epoch of each stage, the triggers, and what is off the axis."""
    loss = epochs.valid_loss
    best = [row for part in parts if (row := best_row(loss, part.rows)) is not None]
    begins = [
        part.start + int(np.argmax(epochs.triggered[part.rows]))
        for part in parts
        if epochs.triggered[part.rows].any()
    ]
    high = np.flatnonzero((loss > shown.high) | np.isnan(loss))
    if len(high) > MOST_MARKERS:
        high = high[np.linspace(0, len(high) - 1, MOST_MARKERS).astype(int)]
    for rows, marker, size, label in (
        # A ring, so that the point inside is seen.
        (best, "o", 10, "best epoch of a stage"),
        (begins, "v", 9, "averaging begins"),
        (high, "x", 6, "above the axis, or not finite"),
    ):
        if len(rows):
            y = np.nan_to_num(shown.shown(loss[rows]), nan=shown.high)
            axes.plot(
                np.array(rows) + 1.0,
                y,
                linestyle="",
                marker=marker,
                markersize=size,
                color=INK,
                markerfacecolor="none" if marker == "o" else INK,
                markeredgewidth=1.3,
                label=label,
                zorder=4,
                clip_on=False,
            )
