"""Checkpoints of one training stage: Orbax, and nothing but Orbax.

A stage owns one folder, for example `run/phase_1/main`, with one checkpoint an epoch
of which the newest and the best are kept. A checkpoint has four items:

- `params`: what would be evaluated now, averaged once averaging has begun. This is
  what crosses to the next phase.
- `progress`: everything needed to train on: raw parameters, optimizer state, carry.
- `history`: plain numbers and lists, as JSON.
- `manifest`: shape, dtype and CRC-32 of every array, and the CRC-32 of the history,
  since Orbax restores a wrong shape or a flipped bit without a word.
"""

from __future__ import annotations

import json
import logging
import math
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from glrnn.errors import UsageError

if TYPE_CHECKING:
    from orbax.checkpoint.path import step as step_lib

PyTree = Any


class StageCheckpoints:
    """The newest and the best checkpoint of one training stage.

    A context manager: saving goes on in the background, and is over when the next
    save begins and when the block is left, however it is left.

    Attributes:
        folder: Where the checkpoints are.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as run:
        ...     params = {"bias": jnp.arange(3.0)}
        ...     with StageCheckpoints(Path(run) / "main") as checkpoints:
        ...         checkpoints.save(1, 4.2, params, {"step": jnp.int32(7)}, {"lr": 30})
        ...         checkpoints.save(2, 4.7, params, {"step": jnp.int32(9)}, {"lr": 30})
        ...         print(checkpoints.newest_epoch, checkpoints.best_epoch)
        ...         checkpoints.restore_best(params)
        2 1
        ({'bias': Array([0., 1., 2.], dtype=float32)}, {'lr': 30})
    """

    def __init__(self, folder: Path, read_only: bool = False) -> None:
        """Opens the checkpoints in `folder`.

        Args:
            folder: The stage's own folder. Made if it does not exist, and cleared of
                checkpoints whose writing was cut short, unless `read_only`.
            read_only: Write nothing at all, not even the folder.

        Raises:
            UsageError: If the losses on disk cannot be read.
        """
        # Orbax takes most of a second to import, which `--help` should not wait for.
        import orbax.checkpoint as ocp
        from orbax.checkpoint import checkpoint_managers as managers

        _silence_orbax()
        self.folder = Path(folder)
        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(
            step_name_format=_FinishedSteps(),
            preservation_policy=managers.AnyPreservationPolicy(
                [
                    managers.LatestN(n=1),
                    managers.BestN(
                        n=1,
                        get_metric_fn=_valid_loss,
                        reverse=True,
                        keep_checkpoints_without_metrics=False,
                    ),
                ]
            ),
            # Without these two, a manager opened anew calls the latest the best.
            best_fn=_valid_loss,
            best_mode="min",
            create=not read_only,
            cleanup_tmp_directories=not read_only,
            read_only=read_only,
        )
        try:
            self._manager = ocp.CheckpointManager(
                self.folder.absolute(), options=options
            )
        except json.JSONDecodeError as error:
            raise UsageError(
                f"checkpoints in {self.folder}: damaged on disk: {error}"
            ) from error

    def __enter__(self) -> StageCheckpoints:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._manager.close()

    @property
    def newest_epoch(self) -> int | None:
        """The last epoch saved, or None."""
        return self._manager.latest_step()

    @property
    def best_epoch(self) -> int | None:
        """The epoch of the lowest validation loss (the later of equals), or None."""
        return self._manager.best_step()

    def save(
        self,
        epoch: int,
        valid_loss: float,
        params: PyTree,
        progress: PyTree,
        history: Mapping[str, Any],
    ) -> None:
        """Saves one epoch, and lets go of what is neither newest nor best.

        The arrays are copied before this returns, so they may be donated at once;
        the files are written in the background.

        Args:
            epoch: The epoch that was finished; higher than any saved before.
            valid_loss: Its validation loss, in nats per token.
            params: The parameters that gave this loss.
            progress: All that training needs to go on.
            history: Whatever else, as JSON has it: finite numbers, lists, strings.

        Raises:
            ValueError: If the loss, or a number in `history`, is not finite.
            RuntimeError: If Orbax did not save: the epoch is not the newest, or the
                checkpoints were opened to be read only.
        """
        if not math.isfinite(valid_loss):
            # Orbax would rank it as the best and delete the true best.
            raise ValueError(
                f"validation loss of epoch {epoch} is {valid_loss}; "
                f"not saved in {self.folder}"
            )
        arrays = {"params": _to_host(params), "progress": _to_host(progress)}
        manifest: dict[str, Any] = {
            item: {path: _describe(leaf) for path, leaf in _leaves(tree)}
            for item, tree in arrays.items()
        }
        manifest["history"] = _json_checksum(history)
        args = self._ocp.args
        saved = self._manager.save(
            epoch,
            metrics={"valid_loss": float(valid_loss)},
            args=args.Composite(
                params=args.StandardSave(arrays["params"]),
                progress=args.StandardSave(arrays["progress"]),
                history=args.JsonSave(dict(history)),
                manifest=args.JsonSave(manifest),
            ),
        )
        if not saved:
            raise RuntimeError(
                f"epoch {epoch} was not saved in {self.folder}, "
                f"where the newest epoch is {self.newest_epoch}"
            )

    def restore_best(self, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Restores the parameters of the lowest validation loss.

        Args:
            like: Their tree, of arrays or `jax.ShapeDtypeStruct`s. A leaf is restored
                to the sharding it has here, or else to the first device; it is
                committed to its devices if it is here.

        Returns:
            The parameters, bit for bit, and the history saved with them.

        Raises:
            UsageError: If there is no checkpoint, if it holds a different tree than
                `like`, or if it is damaged.
        """
        return self._restore("params", self.best_epoch, like)

    def restore_newest(self, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Restores what training needs to go on from the newest epoch.

        Args:
            like: As for `restore_best`, the tree that was saved as `progress`.

        Returns:
            The progress, bit for bit, and the history saved with it.

        Raises:
            UsageError: As for `restore_best`.
        """
        return self._restore("progress", self.newest_epoch, like)

    def _restore(
        self, item: str, epoch: int | None, like: PyTree
    ) -> tuple[PyTree, dict[str, Any]]:
        if epoch is None:
            missing = "" if self.folder.is_dir() else " (there is no such folder)"
            raise UsageError(f"no checkpoint in {self.folder}{missing}")
        self._manager.wait_until_finished()
        where = f"{item} of epoch {epoch} in {self.folder}"
        json_args = self._ocp.args.JsonRestore()
        read = self._read(where, epoch, history=json_args, manifest=json_args)
        manifest, history = read["manifest"], read["history"]
        _check_same(where, manifest[item], like)
        abstract = jax.tree.map(_abstract, like)
        args = {item: self._ocp.args.StandardRestore(abstract)}
        restored = self._read(where, epoch, **args)[item]

        found = {path: _describe(np.asarray(leaf)) for path, leaf in _leaves(restored)}
        broken = [path for path in found if found[path] != manifest[item][path]]
        if _json_checksum(history) != manifest["history"]:
            broken.append("history")
        if broken:
            raise UsageError(
                f"{where}: damaged on disk: {', '.join(broken)} "
                "not as written (checksums differ)"
            )
        return jax.tree.map(_as_free_as, restored, like), history

    def _read(self, where: str, epoch: int, **args: Any) -> Mapping[str, Any]:
        try:
            composite = self._ocp.args.Composite(**args)
            return self._manager.restore(epoch, args=composite)
        except (ValueError, KeyError, OSError) as error:
            raise UsageError(f"{where}: damaged on disk: {error}") from error


class _FinishedSteps:
    """Orbax's naming of steps, less the folders that Orbax did not finish writing.

    Orbax takes any folder with a number for a name to be a checkpoint. One it has
    written has a commit time.
    """

    def __init__(self) -> None:
        from orbax.checkpoint.path import step as step_lib

        self._plain = step_lib.standard_name_format()

    def build_name(self, step: int) -> str:
        return self._plain.build_name(step)

    def find_all(self, base_path: Any) -> Iterator[step_lib.Metadata]:
        for found in self._plain.find_all(base_path):
            if found.commit_timestamp_nsecs is not None:
                yield found

    def find_step(self, base_path: Any, step: int) -> step_lib.Metadata:
        return self._plain.find_step(base_path, step)


def _valid_loss(metrics: Mapping[str, float]) -> float:
    return metrics["valid_loss"]


def _leaves(tree: PyTree) -> list[tuple[str, Any]]:
    """The leaves with their paths, such as `layers/0/recurrent`."""
    keystr = jax.tree_util.keystr
    return [
        (keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]


def _to_host(tree: PyTree) -> PyTree:
    # A copy even on a CPU, where np.asarray is a view of the very buffer that is
    # donated to the next training step while the files are still being written.
    return jax.tree.map(lambda leaf: np.array(leaf, copy=True), tree)


def _type(leaf: Any) -> str:
    """For example `float32[3, 4]`."""
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"


def _describe(leaf: np.ndarray) -> dict[str, Any]:
    content = np.ascontiguousarray(leaf).reshape(-1).view(np.uint8)
    return {"type": _type(leaf), "crc32": zlib.crc32(content.data)}


def _json_checksum(history: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(history, sort_keys=True, allow_nan=False).encode())


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None)
    if sharding is None:
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _as_free_as(leaf: jax.Array, like: Any) -> jax.Array:
    """Tied to its devices only if `like` is.

    Orbax ties whatever it restores, and a function compiled for arrays that are free is
    compiled again for arrays that are not.
    """
    if getattr(like, "committed", False):
        return leaf
    return jnp.asarray(np.asarray(leaf))


def _check_same(where: str, manifest: Mapping[str, Any], like: PyTree) -> None:
    expected = {path: _type(leaf) for path, leaf in _leaves(like)}
    for path in expected:
        if path not in manifest:
            raise UsageError(f"{where}: has no {path}, expected {expected[path]}")
        if (found := manifest[path]["type"]) != expected[path]:
            raise UsageError(f"{where}: {path} is {found}, expected {expected[path]}")
    for path in manifest:
        if path not in expected:
            found = manifest[path]["type"]
            raise UsageError(f"{where}: has {path}, {found}, which was not expected")


def _is_for_the_user(record: logging.LogRecord) -> bool:
    if "/orbax/" not in record.pathname:
        return True
    # Of an interrupt the command line tells.
    interrupted = (
        record.exc_info is not None and record.exc_info[0] is KeyboardInterrupt
    )
    return record.levelno >= logging.ERROR and not interrupted


def _silence_orbax() -> None:
    # Others log through absl too, so its level is left alone. Only after absl was
    # imported: it has a class of logger of its own.
    logging.getLogger("absl").addFilter(_is_for_the_user)
