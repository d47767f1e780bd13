"""Makes a page about one run or several: `python -m glrnn.report RUN [RUN ...]`."""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.report")  # before the imports that follow, which take a second

import datetime
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from glrnn.console.compilation import keep_programs, return_memory
from glrnn.console.options import words
from glrnn.console.sentence import print_sentence
from glrnn.errors import UsageError, told_plainly
from glrnn.ground.devices import require_devices
from glrnn.ground.files import write_bytes, write_text
from glrnn.ground.machine import versions
from glrnn.reports import page
from glrnn.reports.event_file import EventFile, check_folder
from glrnn.reports.samples import check_sentence
from glrnn.reports.sections import (
    Material,
    compared,
    compared_drawing,
    drawings,
    material,
    section,
)
from glrnn.storage import run_folder

# The largest number of runs on a page; there are not more lines to tell apart.
MOST_RUNS = 24


@dataclass(frozen=True)
class Command:
    """Make a page about runs: curves, gradients, tables, samples, how to repeat them.

    The page is one file without scripts. It is written whole or not at all.

    Attributes:
        runs: The folders of the runs; several are compared.
        output: The page; by default RUN/report.html, or, of several runs, report.html
            in the current folder.
        png: A folder for the figures as PNG files too; made if it does not exist.
        sentence: The words whose surprisals are shown; by default the first line of the
            validation set, if the texts are at hand, else a sample.
        tensorboard: A folder for event files too, which TensorBoard shows; those of
            each run are in a folder of its name in there.
    """

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")
    ]
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    png: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    sentence: Annotated[str | None, tyro.conf.arg(metavar="WORDS")] = None
    tensorboard: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None

    @property
    def place(self) -> Path:
        """The file to write."""
        if self.output is not None:
            return self.output
        return self.runs[0] / page.REPORT if len(self.runs) == 1 else Path(page.REPORT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly():
        command = tyro.cli(
            Command, prog="python -m glrnn.report", args=words(arguments)
        )
        page.require("matplotlib", "jinja2")
        _check(command)
        require_devices()
        keep_programs()
        return_memory()
        found = [material(run_folder.read(folder)) for folder in command.runs]
        if not any(len(each.epochs) for each in found):
            raise UsageError(_nothing(found))
        write_text(command.place, _html(found, command.sentence))
        print_sentence(f"written: {command.place}")
        if command.png is not None:
            _write_pngs(command.png, found)
            print_sentence(f"written: {command.png}")
        if command.tensorboard is not None:
            for each in found:
                events = EventFile(command.tensorboard, each.run.folder)
                events.rewrite()
                events.close()
                print_sentence(f"written: {events.folder}")


def _check(command: Command) -> None:
    """Refuses runs and places that make no sense, before anything is read."""
    if not command.runs:
        raise UsageError("no run is given; name the folder of one or several")
    if len(command.runs) > MOST_RUNS:
        raise UsageError(
            f"{len(command.runs)} runs are given, and a page compares at most "
            f"{MOST_RUNS}; python -m glrnn.runs --html lists any number"
        )
    real = [os.path.realpath(run) for run in command.runs]
    for number, run in enumerate(command.runs):
        if real[number] in real[:number]:
            raise UsageError(f"the run {run} is given twice")
    check_sentence(command.sentence)
    if command.tensorboard is not None:
        check_folder(command.tensorboard)
    page.check_place(command.place)
    if command.png is not None:
        page.check_outside(command.png, "--png")


def _nothing(found: Sequence[Material]) -> str:
    """What is said of runs without epochs."""
    notes = [note for each in found for note in each.notes]
    folders = ", ".join(str(each.run.folder) for each in found)
    told = f"; {'; '.join(notes)}" if notes else ""
    return f"no epoch of {folders} is over yet, so there is nothing to report{told}"


def _names(found: Sequence[Material]) -> list[str]:
    """The names of runs, short where they are in one folder."""
    folders = [str(each.run.folder) for each in found]
    parents = {os.path.dirname(os.path.abspath(folder)) for folder in folders}
    return [*map(os.path.basename, folders)] if len(parents) == 1 else folders


def _html(found: Sequence[Material], sentence: str | None) -> str:
    names = _names(found)
    one = len(found) == 1
    return page.render(
        "report.html",
        title=str(found[0].run.folder) if one else f"{len(found)} runs of glrnn",
        overview=page.table([each.row for each in found]),
        comparison=None if one else compared(names, found),
        sections=[
            section(each, f"run-{number}", sentence)
            for number, each in enumerate(found, 1)
        ],
        version=versions(["glrnn"]).get("glrnn", ""),
        date=datetime.date.today().isoformat(),
    )


def _write_pngs(folder: Path, found: Sequence[Material]) -> None:
    """Writes the figures; those of several runs with the number of the run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot use {folder}: {error.strerror}") from None
    if len(found) > 1:
        drawing = compared_drawing(_names(found), found)
        if drawing is not None:
            write_bytes(folder / "comparison.png", drawing.png())
    for number, each in enumerate(found, 1):
        prefix = "" if len(found) == 1 else f"{number}-"
        for drawing in drawings(each).values():
            write_bytes(folder / f"{prefix}{drawing.name}.png", drawing.png())
