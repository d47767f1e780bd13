"""From the texts of the splits to ids, in one pass and in bounded memory.

A word gets the next id when it first appears. Once all splits are read, and the words
of the vocabulary are known, the ids are renumbered where they lie, in a file or in
memory: nothing is, if these are the words in order of first appearance.
"""

import hashlib
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glrnn.data.ids import Facts, Ids
from glrnn.data.tokens import EOS, LINE_END, Blocks, Read, check_not_empty
from glrnn.data.vocabulary import Vocabulary, words_without_symbol

# The ids that are renumbered at a time.
CHUNK = 2**20

# To write ids into, and read them: on a disk, or in memory.
File = io.BufferedRandom | io.BytesIO
Counts = Mapping[str, int]
Advance = Callable[[int], None]


class SplitText(NamedTuple):
    """A text to be read, and encoded.

    Attributes:
        name: What it is, for a warning or an error.
        size: The units of work in it that `read` reports.
        digest: What tells its content from any other; empty for a text that is not to
            be kept.
        read: Returns its blocks of tokens, as `tokens.read_blocks` does, given what is
            called with the units of work of each.
    """

    name: str
    size: int
    digest: str
    read: Callable[[Advance], Blocks]


def text_of(tokens: Iterable[str], name: str = "the text") -> SplitText:
    """A text that is a list of tokens, `<eos>` among them.

    Example:
        >>> next(text_of(["the", "cat"]).read(lambda units: None))
        ['the', 'cat']
    """
    tokens = list(tokens)

    def read(advance: Advance) -> Blocks:
        yield tokens
        advance(len(tokens))
        return Read("", len(tokens))

    return SplitText(name, len(tokens), "", read)


class Encoded(NamedTuple):
    """The ids of a text, in a file.

    Attributes:
        file: The ids, int32.
        read: What is known of the text.
        facts: What is known of the ids.
        crc32: The CRC-32 of the file.
    """

    file: File
    read: Read
    facts: Facts
    crc32: int


class _Index(dict[str, int]):
    """The id of each word, which a new word gets when it is asked for."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.words = [*words]
        super().__init__((word, i) for i, word in enumerate(self.words))

    def __missing__(self, word: str) -> int:
        if word == LINE_END:
            self[word] = self[EOS]
        else:
            self[word] = len(self.words)
            self.words.append(word)
        return self[word]


def encode(
    texts: Mapping[str, SplitText],
    vocabulary: Vocabulary | Callable[[Mapping[str, Counts]], Vocabulary],
    new_file: Callable[[], File],
    advance: Advance,
    tell: Callable[[str, Read], None],
    name: str = "the corpus",
) -> tuple[Vocabulary, dict[str, Encoded]]:
    """Reads and encodes texts over one vocabulary.

    Args:
        texts: The text of each split, in their order.
        vocabulary: The vocabulary; or a function that makes it of the counts of each
            split's words, which are in order of first appearance.
        new_file: Opens an empty file to write and read.
        advance: Called with the units of work that are done.
        tell: Called with the name of each text that was read, and what is known of it.
        name: The name of the corpus in an error.

    Returns:
        The vocabulary, and the ids of each split.

    Raises:
        UsageError: if a text cannot be read, or holds no words; or words are unknown to
            a vocabulary without a symbol for them.
        OSError: if a file cannot be written.

    Example:
        >>> import io
        >>> texts = {"train": text_of(["b", "a", "b"]), "valid": text_of(["c"])}
        >>> def frequent(counts):
        ...     return Vocabulary.of_frequent(counts["train"], 2)
        >>> nothing = lambda *arguments: None
        >>> made, encoded = encode(texts, frequent, io.BytesIO, nothing, nothing)
        >>> made.words
        ('b', '<unk>')
        >>> np.frombuffer(encoded["train"].file.getvalue(), np.int32)
        array([0, 1, 0], dtype=int32)
        >>> encoded["valid"].facts.counts
        array([0, 1])
    """
    index = _Index(vocabulary.words if isinstance(vocabulary, Vocabulary) else ())
    files, reads = {}, {}
    for split, text in texts.items():
        files[split] = new_file()
        reads[split] = _write_ids(text, index, files[split], advance)
        tell(text.name, reads[split])
        check_not_empty(reads[split].num_words, text.name)
    counts = {split: _count(file, len(index.words)) for split, file in files.items()}
    if isinstance(vocabulary, Vocabulary):
        made = vocabulary
    else:
        made = vocabulary(
            {split: _by_word(index.words, count) for split, count in counts.items()}
        )
    numbers = _numbers(index.words, made)
    encoded = {}
    for split, file in files.items():
        what = f"the {split} split of {name}"
        _refuse_unknown(file, numbers, counts[split], index, what)
        found = _renumber(file, numbers, len(made))
        encoded[split] = Encoded(file, reads[split], *found)
    return made, encoded


def _write_ids(text: SplitText, index: _Index, file: File, advance: Advance) -> Read:
    """Writes a text's ids, and gives new words new ones."""
    blocks = text.read(advance)
    while True:
        try:
            tokens = next(blocks)
        except StopIteration as end:
            return end.value
        numbers = map(index.__getitem__, tokens)
        file.write(np.fromiter(numbers, np.int32, len(tokens)).data)


def _chunks(file: File) -> Iterator[Ids]:
    """The ids in a file, in pieces that lie in the same memory."""
    buffer = np.empty(CHUNK, np.int32)
    file.seek(0)
    while size := file.readinto(buffer.data):
        yield buffer[: size // buffer.itemsize]


def _count(file: File, num_words: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(num_words, np.int64)
    for ids in _chunks(file):
        counts += np.bincount(ids, minlength=num_words)
    return counts


def _by_word(words: list[str], counts: npt.NDArray[np.int64]) -> Counts:
    places = np.flatnonzero(counts).tolist()
    return {words[place]: int(counts[place]) for place in places}


def _numbers(words: list[str], vocabulary: Vocabulary) -> Ids:
    """The id of each word in a vocabulary; -1 if it is unknown and has no symbol."""
    index, symbol = vocabulary.index, vocabulary.unknown_symbol
    other = -1 if symbol is None else index[symbol]
    return np.fromiter((index.get(word, other) for word in words), np.int32, len(words))


def _refuse_unknown(
    file: File,
    numbers: Ids,
    counts: npt.NDArray[np.int64],
    index: _Index,
    what: str,
) -> None:
    outside = np.flatnonzero((numbers < 0) & (counts > 0))
    if not outside.size:
        return
    place = 0
    for ids in _chunks(file):
        if (found := np.flatnonzero(numbers[ids] < 0)).size:
            num_outside, num_tokens = int(counts[outside].sum()), int(counts.sum())
            word = index.words[ids[found[0]]]
            place += int(found[0])
            raise words_without_symbol(num_outside, num_tokens, what, word, place)
        place += ids.size


def _renumber(file: File, numbers: Ids, num_words: int) -> tuple[Facts, int]:
    """Gives the ids in a file other numbers; the facts, and the file's CRC-32."""
    digest, crc32, counts = hashlib.sha256(), 0, np.zeros(num_words, np.int64)
    is_same = np.array_equal(numbers, np.arange(len(numbers)))
    place = 0
    for ids in _chunks(file):
        if not is_same:
            ids = numbers[ids]
            file.seek(place)
            file.write(ids.data)
            place += ids.nbytes
            file.seek(place)
        digest.update(ids.astype("<i4", copy=False).data)
        crc32 = zlib.crc32(ids.data, crc32)
        counts += np.bincount(ids, minlength=num_words)
    file.flush()
    return Facts(digest.hexdigest(), counts), crc32
