"""Opening a run's folder to train: the same run, and by one process at a time."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from glrnn import data
from glrnn.config import Config
from glrnn.config.extension import extends
from glrnn.config.settled import settled
from glrnn.data.windows import columns
from glrnn.errors import UsageError, printable
from glrnn.ground.files import current_folder, kind_of, walk, write_text
from glrnn.ground.machine import machine
from glrnn.ground.validation import differences, to_json
from glrnn.storage.numerics import numerics, require_same
from glrnn.storage.run_folder import (
    Origin,
    Run,
    check_name,
    exists,
    read,
)

# The file that is not written anew under another name, but appended to.
APPENDED_TO = "metrics.jsonl"


def open_run(
    folder: Path,
    config: Config,
    corpus: data.Corpus,
    experiment: str = "",
    matmul_precision: str = "float32",
) -> Run:
    """Makes a run in a new or empty folder, or opens the same run to resume it.

    A run that `config` extends is opened with its own, shorter settings.

    Args:
        folder: The run's folder; made if it does not exist.
        config: What is to be learned.
        corpus: The token streams.
        experiment: The name by which `glrnn.runs` lists the run.
        matmul_precision: The precision of matrix products in training.

    Raises:
        UsageError: The corpus is too short for the batches or is not ids of its
            vocabulary, or the folder holds another run or something else, or cannot be
            written.
    """
    config = _settled(folder, config, corpus)
    origin = _origin(config, corpus, experiment, matmul_precision)
    run = _ready(folder, config, origin)
    if run is not None:
        return run
    write_text(folder / "origin.json", to_json(origin))
    corpus.vocabulary.save(folder / "vocabulary.json")
    write_text(folder / "config.json", to_json(config))  # last: it makes this a run
    return Run(folder, config, corpus.vocabulary, origin)


def _settled(folder: Path, config: Config, corpus: data.Corpus) -> Config:
    """The config with what it leaves to the corpus; a run keeps what it began with."""
    if config.has_cutoffs and not config.cutoffs and exists(folder):
        config = replace(config, cutoffs=read(folder).config.cutoffs)
    return settled(config, corpus)


def _origin(
    config: Config, corpus: data.Corpus, experiment: str, matmul_precision: str
) -> Origin:
    """What a run would begin with; refuses a corpus that does not suit the config."""
    size = len(corpus.vocabulary)
    columns(corpus.train, config.batch_size, "train split", 3, size)
    columns(corpus.valid, config.valid_batch_size, "valid split", vocabulary_size=size)
    columns(corpus.test, config.test_batch_size, "test split", vocabulary_size=size)
    place = corpus.name
    if place not in (*data.CORPORA, data.IN_MEMORY):
        place = os.path.abspath(os.path.join(current_folder(), place))
    return Origin(
        place,
        data.fingerprint(corpus),
        experiment,
        numerics(matmul_precision),
        config,
        corpus.vocabulary.sha256,
        splits_sha256=data.split_fingerprints(corpus),
        machine=machine(),
    )


def _ready(folder: Path, config: Config, origin: Origin) -> Run | None:
    """The run in a folder; `None` in one for a new run, which is made."""
    check_name(folder)
    if not exists(folder):
        _make(folder)
        _check_regular(folder)
        return None
    _check_regular(folder)
    run = read(folder)
    _check_same(run, config, origin)
    return run


def _check_same(run: Run, config: Config, origin: Origin) -> None:
    """Refuses a folder that holds another run."""
    if not extends(config, run.config):
        different = differences(run.config, config)
        raise UsageError(
            f"{run.folder} holds another experiment: {'; '.join(different)}; choose "
            f"another --workdir, or the same settings to resume it (its end alone can "
            f"be extended: epochs of the last stage, a stage or a phase after it), or "
            f"delete {run.folder} if nothing in it is worth keeping"
        )
    if run.origin.sha256 != origin.sha256:
        raise UsageError(
            f"{run.folder} was trained on another corpus, {run.origin.data}; "
            f"{origin.data} does not have the same words, or no longer; choose "
            f"another --workdir"
        )
    if run.vocabulary.sha256 != origin.vocabulary_sha256:
        raise UsageError(
            f"{run.folder / 'vocabulary.json'} has not the words of the corpus, which "
            f"is the one that the run was trained on; undo the change"
        )
    if origin.numerics is not None:
        require_same(run.folder, run.origin.numerics, origin.numerics)


def _check_regular(folder: Path) -> None:
    """Refuses a folder in which writing or deleting would reach something outside."""
    try:
        for entry in walk(folder):
            if kind := kind_of(entry):
                raise UsageError(
                    f"{entry.path} is {kind}; a run is trained only in a folder of "
                    f"regular files and folders, so that nothing else is touched; "
                    f"replace it by what belongs there, or delete it"
                )
            if entry.name == APPENDED_TO and _is_shared(entry):
                raise UsageError(
                    f"{entry.path} is a hard link to a file that has another name too, "
                    f"and would be changed there; replace it by a copy"
                )
    except FileNotFoundError:
        # Another process trains here, and has deleted a checkpoint. Once the lock is
        # held, all is looked at again.
        return
    except OSError as error:
        raise UsageError(
            f"cannot read {error.filename or folder}: {error.strerror}"
        ) from None


def _is_shared(entry: os.DirEntry[str]) -> bool:
    return entry.stat(follow_symlinks=False).st_nlink > 1


def _make(folder: Path) -> None:
    """Makes a folder, or refuses one that holds something else or is in a run."""
    for outer in (*folder.absolute().parents, *folder.resolve().parents):
        if exists(outer) and os.path.lexists(outer / "origin.json"):
            raise UsageError(f"{folder} is inside the run {outer}; choose another")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        names = {path.name for path in folder.iterdir()}
    except OSError as error:
        raise UsageError(f"cannot use {folder}: {error.strerror}") from error
    names -= {"origin.json", "vocabulary.json"}
    others = sorted(name for name in names if not name.startswith("."))
    if others:
        raise UsageError(
            f"{folder} is not empty and holds no run (it has {others[0]}); choose "
            f"another --workdir"
        )


@contextmanager
def open_locked(
    folder: Path,
    config: Config,
    corpus: data.Corpus,
    experiment: str = "",
    matmul_precision: str = "float32",
) -> Iterator[Run]:
    """`open_run`, with the folder locked until the block is left.

    A run whose settings are the beginning of `config` is extended.

    Raises:
        UsageError: As `open_run`, and if another process trains in the folder.
    """
    config = _settled(folder, config, corpus)
    # First without the lock, whose file must not be left in a folder that is refused.
    _ready(folder, config, _origin(config, corpus, experiment, matmul_precision))
    with locked(folder):
        run = open_run(folder, config, corpus, experiment, matmul_precision)
        if run.config != config:
            longer = "; ".join(differences(run.config, config))
            print(printable(f"{folder} is extended: {longer}"), file=sys.stderr)
        if run.config != config or run.origin.extension is not None:
            run = run.extend(config)
        yield run


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Locks a run's folder against other processes that train in it.

    The operating system frees the lock of a process that dies.

    Args:
        folder: The run's folder; it gets an empty file `.lock`, which stays.

    Raises:
        UsageError: Another process trains there, or the folder cannot be written.
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
