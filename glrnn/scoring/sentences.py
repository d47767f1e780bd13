"""Sentences, one a line, and the probabilities of their tokens, many at a time.

Each sentence is read from a fresh state after `<eos>` and ends in `<eos>`, so its
probabilities are those of a text of its own. Sentences of like length are scored side
by side; lines are read and results come out block by block, so that memory does not
grow with the text.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax import Array

from glrnn.data.texts import LARGEST
from glrnn.data.vocabulary import Ids, Vocabulary
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.ground.validation import shown
from glrnn.scoring.trained import Trained

# The number of sentences that are read before any is scored.
BLOCK = 2048
# Time steps and sentences of the compiled programs. A sentence with more tokens than
# that is read in pieces.
LENGTHS = (8, 16, 24, 32, 48, 64, 128)
BATCH_SIZES = (1, 8, 32)
# The number of probabilities that are held at a time where whole distributions are
# asked for.
LARGEST_TABLE = 2**26
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
    iterator = iter(sentences)
    while block := list(itertools.islice(iterator, BLOCK)):
        scores: dict[int, SentenceScore] = {}
        order = sorted(range(len(block)), key=lambda i: -len(block[i].ids))
        for chosen in _batches([len(block[i].ids) for i in order], trained, details):
            places = order[chosen]
            found = _score_batch(trained, [block[i] for i in places], details)
            scores |= dict(zip(places, found, strict=True))
        yield from (scores[i] for i in range(len(block)))


def score_stream(
    trained: Trained, sentences: Iterable[Sentence], details: bool = False
) -> Iterator[SentenceScore]:
    """Scores the sentences of one text, each after all before it.

    The arguments and what is yielded are those of `score_sentences`.
    """
    carry, last = trained.model.initial_carry(1), trained.eos
    for sentence in sentences:
        inputs = np.append(np.int32(last), sentence.ids)
        found, carry = _score_rows(trained, carry, [inputs], details)
        last = int(sentence.ids[-1])
        yield SentenceScore(sentence, *(each[0] for each in found))


def _batches(
    lengths: Sequence[int], trained: Trained, details: bool
) -> Iterator[slice]:
    """Cuts descending lengths into batches."""
    start = 0
    while start < len(lengths):
        size = min(lengths[start], LENGTHS[-1])
        most = BATCH_SIZES[-1]
        if details:
            most = max(1, LARGEST_TABLE // (size * len(trained.vocabulary)))
        left = len(lengths) - start
        count = max(b for b in BATCH_SIZES if b <= max(1, min(most, left)))
        yield slice(start, start + count)
        start += count


def _score_batch(
    trained: Trained, sentences: Sequence[Sentence], details: bool
) -> list[SentenceScore]:
    rows = [np.append(np.int32(trained.eos), sentence.ids) for sentence in sentences]
    carry = trained.model.initial_carry(len(rows))
    found, _ = _score_rows(trained, carry, rows, details)
    return [
        SentenceScore(sentence, *each)
        for sentence, *each in zip(sentences, *found, strict=True)
    ]


def _score_rows(
    trained: Trained, carry: Any, rows: Sequence[Ids], details: bool
) -> tuple[list[list[Any]], Any]:
    """Scores each token of some rows but the first, which is only read.

    Returns:
        Lists with an array for each row, of log-likelihoods and, with details, of
        entropies and of ranks; and the carry after the rows.
    """
    longest = max(map(len, rows)) - 1
    pieces = []
    for start in range(0, longest, LENGTHS[-1]):
        size = next(n for n in LENGTHS if n >= min(longest - start, LENGTHS[-1]))
        tokens = np.zeros((size + 1, len(rows)), np.int32)
        for column, row in enumerate(rows):
            part = row[start : start + size + 1]
            tokens[: len(part), column] = part
        lengths = [min(max(len(row) - 1 - start, 0), size) for row in rows]
        window = Window(tokens[:-1], tokens[1:], np.array(lengths, np.int32))
        *found, carry = measured(details, trained.model, trained.params, carry, window)
        pieces.append(jax.device_get(found))
    whole = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    return [
        [each[: len(row) - 1, column] for column, row in enumerate(rows)]
        for each in whole
    ], carry


@partial(jax.jit, static_argnums=(0, 1))
@jax.default_matmul_precision("float32")
def measured(
    details: bool, model: Any, params: Any, carry: Any, window: Window
) -> tuple[Array | Any, ...]:
    """The arrays of `SentenceScore` for a window, each `[T, B]`, and the carry."""
    if not details:
        return model.log_likelihoods(params, carry, window)
    log_probs, carry = model.log_probs(params, carry, window)
    targets = jnp.asarray(window.targets)[..., None]
    own = jnp.take_along_axis(log_probs, targets, axis=-1)
    # A word of probability 0 adds nothing.
    terms = jnp.where(log_probs > -jnp.inf, jnp.exp(log_probs) * log_probs, 0)
    ranks = 1 + jnp.sum(log_probs > own, axis=-1, dtype=jnp.int32)
    return own[..., 0], -jnp.sum(terms, axis=-1), ranks, carry
