"""Trains on many tiny windows and watches what piles up: `python tests/soak.py`.

Two phases of two stages, checkpoints all the while. Memory should not grow after the
first epoch of a stage, by when its programs have been compiled; every line of the
metrics must be whole, and only what belongs to a run may be left behind.

    python tests/soak.py --windows 20000
"""

import argparse
import io
import json
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from whole_runs import strays

from glrnn import data
from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.console.compilation import return_memory
from glrnn.console.progress import Progress
from glrnn.data.vocabulary import Vocabulary
from glrnn.storage import opening
from glrnn.training.context import new_context
from glrnn.training.execution import Execution
from glrnn.training.phases import train

WORDS = tuple(f"word{number}" for number in range(50))
EPOCHS = 10
STAGES = 4
CHECKPOINT_MINUTES = 0.005


class Epoch(NamedTuple):
    """Memory at an epoch's end, in MB."""

    where: str
    memory: float


class Watched(Progress):
    """Notes how much memory the process has at the end of every epoch."""

    def __init__(self) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.epochs: list[Epoch] = []

    def end_epoch(self, line: str) -> None:
        super().end_epoch(line)
        self.epochs.append(Epoch(line[:32], resident_memory()))


def resident_memory() -> float:
    """Of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(windows: int, folder: Path) -> list[Epoch]:
    """Trains on so many windows in all.

    Raises:
        AssertionError: if a line of the metrics is not whole, or something is left.
    """
    # Windows of three steps, ten columns.
    rows = 3 * (windows // (EPOCHS * STAGES)) + 1
    stream = np.random.default_rng(0).integers(0, len(WORDS), 10 * rows + 400)
    train_split, valid, test = np.split(stream.astype(np.int32), [-400, -200])
    corpus = data.Corpus(
        "tiny", Vocabulary(WORDS), train_split, valid, test, unknown={}
    )
    stage = Stage(EPOCHS, learning_rate=1.0, max_norms=(0.3,))
    config = Config(
        embedding_size=8,
        layers=(Layer(hidden_size=8),) * 2,
        phases=tuple(
            Phase(depth, Dropout(0.1, 0.1, (0.1,) * (depth - 1)), stage, stage)
            for depth in (1, 2)
        ),
        averaging=Averaging(window=EPOCHS),
        batch_size=10,
        window_length=3,
        fixed_windows=True,
        valid_batch_size=2,
    )
    run = opening.open_run(folder, config, corpus)
    with (
        opening.locked(folder),
        Watched() as progress,
    ):
        execution = Execution(checkpoint_minutes=CHECKPOINT_MINUTES)
        train(new_context(run, corpus, progress, execution))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["updates"] for line in lines) == windows
    left = strays(folder)
    assert not left, left
    return progress.epochs


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=20_000)
    arguments = parser.parse_args()
    return_memory()
    with tempfile.TemporaryDirectory() as folder:
        epochs = soak(arguments.windows, Path(folder))
    for epoch in epochs:
        print(f"{epoch.where:40} {epoch.memory:8.1f} MB")
    for start in range(0, len(epochs), EPOCHS):
        first, *later = (epoch.memory for epoch in epochs[start : start + EPOCHS])
        where = epochs[start].where.split(" · epoch")[0]
        print(f"{where}: {max(later) - first:+.1f} MB after its first epoch")


if __name__ == "__main__":
    main()
