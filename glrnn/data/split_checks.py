"""Signs that the splits of a corpus are not what they should be."""

import numpy as np

from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import OTHER_UNKS, UNK, Ids, Vocabulary

# A split of which this part, in tokens, is in lines of an earlier one is suspicious.
SHARED = 0.5


def suspicions(
    vocabulary: Vocabulary, train: Ids, valid: Ids, test: Ids, unknown: dict[str, int]
) -> list[str]:
    """What looks wrong about three splits, though a model can be trained on them.

    Splits that share their lines, splits that look swapped, and symbols for unknown
    words that no model can learn.

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
        shared = shared_part(first, second, eos)
        if shared >= SHARED:
            found.append(
                f"{shared:.0%} of the {later} split is in lines that the {earlier} "
                f"split has too"
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
