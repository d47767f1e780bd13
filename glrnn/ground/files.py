"""Files: read with clear errors, written completely or not at all.

The files of a run may come from anyone, so they are opened by `open_regular`: no link
is followed, and no pipe or device is waited for.
"""

import contextlib
import errno
import functools
import io
import json
import operator
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from glrnn.errors import UsageError

PathLike = str | os.PathLike[str]

# The largest sizes of files that are read at once, in bytes: settings and the like, and
# lists of words or epochs.
SMALL, LARGE = 2**22, 2**28
# None of them exists on every system.
_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
_SAFE = functools.reduce(operator.or_, (getattr(os, name, 0) for name in _FLAGS))


def open_regular(path: PathLike) -> io.BufferedReader:
    """Opens a regular file to read, without following a link or waiting for a pipe.

    Raises:
        OSError: It cannot be opened, or is a link or something else; the error's text
            says so.

    Example:
        >>> open_regular("/dev/null")
        Traceback (most recent call last):
        ...
        OSError: [Errno 22] it is not a regular file: '/dev/null'
    """
    return os.fdopen(_open(path, os.O_RDONLY), "rb")


def append_regular(path: PathLike) -> io.BufferedWriter:
    """Opens a regular file to append to, likewise; makes it if there is none."""
    return os.fdopen(_open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab")


def _open(path: PathLike, flags: int) -> int:
    if os.path.islink(path):  # in plain words; without a race by O_NOFOLLOW
        raise OSError(errno.ELOOP, "it is a symbolic link", str(path))
    descriptor = os.open(path, flags | _SAFE, 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_regular(path: PathLike, largest: int) -> bytes:
    """The content of a regular file of at most `largest` bytes.

    Raises:
        OSError: As `open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        told = f"it is larger than {largest / 2**20:.0f} MiB"
        raise OSError(errno.EFBIG, told, str(path))
    return content


def is_there(path: PathLike) -> bool:
    """Whether there is anything of that name, be it a link to nothing.

    Raises:
        UsageError: The system does not say, as in a folder that may not be entered.

    Example:
        >>> is_there("nowhere/at all")
        False
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}") from None
    return True


def current_folder() -> str:
    """The folder that relative paths start from.

    Raises:
        UsageError: It has been deleted.
    """
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise UsageError("the current folder is deleted; use another") from None


def walk(folder: PathLike) -> Iterator[os.DirEntry[str]]:
    """Everything below a folder but the folders themselves; follows no link.

    Raises:
        OSError: A folder cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "deep").mkdir()
        ...     Path(folder, "deep", "a.txt").touch()
        ...     [entry.name for entry in walk(folder)]
        ['a.txt']
    """
    folders = [os.fspath(folder)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry


def kind_of(entry: os.DirEntry[str]) -> str:
    """What an entry that is no folder is: empty for a regular file."""
    if entry.is_symlink():
        return "a symbolic link"
    return "" if entry.is_file(follow_symlinks=False) else "not a regular file"


def read_text_of_run(path: PathLike, largest: int = SMALL) -> str:
    """Reads a run's file of UTF-8 text: a regular file of at most `largest` bytes.

    Raises:
        UsageError: It cannot be read, is something else or larger, or is not UTF-8; the
            message names the path.

    Example:
        >>> read_text_of_run("/dev/zero")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read /dev/zero: it is not a regular file
    """
    try:
        return read_regular(path, largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"cannot read {path}: {reason}") from error


def parse_json(text: str, what: str) -> Any:
    """Parses a JSON text.

    Args:
        text: The text.
        what: What it should hold, for the error: `a config`.

    Raises:
        UsageError: if it is not JSON; the message says what it should have been.

    Example:
        >>> parse_json("{", "a config")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: not a config: Expecting property name enclosed in \
double quotes: line 1 column 2 (char 1)
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not {what}: {error}") from None


def write_text(path: PathLike, text: str) -> None:
    """Writes a file atomically: a killed process leaves the old file or the new one.

    Raises:
        UsageError: if the file cannot be written; the message names the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder, "a.txt"), "whole")
        ...     read_text_of_run(Path(folder, "a.txt"))
        'whole'
    """
    with whole_file(path) as file:
        file.write(text)


def write_bytes(path: PathLike, content: bytes) -> None:
    """As `write_text`, of bytes."""
    with whole_binary_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def whole_file(path: PathLike) -> Iterator[TextIO]:
    """A file to write in UTF-8 that takes its name once the block has ended well.

    Raises:
        UsageError: if the file cannot be written; the message names the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_file(Path(folder, "a.txt")) as file:
        ...         _ = file.write("whole")
        ...         before = os.path.exists(Path(folder, "a.txt"))
        ...     before, os.path.exists(Path(folder, "a.txt"))
        (False, True)
    """
    with whole_binary_file(path) as binary:
        file = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        yield file
        file.detach()  # which writes what it holds


@contextlib.contextmanager
def whole_binary_file(path: PathLike) -> Iterator[BinaryIO]:
    """A file of bytes that takes its name once the block has ended well.

    Raises:
        UsageError: if the file cannot be written; the message names the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with whole_binary_file(Path(folder, "a")) as file:
        ...         _ = file.write(b"whole")
        ...     Path(folder, "a").read_bytes()
        b'whole'
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.unlink(missing_ok=True)
        # A file of its own: what had this name may have been a link.
        with open(unfinished, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def sync_folder(folder: PathLike) -> None:
    """Flushes a folder's list of files to the disk, on systems that can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
