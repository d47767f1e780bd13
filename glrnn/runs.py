"""Lists the runs in a folder: `python -m glrnn.runs DIR`."""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.runs")  # before the imports that follow, which take a second

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from glrnn.console.options import words
from glrnn.console.sentence import print_sentence, shell_word
from glrnn.console.table import print_table
from glrnn.errors import UsageError, told_plainly
from glrnn.ground.files import write_text
from glrnn.reports import page
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


class Listing(NamedTuple):
    """The runs of a folder.

    Attributes:
        rows: One for each run that can be read.
        warnings: Those to repeat, one line each.
        damages: What cannot be read, one line each.
    """

    rows: list[dict[str, object]]
    warnings: list[str]
    damages: list[str]

    @property
    def resume(self) -> list[str]:
        """The commands that resume the runs that are not finished."""
        return [
            f"python -m glrnn.train {shell_word(str(row['run']))}"
            for row in self.rows
            if row["reached"] != FINISHED
        ]


def listing(folder: Path) -> Listing:
    """Reads the runs in a folder.

    Raises:
        UsageError: if there is none.
    """
    found = Listing([], [], [])
    for path in find(folder, found.damages):
        try:
            run = run_folder.read(path)
            found.rows.append(run_row(run))
            for warning in lasting_warnings(read_epochs(run)):
                found.warnings.append(f"warning: {path}: {warning}")
        except UsageError as error:
            found.damages.append(str(error))
    return found


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
            html: A page to write instead of the list.
        """

        folder: tyro.conf.Positional[Path] = Path("runs")
        html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None

    with told_plainly():
        command = tyro.cli(
            Command,
            prog="python -m glrnn.runs",
            args=words(arguments),
        )
        if command.html is not None:
            page.require("jinja2")
            page.check_place(command.html)
        found = listing(command.folder)
        if command.html is None:
            _print(found)
        else:
            write_text(command.html, _html(command.folder, command.html, found))
            print_sentence(f"written: {command.html}")
        if found.damages:
            raise UsageError("; ".join(found.damages))


def _print(found: Listing) -> None:
    if found.rows:
        print_table(found.rows)
    if found.warnings:
        print()
    for warning in found.warnings:
        print_sentence(warning)
    if found.resume:
        print("\nTo resume:")
    for line in found.resume:
        print(f"  {line}")


def _html(folder: Path, place: Path, found: Listing) -> str:
    """The page, with links to the reports of runs that have one."""
    reports = [Path(str(row["run"])) / page.REPORT for row in found.rows]
    return page.render(
        "runs.html",
        title=f"Runs in {folder}",
        runs=page.table(
            found.rows,
            [page.link(place, path) if path.is_file() else "" for path in reports],
        ),
        notes=[*found.warnings, *(f"damaged: {each}" for each in found.damages)],
        resume=found.resume,
    )
