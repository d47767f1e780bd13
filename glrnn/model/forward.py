"""The forward pass: what a network makes of a window.

x_0 = drop(D[w]);  x_l, s_l = unroll(cell_l, drop(theta_l), s_l, x_{l-1}), dropped;
nll = head(x_L, D).
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from glrnn.cells import Cell, unroll
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.ground.arrays import in_float32
from glrnn.ground.dropout import LayerMasks, Masks, drop
from glrnn.ground.losses import token_weights
from glrnn.heads import Head
from glrnn.heads.scatter import add_rows
from glrnn.model.checks import check
from glrnn.model.network import Network, parts_of
from glrnn.model.params import Carry, Params, Tree

Found = TypeVar("Found")


class Outcome(NamedTuple):
    """The model's result for a window.

    Attributes:
        nll: The mean negative log-likelihood of the true tokens, nats per token.
        carry: The layers' states after the last true step.
        outputs: The raw outputs of the last layer, or the sum of all layers' outputs,
            `[T, B, H]`.
        dropped: These outputs after their dropout: the head's input.
    """

    nll: Array
    carry: Carry
    outputs: Array
    dropped: Array


class _Read(NamedTuple):
    """What the layers make of a window.

    Attributes:
        carry: The layers' states after the last true step.
        outputs: The raw outputs, `[T, B, H]`.
        dropped: These after their dropout.
        output_layer: The head's first arguments: its parameters, the table, the bias
            and the outputs to predict from.
        latent_mask: The dropout mask on the head's latent vectors, or `None`.
    """

    carry: Carry
    outputs: Array
    dropped: Array
    output_layer: tuple[Tree, Array, Array, Array]
    latent_mask: Array | None


def reading(
    network: Network, finish: Callable[[Head, _Read, Window], Found]
) -> Callable[..., Found]:
    """A function of a model: it reads a window, and `finish` makes something of it.

    Args:
        network: The network.
        finish: `(head, what the layers have made of the window, window) -> result`.

    Returns:
        `(params, carry, window, masks=None, temperature=None) -> result`.
    """

    def apply(
        params: Params,
        carry: Carry,
        window: Window,
        masks: Masks | None = None,
        temperature: float | None = None,
    ) -> Found:
        read = _read(network, params, carry, window, masks, temperature)
        return finish(parts_of(network).head, read, window)

    return apply


def loss(head: Head, read: _Read, window: Window) -> Outcome:
    """The mean loss of the window's true tokens."""
    num_steps, batch_size = window.targets.shape
    if jnp.ndim(window.length):
        raise UsageError(
            f"the window's length has the shape {jnp.shape(window.length)}; for the "
            f"loss it must be one integer for all sequences"
        )
    weights = token_weights(num_steps, batch_size, jnp.asarray(window.length))
    nll = head.nll(*read.output_layer, window.targets, weights, read.latent_mask)
    return Outcome(nll, read.carry, read.outputs, read.dropped)


def log_likelihoods(head: Head, read: _Read, window: Window) -> tuple[Array, Carry]:
    """The log-probability of each target, and the carry."""
    found = head.log_likelihoods(*read.output_layer, window.targets, read.latent_mask)
    return found, read.carry


def log_probs(head: Head, read: _Read, window: Window) -> tuple[Array, Carry]:
    """The log-probabilities of all words, and the carry."""
    del window
    return head.log_probs(*read.output_layer, read.latent_mask), read.carry


def _read(
    network: Network,
    params: Params,
    carry: Carry,
    window: Window,
    masks: Masks | None,
    temperature: float | None,
) -> _Read:
    check(network, params, carry, window, masks, temperature)
    if masks is None:
        masks = Masks(layers=(LayerMasks(),) * len(network.layers))
    params = in_float32(params)
    length = jnp.asarray(window.length)
    x, table = _look_up(params.embedding.table, window.inputs)
    bias = params.embedding.bias
    if masks.embedding is not None:
        words = jnp.asarray(masks.embedding)
        # One column for all sequences, or a column each.
        column = jnp.arange(window.inputs.shape[1]) % words.shape[1]
        x = x * words[window.inputs, column[None]][..., None]
    if masks.carry is not None:
        carry = jax.tree.map(partial(_forget, masks.carry), carry)
    cells, x = parts_of(network).cells, drop(x, masks.input)
    states, outputs, dropped = _stack(
        cells, params.layers, carry, x, masks.layers, length
    )
    if network.sum_outputs:
        summed = reduce(jnp.add, outputs)
        dropped = drop(summed, masks.layers[-1].output)
        outputs = [summed]
    own = params.head
    if temperature is not None:
        table, bias = table / temperature, bias / temperature
        own = parts_of(network).head.tempered(own, temperature)
    return _Read(
        tuple(states),
        outputs[-1],
        dropped,
        (own, table, bias, dropped),
        masks.latent,
    )


def _stack(
    cells: Sequence[Cell],
    layers: Sequence[Tree],
    carry: Carry,
    x: Array,
    masks: Sequence[LayerMasks],
    length: Array,
) -> tuple[list[Tree], list[Array], Array]:
    """Each layer's last state, each layer's raw outputs, and the last ones dropped."""
    states, outputs = [], []
    for cell, layer, state, mask in zip(cells, layers, carry, masks, strict=True):
        in_force = layer.replace(recurrent=drop(layer.recurrent, mask.recurrent))
        if mask.state is not None:
            in_force = in_force.replace(mask=mask.state)
        state, raw = unroll(cell, in_force, state, x, length)
        states.append(state)
        outputs.append(raw)
        x = drop(raw, mask.output)
    return states, outputs, x


def _forget(mask: Array, state: Array) -> Array:
    return jnp.where(mask > 0, state, jnp.zeros_like(state))


@jax.custom_vjp
def _look_up(table: Array, ids: Array) -> tuple[Array, Array]:
    """The rows of some ids, and the table itself for the output distribution.

    The backward pass adds the rows' gradients into the table's. Plain indexing would
    make a second table, of zeros but for these rows, and add the two.
    """
    return table[ids], table


def _look_up_backward(ids, cotangents):
    rows, table = cotangents
    return add_rows(table, ids.ravel(), rows.reshape(-1, table.shape[1])), None


_look_up.defvjp(lambda table, ids: (_look_up(table, ids), ids), _look_up_backward)
