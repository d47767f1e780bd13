"""A device that computes something else than the CPU is found out, and nothing else is.

The device here is the CPU, for which the program of a GPU is traced: `gpu`. A fault is
in that program alone.
"""

from dataclasses import replace

import jax
import numpy as np
import pytest

from glrnn import beginning, data, device_check, devices, model, noise
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.heads import head
from glrnn.job import Job
from glrnn.run_folder import Origin, Run
from glrnn.vocabulary import Vocabulary

V = 40
STAGE = Stage(1, max_norms=(0.01,) * 4)  # every group is clipped
CONFIG = Config(
    embedding_size=6,
    layers=(Layer(hidden_size=8), Layer(hidden_size=8)),
    head="mixture",
    num_softmaxes=2,
    phases=(
        Phase(
            2,
            Dropout(0.1, 0.2, (0.2,), 0.2, 0.2, 0.3),
            main=STAGE,
            finetune=replace(STAGE, learning_rate=10.0),
        ),
    ),
    batch_size=5,
    window_length=14,
)


def make_job(tmp_path, config=CONFIG, **changes):
    tokens = np.random.default_rng(0).integers(V, size=60, dtype=np.int32)
    words = Vocabulary(tuple(map(str, range(V))))
    corpus = data.Corpus("random", words, tokens, tokens, tokens, unknown={})
    run = Run(tmp_path, config, words, Origin("random", "0"))
    return Job(run, corpus, None, **{"precision": "float32"} | changes)


@pytest.fixture(scope="module")
def gpu():
    """JAX's default device seems to be a GPU, and its choices differ from a CPU's."""
    compiled = beginning._update_rule

    def update_rule(*arguments):
        # The program of the CPU is the same in all tests, that of the GPU in none.
        *_, precision = arguments
        return (compiled if precision == "float32" else compiled.__wrapped__)(
            *arguments
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        patch.setitem(head.BLOCKS, "cpu", head.Block(logits=300, table=100))
        patch.setattr(beginning, "_update_rule", update_rule)
        yield


def on_gpu(faulty, right):
    """A function that is wrong in the program of a GPU only."""

    def either(*arguments):
        function = faulty if devices.platform() == "gpu" else right
        return function(*arguments)

    return either


def of_another_key(monkeypatch):
    """Dropout masks."""
    sample = noise.sample

    def faulty(key, rates, shapes):
        return sample(jax.random.fold_in(key, 1), rates, shapes)

    monkeypatch.setattr(noise, "sample", on_gpu(faulty, sample))


def transposed(monkeypatch):
    """The window of the second layer, [B, T, H] in memory and read as [T, B, H]."""
    unroll = model.unroll

    def faulty(cell, params, state, window, length):
        if window.shape[-1] == CONFIG.layers[0].hidden_size:
            window = window.transpose(1, 0, 2).reshape(window.shape)
        return unroll(cell, params, state, window, length)

    monkeypatch.setattr(model, "unroll", on_gpu(faulty, unroll))


@jax.custom_vjp
def with_larger_gradient(params):
    return params


with_larger_gradient.defvjp(
    lambda params: (params, None),
    lambda _, ct: (jax.tree.map(lambda grad: 1.1 * grad, ct),),
)


def scaled(monkeypatch):
    """The gradient of the second layer, by 1.1."""
    unroll = model.unroll

    def faulty(cell, params, state, window, length):
        if window.shape[-1] == CONFIG.layers[0].hidden_size:
            params = with_larger_gradient(params)
        return unroll(cell, params, state, window, length)

    monkeypatch.setattr(model, "unroll", on_gpu(faulty, unroll))


def exceeding(rows):
    return [row.name for row in rows if not row.excess <= 1]


GROUPS = ("embedding", "layer 1", "layer 2", "head")


@pytest.mark.usefixtures("gpu")
def test_other_choices_of_the_same_program_pass(tmp_path):
    rows = device_check.compare(make_job(tmp_path, precision="tensorfloat32"))
    # On a CPU products are in float32, whatever is asked for.
    strict = device_check.TOLERANCES["float32"]
    rows = [row._replace(tolerance=strict.norm) for row in rows]
    assert exceeding(rows) == []
    # Not because one program was compared with itself.
    assert max(row.difference for row in rows) > 0
    # Every group and every array of parameters is among them.
    names = [row.name for row in rows]
    assert len(names) == len(set(names)) == 2 + 4 + (4 + 13) + 2
    for group in GROUPS:
        assert f"gradient norm of {group}" in names
        assert any(name.startswith(f"update of {group}, ") for name in names)


def test_what_the_loosest_tolerance_sees_they_all_see():
    for tolerance in device_check.TOLERANCES.values():
        assert np.all(np.array(tolerance) <= device_check.LOOSEST)


@pytest.mark.usefixtures("gpu")
def test_masks_of_another_key_are_seen(tmp_path, monkeypatch):
    of_another_key(monkeypatch)
    found = exceeding(device_check.compare(make_job(tmp_path, precision=None)))
    for group in GROUPS:
        assert any(name.startswith(f"update of {group}, ") for name in found)


@pytest.mark.usefixtures("gpu")
def test_a_transposed_window_is_seen(tmp_path, monkeypatch):
    transposed(monkeypatch)
    found = exceeding(device_check.compare(make_job(tmp_path, precision=None)))
    assert "gradient norm of layer 2" in found
    assert "update of layer 1, input" in found
    assert "state of layer 1" not in found


@pytest.mark.usefixtures("gpu")
def test_a_scaled_gradient_of_one_group_is_seen(tmp_path, monkeypatch):
    """Though the group is clipped to the same norm."""
    scaled(monkeypatch)
    found = exceeding(device_check.compare(make_job(tmp_path, precision=None)))
    assert found == ["gradient norm of layer 2"]
