"""Signs that the splits of a corpus are not what they should be."""

from collections.abc import Mapping

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
        if np.array_equal(first[first != eos], second[second != eos]):
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
    known = {line.tobytes() for line in _lines(first, eos)}
    lines = [line for line in _lines(second, eos) if line.tobytes() in known]
    return sum(map(len, lines)) / max(1, len(second))


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
    known, passages = _passages(first, eos), _passages(second, eos)
    # Most of a long stream is told apart by the first 24 bits, without sorting it.
    possible = np.zeros(2**24, bool)
    possible[passages >> 40] = True
    known = known[possible[known >> 40]]
    return float(np.isin(passages, known).mean()) if passages.size else 0.0


def _has_long_lines(stream: Ids, eos: int) -> bool:
    return stream.size > PASSAGE * (1 + int(np.count_nonzero(stream == eos)))


def _passages(stream: Ids, eos: int) -> npt.NDArray[np.uint64]:
    """The hash of each passage: a polynomial of its ids, modulo 2^64."""
    hashes, factor, length = stream[stream != eos].astype(np.uint64), BASE, 1
    while length < PASSAGE:
        hashes = hashes[:-length] * np.uint64(factor) + hashes[length:]
        factor, length = factor * factor % 2**64, 2 * length
    return hashes


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


def _lines(stream: Ids, eos: int) -> list[Ids]:
    return np.split(stream, np.flatnonzero(stream == eos) + 1)


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
