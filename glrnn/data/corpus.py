"""A corpus by its name, or from a folder: three token streams over one vocabulary."""

import hashlib
import importlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from glrnn.data import cache
from glrnn.data.digests import sha256_of
from glrnn.data.encoding import Advance, SplitText, text_of
from glrnn.data.ids import Ids, count_ids, facts_of
from glrnn.data.split_checks import suspicions, unknown_shares
from glrnn.data.split_files import SPLITS, find
from glrnn.data.streams import Begin, Wanted, load_streams
from glrnn.data.texts import PathLike
from glrnn.data.tokens import read_blocks
from glrnn.data.vocabulary import ORDERS, Vocabulary, check_min_count
from glrnn.errors import UsageError, printable

# A split of which this part is unknown words is worth a warning: their perplexity is
# low, and says little.
MANY_UNKNOWN = 0.3

Texts = Mapping[str, SplitText]


class Corpus(NamedTuple):
    """Three token streams over one vocabulary.

    Attributes:
        name: The name or folder that `load` was given.
        vocabulary: The vocabulary of the ids.
        train: The training set, int32 `[N]`.
        valid: The validation set, int32 `[N]`.
        test: The test set, int32 `[N]`.
        unknown: The number of tokens of each split that are unknown words, or the
            symbol for them.
    """

    name: str
    vocabulary: Vocabulary
    train: Ids
    valid: Ids
    test: Ids
    unknown: Mapping[str, int]


def _embedded(corpus: str, name: str) -> Callable[[PathLike | None], Texts]:
    """The texts of a corpus whose module makes them."""

    def load_texts(manual_dir: PathLike | None) -> Texts:
        _refuse(manual_dir, corpus)
        made = importlib.import_module(f"glrnn.data.corpora.{name}").splits()
        return {split: text_of(tokens) for split, tokens in made.items()}

    return load_texts


def _downloaded(name: str, builder: str) -> Callable[[PathLike | None], Texts]:
    """The texts of a corpus whose module has a builder."""

    def load_texts(manual_dir: PathLike | None) -> Texts:
        from glrnn.data.corpora import downloaded

        module = importlib.import_module(f"glrnn.data.corpora.{name}")
        return downloaded.texts(getattr(module, builder), manual_dir)

    return load_texts


def _refuse(manual_dir: PathLike | None, name: str) -> None:
    if manual_dir is not None:
        raise UsageError(
            f"--manual-dir {os.fspath(manual_dir)} is of no use to {name}, which is "
            "not downloaded"
        )


# Each corpus is a function from the folder that holds its files, or `None` to download
# them, to the text of each split. It imports what it needs when it is called.
CORPORA: Mapping[str, Callable[[PathLike | None], Texts]] = {
    "python-docs": _embedded("python-docs", "python_docs"),
    "hmm": _embedded("hmm", "hmm"),
    "ptb": _downloaded("ptb", "Ptb"),
    "wikitext-2": _downloaded("wikitext2", "Wikitext2"),
    "wikitext-103": _downloaded("wikitext103", "Wikitext103"),
    "lm1b": _downloaded("lm1b", "Lm1b"),
    "text8": _downloaded("text8", "Text8"),
    "enwik8": _downloaded("enwik8", "Enwik8"),
}


# The minimum count that belongs to a corpus, where an experiment has none.
MIN_COUNTS: Mapping[str, int] = {"lm1b": 3}


def load(
    name_or_folder: PathLike,
    vocabulary: Vocabulary | None = None,
    manual_dir: PathLike | None = None,
    *,
    min_count: int = 0,
    order: str = ORDERS[0],
    splits: Sequence[str] = SPLITS,
    begin: Begin = lambda title, total: None,
    advance: Advance = lambda units: None,
) -> Corpus:
    """Loads a corpus by its name, or from a folder of three texts.

    What looks wrong about the ends of lines is said on standard error; so is, if the
    corpus is to be trained on, without a vocabulary, what looks wrong about its splits.

    Args:
        name_or_folder: A name in `CORPORA`, or a folder with train.txt, valid.txt and
            test.txt, or files that `split_files.find` takes for them, read by
            `tokens.read_blocks`. A `Path` is always a folder.
        vocabulary: The vocabulary of the model to evaluate.
        manual_dir: A folder with the texts of a corpus that is otherwise downloaded.
        min_count: The vocabulary to make where none is given: 0 for all words of train,
            then valid, then test, in order of first appearance, or for the number in
            `MIN_COUNTS`; else `Vocabulary.of_frequent`, of the words that occur so
            often in train.
        order: The order of its words, one of `ORDERS`: appearance, or frequency in
            train, as `Vocabulary.by_frequency` has it.
        splits: The splits to load, of a corpus whose vocabulary is given; the others
            are empty, and their files need not be there.
        begin: Called with a title and the units of work, before texts are read and
            encoded; their streams are kept in the user's cache folder, and not made
            again. See `glrnn.data.cache`.
        advance: Called with the units of work that are done.

    Returns:
        The corpus.

    Raises:
        UsageError: if there is no such corpus, it cannot be downloaded, a split is
            missing or cannot be read, words are unknown to a vocabulary without a
            symbol for them, the minimum count is not an integer, at least 0, or
            `manual_dir` is given for a corpus that is not downloaded.
        ValueError: if not all splits are to be loaded, and there is no vocabulary.

    Example:
        >>> load("ptbb")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: unknown data set 'ptbb'; choose from: python-docs, \
hmm, ptb, wikitext-2, wikitext-103, lm1b, text8, enwik8, or give a folder with \
train.txt, valid.txt and test.txt
    """
    if vocabulary is None and set(splits) != set(SPLITS):
        raise ValueError(f"only {splits} without a vocabulary; give one to load so few")
    check_min_count(min_count)
    folder = cache.default_folder()
    name, texts = _texts(name_or_folder, manual_dir, splits, folder)
    texts = {split: texts[split] for split in splits}
    min_count = min_count or MIN_COUNTS.get(name, 0)
    wanted = Wanted(name, texts, vocabulary, min_count, order)
    made, streams = load_streams(wanted, folder, begin, advance, _say)
    ids = {split: np.empty(0, np.int32) for split in SPLITS}
    ids |= {split: stream.ids for split, stream in streams.items()}
    unknown = {split: _unknown(made, stream.ids) for split, stream in streams.items()}
    corpus = Corpus(name, made, **ids, unknown=unknown)
    if vocabulary is None:
        found = cache.remembered(
            _entry(folder, "suspicions", corpus),
            lambda: suspicions(made, **ids, unknown=unknown),
        )
        for suspicion in found:
            _say(f"warning: {name}: {suspicion}")
        _say_unknown_shares(name, made, ids, unknown, min_count)
    return corpus


def _texts(
    name_or_folder: PathLike,
    manual_dir: PathLike | None,
    splits: Sequence[str],
    folder: pathlib.Path | None,
) -> tuple[str, Texts]:
    """The name of a corpus, and its texts."""
    name = os.fspath(name_or_folder)
    if isinstance(name_or_folder, str) and name in CORPORA:
        if os.path.isdir(name):
            _say(f"note: {name} is the corpus of that name, not the folder ./{name}")
        return name, CORPORA[name](manual_dir)
    # So that nobody takes the folder for the corpus again.
    name = os.path.join(os.curdir, name) if name in CORPORA else name
    _check_folder(name)
    _refuse(manual_dir, name)
    paths = find(pathlib.Path(name), splits)
    return name, {split: _text_in(path, folder) for split, path in paths.items()}


def _text_in(path: pathlib.Path, folder: pathlib.Path | None) -> SplitText:
    digest = sha256_of(path, folder)
    return SplitText(str(path), path.stat().st_size, digest, partial(read_blocks, path))


def _unknown(vocabulary: Vocabulary, ids: Ids) -> int:
    """The number of unknown tokens of a stream."""
    symbol = vocabulary.unknown_symbol
    if symbol is None:
        return 0
    return int(count_ids(ids, len(vocabulary))[vocabulary.index[symbol]])


def _check_folder(name: str) -> None:
    """Refuses what is neither a folder nor the name of a corpus."""
    if os.path.isdir(name):
        return
    usual = "train.txt, valid.txt and test.txt"
    if os.path.exists(name):
        raise UsageError(f"{name} is no folder; a data set is a folder with {usual}")
    names = ", ".join(CORPORA)
    if os.path.dirname(name):
        raise UsageError(
            f"there is no folder {name!r}; give a folder with {usual}, or a name: "
            f"{names}"
        )
    raise UsageError(
        f"unknown data set {name!r}; choose from: {names}, or give a folder with "
        f"{usual}"
    )


def _say_unknown_shares(
    name: str,
    vocabulary: Vocabulary,
    streams: Mapping[str, Ids],
    unknown: Mapping[str, int],
    min_count: int,
) -> None:
    """Says how much of each split is unknown, where it is much or was asked for."""
    shares = unknown_shares(streams, unknown)
    much = max(shares.values()) >= MANY_UNKNOWN
    if not much and not min_count:
        return
    told = ", ".join(f"{share:.1%} of {split}" for split, share in shares.items())
    _say(
        f"{'warning' if much else 'note'}: {name}: the vocabulary has "
        f"{len(vocabulary):,} words; {told} is {vocabulary.unknown_symbol}"
        + ("; choose a lower minimum count" if much and min_count > 1 else "")
    )


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


def fingerprint(corpus: Corpus) -> str:
    """The SHA-256 of the vocabulary and the three streams, without the name.

    A run that is resumed compares it, and refuses another corpus.

    Example:
        >>> import numpy as np
        >>> ids = np.arange(2, dtype=np.int32)
        >>> corpus = Corpus("a", Vocabulary(("b", "c")), ids, ids, ids, {})
        >>> fingerprint(corpus) == fingerprint(corpus._replace(valid=ids[:1]))
        False
    """
    folder = cache.default_folder()
    return cache.remembered(
        _entry(folder, "fingerprint", corpus), lambda: _fingerprint(corpus)
    )


def _fingerprint(corpus: Corpus) -> str:
    digest = hashlib.sha256(json.dumps(corpus.vocabulary.words).encode())
    for stream in (corpus.train, corpus.valid, corpus.test):
        digest.update(f"[{stream.size}]".encode())
        digest.update(stream.astype("<i4", copy=False).data)
    return digest.hexdigest()


def _entry(
    folder: pathlib.Path | None, what: str, corpus: Corpus
) -> pathlib.Path | None:
    """Where the cache has what was computed of a corpus; `None` without its digests."""
    facts = [facts_of(getattr(corpus, split)) for split in SPLITS]
    digests = [each.sha256 for each in facts if each is not None]
    if folder is None or len(digests) < len(SPLITS):
        return None
    name = cache.key(what, corpus.vocabulary.sha256, digests)
    return folder / "corpora" / f"{name}.json"


def split_fingerprints(corpus: Corpus) -> dict[str, str]:
    """The SHA-256 of each stream that is loaded, without the vocabulary.

    Example:
        >>> import numpy as np
        >>> ids, none = np.arange(2, dtype=np.int32), np.empty(0, np.int32)
        >>> corpus = Corpus("a", Vocabulary(("b", "c")), none, none, ids, {})
        >>> list(split_fingerprints(corpus))
        ['test']
    """
    streams = {split: getattr(corpus, split) for split in SPLITS}
    return {split: _sha256(stream) for split, stream in streams.items() if stream.size}


def _sha256(stream: Ids) -> str:
    facts = facts_of(stream)
    if facts is not None:
        return facts.sha256
    return hashlib.sha256(stream.astype("<i4", copy=False).data).hexdigest()
