"""The probabilities of one text's tokens, piece by piece."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from glrnn.data.vocabulary import Ids
from glrnn.data.windows import Window
from glrnn.scoring.trained import Trained

# Time steps of the compiled programs. A text with more tokens is read in pieces.
LENGTHS = (8, 16, 24, 32, 48, 64, 128)


# Of N tokens: the log-probability of each, in nats; and, where details are asked for,
# the entropy of the distribution that predicts it, in nats, and its rank among all
# words, from 1.
Scores = list[npt.NDArray[Any]]


def score_pieces(
    trained: Trained, carry: Any, tokens: Ids, details: bool = False
) -> tuple[Scores, Any]:
    """Scores each token of a text but the first, which is only read.

    Args:
        trained: The model.
        carry: The state before the first token, of one sequence.
        tokens: The text, two tokens at least.
        details: Whether to compute entropies and ranks.

    Returns:
        The scores, and the carry after all tokens but the last.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> from glrnn.scoring.trained import untrained
        >>> trained = untrained(Vocabulary(("<eos>", "a", "b", "c")), Config())
        >>> carry = trained.model.initial_carry(1)
        >>> (found,), _ = score_pieces(trained, carry, np.array([0, 1, 2, 3]))
        >>> (-found / np.log(2)).round(1).tolist()  # 2 bits each
        [2.0, 2.0, 2.0]
    """
    pieces = []
    for start in range(0, len(tokens) - 1, LENGTHS[-1]):
        part = tokens[start : start + LENGTHS[-1] + 1]
        count = len(part) - 1
        size = next(n for n in LENGTHS if n >= count)
        padded = np.zeros((size + 1, 1), np.int32)
        padded[: len(part), 0] = part
        window = Window(padded[:-1], padded[1:], np.array([count], np.int32))
        found, carry = _score(details, trained.model, trained.params, carry, window)
        pieces.append([each[:count, 0] for each in jax.device_get(found)])
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)], carry


def probabilities(
    details: bool, model: Any, params: Any, carry: Any, window: Window
) -> tuple[list[Array], Any]:
    """The log-probability of each target and, with details, its entropy and rank.

    Args:
        details: Whether to compute these, for which whole distributions are needed.
        model: The functions of a model.
        params: Its parameters.
        carry: The state before the window.
        window: The window.

    Returns:
        One array `[T, B]` or three, and the carry.
    """
    if not details:
        found, carry = model.log_likelihoods(params, carry, window)
        return [found], carry
    log_probs, carry = model.log_probs(params, carry, window)
    targets = jnp.asarray(window.targets)[..., None]
    own = jnp.take_along_axis(log_probs, targets, axis=-1)
    # A word of probability 0 adds nothing.
    terms = jnp.where(log_probs > -jnp.inf, jnp.exp(log_probs) * log_probs, 0)
    ranks = 1 + jnp.sum(log_probs > own, axis=-1, dtype=jnp.int32)
    return [own[..., 0], -jnp.sum(terms, axis=-1), ranks], carry


_score = partial(jax.jit, static_argnums=(0, 1))(
    jax.default_matmul_precision("float32")(probabilities)
)
