"""The checkpoints of one training stage: the newest and the best are kept.

A stage owns one folder, for example `run/phase_1/main`, and a checkpoint in it is named
by the number of windows that the stage had been trained on. What it holds is decided by
`training.checkpoint`: `progress`, a tree of arrays, and a history. A checkpoint at the
end of an epoch also has a validation loss and `params`, the parameters that were
validated: the best of them cross to the next stage or phase.

A checkpoint that is being written or deleted has a name that begins with a dot, so a
folder with a number for a name was completely written, though it may be damaged since.
"""

import itertools
import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from glrnn.errors import DamagedError, UsageError, printable
from glrnn.ground.files import sync_folder
from glrnn.ground.validation import shown
from glrnn.storage import orbax_io
from glrnn.storage.orbax_io import PyTree

# The number of newest checkpoints that are kept beside the best: one more than needed,
# in case one is damaged.
NEWEST = 2

Accept = Callable[[int, PyTree, dict[str, Any]], None]


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr, flush=True)


class CheckpointFolder:
    """The newest checkpoints and the best one of a training stage.

    A context manager. Files are written in the background; the write is over when the
    next save begins, and when the block is left, however it is left.

    Attributes:
        folder: The folder of the checkpoints.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as run:
        ...     params = {"bias": jnp.arange(3.0)}
        ...     with CheckpointFolder(Path(run) / "main") as checkpoints:
        ...         state = {"step": jnp.int32(7)}
        ...         checkpoints.save(7, state, {"lr": 30}, params, 4.2)
        ...         checkpoints.save(9, state, {"lr": 30}, params, 4.7)
        ...         print(checkpoints.newest, checkpoints.best)
        ...         checkpoints.restore_best(params)
        9 7
        ({'bias': Array([0., 1., 2.], dtype=float32)}, {'lr': 30})
    """

    def __init__(
        self,
        folder: Path,
        say: Callable[[str], None] = _tell,
        read_only: bool = False,
        largest: float = math.inf,
    ) -> None:
        """Opens the checkpoints in `folder`, and checks every one.

        Args:
            folder: The stage's own folder; made by the first save. Checkpoints whose
                writing was interrupted are deleted, unless `read_only`.
            say: Called with one line for each damaged checkpoint.
            read_only: Whether nothing at all is written, not even the folder.
            largest: The largest size of a checkpoint, in bytes; a larger one counts as
                damaged, and is not read.

        Raises:
            UsageError: The folder cannot be written, or there are checkpoints and none
                of them is good.
        """
        self.folder = Path(folder)
        self._say = say
        self._read_only = read_only
        self._largest = largest
        self._saving: Future[None] | None = None
        # The losses once the pending save is done.
        self._losses_then: dict[int, float | None] = {}
        self._background = ThreadPoolExecutor(1)
        if not read_only:
            self._clear()
        # The validation loss of every good checkpoint.
        self._losses: dict[int, float | None] = {}
        self._look()

    def __enter__(self) -> "CheckpointFolder":
        return self

    def __exit__(self, *raised: object) -> None:
        self._background.shutdown()
        try:
            self.wait()
        except UsageError as failed:
            if raised == (None, None, None):
                raise
            self._say(str(failed))  # beside the exception that is being raised

    @property
    def newest(self) -> int | None:
        """The number of the newest checkpoint, or None; waits as `wait` does."""
        self.wait()
        return max(self._losses, default=None)

    @property
    def best(self) -> int | None:
        """The number of the best one, or None; the earlier of equals."""
        self.wait()
        return _best(self._losses)

    def path(self, number: int) -> Path:
        """The folder of a checkpoint."""
        return self.folder / str(number)

    def save(
        self,
        number: int,
        progress: PyTree,
        history: Mapping[str, Any],
        params: PyTree | None = None,
        valid_loss: float | None = None,
    ) -> None:
        """Saves a checkpoint, and then deletes those that need not be kept.

        The arrays are copied before this returns, so they may be donated at once;
        the files are written in the background.

        Args:
            number: The number of windows trained on; higher than any saved before.
            progress: Everything that resuming needs.
            history: Anything else, of JSON's types: finite numbers, lists, strings.
            params: At the end of an epoch, the parameters that were validated.
            valid_loss: Their validation loss, in nats per token.

        Raises:
            ValueError: The loss is not finite, or the number is not the highest.
            UsageError: The save before this one failed.
        """
        if valid_loss is not None and not math.isfinite(valid_loss):
            # It would be chosen as the best.
            raise ValueError(
                f"the validation loss is {valid_loss}; not saved in {self.folder}"
            )
        json.dumps(history, allow_nan=False)
        if self.newest is not None and number <= self.newest:
            raise ValueError(f"{number} is not above {self.newest} in {self.folder}")
        losses = {**self._losses, number: valid_loss}
        kept = {*sorted(losses)[-NEWEST:], _best(losses)}
        trees = {"progress": orbax_io.to_host(progress)}
        if params is not None:
            trees["params"] = orbax_io.to_host(params)
        about = {"valid_loss": valid_loss, "history": dict(history)}
        self._losses_then = {n: losses[n] for n in losses if n in kept}
        self._saving = self._background.submit(
            self._save, number, trees, about, losses.keys() - kept
        )

    def wait(self) -> None:
        """Waits until the pending save is on the disk.

        Raises:
            UsageError: It cannot be saved; earlier checkpoints are untouched.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()
            self._losses = self._losses_then

    @property
    def has_failed(self) -> bool:
        """Whether the pending save has failed by now."""
        saving = self._saving
        return saving is not None and saving.done() and saving.exception() is not None

    def check(self) -> None:
        """Raises what `wait` would raise, if the pending save has failed by now."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def restore_newest(
        self, like: PyTree, accept: Accept = lambda *_: None
    ) -> tuple[PyTree, dict[str, Any]]:
        """Restores the newest checkpoint, to resume from.

        Args:
            like: The tree that was saved as `progress`, as `orbax_io.read` has it.
            accept: Called with the number, the progress and the history of a
                checkpoint; raises `DamagedError` if they do not belong together.

        Returns:
            The progress, bit for bit, and the history saved with it.

        Raises:
            UsageError: There is no checkpoint, or none that is good, or it holds a
                different tree than `like`.
        """
        return self._restore("progress", like, lambda: self.newest, accept)

    def restore_best(self, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Restores the parameters with the lowest validation loss, likewise.

        Args:
            like: The tree that was saved as `params`.
        """
        return self._restore("params", like, lambda: self.best)

    def _restore(
        self,
        item: str,
        like: PyTree,
        choose: Callable[[], int | None],
        accept: Accept = lambda *_: None,
    ) -> tuple[PyTree, dict[str, Any]]:
        self.wait()
        damages: dict[int, str] = {}
        while (number := choose()) is not None:
            try:
                tree, about = orbax_io.read(
                    self.path(number), item, like, self._largest
                )
                history = _about(about)[1]
                accept(number, tree, history)
            except DamagedError as error:
                if not self.path(number).exists():
                    # The process that trains here has deleted it, and saved others.
                    self._look()
                    continue
                damages[number] = str(error)
                del self._losses[number]
                continue
            self._report(damages)
            return tree, history
        self._report(damages)
        missing = "" if self.folder.is_dir() else " (there is no such folder)"
        raise UsageError(f"no checkpoint in {self.folder}{missing}")

    def _look(self) -> None:
        """Finds the good checkpoints, and reports the others."""
        damages = {}
        self._losses = {}
        for number in _numbers(self.folder):
            try:
                about = orbax_io.read_about(self.path(number), self._largest)
                self._losses[number] = _about(about)[0]
            except DamagedError as error:
                if self.path(number).exists():
                    damages[number] = str(error)
        self._report(damages)

    def _report(self, damages: Mapping[int, str]) -> None:
        """Reports damaged checkpoints, and sets them aside if there is a good one."""
        if damages and not self._losses:
            told = "; ".join(f"{number}: {why}" for number, why in damages.items())
            raise UsageError(
                f"every checkpoint in {self.folder} is damaged ({told}); delete that "
                f"folder to train the stage anew"
            )
        for number, why in damages.items():
            self._say(f"checkpoint {self.path(number)} is damaged and left out: {why}")
            if not self._read_only:
                _set_aside(self.path(number))

    def _clear(self) -> None:
        """Deletes checkpoints whose writing was interrupted."""
        try:
            for path in self.folder.glob(".unfinished_*/"):
                shutil.rmtree(path)
        except OSError as error:
            raise UsageError(
                f"cannot write {self.folder}: {error.strerror or error}"
            ) from None

    def _save(
        self,
        number: int,
        trees: Mapping[str, PyTree],
        about: Mapping[str, Any],
        discarded: Iterable[int],
    ) -> None:
        path = self.path(number)
        unfinished = path.with_name(f".unfinished_{number}")
        try:
            for parent in (self.folder.parent, self.folder):
                parent.mkdir(exist_ok=True)
                sync_folder(parent.parent)
            orbax_io.write(unfinished, trees, about)
            if path.is_file() or (path.is_dir() and os.listdir(path)):
                _set_aside(path)
            os.replace(unfinished, path)
            sync_folder(self.folder)
        except OSError as error:
            raise UsageError(
                f"cannot save {path}: {error.strerror or error}; what was saved before "
                f"is untouched"
            ) from error
        for old in discarded:
            try:
                # Renamed first: a folder half deleted would seem damaged.
                os.replace(self.path(old), unfinished)
                shutil.rmtree(unfinished)
            except OSError as error:
                raise UsageError(
                    f"cannot delete {self.path(old)}: {error.strerror}; {path} is saved"
                ) from error


def has_checkpoints(folder: Path) -> bool:
    """Whether a stage's folder has any checkpoint, good or damaged.

    Raises:
        UsageError: The folder cannot be read.

    Example:
        >>> has_checkpoints(Path("nowhere"))
        False
    """
    return bool(_numbers(folder))


def _numbers(folder: Path) -> list[int]:
    """The numbers of all that may be checkpoints; files and empty folders are not."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UsageError(f"cannot read {folder}: {error.strerror or error}") from None
    return sorted(
        int(name)
        for name in names
        if name.isascii() and name.isdigit() and str(int(name)) == name
        if _holds_something(folder / name)
    )


def _holds_something(path: Path) -> bool:
    try:
        return any(path.iterdir())
    except (NotADirectoryError, FileNotFoundError):  # deleted by a training process
        return False


def _about(values: Mapping[str, Any]) -> tuple[float | None, dict[str, Any]]:
    """The validation loss and the history, as `CheckpointFolder.save` wrote them."""
    loss, history = values.get("valid_loss"), values.get("history")
    is_number = isinstance(loss, int | float) and not isinstance(loss, bool)
    if not (loss is None or (is_number and 0 <= loss <= sys.float_info.max)):
        raise DamagedError(f"its valid_loss is {shown(loss)}; it must be at least 0")
    if not isinstance(history, dict):
        raise DamagedError(f"its history is {shown(history)}, no JSON object")
    return loss, history


def _best(losses: Mapping[int, float | None]) -> int | None:
    found = [(loss, number) for number, loss in losses.items() if loss is not None]
    return min(found)[1] if found else None


def _set_aside(path: Path) -> None:
    """Renames a folder to NAME.damaged, or NAME.damaged2 and so on if that is taken."""
    suffixes = itertools.chain([""], itertools.count(2))
    names = (f"{path.name}.damaged{suffix}" for suffix in suffixes)
    free = (path.with_name(name) for name in names)
    os.replace(path, next(aside for aside in free if not os.path.lexists(aside)))
