"""Signs that the splits of a corpus are not what they should be.

A training set may be larger than the memory: it is looked at block by block.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import OTHER_UNKS, UNK, Ids, Vocabulary

# A split of which this part, in tokens, is in an earlier one too is suspicious.
SHARED = 0.5
# The tokens of a passage, a power of 2. Where lines are longer than this on average,
# passages are compared too.
PASSAGE = 64
# Of the hash of a passage: any large odd number.
BASE = 0x9E3779B97F4A7C15
# The tokens that are looked at at a time.
BLOCK = 2**22


def suspicions(
    vocabulary: Vocabulary, train: Ids, valid: Ids, test: Ids, unknown: dict[str, int]
) -> list[str]:
    """What looks wrong about three splits, though a model can be trained on them.

    Splits that share their lines, or passages of long lines; splits that look swapped;
    and symbols for unknown words that no model can learn.

    Args:
        vocabulary: The vocabulary.
        train: The training set, int32 `[N]`.
        valid: The validation set.
        test: The test set.
        unknown: The number of unknown tokens of each split.

    Returns:
        One line for each suspicion.

    Example:
        >>> words = Vocabulary(("a", "b", "<eos>"))
        >>> train, test = np.array([0, 0, 1, 2]), np.array([1, 1, 2])
        >>> suspicions(words, train, train, test, {})
        ['the train split and the valid split are the same text']
    """
    streams = {"train": train, "valid": valid, "test": test}
    eos = vocabulary.index.get(EOS, -1)
    found = []
    for earlier, later in (("train", "valid"), ("train", "test"), ("valid", "test")):
        first, second = streams[earlier], streams[later]
        if np.array_equal(first, second):
            found.append(f"the {earlier} split and the {later} split are the same text")
            continue
        if _are_same_words(first, second, eos):
            found.append(
                f"the {earlier} split and the {later} split are the same text, but for "
                f"their line breaks"
            )
            continue
        shared = shared_part(first, second, eos)
        if shared >= SHARED:
            found.append(
                f"{shared:.0%} of the {later} split is in lines that the {earlier} "
                f"split has too"
            )
        elif (passages := shared_passages(first, second, eos)) >= SHARED:
            found.append(
                f"{passages:.0%} of the {later} split is in passages that the "
                f"{earlier} split has too"
            )
        if earlier == "train" and len(second) > len(first):
            found.append(
                f"the {later} split is larger than the train split: {len(second):,} "
                f"tokens to {len(first):,}; are they swapped?"
            )
    return found + _of_unknown_words(vocabulary, unknown)


def shared_part(first: Ids, second: Ids, eos: int) -> float:
    """The part of a stream, in tokens, that is in lines which another stream has.

    Args:
        first: The other stream.
        second: The stream.
        eos: The id that ends a line.

    Example:
        >>> shared_part(np.array([1, 2, 0, 3, 0]), np.array([3, 3, 0, 3, 0]), eos=0)
        0.4
    """
    lines, marks = [*_lines(second, eos)], _marks(second, eos)
    wanted = {line.tobytes() for line in lines}
    known = {
        line.tobytes() for line in _lines(first, eos, marks) if line.tobytes() in wanted
    }
    shared = sum(len(line) for line in lines if line.tobytes() in known)
    return shared / max(1, len(second))


def shared_passages(first: Ids, second: Ids, eos: int) -> float:
    """The part of a stream's passages that another stream has, wherever they begin.

    A passage is `PASSAGE` tokens in a row, whatever lines they are in. It is 0 if the
    lines of both streams are short, or the stream has no passage.

    Args:
        first: The other stream.
        second: The stream.
        eos: The id that ends a line.

    Example:
        >>> words = np.arange(300)
        >>> shared_passages(words, words[130:], eos=-1)
        1.0
    """
    if not any(_has_long_lines(stream, eos) for stream in (first, second)):
        return 0.0
    passages = np.concatenate([*_passages(second, eos)])
    each = np.unique(passages)
    is_shared = np.zeros(each.size, bool)
    # Most of a long stream is told apart by the first 24 bits, without a search.
    possible = np.zeros(2**24, bool)
    possible[each >> 40] = True
    for known in _passages(first, eos):
        known = known[possible[known >> 40]]
        places = np.minimum(np.searchsorted(each, known), each.size - 1)
        is_shared[places[each[places] == known]] = True
    if not passages.size:
        return 0.0
    return float(is_shared[np.searchsorted(each, passages)].mean())


def _has_long_lines(stream: Ids, eos: int) -> bool:
    return stream.size > PASSAGE * (1 + _ends(stream, eos).size)


def _are_same_words(first: Ids, second: Ids, eos: int) -> bool:
    """Whether two streams are the same but for the ends of lines."""
    num_words = [stream.size - _ends(stream, eos).size for stream in (first, second)]
    if num_words[0] != num_words[1]:
        return False
    return np.array_equal(first[first != eos], second[second != eos])


def _passages(stream: Ids, eos: int) -> Iterator[npt.NDArray[np.uint64]]:
    """The hash of each passage, block by block: a polynomial of its ids, modulo 2^64.

    The first block is there even if it is empty.
    """
    before = np.empty(0, np.uint64)
    for start in range(0, max(1, stream.size), BLOCK):
        block = stream[start : start + BLOCK]
        words = np.append(before, block[block != eos].astype(np.uint64))
        hashes, factor, length = words, BASE, 1
        while length < PASSAGE:
            hashes = hashes[:-length] * np.uint64(factor) + hashes[length:]
            factor, length = factor * factor % 2**64, 2 * length
        yield hashes
        before = words[-(PASSAGE - 1) :]


def unknown_shares(
    streams: Mapping[str, Ids], unknown: Mapping[str, int]
) -> dict[str, float]:
    """The part of each split that is unknown words.

    Args:
        streams: The streams by split.
        unknown: The number of unknown tokens of each split.

    Example:
        >>> unknown_shares({"train": np.array([0, 1])}, {"train": 1})
        {'train': 0.5}
    """
    return {
        split: count / max(1, streams[split].size) for split, count in unknown.items()
    }


def _ends(stream: Ids, eos: int) -> npt.NDArray[np.int64]:
    """The places of the ends of lines."""
    starts = range(0, stream.size, BLOCK)
    found = [np.flatnonzero(stream[i : i + BLOCK] == eos) + i for i in starts]
    return np.concatenate([np.empty(0, np.int64), *found])


def _bounds(stream: Ids, eos: int) -> npt.NDArray[np.int64]:
    """Where the lines begin, and where the last one ends."""
    bounds = np.concatenate([[0], _ends(stream, eos) + 1, [stream.size]])
    return bounds if bounds[-2] < stream.size else bounds[:-1]


def _marks(stream: Ids, eos: int) -> npt.NDArray[np.uint64]:
    """A number for each line, of its length and three of its words."""
    bounds = _bounds(stream, eos)
    starts, stops = bounds[:-1], bounds[1:]
    marks = (stops - starts).astype(np.uint64)
    for places in (starts, (starts + stops) // 2, np.maximum(starts, stops - 2)):
        marks = marks * np.uint64(BASE) + stream[places].astype(np.uint64)
    return marks


def _lines(
    stream: Ids, eos: int, marks: npt.NDArray[np.uint64] | None = None
) -> Iterator[Ids]:
    """The lines of a stream, or those with one of some marks."""
    bounds = _bounds(stream, eos)
    chosen = np.arange(len(bounds) - 1)
    if marks is not None:
        chosen = chosen[np.isin(_marks(stream, eos), marks)]
    for i in chosen.tolist():
        yield stream[bounds[i] : bounds[i + 1]]


def _of_unknown_words(vocabulary: Vocabulary, unknown: dict[str, int]) -> list[str]:
    found = []
    symbol = vocabulary.unknown_symbol
    others = sum(unknown.values()) - unknown.get("train", 0)
    if others and not unknown.get("train"):
        found.append(
            f"the valid and test splits have {others:,} unknown words, but the train "
            f"split has no {symbol}, so that no model can learn it; a minimum count "
            f"of 2 gives it some"
        )
    symbols = [word for word in (UNK, *OTHER_UNKS) if word in vocabulary.index]
    if len(symbols) > 1:
        found.append(
            f"the texts have {' and '.join(symbols)}; unknown words are read as "
            f"{symbol}, and the others are ordinary words"
        )
    return found
