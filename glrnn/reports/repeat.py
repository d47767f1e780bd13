"""What a stranger needs to repeat a run: its experiment as a file, and the command."""

import os
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, NamedTuple

from glrnn.config import Config
from glrnn.console.sentence import shell_word
from glrnn.data import CORPORA
from glrnn.storage.numerics import unusual
from glrnn.storage.run_folder import Run

# The home of each class that a config is made of.
HOMES = {
    "Averaging": "glrnn.config",
    "Config": "glrnn.config",
    "Dropout": "glrnn.config",
    "Layer": "glrnn.config",
    "Phase": "glrnn.config",
    "Stage": "glrnn.config",
    "Schedule": "glrnn.optim.learning_rate",
}
WIDTH = 80
FILE = "experiment.py"


class Recipe(NamedTuple):
    """How to repeat a run.

    Attributes:
        command: The command.
        source: The lines of the experiment's file; none for the quickstart.
        facts: What else there is to know, by name: texts, fingerprints, machine.
    """

    command: str
    source: tuple[str, ...]
    facts: dict[str, str]


def recipe(run: Run) -> Recipe:
    """How to repeat a run."""
    origin = run.origin
    # The name of a folder tells a stranger nothing but where it was.
    named = origin.data in CORPORA
    data = origin.data if named else "FOLDER"
    source = () if run.config == Config() else tuple(source_of(run.config))
    words = ["python", "-m", "glrnn.train", *([FILE] if source else [])]
    words += ["--data", data] if data != "python-docs" else []
    settings = unusual(origin.numerics) if origin.numerics is not None else []
    before = [setting for setting in settings if not setting.startswith("--")]
    words += [w for s in settings if s not in before for w in s.split()]
    words += ["--workdir", "runs/again"]
    facts = {
        "begun as": origin.experiment or "the quickstart",
        "texts": origin.data
        if origin.data in CORPORA
        else os.path.basename(origin.data),
        "SHA-256 of the texts and words": origin.sha256,
        **{f"SHA-256 of {split}": sha for split, sha in origin.splits_sha256.items()},
        "SHA-256 of the words": origin.vocabulary_sha256,
        **origin.machine,
    }
    return Recipe(
        " ".join([*before, *map(shell_word, words)]),
        source,
        {name: fact for name, fact in facts.items() if fact},
    )


def source_of(config: Config) -> list[str]:
    """The lines of an experiment's file with this config.

    Example:
        >>> source_of(Config(seed=3))
        ['from glrnn.config import Config', '', 'config = Config(seed=3)']
    """
    written = _written(config, "config = ")
    used = [name for name in HOMES if any(f"{name}(" in line for line in written)]
    imports = [
        f"from {home} import {', '.join(n for n in used if HOMES[n] == home)}"
        for home in dict.fromkeys(HOMES[name] for name in used)
    ]
    return [*imports, "", *written]


def _written(value: Any, before: str, indent: str = "", after: str = "") -> list[str]:
    """A value as Python source, of as many lines as it needs."""
    line = f"{indent}{before}{_source(value)}{after}"
    if len(line) <= WIDTH or not (is_dataclass(value) or isinstance(value, tuple)):
        return [line]
    inner = f"{indent}    "
    if isinstance(value, tuple):
        parts, opening = [("", each) for each in value], "("
    else:
        parts, opening = _changed(value), f"{type(value).__name__}("
    return [
        f"{indent}{before}{opening}",
        *(line for name, each in parts for line in _written(each, name, inner, ",")),
        f"{indent}){after}",
    ]


def _source(value: Any) -> str:
    """A value as Python source, of one line."""
    if is_dataclass(value):
        parts = ", ".join(f"{name}{_source(each)}" for name, each in _changed(value))
        return f"{type(value).__name__}({parts})"
    if isinstance(value, tuple):
        parts = ", ".join(map(_source, value))
        return f"({parts},)" if len(value) == 1 else f"({parts})"
    return repr(value)


def _changed(settings: Any) -> list[tuple[str, Any]]:
    """The fields that do not have their default, each with `name=`."""
    changed = []
    for spec in fields(settings):
        usual = spec.default
        if usual is MISSING and spec.default_factory is not MISSING:
            usual = spec.default_factory()
        value = getattr(settings, spec.name)
        if usual is MISSING or value != usual:
            changed.append((f"{spec.name}=", value))
    return changed
