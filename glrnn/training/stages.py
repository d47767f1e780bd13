"""One stage: epochs of plain updates, then of averaged ones, each validated and saved.

The main stage begins without averaging, and averages once its trigger finds that the
validation loss has stopped falling; finetuning averages from its first update.
Merity, Keskar and Socher (2018), "Regularizing and optimizing LSTM language models",
section 3.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from glrnn.config import Config
from glrnn.config.gradual import group_names
from glrnn.console.epoch_line import epoch_line
from glrnn.errors import DivergedError
from glrnn.evaluation.perplexity import perplexity
from glrnn.ground.losses import to_perplexity
from glrnn.ground.processes import Processes
from glrnn.model import Params
from glrnn.optim.averaging import (
    averaged_params,
    is_averaging,
    start_averaging,
)
from glrnn.optim.learning_rate import rate_factor
from glrnn.optim.trigger import TRIGGERS
from glrnn.storage.best_params import largest_checkpoint
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.storage.led_checkpoints import LedCheckpoints
from glrnn.storage.metrics_log import EpochRecord, Sign
from glrnn.storage.run_folder import StageId
from glrnn.training.checkpoint import Checkpoint, led, restore_newest
from glrnn.training.context import Context
from glrnn.training.epoch import train_epoch, windows_of_a_pass
from glrnn.training.history import StageHistory, Tally
from glrnn.training.optimizer import set_hyperparams
from glrnn.training.programs import first_state, program, state_like
from glrnn.training.starting_params import starting_params
from glrnn.training.warning_signs import ENOUGH_UPDATES, nothing_learned, unstable

# The largest number of times that a stage is rewound to one checkpoint.
MOST_REWINDS = 3


def train_stage(
    context: Context, stage: StageId, earlier: tuple[StageHistory, ...] = ()
) -> tuple[StageHistory, ...]:
    """Trains one stage to its end, from its newest checkpoint or from its beginning.

    Args:
        context: The run.
        stage: The stage.
        earlier: The histories of the phase's stages before it; not needed if the stage
            has a checkpoint, which holds them.

    Returns:
        The histories of the phase's stages up to this one; its checkpoints hold the
        parameters.

    Raises:
        DivergedError: A loss or gradient is not finite.
        StoppedError: The run was told to stop; everything is saved.
    """
    folder = context.run.stage_folder(stage)
    opened = partial(
        CheckpointFolder,
        say=context.progress.say,
        largest=largest_checkpoint(context.run, stage.phase),
    )
    with LedCheckpoints(context.processes, opened, folder) as checkpoints:
        now = _open(context, stage, checkpoints, earlier)
        epochs = now.history.epochs
        if epochs < context.stage(stage).epochs and _is_finished(
            context, stage, now.history
        ):
            # Said of a run that is extended: it may be hoped to train further.
            context.progress.say(
                f"{context.title(stage, epochs)} was the last: the stage has ended by "
                f"its own rule"
            )
        rewound_to, rewinds = None, 0
        while not _is_finished(context, stage, now.history):
            try:
                now = _train_on(context, stage, checkpoints, now)
                continue
            except DivergedError as error:
                trouble = f"{error}; {_last_good(checkpoints)}"
            newest = checkpoints.newest
            rewinds = rewinds + 1 if rewound_to == newest else 1
            rewound_to = newest
            if context.execution.on_nonfinite != "rewind" or rewinds > MOST_REWINDS:
                raise DivergedError(trouble)
            context.progress.say(f"rewound: {trouble}")
            del now  # the memory may not hold two states
            now = _open(context, stage, checkpoints, earlier)
            rewound = replace(now.history, rewinds=now.history.rewinds + rewinds)
            now = replace(now, history=rewound)
    return (*now.earlier, now.history)


def _open(
    context: Context,
    stage: StageId,
    checkpoints: LedCheckpoints,
    earlier: tuple[StageHistory, ...],
) -> Checkpoint:
    """A stage at its newest checkpoint, or at its beginning: the first process's."""
    alone = context._replace(processes=Processes())
    return led(
        context.processes,
        lambda: _found(alone, stage, checkpoints.own, earlier),
        state_like(context, stage),
    )


def _found(
    context: Context,
    stage: StageId,
    checkpoints: CheckpointFolder,
    earlier: tuple[StageHistory, ...],
) -> Checkpoint:
    """A stage at its newest checkpoint, or at its beginning."""
    if checkpoints.newest is not None:
        now = restore_newest(checkpoints, state_like(context, stage))
    else:
        params = starting_params(context, stage)
        state = first_state(context, stage, params)
        now = Checkpoint(state, StageHistory(), earlier)
        if stage.name == "finetune":
            # If finetuning never improves, these remain its best.
            now.save(checkpoints, params, _validate(context, stage, params))
    history = now.history
    if not (
        _is_finished(context, stage, history)
        or context.metrics.truncate_after(stage, history.epochs)
    ):
        context.progress.say(
            f"{context.run.folder} has lost metrics of earlier epochs: metrics.jsonl "
            f"has no line of {context.title(stage, history.epochs)}"
        )
    return now


def _last_good(checkpoints: LedCheckpoints) -> str:
    newest = checkpoints.newest
    if newest is None:
        return f"there is no checkpoint in {checkpoints.folder} yet"
    return f"the last good checkpoint is {checkpoints.folder / str(newest)}"


def _is_finished(context: Context, stage: StageId, history: StageHistory) -> bool:
    return history.is_finished(
        context.stage(stage), stage.name, context.config.averaging.window
    )


def _train_on(
    context: Context, stage: StageId, checkpoints: LedCheckpoints, now: Checkpoint
) -> Checkpoint:
    """Trains until an epoch is over or it is time for a checkpoint, and saves."""
    settings, history = context.stage(stage), now.history
    epoch, title = history.epochs + 1, context.title(stage, history.epochs + 1)
    factor = rate_factor(settings.schedule, history.losses)
    state = replace(
        now.state,
        opt_state=set_hyperparams(
            now.state.opt_state,
            # As the step multiplies them, in float32.
            np.float32(settings.learning_rate) * np.float32(factor),
            settings.max_norms,
        ),
    )
    state, tally = train_epoch(
        context,
        stage,
        program(context, stage).step,
        state,
        epoch,
        history.tally,
        averaging=bool(is_averaging(state.opt_state)),
        rewinds=history.rewinds,
        pause=_pause(context, checkpoints),
    )
    checkpoints.check()
    now = replace(now, state=state, history=replace(history, tally=tally))
    where = f"{title} is saved"
    if tally.is_whole:
        now = _end_epoch(
            context, stage, checkpoints, now, factor * settings.learning_rate
        )
    elif tally.windows:
        where = f"{title}, update {tally.windows} of {tally.total} is saved"
        if tally.windows > history.tally.windows:
            now.save(checkpoints)
    else:
        where = f"{title} has not begun"
    context.stop_if_told(where, checkpoints.wait)
    return now


def _pause(context: Context, checkpoints: LedCheckpoints) -> Callable[[], bool]:
    """A function that says, before every window, whether to stop there and save.

    The clock is the first process's; it starts at the first window, so that every call
    of `train_epoch` trains on one at least.
    """
    first = context.processes.is_first
    seconds = 60 * context.execution.checkpoint_minutes if first else 0.0
    started: float | None = None

    def pause() -> bool:
        nonlocal started
        if context.interruption.has_come() or checkpoints.has_failed:
            return True
        if started is None:
            started = time.monotonic()
            return False
        return 0 < seconds <= time.monotonic() - started

    return pause


def _end_epoch(
    context: Context,
    stage: StageId,
    checkpoints: LedCheckpoints,
    now: Checkpoint,
    learning_rate: float,
) -> Checkpoint:
    """Validates, decides whether averaging begins, records, saves and shows."""
    started = time.perf_counter()
    state, history = now.state, now.history
    averaging = bool(is_averaging(state.opt_state))
    params = averaged_params(state.opt_state, state.params)
    raw_loss = _validate(context, stage, state.params)
    loss = _validate(context, stage, params) if averaging else raw_loss
    raw_losses = (*history.raw_losses, raw_loss)
    triggered = not averaging and _averaging_begins(context.config, raw_losses)
    if triggered:
        state = replace(state, opt_state=start_averaging(state.opt_state))
    tally = history.tally
    taken = tally.seconds + time.perf_counter() - started
    seconds = context.processes.lead(lambda: taken)
    now = Checkpoint(
        state,
        replace(
            history,
            raw_losses=raw_losses,
            averaged_losses=(*history.averaged_losses, *[loss] * averaging),
            seconds=history.seconds + seconds,
            tally=Tally(skipped_in_a_row=tally.skipped_in_a_row),
        ),
        now.earlier,
    )
    train_loss = tally.loss_sum / tally.tokens
    record = replace(
        _epoch_record(context, stage, history.epochs + 1, tally, loss),
        train_loss=train_loss,
        train_perplexity=to_perplexity(train_loss),
        learning_rate=learning_rate,
        raw_valid_loss=raw_loss,
        averaging=averaging,
        triggered=triggered,
        seconds=seconds,
        warnings=tuple(_warning_signs(context, stage, now)),
    )
    context.processes.lead(lambda: context.metrics.append(record))
    now.save(checkpoints, params, loss)
    title = context.title(stage, record.epoch)
    context.progress.end_epoch(epoch_line(title, train_loss, loss, averaging, seconds))
    context.show_elsewhere(record)
    if triggered:
        context.progress.say("averaging begins")
    for sign in record.warnings:
        context.progress.say(f"warning: {sign.text}")
    return now


def _epoch_record(
    context: Context, stage: StageId, epoch: int, tally: Tally, valid_loss: float
) -> EpochRecord:
    """The record of an epoch, as far as its tally and validation loss tell."""
    num_layers = context.phase(stage).num_layers
    names = group_names(context.stage(stage).max_norms, num_layers)
    mean_norms = [total / tally.updates for total in tally.norm_sums]
    fractions = [count / tally.updates for count in tally.clipped]
    return EpochRecord(
        phase=stage.phase,
        stage=stage.name,
        epoch=epoch,
        updates=tally.updates,
        skipped=tally.skipped,
        tokens=tally.tokens,
        tokens_per_second=tally.tokens / tally.seconds,
        gradient_norm=dict(zip(names, mean_norms, strict=True)),
        clipped=dict(zip(names, fractions, strict=True)),
        valid_loss=valid_loss,
        valid_perplexity=to_perplexity(valid_loss),
        unigram_perplexity=context.unigram.perplexity,
    )


def _warning_signs(context: Context, stage: StageId, now: Checkpoint) -> list[Sign]:
    """The signs that a stage does not learn, after an epoch.

    That nothing has been learned is no sign before the stage has made a pass over the
    training set or `ENOUGH_UPDATES`, whichever comes first, unless it ends before.
    """
    raw = [loss for each in (*now.earlier, now.history) for loss in each.raw_losses]
    signs = [unstable(raw)]
    enough = min(windows_of_a_pass(context, stage), ENOUGH_UPDATES)
    if int(now.state.count) >= enough or _is_finished(context, stage, now.history):
        loss = now.history.losses[-1]
        signs.append(nothing_learned(loss, context.unigram.nats_per_token))
    return [sign for sign in signs if sign is not None]


def _averaging_begins(config: Config, losses: tuple[float, ...]) -> bool:
    averaging = config.averaging
    begins = TRIGGERS[averaging.trigger](losses, averaging.window)
    return begins or 0 < averaging.latest <= len(losses)


def _validate(context: Context, stage: StageId, params: Params) -> float:
    """Nats per token on the validation set, by the word of the first process."""
    score = perplexity(
        context.model(stage),
        params,
        context.corpus.valid,
        batch_size=context.config.valid_batch_size,
    )
    loss = context.processes.lead(lambda: score.nats_per_token)
    if not math.isfinite(loss):
        raise DivergedError(
            f"the validation loss is not finite in phase {stage.phase}, {stage.name}"
        )
    return loss
