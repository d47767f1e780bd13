"""Downloads of texts: their addresses, their checksums, and how they are fetched.

A corpus is three texts, or an archive, from which `archives` takes them.

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
from glrnn.data.texts import LARGEST_IN_PIECES, check_regular
from glrnn.errors import UsageError
from glrnn.ground.files import whole_binary_file

# Seconds that a server may be silent: before it answers, and between two blocks.
PATIENCE = 4.0
# The bytes of a block, and the blocks that may wait to be written.
BLOCK, WAITING = 2**14, 2**10
FILES = "train.txt, valid.txt and test.txt"


class Text(NamedTuple):
    """The checksum and length of a split.

    Attributes:
        sha256: The SHA-256 of the text's bytes, in hexadecimal; empty if the text comes
            from an archive.
        num_tokens: The number of words, and of one `<eos>` for each line; or of
            characters. `None` if it is not known.
    """

    sha256: str
    num_tokens: int | None


class Member(NamedTuple):
    """A text in an archive.

    Attributes:
        path: Its name there. With a `*` for anything, it is several files, which follow
            one another by name.
        checksum: Its SHA-256 or SHA-1, in hexadecimal, by which it is taken out of a
            folder too; empty, where nobody has published one.
    """

    path: str
    checksum: str = ""


class Archive(NamedTuple):
    """A file that holds the texts of a corpus.

    Attributes:
        name: Its name, which ends in `.zip` or `.tar.gz`.
        sha256: Its SHA-256, in hexadecimal.
        members: The text of each split; or one text, called `all`, that is cut.
    """

    name: str
    sha256: str
    members: Mapping[str, Member]


class Source(NamedTuple):
    """The facts of a corpus.

    Attributes:
        name: Its name for `--data`.
        licence: What it may be used for, in a line or two.
        addresses: The URLs of its texts, with `{split}` in place of train, valid or
            test, or of its archive; each is tried after the one before has failed.
        texts: The checksums and lengths of the splits.
        archive: The archive that has the texts, if they are in one.
    """

    name: str
    licence: str
    addresses: tuple[str, ...]
    texts: Mapping[str, Text]
    archive: Archive | None = None

    @property
    def files(self) -> dict[str, tuple[str, str]]:
        """The name and SHA-256 of each file to download: of a split, or the archive."""
        if self.archive is not None:
            return {"": (self.archive.name, self.archive.sha256)}
        return {s: (f"{s}.txt", text.sha256) for s, text in self.texts.items()}


def download(source: Source, folder: pathlib.Path) -> None:
    """Downloads the texts of a corpus, or its archive, into a folder.

    Args:
        source: The corpus.
        folder: The folder for train.txt, valid.txt and test.txt, or for the archive.
            Each is written whole or not at all. Files that are already right are left.

    Raises:
        UsageError: if no address has a missing file, or it cannot be written.

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
        for split, (name, sha256) in source.files.items()
        if not (folder / name).exists() or checksum(folder / name) != sha256
    ]
    failures = []
    for address in source.addresses:
        while missing:
            split = missing[0]
            name, sha256 = source.files[split]
            where = address.format(split=split)
            print(f"{source.name}: downloading {where}", file=sys.stderr)
            try:
                _fetch(where, folder / name, sha256)
            except _FailedError as error:
                reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
                failures.append(f"{where}: {reason}")
                break
            missing.remove(split)
    if missing:
        needed = FILES if source.archive is None else source.archive.name
        raise UsageError(
            f"cannot download {source.name}: {'; '.join(failures)}; put {needed} "
            "into a folder and give it with --manual-dir FOLDER"
        )


class _FailedError(Exception):
    """An address does not have a file; the message says why."""


def _fetch(address: str, path: pathlib.Path, sha256: str) -> None:
    """Writes the content of an address to a file, if its SHA-256 is right."""
    content = hashlib.sha256()
    with whole_binary_file(path) as file:
        for block in _blocks(address):
            content.update(block)
            file.write(block)
        if content.hexdigest() != sha256:
            raise _FailedError(f"its SHA-256 is {content.hexdigest()}, not {sha256}")


def _blocks(address: str) -> Iterator[bytes]:
    arrived: queue.Queue[bytes | Exception] = queue.Queue(WAITING)

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
            raise _FailedError(f"silent for {PATIENCE:g} seconds") from None
        if isinstance(block, OSError | http.client.HTTPException):
            raise _FailedError(str(block)) from block
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
        found = {split: checksum(path) for split, path in paths.items()}
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


def checksum(path: pathlib.Path, algorithm: str = "sha256") -> str:
    """The checksum of a file, in hexadecimal.

    Raises:
        UsageError: if the file cannot be read.

    Example:
        >>> checksum(pathlib.Path("nowhere.txt"))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: cannot read nowhere.txt: No such file or directory
    """
    check_regular(path, LARGEST_IN_PIECES)
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
