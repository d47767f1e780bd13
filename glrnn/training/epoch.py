"""An epoch of training, in one go or in several, and what a person sees meanwhile."""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from glrnn import devices
from glrnn.config import Config
from glrnn.data.windows import (
    Window,
    columns,
    draw_lengths,
    fixed_lengths,
    paddings,
    passes,
    windows,
)
from glrnn.errors import DivergedError
from glrnn.losses import to_perplexity
from glrnn.storage.run_folder import STAGES
from glrnn.training.context import Job
from glrnn.training.optimizer import group_names
from glrnn.training.step import Metrics, Step, TrainState, place

Item = TypeVar("Item")
Record = dict[str, Any]

# Updates sent to the device before the metrics of the first of them are read.
AHEAD = 4
# Updates in a row that may be skipped.
MOST_SKIPPED = 10


class Tally(NamedTuple):
    """What has been done of an epoch; JSON has all of it.

    Attributes:
        windows: Trained on or skipped.
        total: How many windows the epoch has; 0 before it begins.
        tokens: Trained on.
        loss_sum: Over those tokens, in nats.
        norm_sums: Over the windows, of each group's gradient norm.
        clipped: How often each group was clipped.
        skipped: Windows whose loss or gradient was not finite.
        skipped_in_a_row: The last ones of them.
        seconds: Of training.
    """

    windows: int = 0
    total: int = 0
    tokens: int = 0
    loss_sum: float = 0.0
    norm_sums: Sequence[float] = ()
    clipped: Sequence[float] = ()
    skipped: int = 0
    skipped_in_a_row: int = 0
    seconds: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether the epoch is over."""
        return 0 < self.total == self.windows


NOTHING_YET = Tally()


def train_epoch(
    job: Job,
    step: Step,
    state: TrainState,
    epoch: int,
    tally: Tally = NOTHING_YET,
    *,
    averages: bool = False,
    rewinds: int = 0,
    pause: Callable[[], bool] = lambda: False,
) -> tuple[TrainState, Tally]:
    """One pass over the training set, or as many updates as an epoch is to have.

    Without a number of updates, every epoch is a pass of its own. With one, epochs
    follow one another through pass after pass, and the state is carried between them.

    Args:
        job: Which stage of which run.
        step: The stage's step.
        state: Taken over: its buffers are donated.
        epoch: From 1.
        tally: Where to go on; the state is the one it was returned with.
        averages: Whether the parameters are being averaged, for show.
        rewinds: How often the stage was rewound.
        pause: Asked before every update; if it says so the epoch is left there.

    Returns:
        The state after the last update, and the tally with it.

    Raises:
        DivergedError: if a loss or gradient is not finite, and none is to be skipped or
            too many are.
    """
    config, stage = job.config, job.stage
    stream = columns(job.corpus.train, config.batch_size, "train split", min_rows=3)
    everything = _stretches(job, len(stream), epoch)
    total = sum(stop - start for _, start, stop in everything)
    rows = sum(sum(lengths[start:stop]) for lengths, start, stop in everything)
    names = group_names(stage.max_norms, job.phase.num_layers)
    limits = np.asarray(stage.max_norms)
    total_tokens = rows * config.batch_size
    job.progress.begin_epoch(job.title(epoch), total_tokens, tally.tokens)
    key = job.stage_key(rewinds)

    def dispatched() -> Iterator[tuple[Window, Metrics]]:
        nonlocal state
        for lengths, start, stop in _stretches(job, len(stream), epoch, tally.windows):
            if start == 0:
                carry = job.model.initial_carry(config.batch_size)
                state = replace(state, carry=carry)
            state = place(state, job.mesh)
            padded = _paddings(config, lengths, len(stream))
            those = windows(stream, lengths, padded, start)
            for window in itertools.islice(those, stop - start):
                if pause():
                    return
                state, metrics = step(state, window, key)
                yield window, metrics

    started = time.perf_counter()
    done, tokens, loss_sum = tally.windows, tally.tokens, tally.loss_sum
    skipped, in_a_row = tally.skipped, tally.skipped_in_a_row
    norm_sums, clipped = np.zeros((2, len(names)))
    if done:
        norm_sums, clipped = np.array(tally.norm_sums), np.array(tally.clipped)
    for window, metrics in _behind(dispatched(), AHEAD):
        metrics = jax.device_get(metrics)
        loss = float(metrics["nll"])
        norms = np.stack(jax.tree.leaves(metrics["norms"]))
        done += 1
        trouble = _not_finite(names, norms, float(metrics["loss"]))
        if trouble:
            trouble += f" at update {done} of {job.title(epoch)} (loss {loss:.4g})"
            nothing_learned = done == total and not tokens
            if (
                job.on_nonfinite != "skip"
                or in_a_row == MOST_SKIPPED
                or nothing_learned
            ):
                raise DivergedError(trouble)
            job.progress.say(f"skipped: {trouble}")
            skipped, in_a_row = skipped + 1, in_a_row + 1
            continue
        in_a_row = 0
        count = int(window.length) * config.batch_size
        tokens += count
        loss_sum += count * loss
        norm_sums += norms
        clipped += norms > limits
        pairs = zip(norms.tolist(), limits.tolist(), strict=True)
        job.progress.update(
            tokens,
            {"loss": loss_sum / tokens},
            dict(zip(names, pairs, strict=True)),
            averages,
        )
    return state, Tally(
        done,
        total,
        tokens,
        loss_sum,
        norm_sums.tolist(),
        clipped.tolist(),
        skipped,
        in_a_row,
        tally.seconds + time.perf_counter() - started,
    )


def first_window(job: Job) -> Window:
    """The window that a stage begins with."""
    stream = columns(job.corpus.train, job.config.batch_size, "train split", min_rows=3)
    lengths, start, _ = _stretches(job, len(stream), 1)[0]
    padded = _paddings(job.config, lengths, len(stream))
    return next(windows(stream, lengths, padded, start))


def epoch_metrics(job: Job, epoch: int, tally: Tally) -> Record:
    """The metrics of an epoch that is over."""
    names = group_names(job.stage.max_norms, job.phase.num_layers)
    updates = tally.windows - tally.skipped
    mean_norms = [total / updates for total in tally.norm_sums]
    fractions = [count / updates for count in tally.clipped]
    return {
        "phase": job.number,
        "stage": job.stage_name,
        "epoch": epoch,
        "updates": updates,
        "skipped": tally.skipped,
        "tokens": tally.tokens,
        "train_loss": tally.loss_sum / tally.tokens,
        "train_perplexity": to_perplexity(tally.loss_sum / tally.tokens),
        "tokens_per_second": tally.tokens / tally.seconds,
        "gradient_norm": dict(zip(names, mean_norms, strict=True)),
        "clipped": dict(zip(names, fractions, strict=True)),
    }


def windows_of_a_pass(job: Job) -> int:
    """How many windows the stage's first pass over the training set has."""
    return len(_lengths(job, len(job.corpus.train) // job.config.batch_size, 1))


def _stretches(
    job: Job, rows: int, epoch: int, done: int = 0
) -> list[tuple[list[int], int, int]]:
    """The windows of an epoch but for those done, as `windows.passes` has them."""
    count = job.config.updates_per_epoch
    if count:
        draw = partial(_lengths, job, rows)
        return list(passes(draw, (epoch - 1) * count + done, count - done))
    lengths = _lengths(job, rows, epoch)
    return [(lengths, done, len(lengths))]


def _lengths(job: Job, rows: int, number: int) -> list[int]:
    """The windows of a pass over the training set."""
    config = job.config
    if config.fixed_windows:
        return fixed_lengths(rows, config.window_length)
    origin = config.seed, job.number, STAGES.index(job.stage_name), number
    return draw_lengths(np.random.default_rng(origin), rows, config.window_length)


def _paddings(config: Config, lengths: list[int], rows: int) -> tuple[int, ...]:
    """Static lengths; of windows that are all alike, but for the last, there is one."""
    if config.fixed_windows:
        return (lengths[0],)
    return paddings(config.window_length, rows, platform=devices.platform())


def _behind(items: Iterator[Item], lag: int) -> Iterator[Item]:
    """The items, each handed on only when `lag` further ones have been made."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > lag:
            yield waiting.popleft()
    yield from waiting


def _not_finite(names: Sequence[str], norms: np.ndarray, loss: float) -> str:
    """What is not finite, if anything."""
    bad = [
        name for name, norm in zip(names, norms, strict=True) if not np.isfinite(norm)
    ]
    if bad:
        return f"the gradient of {', '.join(bad)} is not finite"
    return "" if math.isfinite(loss) else "the loss is not finite"
