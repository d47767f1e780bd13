"""The figure of the gradient norms: a panel for each group that is clipped."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from glrnn.config import Config
from glrnn.config.gradual import group_names
from glrnn.reports.axis import count_axis, round_numbers
from glrnn.reports.drawing import DASHES, INK, MOST_MARKERS, MUTED, SERIES, is_wide
from glrnn.reports.epochs import Epochs, Numbers, Segment, by_stage, growths, segments

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The largest number of panels, for a page that can be read.
MOST_PANELS = 24
# The height of a panel and of what is around all of them, in pixels.
PANEL_HEIGHT, REST_HEIGHT = 190, 70
# The largest number of points of a curve, of all stages together.
MOST_POINTS = 400
# The axis is logarithmic beyond this ratio of the largest to the smallest norm.
WIDE_RATIO = 15.0
MOST_TICKS = 4


def groups(epochs: Epochs) -> list[str]:
    """The groups that have norms, in the order of the parameters."""

    def place(name: str) -> tuple[int, int]:
        kind, _, number = name.partition(" ")
        return ("all", "embedding", "layer", "head").index(kind), int(number or 0)

    return sorted(epochs.norms, key=place)


def panels(names: list[str], wide: bool) -> tuple[int, int]:
    """The rows and columns of the panels of some groups."""
    count = min(len(names), MOST_PANELS)
    columns = (2 if count in (2, 4) else min(count, 3)) if wide else 1
    return math.ceil(count / columns), columns


def height(names: list[str], wide: bool) -> int:
    """The height of the figure in pixels."""
    return panels(names, wide)[0] * PANEL_HEIGHT + REST_HEIGHT


def draw_gradients(figure: Figure, epochs: Epochs, config: Config) -> None:
    """Draws norms, limits and how often they were exceeded, by epoch.

    Args:
        figure: The figure to draw on.
        epochs: The epochs, with norms.
        config: The settings of the run.
    """
    names = groups(epochs)[:MOST_PANELS]
    rows, columns = panels(names, is_wide(figure))
    grid = figure.add_gridspec(
        2 * rows, columns, height_ratios=[3, 1] * rows, hspace=0.0
    )
    parts = segments(epochs)
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        above = figure.add_subplot(grid[2 * row, column])
        below = figure.add_subplot(grid[2 * row + 1, column], sharex=above)
        above.tick_params(labelbottom=False)
        above.set_title("all parameters" if name == "all" else name, loc="left")
        clipped = epochs.clipped.get(name)
        if clipped is not None and np.isfinite(clipped).any():
            most = float(np.nanmax(clipped))
            told = f"clipped ≤ {most:.0%}" if most > 0.1 else f"clipped ≤ {most:.1%}"
            above.set_title(told, loc="right", color=MUTED)
        _norms(above, epochs.norms[name], _limits(name, parts, config), parts)
        _clipped(below, clipped, parts)
        if column == 0:
            above.set_ylabel("gradient norm")
            below.set_ylabel("clipped")
        if number + columns >= len(names):
            below.set_xlabel("epoch")
        else:
            below.tick_params(labelbottom=False)
    _legend(figure)


def _limits(name: str, parts: list[Segment], config: Config) -> Numbers:
    """The largest norm of a group in each epoch; NaN where it has none."""
    found = np.full(parts[-1].stop, math.nan)
    for part in parts:
        phase = config.phases[part.stage.phase - 1]
        norms = getattr(phase, part.stage.name).max_norms
        names = group_names(norms, phase.num_layers)
        if name in names:
            found[part.rows] = norms[names.index(name)]
    return found


def _norms(axes: Axes, norms: Numbers, limits: Numbers, parts: list[Segment]) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    norms = np.where(norms > 0, norms, math.nan)
    if len(norms) <= MOST_MARKERS:
        numbers = np.arange(len(norms)) + 1.0
        axes.plot(numbers, norms, "o", color=SERIES[0], markersize=3.5)
    axes.plot(*by_stage(parts, norms, MOST_POINTS), color=SERIES[0])
    style = {"color": SERIES[1], "linestyle": DASHES[1], "zorder": 4}
    for part in _steps(limits):
        ends = part.start + 0.5, part.stop + 0.5
        axes.plot(ends, np.repeat(limits[part.start], 2), **style)
    found = np.concatenate([norms, limits])
    found = found[np.isfinite(found)]
    if found.size and found.max() > WIDE_RATIO * found.min():
        axes.set_yscale("log")
        ticks = round_numbers(*axes.get_ylim())
        ticks = ticks[:: math.ceil(len(ticks) / MOST_TICKS)]
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, 1.1 * float(found.max(initial=1e-9)))
        axes.yaxis.set_major_locator(MaxNLocator(4))
    _mark_growths(axes, parts)


def _steps(limits: Numbers) -> list[slice]:
    """The rows that have one limit and follow one another."""
    filled = np.nan_to_num(limits, nan=-1.0)
    starts = [0, *(np.flatnonzero(np.diff(filled)) + 1).tolist()]
    rows = map(slice, starts, [*starts[1:], len(limits)])
    return [each for each in rows if filled[each.start] > 0]


def _clipped(axes: Axes, clipped: Numbers | None, parts: list[Segment]) -> None:
    axes.set_ylim(0, 1.05)
    axes.set_yticks([0, 1], ["0%", "100%"])
    if clipped is not None:
        x, y = by_stage(parts, clipped, MOST_POINTS)
        axes.fill_between(x, y, color=MUTED, alpha=0.5, linewidth=0)
    _mark_growths(axes, parts)


def _mark_growths(axes: Axes, parts: list[Segment]) -> None:
    whole = axes.get_xaxis_transform()
    axes.vlines(growths(parts), 0, 1, transform=whole, color=INK, linewidth=0.9)
    axes.set_xlim(0.5, parts[-1].stop + 0.5)
    count_axis(axes.xaxis, 5)
    axes.xaxis.grid(visible=False)


def _legend(figure: Figure) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure.legend(
        [
            Line2D([], [], color=SERIES[0], marker="o", markersize=3.5),
            Line2D([], [], color=SERIES[1], linestyle=DASHES[1]),
            Patch(color=MUTED, alpha=0.5, linewidth=0),
        ],
        ["mean norm of an epoch", "limit", "updates that were clipped"],
        loc="outside lower center",
        ncols=3 if is_wide(figure) else 1,
    )
