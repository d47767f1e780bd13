"""Mistakes that are the user's to mend, and how a command line tells of them."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(ValueError):
    """A mistake in what a user handed over: an option, a config field, a file.

    The message names the thing, the value and the choices, in one line.

    Example:
        >>> raise UsageError("unknown cell 'lstn'; choose from: lstm")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: unknown cell 'lstn'; choose from: lstm
    """


class DivergedError(ArithmeticError):
    """A loss or gradient was not finite; the message says where and what is safe.

    Example:
        >>> raise DivergedError("the gradient of layer 2 is not finite at update 7")
        Traceback (most recent call last):
        ...
        glrnn.errors.DivergedError: the gradient of layer 2 is not finite at update 7
    """


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turns what a user can expect to go wrong into one line and an exit status.

    2 for a mistake, 1 for a run that diverged, 130 for Ctrl-C. Everything else is a
    defect and keeps its traceback.

    Example:
        >>> with told_plainly():
        ...     raise UsageError("unknown cell 'lstn'; choose from: lstm")
        Traceback (most recent call last):
        ...
        SystemExit: 2
    """
    try:
        yield
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except DivergedError as error:
        print(f"stopped: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last epoch", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        # At once: Python taking itself down under a device at work crashes. Whatever
        # was being saved is whole by now, for its block has been left.
        os._exit(130)
