"""A whole run in a few minutes: `python -m benchmarks.gpu --parts minutes`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glrnn import data
from glrnn.config import Config, Phase, Stage
from glrnn.console.interruption import Interruption
from glrnn.console.progress import Progress
from glrnn.evaluation.dynamic import DynamicRule, dynamic_perplexity
from glrnn.evaluation.gradient_statistics import gradient_rms
from glrnn.model import Params
from glrnn.reports.rows import phase_row
from glrnn.storage import opening
from glrnn.storage.best_params import best_params
from glrnn.storage.metrics_log import MetricsLog
from glrnn.storage.run_folder import StageId
from glrnn.training import phases
from glrnn.training.context import new_context
from glrnn.training.execution import Execution

# The size of a file of parameters, of which there are several.
FILE_BYTES = 15_000_000


def scaled(config: Config, minutes: float) -> Config:
    """The same experiment with stages of a given total time.

    Args:
        config: An experiment whose stages all end by the clock.
        minutes: The time of all stages together.
    """
    stages = [
        stage for phase in config.phases for stage in (phase.main, phase.finetune)
    ]
    factor = minutes / sum(stage.minutes for stage in stages)

    def shorter(stage: Stage) -> Stage:
        return replace(stage, minutes=factor * stage.minutes)

    def shorten(phase: Phase) -> Phase:
        return replace(
            phase, main=shorter(phase.main), finetune=shorter(phase.finetune)
        )

    return replace(config, phases=tuple(map(shorten, config.phases)))


def train(
    config: Config,
    corpus: data.Corpus,
    workdir: Path,
    output: Path,
    precision: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Trains or resumes a run; then scores the test set by dynamic evaluation.

    Writes the metrics and the best parameters of the last phase, in half precision, to
    the output folder, which stays small.

    Args:
        config: The settings of the run.
        corpus: The text.
        workdir: The run's folder, with its checkpoints.
        output: A folder for the results.
        precision: The precision of matrix products in training.

    Returns:
        A row for each phase, and one for dynamic evaluation.
    """
    run = opening.open_run(workdir, config, corpus)
    interruption = Interruption()
    with Progress() as progress, interruption.awaited():
        execution = Execution(precision=precision, on_nonfinite="skip")
        context = new_context(run, corpus, progress, execution, interruption)
        context = context._replace(metrics=MetricsLog(output / "minutes.jsonl"))
        summaries = phases.train(context)
    for summary in summaries:
        yield phase_row(summary)
    number = len(config.phases)
    params = best_params(run, number)
    export(params, output)
    model, rule = context.model(StageId(number, "main")), DynamicRule()
    rms = gradient_rms(
        model, params, corpus.train, batch_size=rule.statistics_batch_size
    )
    score = dynamic_perplexity(model, params, rms, corpus.test, rule)
    yield {"phase": "dynamic evaluation", "test": score.perplexity}


def export(params: Params, folder: Path) -> list[Path]:
    """Writes parameters in half precision, one after another, into small files.

    Returns:
        The files, `parameters-0.f16` and so on.
    """
    leaves = jax.tree.leaves(jax.device_get(params))
    content = b"".join(leaf.astype("<f2").tobytes() for leaf in leaves)
    paths = []
    for number, start in enumerate(range(0, len(content), FILE_BYTES)):
        paths.append(folder / f"parameters-{number}.f16")
        paths[-1].write_bytes(content[start : start + FILE_BYTES])
    return paths


def load(like: Params, folder: Path) -> Params:
    """Reads what `export` wrote, in single precision.

    Args:
        like: A tree with the shapes of the parameters.
        folder: The folder with the files.

    Raises:
        ValueError: the files have more or fewer numbers than `like`.
    """
    paths = (
        folder / f"parameters-{number}.f16"
        for number in range(len(list(folder.glob("parameters-*.f16"))))
    )
    numbers = np.frombuffer(b"".join(path.read_bytes() for path in paths), "<f2")
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([leaf.size for leaf in leaves])
    if ends[-1] != numbers.size:
        raise ValueError(f"{numbers.size} numbers, where {ends[-1]} were expected")
    parts = np.split(numbers.astype(np.float32), ends[:-1])
    return structure.unflatten(
        part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)
    )
