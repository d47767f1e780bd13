"""Gradual learning: train a phase, finetune it, keep the best, grow, repeat.

What crosses from one phase to the next is the best parameters and nothing else
(Aharoni, Rattner and Permuter 2017, section 4.2).
"""

import os
from collections.abc import Sequence
from functools import partial

import jax

from glrnn.errors import UsageError
from glrnn.evaluation.perplexity import perplexity
from glrnn.losses import to_perplexity
from glrnn.model import Params, grow
from glrnn.storage.best_params import best_params
from glrnn.storage.metrics_log import lasting_warnings, read_epochs
from glrnn.storage.run_folder import STAGES, Run, Summary
from glrnn.training import device_check
from glrnn.training.context import Job
from glrnn.training.stages import Outcome, train_stage


def train(job: Job) -> list[Summary]:
    """Trains every phase of a run that is not yet finished.

    Args:
        job: Which run, on what, and how; phase and stage are chosen here.

    Returns:
        One summary a phase.

    Raises:
        DeviceError: if the device computes something else than the CPU.
        DivergedError: if a loss or gradient is not finite.
        StoppedError: if the run was told to stop; everything is saved.
    """
    run = job.run
    summaries: list[Summary] = []
    for number in range(1, len(run.config.phases) + 1):
        summary = run.read_summary(number)
        if summary is None or _has_lost_its_end(run, number):
            _check_order(run, number)
            offset = summaries[-1].metrics_offset if summaries else 0
            summary = _train_phase(job._replace(number=number), offset)
            run.write_summary(summary)
            job.stop_if_told(f"phase {number} is finished")
        summaries.append(summary)
    return summaries


def _last_stage(run: Run, number: int) -> str:
    phase = run.config.phases[number - 1]
    return next(name for name in reversed(STAGES) if getattr(phase, name).epochs)


def _has_lost_its_end(run: Run, number: int) -> bool:
    """Whether a phase's last stage is gone, and nothing was built on it yet."""
    later = range(number + 1, len(run.config.phases) + 1)
    return not os.path.lexists(
        run.stage_folder(number, _last_stage(run, number))
    ) and not any(os.path.lexists(run.folder / f"phase_{phase}") for phase in later)


def _check_order(run: Run, number: int) -> None:
    """Refuses to train a phase anew under those that were built on it."""
    later = range(number + 1, len(run.config.phases) + 1)
    if not os.path.lexists(run.stage_folder(number, STAGES[0])):
        for phase in later:
            if os.path.lexists(run.stage_folder(phase, STAGES[0])):
                raise UsageError(
                    f"{run.folder} has a phase {phase} but no phase {number}, which "
                    f"it was built on; choose another --workdir"
                )


def _train_phase(job: Job, offset: int) -> Summary:
    names = [name for name in STAGES if getattr(job.phase, name).epochs]
    device_check.require(job, names)
    params, histories, offset = _train_stages(job, names, offset)
    test = perplexity(
        job.model, params, job.corpus.test, batch_size=job.config.test_batch_size
    )
    raw = [loss for history in histories for loss in history["raw_losses"]]
    averaged = [loss for history in histories for loss in history["averaged_losses"]]
    return Summary(
        phase=job.number,
        layers=job.phase.num_layers,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(params)),
        epochs=len(raw),
        raw_valid_loss=min(raw),
        averaged_valid_loss=min(averaged) if averaged else None,
        test_loss=test.nats_per_token,
        seconds=sum(history["seconds"] for history in histories),
        metrics_offset=offset,
    )


def _train_stages(job: Job, names: Sequence[str], offset: int) -> Outcome:
    """Trains these stages of a phase, those before the last only if it needs them."""
    if not names:
        return Outcome(first_params(job), [], offset)
    *earlier, name = names
    before = partial(_train_stages, job, earlier, offset)
    return train_stage(job._replace(stage_name=name), before)


def first_params(job: Job) -> Params:
    """Random, but for what the phase before has learned."""
    fresh = job.model.init(jax.random.fold_in(job.phase_key, len(STAGES)))
    if job.number == 1:
        return fresh
    before = best_params(job.run, job.number - 1, _last_stage(job.run, job.number - 1))
    return grow(before, fresh, job.config.inherit_head)


def say_warnings(job: Job) -> None:
    """Repeats, at the end of a run, the warnings that have lasted."""
    try:
        warnings = lasting_warnings(read_epochs(job.run))
    except UsageError as error:  # what has been trained is none the worse
        job.progress.say(f"the warnings of earlier epochs cannot be read: {error}")
        return
    for warning in warnings:
        job.progress.say(f"warning: {warning}")


def row(summary: Summary) -> dict[str, object]:
    """A phase's summary as a person reads it; perplexities, the time as m:ss."""
    minutes, seconds = divmod(round(summary.seconds), 60)
    averaged = summary.averaged_valid_loss
    return {
        "phase": summary.phase,
        "layers": summary.layers,
        "parameters": summary.parameters,
        "epochs": summary.epochs,
        "valid, raw": to_perplexity(summary.raw_valid_loss),
        "valid, averaged": None if averaged is None else to_perplexity(averaged),
        "test": to_perplexity(summary.test_loss),
        "time": f"{minutes}:{seconds:02}",
    }
