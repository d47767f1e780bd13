"""From tokens to ids: the vocabulary of a corpus.

Source: the vocabulary of Aharoni et al., "Gradual Learning of Recurrent Neural
Networks", 2017.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Container, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from glrnn.data.texts import PathLike
from glrnn.data.tokens import EOS
from glrnn.errors import UsageError
from glrnn.ground import files
from glrnn.ground.validation import shown

UNK = "<unk>"
# The orders that the words of a new vocabulary may have.
ORDERS = ("appearance", "frequency")
# What other people write for it. A vocabulary that has one of them and no `<unk>` takes
# unknown words as the first of them that it has.
OTHER_UNKS = ("<UNK>", "<Unk>", "[UNK]", "[unk]", "<unknown>", "<oov>", "<OOV>")

Ids = npt.NDArray[np.int32]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The word types of a corpus; the id of a word is its index in `words`.

    Attributes:
        words: Distinct words, in order of first appearance.

    Raises:
        UsageError: if a word occurs twice in `words`, or they are no tuple of strings.

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
        kinds = {*map(type, self.words)}
        if type(self.words) is not tuple or not all(issubclass(k, str) for k in kinds):
            raise UsageError(
                f"the words of a vocabulary must be a tuple of strings, got "
                f"{shown(self.words)}"
            )
        if len(self.index) < len(self.words):
            twice = next(w for i, w in enumerate(self.words) if self.index[w] != i)
            raise UsageError(f"the vocabulary holds {twice!r} more than once")

    @classmethod
    def of(cls, *token_lists: Iterable[str]) -> "Vocabulary":
        """Makes the vocabulary of all words of some lists, in order of appearance.

        Example:
            >>> Vocabulary.of(["b", "a", "b"], ["c"]).words
            ('b', 'a', 'c')
        """
        for tokens in token_lists:
            _check_list(tokens)
        return cls(tuple(dict.fromkeys(itertools.chain(*token_lists))))

    @classmethod
    def of_frequent(
        cls, train: Sequence[str] | Mapping[str, int], min_count: int
    ) -> "Vocabulary":
        """Makes the vocabulary of the words that a training set has often enough.

        All others become the symbol for unknown words: `<unk>`, unless the text has one
        of `OTHER_UNKS` instead. It is always in the vocabulary, and so is `<eos>`.

        Args:
            train: The tokens of the training set, or the count of each of its words in
                order of first appearance.
            min_count: The number of times that a word must occur, at least 1.

        Raises:
            UsageError: if no word occurs so often, or the number is not an integer, at
                least 1.

        Example:
            >>> Vocabulary.of_frequent(["b", "a", "c", "b", "<eos>"], 2).words
            ('b', '<unk>', '<eos>')
        """
        check_min_count(min_count, low=1)
        counts = collections.Counter(train)
        symbol = _unknown_symbol(counts) or UNK
        always = {EOS, symbol}
        kept = {word for word, count in counts.items() if count >= min_count}
        if not kept - always:
            most = max((counts[w] for w in counts.keys() - always), default=0)
            raise UsageError(
                f"the minimum count is {min_count}, but no word of the train split "
                f"occurs more than {most} times; choose a lower one"
            )
        kept |= always
        return cls.of([word if word in kept else symbol for word in counts], [symbol])

    def by_frequency(self, train: Mapping[str, int]) -> "Vocabulary":
        """The same words in order of frequency in the training set.

        Words that are as frequent as one another keep their order. The symbol for
        unknown words counts as often as it will be read.

        Args:
            train: The count of each word of the training set.

        Example:
            >>> words = Vocabulary(("b", "c", "<unk>"))
            >>> words.by_frequency({"b": 2, "c": 3, "d": 1, "e": 3}).words
            ('<unk>', 'c', 'b')
        """
        counts = [train.get(word, 0) for word in self.words]
        symbol = self.unknown_symbol
        if symbol is not None:
            known = sum(counts) - counts[self.index[symbol]]
            counts[self.index[symbol]] = sum(train.values()) - known
        order = np.argsort(-np.array(counts, np.int64), kind="stable")
        return Vocabulary(tuple(self.words[old] for old in order.tolist()))

    @functools.cached_property
    def index(self) -> Mapping[str, int]:
        """The id of each word.

        Example:
            >>> Vocabulary(("a", "b")).index["b"]
            1
        """
        return {word: i for i, word in enumerate(self.words)}

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of the words, in their order.

        Example:
            >>> Vocabulary(("a", "b")).sha256[:12]
            '3554d2b8a1e3'
        """
        return hashlib.sha256(json.dumps(self.words).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.words)

    @property
    def unknown_symbol(self) -> str | None:
        """The word that stands for all unknown ones; `None` if there is none.

        It is `<unk>`, or else the first of `OTHER_UNKS` that the vocabulary has.

        Example:
            >>> Vocabulary(("a", "[UNK]")).unknown_symbol
            '[UNK]'
        """
        return _unknown_symbol(self.index)

    def encode(self, tokens: Sequence[str], what: str = "the text") -> tuple[Ids, int]:
        """The ids of tokens; words outside the vocabulary become `unknown_symbol`.

        Args:
            tokens: Words.
            what: The name of the text in an error message.

        Returns:
            The ids, int32 `[len(tokens)]`, and the number of unknown tokens, those that
            are the symbol itself included.

        Raises:
            UsageError: if there are unknown words and the vocabulary has no symbol for
                them, or the tokens are no list of words.

        Example:
            >>> Vocabulary(("a", "b")).encode(["b", "a"])
            (array([1, 0], dtype=int32), 0)
        """
        _check_list(tokens)
        tokens = list(tokens)
        try:
            ids = np.array([self.index.get(token, -1) for token in tokens], np.int32)
        except TypeError:  # not hashable
            raise UsageError(
                f"the tokens of {what} are {shown(tokens)}; give a list of words"
            ) from None
        outside = np.flatnonzero(ids < 0)
        for place in outside.tolist():
            if not isinstance(tokens[place], str):
                raise UsageError(
                    f"token {place} of {what} is {shown(tokens[place])}, not a word"
                )
        symbol = self.unknown_symbol
        if symbol is not None:
            ids[outside] = self.index[symbol]
            return ids, int(np.count_nonzero(ids == self.index[symbol]))
        if outside.size:
            first = int(outside[0])
            counts = outside.size, len(tokens)
            raise words_without_symbol(*counts, what, tokens[first], first)
        return ids, 0

    def unknown_words(self, tokens: Sequence[str]) -> dict[str, int]:
        """Counts the words that `encode` takes as unknown.

        Args:
            tokens: Words.

        Returns:
            The count of each unknown word, the most frequent first.

        Example:
            >>> Vocabulary(("a", "b")).unknown_words(["a", "dog", "cat", "b", "cat"])
            {'cat': 2, 'dog': 1}
        """
        symbol = self.unknown_symbol
        outside = (t for t in tokens if t == symbol or t not in self.index)
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
        files.write_text(path, json.dumps(self.words))

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
        text = files.read_text_of_run(path, files.LARGE)
        try:
            words = files.parse_json(text, "a vocabulary")
            if not isinstance(words, list) or {*map(type, words)} - {str}:
                raise UsageError("not a vocabulary: no JSON list of strings")
            return cls(tuple(words))
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None


def words_without_symbol(
    num_outside: int, num_tokens: int, what: str, first: str, place: int
) -> UsageError:
    """The error about unknown words, where the vocabulary has no symbol for them.

    Args:
        num_outside: The number of unknown tokens.
        num_tokens: The number of all tokens.
        what: The name of the text.
        first: The first of the unknown ones.
        place: Its place.
    """
    return UsageError(
        f"{num_outside} of the {num_tokens} tokens of {what} are not in the "
        f"vocabulary, which has no {UNK}; the first is {first!r}, token {place}; a "
        f"model that is to know it needs {UNK} in train.txt, or --min-count 2 in "
        f"training"
    )


def check_min_count(min_count: int, low: int = 0) -> None:
    """Refuses a minimum count that is not an integer, at least `low`.

    Raises:
        UsageError: if it is not.

    Example:
        >>> check_min_count(1.5)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: the minimum count is 1.5; it must be an integer, at \
least 0
    """
    if type(min_count) is not int or min_count < low:
        raise UsageError(
            f"the minimum count is {min_count!r}; it must be an integer, at least {low}"
        )


def _check_list(tokens: Iterable[str]) -> None:
    if isinstance(tokens, str | bytes):
        raise UsageError(f"the tokens are {shown(tokens)}; give a list of words")


def _unknown_symbol(words: Container[str]) -> str | None:
    return next((symbol for symbol in (UNK, *OTHER_UNKS) if symbol in words), None)
