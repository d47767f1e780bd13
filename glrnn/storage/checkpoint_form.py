"""What a checkpoint's files must say before Orbax opens them.

Right checksums prove nothing about a checkpoint that comes from someone else, and Orbax
believes what it reads: it allocates a chunk of any shape, decompresses any codec and
parses any nesting. Here every file that it would read is compared with the tree that is
to be restored.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from glrnn.errors import DamagedError, UsageError
from glrnn.ground.files import parse_json, read_regular
from glrnn.ground.validation import shown

# The largest size of a file of metadata, in bytes; a list of arrays takes 500 a piece.
MOST_METADATA = 2**25
# The files of a tree beside the folders of its arrays.
FILES = ("_METADATA", "commit_success.txt")
# What Orbax calls an array on the host or on a device.
ARRAYS = ("np.ndarray", "jax.Array")


def read_about(path: Path) -> dict[str, Any]:
    """Reads what a checkpoint holds beside arrays, as `orbax_io.write` made it.

    Raises:
        DamagedError: It is not that.
    """
    name = "about/metadata"
    about = _read_json(path, name)
    for item, described in _object_in(about, "arrays", name).items():
        _require(
            isinstance(described, dict)
            and all(_describes_an_array(each) for each in described.values()),
            f"{name}: arrays.{item:.60} does not describe arrays",
        )
    return about


def _describes_an_array(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("type"), str)
        and type(value.get("crc32")) is int
    )


def check_form(path: Path, item: str, leaves: Mapping[str, Any]) -> None:
    """Compares the metadata and the sizes of a tree's files with what they must be.

    Args:
        path: The checkpoint.
        item: The name of the tree.
        leaves: The arrays or `jax.ShapeDtypeStruct`s to be restored, by their paths,
            such as `layers/0/recurrent`.

    Raises:
        DamagedError: A file is not of that form; the message names it.
    """
    _check_handlers(path)
    _check_tree(path, f"{item}/_METADATA", leaves)
    folders = {name.replace("/", "."): leaf for name, leaf in leaves.items()}
    for entry in (path / item).iterdir():
        # Orbax reads more of its own formats where it finds them.
        _require(
            entry.name in (folders if entry.is_dir() else FILES),
            f"{item}/{entry.name} is no part of this tree",
        )
    for name, leaf in folders.items():
        _check_array(path, f"{item}/{name}", leaf)


def _check_handlers(path: Path) -> None:
    name = "_CHECKPOINT_METADATA"
    handlers = _object_in(_read_json(path, name), "item_handlers", name)
    _require(
        all(isinstance(each, str) for each in handlers.values()),
        f"{name}: item_handlers does not name handlers",
    )


def _check_tree(path: Path, name: str, leaves: Mapping[str, Any]) -> None:
    """Compares Orbax's description of a tree with the tree."""
    metadata = _read_json(path, name)
    for field in ("use_ocdbt", "use_zarr3"):
        _require(metadata.get(field) is False, f"{name}: {field} is not false")
    tree = _object_in(metadata, "tree_metadata", name)
    found = set()
    for key, entry in tree.items():
        try:
            steps = [(step["key"], step["key_type"]) for step in entry["key_metadata"]]
            about = entry["value_metadata"]
            kind, is_empty = about["value_type"], about["skip_deserialize"]
        except (TypeError, KeyError, IndexError):
            raise DamagedError(f"{name}: {key:.60} is of another form") from None
        names = [name for name, _ in steps]
        _require(
            all(_is_step(*step) for step in steps)
            and key == str(tuple(names))
            and isinstance(kind, str)
            and (is_empty is True or (is_empty is False and kind in ARRAYS)),
            f"{name}: {key:.60} is of another form",
        )
        if not is_empty:
            found.add("/".join(names))
    _require(found == leaves.keys(), f"{name} describes another tree")


def _is_step(name: Any, kind: Any) -> bool:
    """Whether a step of a path is the index of a sequence, or a name."""
    is_index = isinstance(name, str) and re.fullmatch("[0-9]{1,4}", name) is not None
    return isinstance(name, str) and (is_index if kind == 1 else kind == 2)


def _check_array(path: Path, folder: str, leaf: Any) -> None:
    """Compares the metadata of an array, in one chunk, with the array."""
    name = f"{folder}/.zarray"
    metadata = _read_json(path, name)
    dtype, shape = np.dtype(leaf.dtype), list(leaf.shape)
    compressor = metadata.pop("compressor", None)
    expected = {
        "chunks": shape,
        "dimension_separator": ".",
        # The names of types that NumPy lacks are no codes.
        "dtype": dtype.name if dtype.kind == "V" else dtype.str,
        "fill_value": None,
        "filters": None,
        "order": "C",
        "shape": shape,
        "zarr_format": 2,
    }
    for field in {**expected, **metadata}:
        value, right = metadata.get(field), expected.get(field)
        _require(
            value == right and field in metadata and field in expected,
            f"{name}: {field:.60} is {shown(value)}, not {right}",
        )
    _require(
        isinstance(compressor, dict) and compressor.get("id") == "zstd",
        f"{name}: compressor is {shown(compressor)}, not zstd",
    )
    chunk = f"{folder}/{'.'.join('0' * len(shape)) or '0'}"
    size = math.prod(shape) * dtype.itemsize
    # What cannot be compressed becomes a little larger.
    most = size + size // 128 + 1024
    _require((path / chunk).is_file(), f"{chunk} is missing")
    length = (path / chunk).stat().st_size
    _require(length <= most, f"{chunk} has {length} bytes, at most {most} are right")


def _read_json(path: Path, name: str) -> dict[str, Any]:
    try:
        content = read_regular(path / name, MOST_METADATA).decode()
        values = parse_json(content, "metadata")
    except FileNotFoundError:
        raise DamagedError(f"{name} is missing") from None
    except (OSError, UnicodeDecodeError, UsageError) as error:
        raise DamagedError(f"{name}: {error}") from None
    _require(isinstance(values, dict), f"{name} is no JSON object")
    return values


def _object_in(values: Mapping[str, Any], field: str, name: str) -> dict[str, Any]:
    value = values.get(field)
    if not isinstance(value, dict):
        raise DamagedError(f"{name}: {field} is no JSON object")
    return value


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise DamagedError(otherwise)
