"""Gradual learning: the parameters that a stage starts from.

What crosses from one phase to the next is the best parameters and nothing else
(Aharoni, Rattner and Permuter 2017, section 4.2).
"""

import jax

from glrnn.model import Params, grow
from glrnn.storage.best_params import best_params
from glrnn.storage.run_folder import STAGES, StageId
from glrnn.training.context import Context


def starting_params(context: Context, stage: StageId) -> Params:
    """The parameters that a stage starts from.

    Finetuning starts from the best of the main stage; a phase from the best of the one
    before, grown by random layers; the first phase from a random network.

    Args:
        context: The run, on whose disk the stages before this one are finished.
        stage: The stage.

    Raises:
        UsageError: A stage before this one has no checkpoint.
    """
    run = context.run
    if stage.name != STAGES[0]:
        return best_params(run, stage.phase, STAGES[0])
    init_key = jax.random.fold_in(context.phase_key(stage), len(STAGES))
    fresh = context.model(stage).init(init_key)
    if stage.phase == 1:
        return fresh
    before = best_params(run, *run.stages(stage.phase - 1)[-1])
    return grow(before, fresh, context.config.inherit_head)
