"""The compiled step of a stage, cached under all that its program depends on.

Seeds, numbers of epochs, learning rates and largest norms are data, so that all stages
of a phase, all seeds and all trials of a study share programs.
"""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from glrnn.config import Config, Dropout
from glrnn.model import Model, Params, dropout_rates
from glrnn.optim.averaging import start_averaging
from glrnn.storage.run_folder import StageId
from glrnn.training.context import Context
from glrnn.training.gradient import Regularizers, training_gradient
from glrnn.training.optimizer import clip_limits, set_hyperparams, training_optimizer
from glrnn.training.step import Step, training_step
from glrnn.training.train_state import TrainState


class Program(NamedTuple):
    """The optimizer of a stage, and the jitted step that applies its updates."""

    optimizer: optax.GradientTransformationExtraArgs
    step: Step


class Recipe(NamedTuple):
    """The settings of a `Config` that a step's program depends on, beside the network.

    Attributes are those of the config.
    """

    optimizer: str
    weight_decay: float
    l2_penalty: float
    sum_over_time: bool
    window_length: int
    activation_regularization: float
    temporal_activation_regularization: float
    num_microbatches: int

    @classmethod
    def of(cls, config: Config) -> "Recipe":
        """The recipe of a config."""
        return cls(*(getattr(config, name) for name in cls._fields))


def program(context: Context, stage: StageId) -> Program:
    """The program of a stage: the same one for all stages that can share it."""
    phase, execution = context.phase(stage), context.execution
    return build_program(
        context.model(stage),
        Recipe.of(context.config),
        phase.num_layers,
        len(context.stage(stage).max_norms),
        phase.dropout,
        execution.mesh,
        execution.precision,
    )


@lru_cache(maxsize=16)
def build_program(
    model: Model,
    recipe: Recipe,
    num_layers: int,
    num_groups: int,
    dropout: Dropout,
    mesh: Mesh | None = None,
    precision: str | None = None,
) -> Program:
    """Builds a program.

    Args:
        model: The network.
        recipe: The settings of the optimizer and the loss.
        num_layers: L.
        num_groups: The number of groups with a largest norm of their own.
        dropout: The dropout rates.
        mesh: The devices that share a batch; `None` for one device.
        precision: The precision of matrix products, as `training_step` takes it.
    """
    optimizer = training_optimizer(
        num_layers,
        num_groups,
        rule=recipe.optimizer,
        weight_decay=recipe.weight_decay,
        usual_length=None if recipe.sum_over_time else recipe.window_length,
    )
    gradient = training_gradient(
        model,
        dropout_rates(dropout),
        Regularizers(
            recipe.activation_regularization,
            recipe.temporal_activation_regularization,
            recipe.l2_penalty,
            recipe.sum_over_time,
        ),
        recipe.num_microbatches,
        mesh,
    )
    groups = clip_limits((0.0,) * num_groups, num_layers)  # the structure counts
    return Program(optimizer, training_step(gradient, optimizer, groups, precision))


def first_state(context: Context, stage: StageId, params: Params) -> TrainState:
    """The state that a stage starts from; finetuning averages from the first update.

    Args:
        context: The run.
        stage: The stage.
        params: The parameters to start from, which are copied: the step takes over the
            buffers of its state.
    """
    settings = context.stage(stage)
    opt_state = set_hyperparams(
        program(context, stage).optimizer.init(params),
        settings.learning_rate,
        settings.max_norms,
    )
    if stage.name == "finetune":
        opt_state = start_averaging(opt_state)
    return TrainState(
        params=jax.tree.map(jnp.copy, params),
        opt_state=opt_state,
        carry=context.model(stage).initial_carry(context.config.batch_size),
        count=jnp.zeros((), jnp.int32),
    )


def params_like(context: Context, stage: StageId) -> Params:
    """The shapes of the parameters of a stage."""
    return jax.eval_shape(context.model(stage).init, context.phase_key(stage))


def state_like(context: Context, stage: StageId) -> TrainState:
    """The shapes of the state of a stage."""
    first = partial(first_state, context, stage)
    return jax.eval_shape(first, params_like(context, stage))
