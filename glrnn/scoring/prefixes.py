"""The probabilities of many sentences' tokens, one computation a distinct prefix.

Sentences that begin alike, such as the candidates of one utterance, have the same
states and distributions for as long as they do. So a set of sentences is a tree of
prefixes, and its levels are computed one after the other: all prefixes of one token,
of two, and so on, side by side. No level has padding between sentences of different
lengths.

Source: Si, Zhang, Li, Pan and Yan (2013), "Prefix tree based n-best list re-scoring for
recurrent neural network language model used in speech recognition system".
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from glrnn.data.vocabulary import Ids
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.scoring.pieces import Scores, probabilities, score_pieces
from glrnn.scoring.trained import Trained

# The most sentences that share a tree.
BLOCK = 2048
# The prefixes of the compiled programs: each size divides those after it, and BLOCK.
SIZES = (1, 4, 16, 64, 256)
# The last sentence of a tree is read in pieces if it has so many tokens left.
LONG = 64
# The number of probabilities that are held at a time where whole distributions are
# asked for.
LARGEST_TABLE = 2**26


class Level(NamedTuple):
    """The distinct prefixes of one length.

    Attributes:
        tokens: The last token of each, `[N]`.
        parents: The place, in the level before, of what precedes this token, `[N]`.
        places: The place of each sentence's prefix, for the first sentences: those that
            are so long.
    """

    tokens: Ids
    parents: Ids
    places: Ids


def levels(sentences: Sequence[Ids]) -> Iterator[Level]:
    """The tree of prefixes of some sentences, level by level.

    Args:
        sentences: Tokens, of descending lengths.

    Example:
        >>> for level in levels([np.array([5, 6, 7]), np.array([5, 6, 8]), [9]]):
        ...     print(*map(np.ndarray.tolist, level))
        [5, 9] [0, 0] [0, 0, 1]
        [6] [0] [0, 0]
        [7, 8] [0, 0] [0, 1]
    """
    live, places = list(sentences), [0] * len(sentences)
    for depth in itertools.count():
        while live and len(live[-1]) <= depth:
            live.pop()
        if not live:
            return
        prefixes: dict[tuple[int, int], int] = {}
        places = [
            prefixes.setdefault((place, int(sentence[depth])), len(prefixes))
            for place, sentence in zip(places, live, strict=False)
        ]
        parents, tokens = np.array(list(prefixes), np.int32).T
        yield Level(tokens, parents, np.array(places, np.int32))


def score_tree(
    trained: Trained, sentences: Sequence[Ids], details: bool = False, room: int = 1
) -> list[Scores]:
    """Scores sentences, each after `<eos>` and a fresh state.

    Args:
        trained: The model.
        sentences: Their tokens: `BLOCK` sentences at most, of descending lengths.
        details: Whether to compute entropies and ranks.
        room: The number of sentences of an earlier set, whose programs serve this one
            too if it is smaller.

    Returns:
        The scores of each.

    Raises:
        UsageError: The model has no state of its own for each sentence.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.data.vocabulary import Vocabulary
        >>> from glrnn.scoring.trained import untrained
        >>> trained = untrained(Vocabulary(("<eos>", "a", "b", "c")), Config())
        >>> (first,), (second,) = score_tree(trained, [np.array([1, 2, 0]), [1, 0]])
        >>> len(first), len(second), bool(first[0] == second[0])
        (3, 2, True)
    """
    most = max(room, len(sentences))
    capacity = next(size for size in (*SIZES, BLOCK) if size >= most)
    carry, spare = (trained.model.initial_carry(capacity) for _ in range(2))
    _check_states(carry, capacity)
    start = np.zeros(len(sentences), np.int32)
    level = Level(np.array([trained.eos], np.int32), start[:1], start)
    found = []
    for following in levels(sentences):
        if len(following.places) == 1 and len(sentences[0]) - len(found) >= LONG:
            break
        inputs = level.tokens[following.parents]
        rows, carry, spare = _score_level(
            trained, carry, spare, inputs, following, details
        )
        level = following
        found.append((level.places, rows))
    scores = _by_sentence(sentences, found)
    rest = sentences[0][len(found) :]
    if len(rest):  # its prefixes are the first of every level
        own = jax.tree.map(lambda states: states[:1], carry)
        inputs = np.append(level.tokens[0], rest)
        last, _ = score_pieces(trained, own, inputs, details)
        scores[0] = list(map(np.append, scores[0], last)) if found else last
    return scores


def _check_states(carry: Any, capacity: int) -> None:
    """Refuses states that are not one row a sentence."""
    for states in jax.tree.leaves(carry):
        if jnp.shape(states)[:1] != (capacity,):
            raise UsageError(
                "the model has no state for each sentence; a mean over dropout masks "
                "can be evaluated, with glrnn.perplexity"
            )


def _score_level(
    trained: Trained, carry: Any, spare: Any, inputs: Ids, level: Level, details: bool
) -> tuple[list[list[Array]], Any, Any]:
    """Scores the tokens of a level, given the states of the level before.

    Returns:
        For each batch, as many arrays as there are kinds of scores; the states after
        the inputs, which have been written into the spare ones; and the next spare.
    """
    most = LARGEST_TABLE // len(trained.vocabulary) if details else SIZES[-1]
    sizes = [size for size in SIZES if size <= max(1, most)]
    found, start = [], 0
    while start < len(inputs):
        # A batch may be padded by a third; otherwise the largest that can be filled.
        left = len(inputs) - start
        size = max(size for size in sizes if 3 * size <= 4 * left)
        batch = [
            np.pad(each[start : start + size], (0, max(0, size - left)))
            for each in (level.parents, inputs, level.tokens)
        ]
        rows, spare = _score_batch(
            details, trained.model, trained.params, carry, spare, start, *batch
        )
        found.append(rows)
        start += size
    return found, spare, carry


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=4)
@jax.default_matmul_precision("float32")
def _score_batch(
    details: bool,
    model: Any,
    params: Any,
    carry: Any,
    after: Any,
    start: Any,
    parents: Ids,
    inputs: Ids,
    targets: Ids,
) -> tuple[list[Array], Any]:
    """Scores a batch of a level, and writes its states into those of the level."""
    window = Window(inputs[None], targets[None], np.int32(1))
    carry = jax.tree.map(lambda states: jnp.take(states, parents, axis=0), carry)
    found, carry = probabilities(details, model, params, carry, window)
    after = jax.tree.map(
        lambda whole, part: lax.dynamic_update_slice_in_dim(whole, part, start, 0),
        after,
        carry,
    )
    return [each[0] for each in found], after


def _by_sentence(
    sentences: Sequence[Ids], found: Sequence[tuple[Ids, list[list[Array]]]]
) -> list[Scores]:
    """Gathers the scores of each sentence from those of the levels."""
    columns = [
        [np.concatenate(parts)[places] for parts in zip(*batches, strict=True)]
        for places, batches in jax.device_get(found)
    ]
    return [
        [
            np.array([column[index] for column in each[: len(sentence)]])
            for each in zip(*columns, strict=True)
        ]
        for index, sentence in enumerate(sentences)
    ]
