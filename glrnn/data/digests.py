"""The SHA-256 of files, remembered for as long as they are not changed.

A file is known again by its path, size, inode and the times, in nanoseconds, of its
last change of content and of anything (mtime and ctime). ctime cannot be set by a user,
so that a copy with the old mtime, as `cp -p` and `rsync` make it, is another file. The
clock of a file system may tick as slowly as every two seconds, and a change within the
tick of the one before leaves the times as they are: so what was changed less than
`SETTLED` ago is hashed, and not remembered.
"""

import contextlib
import hashlib
import os
import time
from pathlib import Path

from glrnn.data import cache
from glrnn.data.texts import LARGEST_IN_PIECES, PathLike, check_regular
from glrnn.errors import UsageError

# Seconds.
SETTLED = 3.0


def sha256_of(path: PathLike, folder: Path | None) -> str:
    """The SHA-256 of a file, in hexadecimal.

    Args:
        path: A regular file.
        folder: The folder of the cache; `None` to hash the file in any case.

    Raises:
        UsageError: if the file cannot be read, is a pipe or a device, or too large.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     path = Path(name, "a.txt")
        ...     _ = path.write_text("the cat")
        ...     sha256_of(path, Path(name, "cache"))[:12]
        '70a48cc5ea38'
    """
    check_regular(path, LARGEST_IN_PIECES)
    try:
        state = _state(path)
        entry = folder and folder / "digests" / f"{_name(path)}.json"
        match entry and cache.read(entry):
            case [known, str(digest)] if known == state:
                return digest
        began = time.time()
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        is_settled = max(state[2:]) < (began - SETTLED) * 1e9
        if entry and is_settled and _state(path) == state:
            _remember(entry, [state, digest])
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    return digest


def _state(path: PathLike) -> list[int]:
    """What changes with a file: its size and inode, and two times."""
    status = os.stat(path)
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _name(path: PathLike) -> str:
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()


def _remember(entry: Path, value: list[list[int] | str]) -> None:
    with contextlib.suppress(OSError):
        cache.write(entry, value)
