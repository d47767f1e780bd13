"""Experiments: Python files with one `config = Config(...)`."""

import contextlib
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

from glrnn.config import Config
from glrnn.errors import UsageError
from glrnn.ground.files import current_folder


def load(path: Path) -> Config:
    """Runs the file of an experiment and returns its `config`.

    The file's folder is put on the import path, so that experiments can import one
    another and change settings by `dataclasses.replace`.

    Args:
        path: The Python file.

    Raises:
        UsageError: if the file does not exist, fails, or has no `config`.

    Example:
        >>> load(Path("nowhere.py"))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: no experiment 'nowhere.py'; give a Python file with a \
`config`, the folder of a run, or nothing for the quickstart
    """
    if not os.path.isfile(path):
        raise UsageError(
            f"no experiment {str(path)!r}; give a Python file with a `config`, the "
            f"folder of a run, or nothing for the quickstart"
        )
    try:
        with _undone(path):
            config = runpy.run_path(str(path)).get("config")
    except KeyboardInterrupt:
        raise
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except BaseException as error:  # whatever the file raises
        raise UsageError(f"{path} failed: {_reason(error)}") from error
    if not isinstance(config, Config):
        raise UsageError(f"{path} has no `config = glrnn.Config(...)`")
    return config


@contextlib.contextmanager
def _undone(path: Path) -> Iterator[None]:
    """Undoes what running an experiment's file does to the process.

    Its folder is on the import path in the block only; modules that were imported from
    it are forgotten, since another experiment may have one of the same name; and the
    current folder, which paths of the command line start from, is what it was.
    """
    here = current_folder()
    folder, before = os.path.abspath(path.parent), (sys.path[:], {*sys.modules})
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # The file may have added folders of its own.
        folders = {os.path.abspath(name) for name in {*sys.path} - {*before[0]}}
        sys.path[:] = before[0]
        new = {*sys.modules} - before[1]
        own = {name for name in new if _home(name.partition(".")[0]) in folders}
        for name in own:
            del sys.modules[name]
        os.chdir(here)


def _home(module: str) -> str | None:
    """The folder that a module or a package is in."""
    found = sys.modules.get(module)
    places = [*getattr(found, "__path__", ()), getattr(found, "__file__", None)]
    return os.path.dirname(os.path.abspath(places[0])) if places[0] else None


def _reason(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}"
