"""The pieces of the GPU's benchmark, at sizes that a CPU does in a moment."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

from benchmarks import epochs, gpu, gpu_parts, kernels, minutes
from glrnn.config import Config, Layer, Phase, Stage, experiment
from glrnn.model import language_model
from glrnn.storage.run_folder import StageId
from glrnn.training.context import temporary

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


def found(command):
    return json.loads((command.output / "gpu-rehearsal.json").read_text())


# Parts, and the process that watches over them.


def test_rows_are_written_as_they_are_found(command, monkeypatch):
    def half(command):
        yield {"a": 1.0}
        assert found(command) == {"half": [{"a": 1.0}]}
        yield {"a": 2.0, "b": [3]}
        raise RuntimeError("out of memory")

    whole = gpu_parts.Part(lambda command: iter([{"b": 4}]), 1)
    monkeypatch.setattr(gpu, "PARTS", {"half": gpu_parts.Part(half, 1), "whole": whole})
    with pytest.raises(RuntimeError, match="out of memory"):
        gpu.take_part(command, "half")
    gpu.take_part(command, "whole")
    assert found(command) == {
        "half": [{"a": 1.0}, {"a": 2.0, "b": [3]}],
        "whole": [{"b": 4}],
    }


def test_a_part_that_fails_leaves_the_others_alone(command, monkeypatch):
    command.parts = ["machine", "check", "train", "unroll", "epochs"]
    command.seconds = 1000
    seen = []

    def supervise(child, seconds):
        part = child[-1]
        seen.append((part, seconds))
        if part == "unroll":
            command.seconds = 0
        return "exit status 1" if part == "check" else ""

    monkeypatch.setattr(gpu, "supervise", supervise)
    trouble = {"check": "exit status 1", "epochs": "no time was left"}
    assert gpu.run_parts(command, ["--tiny"]) == trouble
    assert found(command)["failed"] == trouble
    assert found(command)["seconds"].keys() == set(command.parts)
    assert seen == [(name, gpu.PARTS[name].seconds) for name in command.parts[:-1]]


def test_without_its_device_nothing_is_measured(command, monkeypatch):
    monkeypatch.setattr(gpu, "supervise", lambda child, seconds: "exit status 1")
    assert gpu.run_parts(command, []) == {"machine": "exit status 1"}
    command.device = "gpu"
    rows = gpu_parts.machine(command)
    assert next(rows)["platform"] == "cpu"
    with pytest.raises(SystemExit, match="JAX finds no gpu"):
        next(rows)


def test_a_part_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    alive = tmp_path / "alive"
    grandchild = f"""
import pathlib, time
while True:
    pathlib.Path({str(alive)!r}).write_text(str(time.time()))
    time.sleep(0.05)
"""
    child = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
subprocess.Popen([sys.executable, "-c", {grandchild!r}])
time.sleep(60)
"""
    started = time.monotonic()
    trouble = gpu.supervise([sys.executable, "-c", child], 1.0)
    assert trouble == "not done after 1 s"
    assert time.monotonic() - started < 10
    before = alive.read_text()
    time.sleep(0.5)
    assert alive.read_text() == before
    assert gpu.supervise([sys.executable, "-c", "raise SystemExit(3)"], 60) == (
        "exit status 3"
    )
    assert gpu.supervise([sys.executable, "-c", ""], 60) == ""


@pytest.mark.thorough
def test_nothing_is_needed_but_jax_and_pytorch(texts):
    """The whole of the part that trains, from its command line on."""
    code = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None
from benchmarks import gpu
gpu.main(sys.argv[1:])
"""
    output = texts.parent / "output"
    subprocess.run(
        [
            *(sys.executable, "-c", code, "--tiny", "--device", "cpu"),
            *("--data", str(texts), "--output", str(output), "--here", "minutes"),
            *("--workdir", str(texts.parent / "run"), "--minutes", "0.001"),
        ],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=True,
    )
    rows = json.loads((output / "gpu-rehearsal.json").read_text())["minutes"]
    assert [row["phase"] for row in rows] == [1, 2, "dynamic evaluation"]
    assert all(1 < row["test"] < 50 for row in rows)
    assert (output / "minutes.jsonl").read_text().count("\n") >= 4
    assert (output / "parameters-0.f16").exists()


# What is measured.


@pytest.mark.thorough
def test_an_epoch_is_all_updates_of_its_lengths():
    (row,) = epochs.epoch_seconds(CONFIG, epochs.random_corpus(30, 300, 20))
    assert 1 <= row["updates"] <= 3
    # Six rows, of which the last or the last two start no window.
    assert row["tokens"] in (4 * 50, 5 * 50)
    assert row["s an epoch"] == pytest.approx(
        row["updates"] * row["ms an update"] / 1e3
    )
    assert row["in the loop, tokens/s"] > 0


@pytest.mark.thorough
def test_the_same_bits_twice_are_told_from_others(monkeypatch):
    stage = StageId(1, "main")
    with temporary(CONFIG, epochs.random_corpus(30, 300, 20)) as context:
        assert epochs.same_bits(context, stage)
        calls = []

        def first_state(*arguments):
            calls.append(None)
            state = original(*arguments)
            bias = state.params.embedding.bias.at[3].add(1e-7 * len(calls))
            embedding = state.params.embedding.replace(bias=bias)
            return state.replace(params=state.params.replace(embedding=embedding))

        original = epochs.first_state
        monkeypatch.setattr(epochs, "first_state", first_state)
        assert not epochs.same_bits(context, stage)


def test_the_check_names_what_is_wrong(command, monkeypatch):
    from glrnn.training import device_check

    def compare(context, stage):
        wrong = context.execution.precision == "float32"
        return [
            device_check.Row("nll", 2.0, 2.0, 0.0, 1e-4),
            device_check.Row("update of head", 2.2, 2.0, 0.1 if wrong else 0.0, 1e-2),
        ]

    monkeypatch.setattr(device_check, "compare", compare)
    monkeypatch.setattr(epochs, "same_bits", lambda *given: True)
    rows = []
    with pytest.raises(ArithmeticError, match="wrong: \\['float32'\\]"):
        for row in gpu_parts.check(command):
            rows.append(row)
    assert [row["agrees"] for row in rows] == [True, False, True, True]
    assert rows[1]["worst"] == "update of head"
    assert len(rows[1]["rows"]) == 2


def test_a_comparison_is_made_in_one_precision(command, monkeypatch):
    monkeypatch.setattr(gpu_parts.os, "environ", {})
    monkeypatch.setattr(gpu_parts.jax.config, "update", lambda name, value: None)

    def compare(preset, mode, device, pairs, peers, seconds_a_turn):
        seen = gpu_parts.os.environ["JAX_DEFAULT_MATMUL_PRECISION"]
        assert (preset, mode, device, peers) == (
            gpu_parts.TINY,
            "train",
            "cpu",
            ("torch, eager",),
        )
        assert seen == "BF16_BF16_F32"
        return {"seconds": [0.001, 0.002], "ratio": 2.0, "peak_bytes": [3e6, 4e6]}

    monkeypatch.setattr(gpu_parts, "compare", compare)
    (row,) = gpu.PARTS["bfloat16"].rows(command)
    assert row["times PyTorch"] == 2.0
    assert (row["glrnn, ms"], row["PyTorch, ms"]) == (1.0, 2.0)
    assert (row["glrnn, MB"], row["PyTorch, MB"]) == (3, 4)


# The profile.


class Event(NamedTuple):
    name: str
    start_ns: float
    duration_ns: float
    stats: tuple[tuple[str, str], ...] = ()


class Line(NamedTuple):
    name: str
    events: list[Event]


class Plane(NamedTuple):
    name: str
    lines: list[Line]


class Profile(NamedTuple):
    planes: list[Plane]


def test_kernels_are_what_ran_on_the_streams():
    profile = Profile(
        [
            Plane(
                "/host:CPU", [Line("python", [Event("a", 0, 9, (("hlo_op", "a"),))])]
            ),
            Plane(
                "/device:GPU:0",
                [
                    Line("Stream #13(Compute)", [Event("gemm_7", 10, 30)]),
                    Line("Stream #14(Memcpy)", [Event("copy", 20, 40)]),
                    Line("XLA Ops", [Event("dot", 10, 30)]),
                ],
            ),
        ]
    )
    seen = kernels.kernels(profile)
    assert seen == [kernels.Kernel("gemm_7", 10, 40), kernels.Kernel("copy", 20, 60)]
    assert kernels.busy_nanoseconds(seen) == 50
    with pytest.raises(ValueError, match="host:CPU: python"):
        empty = [Plane("/host:CPU", [Line("python", [Event("a", 0, 9)])])]
        kernels.kernels(Profile(empty))


@pytest.mark.filterwarnings("ignore:builtin type event_stats")
def test_a_profile_of_a_real_step():
    product = jax.jit(lambda x: x @ x)
    x = np.ones((300, 300), np.float32)
    everything, *those = kernels.profile(lambda: product(x).block_until_ready())
    assert everything["count"] >= 1
    assert 0 < everything["busy"] <= 1
    assert those[0]["ms"] > 0


# Minutes.


def test_all_stages_are_shortened_alike():
    config = experiment.load(gpu_parts.EXPERIMENTS / "ptb_minutes.py")
    short = minutes.scaled(config, 6)
    pairs = [
        (stage.minutes, shorter.minutes)
        for phase, shorter_phase in zip(config.phases, short.phases, strict=True)
        for stage, shorter in (
            (phase.main, shorter_phase.main),
            (phase.finetune, shorter_phase.finetune),
        )
    ]
    assert sum(before for before, _ in pairs) == pytest.approx(12)
    assert all(after == pytest.approx(before / 2) for before, after in pairs)
    assert minutes.scaled(short, 12).phases == config.phases


def test_exported_parameters_are_found_again(tmp_path, monkeypatch):
    monkeypatch.setattr(minutes, "FILE_BYTES", 3001)
    model = language_model(CONFIG, 30, 1)
    params = model.init(jax.random.key(0))
    paths = minutes.export(params, tmp_path)
    assert [path.stat().st_size for path in paths[:-1]] == [3001] * (len(paths) - 1)
    like = jax.eval_shape(model.init, jax.random.key(0))
    again = minutes.load(like, tmp_path)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), params, again
    )
    paths[-1].unlink()
    with pytest.raises(ValueError, match="were expected"):
        minutes.load(like, tmp_path)
