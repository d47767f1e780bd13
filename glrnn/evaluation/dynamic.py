"""Dynamic evaluation: a model that goes on learning from the text it is scored on.

After each window it takes a step down the gradient of that window's loss, element by
element in proportion to how large gradients were on the training set, and a step back
to what training left. Krause, Kahembwe, Murray and Renals (2018), "Dynamic evaluation
of neural sequence models", the RMS rule with a decay to the prior.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn.data.windows import Window, columns
from glrnn.evaluation.perplexity import (
    LanguageModel,
    Score,
    mean_score,
    stacked_windows,
)
from glrnn.validation import above, at_least, check


@dataclass(frozen=True)
class DynamicRule:
    """How parameters follow a text.

    The defaults are what Aharoni, Rattner and Permuter (2017) used on Penn Treebank,
    eta 0.002, lambda 0.075 and epsilon 0.001 in a convention that adds squared
    gradients up and takes the sum of all arrays. Here both are means: with n windows of
    statistics and 17 arrays that is eta / sqrt(n), lambda / 17, epsilon / sqrt(n).

    Attributes:
        learning_rate: eta, of the gradient in units of its root mean square.
        decay_rate: lambda, of the way back to the trained parameters.
        epsilon: Added to the root mean square of the gradients.
        window_length: Tokens between two updates, T.
        statistics_batch_size: Columns of the training set that gradients are the mean
            of when their size is measured.
    """

    learning_rate: float = field(default=3.9e-5, metadata=at_least(0))
    decay_rate: float = field(default=4.4e-3, metadata=at_least(0))
    epsilon: float = field(default=1.9e-5, metadata=above(0))
    window_length: int = field(default=5, metadata=at_least(1))
    statistics_batch_size: int = field(default=70, metadata=at_least(1))

    def __post_init__(self):
        check(self)


def gradient_rms(
    model: LanguageModel,
    params: Any,
    tokens: Any,
    *,
    batch_size: int = 70,
    window_length: int = 5,
) -> Any:
    """How large the gradient of each parameter is: its root mean square over windows.

    M = sqrt(1/n sum_i g_i^2), g_i the gradient of the mean loss of window i, without
    noise, the parameters left as they are.

    Args:
        model: A `glrnn.model.Model`, or anything with the same two functions.
        params: What was trained.
        tokens: The training set, integers `[N]`.
        batch_size: Columns that it is cut into.
        window_length: Time steps in a window, T.

    Returns:
        M, a tree like `params`.

    Raises:
        UsageError: if the stream is shorter than two rows.

    Example:
        >>> import collections, numpy as np
        >>> Model = collections.namedtuple("Model", "initial_carry apply")
        >>> Outcome = collections.namedtuple("Outcome", "nll carry")
        >>> bigram = Model(
        ...     lambda batch_size: (),
        ...     lambda params, carry, window: Outcome(
        ...         jnp.mean(params * window.targets), carry
        ...     ),
        ... )
        >>> gradient_rms(bigram, 1.0, np.ones(11), batch_size=1).item()
        1.0
    """
    stream = stacked_windows(columns(tokens, batch_size, "train split"), window_length)
    return _root_mean_squares(model, params, stream)


def dynamic_perplexity(
    model: LanguageModel, params: Any, rms: Any, tokens: Any, rule: DynamicRule
) -> Score:
    """Scores a token stream by a model that learns from every window once it is scored.

    theta <- theta + min(1, lambda D) (theta_0 - theta) - eta g / (M + epsilon);
    D = M / mean(M), the mean taken over the means of the arrays.

    One compiled loop over the whole stream, in one column, in float32 throughout. With
    both rates zero the score is that of `glrnn.perplexity`.

    Args:
        model: A `glrnn.model.Model`, or anything with the same two functions.
        params: theta_0, what was trained; they stay as they are.
        rms: M, from `gradient_rms`.
        tokens: The stream, integers `[N]`.
        rule: Rates and window length.

    Returns:
        The score of N - 1 tokens; where the parameters grew beyond bounds its
        perplexity is not finite.

    Raises:
        UsageError: if the stream is shorter than two tokens.

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
        >>> text, rms = np.zeros(1000), jnp.float32(1.0)
        >>> for rate in (0.0, 0.1):
        ...     rule = DynamicRule(learning_rate=rate, decay_rate=0.0)
        ...     score = dynamic_perplexity(constant, jnp.float32(0.0), rms, text, rule)
        ...     print(f"{score.perplexity:.1f}")
        2.0
        1.2
    """
    stream = stacked_windows(columns(tokens, 1), rule.window_length)
    rates = rule.learning_rate, rule.decay_rate, rule.epsilon
    return mean_score(_adapted_means(model, params, rms, rates, stream), stream)


def _window_gradient(model: LanguageModel) -> Any:
    """`(params, carry, window) -> ((nll, carry), gradient of nll)`."""

    def loss(params: Any, carry: Any, window: Window) -> tuple[Array, Any]:
        outcome = model.apply(params, carry, window)
        return outcome.nll, outcome.carry

    return jax.value_and_grad(loss, has_aux=True)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _root_mean_squares(model: LanguageModel, params: Any, stream: Window) -> Any:
    gradient = _window_gradient(model)

    def add(sums_and_carry, window):
        sums, carry = sums_and_carry
        (_, carry), grads = gradient(params, carry, window)
        return (jax.tree.map(lambda s, g: s + g * g, sums, grads), carry), None

    num_windows, _, batch_size = stream.inputs.shape
    zeros = jax.tree.map(jnp.zeros_like, params), model.initial_carry(batch_size)
    (sums, _), _ = lax.scan(add, zeros, stream)
    return jax.tree.map(lambda s: jnp.sqrt(s / num_windows), sums)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _adapted_means(
    model: LanguageModel,
    trained: Any,
    rms: Any,
    rates: tuple[Any, Any, Any],
    stream: Window,
) -> Array:
    """Mean nats per token of each window, before the parameters learn from it."""
    learning_rate, decay_rate, epsilon = rates
    gradient = _window_gradient(model)
    means = [jnp.mean(leaf) for leaf in jax.tree.leaves(rms)]
    relative_decay = decay_rate * len(means) / sum(means)

    def adapt(param, anchor, size, grad):
        pull = jnp.minimum(1.0, relative_decay * size)
        step = learning_rate * grad / (size + epsilon)
        return param + pull * (anchor - param) - step

    def score(params_and_carry, window):
        params, carry = params_and_carry
        (nll, carry), grads = gradient(params, carry, window)
        # Or XLA would prepare and store all that depends on the sizes alone, which
        # takes longer to read than to compute.
        sizes, nll = lax.optimization_barrier((rms, nll))
        return (jax.tree.map(adapt, params, trained, sizes, grads), carry), nll

    start = trained, model.initial_carry(stream.inputs.shape[2])
    return lax.scan(score, start, stream)[1]
