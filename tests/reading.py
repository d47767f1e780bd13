"""Texts as tokens, read in pieces as the package does, and whole as it once did."""

import re
from pathlib import Path

from glrnn.data.tokens import EOS, LINE_END, check_not_empty, read_blocks
from glrnn.errors import UsageError

# A byte order mark at the start of a line or beside a word is none.
MARK = re.compile("\ufeff(?:(?=\\S)|(?<=^\ufeff)|(?<=\\S\ufeff))", re.MULTILINE)


def read_tokens(path) -> list[str]:
    """The tokens of a text, by the reader of the package."""
    blocks, tokens = read_blocks(path, lambda size: None), []
    while True:
        try:
            tokens += [EOS if word == LINE_END else word for word in next(blocks)]
        except StopIteration as end:
            check_not_empty(end.value.num_words, str(path))
            return tokens


def read_whole(path) -> list[str]:
    """The oracle: the whole text, decoded at once, line by line."""
    content = Path(path).read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from None
    if "\0" in text:
        raise UsageError(
            f"{path} is not UTF-8 text: NUL at byte {content.index(0)}; it may be "
            "UTF-16, or no text at all"
        )
    lines = MARK.sub("", text).split("\n")
    if not lines[-1]:
        lines.pop()
    tokens = [token for line in lines for token in [*line.split(), EOS]]
    if len(tokens) == len(lines):
        raise UsageError(f"{path} is empty: it holds no words")
    return tokens
