"""Corpora whose tokens are characters: one text that is cut into three splits."""

import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

from glrnn.data.corpora.archives import Paths
from glrnn.data.corpora.download import Text
from glrnn.data.corpora.downloaded import TextsBuilder
from glrnn.errors import UsageError

# The usual splits of 100 million characters.
TEXTS = {
    "train": Text("", num_tokens=90_000_000),
    "valid": Text("", num_tokens=5_000_000),
    "test": Text("", num_tokens=5_000_000),
}
BLOCK = 2**16


class CharactersBuilder(TextsBuilder):
    """The TFDS builder of a corpus of characters.

    Its archive has one text, `all`. The splits follow one another in it, and have as
    many bytes as their texts have tokens. A corpus is a subclass with a `symbols` too:
    the token of each byte, 0 to 255, or `None` for one that the text does not have.
    """

    symbols: Sequence[str | None]

    def _blocks(self, paths: Paths) -> Mapping[str, Iterable[list[str]]]:
        (path,) = paths["all"]
        blocks, start = {}, 0
        for split, text in self.source.texts.items():
            size = text.num_tokens or 0
            blocks[split] = symbols_of(path, start, size, self.symbols)
            start += size
        return blocks


def symbols_of(
    path: pathlib.Path, start: int, size: int, symbols: Sequence[str | None]
) -> Iterator[list[str]]:
    """The symbols of some bytes of a file, in blocks.

    Args:
        path: The file.
        start: The first byte.
        size: The number of bytes.
        symbols: The symbol of each byte.

    Raises:
        UsageError: if a byte has no symbol.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "text")
        ...     _ = path.write_bytes(bytes([0, 1, 1, 0]))
        ...     [*symbols_of(path, 1, 2, ("a", "b"))]
        [['b', 'b']]
    """
    known = {byte: symbol for byte, symbol in enumerate(symbols) if symbol is not None}
    with open(path, "rb") as file:
        file.seek(start)
        for place in range(0, size, BLOCK):
            block = file.read(min(BLOCK, size - place))
            try:
                yield [known[byte] for byte in block]
            except KeyError as error:
                raise UsageError(f"{path} has the byte {error}: no symbol") from None
