"""Errors that a user can mend, and how a command line reports them."""

import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


class LostError(Exception):
    """Another process that trains the same run is gone, or does not answer.

    Example:
        >>> raise LostError("another process of the run is gone")
        Traceback (most recent call last):
        ...
        glrnn.errors.LostError: another process of the run is gone
    """


# What a terminal obeys, or what breaks or reorders a line: control characters, the
# separators of lines and paragraphs, and marks that change the direction of writing.
_NOT_PRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


# The exit status of a run that lost one of its processes.
LOST = 3
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


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


@contextmanager
def told_plainly(
    interrupted: str = "stopped", leave: Callable[[int], NoReturn] | None = None
) -> Iterator[None]:
    """Turns errors that a user can expect into one line and an exit status.

    The status is 2 for a user's mistake or a failure of the system (a full disk, too
    little memory), 1 for a run that diverged, 3 for a run that lost one of its
    processes, 130 for Ctrl-C, 143 for SIGTERM, 129 for a closed terminal, and 141 for
    output that nobody reads any more. Any other exception is a defect and keeps its
    traceback.

    Args:
        interrupted: The line to print on Ctrl-C.
        leave: Ends the process with a status, once its last line is printed; by
            default `SystemExit` does, or `os._exit` where Python's shutdown would fail.

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
        _flush()
    except SystemExit:  # help has been printed, or a mistake
        _flush()
        raise
    except BrokenPipeError:
        os._exit(141)
    except (UsageError, OSError) as error:
        _exit(f"error: {error}", 2, leave)
    except MemoryError as error:
        _exit(f"error: too little memory: {one_line(error)}", 2, leave)
    except (RuntimeError, ValueError) as error:
        # JAX reports too little memory with this word, and Orbax a full disk.
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        _exit(f"error: {one_line(error)}", 2, leave)
    except DivergedError as error:
        _exit(f"stopped: {error}", 1, leave)
    except StoppedError as error:
        _leave(f"stopped: {error}", 128 + error.signal, leave)
    except LostError as error:
        _leave(f"stopped: {error}", LOST, leave)
    except KeyboardInterrupt:
        _leave(interrupted, 130, leave)


def one_line(error: BaseException) -> str:
    """The message of another library's error as one line of at most 300 characters.

    Example:
        >>> one_line(RuntimeError("no   room"))
        'no room'
    """
    return f"{' '.join(str(error).split()):.300}"


def said_by_jax(error: BaseException) -> str:
    """The message of an error of JAX's, and the variables by which it is set up.

    Example:
        >>> said_by_jax(RuntimeError("no backend")).split(";")[0]
        'no backend'
    """
    names = sorted(n for n in os.environ if n.startswith("JAX_") or n == "XLA_FLAGS")
    there = ", ".join(f"{name}={os.environ[name]}" for name in names)
    said = one_line(error) or type(error).__name__
    return f"{said}; the environment has {there}" if there else said


def _flush() -> None:
    """Writes what standard output still holds, while a failure can be told."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os._exit(141)
    except OSError as error:
        _exit(f"error: {error}", 2)


def _exit(
    last_words: str, status: int, leave: Callable[[int], NoReturn] | None = None
) -> NoReturn:
    """Ends the program, at once if Python's shutdown could not write what it holds."""
    said = _is_said(last_words)
    if leave is not None:
        leave(status)
    if said:
        raise SystemExit(status) from None
    os._exit(status)


def _leave(
    last_words: str, status: int, leave: Callable[[int], NoReturn] | None
) -> NoReturn:
    """Ends the process at once.

    Python's own shutdown crashes while a device is at work. Nothing is being saved any
    more, since the blocks of all context managers have been left.
    """
    _is_said(last_words)
    (leave or os._exit)(status)


def _is_said(last_words: str) -> bool:
    """Prints the last line; whether both standard streams can be written."""
    said = True
    try:
        if sys.stderr is not None:  # or `print` would take standard output
            print(printable(last_words[:_LONGEST]), file=sys.stderr, flush=True)
    except OSError:  # the reader may be gone, the terminal closed, the disk full
        said = False
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        said = False
    return said
