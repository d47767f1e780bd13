"""The folder of a run, and its small files.

run/config.json        the settings, with every default spelled out
run/origin.json        what the run began with: the experiment, where the texts were,
                       fingerprints of texts and words, the settings, those of JAX,
                       the machine and the versions of the libraries
run/vocabulary.json    the words, in the order of their ids
run/metrics.jsonl      one line for each epoch
run/dynamic.json       the rates of dynamic evaluation that were tried (see `tuning`)
run/phase_1/main/      the checkpoints of a stage
run/phase_1/summary.json    the outcome of a finished phase
run/report.html        a page about the run, if `glrnn.report` was told to make one
"""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from glrnn.config import Config
from glrnn.data.vocabulary import Vocabulary
from glrnn.errors import UsageError
from glrnn.ground.files import is_there, parse_json, read_text_of_run, write_text
from glrnn.ground.validation import at_least, check, differences, from_values, to_json
from glrnn.storage.numerics import Numerics
from glrnn.storage.upgrades import upgraded

STAGES = ("main", "finetune")

Settings = TypeVar("Settings")


class StageId(NamedTuple):
    """A stage of a run: the number of its phase, from 1, and its name."""

    phase: int
    name: str


@dataclass(frozen=True)
class Origin:
    """What a run began with.

    Attributes:
        data: The name of a corpus, or the folder where its texts were.
        sha256: The corpus's fingerprint.
        experiment: The experiment's file as it was given; empty for the quickstart.
        numerics: JAX's settings; `None` in runs of version 0.1.0.
        config: The settings. `config.json` has them too, where a person may edit them;
            `None` in runs of version 0.1.0.
        vocabulary_sha256: The vocabulary's SHA-256; empty in runs of version 0.1.0.
        extension: The settings that `config.json` is about to have, while a run is
            being extended.
        splits_sha256: The fingerprint of each split; empty in earlier runs.
        machine: The machine and the versions of the libraries, by name; empty in
            earlier runs.
    """

    data: str
    sha256: str
    experiment: str = ""
    numerics: Numerics | None = None
    config: Config | None = None
    vocabulary_sha256: str = ""
    extension: Config | None = None
    splits_sha256: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Summary:
    """The outcome of a finished phase; losses are in nats per token.

    Attributes:
        phase: The number of the phase, from 1.
        layers: The number of layers.
        parameters: The number of parameters.
        epochs: The number of epochs, of both stages.
        raw_valid_loss: The lowest validation loss of the raw parameters.
        averaged_valid_loss: That of the averaged parameters, if there were any.
        test_loss: The test loss of the best parameters.
        seconds: The time of training and validation.
    """

    phase: int = field(metadata=at_least(1))
    layers: int = field(metadata=at_least(1))
    parameters: int = field(metadata=at_least(1))
    epochs: int = field(metadata=at_least(1))
    raw_valid_loss: float = field(metadata=at_least(0))
    averaged_valid_loss: float | None = field(metadata=at_least(0))
    test_loss: float = field(metadata=at_least(0))
    seconds: float = field(metadata=at_least(0))

    def __post_init__(self):
        check(self)


class Run(NamedTuple):
    """A run on disk.

    Attributes:
        folder: The folder of the run.
        config: The settings.
        vocabulary: The words of the model's ids.
        origin: The experiment and the data.
    """

    folder: Path
    config: Config
    vocabulary: Vocabulary
    origin: Origin

    def stages(self, phase: int) -> list[StageId]:
        """The stages of a phase, numbered from 1, that have any epochs."""
        settings = self.config.phases[phase - 1]
        return [
            StageId(phase, name) for name in STAGES if getattr(settings, name).epochs
        ]

    def stage_folder(self, stage: StageId) -> Path:
        """The folder of a stage's checkpoints."""
        return self.folder / f"phase_{stage.phase}" / stage.name

    def read_summary(self, phase: int) -> Summary | None:
        """The outcome of a phase, or `None` if it is not finished.

        Raises:
            UsageError: The file is damaged.
        """
        path = self._summary(phase)
        if not is_there(path):
            return None
        summary = _read(Summary, path, "a summary")
        if summary.phase != phase:
            raise UsageError(f"{path}: not that of phase {phase} but {summary.phase}")
        return summary

    def extend(self, config: Config) -> "Run":
        """The run with further epochs, stages or phases, on disk too.

        The summary of what was the last phase is deleted, since the phase may have more
        to come; training writes it again. A process that is killed in here leaves
        `Origin.extension`, by which the next one knows that this is to be done again.

        Args:
            config: Settings that extend the run's, by `config.extension.extends`.

        Raises:
            UsageError: A file cannot be written.
        """
        began = self.origin.config or self.config
        words = self.vocabulary.sha256
        origin = replace(self.origin, config=began, vocabulary_sha256=words)
        origin_path, summary = (
            self.folder / "origin.json",
            self._summary(len(began.phases)),
        )
        write_text(origin_path, to_json(replace(origin, extension=config)))
        write_text(self.folder / "config.json", to_json(config))
        try:
            summary.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"cannot delete {summary}: {error.strerror}") from None
        origin = replace(origin, config=config, extension=None)
        write_text(origin_path, to_json(origin))
        return self._replace(config=config, origin=origin)

    def write_summary(self, summary: Summary) -> None:
        """Marks a phase as finished."""
        write_text(self._summary(summary.phase), to_json(summary))

    def _summary(self, phase: int) -> Path:
        return self.folder / f"phase_{phase}" / "summary.json"


def exists(folder: Path) -> bool:
    """Whether a folder holds a run, whole or damaged.

    Raises:
        UsageError: The folder may not be entered.

    Example:
        >>> exists(Path("nowhere"))
        False
    """
    return is_there(folder / "config.json")


def check_name(folder: Path) -> None:
    """Refuses a name that Orbax cannot take.

    Raises:
        UsageError: It is not UTF-8, or has a backslash, here or in a folder above it:
            TensorStore takes it for a slash, and would write elsewhere.

    Example:
        >>> check_name(Path("runs/mine"))
    """
    if "\0" in str(folder):
        raise UsageError(f"the name of {str(folder)!r} has a NUL")
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of {folder!a} is not UTF-8") from None
    if os.sep != "\\" and "\\" in f"{folder.absolute()}{folder.resolve()}":
        raise UsageError(
            f"the path of {folder} has a backslash, which the library of checkpoints "
            f"takes for a slash; choose another"
        )


def read(folder: Path) -> Run:
    """Reads a run.

    Raises:
        UsageError: There is no run, or it is damaged, or its settings or words are not
            those that it began with.

    Example:
        >>> read(Path("nowhere"))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: no run in nowhere: it has no config.json
    """
    check_name(folder)
    if not exists(folder):
        raise UsageError(f"no run in {folder}: it has no config.json")
    run = Run(
        folder,
        _read(Config, folder / "config.json", "a config"),
        Vocabulary.load(folder / "vocabulary.json"),
        _read(Origin, folder / "origin.json", "an origin"),
    )
    _check_unchanged(run)
    return run


def _check_unchanged(run: Run) -> None:
    """Refuses a run whose settings or words were edited after it began."""
    began = run.origin
    if began.config is not None and run.config not in (began.config, began.extension):
        different = differences(began.config, run.config)
        raise UsageError(
            f"{run.folder / 'config.json'} is not what the run began with, which "
            f"origin.json holds: {'; '.join(different)}; undo the change, or choose "
            f"another --workdir to train with other settings"
        )
    words = run.vocabulary.sha256
    if began.vocabulary_sha256 and began.vocabulary_sha256 != words:
        raise UsageError(
            f"{run.folder / 'vocabulary.json'} is not what the run began with: the "
            f"words' SHA-256 is {words:.12}, not {began.vocabulary_sha256:.12} as in "
            f"origin.json; undo the change"
        )


def _read(kind: type[Settings], path: Path, what: str) -> Settings:
    text = read_text_of_run(path)
    try:
        return from_values(kind, upgraded(kind, parse_json(text, what)), what)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
