"""Dynamic evaluation: a model that keeps learning from the text it is scored on.

After each window the parameters take a step down the gradient of that window's loss, in
units of the root mean square of their gradients on the training set, and a step back to
the trained parameters. Krause, Kahembwe, Murray and Renals (2018), "Dynamic evaluation
of neural sequence models", the RMS rule with a decay to the prior.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.tree_util import keystr

from glrnn.data.windows import Window, columns
from glrnn.errors import UsageError
from glrnn.evaluation.perplexity import (
    LanguageModel,
    Score,
    check_model,
    mean_score,
    perplexity,
    stacked_windows,
    unpadded,
    vocabulary_size,
)
from glrnn.evaluation.window_gradient import (
    chunks,
    copy,
    map_learned,
    num_tokens,
    window_gradient,
)
from glrnn.ground.arrays import in_float32, is_inexact
from glrnn.ground.validation import above, at_least, check


@dataclass(frozen=True)
class DynamicRule:
    """The settings of dynamic evaluation.

    The defaults are those of Aharoni, Rattner and Permuter (2017) for Penn Treebank,
    eta 0.002, lambda 0.075 and epsilon 0.001 in a convention that adds squared
    gradients up and takes the sum of all arrays. Here both are means: with n windows of
    statistics and 17 arrays that is eta / sqrt(n), lambda / 17, epsilon / sqrt(n).

    Attributes:
        learning_rate: eta, the rate of the gradient in units of its root mean square.
        decay_rate: lambda, the rate of decay to the trained parameters.
        epsilon: A number added to the root mean square of the gradients.
        window_length: The number of tokens between two updates, T.
        statistics_batch_size: The number of columns that the training set is cut into
            for the gradient statistics.
    """

    learning_rate: float = field(default=3.9e-5, metadata=at_least(0))
    decay_rate: float = field(default=4.4e-3, metadata=at_least(0))
    epsilon: float = field(default=1.9e-5, metadata=above(0))
    window_length: int = field(default=5, metadata=at_least(1))
    statistics_batch_size: int = field(default=70, metadata=at_least(1))

    def __post_init__(self):
        check(self)


def dynamic_perplexity(
    model: LanguageModel,
    params: Any,
    rms: Any,
    tokens: Any,
    rule: DynamicRule,
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> Score:
    """Scores a token stream by a model that learns from every window once it is scored.

    theta <- theta + min(1, lambda D) (theta_0 - theta) - eta g / (M + epsilon);
    D = M / mean(M), the mean taken over the means of the arrays that have elements;
    D = 0 if all of M is 0.

    The stream is one column. theta is in float32 at least, and rounded to the dtype of
    the trained parameters where the model is applied; float16 and narrower ones are
    then handed to it as float32, as in `gradient_rms`. For a complex parameter, g is
    the conjugate of what `jax.grad` returns, which points uphill. Leaves that cannot be
    learned, such as integers and PRNG keys, stay as they are. With both rates zero the
    score is that of `glrnn.perplexity` with the same window length.

    Args:
        model: A `glrnn.model.Model`, or anything hashable and immutable with the same
            two functions; see `LanguageModel`.
        params: theta_0, the trained parameters; they are not changed.
        rms: M, from `gradient_rms`.
        tokens: The stream, integers `[N]`.
        rule: The rates and the window length.
        advance: Called every `CHUNK` windows with the number of tokens in them.

    Returns:
        The score of N - 1 tokens; its perplexity is not finite if the parameters
        diverged.

    Raises:
        UsageError: if the stream is shorter than two tokens, or is not token ids of the
            model; or `rms` does not fit the parameters, or is negative somewhere.

    Example:
        A text that is always the same word, and a parameter that learns how likely it
        is.

        >>> import collections, numpy as np
        >>> Model = collections.namedtuple("Model", "initial_carry apply")
        >>> Outcome = collections.namedtuple("Outcome", "nll carry")
        >>> constant = Model(
        ...     lambda batch_size: (),
        ...     lambda params, carry, window: Outcome(
        ...         -jax.nn.log_sigmoid(params), carry
        ...     ),
        ... )
        >>> text, rms = np.zeros(1000, int), jnp.float32(1.0)
        >>> for rate in (0.0, 0.1):
        ...     rule = DynamicRule(learning_rate=rate, decay_rate=0.0)
        ...     score = dynamic_perplexity(constant, jnp.float32(0.0), rms, text, rule)
        ...     print(f"{score.perplexity:.1f}")
        2.0
        1.2
    """
    check_model(model, params)
    if rule.learning_rate == rule.decay_rate == 0:  # nothing is learned
        score = perplexity(model, params, tokens, window_length=rule.window_length)
        advance(score.num_tokens)
        return score
    stream = stacked_windows(
        columns(tokens, 1, vocabulary_size=vocabulary_size(model)), rule.window_length
    )
    _check_rms(params, rms)
    rates = rule.learning_rate, rule.decay_rate, rule.epsilon
    has_infinities, is_negative = _looked_at(params, rms)
    if is_negative:
        raise UsageError(
            "rms has numbers below 0; it takes the gradient statistics of "
            "glrnn.gradient_rms, after the parameters"
        )
    if has_infinities:
        params = map_learned(_finite, params)
    params_and_carry = _start(model, params)
    means = []
    for chunk in chunks(unpadded(model, stream)):
        params_and_carry, found = _adapt(
            model, params, rms, rates, params_and_carry, chunk
        )
        means.append(np.asarray(found))
        advance(num_tokens(chunk))
    return mean_score(np.concatenate(means), stream)


def _check_rms(params: Any, rms: Any) -> None:
    def check_leaf(path, param, size):
        if is_inexact(param) and (
            jnp.shape(size) != jnp.shape(param) or jnp.iscomplexobj(size)
        ):
            raise UsageError(
                f"rms{keystr(path)} is {jnp.result_type(size)}{list(jnp.shape(size))}; "
                f"that of the parameters is real{list(jnp.shape(param))}"
            )

    jax.tree.map_with_path(check_leaf, params, rms)


@jax.jit
def _looked_at(params: Any, rms: Any) -> tuple[Array, Array]:
    """Whether parameters are infinite, and whether root mean squares are negative."""
    leaves, structure = jax.tree.flatten(params)
    learned = [
        in_float32(pair)
        for pair in zip(leaves, structure.flatten_up_to(rms), strict=True)
        if is_inexact(pair[0])
    ]
    infinite = [jnp.isinf(param).any() for param, _ in learned]
    negative = [(size < 0).any() for _, size in learned]
    return jnp.array(infinite).any(), jnp.array(negative).any()


def _finite(leaf: Any) -> Any:
    """A leaf without infinities, whose distance to themselves is no number.

    The bias of a word that is ruled out may be -inf, and is as good as the lowest.
    """
    leaf = jnp.asarray(leaf)
    if jnp.iscomplexobj(leaf):
        return lax.complex(_finite(leaf.real), _finite(leaf.imag))
    limits = jnp.finfo(leaf.dtype)
    return jnp.clip(leaf, limits.min, limits.max)


@partial(jax.jit, static_argnums=0)
def _start(model: LanguageModel, params: Any) -> tuple[Any, Any]:
    """The parameters and the carry to begin with, to be donated."""
    return copy((in_float32(params), model.initial_carry(1)))


@partial(jax.jit, static_argnums=0, donate_argnums=4)
@jax.default_matmul_precision("float32")
def _adapt(
    model: LanguageModel,
    trained: Any,
    rms: Any,
    rates: tuple[Any, Any, Any],
    params_and_carry: Any,
    chunk: Window,
) -> tuple[Any, Array]:
    """Scores some windows, each before the parameters learn from it.

    Returns:
        The parameters and the carry after them, and the mean nats per token of each
        window.
    """
    learning_rate, decay_rate, epsilon = rates
    gradient = window_gradient(model, trained)
    anchors, rms = in_float32((trained, rms))
    relative_decay = _relative_decay(decay_rate, anchors, rms)

    def adapt(param, anchor, size, grad):
        pull = jnp.minimum(1.0, relative_decay * size)
        step = learning_rate * jnp.conj(grad) / (size + epsilon)
        return param + pull * (anchor - param) - step

    def score(params_and_carry, window):
        params, carry = params_and_carry
        (nll, carry), grads = gradient(params, carry, window)
        # Otherwise XLA would compute all that depends on the sizes alone before the
        # loop and store it, which takes longer to read than to compute.
        sizes, nll = lax.optimization_barrier((rms, nll))
        return (map_learned(adapt, params, anchors, sizes, grads), carry), nll

    return lax.scan(score, params_and_carry, chunk)


def _relative_decay(decay_rate: Any, params: Any, rms: Any) -> Array:
    """lambda / mean(M), finite so that it is no decay where M is 0."""
    leaves, structure = jax.tree.flatten(params)
    means = [
        jnp.mean(size)
        for param, size in zip(leaves, structure.flatten_up_to(rms), strict=True)
        if is_inexact(param) and param.size
    ]
    total = jnp.asarray(sum(means))
    relative = decay_rate * len(means) / jnp.where(total > 0, total, jnp.inf)
    return jnp.minimum(relative, jnp.finfo(relative.dtype).max)
