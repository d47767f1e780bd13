"""Texts from files and from standard input: regular files of limited size, in UTF-8.

`read_text` and `read_given` read a text whole, `pieces` reads it in bounded memory.
"""

import contextlib
import io
import os
import re
import select
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from glrnn.errors import UsageError

PathLike = str | os.PathLike[str]

# Bytes. The words of a text that is read whole are held in memory, at some ten times
# its size; of one that is read in pieces a file of ids is written, and mapped.
LARGEST = 2**31
LARGEST_IN_PIECES = 2**37
BLOCK = 2**20
# Names of what is open already, among it the pipes that a shell makes for a command.
OPEN_FILES = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
# `cat a b` leaves the byte order mark of b at the start of a line, or within a word.
# One that stands alone is a word: WikiText-2 has 36 of them.
BYTE_ORDER_MARK = re.compile(
    "\ufeff(?:(?=\\S)|(?<=^\ufeff)|(?<=\\S\ufeff))", re.MULTILINE
)


def read_text(path: PathLike) -> str:
    """Reads a file as text, without byte order marks.

    Args:
        path: A regular file in UTF-8, or a symbolic link to one.

    Raises:
        UsageError: if it cannot be read, is a pipe or a device, is too large, or is not
            text.

    Example:
        >>> read_text("/dev/zero")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read /dev/zero: it is a device, not a file
    """
    check_regular(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    return _decoded(content, str(path))


def read_given(name: str) -> str:
    """Reads what a command line names: a file, or `-` for standard input.

    Pipes that a shell makes for a command, as for `<(zcat a.gz)`, are read as well:
    somebody writes into them.

    Args:
        name: The name.

    Raises:
        UsageError: as `read_text` and `read_stream`, or if standard input is closed.

    Example:
        >>> read_given("nowhere.txt")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere.txt: No such file or directory
    """
    if name == "-":
        return read_stream(_standard_input(), "standard input")
    if _is_open(name):
        with opened(name) as stream:
            return read_stream(stream, name)
    return read_text(name)


@contextlib.contextmanager
def opened(name: str) -> Iterator[BinaryIO]:
    """Opens what a command line names, as `read_given` does.

    Args:
        name: A file, a pipe that a shell made for the command, or `-`.

    Raises:
        UsageError: if it cannot be read, or is a pipe or device of another kind.

    Example:
        >>> with opened("nowhere.txt"):
        ...     pass
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere.txt: No such file or directory
    """
    if name == "-":
        yield _standard_input()
        return
    if not _is_open(name):
        check_regular(name)
    try:
        with open(name, "rb") as stream:
            yield stream
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error


def _is_open(name: str) -> bool:
    return name.startswith(OPEN_FILES) and not os.path.isfile(name)


def _standard_input() -> BinaryIO:
    """Standard input, which is waited for whether or not it blocks."""
    if sys.stdin is None:
        raise UsageError("cannot read standard input: it is closed")
    if sys.stdin.isatty():
        print("reading standard input, up to Ctrl-D", file=sys.stderr, flush=True)
    raw = getattr(sys.stdin.buffer, "raw", None)
    return sys.stdin.buffer if raw is None else io.BufferedReader(_Waiting(raw))


class _Waiting(io.RawIOBase):
    """A stream that waits, for one that says it has nothing yet.

    A descriptor may be non-blocking because another process wants it so, to which it
    belongs as well; so it stays as it is.
    """

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while (count := self._raw.readinto(buffer)) is None:
            select.select([self._raw], [], [])
        return count


def read_stream(stream: BinaryIO, name: str) -> str:
    """Reads a stream to its end as text, without byte order marks.

    Args:
        stream: The stream, such as `sys.stdin.buffer`: buffered, so that a block that
            is cut short is the last one.
        name: What it is, for an error.

    Raises:
        UsageError: if it cannot be read, does not end in time, or is not text.

    Example:
        >>> import io
        >>> read_stream(io.BytesIO("the cat".encode("utf-8-sig")), "standard input")
        'the cat'
    """
    content = bytearray()
    try:
        while block := stream.read(BLOCK):
            content += block
            if len(content) > LARGEST:
                raise UsageError(f"{name} has more than {LARGEST:,} bytes: too many")
            if len(block) < BLOCK:  # a terminal would ask for another Ctrl-D
                break
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    return _decoded(bytes(content), name)


def pieces(path: PathLike, seen: Callable[[bytes], None]) -> Iterator[str]:
    r"""Reads a file as `read_text` does, in pieces of about `BLOCK` bytes.

    Their concatenation is that text. A piece ends after a newline; where a line is
    longer, before a space, and the next piece begins with it.

    Args:
        path: A regular file in UTF-8, or a symbolic link to one.
        seen: Called with the bytes of the file, block by block.

    Raises:
        UsageError: as `read_text` does; a NUL is told once the rest is known to be
            UTF-8.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "train.txt")
        ...     _ = path.write_bytes(b"the cat\nsat\n" * BLOCK)
        ...     sizes = [len(piece) for piece in pieces(path, lambda block: None)]
        >>> len(sizes), sizes[0]
        (13, 1048572)
    """
    check_regular(path, LARGEST_IN_PIECES)
    nul, start = None, 0
    for piece, is_last in _cut_blocks(path, seen):
        if nul is None and 0 in piece:
            nul = start + piece.index(0)
        try:
            text = piece.decode("utf-8")
        except UnicodeDecodeError:
            # With the space that follows it the error is that of the whole text.
            _decoded(piece if is_last else piece + b" ", str(path), start)
            raise
        start += len(piece)
        if nul is None:
            yield _without_marks(text)
    if nul is not None:
        raise _holds_nul(str(path), nul)


def _cut_blocks(
    path: PathLike, seen: Callable[[bytes], None]
) -> Iterator[tuple[bytes, bool]]:
    """Bytes of a file, cut where `pieces` cuts; whether they are the last."""
    held: list[bytes] = []
    try:
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                seen(block)
                cut = block.rfind(b"\n") + 1 or block.rfind(b" ")
                if cut < 0 or (cut == 0 and not held):
                    held.append(block)
                    continue
                yield b"".join([*held, block[:cut]]), False
                held = [block[cut:]]
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    yield b"".join(held), True


def check_regular(path: PathLike, largest: int | None = None) -> None:
    """Refuses what could not be read to an end: a pipe, a device, too large a file.

    Args:
        path: The file.
        largest: The most bytes that it may have, `LARGEST` by default.

    Raises:
        UsageError: if the file is one of these, a folder, or not there.

    Example:
        >>> check_regular("nowhere.txt")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere.txt: No such file or directory
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}") from error
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"cannot read {path}: Is a directory")
    if not stat.S_ISREG(status.st_mode):
        kind = "a pipe" if stat.S_ISFIFO(status.st_mode) else "a device"
        kind = "a socket" if stat.S_ISSOCK(status.st_mode) else kind
        raise UsageError(f"cannot read {path}: it is {kind}, not a file")
    largest = LARGEST if largest is None else largest
    if status.st_size > largest:
        raise UsageError(
            f"cannot read {path}: it has {status.st_size:,} bytes, and a text at most "
            f"{largest:,}"
        )


def _decoded(content: bytes, name: str, start: int = 0) -> str:
    """The text of the bytes that begin at `start`."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text: {error.reason} at byte {start + error.start}"
        ) from error
    if "\0" in text:
        raise _holds_nul(name, start + content.index(0))
    return _without_marks(text)


def _holds_nul(name: str, place: int) -> UsageError:
    return UsageError(
        f"{name} is not UTF-8 text: NUL at byte {place}; it may be UTF-16, or no text "
        "at all"
    )


def _without_marks(text: str) -> str:
    return BYTE_ORDER_MARK.sub("", text) if "\ufeff" in text else text
