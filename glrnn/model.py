"""The language model: embedding, recurrent layers, output distribution.

x_0 = drop(D[w]);  x_l, s_l = unroll(cell_l, drop(theta_l), s_l, x_{l-1}), dropped;
nll = head(x_L, D).

The tree is the design: `Params` has three fields, and these are the groups that
gradients are clipped by, one for each layer. Growing, grafting, clipping and averaging
are maps over it.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import Array
from jax.tree_util import keystr

from glrnn.cells import CELLS, Cell, unroll
from glrnn.config import Config, Dropout, Layer
from glrnn.data.windows import Window, ignores_padding
from glrnn.dropout import LayerMasks, Masks, drop
from glrnn.errors import UsageError
from glrnn.ground.arrays import in_float32, is_known
from glrnn.ground.validation import (
    LARGEST_FLOAT,
    SMALLEST_FLOAT,
    check_integers,
    shown,
)
from glrnn.heads import HEADS, Head
from glrnn.heads.head import check_known_ids
from glrnn.heads.scatter import add_rows
from glrnn.losses import token_weights

Tree = Any
Carry = tuple[Tree, ...]
# Of arrays, by their paths in a tree.
_Shapes = dict[str, tuple[int, ...]]


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


class Model(NamedTuple):
    """A language model as pure functions.

    Attributes:
        init: `key -> Params`.
        initial_carry: `batch_size -> carry`, zeros.
        mask_shapes: `(batch_size, num_steps) -> Masks` that hold shapes, for
            `dropout.draw_masks`.
        apply: `(params, carry, window, masks=None, temperature=None) -> Outcome`;
            without masks it is the model to evaluate. All logits are divided by the
            temperature if there is one. Parameters in half precision are computed with
            in float32. Ids and the window's length are checked where they are known,
            which is outside of `jax.jit`.
        vocabulary_size: V, which all ids are below.
        log_likelihoods: `(params, carry, window, masks=None, temperature=None) ->
            ([T, B], carry)`, the log-probability of each target in nats.
        log_probs: `(params, carry, window, masks=None, temperature=None) ->
            ([T, B, V], carry)`, those of all words; the targets are not read.
    """

    init: Callable[[Array], Any]
    initial_carry: Callable[[int], Carry]
    mask_shapes: Callable[[int, int], Masks]
    apply: Callable[..., Outcome]
    vocabulary_size: int
    log_likelihoods: Callable[..., tuple[Array, Carry]]
    log_probs: Callable[..., tuple[Array, Carry]]


def language_model(config: Config, vocabulary_size: int, num_layers: int) -> Model:
    """The network of one phase.

    Args:
        config: The sizes, cells and head.
        vocabulary_size: V.
        num_layers: The number of layers, the first ones of `config.layers`.

    Returns:
        The same `Model` for the same network, whatever else the config says, so that
        compiled programs are shared.

    Raises:
        UsageError: There are not so many layers, or no word, or a number of them is no
            integer.

    Example:
        >>> model = language_model(Config(), vocabulary_size=50, num_layers=2)
        >>> params = model.init(jax.random.key(0))
        >>> tokens = jnp.zeros((5, 3), int)
        >>> window = Window(tokens, tokens, 5)
        >>> outcome = model.apply(params, model.initial_carry(3), window)
        >>> outcome.outputs.shape
        (5, 3, 128)
        >>> language_model(Config(seed=1), 50, 2) is model
        True
    """
    check_integers("vocabulary size", vocabulary_size)
    check_integers("number of layers", num_layers)
    if vocabulary_size < 1:
        raise UsageError(f"vocabulary_size is {vocabulary_size}; it must be at least 1")
    if not 1 <= num_layers <= len(config.layers):
        raise UsageError(
            f"num_layers is {num_layers}; the config has {len(config.layers)} layers"
        )
    return _model(
        Network(
            vocabulary_size=vocabulary_size,
            embedding_size=config.embedding_size,
            embedding_bound=config.embedding_bound,
            layers=config.layers[:num_layers],
            head=config.head,
            num_softmaxes=config.num_softmaxes,
            sum_outputs=config.sum_outputs,
            masks_per_step=config.masks_per_step,
            word_masks_per_sequence=config.word_masks_per_sequence,
        )
    )


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
    sum_outputs: bool
    masks_per_step: bool
    word_masks_per_sequence: bool


@lru_cache(maxsize=64)
def _model(network: Network) -> Model:
    hidden_sizes = [layer.hidden_size for layer in network.layers]
    input_sizes = [network.embedding_size, *hidden_sizes[:-1]]
    cells = [
        CELLS[layer.cell](input_size, layer.hidden_size, **layer.options)
        for layer, input_size in zip(network.layers, input_sizes, strict=True)
    ]
    head = HEADS[network.head](
        hidden_sizes[-1], network.embedding_size, network.num_softmaxes
    )
    init = partial(_init, network, cells, head)

    def initial_carry(batch_size: int) -> Carry:
        return tuple(cell.initial_state(batch_size) for cell in cells)

    def mask_shapes(batch_size: int, num_steps: int) -> Masks:
        params = jax.eval_shape(init, jax.random.key(0))
        return _mask_shapes(network, head, params, batch_size, num_steps)

    return Model(
        init,
        initial_carry,
        mask_shapes,
        partial(_apply, network, cells, head),
        network.vocabulary_size,
        partial(_log_likelihoods, network, cells, head),
        partial(_log_probs, network, cells, head),
    )


def _init(network: Network, cells: Sequence[Cell], head: Head, key: Array) -> Params:
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


def _mask_shapes(
    network: Network, head: Head, params: Params, batch_size: int, num_steps: int
) -> Masks:
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


@ignores_padding
def _apply(
    network: Network,
    cells: Sequence[Cell],
    head: Head,
    params: Params,
    carry: Carry,
    window: Window,
    masks: Masks | None = None,
    temperature: float | None = None,
) -> Outcome:
    read = _read(network, cells, head, params, carry, window, masks, temperature)
    num_steps, batch_size = window.targets.shape
    if jnp.ndim(window.length):
        raise UsageError(
            f"the window's length has the shape {jnp.shape(window.length)}; for the "
            f"loss it must be one integer for all sequences"
        )
    weights = token_weights(num_steps, batch_size, jnp.asarray(window.length))
    nll = head.nll(*read.output_layer, window.targets, weights, read.latent_mask)
    return Outcome(nll, read.carry, read.outputs, read.dropped)


def _log_likelihoods(
    network: Network,
    cells: Sequence[Cell],
    head: Head,
    params: Params,
    carry: Carry,
    window: Window,
    masks: Masks | None = None,
    temperature: float | None = None,
) -> tuple[Array, Carry]:
    read = _read(network, cells, head, params, carry, window, masks, temperature)
    found = head.log_likelihoods(*read.output_layer, window.targets, read.latent_mask)
    return found, read.carry


def _log_probs(
    network: Network,
    cells: Sequence[Cell],
    head: Head,
    params: Params,
    carry: Carry,
    window: Window,
    masks: Masks | None = None,
    temperature: float | None = None,
) -> tuple[Array, Carry]:
    read = _read(network, cells, head, params, carry, window, masks, temperature)
    return head.log_probs(*read.output_layer, read.latent_mask), read.carry


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


def _read(
    network: Network,
    cells: Sequence[Cell],
    head: Head,
    params: Params,
    carry: Carry,
    window: Window,
    masks: Masks | None,
    temperature: float | None,
) -> _Read:
    _check_params(network, params)
    _check_window(window, network.vocabulary_size)
    _check_temperature(temperature)
    if masks is None:
        masks = Masks(layers=(LayerMasks(),) * len(cells))
    num_steps, batch_size = window.inputs.shape
    _check_carry(cells, carry)
    # Masks may be those of every step and sequence, whatever the config draws.
    shared, each = (
        _mask_shapes(
            network._replace(masks_per_step=kind, word_masks_per_sequence=kind),
            *(head, params, batch_size, num_steps),
        )
        for kind in (False, True)
    )
    _check_masks(masks, shared, each)
    params = in_float32(params)
    length = jnp.asarray(window.length)
    x, table = _look_up(params.embedding.table, window.inputs)
    bias = params.embedding.bias
    if masks.embedding is not None:
        words = jnp.asarray(masks.embedding)
        # One column for all sequences, or a column each.
        column = jnp.arange(batch_size) % words.shape[1]
        x = x * words[window.inputs, column[None]][..., None]
    if masks.carry is not None:
        carry = jax.tree.map(partial(_forget, masks.carry), carry)
    states, outputs, dropped = _stack(
        cells, params.layers, carry, drop(x, masks.input), masks.layers, length
    )
    if network.sum_outputs:
        summed = reduce(jnp.add, outputs)
        dropped = drop(summed, masks.layers[-1].output)
        outputs = [summed]
    if temperature is not None:
        table, bias = table / temperature, bias / temperature
    return _Read(
        tuple(states),
        outputs[-1],
        dropped,
        (params.head, table, bias, dropped),
        masks.latent,
    )


def _check_params(network: Network, params: Params) -> None:
    """Refuses the parameters of another network, whose indices would be clamped."""
    _check_shapes(_shapes_of(params), _shapes(network))


@lru_cache(maxsize=64)
def _shapes(network: Network) -> _Shapes:
    return _shapes_of(jax.eval_shape(_model(network).init, jax.random.key(0)))


def _check_shapes(found: _Shapes, right: _Shapes) -> None:
    for path in right | found:
        if right.get(path) != found.get(path):
            raise UsageError(
                f"params{path} has the shape {found.get(path, 'of nothing')}; the "
                f"network has {right.get(path, 'nothing')} there"
            )


def _shapes_of(tree: Tree) -> _Shapes:
    leaves = jax.tree.leaves_with_path(tree)
    return {keystr(path): jnp.shape(leaf) for path, leaf in leaves}


def _check_window(window: Window, num_words: int) -> None:
    """Refuses ids outside the vocabulary, which indexing would clamp, and the like."""
    check_known_ids(window.inputs, "window of inputs", num_words)
    check_known_ids(window.targets, "window of targets", num_words)
    shapes = jnp.shape(window.inputs), jnp.shape(window.targets)
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"the window's inputs have the shape {shapes[0]} and its targets "
            f"{shapes[1]}; they must have the same"
        )
    num_steps, length = len(window.targets), window.length
    if not jnp.issubdtype(jnp.result_type(length), jnp.integer):
        raise UsageError(f"the window's length is {length}; it must be an integer")
    if is_known(length) and not np.all((length >= 0) & (length <= num_steps)):
        raise UsageError(
            f"the window's length is {length}; it must be in 0 .. {num_steps}"
        )


def _check_carry(cells: Sequence[Cell], carry: Carry) -> None:
    right = jax.eval_shape(lambda: tuple(cell.initial_state(1) for cell in cells))
    found = tuple(carry) if isinstance(carry, list) else carry
    if jax.tree.structure(found) != jax.tree.structure(right):
        raise UsageError(
            "the carry is not that of the network; begin with its initial_carry(B)"
        )


def _check_masks(masks: Masks, shared: Masks, each: Masks) -> None:
    """Refuses masks of another vocabulary or batch, which would be broadcast."""
    if len(masks.layers) != len(each.layers):
        raise UsageError(
            f"the masks are those of {len(masks.layers)} layers; the network has "
            f"{len(each.layers)}"
        )
    right = _shapes_of(shared), _shapes_of(each)
    for path, shape in _shapes_of(masks).items():
        shapes = [found[path] for found in right if path in found]
        if shape not in shapes:
            told = " or ".join(map(str, dict.fromkeys(shapes))) or "nothing"
            raise UsageError(
                f"masks{path} has the shape {shape}; that of the window is {told}"
            )


def _check_temperature(temperature: Any) -> None:
    if temperature is None or not is_known(temperature):
        return
    is_number = not isinstance(temperature, str) and np.ndim(temperature) == 0
    if not (is_number and SMALLEST_FLOAT <= float(temperature) <= LARGEST_FLOAT):
        raise UsageError(f"the temperature is {shown(temperature)}; it must be above 0")


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


def grow(params: Params, fresh: Params, inherit_head: bool = True) -> Params:
    """Grafts a trained network onto a deeper, randomly initialised one.

    Args:
        params: The parameters that the previous phase has learned, l layers.
        fresh: The next phase's network as initialised, more than l layers.
        inherit_head: Whether to take the trained head rather than the fresh one.

    Returns:
        `fresh` with the embedding, the first l layers and, if inherited, the head of
        `params`, bit for bit.

    Raises:
        UsageError: `fresh` is not deeper, or what it inherits has other shapes there.

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
    depth = len(params.layers)
    if len(fresh.layers) <= depth:
        raise UsageError(
            f"a network of {depth} layers does not grow to {len(fresh.layers)}"
        )
    grown = Params(
        embedding=params.embedding,
        layers=params.layers + fresh.layers[depth:],
        head=params.head if inherit_head else fresh.head,
    )
    _check_shapes(_shapes_of(grown), _shapes_of(fresh))
    return grown
