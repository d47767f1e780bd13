"""Texts from files and from standard input: regular files of limited size, in UTF-8."""

import contextlib
import io
import os
import re
import select
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from glrnn.errors import UsageError

PathLike = str | os.PathLike[str]

# Bytes. The words of a text are held in memory, at some ten times its size.
LARGEST = 2**31
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


def check_regular(path: PathLike) -> None:
    """Refuses what could not be read to an end: a pipe, a device, too large a file.

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
    if status.st_size > LARGEST:
        raise UsageError(
            f"cannot read {path}: it has {status.st_size:,} bytes, and a text at most "
            f"{LARGEST:,}"
        )


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    if "\0" in text:
        raise UsageError(
            f"{name} is not UTF-8 text: NUL at byte {content.index(0)}; it may be "
            "UTF-16, or no text at all"
        )
    return BYTE_ORDER_MARK.sub("", text) if "\ufeff" in text else text
