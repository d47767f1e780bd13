"""The cost of checkpoints within an epoch: `python -m benchmarks.saving`.

A stage of one epoch is trained with checkpoints every few seconds and without any, in
turn. The cost of a checkpoint is a wait for the device, a copy, and the work of the
thread that writes and checks the files. It is reported as a fraction of the five
minutes between two checkpoints by default.

    python -m benchmarks.saving experiments/ptb_small.py --data DIR
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated
from unittest import mock

import tyro

from benchmarks.loop import loop_seconds, one_epoch
from benchmarks.results import RESULTS, write
from glrnn import data
from glrnn.config import experiment
from glrnn.console.compilation import return_memory
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.training.execution import Execution

DEFAULT_SECONDS = 60 * Execution().checkpoint_minutes


@dataclass(frozen=True)
class Command:
    """Time training with checkpoints within an epoch and without.

    Attributes:
        experiment: A file with a `config`.
        data: A folder with train.txt, valid.txt and test.txt, or a corpus by name.
        phase: The number of the phase, from 1; the last one by default.
        updates: The number of updates in the epoch.
        seconds: The time between two checkpoints.
        pairs: The number of times that each is timed.
        output: A folder for the results.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    data: str
    phase: int = 0
    updates: int = 400
    seconds: float = 2.0
    pairs: int = 5
    output: Path = RESULTS


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.saving", args=arguments)
    return_memory()
    config = experiment.load(command.experiment)
    config = one_epoch(config, command.phase or len(config.phases))
    config = replace(config, updates_per_epoch=command.updates)
    corpus = data.load(
        command.data, min_count=config.min_count, order=config.vocabulary_order
    )
    loop_seconds(config, corpus)
    never = Execution(checkpoint_minutes=0)
    often = Execution(checkpoint_minutes=command.seconds / 60)
    costs, plain = [], []
    for _ in range(command.pairs):
        without = loop_seconds(config, corpus, never)
        with mock.patch.object(
            CheckpointFolder, "save", autospec=True, side_effect=CheckpointFolder.save
        ) as save:
            with_them = loop_seconds(config, corpus, often)
        # Both save one checkpoint at the end.
        count = save.call_count - 1
        costs.append((with_them - without) / count)
        plain.append(without)
        print(
            f"{without:.2f} s without, {with_them:.2f} s with {count} checkpoints: "
            f"{costs[-1]:.3f} s each",
            flush=True,
        )
    cost = statistics.median(costs)
    print(
        f"a checkpoint costs {cost:.3f} s, every {DEFAULT_SECONDS:.0f} s "
        f"{cost / DEFAULT_SECONDS:.2%} of the time"
    )
    result = {
        "experiment": command.experiment.stem,
        "seconds_a_checkpoint": cost,
        "all": costs,
        "epoch_seconds": plain,
        "fraction": cost / DEFAULT_SECONDS,
    }
    write(command.output, f"saving-{command.experiment.stem}", result)


if __name__ == "__main__":
    main()
