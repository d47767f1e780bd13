"""One checkpoint on disk, written and read by Orbax.

A checkpoint is a folder with named trees of arrays and with `about`: plain numbers and
lists as JSON, beside them the shape, dtype and CRC-32 of every array. The SHA-256 of
every file is written last and makes the checkpoint whole: Orbax itself restores a wrong
shape or a flipped bit silently.
"""

import contextlib
import logging
import math
import os
import re
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glrnn.errors import DamagedError, UsageError
from glrnn.storage import checkpoint_form
from glrnn.storage.checksums import check_checksums, write_checksums

PyTree = Any

# How Orbax's errors begin that come late or have no class of their own.
UNREADABLE = "Encountered error while reading array index"
LATE = ("Event loop is closed", UNREADABLE)


def to_host(tree: PyTree) -> PyTree:
    """A copy of every array in the host's memory; the arrays may be donated at once.

    Example:
        >>> to_host({"w": jnp.ones(2)})
        {'w': array([1., 1.], dtype=float32)}
    """
    # A copy even on a CPU, where np.asarray is a view of the very buffer that is
    # donated to the next training step while the files are still being written.
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def write(path: Path, trees: Mapping[str, PyTree], about: Mapping[str, Any]) -> None:
    """Writes a checkpoint.

    Args:
        path: A folder that does not exist yet.
        trees: Trees of NumPy arrays, by name.
        about: Whatever else belongs to it, of JSON's types.

    Raises:
        OSError: It cannot be written; what there is of it then is no checkpoint.

    Example:
        >>> import tempfile
        >>> params = {"w": jnp.arange(3.0)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "7")
        ...     write(path, {"params": to_host(params)}, {"loss": 4.5})
        ...     print(read_about(path))
        ...     read(path, "params", params)
        {'loss': 4.5}
        ({'w': Array([0., 1., 2.], dtype=float32)}, {'loss': 4.5})
    """
    ocp = _orbax()
    arrays = {
        item: {name: _describe(leaf) for name, leaf in _leaves(tree)}
        for item, tree in trees.items()
    }
    items = {item: ocp.args.StandardSave(tree) for item, tree in trees.items()}
    items["about"] = ocp.args.JsonSave({**about, "arrays": arrays})
    with (
        _late_callbacks_silenced(),
        ocp.Checkpointer(_handler(trees), **_alone()) as checkpointer,
    ):
        try:
            checkpointer.save(path.absolute(), args=ocp.args.Composite(**items))
        except (ValueError, RuntimeError) as error:
            raise _as_os_error(error) from error
    write_checksums(path)


def _as_os_error(error: Exception) -> OSError:
    """The OSError whose errno Orbax embeds in its message."""
    code = re.search(r"os_error_code='(\d+)'", str(error))
    if code is None:
        return OSError(f"{' '.join(str(error).split()):.300}")
    return OSError(int(code[1]), os.strerror(int(code[1])))


@contextlib.contextmanager
def _late_callbacks_silenced() -> Iterator[None]:
    """Silences what Orbax leaves pending after a failure.

    Callbacks find its event loop closed, and other arrays could not be read either, at
    any time later, so the hook stays after a failure.
    """
    before = sys.unraisablehook

    def hook(unraisable: Any) -> None:
        if not str(unraisable.exc_value).startswith(LATE):
            before(unraisable)

    sys.unraisablehook = hook
    yield
    sys.unraisablehook = before


def read_about(path: Path, largest: float = math.inf) -> dict[str, Any]:
    """What a checkpoint holds beside arrays, once every file has been checked.

    Args:
        path: The checkpoint.
        largest: Its largest size, in bytes.

    Raises:
        DamagedError: A file is missing or not as it was written, or they are larger.
    """
    check_checksums(path, largest)
    about = checkpoint_form.read_about(path)
    del about["arrays"]
    return about


def read(
    path: Path, item: str, like: PyTree, largest: float = math.inf
) -> tuple[PyTree, dict[str, Any]]:
    """One tree of a checkpoint, and `about`, once every file has been checked.

    Args:
        path: The checkpoint.
        item: The name of the tree.
        like: The tree, of arrays or `jax.ShapeDtypeStruct`s. A leaf is restored to the
            sharding it has here, or else to the first device, and is committed to its
            devices if it is here.
        largest: The largest size of the checkpoint, in bytes.

    Returns:
        The tree, bit for bit, and `about`.

    Raises:
        DamagedError: A file is missing or not as it was written, or does not hold what
            it should.
        UsageError: The checkpoint has a different tree than `like`.
    """
    check_checksums(path, largest)
    about = checkpoint_form.read_about(path)
    arrays = about.pop("arrays").get(item)
    if arrays is None:
        raise DamagedError(f"{item} is missing")
    _check_same(f"{item} of {path}", arrays, like)
    checkpoint_form.check_form(path, item, dict(_leaves(like)))
    how = _orbax().args.StandardRestore(jax.tree.map(_like, like))
    restored = _leaves(_restore(path, item, how))
    wanted, structure = jax.tree.flatten(like)
    leaves = []
    while restored:  # each is freed as soon as its copy is made
        name, leaf = restored.pop(0)
        if _describe(np.asarray(leaf)) != arrays[name]:
            # The files are as they were written, but another array was written.
            raise DamagedError(f"{item}/{name} is not what was to be written")
        leaves.append(_committed_as(leaf, wanted[len(leaves)]))
    return jax.tree.unflatten(structure, leaves), about


def _restore(path: Path, item: str, how: Any) -> Any:
    ocp = _orbax()
    composite = ocp.args.Composite(**{item: how})
    try:
        with (
            _late_callbacks_silenced(),
            ocp.Checkpointer(_handler({item}), **_alone()) as checkpointer,
        ):
            return checkpointer.restore(path.absolute(), args=composite)[item]
    except FileNotFoundError as error:
        raise DamagedError(f"{item}: {error}") from error
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{item}: {' '.join(str(error).split()):.300}") from error
    except Exception as error:
        if not str(error).startswith(UNREADABLE):
            raise
        told = " ".join(str(error.__cause__).split())
        if "RESOURCE_EXHAUSTED" in told:
            raise RuntimeError(told) from error
        if "os_error_code" in told:
            reason = _as_os_error(RuntimeError(told)).strerror
            raise UsageError(f"cannot read {path}: {reason}") from error
        raise DamagedError(f"an array in {item} cannot be read: {told:.200}") from error


def _handler(items: Iterable[str]) -> Any:
    ocp = _orbax()
    # A file of its own for every array: Orbax's default, one database for all of them,
    # leaks 20 KB of memory at every save.
    alone = _alone()
    trees = {
        item: ocp.StandardCheckpointHandler(use_ocdbt=False, **alone) for item in items
    }
    trees["about"] = ocp.JsonCheckpointHandler(**alone)
    if alone:
        alone = {"composite_options": ocp.CompositeOptions(**alone)}
    return ocp.CompositeCheckpointHandler(**alone, **trees)


def _alone() -> dict[str, Any]:
    """The options of Orbax by which this process neither waits for others nor tells.

    Of several processes the first one writes what one process would write. Orbax's own
    barriers are collectives: from a thread, they would meet those of training.
    """
    if jax.process_count() == 1:
        return {}
    me = jax.process_index()
    options = _orbax().options.MultiprocessingOptions(me, {me})
    return {"multiprocessing_options": options}


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves with their paths, such as `layers/0/recurrent`."""
    keystr = jax.tree_util.keystr
    return [
        (keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _type(leaf: Any) -> str:
    """For example `float32[3, 4]`."""
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _describe(leaf: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return {"type": _type(leaf), "crc32": zlib.crc32(content.data)}


def _like(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _committed_as(leaf: jax.Array, like: Any) -> jax.Array:
    """The array, committed to its devices only if `like` is.

    Orbax commits whatever it restores, and a function compiled for uncommitted arrays
    would be compiled again for committed ones.
    """
    if getattr(like, "committed", False):
        return leaf
    return jnp.asarray(np.asarray(leaf))


def _check_same(where: str, arrays: Mapping[str, Any], like: PyTree) -> None:
    found = {name: described["type"] for name, described in arrays.items()}
    expected = {name: _type(leaf) for name, leaf in _leaves(like)}
    for name in {**expected, **found}:
        if name not in found:
            difference = f"has no {name}, expected {expected[name]}"
        elif name not in expected:
            difference = f"has {name}, {found[name]}, which was not expected"
        elif found[name] != expected[name]:
            difference = f"{name} is {found[name]}, expected {expected[name]}"
        else:
            continue
        raise UsageError(f"{where}: {difference}; was it written by another version?")


def _orbax() -> Any:
    # Orbax takes most of a second to import, which `--help` should not wait for.
    import orbax.checkpoint as ocp

    # A filter rather than a level, for others log through absl too. It is set once absl
    # has been imported, which has a class of logger of its own.
    logging.getLogger("absl").addFilter(_is_for_the_user)
    return ocp


def _is_for_the_user(record: logging.LogRecord) -> bool:
    # Orbax also logs the errors that it raises, which we report ourselves.
    return "/orbax/" not in record.pathname
