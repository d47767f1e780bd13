"""One update: gradients added up in parts, masks, and numbers that are not finite."""

import functools
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from glrnn.config import Config, Dropout, Layer, Phase
from glrnn.data.windows import Window
from glrnn.evaluation import perplexity
from glrnn.ground.dropout import Masks
from glrnn.model import dropout_rates, language_model
from glrnn.training.gradient import Regularizers, training_gradient
from glrnn.training.step import training_step
from glrnn.training.train_state import TrainState

T, B, V = 7, 6, 11
CONFIG = Config(
    embedding_size=6,
    layers=(Layer(hidden_size=8),) * 2,
    head="mixture",
    num_softmaxes=2,
    phases=(Phase(2, Dropout(hidden=(0.0,))),),
    batch_size=B,
)
NOISY = dropout_rates(Dropout(0.2, 0.2, (0.2,), 0.2, 0.2, 0.2))
QUIET = Masks(layers=dropout_rates(Dropout(hidden=(0.0,))).layers)
MODEL = language_model(CONFIG, V, num_layers=2)
# Masks of every kind that sequences may have of their own.
NOISIER = dropout_rates(Dropout(0.2, 0.2, (0.2,), 0.2, 0.2, 0.2, 0.2, 0.2))
MODEL_OF_ALL_MASKS = language_model(
    replace(CONFIG, masks_per_step=True, word_masks_per_sequence=True), V, num_layers=2
)

# An optimizer that leaves the parameters alone and keeps the gradient as its state.
KEEP = optax.GradientTransformationExtraArgs(
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda grads, state, params, **extra: (jax.tree.map(jnp.zeros_like, grads), grads),
)


@functools.cache
def make_step(rates, num_microbatches):
    gradient = training_gradient(MODEL, rates, Regularizers(2.0, 1.0), num_microbatches)
    return training_step(gradient, KEEP, groups=0)


def make_state():
    rng = np.random.default_rng(0)
    params = MODEL.init(jax.random.key(0))
    carry = jax.tree.map(
        lambda state: jnp.asarray(rng.uniform(-1, 1, state.shape), jnp.float32),
        MODEL.initial_carry(B),
    )
    return TrainState(params, KEEP.init(params), carry, jnp.zeros((), jnp.int32))


def make_window(length=T):
    tokens = np.random.default_rng(1).integers(V, size=(T + 1, B)).astype(np.int32)
    return Window(tokens[:-1], tokens[1:], np.int32(length))


def run(rates, num_microbatches, length=T):
    step = make_step(rates, num_microbatches)
    return step(make_state(), make_window(length), jax.random.key(3))


def assert_close(actual, expected, tolerance=1e-5):
    """The largest difference over the largest value, leaf by leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert a.shape == e.shape
        error = jnp.max(jnp.abs(a - e)) / jnp.max(jnp.abs(e))
        assert error < tolerance, f"{jax.tree_util.keystr(path)} is off by {error:.1e}"


@pytest.mark.thorough
def test_a_loss_can_be_summed_over_time_and_penalized():
    """By its gradient, that of a mean times the length, and of half the square."""
    mean, mean_metrics = run(QUIET, 1, length=4)
    regularizers = Regularizers(2.0, 1.0, l2_penalty=0.3, sum_over_time=True)
    gradient = training_gradient(MODEL, QUIET, regularizers)
    step = training_step(gradient, KEEP, groups=0)
    summed, metrics = step(make_state(), make_window(4), jax.random.key(3))
    params = make_state().params
    expected = jax.tree.map(lambda g, p: 4 * g + 0.3 * p, mean.opt_state, params)
    assert_close(summed.opt_state, expected)
    squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
    total = 4 * mean_metrics["loss"] + 0.15 * squares
    assert metrics["loss"] == pytest.approx(total.item(), rel=1e-5)
    assert metrics["nll"] == mean_metrics["nll"]


@pytest.mark.parametrize(
    ("length", "num_microbatches"),
    [
        (4, 3),
        *(
            pytest.param(length, number, marks=pytest.mark.thorough)
            for length, number in [(T, 2), (T, 3), (T, 6), (4, 2), (4, 6)]
        ),
    ],
)
def test_microbatches_add_up_to_the_whole_batch(length, num_microbatches):
    whole, whole_metrics = run(QUIET, 1, length)
    parts, parts_metrics = run(QUIET, num_microbatches, length)
    assert_close(parts.opt_state, whole.opt_state)
    assert_close(parts.carry, whole.carry)
    assert_close(parts_metrics, whole_metrics)


def test_each_microbatch_has_masks_of_its_own():
    """Equal sequences differ by their masks alone."""
    state, window = make_state(), make_window()
    state = state.replace(carry=jax.tree.map(jnp.zeros_like, state.carry))
    equal = [np.repeat(rows[:, :1], B, axis=1) for rows in window[:2]]
    step = make_step(NOISY, 3)
    new, _ = step(state, Window(*equal, window.length), jax.random.key(3))
    top = np.asarray(new.carry[-1].hidden)
    assert len({row.tobytes() for row in top}) == B


@pytest.mark.thorough
def test_microbatches_need_less_memory():
    def temporary(num_microbatches):
        arguments = make_state(), make_window(), jax.random.key(3)
        compiled = make_step(NOISY, num_microbatches).lower(*arguments).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(6) < temporary(1)


@pytest.mark.parametrize(
    "num_microbatches", [1, pytest.param(3, marks=pytest.mark.thorough)]
)
def test_a_gradient_that_is_not_finite_changes_nothing_but_the_count(num_microbatches):
    state = make_state()
    bias = state.params.embedding.bias.at[3].set(jnp.nan)
    embedding = state.params.embedding.replace(bias=bias)
    state = state.replace(params=state.params.replace(embedding=embedding))
    before = jax.tree.map(np.array, state.replace(count=state.count + 1))
    after, metrics = make_step(QUIET, num_microbatches)(
        state, make_window(), jax.random.key(3)
    )
    assert not np.isfinite(metrics["loss"])
    jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.array, after))


@pytest.mark.parametrize(
    ("size", "kept"), [(1e20, True), (3e38, True), (np.inf, False), (np.nan, False)]
)
def test_large_gradients_are_finite(size, kept):
    """Though the sums of their squares overflow."""
    grads = {"w": jnp.full(3, size, jnp.float32)}
    step = training_step(lambda *_: ((1.0, (1.0, ())), grads), KEEP, groups={"w": 0})
    params = {"w": jnp.zeros(3)}
    state = TrainState(params, KEEP.init(params), (), jnp.zeros((), jnp.int32))
    new, metrics = step(state, make_window(), jax.random.key(3))
    expected = np.full(3, size if kept else 0, np.float32)
    np.testing.assert_array_equal(new.opt_state["w"], expected)
    assert np.isfinite(metrics["norms"]["w"]) == kept


def test_masks_follow_the_count_of_updates():
    def losses(count):
        state = make_state().replace(count=jnp.int32(count))
        return float(
            make_step(NOISY, 1)(state, make_window(), jax.random.key(3))[1]["loss"]
        )

    assert losses(0) == losses(0) != losses(1)


# Several devices.

ON_DEVICES = """
import jax, numpy as np
from step_test import KEEP, MODEL_OF_ALL_MASKS, NOISIER, make_state, make_window
from glrnn.training.gradient import Regularizers, training_gradient
from glrnn.training.step import training_step

mesh = jax.make_mesh((3,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
for num_microbatches in (1, 2):
    one, several = (
        training_step(
            training_gradient(
                MODEL_OF_ALL_MASKS,
                NOISIER,
                Regularizers(2.0, 1.0, l2_penalty=0.1, sum_over_time=True),
                num_microbatches,
                where,
            ),
            KEEP,
            groups=0,
        )
        for where in (None, mesh)
    )
    arguments = make_window(5), jax.random.key(3)
    program = several.lower(make_state(), *arguments).compile().as_text()
    print(program)
    print("----")
    expected, actual = (
        jax.tree.leaves(step(make_state(), *arguments)) for step in (one, several)
    )
    print(max(np.abs(a - e).max() / np.abs(e).max() for a, e in zip(actual, expected)))
    print("----")
"""


@pytest.fixture(scope="module")
def on_devices():
    """What steps on three devices compile to, and how far they are from one device."""
    flags = "--xla_force_host_platform_device_count=3"
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES],
        env=os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split("----")


@pytest.mark.thorough
def test_several_devices_learn_what_one_does(on_devices):
    assert max(map(float, on_devices[1::2][:2])) < 1e-5


@pytest.mark.thorough
def test_devices_speak_once_an_update(on_devices):
    for program in on_devices[0::2][:2]:
        computations = re.split(r"\n(?=\S)", program)
        inside = {
            name
            for computation in computations
            for name in re.findall(r"\bbody=%?([\w.-]+)", computation)
        }
        speaking = [
            re.match(r"(?:ENTRY )?%?([\w.-]+)", computation)[1]
            for computation in computations
            if "all-reduce" in computation.replace("all-reduce-", "")
        ]
        assert inside
        assert speaking
        assert not inside.intersection(speaking)


# Precision.


def programs(precision):
    """What a step and, asked the same of everything, an evaluation are lowered to."""
    gradient = training_gradient(MODEL, NOISY, Regularizers(2.0, 1.0))
    step = training_step(gradient, KEEP, groups=0, precision=precision)
    arguments = make_window(5), jax.random.key(3)
    windows = jax.tree.map(lambda x: np.asarray(x)[None], make_window(5))
    with jax.default_matmul_precision(precision):
        evaluation = perplexity._window_means.lower(MODEL, make_state().params, windows)
    return [
        [line for line in lowered.as_text().splitlines() if "dot_general" in line]
        for lowered in (step.lower(make_state(), *arguments), evaluation)
    ]


@pytest.mark.parametrize(
    ("precision", "mark"),
    [
        ("BF16_BF16_F32", "bf16"),
        pytest.param("tensorfloat32", "HIGH,", marks=pytest.mark.thorough),
    ],
)
def test_products_of_training_are_as_precise_as_asked_and_of_evaluation_exact(
    precision, mark
):
    training, evaluation = programs(precision)
    assert training
    assert all(mark in line for line in training)
    assert evaluation
    assert all("[HIGHEST, HIGHEST]" in line for line in evaluation)
