"""The pieces of the GPU's benchmark, at sizes that a CPU does in a moment."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks import epochs, gpu, gradients
from benchmarks.presets import Preset
from glrnn.config import Config, Layer, Phase, Stage
from glrnn.model import language_model

TINY = Preset(
    vocabulary=20, embedding=4, hidden=5, layers=1, softmaxes=2, batch=3, window=4
)
CONFIG = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),),
    phases=(Phase(main=Stage(3, learning_rate=10.0, max_norms=(0.5,))),),
    batch_size=50,
    window_length=3,
    valid_batch_size=2,
)
# What a bare machine with JAX and PyTorch lacks.
ABSENT = ("array_record", "cattrs", "platformdirs", "tensorflow_datasets", "tyro")


@pytest.fixture
def command(tmp_path):
    return gpu.parse(["--tiny", "--device", "cpu", "--output", str(tmp_path)])


def test_gradients_in_float32_are_those_in_float64(monkeypatch):
    monkeypatch.setattr(gradients, "PRECISIONS", ("float32",))
    (row,) = gradients.check(TINY)
    assert row.pop("precision") == "float32"
    assert row.pop("below 1e-04") == "OK"
    assert row.keys() == {"loss", "embedding", "layer 1", "head"}
    # They would be equal if both were in one precision.
    assert 0 < max(row.values()) < 1e-5


@pytest.mark.parametrize("change", [0.001, np.nan])
def test_a_wrong_gradient_fails_after_all_rows(monkeypatch, change):
    inputs = gradients.draw(TINY)
    exact = jax.tree.map(np.ones_like, inputs.params)
    head = exact.head.replace(prior=exact.head.prior + np.float32(change))
    found = exact.replace(head=head)
    monkeypatch.setattr(gradients, "exact_gradient", lambda *inputs: (1.0, exact))
    monkeypatch.setattr(gradients, "gradient", lambda *inputs: (1.0, found))
    rows = []
    with pytest.raises(ArithmeticError, match="float32"):
        for row in gradients.check(TINY):
            rows.append(row)
    assert len(rows) == len(gradients.PRECISIONS)
    assert rows[0]["below 1e-04"] == "FAILED"
    assert rows[0]["embedding"] == rows[0]["layer 1"] == 0
    assert not rows[0]["head"] <= 1e-4


def test_a_step_is_timed_under_a_precision(monkeypatch):
    monkeypatch.setattr(gradients, "PRECISIONS", (None,))
    (row,) = gradients.step_times(TINY)
    assert row["precision"] == "default"
    assert row["ms a step"] > 0
    assert row["loss after 23 steps"] > 0


def test_an_epoch_is_all_updates_of_its_lengths():
    (row,) = epochs.epoch_seconds(CONFIG, epochs.random_corpus(30, 300, 20))
    # Six rows, of which the last or the last two start no window.
    assert row["tokens"] in (4 * 50, 5 * 50)
    assert 1 <= row["updates"] <= 3
    assert row["s an epoch"] == pytest.approx(
        row["updates"] * row["ms an update"] / 1e3
    )


def test_training_ends_when_its_time_is_up():
    corpus = epochs.random_corpus(30, 300, 20)
    (row,) = epochs.train(CONFIG, corpus, minutes=0)
    assert row["epoch"] == 1
    assert 1 < row["train"] < 100
    assert 1 < row["valid"] < 100
    assert len(list(epochs.train(CONFIG, corpus, minutes=1))) == 3


def test_the_original_has_as_many_parameters_as_published():
    model = language_model(epochs.ORIGINAL, 10_000, 3)
    params = jax.eval_shape(model.init, jax.random.key(0))
    sizes = [leaf.size for leaf in jax.tree.leaves(params)]
    assert sum(sizes) == epochs.ORIGINAL_PARAMETERS


def test_a_part_that_fails_leaves_the_others_alone(command, tmp_path, monkeypatch):
    def half(command):
        yield {"a": 1.0}
        raise RuntimeError("out of memory")

    parts = {"half": half, "whole": lambda command: iter([{"b": [2]}, {"b": [3]}])}
    monkeypatch.setattr(gpu, "PARTS", parts)
    monkeypatch.setattr(gpu, "where", lambda: {"device": "here"})
    command.parts = list(parts)
    path = tmp_path / "found.json"
    assert gpu.measure(command, path) == ["half"]
    assert json.loads(path.read_text()) == {
        "device": "here",
        "failed": ["half"],
        "half": [{"a": 1.0}],
        "whole": [{"b": [2]}, {"b": [3]}],
    }


def test_comparisons_are_made_in_one_precision_while_there_is_time(
    command, monkeypatch
):
    seen = []

    def compare(preset, mode, device, pairs, peers):
        seen.append((mode, peers, os.environ["JAX_DEFAULT_MATMUL_PRECISION"]))
        return {"seconds": [0.001, 0.002], "ratio": 2.0}

    monkeypatch.setattr(gpu, "compare", compare)
    before = dict(os.environ)
    command.eager = True
    train, evaluation = gpu.speed(command)
    assert (train["mode"], evaluation["mode"]) == ("train", "eval")
    assert train["PyTorch, ms"] == 2 * train["glrnn, ms"] == 2.0
    assert seen == [
        ("train", ("torch, eager",), "tensorfloat32"),
        ("eval", ("torch, eager",), "float32"),
    ]
    assert os.environ == before
    command.seconds = -1
    assert list(gpu.speed(command)) == []


def test_nothing_is_needed_but_jax_and_pytorch(texts):
    code = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None
from benchmarks import epochs, gpu
from glrnn import data, experiment
corpus = data.load({str(texts)!r})
config = epochs.shrunk(experiment.load(gpu.PTB))
with epochs.job(config, corpus, 3) as job:
    print(len(config.layers), job.phase.num_layers, len(job.corpus.vocabulary))
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout == "3 3 10\n"


def test_a_rehearsal_shrinks_the_network_and_nothing_else():
    small = epochs.shrunk(epochs.ORIGINAL)
    assert [layer.hidden_size for layer in small.layers] == [16] * 3
    assert small.phases == epochs.ORIGINAL.phases
    assert replace(small, embedding_size=280, layers=epochs.ORIGINAL.layers) == replace(
        epochs.ORIGINAL, num_softmaxes=small.num_softmaxes
    )
