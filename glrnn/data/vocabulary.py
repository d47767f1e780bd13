"""Text -> tokens -> ids: the vocabulary of a corpus, and how a text is read.

Source: the vocabulary of Aharoni et al., "Gradual Learning of Recurrent Neural
Networks", 2017.
"""

import collections
import dataclasses
import functools
import itertools
import json
import os
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from glrnn.errors import UsageError
from glrnn.files import LARGE, parse_json, read_text, read_text_of_run, write_text

EOS = "<eos>"
UNK = "<unk>"

Ids = npt.NDArray[np.int32]
PathLike = str | os.PathLike[str]


def read_tokens(path: PathLike) -> list[str]:
    r"""Reads a text as tokens: its words, and `<eos>` after every line.

    Words are separated by whitespace. Every line ends in `<eos>`, including a blank one
    and a last one without a newline. Lines end at `\n` or `\r\n` and nowhere else.

    Args:
        path: A text in UTF-8.

    Returns:
        The tokens, in order.

    Raises:
        UsageError: if the file cannot be read, is not UTF-8, or holds no words.

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
    """The word types of a corpus; the id of a word is its index in `words`.

    Attributes:
        words: Distinct words, in order of first appearance.

    Raises:
        UsageError: if a word occurs twice in `words`.

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
        """Makes the vocabulary of all words of some lists, in order of appearance.

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

    def encode(self, tokens: Sequence[str], what: str = "the text") -> tuple[Ids, int]:
        """The ids of tokens; words outside the vocabulary become `<unk>`.

        Args:
            tokens: Words.
            what: The name of the text in an error message.

        Returns:
            The ids, int32 `[len(tokens)]`, and the number of unknown tokens.

        Raises:
            UsageError: if there are unknown words and the vocabulary has no `<unk>`.

        Example:
            >>> Vocabulary(("a", "b")).encode(["b", "a"])
            (array([1, 0], dtype=int32), 0)
        """
        ids = np.array([self.index.get(token, -1) for token in tokens], np.int32)
        outside = np.flatnonzero(ids < 0)
        if outside.size and UNK not in self.index:
            first = int(outside[0])
            raise UsageError(
                f"{outside.size} of the {len(tokens)} tokens of {what} are not in "
                f"the vocabulary, which has no {UNK}; the first is {tokens[first]!r}, "
                f"token {first}; a model that is to know it needs {UNK} in train.txt"
            )
        ids[outside] = self.index.get(UNK, -1)
        return ids, int(outside.size)

    def unknown_words(self, tokens: Sequence[str]) -> dict[str, int]:
        """Counts the tokens outside the vocabulary.

        Args:
            tokens: Words.

        Returns:
            The count of each unknown word, the most frequent first.

        Example:
            >>> Vocabulary(("a", "b")).unknown_words(["a", "dog", "cat", "b", "cat"])
            {'cat': 2, 'dog': 1}
        """
        outside = (token for token in tokens if token not in self.index)
        return dict(collections.Counter(outside).most_common())

    def decode(self, ids: npt.ArrayLike) -> list[str]:
        """The words of ids `[N]`.

        Raises:
            IndexError: if an id is outside `0 .. len(self) - 1`.

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
        """Reads a file that `save` wrote; see the example there.

        Raises:
            UsageError: if the file cannot be read or is not a list of distinct strings.

        Example:
            >>> Vocabulary.load("nowhere.json")
            Traceback (most recent call last):
            ...
            glrnn.errors.UsageError: cannot read nowhere.json: No such file or directory
        """
        text = read_text_of_run(path, LARGE)
        try:
            words = parse_json(text, "a vocabulary")
            if not isinstance(words, list) or {*map(type, words)} - {str}:
                raise UsageError("not a vocabulary: no JSON list of strings")
            return cls(tuple(words))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None
