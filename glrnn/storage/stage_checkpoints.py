"""The checkpoints of one training stage: which there are, which are kept.

A stage owns one folder, for example `run/phase_1/main`, and a checkpoint in it is named
by the number of windows that the stage had been trained on. `progress` is everything
needed to train on, in the middle of an epoch too: raw parameters, optimizer state,
carry. At the end of an epoch there is a validation loss and `params`: what would be
evaluated now, averaged once averaging has begun. This crosses to the next phase.

One that is being written or deleted has a name that begins with a dot, so whatever has
a number for a name was whole once.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from glrnn.errors import DamagedError, UsageError
from glrnn.files import sync_folder
from glrnn.storage import orbax_io
from glrnn.storage.orbax_io import PyTree

# How many of the newest are kept, beside the best: one more than are needed as long as
# nothing is damaged.
NEWEST = 2


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class StageCheckpoints:
    """The newest checkpoints and the best one of a training stage.

    A context manager: saving goes on in the background, and is over when the next
    save begins and when the block is left, however it is left.

    Attributes:
        folder: Where the checkpoints are.

    Example:
        >>> import tempfile, jax.numpy as jnp
        >>> with tempfile.TemporaryDirectory() as run:
        ...     params = {"bias": jnp.arange(3.0)}
        ...     with StageCheckpoints(Path(run) / "main") as checkpoints:
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
    ) -> None:
        """Opens the checkpoints in `folder`, and checks every one.

        Args:
            folder: The stage's own folder; made by the first save. Cleared of
                checkpoints whose writing was cut short, unless `read_only`.
            say: Is told of every checkpoint that is damaged and done without.
            read_only: Write nothing at all, not even the folder.

        Raises:
            UsageError: If the folder cannot be written, or if there are checkpoints
                and none of them is good.
        """
        self.folder = Path(folder)
        self._say = say
        self._read_only = read_only
        self._saving: Future[None] | None = None
        # What they are once that is saved.
        self._losses_then: dict[int, float | None] = {}
        self._background = ThreadPoolExecutor(1)
        if not read_only:
            self._clear()
        # Of every good checkpoint, its validation loss.
        self._losses: dict[int, float | None] = {}
        self._look()

    def __enter__(self) -> "StageCheckpoints":
        return self

    def __exit__(self, *raised: object) -> None:
        self._background.shutdown()
        try:
            self.wait()
        except UsageError as failed:
            if raised == (None, None, None):
                raise
            self._say(str(failed))  # beside what has happened already

    @property
    def newest(self) -> int | None:
        """The number of the newest checkpoint, or None; waits as `wait` does."""
        self.wait()
        return max(self._losses, default=None)

    @property
    def best(self) -> int | None:
        """The number of that of the lowest validation loss (the later of equals)."""
        self.wait()
        return _best(self._losses)

    def path(self, number: int) -> Path:
        """Where a checkpoint is."""
        return self.folder / str(number)

    def save(
        self,
        number: int,
        progress: PyTree,
        history: Mapping[str, Any],
        params: PyTree | None = None,
        valid_loss: float | None = None,
    ) -> None:
        """Saves a checkpoint; once it is whole, lets go of what need not be kept.

        The arrays are copied before this returns, so they may be donated at once;
        the files are written in the background.

        Args:
            number: Of windows trained on; higher than any saved before.
            progress: All that training needs to go on.
            history: Whatever else, as JSON has it: finite numbers, lists, strings.
            params: At the end of an epoch, the parameters that were validated.
            valid_loss: Their validation loss, in nats per token.

        Raises:
            ValueError: If the loss is not finite, or the number is not the highest.
            UsageError: If the save before this one failed.
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
        """Waits until what was to be saved is on the disk.

        Raises:
            UsageError: If it cannot be saved; earlier checkpoints are as they were.
        """
        saving, self._saving = self._saving, None
        if saving is not None:
            saving.result()
            self._losses = self._losses_then

    def check(self) -> None:
        """Raises what `wait` would raise, if that is known by now."""
        if self._saving is not None and self._saving.done():
            self.wait()

    def restore_newest(self, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Restores what training needs to go on from the newest checkpoint.

        Args:
            like: The tree that was saved as `progress`, as `orbax_io.read` has it.

        Returns:
            The progress, bit for bit, and the history saved with it.

        Raises:
            UsageError: If there is no checkpoint, or none that is good, or if it holds
                a different tree than `like`.
        """
        return self._restore("progress", like, lambda: self.newest)

    def restore_best(self, like: PyTree) -> tuple[PyTree, dict[str, Any]]:
        """Restores the parameters of the lowest validation loss, likewise.

        Args:
            like: The tree that was saved as `params`.
        """
        return self._restore("params", like, lambda: self.best)

    def _restore(
        self, item: str, like: PyTree, choose: Callable[[], int | None]
    ) -> tuple[PyTree, dict[str, Any]]:
        self.wait()
        damages: dict[int, str] = {}
        while (number := choose()) is not None:
            try:
                tree, about = orbax_io.read(self.path(number), item, like)
            except DamagedError as error:
                if not self.path(number).exists():
                    # The process that trains here has let go of it, and saved others.
                    self._look()
                    continue
                damages[number] = str(error)
                del self._losses[number]
                continue
            self._do_without(damages)
            return tree, about["history"]
        self._do_without(damages)
        missing = "" if self.folder.is_dir() else " (there is no such folder)"
        raise UsageError(f"no checkpoint in {self.folder}{missing}")

    def _look(self) -> None:
        """Finds the good checkpoints, and does without the others."""
        damages = {}
        self._losses = {}
        for number in _numbers(self.folder):
            try:
                about = orbax_io.read_about(self.path(number))
                self._losses[number] = about["valid_loss"]
            except DamagedError as error:
                if self.path(number).exists():
                    damages[number] = str(error)
        self._do_without(damages)

    def _do_without(self, damages: Mapping[int, str]) -> None:
        """Tells of damaged checkpoints, and sets them aside if there is a good one."""
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
        """Takes away what was not finished."""
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
            for parent in (self.folder.parent, self.folder):  # not the run's own
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
                # Out of the way first: a folder half deleted would seem damaged.
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
        if (folder / name).is_dir() and any((folder / name).iterdir())
    )


def _best(losses: Mapping[int, float | None]) -> int | None:
    found = [(loss, -number) for number, loss in losses.items() if loss is not None]
    return -min(found)[1] if found else None


def _set_aside(path: Path) -> None:
    """Renames what is not a checkpoint to NAME.damaged, or that with a number."""
    names = (f"{path.name}.damaged{suffix}" for suffix in ("", *range(2, 1_000)))
    free = (path.with_name(name) for name in names)
    os.replace(path, next(aside for aside in free if not os.path.lexists(aside)))
