"""A corpus of token ids that are already in memory."""

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from glrnn.data.corpus import Corpus
from glrnn.data.ids import check_ids
from glrnn.data.split_checks import suspicions
from glrnn.data.vocabulary import Vocabulary
from glrnn.errors import printable

# The name of such a corpus, which cannot be loaded again.
IN_MEMORY = "arrays in memory"


def corpus_of_arrays(
    words: Sequence[str],
    train: npt.ArrayLike,
    valid: npt.ArrayLike,
    test: npt.ArrayLike,
) -> Corpus:
    """A corpus of three arrays of token ids.

    What looks wrong about the splits is said on standard error, as for a corpus that is
    read from files.

    Args:
        words: The words; that of the id i is `words[i]`. `<eos>` ends a sentence, and
            `<unk>` stands for unknown words, if they are among them.
        train: The training set, integers `[N]`.
        valid: The validation set.
        test: The test set.

    Raises:
        UsageError: A word occurs twice or is no string, or a split is no array of ids
            below the number of words.

    Example:
        >>> corpus = corpus_of_arrays(("<eos>", "a", "b"), [1, 2, 0], [2, 0], [1, 0])
        >>> corpus.train.dtype, len(corpus.vocabulary)
        (dtype('int32'), 3)
    """
    vocabulary = Vocabulary(tuple(words))
    streams = {
        split: check_ids(ids, f"{split} split", len(vocabulary))
        for split, ids in (("train", train), ("valid", valid), ("test", test))
    }
    symbol = vocabulary.unknown_symbol
    unknown = {
        split: 0
        if symbol is None
        else int(np.count_nonzero(ids == vocabulary.index[symbol]))
        for split, ids in streams.items()
    }
    for suspicion in suspicions(vocabulary, **streams, unknown=unknown):
        print(printable(f"warning: {suspicion}"), file=sys.stderr, flush=True)
    return Corpus(IN_MEMORY, vocabulary, **streams, unknown=unknown)
