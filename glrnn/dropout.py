"""Dropout masks of one window, drawn once from one key and applied as data.

The model is a deterministic function of its masks. Training draws them here, evaluation
has none, and a test can inject those that another framework drew.
"""

import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glrnn import devices

Leaf = Any

# Random words drawn at a time: they stay in the cache while the generator works on
# them, and need no memory that would have to be found anew in every window.
BLOCK = 2**19
# The last axis of a register of a TPU.
LANES = 128


class LayerNoise(NamedTuple):
    """One entry a place in a recurrent layer: a rate, a shape or a mask.

    Attributes:
        recurrent: Weight-drop, one mask element a recurrent weight, the same at every
            time step and for every sequence (Wan et al. 2013; Merity et al. 2018).
        state: On the hidden state, `[B, H]`, the same at every time step (Gal and
            Ghahramani 2016).
        output: On what the layer hands upwards, `[1, B, H]`; or `[T, B, H]`, a mask of
            its own for every time step.
    """

    recurrent: Leaf = None
    state: Leaf = None
    output: Leaf = None


class Noise(NamedTuple):
    """One entry a place where noise can enter: a rate, a shape or a mask.

    `None` means no noise there. Masks are scaled by 1/(1 - rate), so that the mean of
    what they multiply is unchanged.

    Attributes:
        embedding: On whole word types of the input embedding, `[V, 1]`; or `[V, B]`,
            where each sequence is without other words.
        input: On the embedded input, `[1, B, E]` or `[T, B, E]`.
        layers: One `LayerNoise` a layer.
        latent: On the latent vectors of the head, `[1, B, ...]` or `[T, B, ...]`.
        carry: `[B, 1]`: where it is zero, a sequence forgets what came before the
            window. Its other value is not used.
    """

    embedding: Leaf = None
    input: Leaf = None
    layers: tuple[LayerNoise, ...] = ()
    latent: Leaf = None
    carry: Leaf = None


def sample(key: Array, rates: Noise, shapes: Noise) -> Noise:
    """Draws all masks of one window.

    Args:
        key: A key of its own for this window.
        rates: Probability of dropping at each place, `None` for never. Python numbers.
        shapes: A `jax.ShapeDtypeStruct` wherever `rates` has a number.

    Returns:
        Masks of those shapes with values 0 and 1/(1 - rate); `None` where the rate is
        `None` or 0.

    Example:
        >>> rates = Noise(input=0.5, layers=(LayerNoise(output=0.0),))
        >>> shape = jax.ShapeDtypeStruct((1, 2, 4), jnp.float32)
        >>> shapes = Noise(input=shape, layers=(LayerNoise(output=shape),))
        >>> noise = sample(jax.random.key(0), rates, shapes)
        >>> sorted(set(noise.input.ravel().tolist()))
        [0.0, 2.0]
        >>> noise.layers[0].output is None
        True
    """
    leaves, structure = jax.tree.flatten(rates, is_leaf=lambda rate: rate is None)
    places = [
        (rate, shape)
        for rate, shape in zip(leaves, structure.flatten_up_to(shapes), strict=True)
        if rate
    ]
    # One draw for all places: a generator compiles slowly and starts slowly.
    sizes = [math.prod(shape.shape) for _, shape in places]
    parts = jnp.split(_bits(key, sum(sizes)), list(itertools.accumulate(sizes))[:-1])
    masks = (
        _mask(part.reshape(shape.shape), rate, shape.dtype)
        for part, (rate, shape) in zip(parts, places, strict=False)
    )
    return jax.tree.unflatten(
        structure, [next(masks) if rate else None for rate in leaves]
    )


def share(noise: Noise, index: Array | int, count: int) -> Noise:
    """One of `count` equal shares of the sequences; what all have in common is whole.

    Args:
        noise: Masks of all sequences.
        index: Which share, from 0.
        count: How many; it must divide the number of sequences.

    Example:
        >>> noise = Noise(input=jnp.arange(4.0).reshape(1, 4, 1))
        >>> share(noise, 1, 2).input.ravel().tolist()
        [2.0, 3.0]
    """

    def cut(mask, axis):
        if mask is None or mask.shape[axis] == 1:
            return mask
        size = mask.shape[axis] // count
        return jax.lax.dynamic_slice_in_dim(mask, index * size, size, axis)

    return Noise(
        cut(noise.embedding, 1),
        cut(noise.input, 1),
        tuple(
            LayerNoise(layer.recurrent, cut(layer.state, 0), cut(layer.output, 1))
            for layer in noise.layers
        ),
        cut(noise.latent, 1),
        cut(noise.carry, 0),
    )


def drop(x: Array, mask: Array | None) -> Array:
    """x times a mask that may be missing, broadcast over axes of size 1.

    Example:
        >>> drop(jnp.ones(3), jnp.array([0.0, 2.0, 2.0])).tolist()
        [0.0, 2.0, 2.0]
    """
    return x if mask is None else x * mask


def _bits(key, size):
    """Random numbers of 16 bits, which decide as well as 32; a word serves twice."""
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
    """The same, put in order by a product.

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
    return jnp.where(kept, jnp.asarray(1 / (1 - rate), dtype), jnp.zeros((), dtype))
