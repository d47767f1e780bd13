"""The SHA-256 of every file of a folder, as `sha256sum --check SHA256SUMS` reads it."""

import errno
import hashlib
import math
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from glrnn.errors import DamagedError, UsageError
from glrnn.ground.files import (
    SMALL,
    kind_of,
    open_regular,
    read_regular,
    sync_folder,
    walk,
)

SUMS = "SHA256SUMS"

Content = TypeVar("Content")


def write_checksums(folder: Path) -> None:
    """Flushes every file below a folder to the disk, and writes the checksums last.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     _ = (folder / "a.txt").write_text("whole")
        ...     write_checksums(folder)
        ...     check_checksums(folder)
        ...     _ = (folder / "a.txt").write_text("hole")
        ...     check_checksums(folder)
        Traceback (most recent call last):
        ...
        glrnn.errors.DamagedError: a.txt is not as it was written
    """
    names = sorted(_sizes(folder).keys() - {SUMS})
    lines = [f"{_digest(folder / name)}  {name}\n" for name in names]
    with open(folder / SUMS, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    for name in (*names, SUMS):
        with open(folder / name, "r+b") as file:
            os.fsync(file.fileno())
    for parent, _, _ in os.walk(folder):
        sync_folder(parent)


def check_checksums(folder: Path, largest: float = math.inf) -> None:
    """Compares every file with its checksum; files without one are ignored.

    Args:
        folder: The folder.
        largest: The largest size of all files together, in bytes; if they are larger,
            none is read.

    Raises:
        DamagedError: A file is missing or not as it was written, or there is something
            else than files and folders; the message names it.
        UsageError: A file may not be read.
    """
    sizes = _read(folder, _sizes)
    sums = _read_sums(folder)
    for name in sums:
        if name not in sizes:
            raise DamagedError(f"{name} is missing")
    size = sum(sizes[name] for name in sums)
    if size > largest:
        raise DamagedError(f"its files have {size} bytes, at most {largest} are right")
    for name, digest in sums.items():
        if _read(folder / name, _digest) != digest:
            raise DamagedError(f"{name} is not as it was written")


def _sizes(folder: Path) -> dict[str, int]:
    """The sizes of the files below a folder, which holds nothing but files."""
    if folder.is_symlink():
        raise DamagedError("it is a symbolic link")
    sizes = {}
    with suppress(FileNotFoundError):  # a training process deletes it meanwhile
        for entry in walk(folder):
            name = Path(entry.path).relative_to(folder).as_posix()
            if kind := kind_of(entry):
                raise DamagedError(f"{name} is {kind}")
            sizes[name] = entry.stat(follow_symlinks=False).st_size
    return sizes


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sums(folder: Path) -> dict[str, str]:
    content = _read(folder / SUMS, lambda path: read_regular(path, SMALL))
    try:
        pairs = (line.split("  ", 1) for line in content.decode().splitlines())
        sums = {name: digest for digest, name in pairs}
    except ValueError:
        raise DamagedError(f"{SUMS} is not as it was written") from None
    if not sums:
        raise DamagedError(f"{SUMS} is empty")
    return sums


def _read(path: Path, how: Callable[[Path], Content]) -> Content:
    """Reads a file; a failing disk counts as damage, a missing permission does not."""
    try:
        return how(path)
    except FileNotFoundError:
        raise DamagedError(f"{path.name} is missing") from None
    except OSError as error:
        told = f"cannot read {path}: {error.strerror or error}"
        damaged = error.errno in (errno.EIO, errno.EFBIG)
        kind = DamagedError if damaged else UsageError
        raise kind(told) from None
