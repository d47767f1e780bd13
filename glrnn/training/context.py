"""The context of a training run: one value that the functions of training share."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import jax

from glrnn import data
from glrnn.config import Config, Phase, Stage
from glrnn.config.settled import settled
from glrnn.console.interruption import Interruption
from glrnn.console.progress import Progress
from glrnn.errors import StoppedError, UsageError
from glrnn.evaluation.perplexity import Score, unigram_score
from glrnn.ground import processes
from glrnn.ground.devices import PRECISIONS
from glrnn.ground.processes import Processes
from glrnn.ground.validation import from_values, to_json
from glrnn.model import Model, language_model
from glrnn.storage import opening
from glrnn.storage.metrics_log import EpochRecord, MetricsLog
from glrnn.storage.numerics import unusual
from glrnn.storage.run_folder import STAGES, Origin, Run, StageId
from glrnn.training.execution import Execution


class Context(NamedTuple):
    """What the functions of a training run share; `new_context` makes it.

    Attributes:
        run: The run on disk.
        corpus: The token streams.
        progress: The display.
        metrics: The run's `metrics.jsonl`.
        interruption: Whether the run has been told to stop.
        execution: How the run is executed.
        unigram: The score of word frequencies alone on the validation set.
        mirror: Takes each epoch that the run's metrics have got, once it is saved, to
            show it elsewhere; it may refuse with a UsageError, which stops nothing.
        processes: The processes that train the run.
    """

    run: Run
    corpus: data.Corpus
    progress: Progress
    metrics: MetricsLog
    interruption: Interruption
    execution: Execution
    unigram: Score
    mirror: Callable[[EpochRecord], None] = lambda record: None
    processes: Processes = Processes()

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.run.config

    def phase(self, stage: StageId) -> Phase:
        """The settings of a stage's phase."""
        return self.config.phases[stage.phase - 1]

    def stage(self, stage: StageId) -> Stage:
        """The settings of a stage."""
        return getattr(self.phase(stage), stage.name)

    def model(self, stage: StageId) -> Model:
        """The network of a stage's phase."""
        num_layers = self.phase(stage).num_layers
        return language_model(self.config, len(self.corpus.vocabulary), num_layers)

    def phase_key(self, stage: StageId) -> jax.Array:
        """The random key of a stage's phase."""
        return jax.random.fold_in(jax.random.key(self.config.seed), stage.phase)

    def stage_key(self, stage: StageId, rewinds: int = 0) -> jax.Array:
        """The random key of a stage, another one each time that it is rewound."""
        key = jax.random.fold_in(self.phase_key(stage), STAGES.index(stage.name))
        return jax.random.fold_in(key, rewinds) if rewinds else key

    def show_elsewhere(self, record: EpochRecord) -> None:
        """Hands an epoch to the mirror, whose failure is only told."""
        try:
            self.mirror(record)
        except UsageError as error:
            self.progress.say(f"warning: {error}; the run goes on without them")

    def stop_if_told(self, where: str, wait: Callable[[], None]) -> None:
        """Ends the run if one of its processes was told to stop.

        Args:
            where: What is saved, for the message.
            wait: Called before that; returns when it is saved.

        Raises:
            StoppedError: The run was told to stop.
        """
        signal = self.processes.largest(self.interruption.signal or 0)
        if signal:
            wait()
            raise StoppedError(signal, f"{where}; the same command resumes the run")

    def title(self, stage: StageId, epoch: int) -> str:
        """What is being trained, as a person reads it."""
        settings = self.stage(stage)
        of = "" if settings.minutes else f"/{settings.epochs}"
        return (
            f"phase {stage.phase}/{len(self.config.phases)} · {stage.name} · "
            f"epoch {epoch}{of}"
        )


def new_context(
    run: Run,
    corpus: data.Corpus,
    progress: Progress,
    execution: Execution | None = None,
    interruption: Interruption | None = None,
) -> Context:
    """The context of a run.

    Args:
        run: The run on disk.
        corpus: The token streams.
        progress: The display.
        execution: How the run is executed, `Execution()` by default.
        interruption: What tells the run to stop; nothing does by default.
    """
    return Context(
        run,
        corpus,
        progress,
        MetricsLog(run.folder / "metrics.jsonl"),
        interruption or Interruption(),
        execution or Execution(),
        unigram_score(
            corpus.train,
            corpus.valid,
            len(corpus.vocabulary),
            batch_size=run.config.valid_batch_size,
        ),
        processes=processes.here(),
    )


@contextmanager
def opened(
    folder: Path,
    config: Config,
    corpus: data.Corpus,
    execution: Execution,
    experiment: str = "",
) -> Iterator[Context]:
    """Opens a run, new or to be resumed, as a command line trains it.

    Meanwhile no other run trains in its folder, standard output shows the run, and
    signals tell it to stop. Of several processes the first one has the folder.

    Args:
        folder: The run's folder; made if it does not exist.
        config: What is to be learned.
        corpus: The token streams.
        execution: How the run is executed.
        experiment: The name by which `glrnn.runs` lists the run.

    Raises:
        UsageError: As `opening.open_run`; or another process trains there; or
            processes of this run have different texts.
    """
    processes.here().agree(
        {
            "texts": lambda: data.fingerprint(corpus),
            "words": lambda: corpus.vocabulary.sha256,
        }
    )
    interruption = Interruption()
    names = {jax_name: name for name, jax_name in PRECISIONS.items()}
    precision = names.get(execution.precision or "", "float32")
    with (
        _opened_by_first(folder, config, corpus, experiment, precision) as run,
        Progress(when_lost=interruption.output_is_lost) as progress,
        interruption.awaited(),
    ):
        if run.origin.numerics is not None:
            for setting in unusual(run.origin.numerics):
                progress.say(f"note: {setting} is set; the run keeps to it")
        yield new_context(run, corpus, progress, execution, interruption)


@contextmanager
def _opened_by_first(
    folder: Path, config: Config, corpus: data.Corpus, *given: str
) -> Iterator[Run]:
    """`opening.open_locked` at the first process; the others read nothing there."""
    found: list[Run] = []
    with ExitStack() as blocks:

        def enter() -> str:
            opened = opening.open_locked(folder, config, corpus, *given)
            found.append(blocks.enter_context(opened))
            return to_json(found[0].config)

        # With what the settings leave to the corpus, or what the run began with.
        told = processes.here().lead(enter)
        if found:
            yield found[0]
            return
        settings = from_values(Config, json.loads(told), "a config")
        origin = Origin(corpus.name, data.fingerprint(corpus))
        yield Run(folder, settings, corpus.vocabulary, origin)


@contextmanager
def temporary(
    config: Config, corpus: data.Corpus, execution: Execution | None = None
) -> Iterator[Context]:
    """A run in a folder that is deleted with the block.

    Args:
        config: What is to be learned.
        corpus: The token streams.
        execution: How the run is executed, `Execution()` by default.
    """
    origin = Origin(corpus.name, data.fingerprint(corpus))
    with TemporaryDirectory() as folder, Progress() as progress:
        run = Run(Path(folder), settled(config, corpus), corpus.vocabulary, origin)
        yield new_context(run, corpus, progress, execution)
