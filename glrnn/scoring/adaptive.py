"""Word probabilities of a model that learns from the text as it reads it."""

from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import jax
import numpy as np
from jax import Array, lax

from glrnn.data.vocabulary import Ids
from glrnn.data.windows import Window
from glrnn.evaluation.adaptation import adaptation, beginning, checked_params
from glrnn.evaluation.dynamic import DynamicRule
from glrnn.evaluation.perplexity import stacked_windows
from glrnn.evaluation.window_gradient import CHUNK
from glrnn.scoring.pieces import probabilities
from glrnn.scoring.sentences import Sentence, SentenceScore, score_stream
from glrnn.scoring.trained import Trained


def score_adaptively(
    trained: Trained,
    sentences: Iterable[Sentence],
    details: bool = False,
    *,
    rms: Any,
    rule: DynamicRule,
) -> Iterator[SentenceScore]:
    r"""Scores the sentences of one text by dynamic evaluation.

    Each window of `rule.window_length` tokens, wherever sentences end, is scored before
    the parameters learn from it. The probabilities are those of
    `glrnn.dynamic_perplexity` on the stream of `<eos>` and the sentences' tokens.

    Args:
        trained: The model.
        sentences: The sentences.
        details: Whether to compute entropies and ranks.
        rms: The gradient statistics, from `glrnn.gradient_rms`.
        rule: The rates and the window length.

    Yields:
        Their scores, in the same order; not finite if the parameters diverged.

    Raises:
        UsageError: `rms` does not fit the parameters.

    Example:
        A text says the same again, and the model has learned it.

        >>> import io, jax.numpy as jnp
        >>> from glrnn.config import Config
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> from glrnn.scoring.sentences import read_sentences
        >>> from glrnn.scoring.trained import untrained
        >>> trained = untrained(Vocabulary(("<eos>", "a", "b", "c")), Config())
        >>> text = io.BytesIO(b"a b a b\na b a b")
        >>> lines = read_sentences(text, trained.vocabulary, "a text", trained.eos)
        >>> rms = jax.tree.map(jnp.ones_like, trained.params)
        >>> rule = DynamicRule(learning_rate=1.0, decay_rate=0.0)
        >>> first, second = score_adaptively(trained, lines, rms=rms, rule=rule)
        >>> bool(second.log_likelihoods.sum() > first.log_likelihoods.sum())
        True
    """
    if not rule.learns:
        yield from score_stream(trained, sentences, details)
        return
    waiting: deque[Sentence] = deque()
    tokens = chain((trained.eos,), _tokens(sentences, waiting))
    ready: list[Any] | None = None
    for found in _scored(trained, tokens, details, rms, rule):
        ready = found if ready is None else list(map(np.append, ready, found))
        while waiting and len(waiting[0].ids) <= len(ready[0]):
            sentence = waiting.popleft()
            size = len(sentence.ids)
            yield SentenceScore(sentence, *(each[:size] for each in ready))
            ready = [each[size:] for each in ready]


def _tokens(
    sentences: Iterable[Sentence], waiting: deque[Sentence]
) -> Iterator[np.int32]:
    """The tokens of some sentences, which wait for their scores meanwhile."""
    for sentence in sentences:
        waiting.append(sentence)
        yield from sentence.ids


def _scored(
    trained: Trained,
    tokens: Iterator[Any],
    details: bool,
    rms: Any,
    rule: DynamicRule,
) -> Iterator[list[Any]]:
    """The arrays of `SentenceScore` for each token but the first, chunk by chunk."""
    params = checked_params(trained.params, rms)
    params_and_carry = beginning(trained.model, params)
    last = next(tokens)
    while ids := list(islice(tokens, CHUNK * rule.window_length)):
        stream: Ids = np.array([last, *ids], np.int32)[:, None]
        chunk = stacked_windows(stream, rule.window_length)
        params_and_carry, found = _adapt(
            *(details, trained.model, params, rms, rule.rates),
            *(params_and_carry, chunk),
        )
        # Only the end of the last window is padding.
        yield [np.asarray(each).reshape(-1)[: len(ids)] for each in found]
        last = ids[-1]


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=5)
@jax.default_matmul_precision("float32")
def _adapt(
    details: bool,
    model: Any,
    trained: Any,
    rms: Any,
    rates: tuple[Any, Any, Any],
    params_and_carry: Any,
    chunk: Window,
) -> tuple[Any, list[Array]]:
    """Scores some windows, each before the parameters learn from it."""
    step = adaptation(model, trained, rms, rates)

    def score(params_and_carry, window):
        params, carry = params_and_carry
        found, _ = probabilities(details, model, params, carry, window)
        params_and_carry, _ = step(params_and_carry, window)
        return params_and_carry, found

    return lax.scan(score, params_and_carry, chunk)
