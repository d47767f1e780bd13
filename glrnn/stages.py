"""One stage: epochs of SGD, then of averaged SGD, each validated and saved.

The main stage begins with plain SGD and averages once the validation loss has stopped
falling; finetuning averages from its first update. Merity, Keskar and Socher (2018),
"Regularizing and optimizing LSTM language models", section 3.
"""

import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from glrnn import averaging, data
from glrnn.checkpoint import StageCheckpoints
from glrnn.config import Config, Dropout, Phase, Stage
from glrnn.errors import DivergedError
from glrnn.evaluate import perplexity, to_perplexity
from glrnn.model import Model, Params, language_model, noise_rates
from glrnn.optimizer import clip_limits, group_names, stage_optimizer
from glrnn.progress import Progress
from glrnn.run_folder import STAGES, Run
from glrnn.step import Metrics, Step, TrainState, training_step
from glrnn.windows import Window, columns, draw_lengths, paddings, windows

Item = TypeVar("Item")

# Updates sent to the device before the metrics of the first of them are read.
AHEAD = 4

Record = dict[str, Any]


class Job(NamedTuple):
    """One stage of one phase of a run: what the functions below share.

    Attributes:
        run: The run, on disk.
        corpus: The token streams.
        progress: What a person sees.
        number: Of the phase, from 1.
        stage_name: `main` or `finetune`.
    """

    run: Run
    corpus: data.Corpus
    progress: Progress
    number: int
    stage_name: str = "main"

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


def train_stage(job: Job, params: Params, offset: int) -> tuple[Params, Record]:
    """Trains one stage to its end; its best parameters, and its history."""
    folder = job.run.stage_folder(job.number, job.stage_name)
    with StageCheckpoints(folder) as checkpoints:
        state, step = begin(job, params)
        if checkpoints.newest_epoch is not None:
            state, history = checkpoints.restore_newest(state)
        else:
            history = {
                "raw_losses": [],
                "averaged_losses": [],
                "seconds": 0.0,
                "metrics_offset": offset,
            }
            if job.stage_name == "finetune":
                # Finetuning that never improves hands on what it began with.
                checkpoints.save(0, _validate(job, params), params, state, history)
        if not _finished(job, history):
            job.progress.rewind(history["metrics_offset"])
        while not _finished(job, history):
            try:
                state, params, history = _train_epoch(job, step, state, history)
            except DivergedError as error:
                raise DivergedError(f"{error}; {_last_good(checkpoints)}") from None
            loss = _losses(history)[-1]
            epoch = len(history["raw_losses"])
            checkpoints.save(epoch, loss, params, state, history)
        best, _ = checkpoints.restore_best(params)
    return best, history


def _last_good(checkpoints: StageCheckpoints) -> str:
    epoch, folder = checkpoints.newest_epoch, checkpoints.folder
    if epoch is None:
        return f"there is no checkpoint in {folder} yet"
    return f"the last good checkpoint is epoch {epoch} in {folder}"


def begin(job: Job, params: Params) -> tuple[TrainState, Step]:
    """The state that a stage starts from, and its step."""
    optimizer, step = _update_rule(
        job.config,
        len(job.corpus.vocabulary),
        job.phase.num_layers,
        job.phase.dropout,
        # Whatever else a stage says does not enter the program: both stages of a phase
        # often share it.
        Stage(learning_rate=job.stage.learning_rate, max_norms=job.stage.max_norms),
    )
    opt_state = optimizer.init(params)
    if job.stage_name == "finetune":
        opt_state = averaging.start_averaging(opt_state)
    state = TrainState(
        # Copied, for the step takes its state's buffers over.
        params=jax.tree.map(jnp.copy, params),
        opt_state=opt_state,
        carry=job.model.initial_carry(job.config.batch_size),
        count=jnp.zeros((), jnp.int32),
    )
    return state, step


@cache
def _update_rule(
    config: Config,
    vocabulary_size: int,
    num_layers: int,
    dropout: Dropout,
    stage: Stage,
) -> tuple[optax.GradientTransformationExtraArgs, Step]:
    optimizer = stage_optimizer(config, stage, num_layers)
    step = training_step(
        language_model(config, vocabulary_size, num_layers),
        optimizer,
        rates=noise_rates(dropout),
        groups=clip_limits(stage.max_norms, num_layers),
        activation=config.activation_regularization,
        temporal_activation=config.temporal_activation_regularization,
    )
    return optimizer, step


def _finished(job: Job, history: Record) -> bool:
    """Whether a stage is at its end, as its validation losses have it."""
    losses = _losses(history)
    if len(losses) >= job.stage.epochs:
        return True
    epochs_since_best = len(losses) - 1 - int(np.argmin(losses)) if losses else 0
    if 0 < job.stage.patience <= epochs_since_best:
        return True
    return job.stage_name == "finetune" and averaging.non_monotonic_trigger(
        losses, job.config.nonmonotonic
    )


def _losses(history: Record) -> list[float]:
    """Validation loss of each epoch: averaged once averaging has begun, else raw."""
    raw, averaged = history["raw_losses"], history["averaged_losses"]
    return raw[: len(raw) - len(averaged)] + averaged


def _train_epoch(
    job: Job, step: Step, state: TrainState, history: Record
) -> tuple[TrainState, Params, Record]:
    """Trains and validates; the state, what was validated, and the history with it."""
    started = time.perf_counter()
    epoch = len(history["raw_losses"]) + 1
    averages = bool(averaging.is_averaging(state.opt_state))
    state, record = _train_windows(job, step, state, epoch, averages)

    params = averaging.averaged_params(state.opt_state, state.params)
    raw_loss = _validate(job, state.params)
    loss = _validate(job, params) if averages else raw_loss
    raw_losses = [*history["raw_losses"], raw_loss]
    triggered = not averages and averaging.non_monotonic_trigger(
        raw_losses, job.config.nonmonotonic
    )
    if triggered:
        state = replace(state, opt_state=averaging.start_averaging(state.opt_state))
    seconds = time.perf_counter() - started
    record |= {
        "valid_loss": loss,
        "valid_perplexity": to_perplexity(loss),
        "raw_valid_loss": raw_loss,
        "averaging": averages,
        "triggered": triggered,
        "seconds": seconds,
    }
    line = (
        f"{_title(job, epoch)} · train {record['train_perplexity']:.2f} · "
        f"valid {to_perplexity(loss):.2f}{' averaged' if averages else ''} · "
        f"{record['tokens_per_second']:,.0f} tokens/s · {seconds:.0f} s"
        f"{' · averaging begins' if triggered else ''}"
    )
    job.progress.end_epoch(record, line)
    history = {
        "raw_losses": raw_losses,
        "averaged_losses": [*history["averaged_losses"], *[loss] * averages],
        "seconds": history["seconds"] + seconds,
        "metrics_offset": job.progress.offset,
    }
    return state, params, history


def _train_windows(
    job: Job, step: Step, state: TrainState, epoch: int, averages: bool
) -> tuple[TrainState, Record]:
    """One pass over the training set in windows of random length."""
    config, stage = job.config, job.stage
    stream = columns(job.corpus.train, config.batch_size, "train split", min_rows=3)
    origin = config.seed, job.number, job.stage_number, epoch
    lengths = draw_lengths(
        np.random.default_rng(origin), len(stream), config.window_length
    )
    total = sum(lengths) * config.batch_size
    names = group_names(stage.max_norms, job.phase.num_layers)
    limits = np.resize(stage.max_norms, len(names))
    job.progress.begin_epoch(_title(job, epoch), total)

    key = jax.random.fold_in(job.phase_key, job.stage_number)

    def dispatched() -> Iterator[tuple[Window, Metrics]]:
        nonlocal state
        carry = job.model.initial_carry(config.batch_size)
        state = replace(state, carry=carry)
        padded = paddings(config.window_length, len(stream))
        for window in windows(stream, lengths, padded):
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
    mean_norms, fractions = norm_sum / len(lengths), clipped / len(lengths)
    return state, {
        "phase": job.number,
        "stage": job.stage_name,
        "epoch": epoch,
        "updates": len(lengths),
        "tokens": tokens,
        "train_loss": loss_sum / tokens,
        "train_perplexity": to_perplexity(loss_sum / tokens),
        "tokens_per_second": tokens / seconds,
        "gradient_norm": dict(zip(names, mean_norms.tolist(), strict=True)),
        "clipped": dict(zip(names, fractions.tolist(), strict=True)),
    }


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
        f"{what} is not finite at update {update} of {_title(job, epoch)} "
        f"(loss {loss:.4g})"
    )


def _validate(job: Job, params: Params) -> float:
    """Nats per token on the validation set."""
    score = perplexity(
        job.model, params, job.corpus.valid, batch_size=job.config.valid_batch_size
    )
    if not math.isfinite(score.nats_per_token):
        raise DivergedError(
            f"the validation loss is not finite in phase {job.number}, {job.stage_name}"
        )
    return score.nats_per_token


def _title(job: Job, epoch: int) -> str:
    return (
        f"phase {job.number}/{len(job.config.phases)} · {job.stage_name} · "
        f"epoch {epoch}/{job.stage.epochs}"
    )
