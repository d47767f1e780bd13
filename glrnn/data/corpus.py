"""A corpus by its name, or from a folder: three token streams over one vocabulary."""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

from glrnn.data.vocabulary import Ids, PathLike, Vocabulary, read_tokens
from glrnn.errors import UsageError

SPLITS = ("train", "valid", "test")


class Corpus(NamedTuple):
    """Three token streams over one vocabulary.

    Attributes:
        name: The name or folder that `load` was given.
        vocabulary: The vocabulary of the ids.
        train: The training set, int32 `[N]`.
        valid: The validation set, int32 `[N]`.
        test: The test set, int32 `[N]`.
        unknown: The number of tokens of each split outside the vocabulary.
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
    "ptb": _ptb,
    "wikitext-2": _wikitext2,
}


def _read_folder(folder: pathlib.Path) -> Mapping[str, list[str]]:
    paths = {split: folder / f"{split}.txt" for split in SPLITS}
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}") from error
    missing = [path.name for path in paths.values() if path.name not in present]
    if missing:
        raise UsageError(
            f"{folder} has no {' and no '.join(missing)}; a data set is a folder with "
            "train.txt, valid.txt and test.txt"
        )
    return {split: read_tokens(path) for split, path in paths.items()}


def load(
    name_or_folder: PathLike,
    vocabulary: Vocabulary | None = None,
    manual_dir: PathLike | None = None,
) -> Corpus:
    """Loads a corpus by its name, or from a folder of three texts.

    Args:
        name_or_folder: A name in `CORPORA`, or a folder with train.txt, valid.txt and
            test.txt, read by `read_tokens`.
        vocabulary: The vocabulary of the model to evaluate. By default all words of
            train, then valid, then test, in order of first appearance.
        manual_dir: A folder with the texts of a corpus that is otherwise downloaded.

    Returns:
        The corpus.

    Raises:
        UsageError: if there is no such corpus, it cannot be downloaded, a split is
            missing or cannot be read, words are unknown to a vocabulary without
            `<unk>`, or `manual_dir` is given for a corpus that is not downloaded.

    Example:
        >>> load("ptbb")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: unknown data set 'ptbb'; choose from: python-docs, \
ptb, wikitext-2, or give a folder with train.txt, valid.txt and test.txt
    """
    name = os.fspath(name_or_folder)
    if name in CORPORA:
        splits = CORPORA[name](manual_dir)
    elif os.path.isdir(name):
        _refuse(manual_dir, name)
        splits = _read_folder(pathlib.Path(name))
    else:
        raise UsageError(
            f"unknown data set {name!r}; choose from: {', '.join(CORPORA)}, or give a "
            "folder with train.txt, valid.txt and test.txt"
        )
    if vocabulary is None:
        vocabulary = Vocabulary.of(*(splits[split] for split in SPLITS))
    encoded = {
        split: vocabulary.encode(splits[split], f"the {split} split of {name}")
        for split in SPLITS
    }
    streams = {split: ids for split, (ids, _) in encoded.items()}
    unknown = {split: count for split, (_, count) in encoded.items()}
    return Corpus(name, vocabulary, **streams, unknown=unknown)


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
