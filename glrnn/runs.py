"""Lists the runs in a folder: `python -m glrnn.runs DIR`."""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.runs")  # before the imports that follow, which take a second

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from glrnn.console.options import words
from glrnn.console.sentence import print_sentence, shell_word
from glrnn.console.table import print_table
from glrnn.errors import UsageError, told_plainly
from glrnn.reports.rows import FINISHED, run_row
from glrnn.storage import run_folder
from glrnn.storage.metrics_log import lasting_warnings, read_epochs


def find(folder: Path, damages: list[str]) -> list[Path]:
    """The folders of runs in a folder, itself included, sorted by name.

    Args:
        folder: The folder.
        damages: Takes a line for each folder that cannot be read.

    Raises:
        UsageError: if there is none.

    Example:
        >>> find(Path("nowhere"), [])
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: no run in nowhere
    """
    found, folders = [], [folder]
    while folders:  # without recursion, which very deep folders would exhaust
        here = folders.pop()
        try:
            if run_folder.exists(here):
                found.append(here)
                continue
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(here / entry.name)
                    # Of links only those to runs: others may lead in circles.
                    elif entry.is_dir() and _is_run(here / entry.name):
                        found.append(here / entry.name)
        except UsageError as error:
            damages.append(str(error))
        except (FileNotFoundError, NotADirectoryError):  # it has just gone
            pass
        except OSError as error:
            damages.append(f"cannot read {here}: {error.strerror}")
    if not found and not damages:
        raise UsageError(f"no run in {folder}")
    # A run that has several names, such as `latest`, is listed by its own.
    names: dict[str, Path] = {}
    for run in sorted(found, key=lambda run: (run.is_symlink(), run)):
        names.setdefault(os.path.realpath(run), run)
    return sorted(names.values())


def _is_run(folder: Path) -> bool:
    with suppress(UsageError):  # a link to what may not be entered
        return run_folder.exists(folder)
    return False


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    import tyro

    @dataclass(frozen=True)
    class Command:
        """List runs: how far each has come, and the command that resumes it.

        Attributes:
            folder: The folder that the runs are in.
        """

        folder: tyro.conf.Positional[Path] = Path("runs")

    with told_plainly():
        command = tyro.cli(
            Command,
            prog="python -m glrnn.runs",
            args=words(arguments),
        )
        rows, warnings, damages = [], [], []
        for folder in find(command.folder, damages):
            try:
                run = run_folder.read(folder)
                rows.append(run_row(run))
                for warning in lasting_warnings(read_epochs(run)):
                    warnings.append(f"warning: {folder}: {warning}")
            except UsageError as error:
                damages.append(str(error))
        if rows:
            print_table(rows)
        if warnings:
            print()
        for warning in warnings:
            print_sentence(warning)
        unfinished = [str(row["run"]) for row in rows if row["reached"] != FINISHED]
        if unfinished:
            print("\nTo resume:")
        for run in unfinished:
            print(f"  python -m glrnn.train {shell_word(run)}")
        if damages:
            raise UsageError("; ".join(damages))
