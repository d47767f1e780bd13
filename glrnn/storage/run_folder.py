"""The folder of a run on disk, apart from its checkpoints.

run/config.json        the settings, with every default spelled out
run/origin.json        the experiment, the place of the texts and their fingerprint
run/vocabulary.json    the words, in the order of their ids
run/metrics.jsonl      one line for each epoch
run/dynamic.json       the rates of dynamic evaluation that were tried (see `tuning`)
run/phase_1/main/      the checkpoints of a stage
run/phase_1/summary.json    the outcome of a finished phase
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock, Timeout

from glrnn import data
from glrnn.config import Config
from glrnn.data.vocabulary import Vocabulary
from glrnn.data.windows import columns
from glrnn.errors import UsageError
from glrnn.files import parse_json, read_text, write_text
from glrnn.validation import at_least, check, differences, from_values, to_json

STAGES = ("main", "finetune")
# Former fields of `Config`, and the fields of `Averaging` that they have become.
FORMER = {"trigger": "trigger", "nonmonotonic": "window", "averaging_latest": "latest"}

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Origin:
    """The experiment and the corpus of a run.

    Attributes:
        data: The name of a corpus, or the folder of its texts.
        sha256: The fingerprint of the corpus.
        experiment: The experiment as it was given; empty for the quickstart.
    """

    data: str
    sha256: str
    experiment: str = ""

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Summary:
    """The outcome of a finished phase; losses are in nats per token.

    Attributes:
        phase: The number of the phase, from 1.
        layers: The number of layers of the network.
        parameters: The number of parameters, counted as single numbers.
        epochs: The number of epochs of both stages.
        raw_valid_loss: The lowest validation loss of the raw parameters.
        averaged_valid_loss: The lowest validation loss of the averages, if there were
            any.
        test_loss: The test loss of the best parameters.
        seconds: The time of training and validation.
        metrics_offset: The number of bytes of metrics.jsonl at the end of the phase.
    """

    phase: int = field(metadata=at_least(1))
    layers: int = field(metadata=at_least(1))
    parameters: int = field(metadata=at_least(1))
    epochs: int = field(metadata=at_least(1))
    raw_valid_loss: float = field(metadata=at_least(0))
    averaged_valid_loss: float | None = field(metadata=at_least(0))
    test_loss: float = field(metadata=at_least(0))
    seconds: float = field(metadata=at_least(0))
    metrics_offset: int = field(metadata=at_least(0))

    def __post_init__(self):
        check(self)


class Run(NamedTuple):
    """A run on disk.

    Attributes:
        folder: The run's folder.
        config: The settings.
        vocabulary: The words of the model's ids.
        origin: The experiment and the corpus.
    """

    folder: Path
    config: Config
    vocabulary: Vocabulary
    origin: Origin

    def stage_folder(self, phase: int, stage: str) -> Path:
        """The folder of a stage's checkpoints; phases are numbered from 1."""
        return self.folder / f"phase_{phase}" / stage

    def read_summary(self, phase: int) -> Summary | None:
        """The outcome of a phase, or `None` if it is not finished.

        Raises:
            UsageError: if the file is damaged.
        """
        path = self._summary(phase)
        if not os.path.lexists(path):
            return None
        summary = _read(Summary, path, "a summary")
        if summary.phase != phase:
            raise UsageError(f"{path}: not that of phase {phase} but {summary.phase}")
        return summary

    def write_summary(self, summary: Summary) -> None:
        """Marks a phase as finished."""
        write_text(self._summary(summary.phase), to_json(summary))

    def _summary(self, phase: int) -> Path:
        return self.folder / f"phase_{phase}" / "summary.json"


def start(
    folder: Path, config: Config, corpus: data.Corpus, experiment: str = ""
) -> Run:
    """Begins a run in a new or empty folder, or resumes the run that is in it.

    Args:
        folder: The run's folder; made if it does not exist.
        config: The settings.
        corpus: The corpus to train on.
        experiment: The name by which `glrnn.runs` lists the run.

    Raises:
        UsageError: if the corpus is too short for the batches, the folder holds another
            run or anything else, or it cannot be written.
    """
    columns(corpus.train, config.batch_size, "train split", min_rows=3)
    columns(corpus.valid, config.valid_batch_size, "valid split")
    columns(corpus.test, config.test_batch_size, "test split")
    origin = Origin(_place(corpus.name), data.fingerprint(corpus), experiment)
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of {folder!a} is not UTF-8") from None
    if exists(folder):
        run = read(folder)
        different = differences(run.config, config)
        if different:
            raise UsageError(
                f"{folder} holds another experiment: {'; '.join(different)}; choose "
                f"another --workdir, or the same settings to resume it, or delete "
                f"{folder} if nothing in it is worth keeping"
            )
        if run.origin.sha256 != origin.sha256:
            raise UsageError(
                f"{folder} was trained on another corpus, {run.origin.data}; "
                f"{origin.data} does not have the same words, or no longer; choose "
                f"another --workdir"
            )
        return run
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = {
            path.name for path in folder.iterdir() if not path.name.startswith(".")
        }
        strangers -= {"origin.json", "vocabulary.json"}
    except OSError as error:
        raise UsageError(f"cannot use {folder}: {error.strerror}") from error
    if strangers:
        raise UsageError(
            f"{folder} is not empty and holds no run (it has {sorted(strangers)[0]}); "
            f"choose another --workdir"
        )
    write_text(folder / "origin.json", to_json(origin))
    corpus.vocabulary.save(folder / "vocabulary.json")
    write_text(folder / "config.json", to_json(config))  # last: it makes this a run
    return Run(folder, config, corpus.vocabulary, origin)


@contextmanager
def taken_up(
    folder: Path, config: Config, corpus: data.Corpus, experiment: str = ""
) -> Iterator[Run]:
    """As `start`, with the folder locked against other training processes.

    Raises:
        UsageError: as `start`, and if another process trains in the folder.
    """
    start(folder, config, corpus, experiment)
    with written_by_this_process_alone(folder):
        # Again, since another process may have begun another run there in between.
        yield start(folder, config, corpus, experiment)


@contextmanager
def written_by_this_process_alone(folder: Path) -> Iterator[None]:
    """Locks a run's folder against other processes that train in it.

    The system releases the lock of a process that has died.

    Args:
        folder: The run's folder; it gets an empty file `.lock`, which stays.

    Raises:
        UsageError: if another process trains in the folder, or it cannot be written.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(
            f"{folder} is in use: another process is training there; wait for it, stop "
            f"it, or choose another --workdir"
        ) from None
    except OSError as error:
        raise UsageError(f"cannot write {folder}: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()


def exists(folder: Path) -> bool:
    """Whether a folder holds a run, whole or damaged.

    Example:
        >>> exists(Path("nowhere"))
        False
    """
    return os.path.lexists(folder / "config.json")


def read(folder: Path) -> Run:
    """Reads a run.

    Raises:
        UsageError: if there is none, or it is damaged.

    Example:
        >>> read(Path("nowhere"))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: no run in nowhere: it has no config.json
    """
    if not exists(folder):
        raise UsageError(f"no run in {folder}: it has no config.json")
    return Run(
        folder,
        _read(Config, folder / "config.json", "a config", upgraded),
        Vocabulary.load(folder / "vocabulary.json"),
        _read(Origin, folder / "origin.json", "an origin"),
    )


def upgraded(values: Any) -> Any:
    """Renames the fields of a `config.json` of an earlier version to today's.

    The three fields of `Config.averaging` used to be fields of `Config` itself:
    `trigger`, `nonmonotonic` and `averaging_latest`.

    Args:
        values: The values that the file was parsed to.

    Example:
        >>> upgraded({"nonmonotonic": 3, "seed": 1})
        {'seed': 1, 'averaging': {'window': 3}}
    """
    if not isinstance(values, dict) or "averaging" in values:
        return values
    averaging = {new: values[old] for old, new in FORMER.items() if old in values}
    others = {name: value for name, value in values.items() if name not in FORMER}
    return {**others, "averaging": averaging} if averaging else values


def _place(name: str) -> str:
    return name if name in data.CORPORA else os.path.abspath(name)


def _read(
    kind: type[Settings],
    path: Path,
    what: str,
    upgrade: Callable[[Any], Any] = lambda values: values,
) -> Settings:
    text = read_text(path)
    try:
        return from_values(kind, upgrade(parse_json(text, what)), what)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
