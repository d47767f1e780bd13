"""What a checkpoint holds: all that a stage needs to resume, in an epoch's middle too.

`storage.checkpoint_folder` writes and reads the files, and knows nothing of training.
"""

from dataclasses import asdict, dataclass
from typing import Any

from glrnn.errors import DamagedError, UsageError
from glrnn.model import Params
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.training.history import StageHistory, read_histories
from glrnn.training.train_state import TrainState


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

    def save(
        self,
        folder: CheckpointFolder,
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
        stages = [asdict(stage) for stage in (*self.earlier, self.history)]
        count = int(self.state.count)
        folder.save(count, self.state, {"stages": stages}, params, valid_loss)


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
