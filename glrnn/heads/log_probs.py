"""Log-probabilities under a mixture of softmaxes: of the targets, or of all words.

The arguments are those of `glrnn.heads.loss.mixture_nll`.
"""

import math

import jax
from jax import Array

from glrnn.heads.blocks import (
    chunks_of,
    joint_log_probs,
    logits_of,
    normalizer,
    num_logits_scored,
    scan,
    tiles_of,
)


def mixture_log_likelihoods(
    latents: Array, log_prior: Array, table: Array, bias: Array, targets: Array
) -> Array:
    """log sum_k pi_tbk softmax(D z_tbk + b)[y_tb], of each token.

    Returns:
        `[T, B]`, in nats. As in `mixture_nll`, no more than a chunk of logits is held.

    Example:
        >>> import jax.numpy as jnp
        >>> log_prior = jnp.log(jnp.full((2, 1, 3), 1 / 3))
        >>> found = mixture_log_likelihoods(
        ...     jnp.zeros((2, 1, 3, 4)),
        ...     log_prior,
        ...     jnp.ones((5, 4)),
        ...     jnp.zeros(5),
        ...     jnp.zeros((2, 1), int),
        ... )
        >>> jnp.exp(found).round(3).tolist()
        [[0.20000000298023224], [0.20000000298023224]]
    """
    tiles = tiles_of(table, bias, log_prior.size)

    def score(_, chunk):
        joint = joint_log_probs(normalizer(chunk[0], tiles), *chunk)
        return (), jax.nn.logsumexp(joint, axis=-1)

    chunks = chunks_of(
        num_logits_scored(), table, latents, log_prior, table[targets], bias[targets]
    )
    _, found = scan(score, (), chunks)
    return found.ravel()[: targets.size].reshape(targets.shape)


def mixture_log_probs(
    latents: Array, log_prior: Array, table: Array, bias: Array
) -> Array:
    """log sum_k pi_tbk softmax(D z_tbk + b), of all words.

    Returns:
        `[T, B, V]`, in nats.

    Example:
        >>> import jax.numpy as jnp
        >>> found = mixture_log_probs(
        ...     jnp.zeros((1, 1, 1, 4)),
        ...     jnp.zeros((1, 1, 1)),
        ...     jnp.ones((4, 4)),
        ...     jnp.zeros(4),
        ... )
        >>> jnp.exp(found).tolist()
        [[[0.25, 0.25, 0.25, 0.25]]]
    """

    def mix(_, chunk):
        latents, log_prior = chunk
        rows = latents.reshape(-1, table.shape[1])
        each = jax.nn.log_softmax(logits_of(rows, (table, bias)), axis=-1)
        each = each.reshape(*log_prior.shape, -1) + log_prior[..., None]
        return (), jax.nn.logsumexp(each, axis=1)

    chunks = chunks_of(num_logits_scored(), table, latents, log_prior)
    _, found = scan(mix, (), chunks)
    num_tokens = math.prod(log_prior.shape[:-1])
    found = found.reshape(-1, len(table))[:num_tokens]
    return found.reshape(*log_prior.shape[:-1], len(table))
