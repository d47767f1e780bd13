"""What a run leaves on disk, apart from its checkpoints.

run/config.json        what is learned, with every default spelled out
run/corpus.json        on what: where the texts were, and their fingerprint
run/vocabulary.json    the words, in the order of their ids
run/metrics.jsonl      one line an epoch
run/phase_1/main/      checkpoints of a stage
run/phase_1/summary.json    the outcome of a finished phase
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from glrnn import data
from glrnn.config import Config, differences, from_json, to_json
from glrnn.errors import UsageError
from glrnn.files import read_text, write_text
from glrnn.windows import columns

STAGES = ("main", "finetune")


class Run(NamedTuple):
    """A run as it stands on disk.

    Attributes:
        folder: Where it is.
        config: What is learned.
        vocabulary: The words of the model's ids.
        data: Where the texts were: a folder, or the name of a corpus.
    """

    folder: Path
    config: Config
    vocabulary: data.Vocabulary
    data: str

    def stage_folder(self, phase: int, stage: str) -> Path:
        """Where the checkpoints of a stage are; phases are numbered from 1."""
        return self.folder / f"phase_{phase}" / stage

    def read_summary(self, phase: int) -> dict[str, Any] | None:
        """The outcome of a phase, or `None` if it is not finished."""
        path = self._summary(phase)
        return json.loads(read_text(path)) if path.exists() else None

    def write_summary(self, phase: int, summary: dict[str, Any]) -> None:
        """Marks a phase as finished."""
        write_text(self._summary(phase), json.dumps(summary, indent=2) + "\n")

    def _summary(self, phase: int) -> Path:
        return self.folder / f"phase_{phase}" / "summary.json"


def start(folder: Path, config: Config, corpus: data.Corpus) -> Run:
    """Begins a run in a new or empty folder, or takes up the one that is there.

    Args:
        folder: Made if it does not exist.
        config: What is to be learned.
        corpus: On what.

    Raises:
        UsageError: if the corpus is too short for the batches, or the folder holds
            another run or something else, or cannot be written.
    """
    columns(corpus.train, config.batch_size, "train split", min_rows=3)
    columns(corpus.valid, config.valid_batch_size, "valid split")
    columns(corpus.test, config.test_batch_size, "test split")
    where = _place(corpus.name)
    identity = {"data": where, "sha256": data.fingerprint(corpus)}
    if (folder / "config.json").exists():
        run = read(folder)
        different = differences(run.config, config)
        if different:
            raise UsageError(
                f"{folder} holds another experiment: {'; '.join(different)}; choose "
                f"another --workdir, or the same settings to go on with it"
            )
        if _read_json(folder / "corpus.json")["sha256"] != identity["sha256"]:
            raise UsageError(
                f"{folder} was trained on another corpus, {run.data}; {where} does not "
                f"have the same words; choose another --workdir"
            )
        return run
    try:
        folder.mkdir(parents=True, exist_ok=True)
        strangers = {path.name for path in folder.iterdir()} - {
            "corpus.json",
            "vocabulary.json",
        }
    except OSError as error:
        raise UsageError(f"cannot use {folder}: {error.strerror}") from error
    if strangers:
        raise UsageError(
            f"{folder} is not empty and holds no run (it has {sorted(strangers)[0]}); "
            f"choose another --workdir"
        )
    write_text(folder / "corpus.json", json.dumps(identity, indent=2) + "\n")
    corpus.vocabulary.save(folder / "vocabulary.json")
    write_text(folder / "config.json", to_json(config))  # last: it makes this a run
    return Run(folder, config, corpus.vocabulary, where)


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
    if not (folder / "config.json").exists():
        raise UsageError(f"no run in {folder}: it has no config.json")
    path = folder / "config.json"
    try:
        config = from_json(read_text(path))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    vocabulary = data.Vocabulary.load(folder / "vocabulary.json")
    return Run(folder, config, vocabulary, _read_json(folder / "corpus.json")["data"])


def _place(name: str) -> str:
    return name if name in data.CORPORA else os.path.abspath(name)


def _read_json(path: Path) -> dict[str, str]:
    text = read_text(path)
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not JSON: {error}") from None
    if not isinstance(values, dict) or not {"data", "sha256"} <= values.keys():
        raise UsageError(f"{path} does not say which data the run was trained on")
    return values
