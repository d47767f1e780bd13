"""One training step: gradient, update, and what is kept if they are not finite."""

import contextlib
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import Array

from glrnn.data.windows import Window
from glrnn.optim.clipping import group_norms
from glrnn.training.gradient import Gradient
from glrnn.training.train_state import TrainState

Metrics = dict[str, Any]


class Step(Protocol):
    """The jitted step of a stage; see `training_step`."""

    def __call__(
        self, state: TrainState, window: Window, key: Array, told: Array | None = None
    ) -> tuple[TrainState, Metrics]:
        """Takes one step. The state is donated."""
        ...

    def lower(
        self, state: TrainState, window: Window, key: Array
    ) -> jax.stages.Lowered:
        """The program for such arguments, before XLA compiles it."""
        ...


def training_step(
    gradient: Gradient,
    optimizer: optax.GradientTransformationExtraArgs,
    groups: Any,
    precision: str | None = None,
) -> Step:
    """The jitted training step.

    If any gradient is not finite, the old state is kept but for its count, and the
    metrics say so.

    Args:
        gradient: From `training_gradient`.
        optimizer: The stage's optimizer. Its `update` takes the `window_length`, and
            whether the gradient is `finite`: if not, its updates must be zero.
        groups: A prefix tree of the parameters: one gradient norm is reported for each
            leaf.
        precision: The precision of the matrix products in loss and gradient, a name
            that `jax.default_matmul_precision` takes; `None` leaves it as it is. All
            else is in float32: norms, mixing, updates, averages.

    Returns:
        `(state, window, key) -> (state, metrics)`. The state is donated; the masks are
        drawn from `fold_in(key, state.count)`. Metrics are `nll` (nats per token),
        `loss` (with the regularizers) and `norms`, a tree like `groups`. A fourth
        argument, a number for each device, comes out as `told`, the largest of them:
        so the processes of a run tell each other something.
    """

    def step(
        state: TrainState, window: Window, key: Array, told: Array | None = None
    ) -> tuple[TrainState, Metrics]:
        mask_key = jax.random.fold_in(key, state.count)
        with _matmul_precision(precision):
            (loss, (nll, carry)), grads = gradient(
                state.params, state.carry, window, mask_key
            )
        norms = group_norms(grads, groups)
        finite = jnp.isfinite(loss)
        for norm in jax.tree.leaves(norms):
            finite &= jnp.isfinite(norm)
        updates, opt_state = optimizer.update(
            grads,
            state.opt_state,
            state.params,
            window_length=window.length,
            finite=finite,
        )
        # If not finite, the updates are zero: no choice of parameters is needed below.
        params = optax.apply_updates(state.params, updates)
        opt_state, carry = jax.tree.map(
            partial(jnp.where, finite),
            (opt_state, carry),
            (state.opt_state, state.carry),
        )
        new = TrainState(params, opt_state, carry, state.count + 1)
        metrics = {"nll": nll, "loss": loss, "norms": norms}
        return new, metrics if told is None else {**metrics, "told": jnp.max(told)}

    return jax.jit(step, donate_argnums=0)


def _matmul_precision(precision: str | None) -> contextlib.AbstractContextManager[None]:
    if precision is None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)
