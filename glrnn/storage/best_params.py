"""The best parameters of a stage, restored from its checkpoints."""

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
        UsageError: There is no checkpoint yet.
    """
    params = find_best_params(run, phase, stage)
    if params is None:
        which = f"phase {phase}" + (f", {stage}," if stage else "")
        raise UsageError(f"no checkpoint of {which} in {run.folder} yet")
    return params


def find_best_params(run: Run, phase: int, stage: str | None = None) -> Params | None:
    """As `best_params`, or `None` if there is no checkpoint yet."""
    like = jax.eval_shape(phase_model(run, phase).init, jax.random.key(0))
    for name in (stage,) if stage else reversed(STAGES):
        folder = run.stage_folder(StageId(phase, name))
        with CheckpointFolder(folder, read_only=True) as checkpoints:
            if checkpoints.best is not None:
                return checkpoints.restore_best(like)[0]
    return None


def phase_model(run: Run, phase: int) -> Model:
    """The network of a phase."""
    num_layers = run.config.phases[phase - 1].num_layers
    return language_model(run.config, len(run.vocabulary), num_layers)
