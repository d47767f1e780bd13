"""Trains a run from its first phase to its last, from Python or a command line."""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from glrnn import data
from glrnn.config import Config
from glrnn.console.corpus import load_corpus
from glrnn.ground import processes
from glrnn.reports.event_file import EventFile
from glrnn.reports.rows import phase_row
from glrnn.scoring.trained import Trained, load
from glrnn.training import context, phases
from glrnn.training.execution import Execution, Runtime


def fit(
    config: Config,
    corpus: str | os.PathLike[str] | data.Corpus,
    workdir: str | os.PathLike[str],
    runtime: Runtime | None = None,
) -> Trained:
    """Trains a model gradually, as `python -m glrnn.train` does.

    What is learned is the same, and so is what is printed and stored. The same call
    resumes a run that was stopped, and only loads a run that has ended. All processes
    that `jax.distributed` has joined train one run, in a folder that they share.

    Args:
        config: What is learned.
        corpus: The name of a corpus, a folder with train.txt, valid.txt and test.txt,
            or a corpus in memory, such as that of `corpus_of_arrays`.
        workdir: The run's folder.
        runtime: How the run is executed, `Runtime()` by default.

    Returns:
        The best model of the last phase.

    Raises:
        UsageError: The corpus or the folder is not usable.
        DivergedError: A loss or gradient is not finite.
        DeviceError: The device computes other numbers than the CPU.
        StoppedError: A signal stopped the run; everything is saved.

    Example:
        >>> import contextlib, io, tempfile
        >>> from glrnn.config import Layer, Phase, Stage
        >>> from glrnn.data.in_memory import corpus_of_arrays
        >>> config = Config(
        ...     embedding_size=4,
        ...     layers=(Layer(hidden_size=4),),
        ...     phases=(Phase(1, main=Stage(epochs=1)),),
        ...     batch_size=2,
        ... )
        >>> rows = [[1, 2, 0] * 100, [2, 1, 0] * 20, [2, 0] * 30]
        >>> corpus = corpus_of_arrays(("<eos>", "a", "b"), *rows)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with contextlib.redirect_stdout(io.StringIO()):
        ...         trained = fit(config, corpus, folder)
        >>> trained.stage
        StageId(phase=1, name='main')
    """
    runtime = runtime or Runtime()
    execution = runtime.execution(config)
    if not isinstance(corpus, data.Corpus):
        named, words = corpus, (config.min_count, config.vocabulary_order)
        corpus = processes.here().each(
            lambda: load_corpus(named, min_count=words[0], order=words[1])
        )
    train(Path(workdir), config, corpus, execution)
    return load(workdir)


def train(
    workdir: Path,
    config: Config,
    corpus: data.Corpus,
    execution: Execution,
    experiment: str = "",
    events: EventFile | None = None,
) -> None:
    """Trains a run, new or to be resumed, and prints the table of its phases.

    Args:
        workdir: The run's folder.
        config: What is to be learned.
        corpus: The token streams.
        execution: How the run is executed.
        experiment: The name by which `glrnn.runs` lists the run.
        events: An event file to write as well.

    Raises:
        UsageError: As `context.opened`; or as `phases.train`, which has more.
    """
    mesh, count = execution.mesh, processes.here().count
    opened = context.opened(workdir, config, corpus, execution, experiment)
    with opened as made, _mirrored(made, events) as run:
        shared = f" on {mesh.size} devices" if mesh is not None else ""
        shared += f" of {count} processes" if count > 1 else ""
        run.progress.say(
            f"{corpus.name}: {len(corpus.train):,} training tokens, "
            f"{len(corpus.vocabulary):,} words; run in {workdir}{shared}"
        )
        run.progress.say(
            f"validation perplexity of word frequencies alone: "
            f"{run.unigram.perplexity:.2f}"
        )
        summaries = phases.train(run)
        run.progress.table([phase_row(summary) for summary in summaries])
        phases.say_warnings(run)


@contextmanager
def _mirrored(
    run: context.Context, events: EventFile | None
) -> Iterator[context.Context]:
    """A run whose epochs are written to an event file too, if there is one."""
    if events is None:
        yield run
        return
    with closing(events):
        processes.here().lead(events.rewrite)
        yield run._replace(mirror=events.write) if processes.here().is_first else run
