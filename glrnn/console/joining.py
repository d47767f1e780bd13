"""A command line of which several processes run, joined by `jax.distributed`.

JAX ends a process whose companions are gone by SIGABRT, waits for them at exit, and
writes to the standard streams from C++. Here each such end becomes one line and an exit
status, whatever JAX does.
"""

import contextlib
import ctypes
import faulthandler
import io
import math
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import jax

from glrnn.console.interruption import SHOW_CURSOR
from glrnn.errors import LOST, LostError, UsageError, one_line, told_plainly
from glrnn.ground.devices import require_devices
from glrnn.ground.validation import above, at_least, check

AUTO = "auto"
GONE = (
    "another process of the run is gone or does not answer; what was saved is "
    "untouched; the same command, given to all processes, resumes the run"
)
# Words of the errors that JAX raises where another process is gone.
GONE_TO_JAX = ("Gloo", "NCCL", "coordination service", "heartbeat")
# How much later JAX's own patience ends than ours, in seconds.
LATER = 60


@dataclass(frozen=True)
class Cluster:
    """Which processes train the run together.

    Attributes:
        distributed: auto, where JAX detects the cluster (Slurm, Open MPI, TPU pods);
            or HOST:PORT of process 0, with --num-processes and --process-id. Nothing
            for one process.
        num_processes: The number of processes.
        process_id: The number of this process, from 0.
        join_seconds: The seconds to wait for all processes at the start.
        lost_seconds: The seconds after which a process that does not answer is lost.
        jax_log: A folder in which to keep what JAX's libraries print while processes
            are joined, a file each; it is thrown away by default.

    Raises:
        UsageError: A field is outside its range, or they do not go together.

    Example:
        >>> Cluster("here")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: --distributed is 'here'; it must be auto or HOST:PORT
    """

    distributed: str = ""
    num_processes: int = field(default=0, metadata=at_least(0))
    process_id: int = field(default=0, metadata=at_least(0))
    join_seconds: float = field(default=50.0, metadata=above(0))
    lost_seconds: float = field(default=25.0, metadata=at_least(1))
    jax_log: Path | None = None

    def __post_init__(self):
        check(self)
        if self.jax_log is not None and not self.distributed:
            raise UsageError("--jax-log needs --distributed")
        if self.distributed in ("", AUTO):
            if self.num_processes or self.process_id:
                raise UsageError(
                    "--num-processes and --process-id need --distributed HOST:PORT"
                )
            return
        host, _, port = self.distributed.rpartition(":")
        if not (host and port.isascii() and port.isdigit() and int(port) < 2**16):
            raise UsageError(
                f"--distributed is {self.distributed!r}; it must be auto or HOST:PORT"
            )
        if not 0 <= self.process_id < self.num_processes:
            raise UsageError(
                f"--process-id is {self.process_id} of --num-processes "
                f"{self.num_processes}; give the number of processes, and each its own "
                f"id, from 0"
            )

    @property
    def where(self) -> dict[str, Any]:
        """The arguments by which `jax.distributed.initialize` finds the others."""
        if self.distributed == AUTO:
            return {}
        return {
            "coordinator_address": self.distributed,
            "num_processes": self.num_processes,
            "process_id": self.process_id,
        }


@contextlib.contextmanager
def joined(cluster: Cluster, interrupted: str = "stopped") -> Iterator[None]:
    """Joins the processes of a cluster; the process ends with the block.

    Without one the block is run as it is. To be entered before JAX opens its devices.

    Args:
        cluster: The processes.
        interrupted: The line to print on Ctrl-C.
    """
    if not cluster.distributed:
        yield
        return
    ending = _Ending(cluster.lost_seconds)
    try:
        with told_plainly(interrupted, ending.leave):
            ending.prepare(cluster.jax_log)
            _join(cluster, ending.leave_at_once)
            with _lost_told():
                yield
    except SystemExit as ended:
        ending.leave(ended.code if isinstance(ended.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        ending.leave(1)
    ending.leave(0)


@contextlib.contextmanager
def _lost_told() -> Iterator[None]:
    """Turns the errors by which JAX says that a process is gone into ours."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        told = str(error)
        if isinstance(error, UsageError) or not any(m in told for m in GONE_TO_JAX):
            raise
        raise LostError(GONE) from error


def _join(cluster: Cluster, leave_at_once: Callable[[str, int], NoReturn]) -> None:
    """Joins the others, or gives up."""
    me = f"process {cluster.process_id} of {cluster.num_processes}"
    if cluster.distributed == AUTO:
        me = "this process"
    # `initialize` never raises if one is missing, but aborts.
    timer = threading.Timer(
        cluster.join_seconds,
        leave_at_once,
        (
            f"error: {me} has waited {cluster.join_seconds:g} seconds for the others, "
            f"and not all have come; --join-seconds waits longer",
            2,
        ),
    )
    timer.daemon = True
    timer.start()
    lost_seconds = math.ceil(cluster.lost_seconds)
    try:
        _check_port(cluster)
        jax.distributed.initialize(
            **cluster.where,
            initialization_timeout=math.ceil(cluster.join_seconds) + LATER,
            heartbeat_timeout_seconds=lost_seconds,
            shutdown_timeout_seconds=lost_seconds,
        )
        require_devices()  # which waits for those of the others
    except UsageError:
        raise
    except (RuntimeError, ValueError, OSError) as error:
        if cluster.distributed == AUTO and not jax.distributed.is_initialized():
            raise UsageError(
                f"JAX detects no cluster here ({one_line(error)}); give --distributed "
                f"HOST:PORT, --num-processes and --process-id"
            ) from None
        raise UsageError(f"{me} cannot join: {one_line(error)}") from None
    finally:
        timer.cancel()
    if jax.process_index():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the first one prints


def _check_port(cluster: Cluster) -> None:
    """Refuses a port that process 0 cannot have: JAX would crash."""
    if cluster.where and cluster.process_id == 0:
        port = int(cluster.distributed.rpartition(":")[2])
        try:
            socket.create_server(("", port)).close()
        except OSError as error:
            raise UsageError(
                f"process 0 cannot use port {port} of --distributed "
                f"{cluster.distributed}: {error.strerror}"
            ) from None


class _Ending:
    """How a process ends that is joined with others."""

    def __init__(self, patience: float) -> None:
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
        if folder is None:
            hidden = tempfile.TemporaryFile()  # noqa: SIM115 - until the process ends
        else:
            folder.mkdir(parents=True, exist_ok=True)
            name = f"{socket.gethostname()}_{os.getpid()}.log"
            hidden = open(folder / name, "ab")  # noqa: SIM115
        sys.stdout, sys.stderr = _above(sys.stdout), _above(sys.stderr)
        self._errors = sys.stderr
        for stream in (1, 2):
            os.dup2(hidden.fileno(), stream)
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
        guard = threading.Timer(self._patience + LATER / 10, os._exit, (status,))
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
