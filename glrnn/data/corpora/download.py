"""Downloads of texts: their addresses, their checksums, and how they are fetched.

tensorflow-datasets is not used for this: its downloader has no timeout, and retries a
server that does not answer for minutes without a word.
"""

import hashlib
import http.client
import pathlib
import queue
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from glrnn.data import split_files
from glrnn.data.texts import check_regular
from glrnn.errors import UsageError
from glrnn.ground.files import write_text

# Seconds that a server may be silent: before it answers, and between two blocks.
PATIENCE = 4.0
BLOCK = 2**14
FILES = "train.txt, valid.txt and test.txt"


class Text(NamedTuple):
    """The checksum and length of a split.

    Attributes:
        sha256: The SHA-256 of the text's bytes, in hexadecimal.
        num_tokens: The number of words, and of one `<eos>` for each line.
    """

    sha256: str
    num_tokens: int


class Source(NamedTuple):
    """The facts of a corpus.

    Attributes:
        name: Its name for `--data`.
        licence: What it may be used for, in a line or two.
        addresses: The URLs of its texts, with `{split}` in place of train, valid or
            test; each is tried after the one before has failed.
        texts: The checksums and lengths of the splits.
    """

    name: str
    licence: str
    addresses: tuple[str, ...]
    texts: Mapping[str, Text]


def download(source: Source, folder: pathlib.Path) -> None:
    """Downloads the texts of a corpus into a folder.

    Args:
        source: The corpus.
        folder: The folder for train.txt, valid.txt and test.txt, each of which is
            written whole or not at all. Files that are already right are left.

    Raises:
        UsageError: if no address has a missing text, or it cannot be written.

    Example:
        >>> import tempfile
        >>> sha256 = hashlib.sha256(b"the cat").hexdigest()
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = pathlib.Path(name)
        ...     _ = (folder / "cat.train.txt").write_bytes(b"the cat")
        ...     address = folder.as_uri() + "/cat.{split}.txt"
        ...     texts = {"train": Text(sha256, num_tokens=3)}
        ...     download(Source("cat", "Free.", (address,), texts), folder)
        ...     (folder / "train.txt").read_text()
        'the cat'
    """
    missing = [
        split
        for split, text in source.texts.items()
        if not _path(folder, split).exists()
        or _sha256(_path(folder, split)) != text.sha256
    ]
    failures = []
    for address in source.addresses:
        while missing:
            split = missing[0]
            where = address.format(split=split)
            print(f"{source.name}: downloading {where}", file=sys.stderr)
            try:
                content = _fetch(where, source.texts[split].sha256)
            except (OSError, http.client.HTTPException) as error:
                reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
                failures.append(f"{where}: {reason}")
                break
            write_text(_path(folder, split), content.decode())
            missing.remove(split)
    if missing:
        raise UsageError(
            f"cannot download {source.name}: {'; '.join(failures)}; put {FILES} "
            "into a folder and give it with --manual-dir FOLDER"
        )


def _fetch(address: str, sha256: str) -> bytes:
    """The content of an address; raises OSError if its SHA-256 is wrong, too."""
    content = b"".join(_blocks(address))
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise OSError(f"its SHA-256 is {found}, not {sha256}")
    return content


def _blocks(address: str) -> Iterator[bytes]:
    arrived: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    # A thread can be abandoned. The timeout of a socket bounds neither the look-up of a
    # name, nor several addresses of one server, nor bytes that come one by one.
    def transfer() -> None:
        try:
            with urllib.request.urlopen(address, timeout=2 * PATIENCE) as response:
                while block := response.read(BLOCK):
                    arrived.put(block)
            arrived.put(b"")
        except urllib.error.HTTPError as refusal:
            with refusal:  # which holds the connection
                arrived.put(refusal)
        except Exception as error:
            arrived.put(error)

    threading.Thread(target=transfer, daemon=True).start()
    while True:
        try:
            block = arrived.get(timeout=PATIENCE)
        except queue.Empty:
            raise TimeoutError(f"silent for {PATIENCE:g} seconds") from None
        if isinstance(block, Exception):
            raise block
        if not block:
            return
        yield block


def check(source: Source, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Checks texts that were put into a folder by hand.

    Args:
        source: The corpus.
        folder: A folder with train.txt, valid.txt and test.txt, or files that
            `split_files.find` takes for them.

    Returns:
        The path of each split.

    Raises:
        UsageError: if a text is missing or is not that of the corpus.

    Example:
        >>> texts = {"train": Text("a3", num_tokens=3)}
        >>> check(Source("cat", "Free.", (), texts), pathlib.Path("nowhere"))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere: No such file or directory; \
--manual-dir takes the texts of cat, byte for byte
    """
    try:
        paths = split_files.find(folder, tuple(source.texts))
        found = {split: _sha256(path) for split, path in paths.items()}
    except UsageError as error:
        raise UsageError(
            f"{error}; --manual-dir takes the texts of {source.name}, byte for byte"
        ) from error
    for split, text in source.texts.items():
        if found[split] != text.sha256:
            raise UsageError(
                f"{paths[split]} is not the {split} split of {source.name}: its "
                f"SHA-256 is {found[split]}, not {text.sha256}; another version of the "
                f"texts is given with --data {folder}"
            )
    return paths


def _path(folder: pathlib.Path, split: str) -> pathlib.Path:
    return folder / f"{split}.txt"


def _sha256(path: pathlib.Path) -> str:
    check_regular(path)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
