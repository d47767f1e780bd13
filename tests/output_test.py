"""An output that cannot be written any more ends no work but that of showing it."""

import errno
import io
import os
import subprocess
import sys

import pytest

from glrnn.console.bar import Bar
from glrnn.console.output import output_console
from glrnn.console.progress import Progress
from glrnn.console.table import print_table


class Failing(io.StringIO):
    """A stream that fails as a closed terminal or a full disk does."""

    def __init__(self, number, terminal=False):
        super().__init__()
        self.number, self.terminal = number, terminal

    def isatty(self):
        return self.terminal

    def write(self, text):
        raise OSError(self.number, os.strerror(self.number))


LOST = [errno.EPIPE, errno.EIO, errno.ENOSPC]


@pytest.mark.parametrize("number", LOST)
@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_is_told_and_shows_nothing_more(number, terminal, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Failing(number, terminal))
    monkeypatch.setenv("TERM", "xterm")
    calls = []
    with Progress(when_lost=lambda: calls.append(1)) as progress:
        progress.say("one")
        progress.begin_epoch("epoch", 10)
        progress.say("two")
    assert calls == [1]
    told = "" if number == errno.EPIPE or terminal else "standard output is lost: "
    assert capsys.readouterr().err.startswith(told)


@pytest.mark.parametrize("number", LOST)
def test_a_table_raises_what_has_happened(number, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Failing(number))
    with pytest.raises(OSError) as caught:
        print_table([{"a": 1}])
    assert caught.value.errno == number


@pytest.mark.parametrize("number", LOST)
def test_a_bar_without_a_reader_is_no_error(number, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Failing(number, terminal=True))
    monkeypatch.setenv("TERM", "xterm")
    with Bar() as bar:
        bar.begin("statistics", 10)
        bar.advance(5)


def test_the_output_of_others_stays_where_it_is(unread):
    """rich would put /dev/null in the place of standard output."""
    program = (
        "from glrnn.console.output import output_console\n"
        "output_console(lambda error: None, stderr=True).print('bar')\n"
        "print('result')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=unread
    )
    assert (done.returncode, done.stdout) == (0, b"result\n")


def test_a_stream_that_is_closed_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    output_console(print).print("nothing")


def test_a_table_that_nobody_reads_ends_the_command_with_141(unread):
    program = (
        "from glrnn.console.table import print_table\n"
        "from glrnn.errors import told_plainly\n"
        "with told_plainly(): print_table([{'a': 1}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=unread, stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr) == (141, b"")
