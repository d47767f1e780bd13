"""The cut-offs of an adaptive softmax: by default those of the lowest expected cost."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glrnn.errors import UsageError

# The largest number of cut-offs that is tried.
MOST = 3
# Each power of ten times these is tried: steps of about a fifth.
STEPS = (1.0, 1.2, 1.5, 1.8, 2.2, 2.7, 3.3, 4.0, 5.0, 6.0, 7.5, 9.0)
# The share of the tokens that the head predicts by itself, at full width, at least.
SHARE = 0.8
# c: what it costs to begin a product, in logits, on two cores of a CPU.
BEGINNING = 4_000
# The tokens that a tail computes in vain, on average: half a chunk.
IN_VAIN = 64


def expected_cost(
    counts: npt.ArrayLike, cutoffs: Sequence[int], num_tokens: int
) -> float:
    """The expected cost of the products of an adaptive softmax, in logits.

    sum_j c + n_j N_j. The head has N_0 words, a logit for each tail, and all n tokens;
    tail j has N_j words and p_j n tokens, where p_j is the share of its words in the
    text, and half a chunk of padding. That tails are narrower is left out, as it is in
    the paper, where it comes after the choice.

    Args:
        counts: How often each word occurs in the training set, in their order, `[V]`.
        cutoffs: The first word of each tail, below V.
        num_tokens: n, the tokens of a microbatch.

    Source:
        Grave et al. (2017), section 4.

    Example:
        >>> counts = [90, 5, 3, 2]
        >>> expected_cost(counts, [1], 1000), expected_cost(counts, [3], 1000)
        (10492.0, 12084.0)
    """
    reached = _reached(counts)
    ends = itertools.pairwise((*cutoffs, len(reached) - 1))
    tails = [_tail_cost(reached, *cluster, num_tokens) for cluster in ends]
    return _head_cost(cutoffs[0], len(cutoffs), num_tokens) + sum(tails)


def choose_cutoffs(counts: npt.ArrayLike, num_tokens: int) -> tuple[int, ...]:
    """The one, two or three cut-offs of the lowest expected cost.

    Round numbers are tried, each about a fifth above the one before. The head has four
    fifths of the tokens at least: a smaller one would cost less, but too few tokens
    would be predicted at the full width.

    Args:
        counts: How often each word occurs in the training set, `[V]`, the most
            frequent first.
        num_tokens: n, the tokens of a microbatch.

    Raises:
        UsageError: if there is only one word.

    Example:
        >>> zipf = [1_000_000 // rank for rank in range(1, 10_001)]
        >>> choose_cutoffs(zipf, num_tokens=1400)
        (1500, 3300, 6000)
    """
    reached = _reached(counts)
    vocabulary_size = len(reached) - 1
    if vocabulary_size < 2:
        raise UsageError("an adaptive head takes a vocabulary of at least 2 words")
    sizes = {int(step * 10**power) for power in range(10) for step in STEPS}
    places = sorted(size for size in sizes if size < vocabulary_size)
    large = [place for place in places if reached[place] >= SHARE]
    smallest = large[0] if large else places[-1]
    # The cheapest way to cut the words from each place on, with one tail at first.
    cheapest = {
        first: (_tail_cost(reached, first, vocabulary_size, num_tokens), (first,))
        for first in places
    }
    found = []
    for number in range(1, MOST + 1):
        found += [
            (_head_cost(first, number, num_tokens) + cost, cutoffs)
            for first, (cost, cutoffs) in cheapest.items()
            if first >= smallest
        ]
        cheapest = {
            first: min(
                (_tail_cost(reached, first, end, num_tokens) + cost, (first, *cutoffs))
                for end, (cost, cutoffs) in cheapest.items()
                if end > first
            )
            for first in places[:-number]
        }
    return min(found)[1]


def _reached(counts):
    """The share of the tokens that come before each word, and 1: `[V + 1]`."""
    counts = np.asarray(counts, float)
    return np.concatenate([[0.0], np.cumsum(counts) / np.sum(counts)])


def _head_cost(num_words, num_tails, num_tokens):
    return float(BEGINNING + num_tokens * (num_words + num_tails))


def _tail_cost(reached, first, end, num_tokens):
    rows = num_tokens * (reached[end] - reached[first]) + IN_VAIN
    return float(BEGINNING + rows * (end - first))


def check_cutoffs(cutoffs: Sequence[int], vocabulary_size: int) -> None:
    """Refuses cut-offs that are not those of a vocabulary.

    Args:
        cutoffs: The first word of each tail, rising.
        vocabulary_size: V.

    Raises:
        UsageError: if there is none, or the last one is not below V.

    Example:
        >>> check_cutoffs((2000, 10000), 10000)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: Config.cutoffs is (2000, 10000); the last must be \
below the number of words, 10000
    """
    if not cutoffs:
        raise UsageError(
            "Config.cutoffs is empty, but an adaptive head has 1 at least; training "
            "chooses them by its corpus"
        )
    if cutoffs[-1] >= vocabulary_size:
        raise UsageError(
            f"Config.cutoffs is {tuple(cutoffs)}; the last must be below the number of "
            f"words, {vocabulary_size}"
        )


def check_order(counts: npt.ArrayLike) -> None:
    """Refuses a vocabulary that is not in order of frequency.

    Args:
        counts: How often each word occurs in the training set, in their order, `[V]`.

    Raises:
        UsageError: if a word is more frequent than the one before it.

    Example:
        >>> check_order([3, 1, 2])
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: an adaptive head takes words in order of frequency; \
set Config.vocabulary_order to frequency (--vocabulary-order frequency)
    """
    if np.any(np.diff(np.asarray(counts)) > 0):
        raise UsageError(
            "an adaptive head takes words in order of frequency; set "
            "Config.vocabulary_order to frequency (--vocabulary-order frequency)"
        )
