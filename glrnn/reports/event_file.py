"""The epochs of a run as an event file, which TensorBoard shows.

The file always has the epochs of `metrics.jsonl`, each once. It is written anew when a
run is opened, and when an epoch comes that it has already: so a run that was resumed
or rewound has no point twice. tensorboardX is imported where the file is written; its
own writer has a thread and a queue, by whose failures training could wait for ever, so
only its encoding is used.
"""

import hashlib
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from glrnn.errors import UsageError
from glrnn.ground.losses import to_perplexity
from glrnn.reports.page import check_outside, is_installed
from glrnn.storage import run_folder
from glrnn.storage.metrics_log import EpochRecord
from glrnn.storage.metrics_scan import scan_epochs
from glrnn.storage.run_folder import STAGES, Run


def check_folder(folder: Path, run: Path | None = None) -> None:
    """Refuses to begin where no event file can be written.

    Args:
        folder: The folder of the event files.
        run: The folder of a run that may be about to be made.

    Raises:
        UsageError: tensorboardX is not installed, or the folder is inside of a run, or
            is a file.
    """
    check_outside(folder, "--tensorboard")
    if run is not None and folder.resolve().is_relative_to(run.resolve()):
        raise UsageError(
            f"--tensorboard {folder} is inside the run {run}; choose another"
        )
    if not is_installed("tensorboardX"):
        raise UsageError(
            "--tensorboard needs tensorboardX, which is not installed: pip install "
            "'glrnn[tensorboard]'"
        )


class EventFile:
    """Writes the event file of a run.

    Attributes:
        folder: The folder that it is in: it has the name of the run's folder.
    """

    def __init__(self, folder: Path, run: Path) -> None:
        """Names the file; nothing is written yet.

        Args:
            folder: The folder of the event files of several runs.
            run: The run's folder.
        """
        self._run = run
        place = os.path.realpath(run)
        self.folder = folder.absolute() / (os.path.basename(place) or "run")
        # Of a folder that two runs share, each replaces its own files.
        self._suffix = f".{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}.glrnn"
        self._writer: Any = None
        self._epochs, self._last = 0, (0, 0, 0)

    def rewrite(self) -> None:
        """Writes all epochs that the run has, in place of what was written before.

        Raises:
            UsageError: The run cannot be read or the file cannot be written.
        """
        run = run_folder.read(self._run)
        try:
            self.close()
            self.folder.mkdir(parents=True, exist_ok=True)
            for old in self.folder.glob(f"events.out.tfevents.*{self._suffix}"):
                old.unlink()
            self._open(run)
            self._writer.flush()
        except OSError as error:
            raise self._refusal(error) from None

    def write(self, record: EpochRecord) -> None:
        """Writes an epoch that has just been added to the run's metrics.

        Raises:
            UsageError: As `rewrite`; nothing more is written after that.
        """
        if self._writer is None:
            return
        if _place(record) <= self._last:
            self.rewrite()
            return
        try:
            self._add(record, time.time())
            self._writer.flush()
        except OSError as error:
            raise self._refusal(error) from None

    def close(self) -> None:
        """Closes the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(OSError):  # each epoch was flushed, or its failure told
                writer.close()

    def _open(self, run: Run) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._writer = EventsWriter(str(self.folder / "events"), self._suffix)
        self._epochs, self._last = 0, (0, 0, 0)
        # What a TensorBoard that is running has read of the earlier file is no more.
        session = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        now = time.time()
        self._writer.write_event(
            event_pb2.Event(wall_time=now, step=1, session_log=session)
        )
        # Epochs have no dates, so they are laid end to end before that of the file.
        left = sum(record.seconds for record in scan_epochs(run, []))
        path = run.folder / "metrics.jsonl"
        end = path.stat().st_mtime if path.exists() else now
        for record in scan_epochs(run, []):
            left -= record.seconds
            self._add(record, end - max(left, 0.0))

    def _add(self, record: EpochRecord, wall_time: float) -> None:
        from tensorboardX.proto import event_pb2, summary_pb2

        self._epochs, self._last = self._epochs + 1, _place(record)
        values = [
            summary_pb2.Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars(record).items()
        ]
        summary = summary_pb2.Summary(value=values)
        self._writer.write_event(
            event_pb2.Event(wall_time=wall_time, step=self._epochs, summary=summary)
        )

    def _refusal(self, error: OSError) -> UsageError:
        self.close()
        return UsageError(
            f"cannot write event files in {self.folder}: {error.strerror or error}"
        )


def _place(record: EpochRecord) -> tuple[int, int, int]:
    """Phase, stage and epoch as numbers, which rise from epoch to epoch."""
    return record.phase, STAGES.index(record.stage), record.epoch


def scalars(record: EpochRecord) -> dict[str, float]:
    """The numbers of an epoch by their names in TensorBoard, those that are finite.

    Example:
        >>> scalars(EpochRecord(phase=2, stage="main", epoch=1, valid_loss=0.0))
        {'perplexity/validation': 1.0, 'phase': 2.0}
    """
    losses = {
        "perplexity/validation": record.valid_loss,
        "perplexity/validation_raw": record.raw_valid_loss,
        "perplexity/training": record.train_loss,
    }
    found: dict[str, float | None] = {
        name: None if loss is None else to_perplexity(loss)
        for name, loss in losses.items()
    }
    found |= {
        "perplexity/word_frequencies": record.unigram_perplexity,
        "learning_rate": record.learning_rate,
        "tokens_per_second": record.tokens_per_second,
        "phase": float(record.phase),
    }
    for kind in ("gradient_norm", "clipped"):
        for group, number in getattr(record, kind).items():
            found[f"{kind}/{group.replace(' ', '_')}"] = number
    return {
        name: number
        for name, number in found.items()
        if number is not None and math.isfinite(number)
    }
