"""What a stage starts from: its update rule, its compiled step and its first state."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from glrnn.config import Config, Dropout, Stage
from glrnn.model import Params, dropout_rates, language_model
from glrnn.optim import averaging
from glrnn.training.context import Job
from glrnn.training.optimizer import clip_limits, stage_optimizer
from glrnn.training.step import Step, TrainState, training_step


def begin(job: Job, params: Params) -> tuple[TrainState, Step]:
    """The state that a stage starts from, and its step."""
    optimizer, step = update_rule(job)
    return first_state(job, optimizer, params), step


def first_state(
    job: Job, optimizer: optax.GradientTransformationExtraArgs, params: Params
) -> TrainState:
    """What a stage starts from: averaging from the first update if it finetunes."""
    opt_state = optimizer.init(params)
    if job.stage_name == "finetune":
        opt_state = averaging.start_averaging(opt_state)
    return TrainState(
        # Copied, for the step takes its state's buffers over.
        params=jax.tree.map(jnp.copy, params),
        opt_state=opt_state,
        carry=job.model.initial_carry(job.config.batch_size),
        count=jnp.zeros((), jnp.int32),
    )


def update_rule(job: Job) -> tuple[optax.GradientTransformationExtraArgs, Step]:
    """The optimizer of a stage, and the step that has it."""
    return _update_rule(
        replace(job.config, seed=0),  # the key is an argument of the step
        len(job.corpus.vocabulary),
        job.phase.num_layers,
        job.phase.dropout,
        # Whatever else a stage says does not enter the program: both stages of a phase
        # often share it.
        Stage(learning_rate=job.stage.learning_rate, max_norms=job.stage.max_norms),
        job.mesh,
        job.precision,
    )


@cache
def _update_rule(
    config: Config,
    vocabulary_size: int,
    num_layers: int,
    dropout: Dropout,
    stage: Stage,
    mesh: Mesh | None,
    precision: str | None,
) -> tuple[optax.GradientTransformationExtraArgs, Step]:
    optimizer = stage_optimizer(config, stage, num_layers)
    step = training_step(
        language_model(config, vocabulary_size, num_layers),
        optimizer,
        rates=dropout_rates(dropout),
        groups=clip_limits(stage.max_norms, num_layers),
        activation=config.activation_regularization,
        temporal_activation=config.temporal_activation_regularization,
        l2_penalty=config.l2_penalty,
        sum_over_time=config.sum_over_time,
        num_parts=config.num_parts,
        mesh=mesh,
        precision=precision,
    )
    return optimizer, step


def params_like(job: Job) -> Params:
    """Shapes of the parameters of a phase."""
    return jax.eval_shape(job.model.init, job.phase_key)
