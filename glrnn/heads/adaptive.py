"""The adaptive softmax (Grave, Joulin, Cissé, Grangier and Jégou 2017).

Most tokens are a few frequent words. They are predicted by a small softmax, the head,
in which each cluster of rarer words, a tail, is one more word. Which word of a tail it
is, only the tokens of that tail compute.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from glrnn.cells import affine
from glrnn.ground.arrays import in_float32
from glrnn.heads.clusters import Tail, split_table, tokens_of, widths_of
from glrnn.heads.head import Head, head_of
from glrnn.heads.log_probs import mixture_log_likelihoods, mixture_log_probs
from glrnn.heads.loss import check_known_ids, mixture_nll
from glrnn.heads.softmax import check_one, one_softmax
from glrnn.heads.tails import narrowed, tails_log_likelihoods, tails_nll


@struct.dataclass
class AdaptiveParams:
    """The weights of an adaptive softmax with J tails.

    Attributes:
        down: W, `[H, E]`, without a bias; `None` where H is E.
        clusters: C, the rows of the tails in the head, `[J, E]`.
        cluster_bias: a, `[J]`.
        projections: P_j of each tail, `[E, E / 4^j]`, without a bias.
    """

    down: Array | None
    clusters: Array
    cluster_bias: Array
    projections: tuple[Array, ...]


class _Read(NamedTuple):
    """What probabilities are computed from.

    Attributes:
        cutoffs: The first word of each tail.
        latents: x, `[T, B, 1, E]`.
        log_prior: Zeros, `[T, B, 1]`.
        head: The table of the head, `[N_0 + J, E]`.
        head_bias: `[N_0 + J]`.
        tails: The tails.
    """

    cutoffs: tuple[int, ...]
    latents: Array
    log_prior: Array
    head: Array
    head_bias: Array
    tails: tuple[Tail, ...]

    @property
    def of_head(self) -> tuple[Array, Array, Array, Array]:
        """The first arguments of the head's own softmax."""
        return self.latents, self.log_prior, self.head, self.head_bias

    @property
    def rows(self) -> Array:
        """The latent vectors, `[T B, E]`."""
        return self.latents.reshape(-1, self.latents.shape[-1])

    @property
    def vocabulary_size(self) -> int:
        """The number of all words, V."""
        of_clusters = [len(self.head_bias), *(len(tail.bias) for tail in self.tails)]
        return sum(of_clusters) - len(self.tails)


def adaptive(
    hidden_size: int,
    embedding_size: int,
    num_softmaxes: int = 1,
    cutoffs: Sequence[int] = (),
) -> Head:
    """p(y) = p_0(y) for a word of the head, p_0(tail j) p_j(y) for one of tail j.

    p_0 = softmax over D_0 x + b_0 and C x + a + log N;  p_j = softmax(D_j P_j' x +
    b_j);  x = W' o, or o if the last layer is as wide as the embedding. D_0 are the
    rows of the table of the head's words. D_j are those of tail j, cut to their first
    E / 4^j features, so that every word is tied to its input embedding as far as it is
    wide. N is the number of words of each tail: without it, a tail would begin as
    likely as a single word.

    W and P are initialised semi-orthogonal, C and a with zeros. Dropout acts on x.

    Args:
        hidden_size: The hidden size of the last layer, H.
        embedding_size: E.
        num_softmaxes: Must be 1.
        cutoffs: The first word of each tail, of words in order of frequency. Without
            any it is an ordinary softmax.

    Raises:
        ValueError: if `num_softmaxes` is not 1, or the cut-offs do not rise from 1 or
            more.

    Example:
        >>> params = adaptive(6, 8, cutoffs=(10, 100)).init(jax.random.key(0))
        >>> params.clusters.shape, [each.shape for each in params.projections]
        ((2, 8), [(8, 2), (8, 1)])
    """
    check_one(num_softmaxes)
    cutoffs = tuple(cutoffs)
    if any(after <= before for before, after in itertools.pairwise((0, *cutoffs))):
        raise ValueError(f"the cut-offs are {cutoffs}; they must rise, from 1 or more")

    def init(key: Array) -> AdaptiveParams:
        return _init(hidden_size, embedding_size, len(cutoffs), key)

    def read(
        params: AdaptiveParams,
        table: Array,
        bias: Array,
        outputs: Array,
        mask: Array | None,
    ) -> tuple[_Read]:
        return (_read(cutoffs, params, table, bias, outputs, mask),)

    head = head_of(init, read, embedding_size, _nll, _log_likelihoods, _log_probs)
    return head._replace(tempered=_tempered)


def _init(hidden_size, embedding_size, num_tails, key):
    key, *keys = jax.random.split(key, 1 + num_tails)
    random = jax.nn.initializers.orthogonal()
    is_as_wide = hidden_size == embedding_size
    widths = widths_of(embedding_size, num_tails)
    return AdaptiveParams(
        down=None if is_as_wide else random(key, (hidden_size, embedding_size)),
        clusters=jnp.zeros((num_tails, embedding_size)),
        cluster_bias=jnp.zeros(num_tails),
        projections=tuple(
            random(each, (embedding_size, width))
            for each, width in zip(keys, widths, strict=True)
        ),
    )


def _tempered(params, temperature):
    """The parameters whose logits are divided by a temperature."""
    return params.replace(
        clusters=params.clusters / temperature,
        cluster_bias=params.cluster_bias / temperature,
    )


def _read(cutoffs, params, table, bias, outputs, mask):
    """Computes in the widest dtype of all, float32 at least."""
    values = in_float32((params, table, bias, outputs))
    dtype = jnp.result_type(*jax.tree.leaves(values))
    params, table, bias, outputs = jax.tree.map(lambda x: x.astype(dtype), values)
    if params.down is not None:
        outputs = affine(outputs, params.down)
    latents, log_prior = one_softmax((), outputs, mask)
    widths = [each.shape[1] for each in params.projections]
    head, *tables = split_table(table, cutoffs, tuple(widths))
    ends = *cutoffs, len(table)
    sizes = [after - before for before, after in itertools.pairwise(ends)]
    biases = jnp.split(bias, cutoffs)
    of_tails = params.cluster_bias + jnp.log(jnp.array(sizes, dtype))
    return _Read(
        cutoffs,
        latents,
        log_prior,
        jnp.concatenate([head, params.clusters]),
        jnp.concatenate([biases[0], of_tails]),
        tuple(map(Tail, params.projections, tables, biases[1:])),
    )


def _nll(read: _Read, targets: Array, weights: Array) -> Array:
    check_known_ids(targets, "array of targets", read.vocabulary_size)
    weights = in_float32(weights).astype(read.latents.dtype)
    tokens, in_head = tokens_of(read.cutoffs, targets, weights)
    total = mixture_nll(*read.of_head, in_head, weights)
    return total + tails_nll(read.rows, read.tails, tokens)


def _log_likelihoods(read: _Read, targets: Array) -> Array:
    weights = jnp.ones(targets.shape, read.latents.dtype)
    tokens, in_head = tokens_of(read.cutoffs, targets, weights)
    each = mixture_log_likelihoods(*read.of_head, in_head)
    in_tails = tails_log_likelihoods(read.rows, read.tails, tokens)
    return each + in_tails.reshape(each.shape)


def _log_probs(read: _Read) -> Array:
    head = mixture_log_probs(*read.of_head)
    num_words = head.shape[-1] - len(read.tails)
    parts = [head[..., :num_words]]
    for number, tail in enumerate(read.tails, num_words):
        latents = narrowed(read.latents, tail)
        inside = mixture_log_probs(latents, read.log_prior, tail.table, tail.bias)
        parts.append(head[..., number, None] + inside)
    return jnp.concatenate(parts, axis=-1)
