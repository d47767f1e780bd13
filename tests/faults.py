"""Faults of a run on disk, and what the run then does: `python tests/faults.py`.

Each fault is caused in a run that was stopped in the middle of an epoch; then the same
command is given again. The run resumes, or says in one line why not; in that case the
fault is repaired and the command given once more. Either way the result must equal that
of an undisturbed run. As a program this writes the table of docs/resuming.md.
"""

import contextlib
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from whole_runs import everything, same

from glrnn import data
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.console.interruption import Interruption
from glrnn.console.progress import Progress
from glrnn.data.vocabulary import Vocabulary
from glrnn.errors import StoppedError, UsageError
from glrnn.storage import opening, run_folder
from glrnn.storage.checksums import SUMS, write_checksums
from glrnn.training.context import new_context
from glrnn.training.execution import Execution
from glrnn.training.phases import train

TABLE = Path(__file__).parents[1] / "docs" / "resuming.md"
BEGIN, END = "<!-- faults -->\n", "<!-- end of faults -->\n"
WORDS = "the cat sat on a mat and saw".split()
# Four windows an epoch.
STAGE = Stage(3, learning_rate=5.0, max_norms=(0.3,))
CONFIG = Config(
    embedding_size=6,
    layers=(Layer(hidden_size=6),),
    phases=(
        Phase(1, Dropout(0.1, 0.1, (), 0.1), STAGE, replace(STAGE, epochs=2)),
    ),
    batch_size=25,
    window_length=3,
    fixed_windows=True,
    valid_batch_size=2,
)  # fmt: skip
# Windows after which the run is stopped, in the second epoch of finetuning.
STOPPED_AFTER = 18


class After(Interruption):
    """Comes when it has been asked so often."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    def has_come(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.signal = signal.SIGTERM
        return self.signal is not None


def small_corpus() -> data.Corpus:
    """Random words."""
    stream = np.random.default_rng(0).integers(0, len(WORDS), 460).astype(np.int32)
    parts = np.split(stream, [300, 380])
    return data.Corpus("tiny", Vocabulary(tuple(WORDS)), *parts, unknown={})


def go_on(
    folder: Path,
    corpus: data.Corpus,
    config: Config = CONFIG,
    interruption: Interruption | None = None,
    **how,
) -> tuple[run_folder.Run, str]:
    """Trains, or trains on; the run and what was said."""
    console = Console(file=io.StringIO(), width=1000)
    with (
        opening.open_locked(folder, config, corpus) as run,
        Progress(console) as progress,
    ):
        execution = Execution(**how)
        train(new_context(run, corpus, progress, execution, interruption))
    return run, console.file.getvalue()


def stop_in_the_middle(folder: Path, corpus: data.Corpus) -> None:
    """Leaves checkpoints 6, the newest, and 5 and 4 of finetuning behind."""
    for asked in (STOPPED_AFTER - 1, 1):
        with contextlib.suppress(StoppedError):
            go_on(folder, corpus, interruption=After(asked))


class Fault(NamedTuple):
    """Something that can happen.

    Attributes:
        name: As the table has it.
        happens: Does it to the folder of a run; leaving the block mends it.
    """

    name: str
    happens: Callable[[Path], contextlib.AbstractContextManager[None]]


FAULTS: list[Fault] = []


def fault(name: str):
    """Enters a generator that does something, yields, and mends it."""

    def enter(happens: Callable[[Path], Iterator[None]]):
        FAULTS.append(Fault(name, contextlib.contextmanager(happens)))
        return happens

    return enter


def finetuning(run: Path) -> Path:
    return run / "phase_1" / "finetune"


def table_file(run: Path) -> Path:
    """Where the newest checkpoint has the embedding's table."""
    (path,) = (finetuning(run) / "6" / "progress").glob("params.embedding.table/0*")
    return path


@fault("a file of the newest checkpoint is missing")
def missing(run):
    table_file(run).unlink()
    yield


@fault("… is truncated")
def cut_short(run):
    path = table_file(run)
    os.truncate(path, path.stat().st_size // 2)
    yield


@fault("… is full of zeros")
def zeroed(run):
    path = table_file(run)
    path.write_bytes(bytes(path.stat().st_size))
    yield


@fault("… has a flipped bit")
def flipped(run):
    path = table_file(run)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    yield


@fault("a whole tree of that checkpoint is missing")
def missing_item(run):
    shutil.rmtree(finetuning(run) / "6" / "progress")
    yield


@fault("the checksums of that checkpoint are missing")
def missing_sums(run):
    (finetuning(run) / "6" / SUMS).unlink()
    yield


@fault("every checkpoint of a stage is damaged")
def all_damaged(run):
    for path in finetuning(run).iterdir():
        (path / SUMS).unlink()
    yield
    shutil.rmtree(finetuning(run))


@contextlib.contextmanager
def edited(path: Path, **fields) -> Iterator[None]:
    """A JSON file with other values of some fields, in the block."""
    before = path.read_text()
    path.write_text(json.dumps(json.loads(before) | fields))
    yield
    path.write_text(before)


@fault("the newest checkpoint holds another history, with right checksums")
def other_history(run):
    checkpoint = finetuning(run) / "6"
    about = checkpoint / "about" / "metadata"
    values = json.loads(about.read_text())
    values["history"]["stages"][1]["tally"]["windows"] = 9
    about.write_text(json.dumps(values))
    write_checksums(checkpoint)
    yield


@fault("… has another number for its name")
def renamed(run):
    os.rename(finetuning(run) / "6", finetuning(run) / "7")
    yield


@fault("`config.json` is edited")
def edited_config(run):
    with edited(run / "config.json", seed=29):
        yield


@fault("`vocabulary.json` is edited")
def edited_vocabulary(run):
    path = run / "vocabulary.json"
    before = path.read_text()
    path.write_text(json.dumps([*WORDS[1:], WORDS[0]]))
    yield
    path.write_text(before)


@fault("a folder of the run is a symbolic link")
def linked_stage(run):
    os.rename(run / "phase_1" / "main", run.with_name("elsewhere"))
    (run / "phase_1" / "main").symlink_to(run.with_name("elsewhere"))
    yield
    (run / "phase_1" / "main").unlink()
    os.rename(run.with_name("elsewhere"), run / "phase_1" / "main")


@fault("the checkpoints of an earlier stage are gone")
def earlier_gone(run):
    os.rename(run / "phase_1" / "main", run / "main")
    yield
    os.rename(run / "main", run / "phase_1" / "main")


@fault("stray files and folders, some named by a number")
def strays(run):
    (finetuning(run) / "9").touch()
    (finetuning(run) / "12").mkdir()
    (finetuning(run) / "notes.txt").touch()
    yield


@fault("a checkpoint half written by a killed process")
def half_written(run):
    shutil.copytree(finetuning(run) / "6", finetuning(run) / ".unfinished_7")
    (finetuning(run) / ".unfinished_7" / SUMS).unlink()
    yield


@fault("a truncated last line of `metrics.jsonl`")
def half_a_line(run):
    with open(run / "metrics.jsonl", "a") as file:
        file.write('{"phase": 1, "sta')
    yield


@fault("a lock left by a killed process")
def dead_lock(run):
    script = (
        "import os\n"
        "from filelock import FileLock\n"
        f"FileLock({str(run / '.lock')!r}).acquire()\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script])
    yield


@fault("another process is training in the folder")
def in_use(run):
    with opening.locked(run):
        yield


@fault("a write that fails")
def failing_write(run):
    # What is larger cannot be written, as the system has it.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


@contextlib.contextmanager
def mounted(run: Path, options: str) -> Iterator[None]:
    """The run on a file system of its own, mounted by these options."""
    aside = run.with_name(f"{run.name}_aside")
    shutil.copytree(run, aside)
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(run)]
    if (
        shutil.which("mount") is None
        or subprocess.run(mount, capture_output=True).returncode
    ):
        raise NotPossibleError("file systems cannot be mounted here")
    try:
        shutil.copytree(aside, run, dirs_exist_ok=True)
        subprocess.run(["mount", "-o", f"remount,{options}", str(run)], check=True)
        yield
    finally:
        shutil.copytree(run, aside, dirs_exist_ok=True)
        subprocess.run(["umount", str(run)], check=True)
        shutil.copytree(aside, run, dirs_exist_ok=True)


class NotPossibleError(Exception):
    """A fault that cannot be made on this system; the message says why."""


@fault("a full disk")
def full_disk(run):
    with mounted(run, "size=8m"):
        with contextlib.suppress(OSError), open(run / "filler", "wb") as file:
            while True:
                file.write(bytes(2**16))
        yield
        (run / "filler").unlink()


@fault("a read-only file system")
def read_only(run):
    with mounted(run, "ro"):
        yield


def outcome(fault: Fault, run: Path, corpus: data.Corpus, whole: list) -> str:
    """What becomes of a stopped run that this happens to, as the table has it.

    Raises:
        AssertionError: if it does not end as the same run.
        NotPossibleError: if this cannot be done to it here.
    """
    told = "resumes"
    with fault.happens(run):
        try:
            _, said = go_on(run, corpus)
        except UsageError as error:
            said, told = "", f"stops: *{error}*"
    if said:
        lines = [line for line in said.splitlines() if "damaged" in line]
        if lines:
            told = f"resumes from the checkpoint before it: *{'; '.join(lines)}*"
    finished, _ = go_on(run, corpus)
    assert same(everything(finished, corpus), whole), f"{fault.name}: another run"
    return told.replace(str(run), "RUN")


def row(fault: Fault, told: str) -> str:
    """A line of the table."""
    return f"| {fault.name} | {told} |\n"


def scene(folder: Path) -> tuple[data.Corpus, list]:
    """A corpus, and what a run that nothing happens to has learned."""
    corpus = small_corpus()
    run, _ = go_on(folder / "whole", corpus)
    stop_in_the_middle(folder / "stopped", corpus)
    return corpus, everything(run, corpus)


def main() -> None:
    """Writes the table."""
    rows = ["| what happens | what a run then does |\n", "|---|---|\n"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, whole = scene(folder)
        for number, fault in enumerate(FAULTS):
            run = folder / str(number)
            shutil.copytree(folder / "stopped", run)
            rows.append(row(fault, outcome(fault, run, corpus, whole)))
    head, rest = TABLE.read_text().split(BEGIN)
    _, tail = rest.split(END)
    TABLE.write_text(head + BEGIN + "".join(rows) + END + tail)


if __name__ == "__main__":
    main()
