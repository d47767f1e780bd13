"""What an output distribution is, and the one loss that both kinds are made of.

The distribution over the next word is a mixture of K softmaxes over one tied table;
K = 1 is the ordinary softmax. The loss never holds `[T, B, K, V]`: it works through the
window a few tokens at a time and forms the gradients while the logits are at hand, so
that no logits are stored and none are computed twice.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn import devices
from glrnn.heads.scatter import add_rows

Tree = Any


class Block(NamedTuple):
    """How much is at hand at a time, in numbers.

    Attributes:
        logits: Of one matrix product: enough for it to run at full speed, few enough to
            stay in a cache with their part of the table.
        table: Entries of the table that a product takes.
    """

    logits: int
    table: int


# By platform, what measured best; elsewhere as on a GPU, where a product is the faster
# the larger it is.
BLOCKS = {"cpu": Block(1_300_000, 1_500_000)}
OTHER_BLOCK = Block(40_000_000, 2**31)


class Head(NamedTuple):
    """An output distribution as pure functions.

    Attributes:
        init: `key -> params`, an empty tuple if it has none.
        nll: `(params, table [V, E], bias [V], outputs [T, B, H], targets [T, B],
            weights [T, B], mask) -> scalar`, the weighted sum of the tokens' negative
            log-likelihoods in nats. `mask` multiplies the latent vectors; or `None`.
        latent_size: Features of the latent vectors that a mask applies to, or `None`.
    """

    init: Callable[[Array], Tree]
    nll: Callable[..., Array]
    latent_size: int | None


@jax.custom_vjp
def mixture_nll(
    latents: Array,
    log_prior: Array,
    table: Array,
    bias: Array,
    targets: Array,
    weights: Array,
) -> Array:
    """- sum_tb w_tb log sum_k pi_tbk softmax(D z_tbk + b)[y_tb].

    Differentiable in all but `targets` and `weights`. The gradient is formed in the
    forward pass, which needs the weights up to one scalar: this is why they come in
    here and the result is a sum.

    Args:
        latents: z, `[T, B, K, E]`.
        log_prior: log pi, `[T, B, K]`.
        table: D, `[V, E]`.
        bias: b, `[V]`.
        targets: y, `[T, B]`, integers below V.
        weights: w, `[T, B]`; 0 leaves a token out.

    Returns:
        A scalar in nats.

    Source:
        Yang, Dai, Salakhutdinov and Cohen (2018), "Breaking the softmax bottleneck".

    Example:
        >>> latents, table = jnp.zeros((2, 1, 3, 4)), jnp.ones((5, 4))
        >>> log_prior = jnp.log(jnp.full((2, 1, 3), 1 / 3))
        >>> nll = mixture_nll(
        ...     latents,
        ...     log_prior,
        ...     table,
        ...     jnp.zeros(5),
        ...     jnp.zeros((2, 1), int),
        ...     jnp.full((2, 1), 0.5),
        ... )
        >>> print(f"{nll:.4f} {jnp.log(5):.4f}")
        1.6094 1.6094
    """
    tiles = _tiles(table, bias, log_prior.size)

    def add(total, chunk):
        rows = chunk[0].reshape(-1, table.shape[1])
        parts = [jax.nn.logsumexp(_logits(rows, tile), axis=1) for tile in tiles]
        normalizer = jax.nn.logsumexp(jnp.stack(parts), axis=0)
        return total + _mix(normalizer, *chunk)[0], None

    chunks = _chunks(
        # Twice as many, for nothing of a tile is kept.
        2 * _block().logits,
        table,
        latents,
        log_prior,
        table[targets],
        bias[targets],
        weights,
    )
    total, _ = _scan(add, jnp.zeros((), latents.dtype), chunks)
    return total


def _scan(add, start, chunks):
    """A scan, but for a single chunk, whose gradients are not to be added to zeros."""
    return lax.scan(add, start, chunks, unroll=len(chunks[0]) == 1)


def _logits(rows, tile):
    table, bias = tile
    return jnp.matmul(rows, table.T) + bias[None]


def _mix(normalizer, latents, log_prior, own, own_bias, weights):
    """A chunk's weighted loss, and each softmax's share in the gradient."""
    score = jnp.sum(latents * own[:, None], axis=-1) + own_bias[:, None]
    joint = log_prior + score - normalizer.reshape(log_prior.shape)
    log_likelihood = jax.nn.logsumexp(joint, axis=-1)
    responsibility = jnp.exp(joint - log_likelihood[:, None]) * weights[:, None]
    return -jnp.sum(weights * log_likelihood), responsibility


def _forward(latents, log_prior, table, bias, targets, weights):
    tiles = _tiles(table, bias, log_prior.size)

    def add(sums, chunk):
        total, *tile_grads = sums
        rows = chunk[0].reshape(-1, table.shape[1])
        logits = [_logits(rows, tile) for tile in tiles]
        top = jnp.max(jnp.stack([jnp.max(part, axis=1) for part in logits]), axis=0)
        exps = [jnp.exp(part - top[:, None]) for part in logits]
        sum_exps = sum(jnp.sum(part, axis=1) for part in exps)
        loss, responsibility = _mix(top + jnp.log(sum_exps), *chunk)
        # By what a row of exponentials is to be multiplied.
        factor = responsibility.ravel() / sum_exps
        scaled = rows * factor[:, None]
        rows_grad = sum(
            jnp.matmul(exp, part) for (part, _), exp in zip(tiles, exps, strict=True)
        )
        rows_grad = (rows_grad * factor[:, None]).reshape(chunk[0].shape)
        for tile, exp in enumerate(exps):
            part_grad, bias_grad = tile_grads[tile]
            part_grad += jnp.matmul(exp.T, scaled)
            bias_grad += jnp.matmul(factor, exp)
            tile_grads[tile] = part_grad, bias_grad
        return (total + loss, *tile_grads), (rows_grad, responsibility)

    own = table[targets]
    zeros = jax.tree.map(jnp.zeros_like, (jnp.zeros((), latents.dtype), *tiles))
    chunks = _chunks(
        _block().logits, table, latents, log_prior, own, bias[targets], weights
    )
    (total, *tile_grads), grads = _scan(add, zeros, chunks)
    table_grad, bias_grad = map(jnp.concatenate, zip(*tile_grads, strict=True))
    latents_grad, responsibility = (
        grad.reshape(-1, *like.shape[2:])[: targets.size].reshape(like.shape)
        for grad, like in zip(grads, (latents, log_prior), strict=True)
    )
    # Up to here every word was a wrong one.
    latents_grad -= responsibility[..., None] * own[:, :, None]
    right = jnp.sum(responsibility[..., None] * latents, axis=2)
    words, share = targets.ravel(), jnp.sum(responsibility, axis=-1)
    table_grad = add_rows(table_grad, words, -right.reshape(-1, table.shape[1]))
    bias_grad = add_rows(bias_grad, words, -share.ravel())
    return total, (latents_grad, -responsibility, table_grad, bias_grad)


def _backward(grads, cotangent):
    return *(cotangent * grad for grad in grads), None, None


mixture_nll.defvjp(_forward, _backward)


def _block() -> Block:
    return BLOCKS.get(devices.platform(), OTHER_BLOCK)


def _num_tiles(table, num_rows):
    if num_rows * len(table) <= _block().logits:
        return 1
    return min(len(table), -(-table.size // _block().table))


def _tiles(table, bias, num_rows):
    """The vocabulary in equal parts: their rows of the table, and their biases."""
    num_words, num_tiles = len(table), _num_tiles(table, num_rows)
    cuts = [num_words * i // num_tiles for i in range(num_tiles + 1)]
    return [(table[slice(*cut)], bias[slice(*cut)]) for cut in pairwise(cuts)]


def _chunks(num_logits, table, latents, log_prior, *others):
    """`[T, B, ...]` as `[N, n, ...]`: n tokens a chunk, the last filled with zeros."""
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
