"""A device that computes something else than the CPU is found out, and nothing else is.

The device here is the CPU, for which the program of a GPU is traced: `gpu`. A fault is
in that program alone.
"""

import json
import re
import time
from dataclasses import replace
from functools import cache
from unittest.mock import Mock

import jax
import numpy as np
import pytest

from glrnn import check, data, train
from glrnn.cells import cell
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.data.vocabulary import Vocabulary
from glrnn.ground import devices
from glrnn.heads import blocks
from glrnn.model import forward
from glrnn.storage.run_folder import Origin, Run, StageId
from glrnn.training import agreement, device_check, gradient, programs
from glrnn.training.context import new_context
from glrnn.training.execution import Execution

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


MAIN, FINETUNE = StageId(1, "main"), StageId(1, "finetune")


def make_context(tmp_path, config=CONFIG, precision="float32", **execution):
    tokens = np.random.default_rng(0).integers(V, size=60, dtype=np.int32)
    words = Vocabulary(tuple(map(str, range(V))))
    corpus = data.Corpus("random", words, tokens, tokens, tokens, unknown={})
    run = Run(tmp_path, config, words, Origin("random", "0"))
    execution = Execution(precision=precision, **execution)
    return new_context(run, corpus, Mock(), execution)


def compare(tmp_path, config=CONFIG, precision=None):
    return device_check.compare(make_context(tmp_path, config, precision), MAIN)


BUILD_PROGRAM = programs.build_program.__wrapped__
ON_CPU = cache(BUILD_PROGRAM)


def pretend(monkeypatch):
    """JAX's default device seems to be a GPU, and its choices differ from a CPU's."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setitem(blocks.BLOCKS, "cpu", blocks.Block(logits=300, table=100))
    monkeypatch.setitem(cell.UNROLL, "gpu", 2)  # ten take long to compile


@pytest.fixture
def gpu(monkeypatch):
    """A GPU whose program is another one in every test; that of the CPU is not."""
    pretend(monkeypatch)

    of_the_gpu = cache(BUILD_PROGRAM)

    def build_program(*arguments):
        *_, precision = arguments
        return (ON_CPU if precision == "float32" else of_the_gpu)(*arguments)

    monkeypatch.setattr(programs, "build_program", build_program)


def on_gpu(faulty, right):
    """A function that is wrong in the program of a GPU only."""

    def either(*arguments):
        function = faulty if devices.platform() == "gpu" else right
        return function(*arguments)

    return either


def of_another_key(monkeypatch):
    """Dropout masks."""
    sample = gradient.draw_masks

    def faulty(key, rates, shapes):
        return sample(jax.random.fold_in(key, 1), rates, shapes)

    monkeypatch.setattr(gradient, "draw_masks", on_gpu(faulty, sample))


def transposed(monkeypatch):
    """The window of the second layer, [B, T, H] in memory and read as [T, B, H]."""
    unroll = forward.unroll

    def faulty(layer, params, state, window, length):
        if window.shape[-1] == CONFIG.layers[0].hidden_size:
            window = window.transpose(1, 0, 2).reshape(window.shape)
        return unroll(layer, params, state, window, length)

    monkeypatch.setattr(forward, "unroll", on_gpu(faulty, unroll))


@jax.custom_vjp
def with_larger_gradient(params):
    return params


with_larger_gradient.defvjp(
    lambda params: (params, None),
    lambda _, ct: (jax.tree.map(lambda grad: 1.1 * grad, ct),),
)


def scaled(monkeypatch):
    """The gradient of the second layer, by 1.1."""
    unroll = forward.unroll

    def faulty(layer, params, state, window, length):
        if window.shape[-1] == CONFIG.layers[0].hidden_size:
            params = with_larger_gradient(params)
        return unroll(layer, params, state, window, length)

    monkeypatch.setattr(forward, "unroll", on_gpu(faulty, unroll))


def exceeding(rows):
    return [row.name for row in rows if not row.excess <= 1]


GROUPS = ("embedding", "layer 1", "layer 2", "head")


@pytest.mark.thorough
@pytest.mark.usefixtures("gpu")
def test_other_choices_of_the_same_program_pass(tmp_path):
    rows = compare(tmp_path, precision="tensorfloat32")
    # On a CPU products are in float32, whatever is asked for.
    strict = agreement.TOLERANCES["float32"]
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


@pytest.mark.thorough
@pytest.mark.usefixtures("gpu")
def test_masks_of_another_key_are_seen(tmp_path, monkeypatch):
    of_another_key(monkeypatch)
    found = exceeding(compare(tmp_path))
    for group in GROUPS:
        assert any(name.startswith(f"update of {group}, ") for name in found)


@pytest.mark.thorough
@pytest.mark.usefixtures("gpu")
def test_a_transposed_window_is_seen(tmp_path, monkeypatch):
    transposed(monkeypatch)
    found = exceeding(compare(tmp_path))
    assert "update of layer 1, input" in found
    assert "state of layer 1" not in found


@pytest.mark.thorough
@pytest.mark.usefixtures("gpu")
def test_a_scaled_gradient_of_one_group_is_seen(tmp_path, monkeypatch):
    """Though the group is clipped to the same norm."""
    scaled(monkeypatch)
    found = exceeding(compare(tmp_path))
    assert found == ["gradient norm of layer 2"]


@pytest.mark.thorough
@pytest.mark.usefixtures("gpu")
def test_an_update_tells_of_the_gradient_whatever_the_rule(tmp_path, monkeypatch):
    """Not of its signs alone, and however small the learning rate."""
    scaled(monkeypatch)
    stage = Stage(1, learning_rate=1e-6, max_norms=(100.0,) * 4)
    phase = replace(CONFIG.phases[0], main=stage)
    config = replace(CONFIG, optimizer="rms", weight_decay=0.0, phases=(phase,))
    found = exceeding(compare(tmp_path, config))
    arrays = ("input", "recurrent", "input_bias", "recurrent_bias")
    updates = [f"update of layer 2, {array}" for array in arrays]
    assert found == ["gradient norm of layer 2", "update of layer 2", *updates]


# A run.


@pytest.fixture
def run(texts, tmp_path, monkeypatch, capsys):
    """Trains on what seems to be a GPU; the exit status, and what was said."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pretend(monkeypatch)
    monkeypatch.setattr(programs, "build_program", cache(BUILD_PROGRAM))
    path = texts / "small.py"
    path.write_text(path.read_text().replace("Stage(2,", "Stage(1,"))
    given = [str(path), "--data", str(texts)]

    def train_in(folder, *options, main=train.main):
        place = ["--workdir", str(tmp_path / folder)] if main is train.main else []
        try:
            main([*given, *place, *options])
        except SystemExit as exit_:
            return exit_.code, "".join(capsys.readouterr())
        return 0, "".join(capsys.readouterr())

    return train_in


@pytest.mark.thorough
def test_a_run_on_a_wrong_device_ends_before_it_begins(run, tmp_path, monkeypatch):
    scaled(monkeypatch)
    started = time.process_time()
    status, said = run("run")
    assert time.process_time() - started < 60
    assert status == 2
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert re.match(
        r"error: cpu computes wrong numbers: update of layer 1 is [\d.]+ there and "
        r"[\d.]+ on the CPU, a difference of 0\.1 where rounding explains 0\.001 \(",
        line,
    )
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"config.json", "origin.json", "vocabulary.json", ".lock"}
    # Nor is it remembered as right.
    assert not list((tmp_path / "cache").rglob("checks/*"))
    # On request all of it is shown, and refused likewise.
    status, said = run("", main=check.main)
    assert status == 2
    (row,) = (line for line in said.splitlines() if "update of layer 1  " in line)
    assert row.endswith("wrong")
    # Who knows better trains all the same.
    status, said = run("run", "--no-check")
    assert status == 0
    assert "computes" not in said


@pytest.mark.thorough
def test_a_right_device_is_trained_on_and_remembered(run, tmp_path):
    status, said = run("one")
    assert status == 0
    assert "cpu computes the first update as the CPU does: of 12 figures " in said
    (passed,) = (tmp_path / "cache" / "glrnn" / "checks").iterdir()
    key = json.loads(passed.read_text())
    assert (key["device"], key["devices"], key["precision"]) == ("cpu", 1, "float32")
    status, said = run("two")
    assert status == 0
    assert "cpu has passed the check of this program before" in said
    assert "computes" not in said


@pytest.fixture
def checks(tmp_path, monkeypatch):
    """Counts the comparisons that the stages of a phase need, all of them passed."""
    pretend(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    compared = []
    right = agreement.Row("nll", 1.0, 1.0, 0.0, 1.0)
    monkeypatch.setattr(
        device_check, "compare", lambda *given: compared.append(given) or [right]
    )

    def count(context, *stages):
        compared.clear()
        device_check.require(context, stages)
        return len(compared)

    return count


def test_every_program_is_checked_once(tmp_path, monkeypatch, checks):
    context = make_context(tmp_path)
    # The stages, with learning rates of their own, share a program.
    assert checks(context, MAIN, FINETUNE) == 1
    assert checks(context, MAIN, FINETUNE) == checks(context, FINETUNE) == 0
    seeded = make_context(tmp_path, replace(CONFIG, seed=1))
    assert checks(seeded, MAIN) == 0
    # What is another program, or compiled in another way, is another thing.
    assert checks(make_context(tmp_path, precision="BF16_BF16_F32"), MAIN) == 1
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=0")
    assert checks(context, MAIN) == 1
    monkeypatch.setattr(device_check, "version", lambda name: "99")
    assert checks(context, MAIN) == 1
    assert checks(context, MAIN) == 0


def test_what_cannot_be_remembered_is_checked_again(tmp_path, checks):
    (tmp_path / "cache").write_text("in the way")
    context = make_context(tmp_path)
    assert checks(context, MAIN) == checks(context, MAIN) == 1


def test_nothing_is_checked_where_it_is_not_wanted_or_on_a_cpu(
    tmp_path, monkeypatch, checks
):
    assert checks(make_context(tmp_path, check_device=False), MAIN) == 0
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert checks(make_context(tmp_path), MAIN) == 0


@pytest.mark.thorough
def test_without_a_cpu_nothing_is_checked_and_a_line_says_so(run, monkeypatch):
    local_devices = jax.local_devices

    def no_cpu(*arguments, backend=None):
        if backend == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return local_devices(*arguments)

    monkeypatch.setattr(jax, "local_devices", no_cpu)
    status, said = run("run")
    assert status == 0
    assert "the device is not checked, for JAX has no CPU" in said
    assert "add `,cpu` to JAX_PLATFORMS, or leave it unset" in said
    status, said = run("", main=check.main)
    assert (status, said.count("\n")) == (2, 1)
    assert said.startswith("error: JAX has no CPU to compare with: add `,cpu`")


@pytest.mark.thorough
def test_a_cpu_is_compared_with_itself_on_request_alone(texts, trained, capsys):
    assert "computes" not in trained[2]
    check.main([str(texts / "small.py"), "--data", str(texts), "--phase", "1"])
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if line != "compiling"]  # on a slow machine
    assert lines[0] == "the device is a CPU: the program is compared with itself"
    assert lines[1].split() == ["figure", "cpu", "CPU", "difference", "tolerance"]
    assert lines[-1] == "cpu computes the same as the CPU, up to rounding."
    assert all(line.split()[-2] == "0.0e+00" for line in lines[3:-2])


@pytest.mark.thorough
def test_a_check_with_other_texts_than_the_run_s_says_so(
    trained, texts, capsys, monkeypatch
):
    monkeypatch.setattr(check, "_show", lambda context, stage: None)
    run = str(trained[0])
    check.main([run])
    assert capsys.readouterr().err == ""
    with (texts / "test.txt").open("a") as file:
        file.write(" cat")
    check.main([run, "--data", str(texts)])
    assert (
        capsys.readouterr().err == f"note: {texts} is not what {run} was trained on\n"
    )
