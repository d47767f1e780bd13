"""Small text files: read with clear errors, written completely or not at all."""

import json
import os
from pathlib import Path
from typing import Any

from glrnn.errors import UsageError


def read_text(path: str | os.PathLike[str]) -> str:
    """Reads a UTF-8 file.

    Raises:
        UsageError: if it cannot be read or is not UTF-8; the message names the path.

    Example:
        >>> read_text("nowhere.txt")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere.txt: No such file or directory
    """
    try:
        return Path(path).read_bytes().decode("utf-8")
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


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file atomically: a killed process leaves the old file or the new one.

    Raises:
        UsageError: if the file cannot be written; the message names the path.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(Path(folder, "a.txt"), "whole")
        ...     read_text(Path(folder, "a.txt"))
        'whole'
    """
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(unfinished, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        sync_folder(path.parent)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def sync_folder(folder: str | os.PathLike[str]) -> None:
    """Flushes a folder's list of files to the disk, on systems that can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows cannot open folders
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
