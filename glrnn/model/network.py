"""A network: its settings, what it is made of, and the shapes of its arrays."""

from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from glrnn.cells import CELLS, Cell
from glrnn.config import Dropout, Layer
from glrnn.ground.dropout import LayerMasks, Masks
from glrnn.heads import Head, make_head
from glrnn.model.params import Embedding, Params


class Network(NamedTuple):
    """The settings of a `Config` that a network depends on, and its vocabulary's size.

    Its cells and its head are made of these.
    """

    vocabulary_size: int
    embedding_size: int
    embedding_bound: float | None
    layers: tuple[Layer, ...]
    head: str
    num_softmaxes: int
    cutoffs: tuple[int, ...]
    sum_outputs: bool
    masks_per_step: bool
    word_masks_per_sequence: bool


class Parts(NamedTuple):
    """The cells and the head of a network."""

    cells: tuple[Cell, ...]
    head: Head


@lru_cache(maxsize=64)
def parts_of(network: Network) -> Parts:
    """The cells and the head of a network; the same objects for the same network."""
    hidden_sizes = [layer.hidden_size for layer in network.layers]
    input_sizes = [network.embedding_size, *hidden_sizes[:-1]]
    cells = tuple(
        CELLS[layer.cell](input_size, layer.hidden_size, **layer.options)
        for layer, input_size in zip(network.layers, input_sizes, strict=True)
    )
    head = make_head(
        network.head,
        hidden_sizes[-1],
        network.embedding_size,
        network.num_softmaxes,
        cutoffs=network.cutoffs,
    )
    return Parts(cells, head)


def init(network: Network, key: Array) -> Params:
    """Random parameters of a network."""
    cells, head = parts_of(network)
    table_key, head_key, *layer_keys = jax.random.split(key, 2 + len(cells))
    table_shape = network.vocabulary_size, network.embedding_size
    return Params(
        embedding=Embedding(
            _init_table(table_key, table_shape, network.embedding_bound),
            jnp.zeros(network.vocabulary_size),
        ),
        layers=tuple(
            cell.init(layer_key)
            for cell, layer_key in zip(cells, layer_keys, strict=True)
        ),
        head=head.init(head_key),
    )


def _init_table(key: Array, shape: tuple[int, int], bound: float | None) -> Array:
    if bound is None:
        normal = jax.nn.initializers.variance_scaling(1, "fan_out", "truncated_normal")
        return normal(key, shape)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def params_like(network: Network) -> Params:
    """Parameters with shapes in the place of arrays."""
    return jax.eval_shape(partial(init, network), jax.random.key(0))


def mask_shapes(network: Network, batch_size: int, num_steps: int) -> Masks:
    """The shapes of all dropout masks of a window."""
    head, params = parts_of(network).head, params_like(network)
    steps = num_steps if network.masks_per_step else 1
    columns = batch_size if network.word_masks_per_sequence else 1

    def shape(*sizes: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(sizes, jnp.float32)

    return Masks(
        embedding=shape(network.vocabulary_size, columns),
        input=shape(steps, batch_size, network.embedding_size),
        layers=tuple(
            LayerMasks(
                recurrent=params_of_layer.recurrent,
                state=shape(batch_size, layer.hidden_size),
                output=shape(steps, batch_size, layer.hidden_size),
            )
            for params_of_layer, layer in zip(
                params.layers, network.layers, strict=True
            )
        ),
        latent=head.latent_size and shape(steps, batch_size, head.latent_size),
        carry=shape(batch_size, 1),
    )


def dropout_rates(dropout: Dropout) -> Masks:
    """The dropout rates of a phase, one for each place of dropout."""
    outputs = (*dropout.hidden, dropout.output)
    return Masks(
        embedding=dropout.embedding,
        input=dropout.input,
        layers=tuple(
            LayerMasks(recurrent=dropout.recurrent, state=dropout.state, output=rate)
            for rate in outputs
        ),
        latent=dropout.latent,
        carry=dropout.carry,
    )
