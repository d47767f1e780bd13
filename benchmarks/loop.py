"""The training loop as users run it against its bare step: `python -m benchmarks.loop`.

The loop is a stage of one epoch: padded windows of random lengths, progress, metrics,
validation, a checkpoint and its restoration at the end. It is trained twice, and the
second time counts, when everything is compiled. The bare step is the same step on one
window of the usual length, repeated.

    python -m benchmarks.loop experiments/ptb_small.py --data DIR
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import tyro

from benchmarks.results import RESULTS, write
from glrnn import data
from glrnn.config import Config, Stage, experiment
from glrnn.console.compilation import return_memory
from glrnn.data.windows import Window
from glrnn.storage.best_params import best_params
from glrnn.storage.run_folder import StageId
from glrnn.training.context import temporary
from glrnn.training.execution import Execution
from glrnn.training.programs import first_state, program
from glrnn.training.stages import train_stage
from glrnn.training.starting_params import starting_params

BARE_STEPS = 50
STAGE = StageId(1, "main")


@dataclass(frozen=True)
class Command:
    """Time an epoch of training and the bare step.

    Attributes:
        experiment: A file with a `config`.
        data: A folder with train.txt, valid.txt and test.txt, or a corpus by name.
        phase: The number of the phase, from 1; the last one by default.
        output: A folder for the results.
    """

    experiment: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    data: str
    phase: int = 0
    output: Path = RESULTS


def one_epoch(config: Config, number: int) -> Config:
    """The settings of a run of one phase and one epoch, without finetuning."""
    phase = config.phases[number - 1]
    phase = replace(phase, main=replace(phase.main, epochs=1), finetune=Stage(0))
    layers = config.layers[: phase.num_layers]
    return replace(config, layers=layers, phases=(phase,))


def loop_seconds(
    config: Config, corpus: data.Corpus, execution: Execution | None = None
) -> float:
    """Wall time of one stage of one epoch, in a folder that is deleted."""
    with temporary(config, corpus, execution) as context:
        started = time.perf_counter()
        train_stage(context, STAGE)
        best_params(context.run, *STAGE)
        return time.perf_counter() - started


def bare_seconds(config: Config, corpus: data.Corpus) -> float:
    """Median wall time of a step on a window of the usual length."""
    length, columns = config.window_length, config.batch_size
    rows = np.resize(corpus.train, (length + 1, columns)).astype(np.int32)
    window = Window(rows[:-1], rows[1:], np.int32(length))
    with temporary(config, corpus) as context:
        state = first_state(context, STAGE, starting_params(context, STAGE))
        step, key = program(context, STAGE).step, context.phase_key(STAGE)
        times = []
        for _ in range(BARE_STEPS):
            started = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, window, key))
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.loop", args=arguments)
    return_memory()
    config = experiment.load(command.experiment)
    config = one_epoch(config, command.phase or len(config.phases))
    corpus = data.load(
        command.data, min_count=config.min_count, order=config.vocabulary_order
    )
    loop_seconds(config, corpus)
    bare = bare_seconds(config, corpus)
    epoch = loop_seconds(config, corpus)
    bare_speed = config.window_length * config.batch_size / bare
    # The first token of each column is no target.
    tokens = len(corpus.train) // config.batch_size * config.batch_size
    loop_speed = (tokens - config.batch_size) / epoch
    result = {
        "experiment": command.experiment.stem,
        "layers": config.phases[0].num_layers,
        "epoch_seconds": epoch,
        "loop_tokens_per_second": loop_speed,
        "bare_tokens_per_second": bare_speed,
        "fraction": loop_speed / bare_speed,
    }
    print(
        f"bare step {bare_speed:,.0f} tokens/s; an epoch of {epoch:.0f} s with all "
        f"that belongs to it {loop_speed:,.0f} tokens/s: {loop_speed / bare_speed:.0%}"
    )
    write(command.output, f"loop-{command.experiment.stem}", result)


if __name__ == "__main__":
    main()
