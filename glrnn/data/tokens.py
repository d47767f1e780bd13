"""From a text to tokens: how a corpus is split into words."""

import re
from collections import Counter

from glrnn.data import texts
from glrnn.data.texts import PathLike
from glrnn.errors import UsageError

EOS = "<eos>"
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


def read_tokens(path: PathLike) -> list[str]:
    r"""Reads a text as tokens: its words, and `<eos>` after every line.

    Words are separated by whitespace. Every line ends in `<eos>`, including a blank one
    and a last one without a newline. Lines end at `\n` or `\r\n` and nowhere else.

    Args:
        path: A text in UTF-8, a regular file.

    Returns:
        The tokens, in order.

    Raises:
        UsageError: if the file cannot be read, is a pipe or a device, is not UTF-8, or
            holds no words.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "train.txt")
        ...     _ = path.write_bytes(b"the cat\n\nsat")
        ...     read_tokens(path)
        ['the', 'cat', '<eos>', '<eos>', 'sat', '<eos>']
    """
    return split_tokens(texts.read_text(path), str(path))


def split_tokens(text: str, name: str = "the text") -> list[str]:
    """Splits a text into tokens, as `read_tokens` does.

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
    if len(tokens) == len(lines):
        raise UsageError(f"{name} is empty: it holds no words")
    return tokens


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
    found = []
    ended = sum(1 for _ in ENDS_IN_EOS.finditer(text)) if EOS in text else 0
    if ended:
        found.append(
            f"lines that already end in {EOS}: {ended:,}; each gets a second one, so "
            f"remove it"
        )
    begun = sum(1 for _ in BEGINS_WITH_EOS.finditer(text)) if EOS in text else 0
    if begun:
        found.append(
            f"lines that begin with {EOS}: {begun:,}; the line before ends in one "
            f"already, so remove it"
        )
    found += _other_ends(text[:SAMPLE])
    for character, name in SEPARATORS.items():
        if count := text.count(character):
            found.append(
                f"{name}: {count:,}; they end no line and get no {EOS}, so replace "
                f"them by newlines if they should"
            )
    alone = text.count("\r") - text.count("\r\n")
    if alone:
        found.append(
            f"carriage returns without a newline: {alone:,}; they end no line and get "
            f"no {EOS}, so replace them by newlines"
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
