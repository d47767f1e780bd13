"""The cache of encoded texts, in the user's cache folder.

    texts/digests/     what file has which SHA-256; see `digests`
    texts/words/       the words of a vocabulary, by the texts that it was made of
    texts/streams/     the ids of a text over a vocabulary, and facts about them
    texts/corpora/     what was computed of the streams of a corpus

An entry has a name that is made of all that it depends on, and is never changed. Each
file is written under another name first. Whatever cannot be read, or is not as it was
written, counts as not there: an entry begins with the SHA-256 of the rest, and with the
ids goes their CRC-32, which is compared whenever they are mapped to memory.
"""

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glrnn.data.encoding import Encoded, File
from glrnn.data.ids import Facts, Ids, with_facts
from glrnn.errors import UsageError
from glrnn.ground import files

# A part of every name: to be raised when texts are read, split or encoded otherwise, or
# another thing is kept.
FORMAT = 1
# Seconds after which an unfinished file belongs to a process that was killed.
ABANDONED = 3600.0
# Bytes that are checked at a time.
BLOCK = 2**24


class Stream(NamedTuple):
    """The ids of a text.

    Attributes:
        ids: The ids, int32 `[N]`, with facts about them.
        warnings: What looks wrong about the text.
    """

    ids: Ids
    warnings: tuple[str, ...] = ()


def default_folder() -> Path | None:
    """The folder of the cache; `None` without the package that knows where it is."""
    try:
        import platformdirs
    except ImportError:
        return None
    return platformdirs.user_cache_path("glrnn") / "texts"


def key(*parts: Any) -> str:
    """The name of an entry.

    Args:
        *parts: What it depends on, as JSON knows it.

    Example:
        >>> key("words", 1) == key("words", 2)
        False
    """
    named = json.dumps([FORMAT, sys.byteorder, *parts])
    return hashlib.sha256(named.encode()).hexdigest()


def write(path: Path, value: Any) -> None:
    """Writes an entry, whole or not at all.

    Raises:
        OSError: if it cannot be written.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "words", "a3.json")
        ...     write(path, ["the", "cat"])
        ...     read(path)
        ['the', 'cat']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value)
    digest = hashlib.sha256(text.encode()).hexdigest()
    try:
        files.write_text(path, f"{digest}\n{text}")
    except UsageError as error:
        raise OSError(str(error)) from error


def read(path: Path) -> Any:
    """Reads what `write` wrote; `None` if it is not there, or damaged."""
    try:
        text = files.read_text_of_run(path, files.LARGE)
    except UsageError:
        return None
    digest, _, text = text.partition("\n")
    if digest != hashlib.sha256(text.encode()).hexdigest():
        return None
    return json.loads(text)


def remembered(path: Path | None, compute: Callable[[], Any]) -> Any:
    """What an entry holds, or else what is computed, which it holds from then on.

    Args:
        path: The entry; `None` to compute it in any case.
        compute: Returns it, as JSON knows it; not `None`.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "corpora", "a3.json")
        ...     remembered(path, lambda: 1), remembered(path, lambda: 2)
        (1, 1)
    """
    value = None if path is None else read(path)
    if value is None:
        value = compute()
        if path is not None:
            with contextlib.suppress(OSError):
                write(path, value)
    return value


@contextlib.contextmanager
def unfinished_files(folder: Path) -> Iterator[Callable[[], File]]:
    """Files to write ids into, which are deleted with the block unless they are kept.

    Args:
        folder: The folder of the cache.

    Returns:
        A function that opens another one.
    """
    streams = folder / "streams"
    with contextlib.ExitStack() as opened:

        def new_file() -> File:
            streams.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(streams)
            descriptor, name = tempfile.mkstemp(".unfinished", ".", streams)
            os.close(descriptor)
            opened.callback(_remove, name)
            return opened.enter_context(open(name, "r+b"))

        yield new_file


def keep(folder: Path, name: str, encoded: Encoded) -> Stream:
    """Keeps a stream.

    Args:
        folder: The folder of the cache.
        name: The name of the entry.
        encoded: The stream, in a file of `unfinished_files`.

    Returns:
        The stream, mapped to memory.

    Raises:
        OSError: if it cannot be kept.
    """
    path = folder / "streams" / f"{name}.ids"
    facts, warnings = encoded.facts, encoded.read.warnings
    os.replace(str(encoded.file.name), path)
    try:
        counts = facts.counts.tolist()
        value = [facts.sha256, encoded.crc32, counts, list(warnings)]
        write(path.with_suffix(".json"), value)
        return Stream(with_facts(_mapped(path), facts), warnings)
    except OSError:
        _remove(str(path))
        raise


def stream(folder: Path, name: str) -> Stream | None:
    """A stream that was kept, mapped to memory; `None` if there is none.

    Args:
        folder: The folder of the cache.
        name: The name of the entry.
    """
    path = folder / "streams" / f"{name}.ids"
    value = read(path.with_suffix(".json"))
    if value is None:
        return None
    sha256, crc32, counts, warnings = value
    facts = Facts(sha256, np.array(counts, np.int64))
    try:
        ids = _mapped(path)
    except (OSError, ValueError):  # it is gone, or empty
        return None
    if ids.size != facts.counts.sum() or _crc32(ids) != crc32:
        return None
    return Stream(with_facts(ids, facts), tuple(warnings))


def _mapped(path: Path) -> Ids:
    with files.open_regular(path) as file:
        return np.memmap(file, np.int32, "r")


def _crc32(ids: Ids) -> int:
    found, length = 0, BLOCK // ids.itemsize
    for start in range(0, ids.size, length):
        found = zlib.crc32(ids[start : start + length].data, found)
    return found


def _remove(name: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name)


def _remove_abandoned(streams: Path) -> None:
    """Removes the unfinished files of processes that were killed."""
    for path in streams.glob(".*.unfinished"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()
