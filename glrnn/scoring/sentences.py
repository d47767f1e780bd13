"""Sentences, one a line, and the probabilities of their tokens, many at a time.

Each sentence is read from a fresh state after `<eos>` and ends in `<eos>`, so its
probabilities are those of a text of its own. Lines are read and results come out block
by block, so that memory does not grow with the text; the sentences of a block share
what is computed of their prefixes.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from glrnn.data.texts import LARGEST
from glrnn.data.vocabulary import Ids, Vocabulary
from glrnn.errors import UsageError
from glrnn.ground.validation import shown
from glrnn.scoring.pieces import score_pieces
from glrnn.scoring.prefixes import BLOCK, score_tree
from glrnn.scoring.trained import Trained

# The utterance, and the number of the candidate after the last hyphen.
KEY = re.compile(r".+-\d+", re.ASCII)
BYTE_ORDER_MARK = "\ufeff".encode()


class Sentence(NamedTuple):
    """A line of a text.

    Attributes:
        line: The number of the line, from 1.
        words: Its words as they were written.
        ids: The ids of these words and of `<eos>`, `[N]`.
        unknown: Whether each of these is an unknown word, `[N]`.
        key: The first word of a line of candidates, which is no part of the sentence.
    """

    line: int
    words: tuple[str, ...]
    ids: Ids
    unknown: npt.NDArray[np.bool_]
    key: str = ""


class SentenceScore(NamedTuple):
    """The probabilities of a sentence.

    Attributes:
        sentence: The sentence.
        log_likelihoods: The log-probability of each token in nats, `[N]`.
        entropies: The entropy of the distribution that predicts it, in nats, `[N]`;
            `None` where only log-probabilities were asked for.
        ranks: Its rank among all words, from 1, `[N]`, or `None`.
    """

    sentence: Sentence
    log_likelihoods: npt.NDArray[np.float32]
    entropies: npt.NDArray[np.float32] | None = None
    ranks: npt.NDArray[np.int32] | None = None


def read_sentences(
    stream: BinaryIO, vocabulary: Vocabulary, name: str, eos: int, keyed: bool = False
) -> Iterator[Sentence]:
    r"""The lines of a text as sentences.

    Lines end at `\n`, words at ASCII whitespace. A byte order mark at the beginning and
    a carriage return at the end of a line are no part of a word, and the last line
    counts without a newline too. Nothing is normalised.

    Args:
        stream: The text in UTF-8.
        vocabulary: The words that the model knows.
        name: What the text is, for an error.
        eos: The id of `<eos>`.
        keyed: Whether each line begins with a key, `utterance-n`: a list of candidates.

    Raises:
        UsageError: The text cannot be read or is empty; or a line is too long, is not
            UTF-8, has an unknown word for which the vocabulary has no symbol, or has no
            key where there should be one.

    Example:
        >>> import io
        >>> vocabulary = Vocabulary(("<eos>", "the", "cat", "<unk>"))
        >>> for sentence in read_sentences(
        ...     io.BytesIO(b"the dog\r\n\nthe cat"), vocabulary, "a text", eos=0
        ... ):
        ...     print(sentence.line, sentence.words, sentence.ids.tolist())
        1 ('the', 'dog') [1, 3, 0]
        2 () [0]
        3 ('the', 'cat') [1, 2, 0]
    """
    number = 0
    for number in itertools.count(1):
        try:
            line = stream.readline(LARGEST)
        except OSError as error:
            raise UsageError(f"cannot read {name}: {error.strerror}") from error
        if not line:
            break
        if len(line) == LARGEST:
            raise UsageError(f"line {number:,} of {name} has over {LARGEST:,} bytes")
        # `cat a b` leaves that of b; one that stands alone is a word.
        if number == 1 or not line.removeprefix(BYTE_ORDER_MARK)[:1].isspace():
            line = line.removeprefix(BYTE_ORDER_MARK)
        yield _sentence(line, number, vocabulary, name, eos, keyed)
    if number == 1:
        raise UsageError(f"{name} is empty")


def _sentence(
    line: bytes, number: int, vocabulary: Vocabulary, name: str, eos: int, keyed: bool
) -> Sentence:
    where = f"line {number:,} of {name}"
    try:
        words = tuple(word.decode() for word in line.split())
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not UTF-8 text: {error.reason}") from error
    if b"\0" in line:
        raise UsageError(f"{where} is not UTF-8 text: it has a NUL")
    key = ""
    if keyed:
        key, words = (words or ("",))[0], words[1:]
        if not KEY.fullmatch(key):
            raise UsageError(
                f"{where} begins with {shown(key)}; a line of candidates begins with a "
                f"key such as utterance-1"
            )
    ids = np.append(vocabulary.encode(words, where)[0], np.int32(eos))
    symbol = vocabulary.unknown_symbol
    unknown = ids == (-1 if symbol is None else vocabulary.index[symbol])
    return Sentence(number, words, ids, unknown, key)


def score_sentences(
    trained: Trained, sentences: Iterable[Sentence], details: bool = False
) -> Iterator[SentenceScore]:
    """Scores sentences, each on its own.

    Args:
        trained: The model.
        sentences: The sentences.
        details: Whether to compute entropies and ranks, for which whole distributions
            are needed.

    Yields:
        Their scores, in the same order.

    Example:
        >>> import io
        >>> from glrnn.config import Config
        >>> from glrnn.scoring.trained import untrained
        >>> vocabulary = Vocabulary(("<eos>", "a", "b", "c"))
        >>> trained = untrained(vocabulary, Config())
        >>> text = io.BytesIO(b"a b c")
        >>> lines = read_sentences(text, vocabulary, "a text", trained.eos)
        >>> (score,) = score_sentences(trained, lines)
        >>> (-score.log_likelihoods / np.log(2)).round(1).tolist()  # 2 bits each
        [2.0, 2.0, 2.0, 2.0]
    """
    iterator, room = iter(sentences), 1
    while block := list(itertools.islice(iterator, BLOCK)):
        order = sorted(range(len(block)), key=lambda i: -len(block[i].ids))
        found = score_tree(trained, [block[i].ids for i in order], details, room)
        room = max(room, len(block))
        scores = dict(zip(order, found, strict=True))
        for index, sentence in enumerate(block):
            yield SentenceScore(sentence, *scores[index])


def score_stream(
    trained: Trained, sentences: Iterable[Sentence], details: bool = False
) -> Iterator[SentenceScore]:
    """Scores the sentences of one text, each after all before it.

    The arguments and what is yielded are those of `score_sentences`.
    """
    carry, last = trained.model.initial_carry(1), trained.eos
    for sentence in sentences:
        inputs = np.append(np.int32(last), sentence.ids)
        found, carry = score_pieces(trained, carry, inputs, details)
        last = int(sentence.ids[-1])
        yield SentenceScore(sentence, *found)
