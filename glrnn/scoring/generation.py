"""Text from a trained model: samples of its distribution, word by word."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array, lax

from glrnn.data.ids import check_ids
from glrnn.data.vocabulary import Ids
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.ground.validation import at_least, between, check, check_integers
from glrnn.scoring.tokens import Context, beginning, log_likelihoods
from glrnn.scoring.trained import Trained


@dataclass(frozen=True)
class Sampling:
    """How the next word is drawn.

    In this order: words that are ruled out; the temperature; `top_k`; `top_p` of what
    is left. The order and the edge cases are those of Hugging Face's `generate`.

    Attributes:
        temperature: The number that logits are divided by; 0 takes the most likely
            word.
        top_k: Only words at least as likely as the k-th are drawn, ties among them; 0
            for all.
        top_p: Only the most likely words are drawn whose mass before each is below p,
            one at least; 1 for all.
        min_length: The number of words before which no `<eos>` comes.
        bans_unknown: Whether the symbol for unknown words is ruled out.

    Raises:
        UsageError: One of these is outside its range.

    Example:
        >>> Sampling(top_p=1.5)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: Sampling.top_p is 1.5; it must be between 0 and 1
    """

    temperature: float = field(default=1.0, metadata=at_least(0))
    top_k: int = field(default=0, metadata=at_least(0))
    top_p: float = field(default=1.0, metadata=between(0, 1))
    min_length: int = field(default=0, metadata=at_least(0))
    bans_unknown: bool = False

    def __post_init__(self):
        check(self)


def sample(
    trained: Trained,
    prompt: Any = (),
    *,
    length: int = 50,
    num_samples: int = 1,
    seed: int = 0,
    sampling: Sampling = Sampling(),
) -> list[Ids]:
    """Draws sentences.

    Args:
        trained: The model.
        prompt: The ids of the words that the sentences begin with, integers `[N]`.
        length: The largest number of words to draw for each.
        num_samples: The number of sentences.
        seed: The same seed gives the same sentences.
        sampling: How words are drawn.

    Returns:
        The ids of each sentence: the prompt and what was drawn, up to `<eos>`, which is
        not part of it.

    Raises:
        UsageError: The prompt is no ids of the vocabulary, a number is below 1, or the
            vocabulary has no `<eos>`.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> from glrnn.scoring.trained import untrained
        >>> vocabulary = Vocabulary(("<eos>", "a", "b"))
        >>> trained = untrained(vocabulary, Config())
        >>> (ids,) = sample(trained, [2, 1], length=3, sampling=Sampling(min_length=3))
        >>> len(ids), ids[:2].tolist()
        (5, [2, 1])
    """
    for name, number in (("length", length), ("number of samples", num_samples)):
        check_integers(name, number)
        if number < 1:
            raise UsageError(f"the {name} is {number}; it must be at least 1")
    check_integers("seed", seed)
    prompt = check_ids(prompt, "prompt", len(trained.vocabulary))
    _, context = log_likelihoods(trained, prompt, beginning(trained))
    drawn = _draw(trained, context, length, num_samples, seed, sampling)
    sentences = []
    for row in drawn:
        ends = np.flatnonzero(row == trained.eos)
        sentences.append(np.append(prompt, row[: ends[0]] if ends.size else row))
    return sentences


def _draw(
    trained: Trained,
    context: Context,
    length: int,
    num_samples: int,
    seed: int,
    sampling: Sampling,
) -> npt.NDArray[np.int32]:
    """Words, `[num_samples, length]`; all that follows an `<eos>` is `<eos>`."""
    carry = jax.tree.map(lambda leaf: jnp.repeat(leaf, num_samples, 0), context.carry)
    last = jnp.full(num_samples, context.last, jnp.int32)
    symbol = trained.vocabulary.unknown_symbol
    unknown = -1 if symbol is None else trained.vocabulary.index[symbol]
    return np.asarray(
        _sample(
            *(trained.model, length, sampling, trained.eos, unknown),
            *(trained.params, carry, last, jax.random.key(seed)),
        )
    ).T


@partial(jax.jit, static_argnums=(0, 1, 2, 3, 4))
@jax.default_matmul_precision("float32")
def _sample(
    model: Any,
    length: int,
    sampling: Sampling,
    eos: int,
    unknown: int,
    params: Any,
    carry: Any,
    last: Array,
    key: Array,
) -> Array:
    def step(state, inputs):
        carry, last, ended = state
        number, key = inputs
        window = Window(last[None], last[None], jnp.int32(1))
        log_probs, carry = model.log_probs(params, carry, window)
        logits = log_probs[0]
        if sampling.bans_unknown and unknown >= 0:
            logits = logits.at[:, unknown].set(-jnp.inf)
        early = number < sampling.min_length
        logits = logits.at[:, eos].add(jnp.where(early, -jnp.inf, 0.0))
        words = choose(key, logits, sampling)
        words = jnp.where(ended, eos, words)
        return (carry, words, ended | (words == eos)), words

    keys = jax.random.split(key, length)
    start = carry, last, jnp.zeros(last.shape, bool)
    return lax.scan(step, start, (jnp.arange(length), keys))[1]


def choose(key: Array, logits: Array, sampling: Sampling) -> Array:
    """Draws a word for each row of logits.

    Args:
        key: A key of its own for this draw.
        logits: `[N, V]`; -inf rules a word out.
        sampling: The temperature, `top_k` and `top_p`.

    Returns:
        int32 `[N]`.

    Example:
        >>> logits = jnp.log(jnp.array([[0.1, 0.6, 0.3]]))
        >>> choose(jax.random.key(0), logits, Sampling(temperature=0.0)).tolist()
        [1]
    """
    if sampling.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / sampling.temperature
    num_words = logits.shape[-1]
    if 0 < sampling.top_k < num_words:
        least = lax.top_k(logits, sampling.top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if sampling.top_p < 1:
        order = jnp.argsort(-logits, axis=-1)
        probs = jnp.take_along_axis(jax.nn.softmax(logits, axis=-1), order, -1)
        before = jnp.cumsum(probs, axis=-1) - probs
        kept = (before < sampling.top_p).at[:, 0].set(True)
        kept = jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), -1)
        logits = jnp.where(kept, logits, -jnp.inf)
    return jax.random.categorical(key, logits, axis=-1).astype(jnp.int32)
