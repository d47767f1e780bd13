"""Logits a few tokens at a time: what all that computes with them shares.

The distribution over the next word is a mixture of K softmaxes over one tied table;
K = 1 is the ordinary softmax. `[T, B, K, V]` is never held.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn.ground import devices

# A part of the vocabulary: rows of the table, and of the bias.
Tile = tuple[Array, Array]


class Block(NamedTuple):
    """The size of one matrix product of the loss.

    Attributes:
        logits: The number of logits: enough for the product to run at full speed, few
            enough for a cache to hold them and their part of the table.
        table: The number of entries of the table.
    """

    logits: int
    table: int


# The sizes that measured best, by platform. OTHER_BLOCK serves all others, such as
# GPUs, where a larger product is faster.
BLOCKS = {"cpu": Block(1_300_000, 1_500_000)}
OTHER_BLOCK = Block(40_000_000, 2**31)


def block() -> Block:
    """The size of a product on the platform that is computed for."""
    return BLOCKS.get(devices.platform(), OTHER_BLOCK)


def num_logits_scored() -> int:
    """Twice as many logits as in training, since none are held for a gradient."""
    return 2 * block().logits


def scan(
    add: Callable[..., Any], start: Any, chunks: tuple[Array, ...]
) -> tuple[Any, Any]:
    """A scan; a single chunk is unrolled, so its gradients are not added to zeros."""
    return lax.scan(add, start, chunks, unroll=len(chunks[0]) == 1)


def logits_of(rows: Array, tile: Tile) -> Array:
    """The logits of some latent vectors `[n, E]` and the words of a tile."""
    table, bias = tile
    return jnp.matmul(rows, table.T) + bias[None]


def normalizer(latents: Array, tiles: Sequence[Tile]) -> Array:
    """The log of the sum over words, of each token's softmaxes, `[n K]`."""
    rows = latents.reshape(-1, latents.shape[-1])
    parts = [jax.nn.logsumexp(logits_of(rows, tile), axis=1) for tile in tiles]
    return jax.nn.logsumexp(jnp.stack(parts), axis=0)


def joint_log_probs(
    normalizer: Array, latents: Array, log_prior: Array, own: Array, own_bias: Array
) -> Array:
    """The log-probability of each softmax and the target together, `[n, K]`."""
    score = jnp.sum(latents * own[:, None], axis=-1) + own_bias[:, None]
    return log_prior + score - normalizer.reshape(log_prior.shape)


def _num_tiles(table, num_rows):
    if num_rows * len(table) <= block().logits:
        return 1
    return min(len(table), -(-table.size // block().table))


def tiles_of(table: Array, bias: Array, num_rows: int) -> list[Tile]:
    """The table and the bias, each cut into equal parts of the vocabulary."""
    num_words, num_tiles = len(table), _num_tiles(table, num_rows)
    cuts = [num_words * i // num_tiles for i in range(num_tiles + 1)]
    return [(table[slice(*cut)], bias[slice(*cut)]) for cut in pairwise(cuts)]


def chunks_of(
    num_logits: int, table: Array, latents: Array, log_prior: Array, *others: Array
) -> tuple[Array, ...]:
    """Reshapes `[T, B, ...]` to `[N, n, ...]`: N chunks of n tokens, zero-padded."""
    *shape, num_softmaxes = log_prior.shape
    num_tokens = math.prod(shape)
    num_tiles = _num_tiles(table, log_prior.size)
    logits_a_token = num_softmaxes * -(-len(table) // num_tiles)
    size = max(1, num_logits // logits_a_token)
    num_chunks = -(-num_tokens // size)
    size = -(-num_tokens // num_chunks)

    def cut(array):
        tokens = array.reshape(num_tokens, *array.shape[2:])
        rest = num_chunks * size - num_tokens
        padded = jnp.pad(tokens, [(0, rest)] + [(0, 0)] * (tokens.ndim - 1))
        return padded.reshape(num_chunks, size, *tokens.shape[1:])

    return tuple(map(cut, (latents, log_prior, *others)))
