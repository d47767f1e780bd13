"""What a run has recorded of its epochs, read back from its `metrics.jsonl`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from glrnn.errors import UsageError
from glrnn.files import parse_json, read_text
from glrnn.storage import run_folder
from glrnn.storage.run_folder import Run
from glrnn.validation import at_least, check, choice, from_values


@dataclass(frozen=True)
class Sign:
    """A sign that the network does not learn, as the metrics keep it.

    Attributes:
        kind: `nothing_learned` or `unstable`.
        text: What a person reads, one line.
    """

    kind: str = field(metadata=choice(("nothing_learned", "unstable")))
    text: str

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Epoch:
    """What is read of a line of `metrics.jsonl`.

    Attributes:
        phase: Its number, from 1.
        stage: `main` or `finetune`.
        epoch: Its number, from 1 in each stage.
        valid_loss: Nats per token.
        warnings: Signs that the network does not learn; runs of earlier commits have
            recorded none.
    """

    phase: int = field(metadata=at_least(1))
    stage: str = field(metadata=choice(run_folder.STAGES))
    epoch: int = field(metadata=at_least(1))
    valid_loss: float = field(metadata=at_least(0))
    warnings: tuple[Sign, ...] = ()

    def __post_init__(self):
        check(self)


FIELDS = {spec.name for spec in fields(Epoch)}


def read_epochs(run: Run) -> list[Epoch]:
    """The epochs in a run's metrics; a last line that was cut short does not count.

    Raises:
        UsageError: if a line is not as a run writes it.
    """
    path = run.folder / "metrics.jsonl"
    if not os.path.lexists(path):
        return []
    epochs = []
    for number, line in enumerate(read_text(path).split("\n")[:-1], 1):
        try:
            record = parse_json(line, "an epoch")
            if isinstance(record, dict):
                record = {key: record[key] for key in record if key in FIELDS}
            epoch = from_values(Epoch, record, "an epoch")
            if epoch.phase > len(run.config.phases):
                raise UsageError(f"there is no phase {epoch.phase} in this run")
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
        epochs.append(epoch)
    return epochs


def lasting_warnings(epochs: Sequence[Epoch]) -> list[str]:
    """The warnings to repeat when a run is listed, or over.

    That nothing has been learned holds until something has, so it counts for the last
    epoch alone; that training was unstable is not undone by what came after.

    Args:
        epochs: Of the run, from `read_epochs`.

    Returns:
        One line a warning, with its epoch.

    Example:
        >>> nothing, unstable = Sign("nothing_learned", "no"), Sign("unstable", "up")
        >>> first = Epoch(1, "main", 1, 6.5, (nothing,))
        >>> lasting_warnings([first])
        ['phase 1 · main · epoch 1: no']
        >>> lasting_warnings([first, Epoch(1, "main", 2, 6.0, (unstable,)), Epoch(1, \
"main", 3, 5.0)])
        ['phase 1 · main · epoch 2: up']
    """
    return [
        f"phase {each.phase} · {each.stage} · epoch {each.epoch}: {sign.text}"
        for each in epochs
        for sign in each.warnings
        if sign.kind == "unstable" or each is epochs[-1]
    ]
