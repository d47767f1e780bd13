"""Kills a run again and again: `python tests/stress.py`.

A small run is trained once to its end. Then it is trained again in another folder, and
its process is killed by SIGKILL, SIGTERM or SIGINT: at a random moment, while a
checkpoint is being saved, or when a stage or phase has just begun. The same command
then goes on, until it too is at its end, and both must have learned and recorded the
same, bit for bit. If it is there before all kills are made, it is trained once more.

    python tests/stress.py --kills 60 --seed 0
"""

import argparse
import collections
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from whole_runs import everything, same, strays

from glrnn import data
from glrnn.storage import run_folder

WORDS = "the cat sat on a mat and saw <unk>".split()
EXPERIMENT = """
from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage

main = Stage(5, learning_rate=10.0, max_norms=(0.5,))
finetune = Stage(3, learning_rate=5.0, max_norms=(0.5,))
config = Config(
    embedding_size=16,
    layers=(Layer(hidden_size=16),) * 2,
    phases=(
        Phase(1, Dropout(0.1, 0.1, (), 0.1), main, finetune),
        Phase(2, Dropout(0.1, 0.1, (0.1,), 0.1), main, finetune),
    ),
    averaging=Averaging(window=1),
    batch_size=10,
    window_length=10,
    valid_batch_size=2,
)
"""
# Fractions of a minute: several an epoch.
CHECKPOINT_MINUTES = 0.004
# What a process may end with; the first two before it listens to signals.
STATUSES = {
    signal.SIGKILL: {-9},
    signal.SIGTERM: {-15, 143},
    signal.SIGINT: {-2, 130},
}
SIGNALS = tuple(STATUSES)
MOMENTS = ("any time", "in a save", "at a new stage")


def write_texts(folder: Path) -> None:
    """Three texts of random words, and an experiment that suits them."""
    rng = np.random.default_rng(0)
    for split, lines in (("train", 1000), ("valid", 50), ("test", 60)):
        rows = rng.choice(WORDS, (lines, 9))
        (folder / f"{split}.txt").write_text("\n".join(map(" ".join, rows)))
    (folder / "small.py").write_text(EXPERIMENT)


def begin(folder: Path, name: str) -> subprocess.Popen[str]:
    """The process that trains a run, or trains it on."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "glrnn.train", "small.py"),
            *("--data", ".", "--workdir", name),
            *("--checkpoint-minutes", str(CHECKPOINT_MINUTES)),
        ],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def is_saving(run: Path) -> bool:
    """Whether a checkpoint of a run is half written."""
    return any(run.glob("phase_*/*/.unfinished*"))


def stages_begun(run: Path) -> int:
    """How many there are folders of."""
    return len(list(run.glob("phase_*/*/")))


def await_moment(
    process: subprocess.Popen[str], run: Path, moment: str, rng: random.Random
) -> bool:
    """Waits for a moment to kill a process; false if that has ended before."""
    begun = stages_begun(run)
    until = time.monotonic() + rng.uniform(0, 8)
    came = {
        "any time": lambda: time.monotonic() > until,
        "in a save": lambda: time.monotonic() > until and is_saving(run),
        "at a new stage": lambda: stages_begun(run) > begun,
    }[moment]
    while not came():
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    if moment != "any time":
        time.sleep(rng.uniform(0, 0.05))
    return True


def stress(kills: int, seed: int, folder: Path) -> collections.Counter[str]:
    """Makes so many kills; how many of each kind the runs survived.

    Raises:
        AssertionError: if anything is not as it should be.
    """
    rng = random.Random(seed)
    write_texts(folder)
    said, _ = (process := begin(folder, "whole")).communicate()
    assert process.returncode == 0, said
    run = run_folder.read(folder / "whole")
    corpus = data.load(str(folder), run.vocabulary)
    whole = everything(run, corpus)
    survived: collections.Counter[str] = collections.Counter()
    done, rounds = 0, 0
    while done < kills:
        rounds += 1
        name = f"killed_{rounds}"
        while True:
            process = begin(folder, name)
            if done < kills:
                # Every signal at every kind of moment.
                number = SIGNALS[done % 3]
                moment = MOMENTS[(done + done // 3) % 3]
                if await_moment(process, folder / name, moment, rng):
                    saving = is_saving(folder / name)
                    process.send_signal(number)
            said, _ = process.communicate()
            if process.returncode == 0:
                break
            assert process.returncode in STATUSES[number], said
            assert "damaged" not in said, said
            done += 1
            survived["kills"] += 1
            survived[signal.Signals(number).name] += 1
            survived[moment] += 1
            survived["a checkpoint was half written"] += saving
            print(
                f"{done}: {name}, {signal.Signals(number).name}, {moment}", flush=True
            )
        run = run_folder.read(folder / name)
        assert same(everything(run, corpus), whole), f"{name} is another run"
        left = strays(run.folder)
        assert not left, f"{name} has {left}"
    survived["runs"] = rounds
    return survived


def run(
    kill: Callable[[int, int, Path], collections.Counter[str]], about: str, kills: int
) -> None:
    """The command line of a program that kills runs.

    Args:
        kill: Makes so many kills by a seed in a folder; what was survived.
        about: What the program does.
        kills: The number of kills unless another is given.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--kills", type=int, default=kills)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ["JAX_PLATFORMS"] = "cpu"
    with tempfile.TemporaryDirectory() as folder:
        survived = kill(arguments.kills, arguments.seed, Path(folder))
    print(", ".join(f"{what}: {count}" for what, count in survived.items()))


if __name__ == "__main__":
    run(stress, __doc__, kills=60)
    print("all the same, bit for bit")
