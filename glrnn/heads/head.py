"""What an output distribution is, and the one loss that both kinds are made of.

The distribution over the next word is a mixture of K softmaxes over one tied table;
K = 1 is the ordinary softmax. The loss never holds `[T, B, K, V]`: it works through the
window a few time steps at a time and forms the gradients while the logits are at hand,
so that no logits are stored and none are computed twice.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Tree = Any

# Rows of logits (time steps x sequences x softmaxes) at hand at a time: enough for the
# matrix products to run at full speed, few enough to stay in the cache.
ROWS = 256


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

    def add(total, chunk):
        weighted, *_ = _mix(table, bias, *chunk)
        return total + weighted, None

    chunks = _chunks(latents, log_prior, targets, weights)
    total, _ = lax.scan(add, jnp.zeros((), latents.dtype), chunks)
    return total


def _mix(table, bias, latents, log_prior, targets, weights):
    """One chunk: its weighted loss, and what the gradient needs."""
    num_rows = log_prior.size
    rows = latents.reshape(num_rows, -1)
    chosen = jnp.repeat(
        targets.ravel(), log_prior.shape[-1], total_repeat_length=num_rows
    )
    logits = jnp.matmul(rows, table.T) + bias[None]
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    score = jnp.sum(rows * table[chosen], axis=-1) + bias[chosen]
    joint = log_prior + (score - normalizer).reshape(log_prior.shape)
    log_likelihood = jax.nn.logsumexp(joint, axis=-1)
    responsibility = jnp.exp(joint - log_likelihood[..., None]) * weights[..., None]
    loss = -jnp.sum(weights * log_likelihood)
    return loss, rows, chosen, logits, normalizer, responsibility


def _forward(latents, log_prior, table, bias, targets, weights):
    def add(sums, chunk):
        total, table_grad, bias_grad = sums
        loss, rows, chosen, logits, normalizer, responsibility = _mix(
            table, bias, *chunk
        )
        share = responsibility.reshape(-1, 1)
        hit = jnp.arange(logits.shape[1])[None] == chosen[:, None]
        logits_grad = share * (jnp.exp(logits - normalizer[:, None]) - hit)
        rows_grad = jnp.matmul(logits_grad, table)
        table_grad += jnp.matmul(logits_grad.T, rows)
        bias_grad += jnp.sum(logits_grad, axis=0)
        sums = total + loss, table_grad, bias_grad
        return sums, (rows_grad.reshape(chunk[0].shape), -responsibility)

    zeros = jnp.zeros((), latents.dtype), jnp.zeros_like(table), jnp.zeros_like(bias)
    chunks = _chunks(latents, log_prior, targets, weights)
    (total, table_grad, bias_grad), (latents_grad, prior_grad) = lax.scan(
        add, zeros, chunks
    )
    num_steps = latents.shape[0]
    latents_grad = latents_grad.reshape(-1, *latents.shape[1:])[:num_steps]
    prior_grad = prior_grad.reshape(-1, *log_prior.shape[1:])[:num_steps]
    return total, (latents_grad, prior_grad, table_grad, bias_grad)


def _backward(grads, cotangent):
    return *(cotangent * grad for grad in grads), None, None


mixture_nll.defvjp(_forward, _backward)


def _chunks(*arrays):
    """Cuts `[T, B, ...]` into `[T/c, c, B, ...]`, padded with zeros, about ROWS rows.

    Along time alone, so that a batch sharded over devices stays where it is.
    """
    num_steps, batch_size, num_softmaxes = arrays[1].shape
    num_chunks = -(-num_steps * batch_size * num_softmaxes // ROWS)
    num_chunks = min(num_chunks, num_steps)
    size = -(-num_steps // num_chunks)
    num_chunks = -(-num_steps // size)

    def cut(array):
        rest = num_chunks * size - num_steps
        padded = jnp.pad(array, [(0, rest)] + [(0, 0)] * (array.ndim - 1))
        return padded.reshape(num_chunks, size, *array.shape[1:])

    return tuple(cut(array) for array in arrays)
