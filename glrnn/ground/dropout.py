"""The dropout masks of a window: drawn from one key, then passed to the model as data.

The model is a deterministic function of its masks. Training draws them here, evaluation
passes none, and a test can inject those that another framework drew.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glrnn.errors import UsageError
from glrnn.ground import devices
from glrnn.ground.validation import shown

Leaf = Any

# The number of random words drawn at a time: few enough to stay in the cache while the
# generator works on them, and to need no new memory in every window.
BLOCK = 2**19
# The rate above which the share of what is kept is counted.
HIGH = 0.99
# The size of the last axis of a TPU's registers.
LANES = 128


class LayerMasks(NamedTuple):
    """One entry for each place of dropout in a recurrent layer, as in `Masks`.

    Attributes:
        recurrent: Weight-drop, one mask element for each recurrent weight, the same at
            every time step and for every sequence (Wan et al. 2013; Merity et al.
            2018).
        state: Dropout of the hidden state, `[B, H]`, the same at every time step (Gal
            and Ghahramani 2016).
        output: Dropout of the layer's output, `[1, B, H]`; or `[T, B, H]`, another mask
            for every time step.
    """

    recurrent: Leaf = None
    state: Leaf = None
    output: Leaf = None


class Masks(NamedTuple):
    """One entry for each place of dropout: a rate, the shape of a mask, or a mask.

    `None` means no dropout there. Masks are scaled by 1/(1 - rate), so that the mean of
    what they multiply is unchanged.

    Attributes:
        embedding: Drops whole word types of the input embedding, `[V, 1]`; or `[V, B]`,
            other words for each sequence.
        input: Dropout of the embedded input, `[1, B, E]` or `[T, B, E]`.
        layers: One `LayerMasks` for each layer.
        latent: Dropout of the head's latent vectors, `[1, B, ...]` or `[T, B, ...]`.
        carry: `[B, 1]`: where it is zero, a sequence forgets what came before the
            window. Its other value is not used.
    """

    embedding: Leaf = None
    input: Leaf = None
    layers: tuple[LayerMasks, ...] = ()
    latent: Leaf = None
    carry: Leaf = None


def draw_masks(key: Array, rates: Masks, shapes: Masks) -> Masks:
    """Draws all masks of one window.

    Args:
        key: A key of its own for this window.
        rates: The probability of dropping at each place, a Python number, or `None`.
        shapes: A `jax.ShapeDtypeStruct` wherever `rates` has a number.

    Returns:
        Masks of those shapes with values 0 and 1/(1 - rate); `None` where the rate is
        `None` or 0. Rates are those of 16 bits.

    Raises:
        UsageError: A rate is not in [0, 1).

    Example:
        >>> rates = Masks(input=0.5, layers=(LayerMasks(output=0.0),))
        >>> shape = jax.ShapeDtypeStruct((1, 2, 4), jnp.float32)
        >>> shapes = Masks(input=shape, layers=(LayerMasks(output=shape),))
        >>> masks = draw_masks(jax.random.key(0), rates, shapes)
        >>> sorted(set(masks.input.ravel().tolist()))
        [0.0, 2.0]
        >>> masks.layers[0].output is None
        True
    """
    leaves, structure = jax.tree.flatten(rates, is_leaf=lambda rate: rate is None)
    for rate in leaves:
        if rate is not None and not 0 <= rate < 1:
            raise UsageError(f"the dropout rate is {shown(rate)}; it must be in [0, 1)")
    places = [
        (rate, shape)
        for rate, shape in zip(leaves, structure.flatten_up_to(shapes), strict=True)
        if rate
    ]
    # One draw for all places: a random generator is slow to compile and to start.
    sizes = [math.prod(shape.shape) for _, shape in places]
    parts = jnp.split(_bits(key, sum(sizes)), list(itertools.accumulate(sizes))[:-1])
    masks = (
        _mask(part.reshape(shape.shape), rate, shape.dtype)
        for part, (rate, shape) in zip(parts, places, strict=False)
    )
    return jax.tree.unflatten(
        structure, [next(masks) if rate else None for rate in leaves]
    )


def shard_masks(masks: Masks, index: Array | int, count: int) -> Masks:
    """The masks of one shard of the batch; masks that all sequences share stay whole.

    Args:
        masks: The masks of all sequences.
        index: The number of the shard, from 0.
        count: The number of equal shards; it must divide the batch size.

    Example:
        >>> masks = Masks(input=jnp.arange(4.0).reshape(1, 4, 1))
        >>> shard_masks(masks, 1, 2).input.ravel().tolist()
        [2.0, 3.0]
    """

    def cut(mask, axis):
        if mask is None or mask.shape[axis] == 1:
            return mask
        size = mask.shape[axis] // count
        return jax.lax.dynamic_slice_in_dim(mask, index * size, size, axis)

    return Masks(
        cut(masks.embedding, 1),
        cut(masks.input, 1),
        tuple(
            LayerMasks(layer.recurrent, cut(layer.state, 0), cut(layer.output, 1))
            for layer in masks.layers
        ),
        cut(masks.latent, 1),
        cut(masks.carry, 0),
    )


def drop(x: Array, mask: Array | None) -> Array:
    """x times a mask, or x if there is none; axes of size 1 are broadcast.

    Example:
        >>> drop(jnp.ones(3), jnp.array([0.0, 2.0, 2.0])).tolist()
        [0.0, 2.0, 2.0]
    """
    return x if mask is None else x * mask


def _bits(key, size):
    """Random numbers of 16 bits, two from each 32-bit word."""
    num_words = -(-size // 2)
    num_blocks = max(1, -(-num_words // BLOCK))
    shape = (-(-num_words // num_blocks),)
    words = jax.lax.map(
        lambda block_key: jax.random.bits(block_key, shape, jnp.uint32),
        jax.random.split(key, num_blocks),
    )
    halves = _halves_on_tpu if devices.platform() == "tpu" else _halves
    return halves(words).reshape(-1)[:size]


def _halves(words):
    """The lower and the upper half of each word, one after the other."""
    return jax.lax.bitcast_convert_type(words, jnp.uint16)


def _halves_on_tpu(words):
    """The same halves, put in order by a matrix product.

    `bitcast_convert_type` gives an array whose last axis is 2, and a TPU pads that axis
    to its 128 lanes.
    """
    words = jnp.pad(words.reshape(-1), (0, -words.size % (LANES // 2)))
    words = words.reshape(-1, LANES // 2)
    halves = jnp.concatenate([words & jnp.uint32(0xFFFF), words >> jnp.uint32(16)], 1)
    order = np.arange(LANES).reshape(2, -1).T.ravel()
    permutation = np.eye(LANES, dtype=np.float32)[:, order]
    # Exact: a float32 holds all integers of 16 bits.
    return jnp.matmul(
        halves.astype(jnp.float32), permutation, precision=jax.lax.Precision.HIGHEST
    ).astype(jnp.uint16)


def _mask(bits, rate, dtype):
    threshold = min(round(rate * 2**16), 2**16 - 1)
    kept = bits >= threshold
    # Near 1, a rate of 16 bits is not the one that was asked for.
    share = 1 - (threshold / 2**16 if rate > HIGH else rate)
    return jnp.where(kept, jnp.asarray(1 / share, dtype), jnp.zeros((), dtype))
