"""Loss, gradients and speed of a training step under JAX's matrix precisions.

On an accelerator a product of float32 matrices need not be computed in float32: JAX's
default may be TF32 there. The gradients of the training loss are compared with the same
in float64 on the CPU, from the same parameters, tokens and dropout masks.
"""

import contextlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import ours
from benchmarks.presets import Preset, make_config
from glrnn.losses import activation_regularization, temporal_activation_regularization
from glrnn.model import Carry, Params, language_model, noise_rates
from glrnn.noise import Noise, sample
from glrnn.optimizer import group_names
from glrnn.windows import Window

# Names of `jax.default_matmul_precision`; None is what JAX does unless it is told.
# To NVIDIA's "bfloat16" is TF32 too; the last one really rounds to bfloat16.
PRECISIONS = ("float32", "tensorfloat32", None, "bfloat16", "BF16_BF16_F32")
CHECKED = "float32"
TOLERANCE = 1e-4
SCALE = 2.0
WARM_UP = 3
TIMED = 20


class Inputs(NamedTuple):
    """All that a training loss depends on."""

    params: Params
    carry: Carry
    window: Window
    masks: Noise


def draw(preset: Preset) -> Inputs:
    """Parameters, a window that is not full, and masks, in NumPy."""
    config = make_config(preset)
    model = language_model(config, preset.vocabulary, preset.layers)
    params_key, masks_key = jax.random.split(jax.random.key(0))
    rates = noise_rates(config.phases[0].dropout)
    masks = sample(masks_key, rates, model.noise_shapes(preset.batch, preset.window))
    rows = np.random.default_rng(0).integers(
        preset.vocabulary, size=(preset.window + 1, preset.batch), dtype=np.int32
    )
    window = Window(rows[:-1], rows[1:], np.int32(preset.window - 1))
    # Larger than at the start of training, when all softmaxes are nearly alike and the
    # gradient of their shares is hardly more than rounding.
    params = jax.tree.map(lambda x: SCALE * x, model.init(params_key))
    carry = model.initial_carry(preset.batch)
    return jax.device_get(Inputs(params, carry, window, masks))


def gradient(preset: Preset, inputs: Inputs) -> tuple[float, Params]:
    """The training loss, and its gradient in NumPy."""
    config = make_config(preset)
    model = language_model(config, preset.vocabulary, preset.layers)

    def loss(params, carry, window, masks):
        outcome = model.apply(params, carry, window, masks)
        length = jnp.asarray(window.length)
        ar = activation_regularization(outcome.dropped, length)
        tar = temporal_activation_regularization(outcome.outputs, length)
        return (
            outcome.nll
            + config.activation_regularization * ar
            + config.temporal_activation_regularization * tar
        )

    total, grads = jax.device_get(jax.jit(jax.value_and_grad(loss))(*inputs))
    return float(total), grads


def exact_gradient(preset: Preset, inputs: Inputs) -> tuple[float, Params]:
    """The same in float64, on the CPU, by a process that knows no other device."""

    def widen(x):
        return x.astype(np.float64) if x.dtype == np.float32 else x

    spawn = multiprocessing.get_context("spawn")
    with (
        environment({"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "true"}),
        ProcessPoolExecutor(1, mp_context=spawn) as pool,
    ):
        return pool.submit(gradient, preset, jax.tree.map(widen, inputs)).result()


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Environment variables that processes begun meanwhile inherit."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def difference(found: Any, exact: Any) -> float:
    """The largest difference of an array's elements, relative to its largest one.

    Of several arrays the largest; not finite if anything in `found` is not.
    """
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True)
    return float(np.max([np.max(np.abs(a - b)) / np.max(np.abs(b)) for a, b in leaves]))


def groups(grads: Params, num_layers: int) -> dict[str, Any]:
    """The groups that gradients are clipped by, named."""
    names = group_names((1.0,) * (num_layers + 2), num_layers)
    parts = grads.embedding, *grads.layers, grads.head
    return dict(zip(names, parts, strict=True))


def check(preset: Preset) -> Iterator[dict[str, Any]]:
    """Relative differences from float64, group by group, one row a precision.

    Raises:
        ArithmeticError: at the end, if they are too large in float32.
    """
    inputs = draw(preset)
    exact_loss, exact = exact_gradient(preset, inputs)
    exact_groups = groups(exact, preset.layers)
    failed = False
    for precision in PRECISIONS:
        with jax.default_matmul_precision(precision):
            loss, grads = gradient(preset, inputs)
        row: dict[str, Any] = {
            "precision": precision or "default",
            "loss": abs(loss - exact_loss) / abs(exact_loss),
        }
        for name, group in groups(grads, preset.layers).items():
            row[name] = difference(group, exact_groups[name])
        if precision == CHECKED:
            numbers = [value for value in row.values() if isinstance(value, float)]
            failed = not all(number <= TOLERANCE for number in numbers)
            row[f"below {TOLERANCE:.0e}"] = "FAILED" if failed else "OK"
        yield row
    if failed:
        raise ArithmeticError(f"gradients in {CHECKED} differ from those in float64")


def step_times(preset: Preset) -> Iterator[dict[str, Any]]:
    """Time of this project's training step, and where it gets, under each precision."""
    for precision in PRECISIONS:
        with jax.default_matmul_precision(precision):
            take, _ = ours.make_step(preset, "train")
            for _ in range(WARM_UP):
                take()
            times, loss = [], 0.0
            for _ in range(TIMED):
                started = time.perf_counter()
                loss = take()
                times.append(time.perf_counter() - started)
        seconds = statistics.median(times)
        yield {
            "precision": precision or "default",
            "ms a step": 1e3 * seconds,
            "tokens/s": round(preset.tokens / seconds),
            f"loss after {WARM_UP + TIMED} steps": loss,
        }
