"""Errors that a user can mend, and how a command line reports them."""

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn


class UsageError(ValueError):
    """A mistake in the user's input: an option, a config field, a file.

    The message is one line that names the thing, the value and the choices.

    Example:
        >>> raise UsageError("unknown cell 'lstn'; choose from: lstm")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: unknown cell 'lstn'; choose from: lstm
    """


class DamagedError(UsageError):
    """A file on disk is not as it was written; the message says which.

    Example:
        >>> raise DamagedError("params/head.bias/0 is missing")
        Traceback (most recent call last):
        ...
        glrnn.errors.DamagedError: params/head.bias/0 is missing
    """


class DeviceError(UsageError):
    """A device and the CPU computed different results; the message says which.

    Example:
        >>> raise DeviceError("TPU v9 computes wrong numbers")
        Traceback (most recent call last):
        ...
        glrnn.errors.DeviceError: TPU v9 computes wrong numbers
    """


class DivergedError(ArithmeticError):
    """A loss or gradient was not finite; the message says where and what is saved.

    Example:
        >>> raise DivergedError("the gradient of layer 2 is not finite at update 7")
        Traceback (most recent call last):
        ...
        glrnn.errors.DivergedError: the gradient of layer 2 is not finite at update 7
    """


class StoppedError(Exception):
    """A run has stopped on a signal; the message says where it will resume.

    Attributes:
        signal: The number of the signal.

    Example:
        >>> raise StoppedError(15, "saved after update 7")
        Traceback (most recent call last):
        ...
        glrnn.errors.StoppedError: saved after update 7
    """

    def __init__(self, signal: int, message: str) -> None:
        super().__init__(message)
        self.signal = signal


# What a terminal obeys, or what breaks or reorders a line: control characters, the
# separators of lines and paragraphs, and marks that change the direction of writing.
_NOT_PRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


# The largest number of characters of a message: some quote what they are about.
_LONGEST = 10_000


def printable(text: str) -> str:
    r"""A text from a disk as one line that is safe to print.

    Names of files, words and messages may come from anyone, and a terminal obeys the
    control characters in them.

    Example:
        >>> printable("a\x1b[31m\nb")
        'a\\x1b[31m\\x0ab'
    """
    return _NOT_PRINTABLE.sub(lambda found: _escaped(ord(found[0])), text)


def _told(error: BaseException) -> str:
    text = str(error)
    return printable(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


@contextmanager
def told_plainly(interrupted: str = "stopped") -> Iterator[None]:
    """Turns errors that a user can expect into one line and an exit status.

    The status is 2 for a user's mistake or a failure of the system (a full disk, too
    little memory), 1 for a run that diverged, 130 for Ctrl-C, 143 for SIGTERM, and 141
    for output that nobody reads any more. Any other exception is a defect and keeps its
    traceback.

    Args:
        interrupted: The line to print on Ctrl-C.

    Example:
        >>> with told_plainly():
        ...     raise UsageError("unknown cell 'lstn'; choose from: lstm")
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # no character may end a run
            stream.reconfigure(errors="replace")
    try:
        yield
        sys.stdout.flush()
    except UsageError as error:
        print(f"error: {_told(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        os._exit(141)
    except OSError as error:
        print(f"error: {_told(error)}", file=sys.stderr)
        raise SystemExit(2) from None
    except (RuntimeError, ValueError) as error:
        # JAX reports too little memory with this word, and Orbax a full disk.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        told = printable(" ".join(str(error).split()))
        print(f"error: {told:.300}", file=sys.stderr)
        raise SystemExit(2) from None
    except DivergedError as error:
        print(f"stopped: {_told(error)}", file=sys.stderr)
        raise SystemExit(1) from None
    except StoppedError as error:
        _leave(f"stopped: {_told(error)}", 128 + error.signal)
    except KeyboardInterrupt:
        _leave(interrupted, 130)


def _leave(last_words: str, status: int) -> NoReturn:
    """Ends the process at once.

    Python's own shutdown crashes while a device is at work. Nothing is being saved any
    more, since the blocks of all context managers have been left.
    """
    with suppress(OSError):  # the reader of the output may be gone
        print(last_words, file=sys.stderr, flush=True)
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(status)
