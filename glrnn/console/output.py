"""Consoles whose output may be lost: a broken pipe, a closed terminal, a full disk.

rich ends the process with status 1 at a broken pipe, and puts /dev/null in the place of
standard output even if it is standard error that broke.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


class _Stream:
    """A stream whose every failure is a broken pipe, which rich tells its console of.

    A closed terminal fails with EIO, a full disk with ENOSPC.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            raise BrokenPipeError(*error.args) from error

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            raise BrokenPipeError(*error.args) from error


def output_console(
    when_lost: Callable[[OSError], None], stderr: bool = False, **options: Any
) -> Console:
    """A console that falls silent when its output cannot be written any more.

    Args:
        when_lost: Called with the error when that happens.
        stderr: Whether it is on standard error; else on standard output.
        **options: As rich's `Console` takes them.

    Example:
        >>> output_console(print).print("seen")
        seen
    """
    from rich.console import Console

    class Quiet(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True
            raised = sys.exc_info()[1]  # this is called where it is handled
            when_lost(getattr(raised, "__cause__", None) or BrokenPipeError())

    file = sys.stderr if stderr else sys.stdout
    stream: Any = None if file is None else _Stream(file)
    return Quiet(file=stream, stderr=stderr, **options)


def raise_lost(error: OSError) -> None:
    """What is done about an output that is lost where it is all there is to do."""
    raise error


def in_utf8() -> None:
    """Has standard output written in UTF-8, whatever the locale, as texts are read."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
