"""How a process ends that `jax.distributed` has joined with others.

JAX ends a process whose companions are gone by SIGABRT, waits for them at exit, and
writes to the standard streams from C++. Here each such end becomes one line and an exit
status, whatever JAX does.
"""

import contextlib
import ctypes
import faulthandler
import io
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

import jax

from glrnn.console.interruption import SHOW_CURSOR
from glrnn.errors import LOST

GONE = (
    "another process of the run is gone or does not answer; what was saved is "
    "untouched; the same command, given to all processes, resumes the run"
)
# How much later than ours JAX's patience ends at the start, in seconds, so that ours
# has the word; and ours than JAX's at the end.
LATER, STILL_LATER = 60, 5


class Ending:
    """The end of a process that is joined with others."""

    def __init__(self, patience: float) -> None:
        """Nothing is done yet.

        Args:
            patience: The seconds that JAX waits for other processes at the end.
        """
        self._patience = patience
        self._errors: Any = sys.stderr
        self._status: int | None = None
        self._handler: Any = None

    def prepare(self, folder: Path | None) -> None:
        """Hides what C++ prints, and answers its SIGABRT.

        Args:
            folder: Where to keep what is hidden; `None` for nowhere.

        Raises:
            OSError: The folder cannot be written.
        """
        path = Path(os.devnull)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{socket.gethostname()}_{os.getpid()}.log"
        hidden = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        sys.stdout, sys.stderr = _above(sys.stdout), _above(sys.stderr)
        self._errors = sys.stderr
        for stream in (1, 2):
            os.dup2(hidden, stream)
        faulthandler.enable(self._errors)  # other crashes than an abort are defects
        # `signal.signal` would run its handler too late: after `abort` has ended the
        # process. C's own runs ours at once, in whichever thread aborts.
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)
        ctypes.CDLL(None).signal(signal.SIGABRT, self._handler)

    def leave(self, status: int) -> NoReturn:
        """Ends the process, last of all if it is the one that the others depend on.

        The first process has JAX's service: without it the others would be aborted. So
        all wait for each other here; one that ends alone, as long as it is patient; one
        that has lost another, not at all.
        """
        self._status = status
        _flush()
        if status == LOST:
            os._exit(status)
        guard = threading.Timer(self._patience + STILL_LATER, os._exit, (status,))
        guard.daemon = True
        guard.start()
        with contextlib.suppress(Exception):
            if jax.distributed.is_initialized():
                jax.distributed.shutdown()
        os._exit(status)

    def leave_at_once(self, last_words: str, status: int) -> NoReturn:
        """Ends the process with one line, whatever its other threads are doing."""
        with contextlib.suppress(OSError, ValueError):
            if self._errors.isatty():  # where a progress bar hides the cursor
                self._errors.write(SHOW_CURSOR.decode())
            print(last_words, file=self._errors, flush=True)
        _flush()
        os._exit(status)

    def _aborted(self, number: int) -> None:
        del number
        if self._status is not None:  # its last line is printed
            os._exit(self._status)
        self.leave_at_once(f"stopped: {GONE}", LOST)


def _above(stream: Any) -> Any:
    """A stream to where another one leads, whose number C++ may have."""
    try:
        stream.flush()
        copy = os.dup(stream.fileno())
    except (AttributeError, OSError, ValueError):  # no file behind it
        return stream
    return io.TextIOWrapper(
        os.fdopen(copy, "wb"),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
    )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
