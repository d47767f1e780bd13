"""What became of every run in a folder: `python -m glrnn.runs DIR`."""

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glrnn.console.table import print_table
from glrnn.errors import UsageError, told_plainly
from glrnn.losses import to_perplexity
from glrnn.storage import run_folder
from glrnn.storage.metrics_log import lasting_warnings, read_epochs
from glrnn.storage.run_folder import Run


def find(folder: Path) -> list[Path]:
    """The folders of runs in a folder, itself included, in the order of their names.

    Raises:
        UsageError: if there is none.

    Example:
        >>> find(Path("nowhere"))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: no run in nowhere
    """
    found = []
    for parent, folders, _ in os.walk(folder):
        folders.sort()
        if run_folder.exists(Path(parent)):
            found.append(Path(parent))
            folders.clear()
    if not found:
        raise UsageError(f"no run in {folder}")
    return found


def row(run: Run) -> dict[str, object]:
    """A run as a person reads it; perplexities, the best and the last of what there is.

    Raises:
        UsageError: if its metrics or the summary of a phase are damaged.
    """
    phases = run.config.phases
    numbers = range(1, len(phases) + 1)
    summaries = [s for s in map(run.read_summary, numbers) if s is not None]
    epochs = read_epochs(run)
    state: dict[str, object] = {"phase": f"0/{len(phases)}"}
    if epochs:
        last = epochs[-1]
        stage = getattr(phases[last.phase - 1], last.stage)
        state = {
            "phase": f"{last.phase}/{len(phases)}",
            "stage": last.stage,
            "epoch": f"{last.epoch}/{stage.epochs}",
            "best valid": to_perplexity(
                min(e.valid_loss for e in epochs if e.phase == last.phase)
            ),
        }
    return {
        "run": str(run.folder),
        "experiment": Path(run.origin.experiment).stem or "quickstart",
        "data": os.path.basename(run.origin.data),
        **state,
        "test": to_perplexity(summaries[-1].test_loss) if summaries else None,
        "finished": len(summaries) == len(phases),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Args:
        arguments: As typed; `sys.argv` by default.
    """
    import tyro

    @dataclass(frozen=True)
    class Command:
        """List runs: how far each has come, and the command that resumes it.

        Attributes:
            folder: Where the runs are.
        """

        folder: tyro.conf.Positional[Path] = Path("runs")

    with told_plainly():
        command = tyro.cli(
            Command,
            prog="python -m glrnn.runs",
            args=sys.argv[1:] if arguments is None else arguments,
        )
        rows, warnings, damages = [], [], []
        for folder in find(command.folder):
            try:
                run = run_folder.read(folder)
                rows.append(row(run))
                for warning in lasting_warnings(read_epochs(run)):
                    warnings.append(f"warning: {folder}: {warning}")
            except UsageError as error:
                damages.append(str(error))
        if rows:
            print_table(rows)
        if warnings:
            print("", *warnings, sep="\n")
        unfinished = [str(row["run"]) for row in rows if not row["finished"]]
        if unfinished:
            print("\nTo go on:")
        for run in unfinished:
            print(f"  python -m glrnn.train {shlex.quote(run)}")
        if damages:
            raise UsageError("; ".join(damages))


if __name__ == "__main__":
    main()
