"""The language model: embedding, recurrent layers, output distribution.

x_0 = drop(D[w]);  x_l, s_l = unroll(cell_l, drop(theta_l), s_l, x_{l-1}), dropped;
nll = head(x_L, D).

The tree is the design: `Params` has three fields, and these are the groups that
gradients are clipped by, one a layer. Growing, grafting, clipping and averaging are
maps over it.
"""

from collections.abc import Callable
from functools import cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from glrnn.cells import CELLS, unroll
from glrnn.config import Config, Dropout
from glrnn.data.windows import Window
from glrnn.dropout import LayerNoise, Noise, drop
from glrnn.heads import HEADS
from glrnn.heads.scatter import add_rows
from glrnn.losses import token_weights

Tree = Any
Carry = tuple[Tree, ...]


@struct.dataclass
class Embedding:
    """The table `[V, E]` shared by input and output, and the output's bias `[V]`."""

    table: Array
    bias: Array


@struct.dataclass
class Params:
    """Everything that is learned; anything "per group" is a prefix of this tree."""

    embedding: Any
    layers: tuple[Any, ...]
    head: Any


class Outcome(NamedTuple):
    """What the model makes of a window.

    Attributes:
        nll: Mean negative log-likelihood of the true tokens, nats per token.
        carry: The layers' states after the last true step.
        outputs: What the layers make of it, raw: outputs of the last one, or the sum of
            all, `[T, B, H]`.
        dropped: The same after its dropout, which is what the head sees.
    """

    nll: Array
    carry: Carry
    outputs: Array
    dropped: Array


class Model(NamedTuple):
    """A language model as pure functions.

    Attributes:
        init: `key -> Params`.
        initial_carry: `batch_size -> carry`, zeros.
        noise_shapes: `(batch_size, num_steps) -> Noise` of shapes, for `noise.sample`.
        apply: `(params, carry, window, noise=None, temperature=None) -> Outcome`;
            without noise it is the model to evaluate. All logits are divided by the
            temperature if there is one.
    """

    init: Callable[[Array], Params]
    initial_carry: Callable[[int], Carry]
    noise_shapes: Callable[[int, int], Noise]
    apply: Callable[..., Outcome]


@cache
def language_model(config: Config, vocabulary_size: int, num_layers: int) -> Model:
    """The network of one phase.

    Args:
        config: Its sizes, cells and head.
        vocabulary_size: V.
        num_layers: How many of `config.layers` it has.

    Returns:
        The same `Model` for the same arguments, so that what was compiled for it is
        found again.

    Example:
        >>> model = language_model(Config(), vocabulary_size=50, num_layers=2)
        >>> params = model.init(jax.random.key(0))
        >>> tokens = jnp.zeros((5, 3), int)
        >>> window = Window(tokens, tokens, 5)
        >>> outcome = model.apply(params, model.initial_carry(3), window)
        >>> outcome.outputs.shape
        (5, 3, 128)
    """
    layers = config.layers[:num_layers]
    hidden_sizes = [layer.hidden_size for layer in layers]
    input_sizes = [config.embedding_size, *hidden_sizes[:-1]]
    cells = [
        CELLS[layer.cell](input_size, layer.hidden_size, **layer.options)
        for layer, input_size in zip(layers, input_sizes, strict=True)
    ]
    head = HEADS[config.head](
        hidden_sizes[-1], config.embedding_size, config.num_softmaxes
    )

    def init(key: Array) -> Params:
        table_key, head_key, *layer_keys = jax.random.split(key, 2 + num_layers)
        table_shape = (vocabulary_size, config.embedding_size)
        return Params(
            embedding=Embedding(
                _init_table(table_key, table_shape, config.embedding_bound),
                jnp.zeros(vocabulary_size),
            ),
            layers=tuple(
                cell.init(layer_key)
                for cell, layer_key in zip(cells, layer_keys, strict=True)
            ),
            head=head.init(head_key),
        )

    def initial_carry(batch_size: int) -> Carry:
        return tuple(cell.initial_state(batch_size) for cell in cells)

    def noise_shapes(batch_size: int, num_steps: int) -> Noise:
        params = jax.eval_shape(init, jax.random.key(0))
        steps = num_steps if config.masks_per_step else 1

        def shape(*sizes: int) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(sizes, jnp.float32)

        return Noise(
            embedding=shape(
                vocabulary_size, batch_size if config.word_masks_per_sequence else 1
            ),
            input=shape(steps, batch_size, config.embedding_size),
            layers=tuple(
                LayerNoise(
                    recurrent=layer.recurrent,
                    state=shape(batch_size, hidden_size),
                    output=shape(steps, batch_size, hidden_size),
                )
                for layer, hidden_size in zip(params.layers, hidden_sizes, strict=True)
            ),
            latent=head.latent_size and shape(steps, batch_size, head.latent_size),
            carry=shape(batch_size, 1),
        )

    def apply(
        params: Params,
        carry: Carry,
        window: Window,
        noise: Noise | None = None,
        temperature: float | None = None,
    ) -> Outcome:
        if noise is None:
            noise = Noise(layers=(LayerNoise(),) * num_layers)
        table, bias = params.embedding.table, params.embedding.bias
        num_steps, batch_size = window.targets.shape
        length = jnp.asarray(window.length)
        x, table = _look_up(table, window.inputs)
        if noise.embedding is not None:
            words = jnp.asarray(noise.embedding)
            # One column for all sequences, or a column each.
            column = jnp.arange(batch_size) % words.shape[1]
            x = x * words[window.inputs, column[None]][..., None]
        if noise.carry is not None:
            carry = jax.tree.map(partial(_forget, noise.carry), carry)
        states, all_outputs, mask = [], [], noise.input
        for cell, layer, state, masks in zip(
            cells, params.layers, carry, noise.layers, strict=True
        ):
            in_force = layer.replace(recurrent=drop(layer.recurrent, masks.recurrent))
            if masks.state is not None:
                in_force = in_force.replace(mask=masks.state)
            state, x = unroll(cell, in_force, state, drop(x, mask), length)
            states.append(state)
            all_outputs.append(x)
            mask = masks.output
        seen = all_outputs if config.sum_outputs else all_outputs[-1:]
        outputs = reduce(jnp.add, seen)
        x = drop(outputs, mask)
        if temperature is not None:
            table, bias = table / temperature, bias / temperature
        weights = token_weights(num_steps, batch_size, length)
        nll = head.nll(
            params.head, table, bias, x, window.targets, weights, noise.latent
        )
        return Outcome(nll, tuple(states), outputs, x)

    return Model(init, initial_carry, noise_shapes, apply)


def _forget(mask: Array, state: Array) -> Array:
    return jnp.where(mask > 0, state, jnp.zeros_like(state))


@jax.custom_vjp
def _look_up(table: Array, ids: Array) -> tuple[Array, Array]:
    """Rows of the table, and the table for its other use.

    Their gradients meet here: those of the rows are added to the whole table's where
    they belong, without a table of zeros that holds nothing else.
    """
    return table[ids], table


def _look_up_backward(ids, cotangents):
    rows, table = cotangents
    return add_rows(table, ids.ravel(), rows.reshape(-1, table.shape[1])), None


_look_up.defvjp(lambda table, ids: (_look_up(table, ids), ids), _look_up_backward)


def _init_table(key: Array, shape: tuple[int, int], bound: float | None) -> Array:
    if bound is None:
        normal = jax.nn.initializers.variance_scaling(1, "fan_out", "truncated_normal")
        return normal(key, shape)
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def noise_rates(dropout: Dropout) -> Noise:
    """A phase's dropout rates, place by place."""
    outputs = (*dropout.hidden, dropout.output)
    return Noise(
        embedding=dropout.embedding,
        input=dropout.input,
        layers=tuple(
            LayerNoise(recurrent=dropout.recurrent, state=dropout.state, output=rate)
            for rate in outputs
        ),
        latent=dropout.latent,
        carry=dropout.carry,
    )


def grow(params: Params, fresh: Params, inherit_head: bool = True) -> Params:
    """Grafts a trained network onto a deeper, randomly initialised one.

    Args:
        params: What the previous phase learned, l layers.
        fresh: The next phase's network as it was initialised, more than l layers.
        inherit_head: Whether the head is the trained one or the fresh one.

    Returns:
        `fresh` with the embedding, the first l layers and, if so chosen, the head of
        `params`, bit for bit.

    Source:
        Aharoni, Rattner and Permuter (2017), section 4.2.

    Example:
        >>> small, large = (
        ...     language_model(Config(), 9, depth).init(jax.random.key(depth))
        ...     for depth in (1, 2)
        ... )
        >>> grown = grow(small, large)
        >>> grown.layers[0] is small.layers[0], grown.layers[1] is large.layers[1]
        (True, True)
    """
    return Params(
        embedding=params.embedding,
        layers=params.layers + fresh.layers[len(params.layers) :],
        head=params.head if inherit_head else fresh.head,
    )
