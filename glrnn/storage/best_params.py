"""The best parameters of a stage, restored from its checkpoints."""

import math
import os
from functools import partial
from typing import Any

import jax

from glrnn.errors import UsageError
from glrnn.model import Model, Params, language_model
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.storage.run_folder import STAGES, Run, StageId


def best_params(run: Run, phase: int, stage: str | None = None) -> Params:
    """The best parameters of a stage.

    Args:
        run: The run.
        phase: The number of its phase, from 1.
        stage: Its name; the last stage that has any checkpoint if not given.

    Raises:
        UsageError: There is no checkpoint yet, or that of a finished stage is missing.
    """
    return newest_params(run, phase, stage)[1]


def newest_params(
    run: Run, phase: int | None = None, stage: str | None = None
) -> tuple[StageId, Params]:
    """The deepest stage that has a checkpoint, and its best parameters.

    Args:
        run: The run.
        phase: The number of the phase to look at, from 1; all if not given.
        stage: The name of the stage to look at; both if not given.

    Raises:
        UsageError: There is no such phase or stage, or no checkpoint yet; or a phase is
            finished, and the checkpoint of its last stage is missing.
    """
    count = len(run.config.phases)
    if stage is not None and stage not in STAGES:
        raise UsageError(f"unknown stage {stage!r}; choose from: {', '.join(STAGES)}")
    if phase is not None and not (type(phase) is int and 1 <= phase <= count):
        told = f"there is no phase {phase!r} in {run.folder}"
        raise UsageError(f"{told}: it has {count}, numbered from 1")
    for number in (phase,) if phase else range(count, 0, -1):
        for name in (stage,) if stage else reversed(STAGES):
            params = _restored(run, StageId(number, name))
            if params is not None:
                return StageId(number, name), params
            if stage is None and _is_missing(run, StageId(number, name)):
                raise UsageError(
                    f"phase {number} of {run.folder} is finished, but its {name} stage "
                    f"has no checkpoint any more; name the --phase or --stage to use"
                )
    if phase is None:
        raise UsageError(f"no checkpoint in {run.folder} yet")
    which = f"phase {phase}" + (f", {stage}," if stage else "")
    raise UsageError(f"no checkpoint of {which} in {run.folder} yet")


def _is_missing(run: Run, stage: StageId) -> bool:
    """Whether a stage that is over has no checkpoint; called where it has none."""
    return stage in run.stages(stage.phase) and (
        run.read_summary(stage.phase) is not None
    )


def _restored(run: Run, stage: StageId) -> Params | None:
    """The best parameters of a stage, or `None` if there is no checkpoint yet."""
    folder = run.stage_folder(stage)
    for part in (folder.parent, folder):
        if part.is_symlink():
            raise UsageError(f"{part} is a symbolic link; a run has none inside")
    largest = largest_checkpoint(run, stage.phase)
    with CheckpointFolder(folder, read_only=True, largest=largest) as checkpoints:
        if checkpoints.best is None:
            return None
        init = phase_model(run, stage.phase).init
        return checkpoints.restore_best(jax.eval_shape(init, jax.random.key(0)))[0]


def phase_model(run: Run, phase: int) -> Model:
    """The network of a phase."""
    num_layers = run.config.phases[phase - 1].num_layers
    return language_model(run.config, len(run.vocabulary), num_layers)


def largest_checkpoint(run: Run, phase: int) -> int:
    """A bound on the size of a phase's checkpoints, in bytes.

    A checkpoint has the parameters, raw, averaged and validated, the optimizer's
    statistics and the carry; the bound is twice as much and more.

    Raises:
        UsageError: The parameters do not fit into this machine's memory.
    """
    model = phase_model(run, phase)
    carry = partial(model.initial_carry, run.config.batch_size)
    params = _num_bytes(jax.eval_shape(model.init, jax.random.key(0)))
    memory = _memory()
    if params > memory:
        raise UsageError(
            f"the network of phase {phase} of {run.folder} has {params / 2**30:,.0f} "
            f"GiB of parameters; this machine has {memory / 2**30:,.0f} GiB of memory"
        )
    return 8 * params + 2 * _num_bytes(jax.eval_shape(carry)) + 2**26


def _num_bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _memory() -> float:
    """The memory of this machine, in bytes; infinite if the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf
