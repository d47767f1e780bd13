"""What a checkpoint holds: all that a stage needs to resume, in an epoch's middle too.

`storage.checkpoint_folder` writes and reads the files, and knows nothing of training.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from glrnn.errors import DamagedError, UsageError
from glrnn.ground.processes import Processes
from glrnn.model import Params
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.training.history import StageHistory, read_histories
from glrnn.training.train_state import TrainState


class Saver(Protocol):
    """A folder of checkpoints, as far as they are saved in it."""

    def save(
        self,
        number: int,
        progress: Any,
        history: dict[str, Any],
        params: Any = None,
        valid_loss: float | None = None,
    ) -> None:
        """Saves one, as `CheckpointFolder.save` does."""
        ...


@dataclass(frozen=True)
class Checkpoint:
    """How far a stage has come.

    Attributes:
        state: The state of training: parameters, optimizer, carry, count of windows.
        history: The history of the stage: its losses, and the epoch it is in.
        earlier: The histories of the phase's stages before it.
    """

    state: TrainState
    history: StageHistory
    earlier: tuple[StageHistory, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """The histories, of JSON's types."""
        return {"stages": [asdict(stage) for stage in (*self.earlier, self.history)]}

    def save(
        self,
        folder: Saver,
        params: Params | None = None,
        valid_loss: float | None = None,
    ) -> None:
        """Saves it in the background, under its count of windows.

        Args:
            folder: The folder of the stage.
            params: At the end of an epoch, the parameters that were validated: averaged
                once averaging has begun. The best of them cross to the next stage.
            valid_loss: Their validation loss, in nats per token.

        Raises:
            UsageError: The save before this one failed.
        """
        count = int(self.state.count)
        folder.save(count, self.state, self.values, params, valid_loss)


def restore_newest(folder: CheckpointFolder, like: TrainState) -> Checkpoint:
    """The newest checkpoint of a stage.

    Args:
        folder: The folder of the stage.
        like: A state of the same shapes, types and placement.

    Raises:
        UsageError: There is no checkpoint, or none that is good, or it holds another
            state than `like`.
    """
    groups = like.opt_state.hyperparams["max_norms"].size

    def accept(number: int, state: TrainState, values: dict[str, Any]) -> None:
        try:
            read_histories(values, groups)
        except UsageError as error:
            raise DamagedError(str(error)) from None
        if int(state.count) != number:
            raise DamagedError(f"it is of {int(state.count)} windows, not {number}")

    state, values = folder.restore_newest(like, accept)
    *earlier, history = read_histories(values, groups)
    return Checkpoint(state, history, tuple(earlier))


def led(
    processes: Processes, find: Callable[[], Checkpoint], like: TrainState
) -> Checkpoint:
    """A checkpoint that the first process finds, in the memory of all of them.

    Args:
        processes: The processes that train the run.
        find: Called by the first one; it calls no collective.
        like: The shapes and types of its state.

    Raises:
        UsageError: At all processes, if it is raised by `find`.
    """
    found: list[Checkpoint] = []

    def values() -> dict[str, Any]:
        found.append(find())
        return found[0].values

    told = processes.lead(values)
    if processes.count == 1:
        return found[0]
    state = processes.share(found.pop().state if found else None, like)
    *earlier, history = read_histories(
        told, like.opt_state.hyperparams["max_norms"].size
    )
    return Checkpoint(state, history, tuple(earlier))
