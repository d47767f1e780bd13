"""Requests to stop: Ctrl-C, SIGTERM, a closed terminal, the notice of preemption.

A closed terminal sends SIGHUP; `jax.distributed` has the notice.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterator
from types import FrameType
from typing import NoReturn

import jax
from jax.experimental.multihost_utils import reached_preemption_sync_point

# The number of SIGPIPE, which Windows does not have. No handler is installed for it:
# libraries have pipes of their own.
PIPE = 13
# SIGHUP, which Windows does not have.
HANGUP = getattr(signal, "SIGHUP", None)
# A progress bar hides the cursor.
SHOW_CURSOR = b"\x1b[?25h"
STOPPING = "stopping once the run is saved; press Ctrl-C again to quit immediately"


class Interruption:
    """Whether this process was asked to stop.

    Attributes:
        signal: The number of the signal that asked, or `None`.

    Example:
        >>> interruption = Interruption()
        >>> with interruption.awaited():
        ...     signal.raise_signal(signal.SIGTERM)
        ...     interruption.has_come()
        True
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._asked = 0

    def has_come(self) -> bool:
        """Whether to stop; call it before every update.

        Where several processes train together, all of them get the same answer at the
        same call.
        """
        self._asked += 1
        if jax.distributed.is_initialized() and reached_preemption_sync_point(
            self._asked
        ):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def output_is_lost(self) -> None:
        """Notes that nobody reads the output any more, as if a signal had come.

        A signal that follows is still the first one: the key that stopped the reader
        may have been meant for this process too.
        """
        self.signal = self.signal or PIPE

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Notes the first signal, and ends the process at the second one.

        A thread answers both at once, even while the main thread compiles a program,
        when no Python handler can run. Does nothing outside the main thread, the only
        one that may install handlers. Signals that are ignored stay so, as `nohup` and
        a shell script's background jobs want it. SIGTERM is left to `jax.distributed`
        where that is initialised.

        SIGHUP is never the second signal: a closing terminal sends it, and so does the
        shell in it.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        awaited = [number for number in _signals() if _is_ours(number)]
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        thread = threading.Thread(target=_answer, args=(reader, awaited), daemon=True)
        thread.start()
        wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        before = {number: signal.signal(number, self._note) for number in awaited}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(wakeup)
            writer.close()
            thread.join()
            reader.close()

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.signal in (None, PIPE):
            self.signal = number


def _signals() -> list[signal.Signals]:
    """The signals that ask a run to stop."""
    numbers = [signal.SIGINT]
    if HANGUP is not None:
        numbers.append(HANGUP)
    if not jax.distributed.is_initialized():
        numbers.append(signal.SIGTERM)
    return numbers


def _is_ours(number: int) -> bool:
    """Whether a signal is neither ignored nor handled outside of Python."""
    return signal.getsignal(number) not in (signal.SIG_IGN, None)


def _answer(reader: socket.socket, awaited: Collection[int]) -> None:
    """Says that the run is stopping at the first signal, and quits at the second.

    Args:
        reader: Yields the number of each signal as a byte, until it is closed.
        awaited: The signals that count.
    """
    told = asked = False
    while numbers := reader.recv(1):
        if numbers[0] not in awaited:
            continue
        if numbers[0] != HANGUP:
            if asked:
                _quit(numbers[0])
            asked = True
        if told:
            continue
        told = True
        # Through `sys.stderr`, so that a live display prints it above itself; nobody
        # may be there to read it.
        with contextlib.suppress(OSError, ValueError):
            print(STOPPING, file=sys.stderr, flush=True)


def _quit(number: int) -> NoReturn:
    """Ends the process, whatever it is doing."""
    try:
        output = sys.stdout.fileno()
        if os.isatty(output):
            os.write(output, SHOW_CURSOR)
    finally:
        os._exit(128 + number)
