"""The files of a corpus's splits in a folder, by the names that people give them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from glrnn.errors import UsageError

SPLITS = ("train", "valid", "test")
# What a file may be called after. A name may begin with that of the data set, as in
# ptb.train.txt, and end in one of ENDINGS or in none.
NAMES = {
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test",),
}
ENDINGS = ("txt", "text", "tokens", "tok", "raw")
# No control characters, which a terminal would obey where the name is printed.
DATA_SET = r"(?P<data_set>(?!\.)[^\x00-\x1f\x7f-\x9f]+)"
PATTERNS = {
    split: re.compile(
        rf"(?:{DATA_SET}[._-])?(?:{'|'.join(names)})"
        rf"(?:\.(?:{'|'.join(ENDINGS)}))?",
        re.IGNORECASE,
    )
    for split, names in NAMES.items()
}
ADVICE = "name the files that you mean train.txt, valid.txt and test.txt"


def find(folder: Path, splits: Sequence[str] = SPLITS) -> dict[str, Path]:
    """Finds the files of splits in a folder.

    They are train.txt, valid.txt and test.txt if these are there. Otherwise each split
    must have one file with a name such as `ptb.valid.txt`, `wiki.valid.tokens`,
    `val.txt` or `valid`, and all must begin with the name of the same data set.

    Args:
        folder: The folder.
        splits: The splits to find.

    Returns:
        The path of each split.

    Raises:
        UsageError: if the folder cannot be read, or a split has no file or several.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("wiki.train.tokens", "wiki.valid.tokens", "README.txt"):
        ...         Path(folder, name).touch()
        ...     found = find(Path(folder), ("train", "valid"))
        >>> [path.name for path in found.values()]
        ['wiki.train.tokens', 'wiki.valid.tokens']
    """
    try:
        present = set(os.listdir(folder))
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror}") from error
    usual = {split: f"{split}.txt" for split in splits}
    if present.issuperset(usual.values()):
        return {split: folder / name for split, name in usual.items()}
    candidates = {split: _candidates(folder, present, split) for split in splits}
    missing = [usual[split] for split in splits if not candidates[split]]
    if missing:
        raise UsageError(
            f"{folder} has no {' and no '.join(missing)}; a data set is a folder with "
            "train.txt, valid.txt and test.txt"
        )
    for split, names in candidates.items():
        if len(names) > 1:
            raise UsageError(
                f"{folder} has several {split} splits, {' and '.join(names)}; {ADVICE}"
            )
    found = {split: names[0] for split, names in candidates.items()}
    _check_one_data_set(folder, found)
    return {split: folder / name for split, name in found.items()}


def _candidates(folder: Path, present: set[str], split: str) -> list[str]:
    return sorted(
        name
        for name in present
        if PATTERNS[split].fullmatch(name)
        and (name == f"{split}.txt" or not (folder / name).is_dir())
    )


def _check_one_data_set(folder: Path, found: dict[str, str]) -> None:
    """Refuses files that are named after several data sets."""
    files: dict[str, str] = {}
    for split, name in found.items():
        match = PATTERNS[split].fullmatch(name)
        data_set = match["data_set"] if match else None
        files.setdefault((data_set or "").lower(), name)
    if len(files) > 1:
        raise UsageError(
            f"{folder} has files of several data sets, {' and '.join(files.values())}; "
            f"{ADVICE}"
        )
