"""The checkpoints of a stage that several processes train: the first one has them."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from glrnn.ground.processes import Processes
from glrnn.storage.checkpoint_folder import CheckpointFolder

PyTree = Any


class LedCheckpoints:
    """A `CheckpointFolder` of the first process, by whose word the others go.

    A context manager. All processes call the same methods in the same order.

    Attributes:
        folder: The folder of the checkpoints.

    Example:
        >>> from glrnn.ground.processes import here
        >>> with LedCheckpoints(
        ...     here(), CheckpointFolder, Path("nowhere")
        ... ) as checkpoints:
        ...     print(checkpoints.newest)
        None
    """

    def __init__(
        self,
        processes: Processes,
        open_folder: Callable[[Path], CheckpointFolder],
        folder: Path,
    ) -> None:
        """Names the checkpoints; the block opens them.

        Args:
            processes: The processes that train the stage.
            open_folder: Opens a folder.
            folder: The folder.
        """
        self.folder = folder
        self._processes = processes
        self._open = open_folder
        self._found: list[CheckpointFolder] = []
        self._blocks = ExitStack()

    def __enter__(self) -> "LedCheckpoints":
        def enter() -> None:
            self._found.append(self._blocks.enter_context(self._open(self.folder)))

        self._processes.lead(enter)
        return self

    def __exit__(self, *raised: Any) -> None:
        try:
            if raised == (None, None, None):
                self.wait()
        finally:
            self._blocks.__exit__(*raised)

    @property
    def own(self) -> CheckpointFolder:
        """The folder of the first process, which alone may ask for it."""
        return self._found[0]

    @property
    def newest(self) -> int | None:
        """The number of the newest checkpoint, or None."""
        return self._processes.lead(lambda: self.own.newest)

    @property
    def has_failed(self) -> bool:
        """Whether the pending save has failed by now, as far as this process knows."""
        return any(folder.has_failed for folder in self._found)

    def save(
        self,
        number: int,
        progress: PyTree,
        history: Mapping[str, Any],
        params: PyTree | None = None,
        valid_loss: float | None = None,
    ) -> None:
        """Saves a checkpoint, as `CheckpointFolder.save` does."""
        progress, params = self._processes.whole((progress, params))
        self._processes.lead(
            lambda: self.own.save(number, progress, history, params, valid_loss)
        )

    def wait(self) -> None:
        """Waits until the pending save is on the disk, or raises why it is not."""
        self._processes.lead(lambda: self.own.wait())

    def check(self) -> None:
        """Raises what `wait` would raise, if the pending save has failed by now."""
        self._processes.lead(lambda: self.own.check())
