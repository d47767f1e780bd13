"""Being told to stop: SIGTERM, Ctrl-C, the preemption notice of `jax.distributed`."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import jax
from jax.experimental.multihost_utils import reached_preemption_sync_point

# The number of SIGPIPE, which Windows does not have. It is not waited for: libraries
# have pipes of their own.
PIPE = 13
# A progress bar hides the cursor.
SHOW_CURSOR = b"\x1b[?25h"


class Interruption:
    """Whether this process has been told to stop.

    Attributes:
        signal: The number of the signal that told it, or `None`.

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
        """Whether to stop; to be asked before every update.

        Where several processes work together, all of them are told at the same time,
        provided that they have asked equally often.
        """
        self._asked += 1
        if jax.distributed.is_initialized() and reached_preemption_sync_point(
            self._asked
        ):
            self.signal = signal.SIGTERM
        return self.signal is not None

    def output_is_lost(self) -> None:
        """Notes that nobody reads the output any more, as a signal like others.

        It is not a second one: what read the output may have been told to stop by the
        same key.
        """
        self.signal = self.signal or PIPE

    @contextlib.contextmanager
    def awaited(self) -> Iterator[None]:
        """Has the first signal noted, and the second one end the process at once.

        Does nothing but in the main thread, the only one that signals reach. SIGTERM is
        left to `jax.distributed` where that has been initialised.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        awaited = [signal.SIGINT]
        if not jax.distributed.is_initialized():
            awaited.append(signal.SIGTERM)
        before = {number: signal.signal(number, self._note) for number in awaited}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        with contextlib.suppress(OSError):  # nobody may be there to read it
            if self.signal not in (None, PIPE):
                if os.isatty(1):
                    os.write(1, SHOW_CURSOR)
                os._exit(128 + number)
            self.signal = number
            os.write(2, b"stopping, once this update is saved; again to stop at once\n")
