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
import numpy as np
from jax import Array, lax

from glrnn.data.vocabulary import Ids
from glrnn.data.windows import Window, columns
from glrnn.evaluation.adaptation import adaptation, beginning, checked_params
from glrnn.evaluation.gradient_statistics import gradient_rms
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
from glrnn.evaluation.window_gradient import chunks, num_tokens
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

    @property
    def rates(self) -> tuple[float, float, float]:
        """eta, lambda and epsilon."""
        return self.learning_rate, self.decay_rate, self.epsilon

    @property
    def learns(self) -> bool:
        """Whether the parameters change at all."""
        return bool(self.learning_rate or self.decay_rate)


def statistics(
    model: LanguageModel,
    params: Any,
    train: Ids,
    rule: DynamicRule,
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> Any:
    """`gradient_rms` of a training set, as a rule has it."""
    return gradient_rms(
        model,
        params,
        train,
        batch_size=rule.statistics_batch_size,
        window_length=rule.window_length,
        advance=advance,
    )


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

        >>> import collections, jax.numpy as jnp, numpy as np
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
    if not rule.learns:
        score = perplexity(model, params, tokens, window_length=rule.window_length)
        advance(score.num_tokens)
        return score
    stream = stacked_windows(
        columns(tokens, 1, vocabulary_size=vocabulary_size(model)), rule.window_length
    )
    params = checked_params(params, rms)
    params_and_carry = beginning(model, params)
    means = []
    for chunk in chunks(unpadded(model, stream)):
        params_and_carry, found = _adapt(
            model, params, rms, rule.rates, params_and_carry, chunk
        )
        means.append(np.asarray(found))
        advance(num_tokens(chunk))
    return mean_score(np.concatenate(means), stream)


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
    return lax.scan(adaptation(model, trained, rms, rates), params_and_carry, chunk)
