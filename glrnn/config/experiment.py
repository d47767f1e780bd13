"""Experiments: Python files with one `config = Config(...)`."""

import os
import runpy
import sys
from pathlib import Path

from glrnn.config import Config
from glrnn.errors import UsageError


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
    sys.path.insert(0, str(path.parent.absolute()))
    try:
        config = runpy.run_path(str(path)).get("config")
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UsageError(f"{path} failed: {reason}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(config, Config):
        raise UsageError(f"{path} has no `config = glrnn.Config(...)`")
    return config
