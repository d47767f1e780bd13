"""What a command line says of what can be expected to go wrong, and its exit status."""

import os
import subprocess
import sys

import pytest

from glrnn.errors import DivergedError, UsageError, told_plainly


def raised(error, capsys):
    """The exit status, and what was said."""
    with pytest.raises(SystemExit) as exit_, told_plainly():
        raise error
    return exit_.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("no such cell"), 2, "error: no such cell\n"),
        (DivergedError("layer 2"), 1, "stopped: layer 2\n"),
        (OSError(28, "No space left", "a.txt"), 2, "error: [Errno 28] No space left"),
        (
            MemoryError("Unable to\nallocate 9 TiB"),
            2,
            "memory: Unable to allocate 9 TiB",
        ),
        (
            RuntimeError("RESOURCE_EXHAUSTED: no\nroom"),
            2,
            "RESOURCE_EXHAUSTED: no room",
        ),
        (UsageError("a\x1b[2J\nb"), 2, "error: a\\x1b[2J\\x0ab\n"),
        (OSError(2, "No such file", "a\x1bb"), 2, "'a\\x1bb'\n"),
        (ValueError("x RESOURCE_EXHAUSTED: " + "y" * 999), 2, "error: x RESOURCE"),
    ],
)
def test_one_line_and_a_status(capsys, error, status, said):
    code, printed = raised(error, capsys)
    assert code == status
    assert said in printed
    assert printed.count("\n") == 1
    assert len(printed) < 400


@pytest.mark.parametrize("error", [RuntimeError("a defect"), ValueError("a defect")])
def test_a_defect_keeps_its_traceback(error):
    with pytest.raises(type(error), match="a defect"), told_plainly():
        raise error


def run(body, **how):
    program = (
        f"from glrnn.errors import told_plainly\nwith told_plainly('ended'):\n {body}"
    )
    return subprocess.run(
        [sys.executable, "-c", program], stderr=subprocess.PIPE, text=True, **how
    )


def test_an_interrupt_is_told_as_the_command_wants():
    done = run("raise KeyboardInterrupt")
    assert (done.returncode, done.stderr) == (130, "ended\n")


def test_output_that_nobody_reads_ends_in_silence(unread):
    done = run("print('x')", stdout=unread)
    assert (done.returncode, done.stderr) == (141, "")


# As after a result, and as after help.
@pytest.mark.parametrize("end", ["", "; raise SystemExit(0)"])
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_output_that_cannot_be_written_is_one_line(end):
    with open("/dev/full", "w") as full:
        done = run(f"print('x'){end}", stdout=full)
    assert done.returncode == 2
    assert done.stderr.startswith("error: [Errno 28] No space left on device\n")


def test_a_sign_that_the_output_lacks_is_replaced():
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = run("print('a \u00b7 b')", stdout=subprocess.PIPE, env=environment)
    assert (done.returncode, done.stdout) == (0, "a ? b\n")
