"""Text -> vocabulary -> token stream.

A corpus is three token streams over one vocabulary, on the host. Sources: Aharoni et
al., "Gradual Learning of Recurrent Neural Networks", 2017 (the corpora and how they are
read).
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from glrnn.errors import UsageError
from glrnn.files import read_text, write_text

EOS = "<eos>"
UNK = "<unk>"
SPLITS = ("train", "valid", "test")

Ids = npt.NDArray[np.int32]
PathLike = str | os.PathLike[str]


def read_tokens(path: PathLike) -> list[str]:
    r"""Reads a text as tokens: its words, and `<eos>` after every line.

    Words are what whitespace separates. Every line ends in `<eos>`, a blank one and a
    last one without a newline included. Lines end at `\n` or `\r\n` and nowhere else.

    Args:
        path: a text in UTF-8.

    Returns:
        The tokens, in order.

    Raises:
        UsageError: the path cannot be read, is not UTF-8, or holds no words.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.txt")
        ...     _ = path.write_bytes(b"the cat\n\nsat")
        ...     read_tokens(path)
        ['the', 'cat', '<eos>', '<eos>', 'sat', '<eos>']
    """
    lines = read_text(path).removeprefix("\ufeff").split("\n")
    if not lines[-1]:
        lines.pop()
    tokens: list[str] = []
    for line in lines:
        tokens += line.split()
        tokens.append(EOS)
    if len(tokens) == len(lines):
        raise UsageError(f"{path} is empty: it holds no words")
    return tokens


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The word types of a corpus; the id of a word is its place in `words`.

    Attributes:
        words: distinct words, in order of first appearance.

    Raises:
        UsageError: a word stands twice in `words`.

    Example:
        >>> vocabulary = Vocabulary.of(["the", "cat", "<unk>"], ["the", "dog"])
        >>> vocabulary.words
        ('the', 'cat', '<unk>', 'dog')
        >>> ids, unknown = vocabulary.encode(["the", "dog", "barked"])
        >>> ids.tolist(), unknown
        ([0, 3, 2], 1)
        >>> vocabulary.decode(ids)
        ['the', 'dog', '<unk>']
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.index) < len(self.words):
            twice = next(w for i, w in enumerate(self.words) if self.index[w] != i)
            raise UsageError(f"the vocabulary holds {twice!r} more than once")

    @classmethod
    def of(cls, *token_lists: Sequence[str]) -> "Vocabulary":
        """The words of the lists, in order of first appearance; none is pruned.

        Example:
            >>> Vocabulary.of(["b", "a", "b"], ["c"]).words
            ('b', 'a', 'c')
        """
        return cls(tuple(dict.fromkeys(itertools.chain(*token_lists))))

    @functools.cached_property
    def index(self) -> Mapping[str, int]:
        """The id of each word.

        Example:
            >>> Vocabulary(("a", "b")).index["b"]
            1
        """
        return {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, tokens: Sequence[str], what: str = "text") -> tuple[Ids, int]:
        """The ids of tokens; words outside the vocabulary become `<unk>`.

        Args:
            tokens: words.
            what: the name of `tokens` in an error.

        Returns:
            The ids, int32 `[len(tokens)]`, and how many tokens were unknown.

        Raises:
            UsageError: there are unknown words and the vocabulary has no `<unk>`.

        Example:
            >>> Vocabulary(("a", "b")).encode(["b", "a"])
            (array([1, 0], dtype=int32), 0)
        """
        ids = np.array([self.index.get(token, -1) for token in tokens], np.int32)
        outside = np.flatnonzero(ids < 0)
        if outside.size and UNK not in self.index:
            first = int(outside[0])
            raise UsageError(
                f"{outside.size} of the {len(tokens)} tokens of the {what} are not in "
                f"the vocabulary, which has no {UNK}; the first is {tokens[first]!r}, "
                f"token {first}"
            )
        ids[outside] = self.index.get(UNK, -1)
        return ids, int(outside.size)

    def decode(self, ids: npt.ArrayLike) -> list[str]:
        """The words of ids `[N]`.

        Raises:
            IndexError: an id is outside `0 .. len(self) - 1`.

        Example:
            >>> Vocabulary(("a", "b")).decode([1, 0, 1])
            ['b', 'a', 'b']
        """
        ids = np.asarray(ids)
        if ids.size and not 0 <= ids.min() <= ids.max() < len(self):
            raise IndexError(f"ids must be in 0 .. {len(self) - 1}, got {ids}")
        return [self.words[i] for i in ids.tolist()]

    def save(self, path: PathLike) -> None:
        """Writes the words as a JSON list, whole or not at all.

        Example:
            >>> import pathlib, tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = pathlib.Path(folder, "vocabulary.json")
            ...     Vocabulary(("a", "b")).save(path)
            ...     Vocabulary.load(path)
            Vocabulary(words=('a', 'b'))
        """
        write_text(path, json.dumps(self.words))

    @classmethod
    def load(cls, path: PathLike) -> "Vocabulary":
        """Reads what `save` wrote (its example shows both).

        Raises:
            UsageError: the path cannot be read or is not a list of distinct strings.

        Example:
            >>> Vocabulary.load("nowhere.json")
            Traceback (most recent call last):
            ...
            glrnn.errors.UsageError: cannot read nowhere.json: No such file or directory
        """
        try:
            words = json.loads(read_text(path))
        except json.JSONDecodeError as error:
            raise UsageError(f"{path} is not a vocabulary: {error}") from error
        if not isinstance(words, list) or not all(isinstance(w, str) for w in words):
            raise UsageError(f"{path} is not a vocabulary: not a JSON list of strings")
        try:
            return cls(tuple(words))
        except UsageError as error:
            raise UsageError(f"{path} is not a vocabulary: {error}") from error


class Corpus(NamedTuple):
    """Three token streams over one vocabulary.

    Attributes:
        name: what `load` was asked for.
        vocabulary: the words of the ids.
        train: int32 `[N]`.
        valid: int32 `[N]`.
        test: int32 `[N]`.
        unknown: for each split, how many of its tokens were outside the vocabulary.
    """

    name: str
    vocabulary: Vocabulary
    train: Ids
    valid: Ids
    test: Ids
    unknown: Mapping[str, int]


def _python_docs(manual_dir: PathLike | None) -> Mapping[str, list[str]]:
    from glrnn.datasets import python_docs

    _refuse(manual_dir, "python-docs")
    return python_docs.splits()


def _ptb(manual_dir: PathLike | None) -> Mapping[str, list[str]]:
    from glrnn.datasets import ptb, texts

    return texts.splits(ptb.Ptb, manual_dir)


def _wikitext2(manual_dir: PathLike | None) -> Mapping[str, list[str]]:
    from glrnn.datasets import texts, wikitext2

    return texts.splits(wikitext2.Wikitext2, manual_dir)


def _refuse(manual_dir: PathLike | None, name: str) -> None:
    if manual_dir is not None:
        raise UsageError(
            f"--manual-dir {os.fspath(manual_dir)} is of no use to {name}, which is "
            "not downloaded"
        )


# A corpus is a function of the folder its files are already in, or `None`; it gives the
# tokens of each split, and imports what it needs only when it is called.
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
        name_or_folder: a name in `CORPORA`, or a folder with train.txt, valid.txt and
            test.txt, read by `read_tokens`.
        vocabulary: that of the model to be evaluated. Without one it is all the words
            of train, then valid, then test, in order of first appearance.
        manual_dir: a folder with the texts of a corpus that would be downloaded.

    Returns:
        The corpus.

    Raises:
        UsageError: there is no such corpus, it cannot be downloaded, a split is missing
            or cannot be read, words are unknown to a vocabulary without `<unk>`, or
            `manual_dir` is given for what is not downloaded.

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
        split: vocabulary.encode(splits[split], f"{split} split of {name}")
        for split in SPLITS
    }
    streams = {split: ids for split, (ids, _) in encoded.items()}
    unknown = {split: count for split, (_, count) in encoded.items()}
    return Corpus(name, vocabulary, **streams, unknown=unknown)


def fingerprint(corpus: Corpus) -> str:
    """SHA-256 of the vocabulary and the three streams; the name does not enter.

    A run that is started again compares it, and refuses another corpus.

    Example:
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
