"""The perplexity of a language model on a stream of tokens, the model left as it is."""

import math
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np
import numpy.typing as npt
from jax import Array, lax

from glrnn.data.windows import Ids, Window, columns, fixed_lengths, windows
from glrnn.losses import to_perplexity


class Score(NamedTuple):
    """How well a model predicts a text.

    Attributes:
        nats_per_token: Mean negative log-likelihood.
        perplexity: Its exponential.
        num_tokens: Tokens scored; the first of each column has nothing before it and is
            not among them.
    """

    nats_per_token: float
    perplexity: float
    num_tokens: int


class LanguageModel(Protocol):
    """What scoring asks of a model, any model; hashable."""

    @property
    def initial_carry(self) -> Any:
        """`batch_size -> carry`: what a window begins with."""

    @property
    def apply(self) -> Any:
        """`(params, carry, window) -> outcome` with `nll`, mean nats, and `carry`."""


def perplexity(
    model: LanguageModel,
    params: Any,
    tokens: Any,
    *,
    batch_size: int = 1,
    window_length: int = 70,
) -> Score:
    """Scores a token stream, the state carried from its beginning to its end.

    One compiled loop over the whole stream, without noise, in float32 throughout. The
    mean is exact: over all tokens scored, each once. With more than one column every
    column starts cold, and the tail that does not fill a row is left out.

    Args:
        model: A `glrnn.model.Model`, or anything with the same two functions.
        params: Its parameters.
        tokens: The stream, integers `[N]`.
        batch_size: Columns that the stream is cut into, B.
        window_length: Time steps at a time, T; it does not change the result.

    Returns:
        The score; N - 1 tokens of it with one column.

    Raises:
        UsageError: if the stream is shorter than two rows.

    Example:
        A model of one's own: here one that finds each of 8 words equally likely.

        >>> import collections, jax.numpy as jnp
        >>> Model = collections.namedtuple("Model", "initial_carry apply")
        >>> Outcome = collections.namedtuple("Outcome", "nll carry")
        >>> uniform = Model(
        ...     lambda batch_size: (),
        ...     lambda params, carry, window: Outcome(jnp.log(params), carry),
        ... )
        >>> score = perplexity(uniform, 8.0, jnp.arange(100) % 8)
        >>> print(f"{score.nats_per_token:.4f} {score.perplexity:.3f}")
        2.0794 8.000
        >>> score.num_tokens
        99
    """
    stream = stacked_windows(columns(tokens, batch_size), window_length)
    return mean_score(_window_means(model, params, stream), stream)


def unigram_score(
    train: Ids, tokens: Ids, vocabulary_size: int, *, batch_size: int = 1
) -> Score:
    """Scores a token stream by word frequencies alone, those of the training set.

    With N training tokens, n of them the word w, p(w) = (n + 1) / (N + V). Scored are
    the very tokens that `perplexity` scores with as many columns: not the first of each
    column, nor the tail. What a network learns from context puts it below.

    Args:
        train: Ids of the training set, all of which are counted.
        tokens: Ids of the stream to score.
        vocabulary_size: V.
        batch_size: Columns that the stream is cut into, B.

    Returns:
        The score.

    Raises:
        UsageError: if the stream is shorter than two rows.

    Example:
        Frequencies are 3/6, 2/6 and 1/6; the first token is not scored.

        >>> train, tokens = np.array([0, 0, 1]), np.array([2, 0, 1, 2])
        >>> score = unigram_score(train, tokens, vocabulary_size=3)
        >>> print(f"{score.perplexity**3:.4f} {score.num_tokens}")
        36.0000 3
    """
    counts = np.bincount(train, minlength=vocabulary_size) + 1
    targets = columns(tokens, batch_size)[1:]
    mean = math.log(counts.sum()) - float(np.mean(np.log(counts)[targets]))
    return Score(mean, to_perplexity(mean), targets.size)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _window_means(model: LanguageModel, params: Any, stream: Window) -> Array:
    """Mean nats per token of each window; inputs and targets are `[N, T, B]`."""

    def score(carry, window):
        outcome = model.apply(params, carry, window)
        return outcome.carry, outcome.nll

    carry = model.initial_carry(stream.inputs.shape[2])
    return lax.scan(score, carry, stream)[1]


def stacked_windows(stream: Ids, window_length: int) -> Window:
    """All windows of a stream one after another, for a loop that is compiled.

    Args:
        stream: From `columns`, `[rows, B]`.
        window_length: T.

    Returns:
        A window whose inputs and targets are `[N, T, B]` and whose length is `[N]`.

    Example:
        >>> stacked_windows(np.zeros((8, 1), np.int32), 3).length.tolist()
        [3, 3, 1]
    """
    lengths = fixed_lengths(len(stream), window_length)
    each = windows(stream, lengths, (lengths[0],))
    return Window(*map(np.stack, zip(*each, strict=True)))


def mean_score(means: npt.ArrayLike, stream: Window) -> Score:
    """The score of a stream.

    Args:
        means: Nats per token of each window, `[N]`.
        stream: The windows, from `stacked_windows`.

    Example:
        >>> windows = stacked_windows(np.zeros((8, 1), np.int32), 3)
        >>> mean_score(np.array([1.0, 1.0, 8.0]), windows).nats_per_token
        2.0
    """
    lengths = np.asarray(stream.length)
    mean = float(np.average(np.asarray(means, np.float64), weights=lengths))
    num_tokens = int(lengths.sum()) * stream.inputs.shape[2]
    return Score(mean, to_perplexity(mean), num_tokens)
