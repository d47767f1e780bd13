"""`hmm`: words of a hidden Markov model whose entropy rate is known exactly.

Six hidden modes stand in a circle. In each, two words are likely, and every word is
likely in two neighbouring modes, so that one word alone does not tell the mode. The
words `next` and `back` turn to the neighbouring mode. A model has to remember the turns
and weigh the words since then: the last word alone leaves 0.37 of the 0.63 nats that
the whole past tells about the next word.

Each word and the mode before it determine the mode after it. The entropy rate is then
the mean entropy of the words of a mode. Shannon (1948), "A mathematical theory of
communication", section 7.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_MODES = 6
# The probability of a turn, and of the two likely words where there is none.
TURN, LIKELY = 0.1, 0.9
# The part of the turns that go forwards.
FORWARDS = 0.7
SIZES = {"train": 200_000, "valid": 20_000, "test": 100_000}
SEED = 28


class Source(NamedTuple):
    """A hidden Markov model in which words determine the turns.

    Attributes:
        words: The words, V of them.
        emission: The probability of each word in each mode, `[S, V]`.
        following: The mode after each word in each mode, `[S, V]`.
    """

    words: tuple[str, ...]
    emission: Floats
    following: npt.NDArray[np.int64]


def source() -> Source:
    """The source of the corpus.

    Example:
        >>> source().words
        ('w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'next', 'back')
        >>> source().emission.sum(axis=1).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    modes = np.arange(NUM_MODES)
    words = (*(f"w{mode}" for mode in modes), "next", "back")
    rare = (1 - TURN) * (1 - LIKELY) / (NUM_MODES - 2)
    emission = np.full((NUM_MODES, len(words)), rare)
    for likely in (modes, (modes + 1) % NUM_MODES):
        emission[modes, likely] = (1 - TURN) * LIKELY / 2
    emission[:, -2:] = TURN * FORWARDS, TURN * (1 - FORWARDS)
    following = np.repeat(modes[:, None], len(words), axis=1)
    following[:, -2] = (modes + 1) % NUM_MODES
    following[:, -1] = (modes - 1) % NUM_MODES
    return Source(words, emission, following)


def stationary(source: Source) -> Floats:
    """The probabilities of the modes in the long run, `[S]`.

    Example:
        >>> (6 * stationary(source())).round(6).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    count = len(source.emission)
    turns = np.zeros((count, count))
    rows = np.arange(count)[:, None]
    np.add.at(turns, (rows, source.following), source.emission)
    # pi T = pi, and sum pi = 1.
    equations = np.vstack([turns.T - np.eye(count), np.ones(count)])
    sums = np.append(np.zeros(count), 1.0)
    return np.asarray(np.linalg.lstsq(equations, sums, rcond=None)[0], np.float64)


def entropy(source: Source) -> float:
    """H(Y), the entropy of a word, in nats.

    Example:
        >>> round(entropy(source()), 3)
        1.999
    """
    return float(_entropy(stationary(source) @ source.emission))


def entropy_after_a_word(source: Source) -> float:
    """H(Y' | Y), the entropy of a word given the one before it, in nats.

    Example:
        >>> round(entropy_after_a_word(source()), 3)
        1.734
    """
    first = stationary(source)[:, None] * source.emission
    both = np.einsum("sv,svw->vw", first, source.emission[source.following])
    return float(_entropy(both.ravel())) - entropy(source)


def entropy_rate(source: Source) -> float:
    """h, the entropy of a word given all before it, in nats: the least possible loss.

    Example:
        >>> round(entropy_rate(source()), 3)
        1.365
    """
    return float(stationary(source) @ _entropy(source.emission))


def losses(source: Source, ids: Iterable[int]) -> Floats:
    """-log p(y_t | y_1 ... y_t-1) of each word of a text, by the forward algorithm.

    Args:
        source: The source.
        ids: The words, by their places in `source.words`.

    Returns:
        The losses in nats, `[N]`. Their mean tends to the entropy rate.

    Example:
        >>> losses(source(), [6, 6]).round(3).tolist()  # twice `next`
        [2.659, 2.659]
    """
    belief, found = stationary(source), []
    for word in ids:
        joint = belief * source.emission[:, word]
        found.append(joint.sum())
        belief = np.bincount(
            source.following[:, word], joint / joint.sum(), minlength=len(belief)
        )
    return -np.log(found)


def sample(source: Source, length: int, seed: int) -> npt.NDArray[np.int64]:
    """A text of so many words, by their places in `source.words`.

    Example:
        >>> sample(source(), 5, seed=0).shape
        (5,)
    """
    rng = np.random.default_rng(seed)
    mode = rng.choice(len(source.emission), p=stationary(source))
    bounds = source.emission.cumsum(axis=1)[:, :-1]
    ids = np.empty(length, np.int64)
    for index, drawn in enumerate(rng.random(length)):
        ids[index] = np.searchsorted(bounds[mode], drawn, side="right")
        mode = source.following[mode, ids[index]]
    return ids


def splits() -> dict[str, list[str]]:
    """The words of train, valid and test.

    Example:
        >>> {split: len(words) for split, words in splits().items()}
        {'train': 200000, 'valid': 20000, 'test': 100000}
    """
    made = source()
    names = np.array(made.words, object)
    return {
        split: names[sample(made, size, SEED + number)].tolist()
        for number, (split, size) in enumerate(SIZES.items())
    }


def _entropy(probabilities: Floats) -> Floats:
    """-sum p log p over the last axis, in nats."""
    positive = np.where(probabilities > 0, probabilities, 1.0)
    return -np.sum(positive * np.log(positive), axis=-1)
