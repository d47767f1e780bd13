"""What a person sees of a run.

On a terminal, a bar with the time left stays below the lines of finished epochs. Where
the output is a file or a pipe, plain lines: one for each epoch, and one about every 30
seconds so that a log shows life.
"""

from __future__ import annotations

import contextlib
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from glrnn.console.compilation import compilation_shown
from glrnn.console.epoch_line import clock
from glrnn.console.output import output_console
from glrnn.console.sentence import print_sentence
from glrnn.console.table import print_table
from glrnn.ground.losses import to_perplexity

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Task

SECONDS_BETWEEN_PLAIN_LINES = 30.0
REFRESH_SECONDS = 0.2
SEPARATOR = " · "


class Progress:
    """Shows a run to a person.

    A context manager: the terminal is as it was when the block is left, however it is
    left.

    Example:
        >>> import io
        >>> from rich.console import Console
        >>> log = Console(file=io.StringIO())
        >>> with Progress(console=log) as progress:
        ...     progress.begin_epoch("epoch 1/2", total_tokens=1000)
        ...     progress.end_epoch("epoch 1/2: loss 4.5")
        >>> print(log.file.getvalue(), end="")
        epoch 1/2: loss 4.5
    """

    def __init__(
        self,
        console: Console | None = None,
        when_lost: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepares the display.

        Args:
            console: Where to show the run; standard output if not given.
            when_lost: Called when standard output cannot be written any more (nobody
                reads it, its terminal is closed, the disk is full); nothing is shown
                after that.
        """
        from rich.live import Live
        from rich.progress import (
            BarColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Bars

        self._console = console if console is not None else _console(when_lost)
        self._bars = Bars(
            BarColumn(bar_width=30),
            TaskProgressColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} tokens"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=self._console,
            auto_refresh=False,
        )
        self._title = ""
        self._status: list[str] = []
        self._compiling = 0.0
        self._told_of: set[str] = set()
        self._blocks = contextlib.ExitStack()
        self._live = None
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._render,
                auto_refresh=False,
                transient=True,
            )
        self._last_shown = 0.0

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._blocks.enter_context(self._live)
        self._blocks.enter_context(compilation_shown(self._show_compilation))
        return self

    def __exit__(self, *raised: object) -> None:
        self._blocks.close()

    def say(self, text: str) -> None:
        """Shows one line; a terminal too narrow for it breaks it between words."""
        print_sentence(text, self._console)

    def begin_epoch(self, title: str, total_tokens: int, tokens: int = 0) -> None:
        """Starts the bar of an epoch.

        Args:
            title: The title of the epoch, such as `phase 2/3 · finetune · epoch 3/40`.
            total_tokens: The number of tokens in the epoch.
            tokens: The number of tokens that are already done.
        """
        if self._title == title and self._bars.tasks[0].completed == tokens:
            return
        self._forget_epoch()
        self._title = title
        self._bars.add_task(title, total=total_tokens, completed=tokens)
        self._refresh()
        self._last_shown = self._console.get_time()

    def update(
        self,
        tokens: int,
        figures: Mapping[str, float],
        norms: Mapping[str, tuple[float, float]],
        averaging: bool,
    ) -> None:
        """Shows how far the epoch is.

        Args:
            tokens: The number of tokens done in this epoch.
            figures: Numbers to show, by name. `loss`, in nats per token, is shown as a
                perplexity too.
            norms: The gradient norm and the limit of each group.
            averaging: Whether the averaging of parameters has begun.
        """
        task = self._bars.tasks[0]
        self._bars.update(task.id, completed=tokens)
        now = self._console.get_time()
        pause = SECONDS_BETWEEN_PLAIN_LINES if self._live is None else REFRESH_SECONDS
        if now - self._last_shown < pause:
            return
        self._last_shown = now
        self._status = [
            _join([*_figures(figures), _speed(task), _averaging(averaging)]),
            "gradient norm/limit: " + _join(_norms(norms)),
        ]
        self._refresh()
        if self._live is None:
            done = f"{task.percentage:.0f}%"
            self.say(_join([self._title, done, *self._status, _time_left(task)]))

    def end_epoch(self, line: str) -> None:
        """Replaces the bar of the epoch with one line."""
        self._forget_epoch()
        self.say(line)

    def table(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Shows a table with one column for each key, such as the phases of a run."""
        print_table(rows, self._console)

    def _show_compilation(self, seconds: float) -> None:
        """Shows how long compiling takes; in a file, once a phase that it does."""
        self._compiling = seconds
        self._refresh()
        phase = self._title.partition(SEPARATOR)[0]
        if self._live is None and seconds and phase not in self._told_of:
            self._told_of.add(phase)
            self.say(_join([phase, "compiling"]))

    def _forget_epoch(self) -> None:
        self._title, self._status = "", []
        for task in self._bars.task_ids:
            self._bars.remove_task(task)
        self._refresh()

    def _refresh(self) -> None:
        if self._live is not None:
            self._live.refresh()

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        lines = [Text(line) for line in self._status]
        if self._compiling:
            lines.append(Text(f"compiling · {clock(self._compiling)}"))
        if not self._title:
            return Group(*lines)
        return Group(Text(self._title, style="bold"), self._bars, *lines)


def _console(when_lost: Callable[[], None]) -> Console:
    """A console on standard output that falls silent when that is lost."""

    def lost(error: OSError) -> None:
        if not isinstance(error, BrokenPipeError):
            with contextlib.suppress(OSError):
                print(f"standard output is lost: {error.strerror}", file=sys.stderr)
        when_lost()

    return output_console(lost)


def _join(pieces: Sequence[str]) -> str:
    return SEPARATOR.join(piece for piece in pieces if piece)


def _figures(figures: Mapping[str, float]) -> list[str]:
    pieces = []
    for name, value in figures.items():
        pieces.append(f"{name} {value:.4g}")
        if name == "loss":
            pieces.append(f"perplexity {to_perplexity(value):,.2f}")
    return pieces


def _norms(norms: Mapping[str, tuple[float, float]]) -> list[str]:
    return [f"{name} {norm:.3g}/{limit:.3g}" for name, (norm, limit) in norms.items()]


def _speed(task: Task) -> str:
    return f"{task.speed:,.0f} tokens/s" if task.speed else ""


def _time_left(task: Task) -> str:
    if task.time_remaining is None:
        return ""
    return f"{datetime.timedelta(seconds=round(task.time_remaining))} left"


def _averaging(averaging: bool) -> str:
    return f"averaging {'on' if averaging else 'off'}"
