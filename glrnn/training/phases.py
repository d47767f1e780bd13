"""Gradual learning: the phases of a run, each deeper than the one before."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import jax

from glrnn.errors import DivergedError, UsageError
from glrnn.evaluation.perplexity import perplexity
from glrnn.storage.best_params import best_params
from glrnn.storage.checkpoint_folder import has_checkpoints
from glrnn.storage.metrics_log import lasting_warnings, read_epochs
from glrnn.storage.run_folder import Run, StageId, Summary
from glrnn.training import device_check
from glrnn.training.context import Context
from glrnn.training.history import StageHistory
from glrnn.training.stages import train_stage


def train(context: Context) -> list[Summary]:
    """Trains every phase of a run that is not yet finished.

    Args:
        context: The run.

    Returns:
        One summary for each phase.

    Raises:
        DeviceError: The device computes other numbers than the CPU.
        DivergedError: A loss or gradient is not finite.
        StoppedError: The run was told to stop; everything is saved.
    """
    run = context.run
    summaries: list[Summary] = []
    for phase in range(1, len(run.config.phases) + 1):
        finished = _led(context, partial(_finished, run, phase))
        if finished is None:
            histories = _train_phase(context, phase)
            finished = _led(context, partial(_finish, context, phase, histories))
            context.stop_if_told(f"phase {phase} is finished", lambda: None)
        if finished is not None:
            summaries.append(finished)
    return summaries


def _led(context: Context, act: Callable[[], Summary | None]) -> Summary | None:
    """A summary that the first process has, at all of them."""

    def values() -> dict[str, Any] | None:
        summary = act()
        return None if summary is None else asdict(summary)

    told = context.processes.lead(values)
    return None if told is None else Summary(**told)


def _finished(run: Run, phase: int) -> Summary | None:
    """The outcome of a phase, or `None` if it is to be trained."""
    summary = run.read_summary(phase)
    if summary is None or _has_lost_its_end(run, phase):
        _check_order(run, phase)
        return None
    return summary


def _has_lost_its_end(run: Run, phase: int) -> bool:
    """Whether a phase's last stage is gone, and nothing was built on it yet."""
    later = range(phase + 1, len(run.config.phases) + 1)
    return not os.path.lexists(run.stage_folder(run.stages(phase)[-1])) and not any(
        os.path.lexists(run.folder / f"phase_{number}") for number in later
    )


def _check_order(run: Run, phase: int) -> None:
    """Refuses to train a phase anew under those that were built on it."""
    if os.path.lexists(run.stage_folder(run.stages(phase)[0])):
        return
    for later in range(phase + 1, len(run.config.phases) + 1):
        if os.path.lexists(run.stage_folder(run.stages(later)[0])):
            raise UsageError(
                f"{run.folder} has a phase {later} but no phase {phase}, which it was "
                f"built on; choose another --workdir"
            )


def _train_phase(context: Context, phase: int) -> tuple[StageHistory, ...]:
    """Trains the stages of a phase, starting at the last one with a checkpoint."""
    run = context.run
    stages = run.stages(phase)
    device_check.require(context, stages)
    first = context.processes.lead(partial(_newest, run, stages))
    histories: tuple[StageHistory, ...] = ()
    for stage in stages[first:]:
        histories = train_stage(context, stage, histories)
    return histories


def _newest(run: Run, stages: Sequence[StageId]) -> int:
    """The place of the last stage that has a checkpoint; 0 if none has."""
    begun = [
        n for n, each in enumerate(stages) if has_checkpoints(run.stage_folder(each))
    ]
    return begun[-1] if begun else 0


def _finish(
    context: Context, phase: int, histories: tuple[StageHistory, ...]
) -> Summary:
    """Marks a phase as finished; its summary."""
    summary = _summary(context, phase, histories)
    context.run.write_summary(summary)
    return summary


def _summary(
    context: Context, phase: int, histories: tuple[StageHistory, ...]
) -> Summary:
    """The summary of a finished phase, whose best parameters are scored."""
    stage = context.run.stages(phase)[-1]
    params = best_params(context.run, *stage)
    test = perplexity(
        context.model(stage),
        params,
        context.corpus.test,
        batch_size=context.config.test_batch_size,
    )
    if not math.isfinite(test.nats_per_token):
        raise DivergedError(f"the test loss is not finite in phase {phase}")
    raw = [loss for history in histories for loss in history.raw_losses]
    averaged = [loss for history in histories for loss in history.averaged_losses]
    return Summary(
        phase=phase,
        layers=context.phase(stage).num_layers,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        epochs=len(raw),
        raw_valid_loss=min(raw),
        averaged_valid_loss=min(averaged) if averaged else None,
        test_loss=test.nats_per_token,
        seconds=sum(history.seconds for history in histories),
    )


def say_warnings(context: Context) -> None:
    """Repeats, at the end of a run, the warnings that have lasted."""
    if not context.processes.is_first:
        return
    try:
        warnings = lasting_warnings(read_epochs(context.run))
    except UsageError as error:  # the trained parameters are unaffected
        context.progress.say(f"the warnings of earlier epochs cannot be read: {error}")
        return
    for warning in warnings:
        context.progress.say(f"warning: {warning}")
