"""A corpus by its name, or from a folder: three token streams over one vocabulary."""

import hashlib
import json
import os
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from glrnn.data import texts
from glrnn.data.split_checks import suspicions, unknown_shares
from glrnn.data.split_files import SPLITS, find
from glrnn.data.texts import PathLike
from glrnn.data.tokens import line_end_warnings, split_tokens
from glrnn.data.vocabulary import Ids, Vocabulary, check_min_count
from glrnn.errors import UsageError, printable

# A split of which this part is unknown words is worth a warning: their perplexity is
# low, and says little.
MANY_UNKNOWN = 0.3


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


def _python_docs(manual_dir: PathLike | None) -> Mapping[str, list[str]]:
    from glrnn.data.corpora import python_docs

    _refuse(manual_dir, "python-docs")
    return python_docs.splits()


def _hmm(manual_dir: PathLike | None) -> Mapping[str, list[str]]:
    from glrnn.data.corpora import hmm

    _refuse(manual_dir, "hmm")
    return hmm.splits()


def _ptb(manual_dir: PathLike | None) -> Mapping[str, list[str]]:
    from glrnn.data.corpora import downloaded, ptb

    return downloaded.splits(ptb.Ptb, manual_dir)


def _wikitext2(manual_dir: PathLike | None) -> Mapping[str, list[str]]:
    from glrnn.data.corpora import downloaded, wikitext2

    return downloaded.splits(wikitext2.Wikitext2, manual_dir)


def _refuse(manual_dir: PathLike | None, name: str) -> None:
    if manual_dir is not None:
        raise UsageError(
            f"--manual-dir {os.fspath(manual_dir)} is of no use to {name}, which is "
            "not downloaded"
        )


# Each corpus is a function from the folder that holds its files, or `None` to download
# them, to the tokens of each split. It imports what it needs when it is called.
CORPORA: Mapping[str, Callable[[PathLike | None], Mapping[str, list[str]]]] = {
    "python-docs": _python_docs,
    "hmm": _hmm,
    "ptb": _ptb,
    "wikitext-2": _wikitext2,
}


def load(
    name_or_folder: PathLike,
    vocabulary: Vocabulary | None = None,
    manual_dir: PathLike | None = None,
    *,
    min_count: int = 0,
    splits: Sequence[str] = SPLITS,
) -> Corpus:
    """Loads a corpus by its name, or from a folder of three texts.

    What looks wrong about the ends of lines is said on standard error; so is, if the
    corpus is to be trained on, without a vocabulary, what looks wrong about its splits.

    Args:
        name_or_folder: A name in `CORPORA`, or a folder with train.txt, valid.txt and
            test.txt, or files that `split_files.find` takes for them, read by
            `read_tokens`. A `Path` is always a folder.
        vocabulary: The vocabulary of the model to evaluate.
        manual_dir: A folder with the texts of a corpus that is otherwise downloaded.
        min_count: The vocabulary to make where none is given: 0 for all words of train,
            then valid, then test, in order of first appearance; else
            `Vocabulary.of_frequent`, of the words that occur so often in train.
        splits: The splits to load, of a corpus whose vocabulary is given; the others
            are empty, and their files need not be there.

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
hmm, ptb, wikitext-2, or give a folder with train.txt, valid.txt and test.txt
    """
    if vocabulary is None and set(splits) != set(SPLITS):
        raise ValueError(f"only {splits} without a vocabulary; give one to load so few")
    check_min_count(min_count)
    name = os.fspath(name_or_folder)
    if isinstance(name_or_folder, str) and name in CORPORA:
        if os.path.isdir(name):
            _say(f"note: {name} is the corpus of that name, not the folder ./{name}")
        tokens = CORPORA[name](manual_dir)
    else:
        # So that nobody takes the folder for the corpus again.
        name = os.path.join(os.curdir, name) if name in CORPORA else name
        _check_folder(name)
        _refuse(manual_dir, name)
        paths = find(pathlib.Path(name), splits)
        tokens = {split: _read_tokens(path) for split, path in paths.items()}
    made = _new_vocabulary(tokens, min_count) if vocabulary is None else vocabulary
    streams = {split: np.empty(0, np.int32) for split in SPLITS}
    unknown = {}
    for split in splits:
        what = f"the {split} split of {name}"
        streams[split], unknown[split] = made.encode(tokens[split], what)
    if vocabulary is None:
        for suspicion in suspicions(made, **streams, unknown=unknown):
            _say(f"warning: {name}: {suspicion}")
        _say_unknown_shares(name, made, streams, unknown, min_count)
    return Corpus(name, made, **streams, unknown=unknown)


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


def _read_tokens(path: pathlib.Path) -> list[str]:
    text = texts.read_text(path)
    for warning in line_end_warnings(text):
        _say(f"warning: {path}: {warning}")
    return split_tokens(text, str(path))


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


def _new_vocabulary(tokens: Mapping[str, Sequence[str]], min_count: int) -> Vocabulary:
    if min_count:
        return Vocabulary.of_frequent(tokens["train"], min_count)
    return Vocabulary.of(*(tokens[split] for split in SPLITS))


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
    digest = hashlib.sha256(json.dumps(corpus.vocabulary.words).encode())
    for stream in (corpus.train, corpus.valid, corpus.test):
        digest.update(f"[{stream.size}]".encode())
        digest.update(stream.astype("<i4").tobytes())
    return digest.hexdigest()


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
    return {
        split: hashlib.sha256(stream.astype("<i4").tobytes()).hexdigest()
        for split, stream in streams.items()
        if stream.size
    }
