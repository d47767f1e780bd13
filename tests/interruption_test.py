"""The first signal is noted, the second ends the process, and others hear theirs."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from glrnn.console.interruption import STOPPING, Interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_kept_to_oneself(number, capfd):
    before = signal.getsignal(number)
    interruption = Interruption()
    with interruption.awaited():
        assert not interruption.has_come()
        signal.raise_signal(number)
        assert interruption.has_come()
    assert interruption.signal == number
    assert signal.getsignal(number) is before
    assert capfd.readouterr().err == STOPPING + "\n"


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
import signal, time
from glrnn.console.interruption import Interruption

interruption = Interruption()
with interruption.awaited():
    signal.raise_signal(signal.SIGTERM)
    assert interruption.has_come() and interruption.signal == signal.SIGTERM
    signal.raise_signal(signal.SIGINT)
    time.sleep(60)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_ignored_signal_stays_ignored(number):
    """As by `nohup`, or in a shell script's background jobs."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with Interruption().awaited():
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


CLOSED = """
import signal, time
from glrnn.console.interruption import Interruption

interruption = Interruption()
with interruption.awaited():
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        signal.raise_signal(number)
        time.sleep(0.2)
    print(interruption.signal)
"""


def test_a_terminal_that_closes_is_never_the_second_signal():
    """Its kernel and its shell send one each, and systemd another after SIGTERM."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSED], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "1\n")
    assert done.stderr == STOPPING + "\n"


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


def test_what_was_told_of_signals_before_is_told_again():
    """An event loop, for example, that runs around the block."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        with Interruption().awaited():
            signal.raise_signal(signal.SIGINT)
        assert signal.set_wakeup_fd(-1) == theirs.fileno()


# The main thread of a process that neither runs Python nor ends a system call.
BUSY = """
import hashlib, os
from glrnn.console.interruption import Interruption

with Interruption().awaited():
    print("busy", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def test_signals_are_answered_while_the_main_thread_runs_no_python():
    """As when it compiles a program, for minutes."""
    with subprocess.Popen(
        [sys.executable, "-c", BUSY],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "busy\n"
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline() == STOPPING + "\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130


LIVE = """
import os, signal, time
from glrnn.console.interruption import Interruption
from glrnn.console.progress import Progress

with Progress() as progress, Interruption().awaited():
    progress.begin_epoch("an epoch", 100)
    for tokens in range(0, 100, 10):
        if tokens == 50:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.25)
        progress.update(tokens, {}, {}, False)
    progress.end_epoch("the epoch is over")
"""


@pytest.mark.thorough
def test_a_live_display_keeps_the_message():
    pty = pytest.importorskip("pty", reason="there are no terminals here")
    terminal, there = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", LIVE], stdout=there, stderr=there, env=environment
    ) as process:
        os.close(there)
        shown = b""
        with contextlib.suppress(OSError):  # Linux: the other end is closed
            while piece := os.read(terminal, 10_000):
                shown += piece
    os.close(terminal)
    assert process.returncode == 0
    _, message, after = shown.decode().partition(STOPPING)
    assert message
    # The line is ended, and the display drawn anew below it, before anything is erased.
    erased = after.index("\x1b[2K")
    assert "an epoch" in after[after.index("\n") : erased]


def test_the_second_signal_ends_the_process_at_once():
    done = subprocess.run(
        [sys.executable, "-c", IMPATIENT], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "")
