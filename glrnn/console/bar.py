"""A bar of how far a computation is, on standard error.

Standard output is left to the result. Where standard error is a file or a pipe, a line
about every 30 seconds takes the place of the bar.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from glrnn.console.compilation import compilation_shown
from glrnn.console.epoch_line import clock
from glrnn.console.output import output_console

if TYPE_CHECKING:
    from rich.console import Console

SECONDS_BETWEEN_LINES = 30.0
# The speed is a mean over as many seconds, for steps may be far apart.
SPEED_SECONDS = 300.0


class Bar:
    """Shows how far a computation is, and the time left.

    A context manager: the bar is erased when the block is left.

    Example:
        >>> import io
        >>> from rich.console import Console
        >>> now = [0.0]
        >>> log = Console(file=io.StringIO(), get_time=lambda: now[0])
        >>> with Bar(log) as bar:
        ...     bar.begin("gradient statistics", total=100)
        ...     for now[0] in (20.0, 40.0):
        ...         bar.advance(25)
        >>> print(log.file.getvalue(), end="")
        gradient statistics: 50%, 0:40 left
    """

    def __init__(self, console: Console | None = None) -> None:
        """Does not show anything yet.

        Args:
            console: Where to show the bar; standard error by default.
        """
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        if console is None:
            # The result is worth having, though nobody sees how far it is.
            console = output_console(lambda error: None, stderr=True)
        self._console = console
        self._is_live = self._console.is_terminal and not self._console.is_dumb_terminal
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            TextColumn("left{task.fields[note]}"),
            console=self._console,
            transient=True,
            redirect_stdout=False,
            speed_estimate_period=SPEED_SECONDS,
            disable=not self._is_live,
        )
        self._blocks = contextlib.ExitStack()
        self._last_shown = 0.0

    def __enter__(self) -> Bar:
        self._blocks.enter_context(self._bars)
        self._blocks.enter_context(compilation_shown(self._show_compilation))
        return self

    def __exit__(self, *raised: object) -> None:
        self._blocks.close()

    def begin(self, title: str, total: int) -> None:
        """Begins another computation, with a bar in place of the one before.

        Args:
            title: What is computed.
            total: The units of work in it, such as tokens.
        """
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        self._bars.add_task(title, total=total, note="")
        self._last_shown = self._console.get_time()

    def advance(self, units: int) -> None:
        """Adds units of work that are done."""
        (task,) = self._bars.tasks
        self._bars.advance(task.id, units)
        now = self._console.get_time()
        if not self._is_live and now - self._last_shown >= SECONDS_BETWEEN_LINES:
            self._last_shown = now
            left = task.time_remaining
            left = "" if left is None else f", {clock(left)} left"
            line = f"{task.description}: {task.percentage:.0f}%{left}"
            self._console.out(line, highlight=False)

    def expect(self, title: str, left: int) -> None:
        """Changes the title, and how many units of work are left from here on."""
        (task,) = self._bars.tasks
        total = task.completed + left
        self._bars.update(task.id, description=title, total=total)

    def _show_compilation(self, seconds: float) -> None:
        for task in self._bars.task_ids:
            self._bars.update(task, note=" · compiling" if seconds else "")
