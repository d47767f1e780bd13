"""One epoch of training, and what a person sees meanwhile."""

import itertools
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh

from glrnn import data
from glrnn.config import Config, Phase, Stage
from glrnn.errors import DivergedError
from glrnn.losses import to_perplexity
from glrnn.model import Model, language_model
from glrnn.optimizer import group_names
from glrnn.progress import Progress
from glrnn.run_folder import STAGES, Run
from glrnn.step import Metrics, Step, TrainState, place
from glrnn.windows import (
    Window,
    columns,
    draw_lengths,
    fixed_lengths,
    paddings,
    passes,
    windows,
)

Item = TypeVar("Item")
Record = dict[str, Any]

# Updates sent to the device before the metrics of the first of them are read.
AHEAD = 4


class Job(NamedTuple):
    """One stage of one phase of a run: what the functions below share.

    Attributes:
        run: The run, on disk.
        corpus: The token streams.
        progress: What a person sees.
        number: Of the phase, from 1.
        stage_name: `main` or `finetune`.
        mesh: Devices that share a batch; `None` for one.
        precision: Of matrix products in training, as `training_step` has it.
    """

    run: Run
    corpus: data.Corpus
    progress: Progress
    number: int
    stage_name: str = "main"
    mesh: Mesh | None = None
    precision: str | None = None

    @property
    def config(self) -> Config:
        """The settings of the whole run."""
        return self.run.config

    @property
    def phase(self) -> Phase:
        """The settings of the phase."""
        return self.config.phases[self.number - 1]

    @property
    def stage(self) -> Stage:
        """The settings of the stage."""
        return getattr(self.phase, self.stage_name)

    @property
    def model(self) -> Model:
        """The network of the phase."""
        return language_model(
            self.config, len(self.corpus.vocabulary), self.phase.num_layers
        )

    @property
    def phase_key(self) -> jax.Array:
        """The key of the phase."""
        return jax.random.fold_in(jax.random.key(self.config.seed), self.number)

    @property
    def stage_number(self) -> int:
        """0 for `main`, 1 for `finetune`."""
        return STAGES.index(self.stage_name)

    def title(self, epoch: int) -> str:
        """What is being done, as a person reads it."""
        of = "" if self.stage.minutes else f"/{self.stage.epochs}"
        return (
            f"phase {self.number}/{len(self.config.phases)} · {self.stage_name} · "
            f"epoch {epoch}{of}"
        )


def train_epoch(
    job: Job, step: Step, state: TrainState, epoch: int, averages: bool
) -> tuple[TrainState, Record]:
    """One pass over the training set, or as many updates as an epoch is to have.

    Without a number of updates, every epoch is a pass of its own. With one, epochs
    follow one another through pass after pass, and the state is carried between them.

    Args:
        job: Which stage of which run.
        step: The stage's step.
        state: Taken over: its buffers are donated.
        epoch: From 1.
        averages: Whether the parameters are being averaged, for show.

    Returns:
        The state after the last update, and the metrics of the epoch.

    Raises:
        DivergedError: if a loss or gradient is not finite.
    """
    config, stage = job.config, job.stage
    stream = columns(job.corpus.train, config.batch_size, "train split", min_rows=3)
    stretches = _stretches(job, len(stream), epoch)
    updates = sum(stop - start for _, start, stop in stretches)
    rows = sum(sum(lengths[start:stop]) for lengths, start, stop in stretches)
    names = group_names(stage.max_norms, job.phase.num_layers)
    limits = np.asarray(stage.max_norms)
    job.progress.begin_epoch(job.title(epoch), rows * config.batch_size)
    key = jax.random.fold_in(job.phase_key, job.stage_number)

    def dispatched() -> Iterator[tuple[Window, Metrics]]:
        nonlocal state
        for lengths, start, stop in stretches:
            if start == 0:
                carry = job.model.initial_carry(config.batch_size)
                state = replace(state, carry=carry)
            state = place(state, job.mesh)
            padded = _paddings(config, lengths, len(stream))
            those = windows(stream, lengths, padded, start)
            for window in itertools.islice(those, stop - start):
                state, metrics = step(state, window, key)
                yield window, metrics

    started = time.perf_counter()
    tokens, loss_sum = 0, 0.0
    norm_sum, clipped = np.zeros((2, len(names)))
    for update, (window, metrics) in enumerate(_behind(dispatched(), AHEAD), 1):
        metrics = jax.device_get(metrics)
        loss = float(metrics["nll"])
        norms = np.stack(jax.tree.leaves(metrics["norms"]))
        _check_finite(job, epoch, update, dict(zip(names, norms, strict=True)), loss)
        done = int(window.length) * config.batch_size
        tokens += done
        loss_sum += done * loss
        norm_sum += norms
        clipped += norms > limits
        pairs = zip(norms.tolist(), limits.tolist(), strict=True)
        job.progress.update(
            tokens,
            {"loss": loss_sum / tokens},
            dict(zip(names, pairs, strict=True)),
            averages,
        )
    seconds = time.perf_counter() - started
    mean_norms, fractions = norm_sum / updates, clipped / updates
    return state, {
        "phase": job.number,
        "stage": job.stage_name,
        "epoch": epoch,
        "updates": updates,
        "tokens": tokens,
        "train_loss": loss_sum / tokens,
        "train_perplexity": to_perplexity(loss_sum / tokens),
        "tokens_per_second": tokens / seconds,
        "gradient_norm": dict(zip(names, mean_norms.tolist(), strict=True)),
        "clipped": dict(zip(names, fractions.tolist(), strict=True)),
    }


def _stretches(job: Job, rows: int, epoch: int) -> list[tuple[list[int], int, int]]:
    """The windows of an epoch, as `windows.passes` has them."""
    config = job.config

    def draw(number: int) -> list[int]:
        if config.fixed_windows:
            return fixed_lengths(rows, config.window_length)
        origin = config.seed, job.number, job.stage_number, number
        return draw_lengths(np.random.default_rng(origin), rows, config.window_length)

    if config.updates_per_epoch:
        count = config.updates_per_epoch
        return list(passes(draw, (epoch - 1) * count, count))
    lengths = draw(epoch)
    return [(lengths, 0, len(lengths))]


def _paddings(config: Config, lengths: list[int], rows: int) -> tuple[int, ...]:
    """Static lengths; of windows that are all alike, but for the last, there is one."""
    if config.fixed_windows:
        return (lengths[0],)
    return paddings(config.window_length, rows)


def _behind(items: Iterator[Item], lag: int) -> Iterator[Item]:
    """The items, each handed on only when `lag` further ones have been made."""
    waiting: deque[Item] = deque()
    for item in items:
        waiting.append(item)
        if len(waiting) > lag:
            yield waiting.popleft()
    yield from waiting


def _check_finite(
    job: Job, epoch: int, update: int, norms: dict[str, Any], loss: float
) -> None:
    bad = [name for name, norm in norms.items() if not np.isfinite(norm)]
    if not bad and math.isfinite(loss):
        return
    what = f"the gradient of {', '.join(bad)}" if bad else "the loss"
    raise DivergedError(
        f"{what} is not finite at update {update} of {job.title(epoch)} "
        f"(loss {loss:.4g})"
    )
