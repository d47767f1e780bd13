"""What is being trained, on what and how: one value that a training run shares."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from glrnn import data
from glrnn.config import Config, Phase, Stage
from glrnn.console.interruption import Interruption
from glrnn.console.progress import Progress
from glrnn.errors import StoppedError
from glrnn.evaluation.perplexity import Score, unigram_score
from glrnn.model import Model, language_model
from glrnn.storage import run_folder
from glrnn.storage.run_folder import STAGES, Origin, Run

# What to do about a loss or gradient that is not finite: stop the run; do without that
# update, as long as there are not too many in a row; or go back to the newest
# checkpoint and on from there with other dropout masks.
ON_NONFINITE = ("stop", "skip", "rewind")


class Job(NamedTuple):
    """One stage of one phase of a run: what the functions below share.

    Attributes:
        run: The run, on disk.
        corpus: The token streams.
        progress: What a person sees.
        number: Of the phase, from 1.
        stage_name: `main` or `finetune`.
        mesh: Devices that share a batch; `None` for one.
        precision: Of matrix products in training, as `training_step` has it.
        checkpoint_minutes: Between checkpoints within an epoch; 0 for none.
        on_nonfinite: What to do about a loss or gradient that is not finite, one of
            `ON_NONFINITE`.
        check: Whether a device is compared with the CPU before it is trained on.
        interruption: How the run is told to stop.
    """

    run: Run
    corpus: data.Corpus
    progress: Progress
    number: int = 1
    stage_name: str = "main"
    mesh: Mesh | None = None
    precision: str | None = None
    checkpoint_minutes: float = 5.0
    on_nonfinite: str = "stop"
    check: bool = True
    interruption: Interruption = Interruption()

    @property
    def config(self) -> Config:
        """The settings of the whole run."""
        return self.run.config

    @property
    def phase(self) -> Phase:
        """The settings of the phase."""
        return self.config.phases[self.number - 1]

    @property
    def stage(self) -> Stage:
        """The settings of the stage."""
        return getattr(self.phase, self.stage_name)

    @property
    def model(self) -> Model:
        """The network of the phase."""
        return language_model(
            self.config, len(self.corpus.vocabulary), self.phase.num_layers
        )

    @property
    def unigram(self) -> Score:
        """The score of word frequencies alone on the validation set."""
        return unigram_score(
            self.corpus.train,
            self.corpus.valid,
            len(self.corpus.vocabulary),
            batch_size=self.config.valid_batch_size,
        )

    @property
    def phase_key(self) -> jax.Array:
        """The key of the phase."""
        return jax.random.fold_in(jax.random.key(self.config.seed), self.number)

    def stage_key(self, rewinds: int = 0) -> jax.Array:
        """The key of the stage, another one after each time that it was rewound."""
        key = jax.random.fold_in(self.phase_key, STAGES.index(self.stage_name))
        return jax.random.fold_in(key, rewinds) if rewinds else key

    def stop_if_told(self, where: str) -> None:
        """Ends the run if it was told to stop; `where` says how far it is saved.

        Raises:
            StoppedError: if so.
        """
        if self.interruption.signal is not None:
            raise StoppedError(
                self.interruption.signal,
                f"{where}; the same command resumes from there",
            )

    def title(self, epoch: int) -> str:
        """What is being done, as a person reads it."""
        of = "" if self.stage.minutes else f"/{self.stage.epochs}"
        return (
            f"phase {self.number}/{len(self.config.phases)} · {self.stage_name} · "
            f"epoch {epoch}{of}"
        )


@contextmanager
def taken_up(
    folder: Path, config: Config, corpus: data.Corpus, experiment: str = ""
) -> Iterator[Job]:
    """A run, begun or gone on with, as a command line trains it.

    No other process trains in its folder meanwhile, it is shown on standard output, and
    it is told to stop by signals.

    Args:
        folder: As for `run_folder.start`, and so are the others.
        config: What is to be learned.
        corpus: On what.
        experiment: The name by which `glrnn.runs` lists it.

    Raises:
        UsageError: as `run_folder.start`, and if another process trains there.
    """
    interruption = Interruption()
    with (
        run_folder.taken_up(folder, config, corpus, experiment) as run,
        Progress(
            folder / "metrics.jsonl", when_lost=interruption.output_is_lost
        ) as progress,
        interruption.awaited(),
    ):
        yield Job(run, corpus, progress, interruption=interruption)


@contextmanager
def temporary(config: Config, corpus: data.Corpus) -> Iterator[Job]:
    """A run in a folder that is deleted with the block.

    Args:
        config: What is to be learned.
        corpus: On what.
    """
    origin = Origin(corpus.name, data.fingerprint(corpus))
    with TemporaryDirectory() as name:
        folder = Path(name)
        run = Run(folder, config, corpus.vocabulary, origin)
        with Progress(folder / "metrics.jsonl") as progress:
            yield Job(run, corpus, progress)
