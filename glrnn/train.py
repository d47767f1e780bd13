"""Trains a language model gradually: `python -m glrnn.train [EXPERIMENT.py]`.

The config says what is learned; `data` reads the texts, and `fitting` trains, stores
and shows the run.
"""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.train")  # before the imports that follow, which take a second

import os
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from glrnn.config import Config, experiment
from glrnn.console.joining import Cluster, joined
from glrnn.console.options import config_of, grouped_options, words
from glrnn.console.sentence import shell_word
from glrnn.errors import UsageError, printable, told_plainly
from glrnn.ground import processes
from glrnn.ground.devices import require_devices
from glrnn.training.execution import Runtime

HELP = """Train a language model gradually, layer by layer.

Attributes:
    experiment: A Python file with a `config`, or the folder of a run to resume; the
        quickstart if there is none.
"""


STOPPED = "stopped; the same command resumes"


# A run's own value is the default, and may hold what a terminal obeys.
_SHOWN = tyro.conf.arg(
    help_behavior_hint=lambda default: f"(default: {printable(default)})"
)


@dataclass(frozen=True)
class Place:
    """Where the texts of a run are, and the run itself.

    Attributes:
        data: A folder with train.txt, valid.txt and test.txt, or the name of a corpus:
            python-docs, hmm, ptb, wikitext-2, wikitext-103, lm1b, text8 or enwik8.
        workdir: The run's folder. A run that is already there is resumed.
        manual_dir: A folder with the files of a corpus, instead of a download.
        tensorboard: A folder for event files, which TensorBoard shows; those of this
            run are in a folder of its name in there.
    """

    data: Annotated[str, _SHOWN] = "python-docs"
    workdir: Path = Path("runs/quickstart")
    manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    tensorboard: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None


class Command(NamedTuple):
    """What was typed.

    Attributes:
        experiment: A Python file, the folder of a run, or nothing for the quickstart.
        place: Where.
        runtime: How.
        cluster: Together with which processes.
        config: What is learned.
    """

    experiment: str
    place: Place
    runtime: Runtime
    cluster: Cluster
    config: Config


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly(STOPPED):
        command = _parse(words(arguments))
        with joined(command.cluster, STOPPED):
            _run(command)


def _parse(arguments: Sequence[str]) -> Command:
    # The experiment's own values are the defaults of the options, so it comes first.
    named = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    place, runtime, config = _default(named)
    options = grouped_options(config)
    kind = make_dataclass(
        "Train",
        [
            (
                "experiment",
                Annotated[
                    tyro.conf.Positional[str], tyro.conf.arg(metavar="[EXPERIMENT]")
                ],
            ),
            ("place", Annotated[Place, tyro.conf.arg(name="")]),
            ("runtime", Annotated[Runtime, tyro.conf.arg(name="")]),
            ("cluster", Annotated[Cluster, tyro.conf.arg(name="")]),
            *((group, given) for group, (given, _) in options.items()),
        ],
    )
    kind.__doc__ = HELP
    groups = {group: value for group, (_, value) in options.items()}
    typed = tyro.cli(
        kind,
        prog="python -m glrnn.train",
        args=arguments,
        default=kind(named, place, runtime, Cluster(), **groups),
    )
    config = config_of({group: getattr(typed, group) for group in groups})
    if typed.experiment != named:
        raise UsageError(f"the experiment, {typed.experiment}, must come first")
    return Command(named, typed.place, typed.runtime, typed.cluster, config)


def _default(named: str) -> tuple[Place, Runtime, Config]:
    """What is trained, where and how, before any option is applied."""
    if not named:
        return Place(), Runtime(), Config()
    path = Path(named)
    if os.path.isdir(path):
        from glrnn.storage import run_folder

        run = run_folder.read(path)
        began = run.origin.numerics
        precision = began.matmul_precision if began is not None else "float32"
        runtime = Runtime(matmul_precision=precision)
        return Place(run.origin.data, path), runtime, run.config
    place = Place(workdir=Path("runs", path.stem))
    return place, Runtime(), experiment.load(path)


def _run(command: Command) -> None:
    from glrnn.console.compilation import keep_programs, return_memory
    from glrnn.console.corpus import load_corpus
    from glrnn.reports.event_file import EventFile, check_folder
    from glrnn.training import fitting

    place, config, events = command.place, command.config, None
    if place.tensorboard is not None:
        processes.here().lead(partial(check_folder, place.tensorboard, place.workdir))
        events = EventFile(place.tensorboard, place.workdir)
    require_devices()
    keep_programs()
    return_memory()
    execution = command.runtime.execution(config)
    corpus = processes.here().each(
        lambda: load_corpus(
            place.data,
            manual_dir=place.manual_dir,
            min_count=config.min_count,
            order=config.vocabulary_order,
        )
    )
    fitting.train(place.workdir, config, corpus, execution, command.experiment, events)
    print(*_next_commands(place.workdir), sep="\n")


def _next_commands(workdir: Path) -> list[str]:
    """What to do with a finished run, as lines to read and copy."""
    run, runs = (shell_word(str(path)) for path in (workdir, workdir.parent))
    return [
        "",
        "To score the test set, with fixed parameters and with dynamic evaluation:",
        f"  python -m glrnn.evaluate {run}",
        f"  python -m glrnn.evaluate {run} --tune",
        "To list runs:",
        f"  python -m glrnn.runs {runs}",
    ]
