"""The interface of output distributions, and the loss that all of them use.

The distribution over the next word is a mixture of K softmaxes over one tied table;
K = 1 is the ordinary softmax. The loss never holds `[T, B, K, V]`: it processes a few
tokens of the window at a time and computes their gradients along with their logits, so
that no logits are stored and none are computed twice.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn.data.ids import check_ids
from glrnn.errors import UsageError
from glrnn.ground import devices
from glrnn.ground.arrays import in_float32, is_known
from glrnn.heads.scatter import add_rows

Tree = Any


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


class Head(NamedTuple):
    """An output distribution as pure functions.

    Attributes:
        init: `key -> params`, an empty tuple if there are no parameters.
        nll: `(params, table [V, E], bias [V], outputs [T, B, H], targets [T, B],
            weights [T, B], mask) -> scalar`, the weighted sum of the tokens' negative
            log-likelihoods in nats. `mask` is the dropout mask on the latent vectors,
            or `None`.
        latent_size: The number of features of the latent vectors that the mask
            multiplies, or `None`.
        log_likelihoods: `(params, table, bias, outputs, targets, mask) -> [T, B]`, the
            log-probability of each target in nats.
        log_probs: `(params, table, bias, outputs, mask) -> [T, B, V]`, those of all
            words.
    """

    init: Callable[[Array], Tree]
    nll: Callable[..., Array]
    latent_size: int | None
    log_likelihoods: Callable[..., Array]
    log_probs: Callable[..., Array]


def mixture_head(
    init: Callable[[Array], Tree],
    latents_and_prior: Callable[..., tuple[Array, Array]],
    latent_size: int | None,
) -> Head:
    """A head whose distribution is a mixture of softmaxes over the table.

    Args:
        init: As in `Head`.
        latents_and_prior: `(params, outputs [T, B, H], mask) -> (latents [T, B, K, E],
            log_prior [T, B, K])`.
        latent_size: As in `Head`.

    Example:
        An ordinary softmax over outputs as wide as the embedding.

        >>> def certain(params, outputs, mask):
        ...     return outputs[:, :, None], jnp.zeros((*outputs.shape[:2], 1))
        >>> head = mixture_head(lambda key: (), certain, None)
        >>> head.log_probs(
        ...     (), jnp.ones((5, 4)), jnp.zeros(5), jnp.ones((2, 3, 4))
        ... ).shape
        (2, 3, 5)
    """

    def nll(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        targets: Array,
        weights: Array,
        mask: Array | None = None,
    ) -> Array:
        latents, log_prior = latents_and_prior(params, outputs, mask)
        return mixture_nll(latents, log_prior, table, bias, targets, weights)

    def log_likelihoods(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        targets: Array,
        mask: Array | None = None,
    ) -> Array:
        latents, log_prior = latents_and_prior(params, outputs, mask)
        return mixture_log_likelihoods(latents, log_prior, table, bias, targets)

    def log_probs(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        mask: Array | None = None,
    ) -> Array:
        latents, log_prior = latents_and_prior(params, outputs, mask)
        return mixture_log_probs(latents, log_prior, table, bias)

    return Head(init, nll, latent_size, log_likelihoods, log_probs)


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


def mixture_log_likelihoods(
    latents: Array, log_prior: Array, table: Array, bias: Array, targets: Array
) -> Array:
    """log sum_k pi_tbk softmax(D z_tbk + b)[y_tb], of each token.

    Args:
        latents: z, `[T, B, K, E]`.
        log_prior: log pi, `[T, B, K]`.
        table: D, `[V, E]`.
        bias: b, `[V]`.
        targets: y, `[T, B]`, integers below V.

    Returns:
        `[T, B]`, in nats. As in `mixture_nll`, no more than a chunk of logits is held.

    Example:
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
    tiles = _tiles(table, bias, log_prior.size)

    def score(_, chunk):
        joint = _joint(_normalizer(chunk[0], tiles), *chunk)
        return (), jax.nn.logsumexp(joint, axis=-1)

    chunks = _chunks(
        _num_logits(), table, latents, log_prior, table[targets], bias[targets]
    )
    _, found = _scan(score, (), chunks)
    return found.ravel()[: targets.size].reshape(targets.shape)


def mixture_log_probs(
    latents: Array, log_prior: Array, table: Array, bias: Array
) -> Array:
    """log sum_k pi_tbk softmax(D z_tbk + b), of all words.

    Args:
        latents: z, `[T, B, K, E]`.
        log_prior: log pi, `[T, B, K]`.
        table: D, `[V, E]`.
        bias: b, `[V]`.

    Returns:
        `[T, B, V]`, in nats.

    Example:
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
        each = jax.nn.log_softmax(_logits(rows, (table, bias)), axis=-1)
        each = each.reshape(*log_prior.shape, -1) + log_prior[..., None]
        return (), jax.nn.logsumexp(each, axis=1)

    chunks = _chunks(_num_logits(), table, latents, log_prior)
    _, found = _scan(mix, (), chunks)
    num_tokens = math.prod(log_prior.shape[:-1])
    found = found.reshape(-1, len(table))[:num_tokens]
    return found.reshape(*log_prior.shape[:-1], len(table))


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
    tiles = _tiles(table, bias, log_prior.size)

    def add(total, chunk):
        return total + _mix(_normalizer(chunk[0], tiles), *chunk)[0], None

    chunks = _chunks(
        _num_logits(),
        table,
        latents,
        log_prior,
        table[targets],
        _own_bias(bias, targets, weights),
        weights,
    )
    total, _ = _scan(add, jnp.zeros((), latents.dtype), chunks)
    return total


def _num_logits():
    """Twice as many logits as in training, since none are held for a gradient."""
    return 2 * _block().logits


def _normalizer(latents, tiles):
    """The log of the sum over words, of each token's softmaxes, `[n K]`."""
    rows = latents.reshape(-1, latents.shape[-1])
    parts = [jax.nn.logsumexp(_logits(rows, tile), axis=1) for tile in tiles]
    return jax.nn.logsumexp(jnp.stack(parts), axis=0)


def _own_bias(bias, targets, weights):
    """The targets' biases; one of -inf rules a word out, but not where none counts."""
    return jnp.where(weights == 0, 0, bias[targets])


def _scan(add, start, chunks):
    """A scan; a single chunk is unrolled, so its gradients are not added to zeros."""
    return lax.scan(add, start, chunks, unroll=len(chunks[0]) == 1)


def _logits(rows, tile):
    table, bias = tile
    return jnp.matmul(rows, table.T) + bias[None]


def _mix(normalizer, latents, log_prior, own, own_bias, weights):
    """The weighted loss of a chunk, and the share of each softmax in the gradient."""
    joint = _joint(normalizer, latents, log_prior, own, own_bias)
    log_likelihood = jax.nn.logsumexp(joint, axis=-1)
    responsibility = jnp.exp(joint - log_likelihood[:, None]) * weights[:, None]
    return -jnp.sum(weights * log_likelihood), responsibility


def _joint(normalizer, latents, log_prior, own, own_bias):
    """The log-probability of each softmax and the target together, `[n, K]`."""
    score = jnp.sum(latents * own[:, None], axis=-1) + own_bias[:, None]
    return log_prior + score - normalizer.reshape(log_prior.shape)


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
    chunks = _chunks(_block().logits, table, latents, log_prior, own, own_bias, weights)
    (total, *tile_grads), grads = _scan(add, zeros, chunks)
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


def _block() -> Block:
    return BLOCKS.get(devices.platform(), OTHER_BLOCK)


def _num_tiles(table, num_rows):
    if num_rows * len(table) <= _block().logits:
        return 1
    return min(len(table), -(-table.size // _block().table))


def _tiles(table, bias, num_rows):
    """The table and the bias, each cut into equal parts of the vocabulary."""
    num_words, num_tiles = len(table), _num_tiles(table, num_rows)
    cuts = [num_words * i // num_tiles for i in range(num_tiles + 1)]
    return [(table[slice(*cut)], bias[slice(*cut)]) for cut in pairwise(cuts)]


def _chunks(num_logits, table, latents, log_prior, *others):
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
