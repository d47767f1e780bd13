"""The perplexity of a language model on a token stream, with fixed parameters."""

import math
import sys
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array, lax
from jax.tree_util import keystr

from glrnn.data.ids import Ids, check_ids, count_ids
from glrnn.data.windows import Window, columns, fixed_lengths, windows
from glrnn.errors import UsageError
from glrnn.ground.losses import to_perplexity
from glrnn.ground.validation import shown

# The nats per token by which rounding may make a probability larger than 1.
ROUNDING = 1e-5


class Score(NamedTuple):
    """The score of a model on a text.

    Attributes:
        nats_per_token: The mean negative log-likelihood.
        perplexity: The exponential of `nats_per_token`.
        num_tokens: The number of tokens scored; the first token of each column has no
            context and is not scored.
    """

    nats_per_token: float
    perplexity: float
    num_tokens: int


class LanguageModel(Protocol):
    """The interface of a model that can be scored; hashable and immutable.

    Programs are compiled once for each model, as `jax.jit` does with a static argument:
    what a model reads of itself, or of anything but `params`, is what it was at the
    first call. So all that changes, weights above all, belongs into `params`.

    Ids are checked against its `vocabulary_size`, V, if it has an attribute of that
    name.
    """

    @property
    def initial_carry(self) -> Any:
        """`batch_size -> carry`: the carry at the beginning of a text."""

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
    """Scores a token stream, carrying the state from its beginning to its end.

    It is one compiled loop over the whole stream, without dropout, in float32. The mean
    is exact: every token counts once, and no padding does. With more than one column,
    each column starts from the initial state, and the tail that does not fill a row is
    left out.

    Args:
        model: A `glrnn.model.Model`, or anything hashable and immutable with the same
            two functions; see `LanguageModel`.
        params: The parameters of the model, a tree of arrays.
        tokens: The stream, integers `[N]`.
        batch_size: The number of columns that the stream is cut into, B.
        window_length: The time steps in a window, T; it does not change the result.

    Returns:
        The score, of N - 1 tokens if there is one column.

    Raises:
        UsageError: if the stream is shorter than two rows, or is not token ids of the
            model; or if `check_model` or `loss_and_carry` refuses the model.

    Example:
        A model of your own: here one that gives each of 8 words the same probability.

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
    check_model(model, params)
    stream = stacked_windows(
        columns(tokens, batch_size, vocabulary_size=vocabulary_size(model)),
        window_length,
    )
    return mean_score(_window_means(model, params, *unpadded(model, stream)), stream)


def unigram_score(
    train: Ids, tokens: Ids, vocabulary_size: int, *, batch_size: int = 1
) -> Score:
    """Scores a token stream by the word frequencies of the training set alone.

    With N training tokens, n of them the word w, p(w) = (n + 1) / (N + V). It scores
    the same tokens as `perplexity` does with as many columns: neither the first of each
    column nor the tail. A network that learns from context has a lower score.

    Args:
        train: The ids of the training set, all of which are counted.
        tokens: The ids of the stream to score.
        vocabulary_size: The number of word types, V.
        batch_size: The number of columns that the stream is cut into, B.

    Returns:
        The score.

    Raises:
        UsageError: if the stream is shorter than two rows, or either is not token ids
            below V.

    Example:
        Frequencies are 3/6, 2/6 and 1/6; the first token is not scored.

        >>> train, tokens = np.array([0, 0, 1]), np.array([2, 0, 1, 2])
        >>> score = unigram_score(train, tokens, vocabulary_size=3)
        >>> print(f"{score.perplexity**3:.4f} {score.num_tokens}")
        36.0000 3
    """
    check_ids(train, "train split", vocabulary_size)
    counts = count_ids(train, vocabulary_size) + 1
    targets = columns(tokens, batch_size, vocabulary_size=vocabulary_size)[1:]
    mean = math.log(counts.sum()) - float(np.mean(np.log(counts)[targets]))
    return Score(mean, to_perplexity(mean), targets.size)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _window_means(model: LanguageModel, params: Any, *stacks: Window) -> Array:
    """Mean nats per token of each window of some stacks that follow one another.

    Inputs and targets are `[N, T, B]`, with another N and T in each stack.
    """

    def score(carry, window):
        nll, carry = loss_and_carry(model, params, carry, window)
        return carry, nll

    carry, means = model.initial_carry(stacks[0].inputs.shape[2]), []
    for stack in stacks:
        carry, found = lax.scan(score, carry, stack)
        means.append(found)
    return means[0] if len(means) == 1 else jnp.concatenate(means)


def check_model(model: LanguageModel, params: Any) -> None:
    """Refuses a model that would be scored with weights that it no longer has.

    Args:
        model: The model.
        params: Its parameters.

    Raises:
        UsageError: if the model is not hashable, is an `nnx.Module` or has the
            functions of one, or `params` has a leaf that is no array.

    Example:
        >>> check_model([], ())
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: the model is not hashable: []
    """
    try:
        hash(model)
    except TypeError:
        raise UsageError(f"the model is not hashable: {shown(model)}") from None
    nnx = sys.modules.get("flax.nnx")  # without importing it
    owners = model, getattr(getattr(model, "apply", None), "__self__", None)
    if nnx is not None and any(isinstance(owner, nnx.Module) for owner in owners):
        raise UsageError(
            "the model is an nnx.Module, whose weights would stay what they are at the "
            "first call; give one that takes them from params (nnx.split, nnx.merge)"
        )
    for path, leaf in jax.tree.leaves_with_path(params):
        try:
            jax.typeof(leaf)
        except TypeError:
            raise UsageError(
                f"params{keystr(path)} is no array: {shown(leaf)}"
            ) from None


def loss_and_carry(
    model: LanguageModel, params: Any, carry: Any, window: Window
) -> tuple[Array, Any]:
    """The mean loss of a window and the carry after it.

    Raises:
        UsageError: if the loss is not one real number.
    """
    outcome = model.apply(params, carry, window)
    shape, dtype = jnp.shape(outcome.nll), jnp.result_type(outcome.nll)
    if shape or not jnp.issubdtype(dtype, jnp.floating):
        raise UsageError(
            f"the model's nll is {dtype}{list(shape)}; it must be one real number, the "
            "mean of the window"
        )
    return outcome.nll, outcome.carry


def stacked_windows(stream: Ids, window_length: int) -> Window:
    """All windows of a stream, stacked for a compiled loop.

    Args:
        stream: The columns, from `columns`, `[rows, B]`.
        window_length: The time steps in a window, T.

    Returns:
        A window whose inputs and targets are `[N, T, B]` and whose length is `[N]`.

    Example:
        >>> stacked_windows(np.zeros((8, 1), np.int32), 3).length.tolist()
        [3, 3, 1]
    """
    lengths = fixed_lengths(len(stream), window_length)
    each = windows(stream, lengths, (lengths[0],))
    return Window(*map(np.stack, zip(*each, strict=True)))


def unpadded(model: LanguageModel, stream: Window) -> list[Window]:
    """The windows of a stream in one stack or two that `model` can be scored on.

    Args:
        model: The model.
        stream: The windows, from `stacked_windows`.

    Returns:
        The stream as it is if it has no padding, or the model is marked by
        `ignores_padding`; else the whole windows, and the last one cut to its true
        length.

    Example:
        >>> from types import SimpleNamespace
        >>> model = SimpleNamespace(apply=lambda params, carry, window: None)
        >>> stream = stacked_windows(np.zeros((8, 1), np.int32), 3)
        >>> [stack.inputs.shape for stack in unpadded(model, stream)]
        [(2, 3, 1), (1, 1, 1)]
    """
    apply = model.apply
    while isinstance(apply, partial):
        apply = apply.func
    inputs, targets, lengths = map(np.asarray, stream)
    rest = int(lengths[-1])
    function = getattr(apply, "__func__", apply)  # of a method
    ignores = getattr(function, "ignores_padding", None) is function
    if ignores or rest == inputs.shape[1]:
        return [stream]
    whole = Window(inputs[:-1], targets[:-1], lengths[:-1])
    return [whole, Window(inputs[-1:, :rest], targets[-1:, :rest], lengths[-1:])]


def vocabulary_size(model: LanguageModel) -> int | None:
    """V of a model that tells it.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.model import language_model
        >>> vocabulary_size(language_model(Config(), vocabulary_size=9, num_layers=1))
        9
    """
    return getattr(model, "vocabulary_size", None)


def mean_score(means: npt.ArrayLike, stream: Window) -> Score:
    """The score of a stream, from the means of its windows.

    Args:
        means: The nats per token of each window, `[N]`.
        stream: The windows, from `stacked_windows`.

    Example:
        >>> windows = stacked_windows(np.zeros((8, 1), np.int32), 3)
        >>> mean_score(np.array([1.0, 1.0, 8.0]), windows).nats_per_token
        2.0
    """
    lengths = np.asarray(stream.length)
    mean = float(np.average(np.asarray(means, np.float64), weights=lengths))
    if -ROUNDING < mean < 0:  # a text that is certain
        mean = 0.0
    num_tokens = int(lengths.sum()) * stream.inputs.shape[2]
    return Score(mean, to_perplexity(mean), num_tokens)
