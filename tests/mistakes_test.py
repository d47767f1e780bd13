"""Every mistake of the table, made: one message, status 2, nothing changed."""

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import (
    COMBINATIONS,
    DIRECTORY,
    ENDLESS,
    ENVIRONMENT,
    FIELDS,
    FILES,
    HUGE,
    KINDS_OF_FIELDS,
    MISSING,
    OPTIONS,
    PIPE,
    RUN_FILES,
)
from tensorflow_datasets.core import constants

from glrnn import check, data, evaluate, generate, report, runs, score, study, train
from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage, experiment
from glrnn.errors import UsageError
from glrnn.ground.validation import from_values, to_json
from glrnn.optim.learning_rate import Schedule
from glrnn.storage import opening, run_folder
from glrnn.storage.metrics_log import MetricsLog
from glrnn.storage.run_folder import StageId

KINDS = [Config, Layer, Dropout, Averaging, Stage, Schedule, Phase]
MAINS = {
    "train": train.main,
    "evaluate": evaluate.main,
    "score": score.main,
    "generate": generate.main,
    "runs": runs.main,
    "report": report.main,
    "study": study.main,
    "check": check.main,
}
HINTS = {kind: typing.get_type_hints(kind) for kind in KINDS}


def refused(main, *arguments):
    """The one message of a command that exits with status 2."""
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as exit_,
    ):
        main([str(argument) for argument in arguments])
    message = printed.getvalue()
    assert exit_.value.code == 2, message
    assert "Traceback" not in message
    return " ".join(message.replace("│", " ").split())


def snapshot(folder):
    """Everything below a folder: the content of files, and that of folders as None."""
    return {
        path.relative_to(folder): path.read_bytes()
        if path.is_file() and path.stat().st_size < 2**20
        else None
        for path in folder.rglob("*")
    }


@contextlib.contextmanager
def nothing_changes(folder):
    before = snapshot(folder)
    yield
    assert snapshot(folder) == before


@pytest.fixture
def place(tmp_path, trained, monkeypatch):
    """A folder to be careless in, and what the names in the table stand for."""
    run, texts, _ = trained
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "empty").mkdir()
    for name in ("data", "other"):
        (tmp_path / name).mkdir()
        for split in data.SPLITS:
            shutil.copy(texts / f"{split}.txt", tmp_path / name)
    with (tmp_path / "other" / "train.txt").open("a") as file:
        file.write("\none more line")
    shutil.copy(texts / "small.py", tmp_path / "experiment.py")
    for name in ("train.txt", "dev.txt", "val.txt", "test.txt"):
        (tmp_path / "several").mkdir(exist_ok=True)
        (tmp_path / "several" / name).write_text("the cat")
    (tmp_path / "pipes").mkdir()
    for split in data.SPLITS:
        os.mkfifo(tmp_path / "pipes" / f"{split}.txt")
    (tmp_path / "new").mkdir()
    for name in ("config.json", "origin.json", "vocabulary.json"):
        shutil.copy(run / name, tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    return tmp_path


NAMES = {"EXPERIMENT": "experiment.py", "DATA": "data", "RUN": "run"}


def spelled(words):
    return [
        re.sub("EXPERIMENT|DATA|RUN", lambda m: NAMES[m[0]], word) for word in words
    ]


# Settings: in Python, in JSON, and as options.


def mistakes(fields, count=None):
    """The first bad values of each field: those of its range come first."""
    return [
        pytest.param(key, value, id=f"{key} {value}")
        for key in fields
        for value in FIELDS[key].bad[:count]
    ]


# Every value of one field a kind, and two of every other field.
OTHERS = [key for key in FIELDS if key not in KINDS_OF_FIELDS]
MISTAKES = mistakes(KINDS_OF_FIELDS) + mistakes(OTHERS, 2)


def with_changes(settings, changes):
    """Settings with other values at some paths, by `dataclasses.replace`."""
    for path, value in changes.items():
        settings = _changed(settings, path.split("."), value)
    return settings


def _changed(settings, steps, value):
    if not steps:
        return value
    first, *rest = steps
    if first.isdigit():
        items = list(settings)
        items[int(first)] = _changed(items[int(first)], rest, value)
        return tuple(items)
    return replace(settings, **{first: _changed(getattr(settings, first), rest, value)})


def json_with_changes(changes):
    values = json.loads(to_json(Config()))
    for path, value in changes.items():
        *steps, last = (int(s) if s.isdigit() else s for s in path.split("."))
        there = values
        for step in steps:
            there = there[step]
        there[last] = value
    return json.dumps(values)


def options(changes):
    """The values as a user types them."""
    words = []
    for path, value in changes.items():
        values = value if isinstance(value, tuple) else [value]
        words += [f"--{path.replace('_', '-')}", *map(str, values)]
    return words


def test_the_table_has_every_field():
    fields = {
        f"{kind.__name__}.{spec.name}"
        for kind in KINDS
        for spec in dataclasses.fields(kind)
    }
    assert fields == FIELDS.keys()
    for key, field in FIELDS.items():
        assert field.path.split(".")[-1] == key.split(".")[1]
        assert field.bad


@pytest.mark.parametrize(("key", "value"), MISTAKES)
def test_a_bad_field_is_refused_in_python(key, value):
    with pytest.raises(UsageError) as caught:
        with_changes(Config(), {FIELDS[key].path: value})
    assert names(key, str(caught.value))


@pytest.mark.parametrize(("key", "value"), MISTAKES)
def test_a_bad_field_is_refused_in_json(key, value):
    with pytest.raises(UsageError, match="not a config: ") as caught:
        from_values(
            Config, json.loads(json_with_changes({FIELDS[key].path: value})), "a config"
        )
    assert names(key, str(caught.value))
    assert "\n" not in str(caught.value)


def names(key, message):
    """Whether a message says which field is meant."""
    return key in message or key.split(".")[1] in message


def has_option(key):
    owner, name = key.split(".")
    hint = next(HINTS[kind][name] for kind in KINDS if kind.__name__ == owner)
    return not any(kind in KINDS for kind in (hint, *typing.get_args(hint)))


# One of each: it takes long to parse a command, and the check is the same.
@pytest.mark.parametrize(("key", "value"), mistakes(filter(has_option, FIELDS), 1))
def test_a_bad_field_is_refused_as_an_option(key, value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, "_run", lambda command: pytest.fail("it was accepted"))
    words = options({FIELDS[key].path: value})
    said = refused(train.main, *words)
    assert names(key, said) or words[0] in said or "must come first" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("changes", "message"), COMBINATIONS)
def test_settings_that_do_not_fit_are_refused(changes, message, tmp_path, monkeypatch):
    """All at once in JSON and as options; in Python they come one after another."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(message)):
        from_values(Config, json.loads(json_with_changes(changes)), "a config")
    assert message in refused(train.main, *options(changes))
    assert not list(tmp_path.iterdir())


# Options.

BAD_OPTIONS = [
    pytest.param(
        *(command, words, message),
        id=f"{command} {' '.join(words)[:60]}",
        # Of one option all mistakes take the same way.
        marks=pytest.mark.thorough if number else (),
    )
    for command, table in OPTIONS.items()
    for rows in table.values()
    for number, (words, message) in enumerate(rows)
]


@pytest.mark.parametrize("command", MAINS)
def test_the_table_has_every_option(command):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        MAINS[command](["--help"])
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w.-]*", printed.getvalue()))
    fields = {
        re.sub(r"\.\d+\.", ".0.", f"--{field.path.replace('_', '-')}")
        for field in FIELDS.values()
    }
    known = fields | OPTIONS[command].keys() | {"--help"}
    known |= {f"--no-{name.removeprefix('--')}" for name in known}
    known |= {re.sub("main", "finetune", name) for name in fields}
    known |= {re.sub("finetune", "main", name) for name in fields}
    shown = {re.sub(r"\.\d+\.", ".0.", name).rstrip(".") for name in shown}
    assert shown <= known
    assert {name for name in OPTIONS[command] if name[0] == "-"} - {"--colour"} <= shown


@pytest.mark.parametrize(("command", "words", "message"), BAD_OPTIONS)
def test_a_bad_option_is_refused(
    place, monkeypatch, tmp_path_factory, command, words, message
):
    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path_factory.mktemp("tfds")))
    monkeypatch.setattr(sys, "stdin", None)  # closed
    with nothing_changes(place):
        assert message in refused(MAINS[command], *spelled(words))


# The environment.

FIRST_ROWS = [
    ENVIRONMENT["JAX_PLATFORMS"][0],
    ENVIRONMENT["JAX_ENABLE_X64"][0],
    ENVIRONMENT["JAX_ENABLE_X64"][2],
    ENVIRONMENT["JAX_DEFAULT_PRNG_IMPL"][0],
]
BAD_ENVIRONMENTS = [
    pytest.param(
        *(variable, *row),
        id=f"{variable}={row[0]} {row[1][0]}",
        marks=() if row in FIRST_ROWS else pytest.mark.thorough,
    )
    for variable, rows in ENVIRONMENT.items()
    for row in rows
]


@pytest.mark.parametrize(("variable", "value", "words", "message"), BAD_ENVIRONMENTS)
def test_a_bad_environment_is_refused(place, variable, value, words, message):
    """In a process of its own: JAX reads its environment when it is imported."""
    command, *words = spelled(words)
    with nothing_changes(place):
        done = subprocess.run(
            [sys.executable, "-m", f"glrnn.{command}", *words],
            env=os.environ | {variable: value},
            capture_output=True,
            text=True,
        )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


# Files.


def write(path, content):
    """Puts content, nothing, or a directory in the place of a file."""
    path.unlink()
    if content is DIRECTORY:
        path.mkdir()
    elif content is PIPE:
        os.mkfifo(path)
    elif content is ENDLESS:
        path.symlink_to("/dev/zero")
    elif content is HUGE:
        path.touch()
        os.truncate(path, 10**12)
    elif content is not MISSING:
        path.write_bytes(content)


LABELS = {
    MISSING: "missing",
    DIRECTORY: "directory",
    PIPE: "pipe",
    ENDLESS: "endless",
    HUGE: "huge",
}


def label(content):
    return LABELS.get(content, repr(content)[:30])


BAD_FILES = [
    pytest.param(name, content, message, id=f"{name} {label(content)}")
    for name, rows in FILES.items()
    for content, message in rows
]
BAD_RUN_FILES = [
    pytest.param(command, name, *row, id=f"{command} {name} {label(row[0])}")
    for name, (commands, rows) in RUN_FILES.items()
    for number, command in enumerate(commands)
    for row in (rows[:1] if number else rows)  # all commands read a file alike
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_a_bad_file_is_refused(place, name, content, message):
    (place / "mine.txt").write_text("the cat sat")
    folder = (
        place / "data" if name in {f"{split}.txt" for split in data.SPLITS} else place
    )
    write(folder / name, content)
    commands = {
        "train": ["train", "EXPERIMENT", "--data", "DATA", "--workdir", "runs/new"],
        "mine.txt": ["evaluate", "RUN", "--text", "mine.txt"],
    }
    command, *words = commands.get(name, commands["train"])
    with nothing_changes(place):
        said = refused(MAINS[command], *spelled(words))
    assert message in said
    assert name.removesuffix(".txt") in said


def test_the_table_has_every_file_of_a_run(trained):
    run, _, _ = trained
    stages = {run / "phase_1" / stage for stage in run_folder.STAGES}
    files = {
        str(path.relative_to(run))
        for path in run.rglob("*")
        if path.is_file() and not stages.intersection(path.parents)
    }
    assert files - {".lock"} == RUN_FILES.keys()


@pytest.mark.parametrize(("command", "name", "content", "message"), BAD_RUN_FILES)
def test_a_damaged_run_is_refused(place, command, name, content, message):
    write(place / "run" / name, content)
    with nothing_changes(place):
        said = refused(MAINS[command], "run")
    assert message in said
    assert name in said


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocabulary.json", b'["a", "b"]'),
        ("vocabulary.json", b"[]"),
        ("config.json", b"{}"),
    ],
)
def test_a_run_that_does_not_fit_its_checkpoint_is_refused(place, name, content):
    # A run of version 0.1.0, which does not know what it began with.
    origin = replace(
        run_folder.read(place / "run").origin, config=None, vocabulary_sha256=""
    )
    (place / "run" / "origin.json").write_text(to_json(origin))
    write(place / "run" / name, content)
    (place / "mine.txt").write_text("a b\n")
    with nothing_changes(place):
        said = refused(evaluate.main, "run", "--text", "mine.txt")
    reasons = "expected", "not in the vocabulary", "vocabulary_size is 0"
    assert any(reason in said for reason in reasons)


# Random bytes.

quick = settings(max_examples=20, deadline=None)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def damaged(draw, content):
    """A file with a piece of it cut out, and something else put there."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 20)))
    return content[:start] + draw(st.binary(max_size=20)) + content[end:]


@st.composite
def altered(draw, content):
    """A JSON file with another value at one of its places."""
    values = there = json.loads(content)
    while True:
        places = range(len(there)) if isinstance(there, list) else sorted(there)
        place = draw(st.sampled_from(places))
        if not there[place] or not isinstance(there[place], list | dict):
            break
        if draw(st.booleans()):
            break
        there = there[place]
    there[place] = draw(json_values)
    return json.dumps(values).encode()


def anything_like(content):
    return st.binary(max_size=200) | damaged(content) | altered(content)


@contextlib.contextmanager
def only_usage_errors():
    with contextlib.suppress(UsageError):
        yield


@quick
@given(content=st.binary(max_size=200), split=st.sampled_from(data.SPLITS))
def test_random_bytes_as_a_text(tmp_path_factory, content, split):
    folder = tmp_path_factory.mktemp("texts")
    for name in data.SPLITS:
        (folder / f"{name}.txt").write_text("a b c\n" * 20)
    (folder / f"{split}.txt").write_bytes(content)
    with only_usage_errors():
        corpus = data.load(folder)
        small = replace(Config(), batch_size=2, valid_batch_size=2)
        run = opening.open_run(folder / "run", small, corpus)
        assert run_folder.read(run.folder).vocabulary == corpus.vocabulary


@quick
@given(content=st.binary(max_size=200) | damaged(to_json(Config()).encode()))
def test_random_bytes_as_an_experiment(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("experiment") / "experiment.py"
    path.write_bytes(content)
    with only_usage_errors():
        experiment.load(path)


@quick
@given(content=anything_like(to_json(Config()).encode()))
def test_random_bytes_as_a_config(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_bytes(content)
    with pytest.raises(UsageError):  # there is no more to the run than this
        run_folder.read(folder)


@pytest.mark.parametrize("name", RUN_FILES)
def test_random_bytes_as_a_file_of_a_run(tmp_path_factory, trained, name):
    run, _, _ = trained
    folder = tmp_path_factory.mktemp("runs") / "run"
    shutil.copytree(run, folder)
    path = folder / name
    first = path.read_bytes().split(b"\n{")[0] if "jsonl" in name else path.read_bytes()

    @quick
    @given(content=anything_like(first).map(lambda text: text + b"\n"))
    def check(content):
        path.write_bytes(content)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                runs.main([str(folder)])
            except SystemExit as exit_:
                assert exit_.code == 2
        assert "Traceback" not in printed.getvalue()
        with only_usage_errors():
            MetricsLog(folder / "metrics.jsonl").truncate_after(StageId(1, "main"), 1)

    check()
