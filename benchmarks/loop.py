"""The training loop as users run it against its bare step: `python -m benchmarks.loop`.

The loop is a stage of one epoch: padded windows of random lengths, progress, metrics,
validation, a checkpoint and its restoration at the end. It is trained twice, and the
second time counts, when everything is compiled. The bare step is the same step on one
window of the usual length, repeated.

    python -m benchmarks.loop experiments/ptb_small.py --data DIR
"""

import statistics
import tempfile
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
from glrnn.console.progress import Progress
from glrnn.data.windows import Window
from glrnn.storage import run_folder
from glrnn.training import phases, programs, stages
from glrnn.training.context import Job

BARE_STEPS = 50


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
    config: Config, corpus: data.Corpus, what: str, checkpoint_minutes: float = 5.0
) -> float:
    """The wall time of a stage of one epoch, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        run = run_folder.start(path / "run", config, corpus, what)
        with Progress(path / "run" / "metrics.jsonl") as progress:
            job = Job(run, corpus, progress, checkpoint_minutes=checkpoint_minutes)
            params = jax.block_until_ready(phases.first_params(job))
            started = time.perf_counter()
            stages.train_stage(job, lambda: stages.Outcome(params, [], 0))
            return time.perf_counter() - started


def bare_seconds(config: Config, corpus: data.Corpus, what: str) -> float:
    """The median wall time of a step on a window of the usual length."""
    length, columns = config.window_length, config.batch_size
    rows = np.resize(corpus.train, (length + 1, columns)).astype(np.int32)
    window = Window(rows[:-1], rows[1:], np.int32(length))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        run = run_folder.start(path / "run", config, corpus, what)
        with Progress(path / "run" / "metrics.jsonl") as progress:
            job = Job(run, corpus, progress, number=1)
            state, step = programs.begin(job, phases.first_params(job))
            times = []
            for _ in range(BARE_STEPS):
                started = time.perf_counter()
                state, _ = jax.block_until_ready(step(state, window, job.phase_key))
                times.append(time.perf_counter() - started)
    return statistics.median(times)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.loop", args=arguments)
    return_memory()
    config = experiment.load(command.experiment)
    config = one_epoch(config, command.phase or len(config.phases))
    corpus = data.load(command.data)
    what = str(command.experiment)
    loop_seconds(config, corpus, what)
    bare = bare_seconds(config, corpus, what)
    epoch = loop_seconds(config, corpus, what)
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
