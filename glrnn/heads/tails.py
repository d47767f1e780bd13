"""The tails of an adaptive softmax: each computes its own tokens alone.

How many tokens a tail has is known only when the window is, but the shapes of a program
are fixed. So the tokens are sorted by their cluster, and a loop takes as many chunks of
a fixed size as the tail has tokens.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn.ground import devices
from glrnn.heads.clusters import Tail, Tokens
from glrnn.heads.log_probs import mixture_log_likelihoods
from glrnn.heads.loss import mixture_nll

Sums = TypeVar("Sums")

# The tokens of a chunk, by platform: enough for the products to run at full speed, few
# enough that the last chunk of a tail wastes little.
CHUNKS = {"cpu": 128}
OTHER_CHUNK = 512


@jax.custom_vjp
def tails_nll(rows: Array, tails: tuple[Tail, ...], tokens: Tokens) -> Array:
    """- sum_i w_i log softmax(D_j P_j' x_i + b_j)[y_i], j the cluster of token i.

    Tokens of the head add nothing. Differentiable in `rows` and `tails`. As in
    `mixture_nll`, the gradient is computed in the forward pass.

    Args:
        rows: x, `[n, E]`.
        tails: The tails, j = 1, 2, ...
        tokens: The clusters, the words y and the weights w.

    Returns:
        A scalar in nats.

    Example:
        >>> tail = Tail(jnp.ones((4, 1)), jnp.zeros((5, 1)), jnp.zeros(5))
        >>> tokens = Tokens(jnp.array([0, 1]), jnp.array([3, 2]), jnp.ones(2))
        >>> print(f"{tails_nll(jnp.ones((2, 4)), (tail,), tokens):.4f}")
        1.6094
    """
    return -jnp.sum(tokens.weights * tails_log_likelihoods(rows, tails, tokens))


def tails_log_likelihoods(
    rows: Array, tails: tuple[Tail, ...], tokens: Tokens
) -> Array:
    """log softmax(D_j P_j' x_i + b_j)[y_i] of each token; 0 for those of the head.

    Args:
        rows: x, `[n, E]`.
        tails: The tails, j = 1, 2, ...
        tokens: The clusters and the words y.

    Returns:
        `[n]`, in nats.

    Example:
        >>> tail = Tail(jnp.ones((4, 1)), jnp.zeros((5, 1)), jnp.zeros(5))
        >>> tokens = Tokens(jnp.array([0, 1]), jnp.array([3, 2]), jnp.ones(2))
        >>> found = tails_log_likelihoods(jnp.ones((2, 4)), (tail,), tokens)
        >>> jnp.exp(found).round(3).tolist()
        [1.0, 0.20000000298023224]
    """

    def score(tail, chunk, found):
        latents = narrowed(rows[chunk.places][:, None, None], tail)
        log_prior = jnp.zeros(latents.shape[:3], latents.dtype)
        words = chunk.words[:, None]
        each = mixture_log_likelihoods(latents, log_prior, tail.table, tail.bias, words)
        return _put(found, chunk, each[:, 0])

    found = jnp.zeros(len(rows), rows.dtype)
    for tail, members in zip(tails, _members(tokens, len(tails)), strict=True):
        found = _over_chunks(members, partial(score, tail), found)
    return found


def narrowed(latents: Array, tail: Tail) -> Array:
    """P' x, what a tail compares its words with.

    Args:
        latents: x, `[T, B, K, E]`.
        tail: The tail.

    Returns:
        `[T, B, K, F]`.

    Example:
        >>> tail = Tail(jnp.ones((4, 2)), jnp.zeros((5, 2)), jnp.zeros(5))
        >>> narrowed(jnp.ones((3, 1, 1, 4)), tail).shape
        (3, 1, 1, 2)
    """
    *shape, size = latents.shape
    found = jnp.matmul(latents.reshape(-1, size), tail.projection)
    return found.reshape(*shape, -1)


class _Chunk(NamedTuple):
    """Some tokens of one tail.

    Attributes:
        places: Their places in the window, `[n]`.
        inside: Whether they belong to the tail; the others are padding.
        words: As in `Tokens`, 0 in the padding.
        weights: As in `Tokens`, 0 in the padding.
    """

    places: Array
    inside: Array
    words: Array
    weights: Array


class _Members(NamedTuple):
    """All tokens of one tail.

    Attributes:
        tokens: The tokens of the window.
        order: Their places, sorted by cluster, `[n]`.
        start: The first place of the tail in this order.
        count: The number of its tokens.
    """

    tokens: Tokens
    order: Array
    start: Array
    count: Array


def _members(tokens: Tokens, num_tails: int) -> Iterator[_Members]:
    order = jnp.argsort(tokens.clusters, stable=True)
    for number in range(1, num_tails + 1):
        yield _Members(
            tokens,
            order,
            jnp.sum(tokens.clusters < number),
            jnp.sum(tokens.clusters == number),
        )


def _over_chunks(
    members: _Members, add: Callable[[_Chunk, Sums], Sums], sums: Sums
) -> Sums:
    """Adds up what `add` makes of each chunk of a tail's tokens."""
    tokens, order, start, count = members
    size = min(len(order), CHUNKS.get(devices.platform(), OTHER_CHUNK))
    most = -(-len(order) // size)
    order = jnp.pad(order, (0, size))

    def more(reached: tuple[Array, Array, Sums]) -> Array:
        # There are never more than `most`; here it tells readers of the program.
        return reached[0] < jnp.minimum(reached[1], most)

    def one(reached: tuple[Array, Array, Sums]) -> tuple[Array, Array, Sums]:
        index, num_chunks, sums = reached
        before = index * size
        places = lax.dynamic_slice(order, (start + before,), (size,))
        inside = before + jnp.arange(size) < count
        words = jnp.where(inside, tokens.words[places], 0)
        weights = jnp.where(inside, tokens.weights[places], 0)
        sums = add(_Chunk(places, inside, words, weights), sums)
        return index + 1, num_chunks, sums

    num_chunks = (count + size - 1) // size
    return lax.while_loop(more, one, (jnp.zeros_like(count), num_chunks, sums))[2]


def _put(array: Array, chunk: _Chunk, values: Array) -> Array:
    """Writes values of a chunk's tokens to their places, but not of its padding."""
    # The padding has places beyond the array, so that no place is written twice.
    beyond = len(array) + jnp.arange(len(values), dtype=chunk.places.dtype)
    places = jnp.where(chunk.inside, chunk.places, beyond)
    return array.at[places].set(values, mode="drop", unique_indices=True)


def _chunk_nll(rows, tail, chunk):
    latents = narrowed(rows[:, None, None], tail)
    log_prior = jnp.zeros(latents.shape[:3], latents.dtype)
    words, weights = chunk.words[:, None], chunk.weights[:, None]
    return mixture_nll(latents, log_prior, tail.table, tail.bias, words, weights)


def _forward(rows, tails, tokens):
    def add(tail, chunk, sums):
        total, rows_grad, grads = sums
        nll = jax.value_and_grad(_chunk_nll, (0, 1))
        found, (own, more) = nll(rows[chunk.places], tail, chunk)
        grads = jax.tree.map(jnp.add, grads, more)
        return total + found, _put(rows_grad, chunk, own), grads

    total, rows_grad, tail_grads = jnp.zeros((), rows.dtype), jnp.zeros_like(rows), []
    for tail, members in zip(tails, _members(tokens, len(tails)), strict=True):
        sums = total, rows_grad, jax.tree.map(jnp.zeros_like, tail)
        total, rows_grad, grads = _over_chunks(members, partial(add, tail), sums)
        tail_grads.append(grads)
    return total, (rows_grad, tuple(tail_grads))


def _backward(grads, cotangent):
    return *jax.tree.map(lambda grad: cotangent * grad, grads), None


tails_nll.defvjp(_forward, _backward)
