"""Trains a language model gradually: `python -m glrnn.train [EXPERIMENT.py]`.

The config says what is learned; `data` reads the texts, `run_folder` stores the run,
`phases` trains it, and `progress` shows it.
"""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.train")  # before the imports that follow, which take a second

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

from glrnn.config import Config, experiment
from glrnn.console.options import config_of, grouped_options, words
from glrnn.console.sentence import shell_word
from glrnn.errors import UsageError, printable, told_plainly
from glrnn.ground.devices import PRECISIONS, require_devices, share_batch
from glrnn.ground.validation import at_least, check, choice
from glrnn.training import context

HELP = """Train a language model gradually, layer by layer.

Attributes:
    experiment: A Python file with a `config`, or the folder of a run to resume; the
        quickstart if there is none.
"""


# A run's own value is the default, and may hold what a terminal obeys.
_SHOWN = tyro.conf.arg(
    help_behavior_hint=lambda default: f"(default: {printable(default)})"
)


@dataclass(frozen=True)
class Runtime:
    """Where and how a run is trained; nothing here changes what is learned.

    Attributes:
        data: A folder with train.txt, valid.txt and test.txt, or the name of a corpus:
            python-docs, ptb or wikitext-2.
        workdir: The run's folder. A run that is already there is resumed.
        manual_dir: A folder with the texts of ptb or wikitext-2, instead of a download.
        num_devices: The number of devices that share each batch; 0 for as many as there
            are and divide it.
        matmul_precision: The precision of matrix products in training: float32,
            tensorfloat32 or bfloat16. Norms, mixing, averages and evaluation are in
            float32.
        checkpoint_minutes: The minutes between checkpoints within an epoch; 0 for
            checkpoints at its end only.
        on_nonfinite: What to do about a loss or gradient that is not finite: stop; skip
            that update; or rewind to the newest checkpoint and draw other dropout
            masks.
        check: Whether to compare a GPU or TPU with the CPU on one update before
            training on it. A check that was passed is not repeated.
    """

    data: Annotated[str, _SHOWN] = "python-docs"
    workdir: Path = Path("runs/quickstart")
    manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    num_devices: int = field(default=0, metadata=at_least(0))
    matmul_precision: str = field(default="float32", metadata=choice(PRECISIONS))
    checkpoint_minutes: float = field(default=5.0, metadata=at_least(0))
    on_nonfinite: str = field(default="stop", metadata=choice(context.ON_NONFINITE))
    check: bool = True

    def __post_init__(self):
        check(self)


class Command(NamedTuple):
    """What was typed.

    Attributes:
        experiment: A Python file, the folder of a run, or nothing for the quickstart.
        runtime: Where and how.
        config: What is learned.
    """

    experiment: str
    runtime: Runtime
    config: Config


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly("stopped; the same command resumes"):
        _run(_parse(words(arguments)))


def _parse(arguments: Sequence[str]) -> Command:
    # The experiment's own values are the defaults of the options, so it comes first.
    named = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    runtime, config = _default(named)
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
            ("runtime", Annotated[Runtime, tyro.conf.arg(name="")]),
            *((group, given) for group, (given, _) in options.items()),
        ],
    )
    kind.__doc__ = HELP
    groups = {group: value for group, (_, value) in options.items()}
    typed = tyro.cli(
        kind,
        prog="python -m glrnn.train",
        args=arguments,
        default=kind(named, runtime, **groups),
    )
    config = config_of({group: getattr(typed, group) for group in groups})
    if typed.experiment != named:
        raise UsageError(f"the experiment, {typed.experiment}, must come first")
    return Command(named, typed.runtime, config)


def _default(named: str) -> tuple[Runtime, Config]:
    """The runtime and the config before any option is applied."""
    if not named:
        return Runtime(), Config()
    path = Path(named)
    if os.path.isdir(path):
        from glrnn.storage import run_folder

        run = run_folder.read(path)
        began = run.origin.numerics
        precision = began.matmul_precision if began is not None else "float32"
        return Runtime(run.origin.data, path, matmul_precision=precision), run.config
    return Runtime(workdir=Path("runs", path.stem)), experiment.load(path)


def _run(command: Command) -> None:
    from glrnn import data
    from glrnn.console.compilation import keep_programs, return_memory
    from glrnn.training import phases

    require_devices()
    keep_programs()
    return_memory()
    runtime, config = command.runtime, command.config
    mesh = share_batch(
        config.batch_size // config.num_microbatches, runtime.num_devices
    )
    execution = context.Execution(
        mesh,
        PRECISIONS[runtime.matmul_precision],
        runtime.checkpoint_minutes,
        runtime.on_nonfinite,
        runtime.check,
    )
    corpus = data.load(
        runtime.data, manual_dir=runtime.manual_dir, min_count=config.min_count
    )
    opened = context.opened(
        runtime.workdir, config, corpus, execution, command.experiment
    )
    with opened as run:
        shared = f" on {mesh.size} devices" if mesh is not None else ""
        run.progress.say(
            f"{corpus.name}: {len(corpus.train):,} training tokens, "
            f"{len(corpus.vocabulary):,} words; run in {runtime.workdir}{shared}"
        )
        run.progress.say(
            f"validation perplexity of word frequencies alone: "
            f"{run.unigram.perplexity:.2f}"
        )
        summaries = phases.train(run)
        run.progress.table([phases.row(summary) for summary in summaries])
        phases.say_warnings(run)
    print(*_next_commands(runtime.workdir), sep="\n")


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
