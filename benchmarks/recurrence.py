"""A window through one LSTM layer and back: what `unroll` chooses, beside its scan.

On an NVIDIA GPU it chooses cuDNN, elsewhere the scan itself.
"""

import statistics
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.gradients import TIMED, WARM_UP, difference
from benchmarks.presets import Preset
from glrnn.cells import CELLS, Cell, cudnn, unroll

PRECISIONS = ("float32", "tensorfloat32")


def compare(preset: Preset) -> Iterator[dict[str, Any]]:
    """Time and difference, one row a layer and precision."""
    for inputs in (preset.embedding, preset.hidden):
        fused = CELLS["lstm"](inputs, preset.hidden)
        scanned = fused._replace(fused=lambda *window: None)
        for precision in PRECISIONS:
            with jax.default_matmul_precision(precision):
                seconds, found = _timed(fused, inputs, preset)
                scan_seconds, expected = _timed(scanned, inputs, preset)
            yield {
                "layer": f"{inputs} -> {preset.hidden}",
                "precision": precision,
                "cuDNN": cudnn.is_usable(),
                "ms": 1e3 * seconds,
                "scan, ms": 1e3 * scan_seconds,
                "ratio": scan_seconds / seconds,
                "difference": difference(found, expected),
            }


def _timed(cell: Cell, inputs: int, preset: Preset) -> tuple[float, Any]:
    """Median seconds of result and gradients together, and these."""
    shape = preset.window, preset.batch, inputs
    params = cell.init(jax.random.key(0))
    state = cell.initial_state(preset.batch)
    window = jax.random.normal(jax.random.key(1), shape)

    @jax.jit
    def run(params, state, window):
        result, pull = jax.vjp(
            lambda *args: unroll(cell, *args, jnp.int32(preset.window - 1)),
            *(params, state, window),
        )
        live = jnp.arange(preset.window)[:, None, None] < preset.window - 1
        after, outputs = result[0], jnp.where(live, result[1], 0)
        return (after, outputs), pull((after, outputs))

    times, found = [], None
    for _ in range(WARM_UP + TIMED):
        started = time.perf_counter()
        found = jax.block_until_ready(run(params, state, window))
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM_UP:]), jax.device_get(found)
