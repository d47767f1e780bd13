"""The training loss of a window, and its gradient over microbatches and devices."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from glrnn.data.windows import Window
from glrnn.ground.dropout import Masks, draw_masks, shard_masks
from glrnn.ground.losses import (
    activation_regularization,
    temporal_activation_regularization,
)
from glrnn.model import Carry, Model, Params


class Regularizers(NamedTuple):
    """The weights of what is added to the negative log-likelihood.

    Attributes:
        activation: alpha, the weight of AR.
        temporal_activation: beta, the weight of TAR.
        l2_penalty: The weight of half the squared norm of all parameters. Its gradient
            is clipped with the rest, unlike a decay of weights.
        sum_over_time: Whether the loss, the penalty aside, is multiplied by the
            window's length.
    """

    activation: float = 0.0
    temporal_activation: float = 0.0
    l2_penalty: float = 0.0
    sum_over_time: bool = False


class Gradient(Protocol):
    """`(loss, (nll, carry))` and the gradient of a window's loss."""

    def __call__(
        self, params: Params, carry: Carry, window: Window, mask_key: Array
    ) -> tuple[tuple[Array, tuple[Array, Carry]], Params]:
        """Draws the masks from `mask_key`."""
        ...


def training_loss(
    model: Model,
    regularizers: Regularizers,
    params: Params,
    carry: Carry,
    window: Window,
    masks: Masks,
) -> tuple[Array, tuple[Array, Carry]]:
    """nll + alpha AR(dropped outputs) + beta TAR(raw outputs); also nll and the carry.

    Args:
        model: The network.
        regularizers: The weights alpha and beta, and the rest.
        params: The raw parameters.
        carry: The layers' states before the window.
        window: The tokens.
        masks: The dropout masks.

    Returns:
        The loss, a scalar; `nll`, nats per token; and the carry after the window.

    Source:
        Merity, McCann and Socher (2017), "Revisiting activation regularization for
        language RNNs".
    """
    outcome = model.apply(params, carry, window, masks)
    length = jnp.asarray(window.length)
    ar = activation_regularization(outcome.dropped, length)
    tar = temporal_activation_regularization(outcome.outputs, length)
    loss = (
        outcome.nll
        + regularizers.activation * ar
        + regularizers.temporal_activation * tar
    )
    if regularizers.sum_over_time:
        loss *= length.astype(loss.dtype)
    if regularizers.l2_penalty:
        squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
        loss += regularizers.l2_penalty / 2 * squares
    return loss, (outcome.nll, outcome.carry)


def training_gradient(
    model: Model,
    rates: Masks,
    regularizers: Regularizers,
    num_microbatches: int = 1,
    mesh: Mesh | None = None,
) -> Gradient:
    """The gradient of the training loss, with masks drawn anew.

    Args:
        model: The network.
        rates: The dropout rates.
        regularizers: The weights of the loss's other terms.
        num_microbatches: The number of microbatches that the gradient is accumulated
            over; it must divide B. Sequences are independent, so the mean of the
            microbatches' gradients is that of the batch, except that each microbatch
            draws its own masks.
        mesh: The devices that share each microbatch equally, its axes `AxisType.Auto`.
            They exchange gradients once, and the result is that of one device.
    """

    def gradient(params: Params, carry: Carry, window: Window, mask_key: Array):
        num_steps, batch_size = window.inputs.shape
        count = 1 if mesh is None else mesh.size
        shapes = model.mask_shapes(batch_size * count, num_steps)
        masks = draw_masks(mask_key, rates, shapes)
        if mesh is not None:
            masks = shard_masks(masks, lax.axis_index(mesh.axis_names), count)

        def loss(params: Params):
            return training_loss(model, regularizers, params, carry, window, masks)

        return jax.value_and_grad(loss, has_aux=True)(params)

    if num_microbatches > 1:
        gradient = _accumulated(gradient, num_microbatches)
    return gradient if mesh is None else _on_devices(gradient, mesh)


def _on_devices(gradient: Gradient, mesh: Mesh) -> Gradient:
    """The gradient of a whole batch, each device computing that of its own columns.

    XLA's partitioner, left to itself, would add up the devices' gradients of the head
    after every few tokens.
    """
    axes = mesh.axis_names
    sharded, replicated = PartitionSpec(axes), PartitionSpec()
    columns: Any = PartitionSpec(None, axes)
    length: Any = replicated

    def local(params: Params, carry: Carry, window: Window, mask_key: Array):
        (loss, (nll, carry)), grads = gradient(params, carry, window, mask_key)
        loss, nll, grads = lax.pmean((loss, nll, grads), axes)
        return (loss, (nll, carry)), grads

    return jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(replicated, sharded, Window(columns, columns, length), replicated),
        out_specs=((replicated, (replicated, sharded)), replicated),
        check_vma=False,
    )


def _accumulated(gradient: Gradient, count: int) -> Gradient:
    """The gradient of a whole batch, accumulated over microbatches.

    Microbatch i has every `count`-th column from the i-th on, so that a batch sharded
    over devices keeps all of them at work.
    """

    def split(x: Array, axis: int) -> Array:
        batch_size = x.shape[axis]
        shape = (*x.shape[:axis], batch_size // count, count)
        return jnp.moveaxis(x.reshape(*shape, *x.shape[axis + 1 :]), axis + 1, 0)

    def join(x: Array) -> Array:
        return jnp.moveaxis(x, 0, 1).reshape(-1, *x.shape[2:])

    def whole(params: Params, carry: Carry, window: Window, mask_key: Array):
        def add(sums: Any, microbatch: Any):
            carry, inputs, targets, key = microbatch
            (loss, (nll, carry)), grads = gradient(
                params, carry, Window(inputs, targets, window.length), key
            )
            return jax.tree.map(jnp.add, sums, (loss, nll, grads)), carry

        microbatches = (
            jax.tree.map(lambda state: split(state, 0), carry),
            split(jnp.asarray(window.inputs), 1),
            split(jnp.asarray(window.targets), 1),
            jax.random.split(mask_key, count),
        )
        zero = jnp.zeros(())
        zeros = (zero, zero, jax.tree.map(jnp.zeros_like, params))
        sums, carries = lax.scan(add, zeros, microbatches)
        loss, nll, grads = jax.tree.map(lambda x: x / count, sums)
        return (loss, (nll, jax.tree.map(join, carries))), grads

    return whole
