"""An epoch of training, whole or in segments between checkpoints."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from glrnn.config import Config
from glrnn.config.gradual import group_names
from glrnn.data.windows import (
    Ids,
    Window,
    columns,
    draw_lengths,
    fixed_lengths,
    paddings,
    passes,
    windows,
)
from glrnn.errors import DivergedError, UsageError
from glrnn.ground import devices
from glrnn.storage.run_folder import STAGES, StageId
from glrnn.training.context import Context
from glrnn.training.history import Tally
from glrnn.training.requests import Requests
from glrnn.training.step import Metrics, Step
from glrnn.training.train_state import TrainState, replicate

Item = TypeVar("Item")

# The number of further updates sent to the device before the metrics of one are read.
AHEAD = 4
# The largest number of updates skipped in a row.
MOST_SKIPPED = 10


class Segment(NamedTuple):
    """Consecutive windows of one pass over the training set.

    Attributes:
        lengths: The lengths of all windows of the pass.
        start: The first window of the segment.
        stop: The window after its last one.
    """

    lengths: list[int]
    start: int
    stop: int


class Update(NamedTuple):
    """One update that was sent to the device: its window, and what comes out of it."""

    window: Window
    state: TrainState
    metrics: Metrics


def train_epoch(
    context: Context,
    stage: StageId,
    step: Step,
    state: TrainState,
    epoch: int,
    tally: Tally | None = None,
    *,
    averaging: bool = False,
    rewinds: int = 0,
    pause: Callable[[], bool] = lambda: False,
) -> tuple[TrainState, Tally]:
    """Trains one epoch: a pass over the training set, or `updates_per_epoch` updates.

    With a number of updates, epochs follow one another through pass after pass, and the
    state is carried between them.

    Args:
        context: The run.
        stage: The stage.
        step: The stage's step.
        state: The state to start from. Its buffers are donated.
        epoch: The number of the epoch, from 1.
        tally: Where to resume the epoch; the state is the one it was returned with.
        averaging: Whether the parameters are being averaged, for the display.
        rewinds: How often the stage was rewound.
        pause: Called before every update; if true the epoch stops there, to be saved
            and resumed. Of several processes, if true at one of them, all stop a few
            updates later.

    Returns:
        The state after the last update, and the tally with it.

    Raises:
        DivergedError: A loss or gradient is not finite, and updates are not to be
            skipped or too many were.
    """
    started = time.perf_counter()
    stream = training_stream(context)
    segments = _segments(context, stage, len(stream), epoch)
    begun = replace(
        tally or Tally(), total=sum(each.stop - each.start for each in segments)
    )
    if begun.windows >= begun.total:
        raise UsageError(
            f"the newest checkpoint of phase {stage.phase}, {stage.name}, has "
            f"{begun.windows} windows of an epoch, which has {begun.total}; delete it"
        )
    batch_size, limits = context.config.batch_size, context.stage(stage).max_norms
    names = group_names(limits, context.phase(stage).num_layers)
    title = context.title(stage, epoch)
    rows = sum(sum(each.lengths[each.start : each.stop]) for each in segments)
    context.progress.begin_epoch(title, rows * batch_size, begun.tokens)
    rest = segments
    if begun.windows:
        rest = _segments(context, stage, len(stream), epoch, begun.windows)
    key = context.stage_key(stage, rewinds)
    requests = Requests(pause, context.execution.mesh)
    updates = _updates(context, stage, step, state, stream, rest, key, requests)
    tally = begun
    for window, newest, outputs in _behind(updates, AHEAD):
        state, metrics = newest, jax.device_get(outputs)
        requests.hear(metrics)
        nll = float(metrics["nll"])
        norms = [float(norm) for norm in jax.tree.leaves(metrics["norms"])]
        trouble = _not_finite(names, norms, float(metrics["loss"]))
        if trouble:
            where = f"at update {tally.windows + 1} of {title} (loss {nll:.4g})"
            tally = _skip(context, tally, f"{trouble} {where}")
            continue
        tally = tally.add(int(window.length) * batch_size, nll, norms, limits)
        context.progress.update(
            tally.tokens,
            {"loss": tally.loss_sum / tally.tokens},
            dict(zip(names, zip(norms, limits, strict=True), strict=True)),
            averaging,
        )
    return state, replace(tally, seconds=begun.seconds + time.perf_counter() - started)


def _updates(
    context: Context,
    stage: StageId,
    step: Step,
    state: TrainState,
    stream: Ids,
    segments: Sequence[Segment],
    key: jax.Array,
    requests: Requests,
) -> Iterator[Update]:
    """Sends the updates of some segments to the device, without waiting for them."""
    config, mesh = context.config, context.execution.mesh
    own = stream[:, devices.own_columns(mesh, config.batch_size)]
    for lengths, start, stop in segments:
        if start == 0:
            carry = context.model(stage).initial_carry(config.batch_size)
            state = replace(state, carry=carry)
        state = replicate(state, mesh)
        padded = _paddings(config, lengths, len(stream))
        rest = windows(own, lengths, padded, start)
        for window in itertools.islice(rest, stop - start):
            told = requests.next()
            if told is None:
                return
            state, metrics = step(state, _shared(window, mesh), key, *told)
            yield Update(window, state, metrics)


def _shared(window: Window, mesh: Mesh | None) -> Window:
    """A window of which each process has its own columns."""
    if mesh is None or not devices.spans_processes(mesh):
        return window
    inputs, targets, length = window
    return Window(
        devices.shard(inputs, mesh, axis=1),
        devices.shard(targets, mesh, axis=1),
        length,
    )


def _skip(context: Context, tally: Tally, trouble: str) -> Tally:
    """The tally with one more window skipped, if it may be."""
    nothing_learned = tally.windows + 1 == tally.total and not tally.tokens
    if (
        context.execution.on_nonfinite != "skip"
        or tally.skipped_in_a_row == MOST_SKIPPED
        or nothing_learned
    ):
        raise DivergedError(trouble)
    context.progress.say(f"skipped: {trouble}")
    return tally.skip()


def _not_finite(names: Sequence[str], norms: Sequence[float], loss: float) -> str:
    """What is not finite, if anything."""
    bad = [name for name, norm in zip(names, norms, strict=True) if not isfinite(norm)]
    if bad:
        return f"the gradient of {', '.join(bad)} is not finite"
    return "" if isfinite(loss) else "the loss is not finite"


def _behind(items: Iterator[Item], lag: int) -> Iterator[Item]:
    """The items, each handed on only when `lag` further ones have been made."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > lag:
            yield waiting.popleft()
    yield from waiting


def training_stream(context: Context) -> Ids:
    """The training set in the columns of a batch, `[rows, B]`."""
    return columns(
        context.corpus.train, context.config.batch_size, "train split", min_rows=3
    )


def first_window(context: Context, stage: StageId) -> Window:
    """The first window of a stage."""
    stream = training_stream(context)
    lengths, start, _ = _segments(context, stage, len(stream), 1)[0]
    padded = _paddings(context.config, lengths, len(stream))
    return next(windows(stream, lengths, padded, start))


def windows_of_a_pass(context: Context, stage: StageId) -> int:
    """The number of windows in a stage's first pass over the training set."""
    rows = len(context.corpus.train) // context.config.batch_size
    return len(_lengths(context, stage, rows, 1))


def _segments(
    context: Context, stage: StageId, rows: int, epoch: int, done: int = 0
) -> list[Segment]:
    """The windows of an epoch but for the first `done`."""
    count = context.config.updates_per_epoch
    if count:
        draw = partial(_lengths, context, stage, rows)
        first = (epoch - 1) * count + done
        return [Segment(*each) for each in passes(draw, first, count - done)]
    lengths = _lengths(context, stage, rows, epoch)
    return [Segment(lengths, done, len(lengths))]


def _lengths(context: Context, stage: StageId, rows: int, number: int) -> list[int]:
    """The lengths of the windows of a pass over the training set."""
    config = context.config
    if config.fixed_windows:
        return fixed_lengths(rows, config.window_length)
    origin = config.seed, stage.phase, STAGES.index(stage.name), number
    return draw_lengths(np.random.default_rng(origin), rows, config.window_length)


def _paddings(config: Config, lengths: list[int], rows: int) -> tuple[int, ...]:
    """The padded lengths; one suffices if all windows but the last are alike."""
    if config.fixed_windows:
        return (lengths[0],)
    return paddings(config.window_length, rows, platform=devices.platform())
