"""Texts that come in an archive: taken out of it, or found beside it.

Members are written under names of our own, so that nothing in an archive says where.
"""

import fnmatch
import pathlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from typing import IO

from glrnn.data.corpora.download import Archive, Source, checksum
from glrnn.errors import UsageError

# By the length of a checksum in hexadecimal.
ALGORITHMS = {40: ("sha1", "SHA-1"), 64: ("sha256", "SHA-256")}

Paths = dict[str, list[pathlib.Path]]


def extract(archive: Archive, path: pathlib.Path, folder: pathlib.Path) -> Paths:
    """Takes the texts of a corpus out of its archive.

    Args:
        archive: What the archive has.
        path: The archive, whose checksum is right.
        folder: The folder to write them into, which is made.

    Returns:
        The files of each text, in order.

    Raises:
        UsageError: if the archive does not have a text.
        OSError: if a text cannot be written.

    Example:
        >>> import tempfile
        >>> from glrnn.data.corpora.download import Member
        >>> archive = Archive("a.zip", "", {"all": Member("deep/text")})
        >>> with tempfile.TemporaryDirectory() as name:
        ...     path = pathlib.Path(name, "a.zip")
        ...     with zipfile.ZipFile(path, "w") as file:
        ...         file.writestr("deep/text", "the cat")
        ...     found = extract(archive, path, pathlib.Path(name, "texts"))
        ...     [each.read_text() for each in found["all"]]
        ['the cat']
    """
    found: dict[str, list[tuple[str, pathlib.Path]]] = {s: [] for s in archive.members}
    for name, member in _members(path):
        for split, wanted in archive.members.items():
            if fnmatch.fnmatchcase(name, wanted.path):
                target = folder / split / str(len(found[split]))
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as file:
                    shutil.copyfileobj(member, file, 2**20)
                found[split].append((name, target))
    for split, wanted in archive.members.items():
        if not found[split]:
            raise UsageError(f"{path} has no {wanted.path}")
    return {split: [path for _, path in sorted(each)] for split, each in found.items()}


def _members(path: pathlib.Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The name of each file in an archive, and the file, open until the next one."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    with archive.open(entry) as member:
                        yield entry.filename, member
        return
    with tarfile.open(path, "r|gz") as archive:
        for entry in archive:
            member = archive.extractfile(entry) if entry.isfile() else None
            if member is not None:
                yield entry.name, member


def at_hand(source: Source, given: pathlib.Path, folder: pathlib.Path) -> Paths:
    """The texts of an archive, or those that were taken out of it by hand.

    Args:
        source: The corpus.
        given: A folder with the archive, or with its texts by the names that they have
            there, if their checksums are known.
        folder: The folder to write texts into.

    Raises:
        UsageError: if the folder has neither, or a file is not that of the corpus.
        OSError: if a text cannot be written.
    """
    archive = source.archive
    if archive is None:
        raise ValueError(f"{source.name} comes in no archive")
    if not given.is_dir():
        raise UsageError(
            f"cannot read {given}: it is no folder; --manual-dir takes a folder with "
            f"{archive.name}"
        )
    path = given / archive.name
    if path.exists():
        _require(path, archive.sha256, source)
        return extract(archive, path, folder)
    known = all(member.checksum for member in archive.members.values())
    texts = {
        split: given / pathlib.PurePosixPath(member.path).name
        for split, member in archive.members.items()
    }
    if known and all(text.exists() for text in texts.values()):
        for split, text in texts.items():
            _require(text, archive.members[split].checksum, source)
        return {split: [text] for split, text in texts.items()}
    names = " and ".join(text.name for text in texts.values())
    raise UsageError(
        f"{given} has no {archive.name}{f' and no {names}' if known else ''}; "
        f"--manual-dir takes the files of {source.name}, byte for byte"
    )


def _require(path: pathlib.Path, expected: str, source: Source) -> None:
    """Refuses a file whose checksum is another one."""
    algorithm, name = ALGORITHMS[len(expected)]
    found = checksum(path, algorithm)
    if found != expected:
        raise UsageError(
            f"{path} is not that of {source.name}: its {name} is {found}, not "
            f"{expected}"
        )
