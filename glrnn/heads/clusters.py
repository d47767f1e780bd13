"""The clusters of an adaptive softmax: which rows, features and tokens each has."""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

# A tail is compared with vectors this many times as narrow as those of the cluster
# before it.
FACTOR = 4


class Tail(NamedTuple):
    """What the words of a tail are compared with.

    Attributes:
        projection: P, `[E, F]`.
        table: The first F features of the words' rows of the table, `[N, F]`.
        bias: The words' biases, `[N]`.
    """

    projection: Array
    table: Array
    bias: Array


class Tokens(NamedTuple):
    """The tokens of a window.

    Attributes:
        clusters: The cluster of each token, 0 for the head and j for tail j, `[n]`.
        words: The index of its word among those of its cluster, `[n]`.
        weights: `[n]`.
    """

    clusters: Array
    words: Array
    weights: Array


def widths_of(embedding_size: int, num_tails: int) -> list[int]:
    """The number of features that the words of each tail are compared by.

    Example:
        >>> widths_of(400, 3)
        [100, 25, 6]
    """
    return [max(1, embedding_size // FACTOR ** (j + 1)) for j in range(num_tails)]


def tokens_of(
    cutoffs: Sequence[int], targets: Array, weights: Array
) -> tuple[Tokens, Array]:
    """The tokens by their clusters, and the index of each in the head.

    A tail is the word of the head that comes after the head's own words and the tails
    before it. A token of weight zero is taken for the first word, so that no tail
    computes it.

    Args:
        cutoffs: The first word of each tail.
        targets: `[T, B]`.
        weights: `[T, B]`.

    Returns:
        The tokens, `[T B]`, and their words in the head, `[T, B]`.

    Example:
        >>> targets = jnp.array([[1, 2, 9, 9]])
        >>> tokens, in_head = tokens_of([2, 5], targets, jnp.array([[1, 1, 1, 0]]))
        >>> tokens.clusters.tolist(), tokens.words.tolist(), in_head.tolist()
        ([0, 1, 2, 0], [1, 0, 4, 0], [[1, 2, 3, 0]])
    """
    targets = jnp.where(weights == 0, 0, targets)
    firsts = jnp.array((0, *cutoffs), targets.dtype)
    reached = targets[..., None] >= firsts[None, None, 1:]
    clusters = jnp.sum(reached, axis=-1, dtype=targets.dtype)
    num_words = cutoffs[0] if cutoffs else 0
    in_head = jnp.where(clusters == 0, targets, num_words + clusters - 1)
    tokens = Tokens(clusters, targets - firsts[clusters], weights)
    return jax.tree.map(jnp.ravel, tokens), in_head


def split_table(
    table: Array, cutoffs: tuple[int, ...], widths: tuple[int, ...]
) -> tuple[Array, ...]:
    """The rows of the head, and those of each tail cut to its number of features.

    Differentiable in the table. The gradient is written once, where JAX would add up a
    whole table of zeros for each part.

    Args:
        table: `[V, E]`.
        cutoffs: The first word of each tail.
        widths: The number of features of each tail.

    Example:
        >>> parts = split_table(jnp.ones((9, 4)), (2, 5), (2, 1))
        >>> [part.shape for part in parts]
        [(2, 4), (3, 2), (4, 1)]
    """
    return _split(cutoffs, widths, table)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _split(cutoffs, widths, table):
    cuts = itertools.pairwise((0, *cutoffs, len(table)))
    widths = table.shape[1], *widths
    return tuple(
        table[slice(*cut), :width] for cut, width in zip(cuts, widths, strict=True)
    )


def _join(cutoffs, widths, _, grads):
    size = grads[0].shape[1]
    wide = [jnp.pad(part, [(0, 0), (0, size - part.shape[1])]) for part in grads]
    return (jnp.concatenate(wide),)


_split.defvjp(lambda *arguments: (_split(*arguments), None), _join)
