"""A command line that several processes run together, joined by `jax.distributed`."""

import contextlib
import math
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import jax

from glrnn.console.ending import GONE, LATER, Ending
from glrnn.errors import LostError, UsageError, one_line, told_plainly
from glrnn.ground.devices import require_devices
from glrnn.ground.validation import above, at_least, check

AUTO = "auto"
# Words of the errors that JAX raises where another process is gone.
GONE_TO_JAX = ("Gloo", "NCCL", "coordination service", "heartbeat")


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
    ending = Ending(cluster.lost_seconds)
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
        # The first one prints.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


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
