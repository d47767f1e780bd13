"""A run keeps to the precision and the random numbers that it began with."""

import json
from dataclasses import replace

import jax
import pytest

from glrnn import data, train
from glrnn.config import experiment
from glrnn.errors import UsageError
from glrnn.storage import numerics, opening, run_folder
from glrnn.storage.numerics import Numerics, unusual
from glrnn.training import context, phases
from glrnn.training.execution import Execution

OTHERS = {
    "enable_x64": True,
    "default_prng_impl": "rbg",
    "threefry_partitionable": False,
    "random_seed_offset": -3,
}


@pytest.fixture
def jax_has():
    """Changes a setting of JAX for the length of a test."""
    before = {name: getattr(jax.config, f"jax_{name}") for name in OTHERS}

    def change(name, value):
        jax.config.update(f"jax_{name}", value)

    yield change
    for name, value in before.items():
        change(name, value)


@pytest.fixture
def opened(texts):
    """Opens one and the same run."""
    config, corpus = experiment.load(texts / "small.py"), data.load(texts)
    return lambda: opening.open_run(texts / "run", config, corpus)


@pytest.mark.parametrize("name", OTHERS)
def test_a_run_is_resumed_with_the_settings_that_it_began_with(jax_has, opened, name):
    assert opened().origin.numerics == Numerics()
    jax_has(name, OTHERS[name])
    with pytest.raises(UsageError, match=f"begun with JAX_{name.upper()}="):
        opened()


def test_another_precision_is_kept_as_well(jax_has, opened):
    jax_has("enable_x64", True)
    opened()
    opened()
    jax_has("enable_x64", False)
    with pytest.raises(UsageError, match="JAX_ENABLE_X64=1, and here it is 0; a run"):
        opened()


def test_the_precision_of_products_is_kept_with_the_run(texts, monkeypatch, capsys):
    arguments = ["--data", str(texts), "--workdir", str(texts / "run")]
    precise = ["--matmul-precision", "bfloat16"]
    monkeypatch.setattr(phases, "train", lambda run: [])
    monkeypatch.chdir(texts)
    train.main(["small.py", *arguments, *precise])
    note = "note: --matmul-precision bfloat16 is set; the run keeps to it\n"
    assert note in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train.main(["small.py", *arguments])
    assert "was begun with --matmul-precision bfloat16, and" in capsys.readouterr().err
    train.main([str(texts / "run")])  # its folder says it
    assert note in capsys.readouterr().out


def test_a_run_of_an_earlier_version_is_resumed(jax_has, opened):
    run = opened()
    path = run.folder / "origin.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k != "numerics"}
    path.write_text(json.dumps(old))
    jax_has("default_prng_impl", "rbg")
    assert opened().origin == replace(run.origin, numerics=None)


def test_unusual_settings_are_shown(jax_has, texts, capsys):
    jax_has("random_seed_offset", 7)
    config, corpus = experiment.load(texts / "small.py"), data.load(texts)
    with context.opened(texts / "run", config, corpus, Execution()):
        pass
    assert run_folder.read(texts / "run").origin.numerics.random_seed_offset == 7
    assert capsys.readouterr().out == (
        "note: JAX_RANDOM_SEED_OFFSET=7 is set; the run keeps to it\n"
    )


def test_the_defaults_are_those_of_jax():
    assert numerics.numerics() == Numerics()
    assert not unusual(Numerics())
