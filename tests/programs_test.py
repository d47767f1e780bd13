"""The programs that run, compiled for GPUs and TPUs that are not there.

They take the extra `programs`, in an environment of its own (`.ci/run` makes one), and
are skipped without it. What is compiled is what `python -m benchmarks.programs` tells.
"""

from functools import cache

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import rnn
from jaxlib import gpu_rnn

from benchmarks import absent, compiled, hlo, program_faults, programs
from benchmarks.workloads import WORKLOADS, network_of
from glrnn.cells import CELLS
from glrnn.errors import UsageError
from glrnn.heads import HEADS
from glrnn.model import language_model

pytestmark = pytest.mark.skipif(
    any(map(absent.missing, absent.DEVICES)),
    reason="the compilers of the extra 'programs' are not installed",
)

T, B, H = 70, 12, 96
# Of a window; of an update in training.
MOST_LAUNCHES = {"train": 1500, "evaluate": 550, "dynamic": 150}
# `ptb` has an LSTM and a mixture in any case.
SLOW = {"capped", "gru", "mixture", "mogrifier", "nas", "rhn"}
# One that compiles in a minute, and others that take five.
ON_TPU = (
    ("v5e:2x2", "ptb"),
    pytest.param("v5e:2x2", "wikitext-2", marks=pytest.mark.slow),
    pytest.param("v6e:2x2", "ptb", marks=pytest.mark.slow),
    pytest.param("v6e:2x2", "wikitext-2", marks=pytest.mark.slow),
)
# What an update took before its loops were unrolled, in bytes: 358 times 2^20.
TEMPORARY = 375_858_568

# Machine code that is not run need not be fast; the programs stay the same.
QUICK = {"xla_backend_optimization_level": 0}


@cache
def program(device, network, workload):
    options = {} if device in absent.TPUS else QUICK
    return programs.compile_program(device, network, workload, options)


def compiled_for(device, function, *shapes):
    mesh = absent.absent_mesh(device)
    arguments = absent.on_devices(mesh, shapes)
    return hlo.read(jax.jit(function).lower(*arguments).compile().as_text())


def array(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


@pytest.mark.parametrize("trips", [3, 70])
def test_a_scan_of_products_is_counted(trips):
    def scan(x, matrix):
        def step(x, _):
            return jnp.tanh(x @ matrix), None

        return jax.lax.scan(step, x, length=trips)[0]

    module = compiled_for("h100", scan, array(512, 512), array(512, 512))
    (loop,) = compiled.loops(module)
    assert loop.trips == trips
    # The product in four parts; their sum, and the tanh of it; the counter.
    assert loop.launches == 3
    # What a loop changes begins as a copy: the counter and x.
    assert compiled.launches(module) == 2 + 3 * trips


def test_a_sum_into_places_is_an_adding_scatter_unless_they_are_unique():
    def add(unique, table, rows, ids):
        return table.at[ids].add(rows, unique_indices=unique)

    ids = jax.ShapeDtypeStruct((70,), jnp.int32)
    shapes = array(100, 8), array(70, 8), ids
    for unique, count in ((False, 1), (True, 0)):
        module = compiled_for("h100", lambda *a, u=unique: add(u, *a), *shapes)
        assert len(program_faults.adding_scatters(module)) == count


def test_a_call_of_cudnn_between_transposes_is_given_an_odd_window(monkeypatch):
    sizes = 4_000_000, 8 * T * B * H
    name = "compute_rnn_workspace_reserve_space_sizes"
    monkeypatch.setattr(gpu_rnn, name, lambda *arguments: sizes)

    def outputs(window, weights, state, lengths):
        window = jnp.swapaxes(window * 2, 0, 1)
        arguments = (state, state, weights, lengths, H, H, 1, 0.0, False)
        return jnp.swapaxes(rnn.lstm(window, *arguments)[0], 0, 1) * 2

    lengths = jax.ShapeDtypeStruct((B,), jnp.int32)
    shapes = array(T, B, H), array(8 * H * (H + 1)), array(1, B, H), lengths
    module = compiled_for("h100", jax.grad(lambda *x: outputs(*x).sum()), *shapes)
    assert set(program_faults.odd_layouts(module)) == {
        f"{call}: f32[{B},{T},{H}]{{2,0,1}}"
        for call in ("cudnn_rnn_ffi", "cudnn_rnn_bwd_ffi")
    }


def test_an_unknown_device_is_named_with_the_choices():
    with pytest.raises(UsageError, match="unknown device 'h200'; choose from: h100, 8"):
        absent.absent_mesh("h200")


def faults(device, network, workload):
    facts = program(device, network, workload).facts
    return {fault: facts[fault] for fault in programs.FAULTS if facts.get(fault)}


@pytest.mark.parametrize("workload", WORKLOADS)
def test_nothing_on_a_gpu_is_left_to_chance_or_to_the_host(workload):
    assert faults("h100", "ptb", workload) == {}


@pytest.mark.parametrize("workload", MOST_LAUNCHES)
def test_launches_on_an_h100_are_few(workload):
    launches = program("h100", "ptb", workload).facts["launches"]
    assert launches <= MOST_LAUNCHES[workload]


def test_an_update_takes_little_more_memory_than_its_saved_steps():
    facts = program("h100", "ptb", "train").facts
    assert facts["temporary_bytes"] <= 1.1 * TEMPORARY


@pytest.mark.parametrize(
    "network",
    [
        pytest.param(name, marks=pytest.mark.slow if name in SLOW else ())
        for name in (*CELLS, *HEADS)
    ],
)
def test_an_update_of_any_network_on_a_gpu_is_without_fault(network):
    assert faults("h100", network, "train") == {}


@pytest.mark.parametrize("workload", ["train", "evaluate", "dynamic"])
@pytest.mark.parametrize("device, preset", ON_TPU)
def test_programs_of_a_tpu_are_hardly_padded(device, preset, workload):
    assert faults(device, preset, workload) == {}


@pytest.mark.parametrize("device", programs.SHARING)
def test_devices_exchange_their_gradients_once_and_nothing_in_a_loop(device):
    found = program(device, "ptb", "train").facts["collectives"]
    assert {each["opcode"] for each in found} == {"all-reduce"}
    assert not any(each["in_loop"] for each in found)
    config, vocabulary_size = network_of("ptb")
    # One for all, or one a group, and scalars.
    large = [each for each in found if each["numbers"] > 3]
    assert len(large) <= len(config.layers) + 2
    # Every gradient once, the loss and the mean negative log-likelihood. The two biases
    # of an LSTM have one gradient.
    model = language_model(config, vocabulary_size, len(config.layers))
    params = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)))
    total = sum(leaf.size for leaf in jax.tree.leaves(params))
    twice = sum(layer.input_bias.size for layer in params.layers)
    exchanged = sum(each["numbers"] for each in found)
    assert total - twice < exchanged <= total + 2
