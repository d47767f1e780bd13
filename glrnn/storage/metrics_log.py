"""The metrics of a run: `metrics.jsonl`, one JSON object for each epoch."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from glrnn.errors import UsageError
from glrnn.ground.files import (
    LARGE,
    append_regular,
    parse_json,
    read_regular,
    read_text_of_run,
)
from glrnn.ground.validation import at_least, check, choice, from_values
from glrnn.storage.run_folder import STAGES, Run, StageId


@dataclass(frozen=True)
class Sign:
    """A sign that the network does not learn.

    Attributes:
        kind: `nothing_learned` or `unstable`.
        text: One line for a person to read.
    """

    kind: str = field(metadata=choice(("nothing_learned", "unstable")))
    text: str

    def __post_init__(self):
        check(self)


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """One line of `metrics.jsonl`. A number that was not finite is `None`.

    Attributes:
        phase: The number of the phase, from 1.
        stage: `main` or `finetune`.
        epoch: The number of the epoch, from 1 in each stage.
        updates: The number of updates made.
        skipped: The number of windows skipped, whose loss or gradient was not finite.
        tokens: The number of tokens trained on.
        train_loss: The mean over these tokens, with dropout, in nats per token.
        train_perplexity: Its exponential.
        tokens_per_second: The speed of training, validation excluded.
        gradient_norm: The mean norm of each group's gradient, before clipping.
        clipped: The fraction of updates in which each group was clipped.
        learning_rate: The rate of the epoch, for a window of the usual length.
        valid_loss: Nats per token on the validation set: of the averaged parameters
            once averaging has begun, else of the raw ones.
        valid_perplexity: Its exponential.
        raw_valid_loss: Nats per token of the raw parameters.
        unigram_perplexity: The perplexity of word frequencies alone.
        averaging: Whether parameters were averaged during the epoch.
        triggered: Whether averaging begins after the epoch.
        seconds: The time of training and validation.
        warnings: Signs that the network does not learn.
    """

    phase: int = field(metadata=at_least(1))
    stage: str = field(metadata=choice(STAGES))
    epoch: int = field(metadata=at_least(1))
    updates: int = 0
    skipped: int = 0
    tokens: int = 0
    train_loss: float | None = None
    train_perplexity: float | None = None
    tokens_per_second: float | None = None
    gradient_norm: dict[str, float] = field(default_factory=dict)
    clipped: dict[str, float] = field(default_factory=dict)
    learning_rate: float | None = None
    valid_loss: float = field(metadata=at_least(0))
    valid_perplexity: float | None = None
    raw_valid_loss: float | None = None
    unigram_perplexity: float | None = None
    averaging: bool = False
    triggered: bool = False
    seconds: float = 0.0
    warnings: tuple[Sign, ...] = ()


def _place(stage: StageId, epoch: int) -> tuple[int, int, int]:
    """Phase, stage and epoch as numbers, which rise from line to line."""
    return stage.phase, STAGES.index(stage.name), epoch


class MetricsLog:
    """Writes `metrics.jsonl`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as run:
        ...     path = Path(run) / "metrics.jsonl"
        ...     log = MetricsLog(path)
        ...     for epoch in (1, 2):
        ...         record = EpochRecord(
        ...             phase=1, stage="main", epoch=epoch, valid_loss=4.5
        ...         )
        ...         log.append(record)
        ...     log.truncate_after(StageId(1, "main"), epoch=1)
        ...     len(path.read_text().splitlines())
        True
        1
    """

    def __init__(self, path: Path) -> None:
        """Names the log; the first method called opens it.

        Args:
            path: The file; made if it does not exist. A last line that was cut short is
                dropped before anything else is written.
        """
        self._path = Path(path)
        self._is_whole = False

    def append(self, record: EpochRecord) -> None:
        """Adds one line, and sees it onto the disk.

        Args:
            record: The epoch. A number that is not finite, for which JSON has no word,
                becomes null.

        Raises:
            UsageError: The file cannot be written.
        """
        line = json.dumps(_strict(asdict(record)), ensure_ascii=False, allow_nan=False)
        if not self._is_whole:
            self._cut(len(self._whole_lines()))
        try:
            with append_regular(self._path) as file:
                file.write(f"{line}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._refusal(error) from None

    def truncate_after(self, stage: StageId, epoch: int) -> bool:
        """Drops the lines of all later epochs, which are going to be trained again.

        Args:
            stage: The stage that is resumed.
            epoch: Its last epoch that counts; 0 for none.

        Returns:
            Whether the line of that epoch is there; true for epoch 0.

        Raises:
            UsageError: The file cannot be written.
        """
        last = _place(stage, epoch)
        kept, found = 0, epoch == 0
        for line in self._whole_lines().splitlines(keepends=True):
            place = _place_in(line)
            if place is not None and place > last:
                break
            found = found or place == last
            kept += len(line)
        self._cut(kept)
        return found

    def _whole_lines(self) -> bytes:
        """The content, but for a last line that was cut short."""
        try:
            content = read_regular(self._path, LARGE)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise self._refusal(error) from None
        return content[: content.rfind(b"\n") + 1]

    def _cut(self, size: int) -> None:
        """Makes the file so long, or makes it."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with append_regular(self._path) as file:
                file.truncate(size)
        except OSError as error:
            raise self._refusal(error) from None
        self._is_whole = True

    def _refusal(self, error: OSError) -> UsageError:
        return UsageError(f"cannot write {self._path}: {error.strerror}")


def _place_in(line: bytes) -> tuple[int, int, int] | None:
    """The place of a line, or `None` if the line is damaged."""
    try:
        record = json.loads(line)
        stage = StageId(int(record["phase"]), record["stage"])
        return _place(stage, int(record["epoch"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _strict(value: Any) -> Any:
    """`value` in JSON's own types, without the NaN and Infinity that JSON lacks."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


FIELDS = {spec.name for spec in fields(EpochRecord)}


def _record(line: str) -> EpochRecord:
    record = parse_json(line, "an epoch")
    if isinstance(record, dict):
        record = {key: record[key] for key in record if key in FIELDS}
    epoch = from_values(EpochRecord, record, "an epoch")
    check(epoch)  # here and not as it is made: an epoch that was trained is written
    return epoch


def read_epochs(run: Run) -> list[EpochRecord]:
    """The epochs in a run's metrics; a last line that was cut short does not count.

    Fields that a line lacks, having been written by an earlier version, take their
    defaults; fields that are unknown are ignored.

    Raises:
        UsageError: A line is not one that a run writes.
    """
    path = run.folder / "metrics.jsonl"
    if not os.path.lexists(path):
        return []
    epochs = []
    lines = read_text_of_run(path, LARGE).split("\n")
    for number, line in enumerate(lines[:-1], 1):
        try:
            epoch = _record(line)
            if epoch.phase > len(run.config.phases):
                raise UsageError(f"there is no phase {epoch.phase} in this run")
        except UsageError as error:
            raise UsageError(f"{path}, line {number}: {error}") from None
        epochs.append(epoch)
    return epochs


def lasting_warnings(epochs: Sequence[EpochRecord]) -> list[str]:
    """The warnings to repeat when a run is listed, and at its end.

    That nothing has been learned holds until something has, so it counts for the last
    epoch alone; that training was unstable stays true.

    Args:
        epochs: The epochs of the run, from `read_epochs`.

    Returns:
        One line for each warning, with its epoch.

    Example:
        >>> nothing, unstable = Sign("nothing_learned", "no"), Sign("unstable", "up")
        >>> def epoch(number, *signs):
        ...     return EpochRecord(
        ...         phase=1, stage="main", epoch=number, valid_loss=6.0, warnings=signs
        ...     )
        >>> lasting_warnings([epoch(1, nothing)])
        ['phase 1 · main · epoch 1: no']
        >>> lasting_warnings([epoch(1, nothing), epoch(2, unstable), epoch(3)])
        ['phase 1 · main · epoch 2: up']
    """
    return [
        f"phase {each.phase} · {each.stage} · epoch {each.epoch}: {sign.text}"
        for each in epochs
        for sign in each.warnings
        if sign.kind == "unstable" or each is epochs[-1]
    ]
