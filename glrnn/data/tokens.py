"""From a text to tokens: how a corpus is split into words."""

from glrnn.data import texts
from glrnn.data.texts import PathLike
from glrnn.errors import UsageError

EOS = "<eos>"


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
