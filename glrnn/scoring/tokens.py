"""Probabilities of one text's tokens, with the state carried along.

The functions are pure: each takes a context and returns the one after it.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import numpy.typing as npt
from jax import Array

from glrnn.data.ids import check_ids
from glrnn.data.windows import Window
from glrnn.scoring.trained import Trained

Floats = npt.NDArray[np.float32]

# Time steps of the compiled programs; a longer text is read in pieces.
PIECES = (1, 64)


class Context(NamedTuple):
    """What has been read so far.

    Attributes:
        carry: The layers' states.
        last: The id of the last token, which the layers have yet to read.
    """

    carry: Any
    last: int


def beginning(trained: Trained) -> Context:
    """The context in which a sentence begins: a fresh state, and `<eos>`.

    Args:
        trained: The model.

    Raises:
        UsageError: The vocabulary has no `<eos>`.
    """
    return Context(trained.model.initial_carry(1), trained.eos)


def log_likelihoods(
    trained: Trained, ids: Any, context: Context | None = None
) -> tuple[Floats, Context]:
    """The log-probability of each token of a text, given all before it.

    Args:
        trained: The model.
        ids: The tokens, integers `[N]`.
        context: What comes before them; the beginning of a sentence if not given.

    Returns:
        float32 `[N]`, in nats, and the context after them.

    Raises:
        UsageError: The tokens are no ids of the vocabulary; or there is no context, and
            the vocabulary has no `<eos>`.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> from glrnn.scoring.trained import untrained
        >>> vocabulary = Vocabulary(("<eos>", "a", "b"))
        >>> trained = untrained(vocabulary, Config())
        >>> first, context = log_likelihoods(trained, [1, 2])
        >>> rest, context = log_likelihoods(trained, [0], context)
        >>> whole, _ = log_likelihoods(trained, [1, 2, 0])
        >>> np.allclose(np.append(first, rest), whole, atol=1e-6)
        True
    """
    context = _checked(trained, context)
    ids = check_ids(ids, "text", len(trained.vocabulary))
    carry, inputs, found = context.carry, np.append(np.int32(context.last), ids), []
    for start in range(0, len(ids), PIECES[-1]):
        rest = len(ids) - start
        size = next(size for size in PIECES if size >= min(rest, PIECES[-1]))
        window = _window(inputs[start : start + size + 1], size)
        piece, carry = _log_likelihoods(trained.model, trained.params, carry, window)
        found.append(np.asarray(piece)[:rest, 0])
    empty = np.zeros(0, np.float32)
    return np.concatenate([empty, *found]), Context(carry, int(inputs[-1]))


def next_log_probs(trained: Trained, context: Context | None = None) -> Floats:
    """The log-probability of each word of the vocabulary to come next.

    Args:
        trained: The model.
        context: What comes before it; the beginning of a sentence if not given.

    Returns:
        float32 `[V]`, in nats.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> from glrnn.scoring.trained import untrained
        >>> vocabulary = Vocabulary(("<eos>", "a", "b", "c"))
        >>> trained = untrained(vocabulary, Config())
        >>> print(f"{np.exp(next_log_probs(trained)).sum():.4f}")
        1.0000
    """
    context = _checked(trained, context)
    window = _window(np.array([context.last], np.int32), 1)
    found = _log_probs(trained.model, trained.params, context.carry, window)
    return np.asarray(found)[0, 0]


def _checked(trained: Trained, context: Context | None) -> Context:
    if context is None:
        return beginning(trained)
    check_ids([context.last], "context", len(trained.vocabulary))
    return context


def _window(tokens: npt.NDArray[np.int32], size: int) -> Window:
    """Each token but the last as an input, each but the first as a target, padded."""
    padded = np.zeros((size + 1, 1), np.int32)
    padded[: len(tokens), 0] = tokens
    return Window(padded[:-1], padded[1:], np.int32(max(1, len(tokens) - 1)))


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _log_likelihoods(
    model: Any, params: Any, carry: Any, window: Window
) -> tuple[Array, Any]:
    return model.log_likelihoods(params, carry, window)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _log_probs(model: Any, params: Any, carry: Any, window: Window) -> Array:
    return model.log_probs(params, carry, window)[0]
