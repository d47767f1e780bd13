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
    WIDE,
    legend_below,
)
from glrnn.reports.epochs import (
    Epochs,
    Numbers,
    Segment,
    best_row,
    segments,
    thinned,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
    wide = figure.get_figwidth() * figure.dpi > WIDE / 2
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
    free, shaded = -math.inf, None
    for number, part in enumerate(parts):
        begin, end = part.start + 0.5, part.stop + 0.5
        if part.stage.name == "finetune":
            shaded = axes.axvspan(begin, end, color=GRID, alpha=0.4, linewidth=0)
        if number and parts[number - 1].stage.phase == part.stage.phase:
            continue
        if number:
            axes.axvline(begin, color=INK, linewidth=0.9)
        layers = config.phases[part.stage.phase - 1].num_layers
        where = (begin - first) / (last - first)
        if where >= free:
            free = where + LABEL_SHARE[wide]
            label = f" {layers} layer{'s' if layers > 1 else ''}"
            axes.text(begin, 1.01, label, transform=axes.get_xaxis_transform())
    if shaded is not None:
        shaded.set_label("finetuning")


def _curve(
    axes: Axes,
    losses: Numbers,
    parts: Sequence[Segment],
    shown: Limits,
    label: str,
    style: int,
) -> None:
    """Draws some losses, each stage by itself."""
    whole = np.arange(1.0, len(losses) + 1)
    most = max(2, 1000 // len(parts))
    marker = ("o", "s", "")[style] if len(losses) <= MOST_MARKERS else ""
    for number, part in enumerate(parts):
        x, y = thinned(whole[part.rows], losses[part.rows], most)
        axes.plot(
            x,
            shown.shown(y),
            color=(SERIES[0], SERIES[1], MUTED)[style],
            linestyle=DASHES[style],
            linewidth=(2.0, 1.4, 1.4)[style],
            marker=marker or ("." if len(x) == 1 else ""),
            # What is averaged lies near what it is the average of: both can be seen.
            markerfacecolor="none" if style == 1 else None,
            label="_" if number else label,
            zorder=3 - 0.1 * style,
        )


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
