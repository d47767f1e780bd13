"""The start of a command line, before its imports: Ctrl-C, streams, the terminal.

Each door begins with `start`, since its imports take a second or two, in which Ctrl-C
would end in a traceback, crash a C extension, or be swallowed.
"""

# Nothing else is imported before Ctrl-C is answered.
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, NoReturn

STREAMS = ("stdin", "stdout", "stderr")
STOPPED = b"stopped\n"
# The columns that a terminal is taken to have at least.
NARROWEST = 20
# Erases the line of a progress bar, and shows the cursor that it has hidden.
ERASE_BAR = b"\r\x1b[K\x1b[?25h"


def start(door: str) -> None:
    """Imports a command line, runs it, and ends the process.

    Args:
        door: The module with its `main`.

    Raises:
        SystemExit: Always, with the exit status.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
        sys.unraisablehook = _unraisable
    from importlib import import_module

    from glrnn.errors import told_plainly

    try:
        with told_plainly():
            _open_closed_streams()
            _widen()
            _import_jax()
            import_module(door).main()
    finally:
        # Python's shutdown answers Ctrl-C with a traceback.
        if signal.getsignal(signal.SIGINT) is _interrupt:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit()


def train() -> None:
    """Starts `glrnn-train`."""
    start("glrnn.train")


def evaluate() -> None:
    """Starts `glrnn-evaluate`."""
    start("glrnn.evaluate")


def check() -> None:
    """Starts `glrnn-check`."""
    start("glrnn.check")


def runs() -> None:
    """Starts `glrnn-runs`."""
    start("glrnn.runs")


def score() -> None:
    """Starts `glrnn-score`."""
    start("glrnn.score")


def generate() -> None:
    """Starts `glrnn-generate`."""
    start("glrnn.generate")


def study() -> None:
    """Starts `glrnn-study`."""
    start("glrnn.study")


def report() -> None:
    """Starts `glrnn-report`."""
    start("glrnn.report")


def _interrupt(number: int, frame: "FrameType | None") -> None:
    """Answers Ctrl-C: as Python does, but at once in the middle of an import."""
    del number
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _leave()
        frame = frame.f_back
    raise KeyboardInterrupt


def _unraisable(unraisable: "Any") -> None:
    """Ends the process if Ctrl-C came in a callback, whose exceptions Python ignores.

    JAX has one that the garbage collector calls.
    """
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        _leave()
    sys.__unraisablehook__(unraisable)


def _leave() -> "NoReturn":
    # Not by `print`, which may be what was interrupted.
    try:
        errors = sys.stderr.fileno()
        os.write(errors, (ERASE_BAR if os.isatty(errors) else b"") + STOPPED)
    finally:
        os._exit(130)


def _open_closed_streams() -> None:
    """Opens the standard streams that are closed, with nothing behind them.

    Otherwise the next file that is opened takes the number of the closed one, and what
    libraries print goes into that file.

    Raises:
        UsageError: Standard output is closed.
    """
    from glrnn.errors import UsageError

    closed = [name for name in STREAMS if getattr(sys, name) is None]
    for name in closed:
        # It takes the lowest number that is free: that of the stream.
        nothing = os.open(os.devnull, os.O_RDWR)
        setattr(sys, name, os.fdopen(nothing, "r+", encoding="utf-8"))
    if "stdout" in closed:
        raise UsageError(
            "standard output is closed; send it to a file, or to /dev/null"
        )


def _widen() -> None:
    """Raises the number of columns to `NARROWEST`.

    In 5 columns, tyro's help takes ever more memory and never ends; in 0, rich shows
    nothing.
    """
    from shutil import get_terminal_size

    columns = os.environ.get("COLUMNS", "")
    if columns and not columns.strip("0"):
        del os.environ["COLUMNS"]
    if get_terminal_size().columns < NARROWEST:
        os.environ["COLUMNS"] = str(NARROWEST)


def _import_jax() -> None:
    """Imports JAX, which reads the environment.

    Raises:
        UsageError: JAX cannot be imported, or does not accept the environment.
    """
    from glrnn.errors import UsageError, said_by_jax

    try:
        import jax as jax
    except (ImportError, RuntimeError, ValueError) as error:
        raise UsageError(f"JAX cannot be imported: {said_by_jax(error)}") from None
