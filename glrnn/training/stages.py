"""One stage: epochs of plain updates, then of averaged ones, each validated and saved.

The main stage begins without averaging and averages once the validation loss has
stopped falling, as its trigger has it; finetuning averages from its first update.
Merity, Keskar and Socher (2018), "Regularizing and optimizing LSTM language models",
section 3.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import NamedTuple

import jax

from glrnn.config import Config
from glrnn.console.epoch_line import epoch_line
from glrnn.errors import DivergedError
from glrnn.evaluation.perplexity import perplexity
from glrnn.losses import to_perplexity
from glrnn.model import Params
from glrnn.optim import averaging
from glrnn.optim.learning_rate import rate_factor, set_rate_factor
from glrnn.storage.stage_checkpoints import StageCheckpoints
from glrnn.training.context import Job
from glrnn.training.epoch import (
    NOTHING_YET,
    Record,
    Tally,
    epoch_metrics,
    train_epoch,
    windows_of_a_pass,
)
from glrnn.training.programs import first_state, params_like, update_rule
from glrnn.training.step import Step, TrainState
from glrnn.training.warning_signs import ENOUGH_UPDATES, Sign, nothing_learned, unstable

# How often a stage is rewound to one checkpoint.
MOST_REWINDS = 3


class Outcome(NamedTuple):
    """What stages of a phase have come to.

    Attributes:
        params: The best parameters of the last one.
        histories: Of each.
        offset: Of the metrics, at the end of the last one.
    """

    params: Params
    histories: list[Record]
    offset: int


def train_stage(job: Job, before: Callable[[], Outcome]) -> Outcome:
    """Trains one stage to its end, from wherever it is.

    Args:
        job: Which stage of which run.
        before: Makes what the stage begins with, if it has not begun.

    Returns:
        Its outcome, the stages before it among the histories.

    Raises:
        DivergedError: if a loss or gradient is not finite.
        StoppedError: if the run was told to stop; everything is saved.
    """
    folder = job.run.stage_folder(job.number, job.stage_name)
    with StageCheckpoints(folder, job.progress.say) as checkpoints:
        step, state, history = _take_up(job, checkpoints, before)
        rewound_to, rewinds = None, 0
        while not _finished(job, history):
            try:
                state, history = _go_on(job, checkpoints, step, state, history)
                continue
            except DivergedError as error:
                trouble = f"{error}; {_last_good(checkpoints)}"
            newest = checkpoints.newest
            rewinds = rewinds + 1 if rewound_to == newest else 1
            rewound_to = newest
            if job.on_nonfinite != "rewind" or rewinds > MOST_REWINDS:
                raise DivergedError(trouble)
            job.progress.say(f"rewound: {trouble}")
            del state  # two would not fit
            step, state, history = _take_up(job, checkpoints, before)
            history["rewinds"] += rewinds
        best, _ = checkpoints.restore_best(params_like(job))
    return Outcome(best, [*history["before"], history], history["metrics_offset"])


def _take_up(
    job: Job, checkpoints: StageCheckpoints, before: Callable[[], Outcome]
) -> tuple[Step, TrainState, Record]:
    """A stage as its newest checkpoint has it, or at its beginning."""
    optimizer, step = update_rule(job)
    if checkpoints.newest is not None:
        like = jax.eval_shape(partial(first_state, job, optimizer), params_like(job))
        state, history = checkpoints.restore_newest(like)
    else:
        params, histories, offset = before()
        state = first_state(job, optimizer, params)
        history = {
            "before": histories,
            "raw_losses": [],
            "averaged_losses": [],
            "seconds": 0.0,
            "metrics_offset": offset,
            "tally": NOTHING_YET._asdict(),
            "rewinds": 0,
        }
        if job.stage_name == "finetune":
            # Finetuning that never improves hands on what it began with.
            loss = _validate(job, params)
            checkpoints.save(0, state, history, params, loss)
    if not _finished(job, history):
        job.progress.rewind(history["metrics_offset"])
    return step, state, history


def _last_good(checkpoints: StageCheckpoints) -> str:
    newest = checkpoints.newest
    if newest is None:
        return f"there is no checkpoint in {checkpoints.folder} yet"
    return f"the last good checkpoint is {checkpoints.path(newest)}"


def _finished(job: Job, history: Record) -> bool:
    """Whether a stage is at its end, as its validation losses have it."""
    losses = _losses(history)
    if len(losses) >= job.stage.epochs:
        return True
    if job.stage.minutes:
        return bool(losses) and history["seconds"] >= 60 * job.stage.minutes
    if 0 < job.stage.patience <= averaging.epochs_since_best(losses):
        return True
    return job.stage_name == "finetune" and averaging.non_monotonic_trigger(
        losses, job.config.nonmonotonic
    )


def _losses(history: Record) -> list[float]:
    """Validation loss of each epoch: averaged once averaging has begun, else raw."""
    raw, averaged = history["raw_losses"], history["averaged_losses"]
    return raw[: len(raw) - len(averaged)] + averaged


def _go_on(
    job: Job,
    checkpoints: StageCheckpoints,
    step: Step,
    state: TrainState,
    history: Record,
) -> tuple[TrainState, Record]:
    """Trains until an epoch is over or it is time for a checkpoint, and saves."""
    epoch = len(history["raw_losses"]) + 1
    averages = bool(averaging.is_averaging(state.opt_state))
    factor = rate_factor(job.stage.schedule, _losses(history))
    state = replace(state, opt_state=set_rate_factor(state.opt_state, factor))
    begun = Tally(**history["tally"])
    state, tally = train_epoch(
        job,
        step,
        state,
        epoch,
        begun,
        averages=averages,
        rewinds=history["rewinds"],
        pause=_pause(job, checkpoints),
    )
    where = f"{job.title(epoch)} is saved"
    if tally.is_whole:
        rate = factor * job.stage.learning_rate
        state, history = _end_epoch(job, checkpoints, state, history, tally, rate)
    elif tally.windows:
        where = f"{job.title(epoch)}, update {tally.windows} of {tally.total} is saved"
        history = history | {"tally": tally._asdict()}
        if tally.windows > begun.windows:
            checkpoints.save(int(state.count), state, history)
    else:
        where = f"{job.title(epoch)} has not begun"
    if job.interruption.signal is not None:
        checkpoints.wait()
    job.stop_if_told(where)
    return state, history


def _pause(job: Job, checkpoints: StageCheckpoints) -> Callable[[], bool]:
    """Whether to save, asked before every window; not before the first for the time."""
    seconds = 60 * job.checkpoint_minutes
    started: float | None = None

    def pause() -> bool:
        nonlocal started
        checkpoints.check()
        if job.interruption.has_come():
            return True
        if started is None:
            started = time.monotonic()
            return False
        return 0 < seconds <= time.monotonic() - started

    return pause


def _end_epoch(
    job: Job,
    checkpoints: StageCheckpoints,
    state: TrainState,
    history: Record,
    tally: Tally,
    learning_rate: float,
) -> tuple[TrainState, Record]:
    """Validates, decides whether averaging begins, saves and tells."""
    started = time.perf_counter()
    epoch = len(history["raw_losses"]) + 1
    averages = bool(averaging.is_averaging(state.opt_state))
    params = averaging.averaged_params(state.opt_state, state.params)
    raw_loss = _validate(job, state.params)
    loss = _validate(job, params) if averages else raw_loss
    raw_losses = [*history["raw_losses"], raw_loss]
    triggered = not averages and _averaging_begins(job.config, raw_losses)
    if triggered:
        state = replace(state, opt_state=averaging.start_averaging(state.opt_state))
    seconds = tally.seconds + time.perf_counter() - started
    history = history | {
        "raw_losses": raw_losses,
        "averaged_losses": [*history["averaged_losses"], *[loss] * averages],
        "seconds": history["seconds"] + seconds,
        "tally": NOTHING_YET._replace(
            skipped_in_a_row=tally.skipped_in_a_row
        )._asdict(),
    }
    signs = _warning_signs(job, history, int(state.count))
    record = epoch_metrics(job, epoch, tally) | {
        "learning_rate": learning_rate,
        "valid_loss": loss,
        "valid_perplexity": to_perplexity(loss),
        "raw_valid_loss": raw_loss,
        "unigram_perplexity": job.unigram.perplexity,
        "averaging": averages,
        "triggered": triggered,
        "seconds": seconds,
        "warnings": [asdict(sign) for sign in signs],
    }
    job.progress.write(record)
    history["metrics_offset"] = job.progress.offset
    checkpoints.save(int(state.count), state, history, params, loss)
    title = job.title(epoch)
    job.progress.end_epoch(
        epoch_line(title, record["train_loss"], loss, averages, seconds)
    )
    if triggered:
        job.progress.say("averaging begins")
    for sign in signs:
        job.progress.say(f"warning: {sign.text}")
    return state, history


def _warning_signs(job: Job, history: Record, updates: int) -> list[Sign]:
    """The signs that a stage does not learn, after an epoch.

    That nothing has been learned is no sign before the stage has made a pass over the
    training set or `ENOUGH_UPDATES`, whichever comes first, unless it ends before.
    """
    before = [loss for stage in history["before"] for loss in stage["raw_losses"]]
    signs = [unstable([*before, *history["raw_losses"]])]
    enough = min(windows_of_a_pass(job), ENOUGH_UPDATES)
    if updates >= enough or _finished(job, history):
        loss = _losses(history)[-1]
        signs.append(nothing_learned(loss, job.unigram.nats_per_token))
    return [sign for sign in signs if sign is not None]


def _averaging_begins(config: Config, losses: list[float]) -> bool:
    trigger = averaging.TRIGGERS[config.trigger]
    latest = config.averaging_latest
    return trigger(losses, config.nonmonotonic) or 0 < latest <= len(losses)


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
