"""One training step."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array

from glrnn import noise
from glrnn.clipping import group_norms
from glrnn.losses import activation_regularization, temporal_activation_regularization
from glrnn.model import Carry, Model, Params
from glrnn.windows import Window

Metrics = dict[str, Any]


@struct.dataclass
class TrainState:
    """All that a step reads and replaces.

    Attributes:
        params: Raw parameters, never the averages.
        opt_state: Of the stage's optimizer; it holds the averages.
        carry: The layers' states, from window to window.
        count: Updates since the stage began; the key of a step is made from it.
    """

    params: Params
    opt_state: optax.OptState
    carry: Carry
    count: Array


Step = Callable[[TrainState, Window, Array], tuple[TrainState, Metrics]]


def training_step(
    model: Model,
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    rates: noise.Noise,
    groups: Any,
    activation: float,
    temporal_activation: float,
) -> Step:
    """The jitted step: loss, gradient, update.

    The loss is the mean negative log-likelihood plus AR and TAR of the last layer. If
    any gradient is not finite the old state is kept, and the metrics say so.

    Args:
        model: The network.
        optimizer: The stage's update rule.
        rates: Dropout rates.
        groups: Prefix of the parameters: one gradient norm is reported for each leaf.
        activation: alpha, weight of AR.
        temporal_activation: beta, weight of TAR.

    Returns:
        `(state, window, key) -> (state, metrics)`. The state is donated; the masks are
        drawn from `fold_in(key, state.count)`. Metrics are `nll` (nats per token),
        `loss` (with the regularisers) and `norms`, as `groups`.
    """

    def loss(params: Params, carry: Carry, window: Window, masks: noise.Noise):
        outcome = model.apply(params, carry, window, masks)
        length = jnp.asarray(window.length)
        total = (
            outcome.nll
            + activation * activation_regularization(outcome.dropped, length)
            + temporal_activation
            * temporal_activation_regularization(outcome.outputs, length)
        )
        return total, (outcome.nll, outcome.carry)

    def step(
        state: TrainState, window: Window, key: Array
    ) -> tuple[TrainState, Metrics]:
        shapes = model.noise_shapes(window.inputs.shape[1])
        masks = noise.sample(jax.random.fold_in(key, state.count), rates, shapes)
        (total, (nll, carry)), grads = jax.value_and_grad(loss, has_aux=True)(
            state.params, state.carry, window, masks
        )
        norms = group_norms(grads, groups)
        updates, opt_state = optimizer.update(
            grads, state.opt_state, state.params, window_length=window.length
        )
        params = optax.apply_updates(state.params, updates)
        new = TrainState(params, opt_state, carry, state.count + 1)
        finite = jnp.isfinite(total)
        for norm in jax.tree.leaves(norms):
            finite &= jnp.isfinite(norm)
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        return new, {"nll": nll, "loss": total, "norms": norms}

    return jax.jit(step, donate_argnums=0)
