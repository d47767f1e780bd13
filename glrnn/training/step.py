"""One training step."""

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from glrnn import dropout
from glrnn.data.windows import Window
from glrnn.losses import activation_regularization, temporal_activation_regularization
from glrnn.model import Carry, Model, Params
from glrnn.optim.clipping import group_norms

Metrics = dict[str, Any]


@struct.dataclass
class TrainState:
    """All that a step reads and replaces.

    Attributes:
        params: Raw parameters, never the averages.
        opt_state: Of the stage's optimizer; it holds the averages.
        carry: The layers' states, from window to window.
        count: Windows since the stage began, those that were skipped among them; the
            key of a step is made from it.
    """

    params: Params
    opt_state: optax.OptState
    carry: Carry
    count: Array


class Step(Protocol):
    """The jitted step of a stage; see `training_step`."""

    def __call__(
        self, state: TrainState, window: Window, key: Array
    ) -> tuple[TrainState, Metrics]:
        """One update. The state is donated."""
        ...

    def lower(
        self, state: TrainState, window: Window, key: Array
    ) -> jax.stages.Lowered:
        """The program for such arguments, before XLA compiles it."""
        ...


def training_step(
    model: Model,
    optimizer: optax.GradientTransformationExtraArgs,
    *,
    rates: dropout.Masks,
    groups: Any,
    activation: float,
    temporal_activation: float,
    l2_penalty: float = 0.0,
    sum_over_time: bool = False,
    num_parts: int = 1,
    mesh: Mesh | None = None,
    precision: str | None = None,
) -> Step:
    """The jitted step: loss, gradient, update.

    The loss is the mean negative log-likelihood plus AR and TAR of what the head sees.
    If any gradient is not finite the old state is kept, but for the count, and the
    metrics say so.

    A batch may be taken in equal parts, one after another, to save memory: sequences
    never meet, so the mean of the parts' gradients is the gradient of the whole batch,
    but for the masks, of which each part has its own.

    Args:
        model: The network.
        optimizer: The stage's update rule. Its `update` is told the `window_length`,
            and whether the gradient is `finite`: if not, its updates must be zero.
        rates: Dropout rates.
        groups: Prefix of the parameters: one gradient norm is reported for each leaf.
        activation: alpha, weight of AR.
        temporal_activation: beta, weight of TAR.
        l2_penalty: Of the loss, times half the squared norm of all parameters. What it
            adds to the gradient is clipped with it, unlike a decay of weights.
        sum_over_time: Whether the loss, the penalty aside, is multiplied by the
            window's length.
        num_parts: Of the batch; it must divide B.
        mesh: Devices that share the batch equally, its axes `AxisType.Auto`; each has
            all parameters. They exchange gradients once an update, and the result is
            that of one device.
        precision: Of the matrix products in loss and gradient, a name that
            `jax.default_matmul_precision` takes, which is asked for `None`. All else is
            in float32: norms, mixing, updates, averages.

    Returns:
        `(state, window, key) -> (state, metrics)`. The state is donated; the masks are
        drawn from `fold_in(key, state.count)`. Metrics are `nll` (nats per token),
        `loss` (with the regularisers) and `norms`, as `groups`.
    """

    def loss(params: Params, carry: Carry, window: Window, masks: dropout.Masks):
        outcome = model.apply(params, carry, window, masks)
        length = jnp.asarray(window.length)
        total = (
            outcome.nll
            + activation * activation_regularization(outcome.dropped, length)
            + temporal_activation
            * temporal_activation_regularization(outcome.outputs, length)
        )
        if sum_over_time:
            total *= length.astype(total.dtype)
        if l2_penalty:
            squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
            total += l2_penalty / 2 * squares
        return total, (outcome.nll, outcome.carry)

    def gradient(params: Params, carry: Carry, window: Window, mask_key: Array):
        num_steps, batch_size = window.inputs.shape
        if mesh is None:
            shapes = model.mask_shapes(batch_size, num_steps)
            masks = dropout.draw_masks(mask_key, rates, shapes)
        else:
            shapes = model.mask_shapes(batch_size * mesh.size, num_steps)
            masks = dropout.draw_masks(mask_key, rates, shapes)
            masks = dropout.shard_masks(
                masks, lax.axis_index(mesh.axis_names), mesh.size
            )
        return jax.value_and_grad(loss, has_aux=True)(params, carry, window, masks)

    if num_parts > 1:
        gradient = _in_parts(gradient, num_parts)
    if mesh is not None:
        gradient = _on_devices(gradient, mesh)

    def step(
        state: TrainState, window: Window, key: Array
    ) -> tuple[TrainState, Metrics]:
        mask_key = jax.random.fold_in(key, state.count)
        with _matmul_precision(precision):
            (total, (nll, carry)), grads = gradient(
                state.params, state.carry, window, mask_key
            )
        norms = group_norms(grads, groups)
        finite = jnp.isfinite(total)
        for norm in jax.tree.leaves(norms):
            finite &= jnp.isfinite(norm)
        updates, opt_state = optimizer.update(
            grads,
            state.opt_state,
            state.params,
            window_length=window.length,
            finite=finite,
        )
        params = optax.apply_updates(state.params, updates)
        opt_state, carry = jax.tree.map(
            partial(jnp.where, finite),
            (opt_state, carry),
            (state.opt_state, state.carry),
        )
        new = TrainState(params, opt_state, carry, state.count + 1)
        return new, {"nll": nll, "loss": total, "norms": norms}

    return jax.jit(step, donate_argnums=0)


def place(state: TrainState, mesh: Mesh | None) -> TrainState:
    """The state where a step on these devices wants it; without a mesh as it is.

    Each device has all of it but for the carry, of which it has its own sequences.

    Example:
        >>> carry = (jnp.zeros((2, 3)),)
        >>> state = TrainState(jnp.ones(4), (), carry, jnp.zeros((), int))
        >>> mesh = jax.make_mesh((1,), ("batch",), (jax.sharding.AxisType.Auto,))
        >>> place(state, mesh).carry[0].sharding.mesh == mesh
        True
    """
    if mesh is None:
        return state
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    same = NamedSharding(mesh, PartitionSpec())
    shardings: list[Any] = [same, same, rows, same]
    return jax.device_put(state, TrainState(*shardings))


def _matmul_precision(precision: str | None) -> contextlib.AbstractContextManager[None]:
    if precision is None:
        return contextlib.nullcontext()
    return jax.default_matmul_precision(precision)


def _on_devices(gradient: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """The same function of a whole batch, each device computing its own columns.

    Not left to the partitioner of XLA, which would add up the devices' gradients of the
    head after every few tokens.
    """
    axes = mesh.axis_names
    rows, same = PartitionSpec(axes), PartitionSpec()
    specs: list[Any] = [PartitionSpec(None, axes), PartitionSpec(None, axes), same]

    def local(params: Params, carry: Carry, window: Window, mask_key: Array):
        (total, (nll, carry)), grads = gradient(params, carry, window, mask_key)
        total, nll, grads = lax.pmean((total, nll, grads), axes)
        return (total, (nll, carry)), grads

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(same, rows, Window(*specs), same),
        out_specs=((same, (same, rows)), same),
        check_vma=False,
    )


def _in_parts(gradient: Callable[..., Any], num_parts: int) -> Callable[..., Any]:
    """The same function of a whole batch, computed a part of the columns at a time.

    Part i has every `num_parts`-th column from the i-th on, so that a batch sharded
    over devices keeps all of them at work.
    """

    def split(x: Array, axis: int) -> Array:
        batch_size = x.shape[axis]
        shape = (*x.shape[:axis], batch_size // num_parts, num_parts)
        return jnp.moveaxis(x.reshape(*shape, *x.shape[axis + 1 :]), axis + 1, 0)

    def join(x: Array) -> Array:
        return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])

    def whole(params: Params, carry: Carry, window: Window, mask_key: Array):
        def add(sums: Any, part: Any):
            carry, inputs, targets, part_key = part
            (total, (nll, carry)), grads = gradient(
                params, carry, Window(inputs, targets, window.length), part_key
            )
            return jax.tree.map(jnp.add, sums, (total, nll, grads)), carry

        parts = (
            jax.tree.map(lambda state: split(state, 0), carry),
            split(jnp.asarray(window.inputs), 1),
            split(jnp.asarray(window.targets), 1),
            jax.random.split(mask_key, num_parts),
        )
        zero = jnp.zeros(())
        zeros = (zero, zero, jax.tree.map(jnp.zeros_like, params))
        sums, carries = lax.scan(add, zeros, parts)
        total, nll, grads = jax.tree.map(lambda x: x / num_parts, sums)
        return (total, (nll, jax.tree.map(join, carries))), grads

    return whole
