"""The axes of curves: perplexities on a logarithmic scale, epochs, and time.

Losses are drawn in nats per token, on a linear axis, and labelled with perplexities:
that is a logarithmic axis of perplexity, for losses of any size.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from glrnn.ground.losses import to_perplexity
from glrnn.reports.epochs import Numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import XAxis

# What is more nats above the lowest loss is drawn at the upper edge: a perplexity of
# 150 times the lowest one.
MOST_NATS = 5.0
# Losses of which the exponential is still a number to be read.
LARGEST_LOSS = 30.0
# Where the highest number is over so many times the lowest, these are the ticks of each
# power of ten; else they are equally far apart.
STEPS = (
    (25.0, (1.0, 2.0, 5.0)),
    (5.0, (1.0, 1.5, 2.0, 3.0, 5.0, 7.0)),
    (1.8, (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)),
)


class Limits(NamedTuple):
    """The lowest and the highest loss of an axis, in nats per token."""

    low: float
    high: float

    def shown(self, losses: Numbers) -> Numbers:
        """Losses with those that are too high at the upper edge."""
        return np.minimum(losses, self.high)

    def above(self, losses: Numbers) -> int:
        """The number of losses that are too high."""
        return int(np.sum(losses > self.high))


def limits(losses: Iterable[Numbers]) -> Limits | None:
    """The limits of an axis for some losses; `None` if there is nothing to draw.

    Example:
        >>> limits([np.array([4.0, 5.0, np.nan]), np.array([40.0])])
        Limits(low=4.0, high=5.0)
    """
    found = np.concatenate([np.empty(0), *losses])
    found = found[found <= LARGEST_LOSS]
    if not found.size:
        return None
    low = float(found.min())
    return Limits(low, min(float(found.max()), low + MOST_NATS))


def perplexity_axis(axes: Axes, limits: Limits) -> None:
    """Labels the axis of losses with perplexities."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    margin = 0.05 * (limits.high - limits.low) + 0.01
    low, high = limits.low - margin, limits.high + 1.6 * margin
    axes.set_ylim(low, high)
    ticks = perplexity_ticks(low, high)
    axes.yaxis.set_major_locator(FixedLocator([math.log(tick) for tick in ticks]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FixedFormatter([f"{tick:,.5g}" for tick in ticks]))
    axes.set_ylabel("perplexity (log scale)")


def perplexity_ticks(low: float, high: float) -> list[float]:
    """Round perplexities between two losses.

    Example:
        >>> perplexity_ticks(math.log(60), math.log(330))
        [70.0, 100.0, 150.0, 200.0, 300.0]
    """
    return round_numbers(to_perplexity(low), to_perplexity(high))


def round_numbers(first: float, last: float) -> list[float]:
    """Round numbers between two that are above zero, for a logarithmic axis.

    Example:
        >>> round_numbers(0.03, 7)
        [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0]
    """
    from matplotlib.ticker import MaxNLocator

    ticks = [float(tick) for tick in MaxNLocator(6).tick_values(first, last)]
    for ratio, steps in STEPS:
        if last / first > ratio:
            ends = math.floor(math.log10(first)), math.ceil(math.log10(last))
            decades = range(ends[0], ends[1] + 1)
            ticks = [float(f"{step}e{decade}") for decade in decades for step in steps]
            break
    return [tick for tick in ticks if first <= tick <= last]


def in_time(seconds: float) -> tuple[float, str]:
    """The unit of an axis of time: how many seconds it has, and its name.

    Example:
        >>> in_time(600)
        (60.0, 'minutes')
    """
    units = ((3 * 86400.0, 86400.0, "days"), (3 * 3600.0, 3600.0, "hours"))
    for least, size, name in (*units, (180.0, 60.0, "minutes")):
        if seconds >= least:
            return size, name
    return 1.0, "seconds"


def count_axis(axis: XAxis, ticks: int) -> None:
    """Labels an axis of whole numbers at about so many ticks."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
