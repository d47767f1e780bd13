"""The loss of a mixture of softmaxes, and its gradient along with it.

It processes a few tokens of the window at a time and computes their gradients along
with their logits, so that no logits are stored and none are computed twice.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from glrnn.data.ids import check_ids
from glrnn.errors import UsageError
from glrnn.ground.arrays import in_float32, is_known
from glrnn.heads.blocks import (
    block,
    chunks_of,
    joint_log_probs,
    logits_of,
    normalizer,
    num_logits_scored,
    scan,
    tiles_of,
)
from glrnn.heads.scatter import add_rows


def mixture_nll(
    latents: Array,
    log_prior: Array,
    table: Array,
    bias: Array,
    targets: Array,
    weights: Array,
) -> Array:
    """- sum_tb w_tb log sum_k pi_tbk softmax(D z_tbk + b)[y_tb].

    Differentiable in all but `targets` and `weights`. The gradient is computed in the
    forward pass, up to a scalar factor. This needs the tokens' weights, which is why
    they are an argument and the result is a weighted sum.

    Args:
        latents: z, `[T, B, K, E]`.
        log_prior: log pi, `[T, B, K]`.
        table: D, `[V, E]`.
        bias: b, `[V]`.
        targets: y, `[T, B]`, integers below V.
        weights: w, `[T, B]`; 0 leaves out a token whose latent vectors and logits are
            finite, a bias of -inf aside.

    Returns:
        A scalar in nats, in the widest dtype of the arguments, float32 at least.

    Raises:
        UsageError: if shapes do not fit, T, B or V is 0, or `targets` are not integers
            below V. They can be compared with V where they are known, which is outside
            of `jax.jit`.

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
    _check_shapes(latents, log_prior, table, bias, targets, weights)
    check_known_ids(targets, "array of targets", len(table))
    values = in_float32((latents, log_prior, table, bias, weights))
    dtype = jnp.result_type(*values)
    latents, log_prior, table, bias, weights = (x.astype(dtype) for x in values)
    return _weighted_nll(latents, log_prior, table, bias, targets, weights)


def _check_shapes(latents, log_prior, table, bias, targets, weights):
    """Refuses shapes that would be broadcast, or leave nothing to compute."""
    tokens, table_shape = jnp.shape(targets), jnp.shape(table)
    if len(tokens) != 2 or len(table_shape) != 2 or 0 in (*tokens, table_shape[0]):
        raise UsageError(
            f"the loss takes targets [T, B] and a table [V, E], with T, B and V at "
            f"least 1; got {list(tokens)} and {list(table_shape)}"
        )
    prior = *tokens, *jnp.shape(log_prior)[-1:]
    for name, array, shape in (
        ("latent vectors", latents, (*prior, table_shape[1])),
        ("log prior", log_prior, prior),
        ("bias", bias, table_shape[:1]),
        ("weights", weights, tokens),
    ):
        if jnp.shape(array) != shape:
            raise UsageError(
                f"the {name} of the loss must have shape {list(shape)} to fit the "
                f"targets and the table; got {list(jnp.shape(array))}"
            )


def check_known_ids(ids: Any, what: str, vocabulary_size: int) -> None:
    """Refuses ids `[T, B]` outside the vocabulary, which indexing would clamp.

    Traced ids pass.

    Raises:
        UsageError: if `check_ids` refuses them.

    Example:
        >>> check_known_ids(jnp.array([[1, 9]]), "window", vocabulary_size=9)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: the window holds the id 9; ids must be in 0 .. 8
    """
    if is_known(ids):
        check_ids(ids, what, vocabulary_size, num_axes=2)


@jax.custom_vjp
def _weighted_nll(latents, log_prior, table, bias, targets, weights):
    tiles = tiles_of(table, bias, log_prior.size)

    def add(total, chunk):
        return total + _mix(normalizer(chunk[0], tiles), *chunk)[0], None

    chunks = chunks_of(
        num_logits_scored(),
        table,
        latents,
        log_prior,
        table[targets],
        _own_bias(bias, targets, weights),
        weights,
    )
    total, _ = scan(add, jnp.zeros((), latents.dtype), chunks)
    return total


def _own_bias(bias, targets, weights):
    """The targets' biases; one of -inf rules a word out, but not where none counts."""
    return jnp.where(weights == 0, 0, bias[targets])


def _mix(normalizer, latents, log_prior, own, own_bias, weights):
    """The weighted loss of a chunk, and the share of each softmax in the gradient."""
    joint = joint_log_probs(normalizer, latents, log_prior, own, own_bias)
    log_likelihood = jax.nn.logsumexp(joint, axis=-1)
    responsibility = jnp.exp(joint - log_likelihood[:, None]) * weights[:, None]
    return -jnp.sum(weights * log_likelihood), responsibility


def _forward(latents, log_prior, table, bias, targets, weights):
    tiles = tiles_of(table, bias, log_prior.size)

    def add(sums, chunk):
        total, *tile_grads = sums
        rows = chunk[0].reshape(-1, table.shape[1])
        logits = [logits_of(rows, tile) for tile in tiles]
        top = jnp.max(jnp.stack([jnp.max(part, axis=1) for part in logits]), axis=0)
        exps = [jnp.exp(part - top[:, None]) for part in logits]
        sum_exps = sum(jnp.sum(part, axis=1) for part in exps)
        loss, responsibility = _mix(top + jnp.log(sum_exps), *chunk)
        # The factor that turns a row of exponentials into a gradient.
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
    own_bias = _own_bias(bias, targets, weights)
    chunks = chunks_of(
        block().logits, table, latents, log_prior, own, own_bias, weights
    )
    (total, *tile_grads), grads = scan(add, zeros, chunks)
    table_grad, bias_grad = map(jnp.concatenate, zip(*tile_grads, strict=True))
    latents_grad, responsibility = (
        grad.reshape(-1, *like.shape[2:])[: targets.size].reshape(like.shape)
        for grad, like in zip(grads, (latents, log_prior), strict=True)
    )
    # The gradients so far treat every word as wrong; correct them for the targets.
    latents_grad -= responsibility[..., None] * own[:, :, None]
    right = jnp.sum(responsibility[..., None] * latents, axis=2)
    words, share = targets.ravel(), jnp.sum(responsibility, axis=-1)
    table_grad = add_rows(table_grad, words, -right.reshape(-1, table.shape[1]))
    bias_grad = add_rows(bias_grad, words, -share.ravel())
    return total, (latents_grad, -responsibility, table_grad, bias_grad)


def _backward(grads, cotangent):
    return *(cotangent * grad for grad in grads), None, None


_weighted_nll.defvjp(_forward, _backward)
