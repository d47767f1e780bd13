"""From a text to tokens: how a corpus is split into words."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Generator
from typing import NamedTuple

from glrnn.data import texts
from glrnn.data.texts import PathLike
from glrnn.errors import UsageError

EOS = "<eos>"
# What stands for the end of a line while a text is read, which no text holds.
LINE_END = "\0"
# What other people write for it: a tag, as the last word of a line.
TAG_AT_END = re.compile(r"(?<!\S)(<[^<>\s]+>|\[[^\[\]\s]+\])[^\S\n]*$", re.MULTILINE)
WORDS_OF_A_LINE = re.compile(r"\S.*")
# The share of lines that end in the same tag, from which on it is taken for an end, and
# the characters of a text that are looked at.
SHARE, SAMPLE = 0.9, 2**20
# What other programs end lines by.
SEPARATORS = {
    "\u2028": "line separators (U+2028)",
    "\x85": "next-line characters (U+0085)",
    "\f": "form feeds",
}
BEGINS_WITH_EOS = re.compile(rf"^[^\S\n]*{EOS}(?!\S)", re.MULTILINE)
ENDS_IN_EOS = re.compile(rf"(?<!\S){EOS}[^\S\n]*$", re.MULTILINE)


class Read(NamedTuple):
    """What is known of a text once all of it has been read.

    Attributes:
        digest: What tells its content from any other, such as its SHA-256; empty for a
            text that is not to be kept.
        num_words: The number of its words, without the ends of lines.
        warnings: What looks wrong about its ends of lines, a line for each suspicion.
    """

    digest: str
    num_words: int
    warnings: tuple[str, ...] = ()


Blocks = Generator[list[str], None, Read]


def read_blocks(path: PathLike, advance: Callable[[int], None]) -> Blocks:
    r"""Reads a text as blocks of tokens: its words, and `LINE_END` after every line.

    Words are separated by whitespace. Every line ends in `LINE_END`, including a blank
    one and a last one without a newline. Lines end at `\n` or `\r\n` and nowhere else.
    The text may itself hold `<eos>`, but not `LINE_END`.

    Args:
        path: A text in UTF-8, a regular file.
        advance: Called with the bytes of each block.

    Returns:
        The blocks, one by one, and then what is known of the text.

    Raises:
        UsageError: if the file cannot be read, is a pipe or a device, or is not UTF-8.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.txt")
        ...     _ = path.write_bytes(b"the cat\n\nsat")
        ...     blocks = read_blocks(path, lambda size: None)
        ...     [[word.replace(LINE_END, "|") for word in block] for block in blocks]
        [['the', 'cat', '|', '|'], ['sat'], ['|']]
    """
    digest, ends, num_words, last = hashlib.sha256(), LineEnds(), 0, "\n"

    def seen(block: bytes) -> None:
        digest.update(block)
        advance(len(block))

    for piece in texts.pieces(path, seen):
        if piece:
            ends.add(piece)
            tokens = piece.replace("\n", f" {LINE_END} ").split()
            num_words += len(tokens) - piece.count("\n")
            last = piece[-1]
            yield tokens
    if last != "\n":
        yield [LINE_END]
    return Read(digest.hexdigest(), num_words, tuple(ends.warnings()))


def split_tokens(text: str, name: str = "the text") -> list[str]:
    """Splits a text into tokens: its words, and `<eos>` after every line.

    Args:
        text: The text.
        name: What it is, for the error.

    Raises:
        UsageError: if it holds no words.

    Example:
        >>> split_tokens("the cat")
        ['the', 'cat', '<eos>']
    """
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    tokens: list[str] = []
    for line in lines:
        tokens += line.split()
        tokens.append(EOS)
    check_not_empty(len(tokens) - len(lines), name)
    return tokens


def check_not_empty(num_words: int, name: str) -> None:
    """Refuses a text without words.

    Raises:
        UsageError: if there are none.

    Example:
        >>> check_not_empty(0, "a.txt")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: a.txt is empty: it holds no words
    """
    if not num_words:
        raise UsageError(f"{name} is empty: it holds no words")


def line_end_warnings(text: str) -> list[str]:
    r"""What looks wrong about the ends of a text's lines, though it can be read.

    Args:
        text: The text.

    Returns:
        One line for each suspicion.

    Example:
        >>> line_end_warnings("the cat <eos>\nsat\n")
        ['lines that already end in <eos>: 1; each gets a second one, so remove it']
    """
    ends = LineEnds()
    ends.add(text)
    return ends.warnings()


class LineEnds:
    r"""Counts what looks wrong about the ends of a text's lines, piece by piece.

    Example:
        >>> ends = LineEnds()
        >>> ends.add("the <eos>\nsat\na ")
        >>> ends.add("<eos>")
        >>> ends.warnings()
        ['lines that already end in <eos>: 2; each gets a second one, so remove it']
    """

    def __init__(self) -> None:
        """Begins with an empty text."""
        self._sample = ""
        self._counts: Counter[str] = Counter()
        self._begun = self._ended = 0
        # Of the last line so far: whether it is blank, and whether its last word is
        # `<eos>`, which ends it unless more words follow.
        self._is_blank, self._at_eos = True, False

    def add(self, piece: str) -> None:
        """Adds a piece, which begins with a line or with whitespace."""
        self._sample += piece[: SAMPLE - len(self._sample)]
        for character in (*SEPARATORS, "\r", "\r\n"):
            if character[0] in piece:
                self._counts[character] += piece.count(character)
        head, newline, _ = piece.partition("\n")
        if head.strip():
            self._at_eos = False
        elif newline:
            self._ended += self._at_eos
            self._at_eos = False
        if EOS in piece:
            within = piece if self._is_blank else f"x{piece}"
            self._begun += sum(1 for _ in BEGINS_WITH_EOS.finditer(within))
            ended = [match.end() for match in ENDS_IN_EOS.finditer(piece)]
            self._at_eos = ended[-1:] == [len(piece)]
            self._ended += len(ended) - self._at_eos
        blank = not piece[piece.rfind("\n") + 1 :].strip()
        self._is_blank = blank and (bool(newline) or self._is_blank)

    def warnings(self) -> list[str]:
        """One line for each suspicion about the text so far."""
        found = []
        if ended := self._ended + self._at_eos:
            found.append(
                f"lines that already end in {EOS}: {ended:,}; each gets a second one, "
                f"so remove it"
            )
        if self._begun:
            found.append(
                f"lines that begin with {EOS}: {self._begun:,}; the line before ends "
                f"in one already, so remove it"
            )
        found += _other_ends(self._sample)
        for character, name in SEPARATORS.items():
            if count := self._counts[character]:
                found.append(
                    f"{name}: {count:,}; they end no line and get no {EOS}, so replace "
                    f"them by newlines if they should"
                )
        alone = self._counts["\r"] - self._counts["\r\n"]
        if alone:
            found.append(
                f"carriage returns without a newline: {alone:,}; they end no line and "
                f"get no {EOS}, so replace them by newlines"
            )
        return found


def _other_ends(text: str) -> list[str]:
    """A line if nearly all lines end in the same tag, such as `</s>`."""
    tags = Counter(match[1] for match in TAG_AT_END.finditer(text))
    del tags[EOS]
    if not tags:
        return []
    ((tag, count),) = tags.most_common(1)
    num_lines = sum(1 for _ in WORDS_OF_A_LINE.finditer(text))
    if count < max(2, SHARE * num_lines):
        return []
    return [
        f"lines that end in {tag}: {count:,} of the first {num_lines:,}; each gets "
        f"{EOS} too, so remove {tag} if it means the same"
    ]
