"""Compares one update on a device with the CPU's: `python -m glrnn.check`."""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.check")  # before the imports that follow, which take a second

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from glrnn import data
from glrnn.config import Config, experiment
from glrnn.console.compilation import keep_programs, return_memory
from glrnn.console.corpus import load_corpus
from glrnn.console.options import words
from glrnn.console.table import print_table
from glrnn.errors import UsageError, printable, told_plainly
from glrnn.ground import devices
from glrnn.ground.validation import at_least, check, choice
from glrnn.storage import run_folder
from glrnn.storage.best_params import largest_checkpoint
from glrnn.storage.run_folder import Origin, StageId
from glrnn.training.context import Context, temporary
from glrnn.training.device_check import compare, device_kind, refuse
from glrnn.training.execution import Execution


@dataclass(frozen=True)
class Check:
    """Compare one training update on this device with the CPU's, number by number.

    Attributes:
        experiment: A Python file with a `config`, or the folder of a run; the
            quickstart if there is none.
        data: A folder with train.txt, valid.txt and test.txt, or the name of a
            corpus: python-docs, hmm, ptb, wikitext-2, wikitext-103, lm1b, text8 or
            enwik8; of a run, its own by default.
        manual_dir: A folder with the files of a corpus, instead of a download.
        num_devices: The number of devices that share the batch; 0 for as many as there
            are and divide it.
        matmul_precision: The precision of matrix products: float32, tensorfloat32 or
            bfloat16.
        phase: The phase whose program to check, from 1; the deepest by default.
    """

    experiment: Annotated[
        tyro.conf.Positional[str], tyro.conf.arg(metavar="[EXPERIMENT]")
    ] = ""
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    num_devices: int = field(default=0, metadata=at_least(0))
    matmul_precision: str = field(
        default="float32", metadata=choice(devices.PRECISIONS)
    )
    phase: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None

    def __post_init__(self):
        check(self)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly():
        command = tyro.cli(
            Check,
            prog="python -m glrnn.check",
            args=words(arguments),
        )
        devices.require_devices()
        config, origin = _experiment(command.experiment)
        count = len(config.phases)
        number = count if command.phase is None else command.phase
        if not 1 <= number <= count:
            raise UsageError(f"there is no phase {number}: there are {count}")
        keep_programs()
        return_memory()
        corpus = load_corpus(
            command.data or origin.data,
            manual_dir=command.manual_dir,
            min_count=config.min_count,
            order=config.vocabulary_order,
        )
        if origin.sha256 and data.fingerprint(corpus) != origin.sha256:
            note = (
                f"note: {corpus.name} is not what {command.experiment} was trained on"
            )
            print(printable(note), file=sys.stderr, flush=True)
        mesh = devices.share_batch(
            config.batch_size // config.num_microbatches, command.num_devices
        )
        precision = devices.PRECISIONS[command.matmul_precision]
        with temporary(config, corpus, Execution(mesh, precision)) as context:
            _show(context, StageId(number, "main"))


def _experiment(named: str) -> tuple[Config, Origin]:
    """The config, and the data that it was trained on, or would be by default."""
    if named and os.path.isdir(named):
        run = run_folder.read(Path(named))
        largest_checkpoint(run, len(run.config.phases))  # that it fits into the memory
        return run.config, run.origin
    config = experiment.load(Path(named)) if named else Config()
    return config, Origin("python-docs", sha256="")


def _show(context: Context, stage: StageId) -> None:
    """Prints the comparison, and refuses a device that is wrong."""
    kind = device_kind(context)
    if devices.platform() == "cpu":
        context.progress.say("the device is a CPU: the program is compared with itself")
    rows = compare(context, stage)
    print_table(
        [
            {
                "figure": row.name,
                kind: f"{row.found:.6g}",
                "CPU": f"{row.expected:.6g}",
                "difference": f"{row.difference:.1e}",
                "tolerance": f"{row.tolerance:.1e}",
                "": "" if row.excess <= 1 else "wrong",
            }
            for row in rows
        ]
    )
    refuse(kind, rows)
    print(f"\n{kind} computes the same as the CPU, up to rounding.")
