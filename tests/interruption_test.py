"""The first signal is noted, the second ends the process, and others hear theirs."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from glrnn.console.interruption import Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_kept_to_oneself(number, capfd):
    before = signal.getsignal(number)
    interruption = Interruption()
    with interruption.awaited():
        assert not interruption.has_come()
        signal.raise_signal(number)
        assert interruption.has_come()
    assert interruption.signal == number
    assert signal.getsignal(number) is before
    assert "again to stop at once" in capfd.readouterr().err


def test_handlers_are_as_they_were_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), Interruption().awaited():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_signals_are_left_alone():
    handlers = []

    def work():
        with Interruption().awaited():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]


IMPATIENT = """
import signal
from glrnn.console.interruption import Interruption

interruption = Interruption()
with interruption.awaited():
    signal.raise_signal(signal.SIGTERM)
    assert interruption.has_come() and interruption.signal == signal.SIGTERM
    signal.raise_signal(signal.SIGINT)
    print("still here")
"""


def test_the_second_signal_shows_the_cursor_again():
    """Which a progress bar has hidden."""
    pty = pytest.importorskip("pty", reason="there are no terminals here")
    terminal, there = pty.openpty()
    subprocess.run([sys.executable, "-c", IMPATIENT], stdout=there, stderr=there)
    os.close(there)
    assert b"\x1b[?25h" in os.read(terminal, 10_000)
    os.close(terminal)


def test_an_output_that_nobody_reads_is_the_first_signal_but_not_the_second():
    interruption = Interruption()
    with interruption.awaited():
        signal.raise_signal(signal.SIGINT)
        interruption.output_is_lost()
    assert interruption.signal == signal.SIGINT
    interruption = Interruption()
    with interruption.awaited():
        interruption.output_is_lost()
        assert interruption.has_come()
        signal.raise_signal(signal.SIGTERM)
    assert interruption.signal == signal.SIGTERM


def test_the_pipes_of_others_are_not_the_output():
    """Those of event loops, for example, which may be closed while they are told."""
    interruption = Interruption()
    with interruption.awaited():
        signal.raise_signal(signal.SIGPIPE)
    assert not interruption.has_come()


def test_the_second_signal_ends_the_process_at_once():
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "")
