"""The streams of a corpus: from the cache, or else read, encoded and kept there."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from glrnn.data import cache
from glrnn.data.cache import Stream
from glrnn.data.encoding import Advance, Encoded, SplitText, encode
from glrnn.data.ids import with_facts
from glrnn.data.split_files import SPLITS
from glrnn.data.tokens import Read
from glrnn.data.vocabulary import ORDERS, Vocabulary

Begin = Callable[[str, int], None]
Say = Callable[[str], None]
Streams = tuple[Vocabulary, Mapping[str, Stream]]


class Wanted(NamedTuple):
    """The streams of a corpus that is to be loaded.

    Attributes:
        name: The name of the corpus.
        texts: The text of each split.
        vocabulary: Their vocabulary; `None` if it is to be made of all three.
        min_count: How it is made, as for `corpus.load`.
        order: The order of its words.
    """

    name: str
    texts: Mapping[str, SplitText]
    vocabulary: Vocabulary | None
    min_count: int
    order: str = ORDERS[0]

    def new_vocabulary(self, counts: Mapping[str, Mapping[str, int]]) -> Vocabulary:
        """Makes the vocabulary of the counts of each split's words.

        The counts are in order of first appearance, in train, then valid, then test.
        """
        made = (
            Vocabulary.of_frequent(counts["train"], self.min_count)
            if self.min_count
            else Vocabulary.of(*(counts[split] for split in SPLITS))
        )
        return made.by_frequency(counts["train"]) if self.order == "frequency" else made

    def words_key(self, digests: Sequence[str]) -> str:
        """The name by which the cache keeps the vocabulary of such texts."""
        return cache.key("words", digests, self.min_count, self.order)


def load_streams(
    wanted: Wanted, folder: Path | None, begin: Begin, advance: Advance, say: Say
) -> Streams:
    """Loads streams from the cache; or reads and encodes the texts, and keeps them.

    Args:
        wanted: The streams.
        folder: The folder of the cache; `None` for none.
        begin: Called with a title and the units of work, if the texts are read.
        advance: Called with the units of work that are done.
        say: Called with a line about each thing that looks wrong.

    Returns:
        The vocabulary, and the stream of each split.

    Raises:
        UsageError: as `encode` does. A cache that cannot be written is no error, but
            said.
    """
    texts = wanted.texts
    if not all(text.digest for text in texts.values()):
        folder = None
    found = None if folder is None else _kept(wanted, folder)
    told: set[str] = set()

    def tell(name: str, read: Read) -> None:
        for warning in read.warnings:
            line = f"warning: {name}: {warning}"
            if line not in told:
                say(line)
            told.add(line)

    if found:
        for split, stream in found[1].items():
            tell(texts[split].name, Read("", 0, stream.warnings))
        return found
    title, total = f"reading {wanted.name}", sum(text.size for text in texts.values())
    made_of = wanted.vocabulary
    if made_of is None:
        made_of = wanted.new_vocabulary
    if folder is not None:
        begin(title, total)
        try:
            with cache.unfinished_files(folder) as new_file:
                result = encode(texts, made_of, new_file, advance, tell, wanted.name)
                return _keep(wanted, folder, *result, say)
        except OSError as error:
            _say_not_kept(folder, error, say)
    begin(title, total)
    made, encoded = encode(texts, made_of, io.BytesIO, advance, tell, wanted.name)
    return made, {split: _in_memory(stream) for split, stream in encoded.items()}


def _kept(wanted: Wanted, folder: Path) -> Streams | None:
    """The streams that are in the cache; `None` if one of them is not."""
    digests = {split: text.digest for split, text in wanted.texts.items()}
    vocabulary = wanted.vocabulary
    if vocabulary is None:
        name = wanted.words_key([digests[split] for split in SPLITS])
        words = cache.read(folder / "words" / f"{name}.json")
        if words is None:
            return None
        vocabulary = Vocabulary(tuple(words))
    streams = {}
    for split, digest in digests.items():
        stream = cache.stream(folder, _stream_key(digest, vocabulary))
        if stream is None:
            return None
        streams[split] = stream
    return vocabulary, streams


def _keep(
    wanted: Wanted,
    folder: Path,
    vocabulary: Vocabulary,
    encoded: Mapping[str, Encoded],
    say: Say,
) -> Streams:
    """Keeps streams in the cache, by the digests of what was read.

    These may be others than those of `wanted`, if a file was changed meanwhile.
    """
    try:
        if wanted.vocabulary is None:
            name = wanted.words_key([encoded[split].read.digest for split in SPLITS])
            cache.write(folder / "words" / f"{name}.json", vocabulary.words)
        return vocabulary, {
            split: cache.keep(folder, _stream_key(each.read.digest, vocabulary), each)
            for split, each in encoded.items()
        }
    except OSError as error:
        _say_not_kept(folder, error, say)
        return vocabulary, {split: _in_memory(each) for split, each in encoded.items()}


def _stream_key(digest: str, vocabulary: Vocabulary) -> str:
    return cache.key("ids", digest, vocabulary.sha256)


def _in_memory(encoded: Encoded) -> Stream:
    encoded.file.seek(0)
    ids = np.frombuffer(encoded.file.read(), np.int32)
    return Stream(with_facts(ids, encoded.facts), encoded.read.warnings)


def _say_not_kept(folder: Path, error: OSError, say: Say) -> None:
    reason = error.strerror or error
    say(
        f"note: encoded texts are not kept, and will be read again: cannot write "
        f"{folder}: {reason}"
    )
