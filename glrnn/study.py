"""Trains experiments beside their variants: `python -m glrnn.study`.

Every variant of every experiment is trained with every seed. If several learning rates
are given, each is tried for the first quarter of the epochs, and the one with the
lowest validation loss is trained to the end. Finished runs are not trained again, so
the same command resumes a study that was stopped.
"""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.study")  # before the imports that follow, which take a second

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from glrnn import data
from glrnn.config import Config, experiment
from glrnn.config.variants import VARIANTS, first_epochs, with_learning_rate
from glrnn.console.compilation import keep_programs, return_memory
from glrnn.console.corpus import load_corpus
from glrnn.console.epoch_line import clock
from glrnn.console.options import words
from glrnn.console.table import print_table
from glrnn.errors import DivergedError, UsageError, printable, told_plainly
from glrnn.ground.devices import require_devices
from glrnn.ground.losses import to_perplexity
from glrnn.storage.run_folder import Summary
from glrnn.training import context, phases
from glrnn.training.execution import Runtime

# The fraction of the epochs that each learning rate is tried for.
TRIED = 0.25


class Plan(NamedTuple):
    """One run of a study.

    Attributes:
        experiment: The name of the experiment.
        origin: The experiment's file as it was given; empty for the quickstart.
        variant: A name in `VARIANTS`.
        config: What is learned.
        folder: The folder of the run and of those that try its learning rates.
    """

    experiment: str
    origin: str
    variant: str
    config: Config
    folder: Path


def plans(
    files: Sequence[Path], variants: Sequence[str], seeds: Sequence[int], workdir: Path
) -> Iterator[Plan]:
    """All runs of a study, in order.

    Args:
        files: The experiments; empty for the quickstart.
        variants: Names in `VARIANTS`.
        seeds: The seeds; empty for the experiments' own.
        workdir: The study's folder.

    Raises:
        UsageError: if a name is unknown or there is none, something is given twice, an
            experiment fails, or it has no such variant.

    Example:
        >>> list(plans([], ["twice"], [], Path("runs")))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: unknown variant 'twice'; choose from: as_it_is, \
capped, gru, lstm, mogrifier, nas, random_softmax, reference, rhn, two_layers, \
without_finetuning, without_gl, without_lwgc
    """
    _refuse_repetitions(
        experiments=[path.stem for path in files], variants=variants, seeds=seeds
    )
    choices = ", ".join(sorted(VARIANTS))
    if not variants:
        raise UsageError(f"no variant is given; choose from: {choices}")
    for name in variants:
        if name not in VARIANTS:
            raise UsageError(f"unknown variant {name!r}; choose from: {choices}")
    wholes = [(path.stem, str(path), experiment.load(path)) for path in files]
    for stem, origin, whole in wholes or [("quickstart", "", Config())]:
        for name in variants:
            for seed in seeds or (whole.seed,):
                config = VARIANTS[name](replace(whole, seed=seed))
                folder = workdir / stem / name / f"seed_{seed}"
                yield Plan(stem, origin, name, config, folder)


def _refuse_repetitions(**given: Sequence[object]) -> None:
    """Refuses what would be trained twice, in one folder."""
    for what, values in given.items():
        for value in values:
            if values.count(value) > 1:
                raise UsageError(f"the {what} have {value} twice; a study has it once")


def carry_out(
    plan: Plan, corpus: data.Corpus, learning_rates: Sequence[float]
) -> dict[str, object]:
    """Trains a run to its end, unless it is finished.

    Args:
        plan: The run.
        corpus: The corpus to train on.
        learning_rates: The learning rates to try; empty for the experiment's own.

    Returns:
        The results, as a row of a table.

    Raises:
        DivergedError: if training diverges, or diverged with every learning rate.
    """
    config = plan.config
    if learning_rates:
        config = with_learning_rate(config, _best_rate(plan, corpus, learning_rates))
    summaries = _train(plan, "run", config, corpus)
    last = summaries[-1]
    return {
        "experiment": plan.experiment,
        "variant": plan.variant,
        "seed": config.seed,
        "rate": config.phases[0].main.learning_rate,
        "parameters": last.parameters,
        "epochs": sum(summary.epochs for summary in summaries),
        "valid": to_perplexity(_best_loss(last)),
        "test": to_perplexity(last.test_loss),
        "time": clock(sum(summary.seconds for summary in summaries)),
    }


def _best_rate(
    plan: Plan, corpus: data.Corpus, learning_rates: Sequence[float]
) -> float:
    if len(learning_rates) == 1:
        return learning_rates[0]
    epochs = sum(
        phase.main.epochs + phase.finetune.epochs for phase in plan.config.phases
    )
    beginning = first_epochs(plan.config, max(1, round(TRIED * epochs)))
    losses = {}
    for rate in learning_rates:
        config = with_learning_rate(beginning, rate)
        try:
            summaries = _train(plan, _rate_name(rate), config, corpus)
        except DivergedError as error:
            print(printable(f"learning rate {rate:g}: {error}"), file=sys.stderr)
            continue
        losses[rate] = _best_loss(summaries[-1])
    if not losses:
        raise DivergedError(f"{plan.folder}: every learning rate diverged")
    return min(losses, key=losses.__getitem__)


def _rate_name(rate: float) -> str:
    """The name of the folder in which a learning rate is tried."""
    return f"rate_{rate:.9g}"


def _best_loss(summary: Summary) -> float:
    """The lowest validation loss of a phase."""
    losses = summary.raw_valid_loss, summary.averaged_valid_loss
    return min(loss for loss in losses if loss is not None)


def _train(plan: Plan, name: str, config: Config, corpus: data.Corpus) -> list[Summary]:
    folder = plan.folder / name
    execution = Runtime().execution(config)
    with context.opened(folder, config, corpus, execution, plan.origin) as opened:
        unigram = opened.unigram.perplexity
        opened.progress.say(
            f"{folder}; validation perplexity of word frequencies alone: {unigram:.2f}"
        )
        summaries = phases.train(opened)
        phases.say_warnings(opened)
        return summaries


@dataclass(frozen=True)
class Command:
    """Train experiments beside their variants, and show a table of the results.

    Attributes:
        experiments: Python files with a `config`; the quickstart by default.
        data: A folder with train.txt, valid.txt and test.txt, or the name of a corpus:
            python-docs, hmm, ptb, wikitext-2, wikitext-103, lm1b, text8 or enwik8.
        manual_dir: A folder with the files of a corpus, instead of a download.
        variants: The variants to train: as_it_is; random_softmax, reference,
            two_layers, without_finetuning, without_gl, without_lwgc; or another cell,
            by its name.
        learning_rates: Learning rates to try for a quarter of the epochs; the best one
            is used. The experiment's own by default.
        seeds: The seeds to train with; the experiment's own by default.
        workdir: The study's folder; what has finished there is not trained again.
    """

    experiments: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="[FILE...]")
    ] = ()
    data: str = "python-docs"
    manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    variants: tuple[str, ...] = ("as_it_is",)
    learning_rates: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    workdir: Path = Path("runs/study")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly("stopped; the same command resumes"):
        command = tyro.cli(
            Command,
            prog="python -m glrnn.study",
            args=words(arguments),
        )
        require_devices()
        keep_programs()
        return_memory()
        # All plans are made and checked first, so that a mistake shows at once.
        planned = list(
            plans(command.experiments, command.variants, command.seeds, command.workdir)
        )
        _refuse_repetitions(learning_rates=[*map(_rate_name, command.learning_rates)])
        for plan in planned:
            _check_rates(plan, command.learning_rates)
        _check_workdir(command.workdir)
        # One for each vocabulary; all are read, and refused, before a run begins.
        corpora = {
            words: load_corpus(
                command.data,
                manual_dir=command.manual_dir,
                min_count=words[0],
                order=words[1],
            )
            for words in {_words(plan): None for plan in planned}
        }
        print_table(
            [
                _row(plan, corpora[_words(plan)], command.learning_rates)
                for plan in planned
            ]
        )


def _words(plan: Plan) -> tuple[int, str]:
    """The settings of a run's vocabulary."""
    return plan.config.min_count, plan.config.vocabulary_order


def _check_workdir(folder: Path) -> None:
    """Refuses a folder that belongs to something else: a study's has folders only."""
    try:
        others = sorted(path.name for path in folder.iterdir() if not path.is_dir())
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot use {folder}: {error.strerror}") from None
    if others:
        raise UsageError(
            f"{folder} is not the folder of a study (it has {others[0]}); choose "
            f"another --workdir"
        )


def _check_rates(plan: Plan, learning_rates: Sequence[float]) -> None:
    if len(learning_rates) > 1 and plan.config.phases[0].main.minutes:
        raise UsageError(
            f"--learning-rates are tried for a quarter of the epochs, but the stages "
            f"of {plan.experiment} have minutes; give one learning rate, or none"
        )
    for rate in learning_rates:
        with_learning_rate(plan.config, rate)


def _row(
    plan: Plan, corpus: data.Corpus, learning_rates: Sequence[float]
) -> dict[str, object]:
    """Trains a run; a run that diverges has a row without results."""
    try:
        return carry_out(plan, corpus, learning_rates)
    except DivergedError as error:
        print(printable(f"{plan.folder}: {error}"), file=sys.stderr)
        return {
            "experiment": plan.experiment,
            "variant": plan.variant,
            "seed": plan.config.seed,
        }
