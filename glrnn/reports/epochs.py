"""The epochs of a run as columns of numbers, for figures and tables."""

import itertools
import math
from array import array
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glrnn.ground.losses import to_perplexity
from glrnn.storage.metrics_log import EpochRecord, lasting_warnings
from glrnn.storage.metrics_scan import scan_epochs
from glrnn.storage.run_folder import STAGES, Run, StageId

Numbers = npt.NDArray[np.float64]
# The largest number of warnings that are kept.
MOST_WARNINGS = 100
COLUMNS = ("tokens", "seconds", "train_loss", "valid_loss", "raw_valid_loss")


class Epochs(NamedTuple):
    """The epochs of a run in the order in which they were trained, one a row.

    A number that is missing or was not finite is NaN.

    Attributes:
        phases: The number of the phase, from 1.
        stages: The index of the stage in `STAGES`.
        numbers: The number of the epoch in its stage, from 1.
        tokens: The number of tokens trained on.
        seconds: The time of training and validation.
        train_loss: With dropout, in nats per token.
        valid_loss: Of the averaged parameters once averaging has begun.
        raw_valid_loss: Of the raw parameters.
        averaging: Whether parameters were averaged.
        triggered: Whether averaging begins after the epoch.
        norms: The mean gradient norm, by group.
        clipped: The fraction of clipped updates, by group.
        unigram: The perplexity of word frequencies alone; NaN if unknown.
        warnings: Those to repeat, one line each.
        damages: What could not be read, a sentence each.
    """

    phases: npt.NDArray[np.int64]
    stages: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int64]
    tokens: Numbers
    seconds: Numbers
    train_loss: Numbers
    valid_loss: Numbers
    raw_valid_loss: Numbers
    averaging: npt.NDArray[np.bool_]
    triggered: npt.NDArray[np.bool_]
    norms: dict[str, Numbers]
    clipped: dict[str, Numbers]
    unigram: float
    warnings: tuple[str, ...]
    damages: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.numbers)


class Segment(NamedTuple):
    """The epochs of one stage: the rows from `start` to before `stop`."""

    stage: StageId
    start: int
    stop: int

    @property
    def rows(self) -> slice:
        """The rows."""
        return slice(self.start, self.stop)


def read(run: Run) -> Epochs:
    """The epochs of a run, as far as they can be read.

    Raises:
        UsageError: The metrics cannot be read at all.
    """
    damages: list[str] = []
    return columns(scan_epochs(run, damages), damages)


def columns(records: Iterable[EpochRecord], damages: Iterable[str] = ()) -> Epochs:
    """The columns of some records.

    Args:
        records: The records, which are consumed before `damages` is.
        damages: What could not be read.

    Example:
        >>> epoch = EpochRecord(phase=1, stage="main", epoch=1, valid_loss=4.5)
        >>> found = columns([epoch])
        >>> len(found), found.valid_loss.tolist(), found.train_loss.tolist()
        (1, [4.5], [nan])
    """
    places, flags = array("q"), array("b")
    numbers = {name: array("d") for name in COLUMNS}
    groups: dict[tuple[str, str], array[float]] = {}
    warned: list[EpochRecord] = []
    unigram, last, count = math.nan, None, 0
    for record in records:
        places.extend((record.phase, STAGES.index(record.stage), record.epoch))
        flags.extend((record.averaging, record.triggered))
        for name, column in numbers.items():
            value = getattr(record, name)
            column.append(math.nan if value is None else value)
        for kind in ("gradient_norm", "clipped"):
            for group, value in getattr(record, kind).items():
                column = groups.setdefault((kind, group), array("f"))
                column.extend([math.nan] * (count - len(column)))
                column.append(value)
        if record.warnings and len(warned) < MOST_WARNINGS:
            warned.append(record)
        if record.unigram_perplexity is not None:
            unigram = record.unigram_perplexity
        last, count = record, count + 1
    if last is not None and (not warned or last is not warned[-1]):
        warned.append(last)
    where = np.array(places, np.int64).reshape(-1, 3)
    # They are in this order already, unless someone has edited the file.
    order = np.lexsort((where[:, 2], where[:, 1], where[:, 0]))
    marks = np.array(flags, bool).reshape(-1, 2)[order]
    by_kind: dict[str, dict[str, Numbers]] = {"gradient_norm": {}, "clipped": {}}
    for (kind, group), column in groups.items():
        column.extend([math.nan] * (count - len(column)))
        by_kind[kind][group] = np.array(column, np.float64)[order]
    return Epochs(
        *where[order].T,
        **{name: np.array(column)[order] for name, column in numbers.items()},
        averaging=marks[:, 0],
        triggered=marks[:, 1],
        norms=by_kind["gradient_norm"],
        clipped=by_kind["clipped"],
        unigram=unigram,
        warnings=tuple(lasting_warnings(warned)),
        damages=tuple(damages),
    )


def segments(epochs: Epochs) -> list[Segment]:
    """The stages that have epochs, in order.

    Example:
        >>> two = [
        ...     EpochRecord(phase=1, stage=stage, epoch=1, valid_loss=4.5)
        ...     for stage in STAGES
        ... ]
        >>> segments(columns(two))[1]
        Segment(stage=StageId(phase=1, name='finetune'), start=1, stop=2)
    """
    if not len(epochs):
        return []
    keys = epochs.phases * len(STAGES) + epochs.stages
    starts = [0, *(np.flatnonzero(np.diff(keys)) + 1).tolist()]
    return [
        Segment(
            StageId(int(epochs.phases[start]), STAGES[epochs.stages[start]]),
            start,
            stop,
        )
        for start, stop in zip(starts, [*starts[1:], len(epochs)], strict=True)
    ]


def best_row(losses: Numbers, rows: slice = slice(None)) -> int | None:
    """The row of the lowest loss; `None` where no loss is finite.

    Example:
        >>> best_row(np.array([3.0, np.nan, 2.0])), best_row(np.array([np.nan]))
        (2, None)
    """
    start = rows.start or 0
    filled = np.nan_to_num(losses[rows], nan=np.inf)
    if not np.isfinite(filled).any():
        return None
    return start + int(np.argmin(filled))


def best_perplexity(losses: Numbers) -> float | None:
    """The lowest perplexity; `None` where no loss is finite."""
    row = best_row(losses)
    return None if row is None else to_perplexity(float(losses[row]))


def thinned(x: Numbers, y: Numbers, most: int = 1000) -> tuple[Numbers, Numbers]:
    """A curve with fewer points that goes as low and as high as the whole.

    The lowest and the highest point of each piece are kept, where they are.

    Args:
        x: Where the points are, `[N]`.
        y: Their values, `[N]`, NaN where there is none.
        most: The largest number of points.

    Example:
        >>> thinned(np.arange(9.0), np.array([5, 9, 4, 3, 3, 3, 1, 2, 0.0]), most=4)
        (array([1., 3., 5., 8.]), array([9., 3., 3., 0.]))
    """
    if len(x) <= most:
        return x, y
    size = math.ceil(len(x) / (most // 2))
    missing = -len(x) % size
    pieces = np.append(y, np.full(missing, np.nan)).reshape(-1, size)
    lowest = np.nan_to_num(pieces, nan=np.inf).argmin(1)
    highest = np.nan_to_num(pieces, nan=-np.inf).argmax(1)
    kept = np.sort(np.stack([lowest, highest], 1), 1)
    rows = (kept + size * np.arange(len(pieces))[:, None]).ravel()
    rows = np.minimum(rows, len(x) - 1)
    return x[rows], y[rows]


def by_stage(
    parts: Sequence[Segment], column: Numbers, most: int
) -> tuple[Numbers, Numbers]:
    """A column as one curve that is interrupted between stages, by a NaN.

    Args:
        parts: The stages.
        column: A number for each epoch.
        most: The largest number of points, but for two in each stage.

    Returns:
        The numbers of the epochs, from 1, and their values. A stage of a single epoch
        has two points, half an epoch before and after it.

    Example:
        >>> losses = [EpochRecord(phase=1, stage="main", epoch=1, valid_loss=4.5)]
        >>> found = columns(losses)
        >>> by_stage(segments(found), found.valid_loss, 100)
        (array([0.5, 1.5, nan]), array([4.5, 4.5, nan]))
    """
    pieces = []
    for part in parts:
        numbers = np.arange(part.start, part.stop, dtype=np.float64) + 1
        x, y = thinned(numbers, column[part.rows], max(2, most // len(parts)))
        if len(numbers) == 1:
            x, y = np.concatenate([x - 0.5, x + 0.5]), np.repeat(y, 2)
        pieces.append((np.append(x, np.nan), np.append(y, np.nan)))
    return np.concatenate([x for x, _ in pieces]), np.concatenate(
        [y for _, y in pieces]
    )


def growths(parts: Sequence[Segment]) -> list[float]:
    """Where the network grows: half an epoch before the first one of a phase."""
    return [
        part.start + 0.5
        for before, part in itertools.pairwise(parts)
        if before.stage.phase != part.stage.phase
    ]
