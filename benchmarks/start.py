"""The time from the command to the first update: `python -m benchmarks.start`.

The command is `python -m glrnn.train`, in a process of its own that ends with the
metrics of the first update. It runs with an empty cache of compiled programs, then with
the cache that the first run filled.

    python -m benchmarks.start experiments/ptb_small.py --data DIR
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from benchmarks.results import RESULTS, write

CHILD = """
import os, sys
from glrnn import train
from glrnn.console import progress
progress.Progress.update = lambda *arguments: os._exit(0)
train.main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Command:
    """Time the start of a training run, without and with cached programs.

    Attributes:
        experiment: A file with a `config`.
        data: A folder with train.txt, valid.txt and test.txt, or a corpus by name.
        times: The number of times that each is timed.
        output: A folder for the results.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    data: str
    times: int = 3
    output: Path = RESULTS


def seconds(experiment: Path, data: str, cache: str) -> float:
    """The wall time of a start with a folder of cached programs."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = [str(experiment), "--data", data, "--workdir", f"{folder}/run"]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", CHILD, *arguments],
            env=os.environ | {"XDG_CACHE_HOME": cache},
            stdout=subprocess.DEVNULL,
            check=True,
        )
        return time.perf_counter() - started


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.start", args=arguments)
    cold, warm = [], []
    for _ in range(command.times):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(seconds(command.experiment, command.data, cache))
            warm.append(seconds(command.experiment, command.data, cache))
    result = {
        "experiment": command.experiment.stem,
        "cold_seconds": statistics.median(cold),
        "warm_seconds": statistics.median(warm),
    }
    print(
        f"to the first step of {command.experiment.stem}: "
        f"{result['cold_seconds']:.1f} s, with compiled programs at hand "
        f"{result['warm_seconds']:.1f} s"
    )
    write(command.output, f"start-{command.experiment.stem}", result)


if __name__ == "__main__":
    main()
