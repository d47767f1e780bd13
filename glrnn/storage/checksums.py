"""The SHA-256 of every file of a folder, as `sha256sum --check SHA256SUMS` reads it."""

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from glrnn.errors import DamagedError, UsageError
from glrnn.files import sync_folder

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
    names = _files(folder)
    lines = [f"{_digest(folder / name)}  {name}\n" for name in names]
    with open(folder / SUMS, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)
    for name in (*names, SUMS):
        with open(folder / name, "r+b") as file:
            os.fsync(file.fileno())
    for parent, _, _ in os.walk(folder):
        sync_folder(parent)


def check_checksums(folder: Path) -> None:
    """Compares every file with its checksum; files without one are ignored.

    Raises:
        DamagedError: A file is missing or not as it was written; the message names it.
        UsageError: A file may not be read.
    """
    sums = _read_sums(folder)
    there = set(_files(folder))
    for name, digest in sums.items():
        if name not in there:
            raise DamagedError(f"{name} is missing")
        if _read(folder / name, _digest) != digest:
            raise DamagedError(f"{name} is not as it was written")


def _files(folder: Path) -> list[str]:
    """The names of the files below a folder, but for the checksums themselves."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in paths)
    return sorted(name for name in names if name != SUMS)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sums(folder: Path) -> dict[str, str]:
    content = _read(folder / SUMS, Path.read_bytes)
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
        kind = DamagedError if error.errno == errno.EIO else UsageError
        raise kind(told) from None
