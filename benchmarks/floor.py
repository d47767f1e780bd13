"""The floor of a training step: its matrix products and nothing else.

Each product is timed alone, by JAX and by PyTorch, and the faster time counts. A
recurrent product is one of a single time step, repeated for each step, since each step
needs the one before; all other products are of the whole window.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from benchmarks.presets import Preset

REPEATS = 7


class Product(NamedTuple):
    """A matrix product `[m, k] x [k, n]`, computed `times` times in sequence.

    Attributes:
        name: The quantity that it computes.
        m: The rows of the result.
        k: The size of the sum.
        n: The columns of the result.
        times: The number of repetitions in a step.
        transposed: The operand that is stored transposed: `none`, `left` (for the
            gradient of a matrix) or `right` (for the gradient of an input).
    """

    name: str
    m: int
    k: int
    n: int
    times: int = 1
    transposed: str = "none"

    @property
    def operations(self) -> int:
        """The floating-point operations of all repetitions."""
        return 2 * self.m * self.k * self.n * self.times


def products(preset: Preset) -> list[Product]:
    """All matrix products of a training step, forward and backward."""
    found: list[Product] = []
    for number in range(1, preset.layers + 1):
        inputs = preset.embedding if number == 1 else preset.hidden
        gates = 4 * preset.hidden
        name = f"layer {number}, "
        found += _thrice(name + "input", preset.tokens, inputs, gates)
        forward, backward, weights = _thrice(
            name + "recurrent", preset.batch, preset.hidden, gates
        )
        found += [
            forward._replace(times=preset.window),
            backward._replace(times=preset.window),
            weights._replace(k=preset.tokens),
        ]
    latents = preset.softmaxes * preset.embedding
    found += _thrice("prior", preset.tokens, preset.hidden, preset.softmaxes)
    found += _thrice("latents", preset.tokens, preset.hidden, latents)
    rows = preset.tokens * preset.softmaxes
    found += _thrice("logits", rows, preset.embedding, preset.vocabulary)
    return found


def _thrice(name: str, rows: int, inputs: int, outputs: int) -> Iterator[Product]:
    yield Product(name, rows, inputs, outputs)
    yield Product(f"{name}, its input", rows, outputs, inputs, transposed="right")
    yield Product(f"{name}, its matrix", inputs, rows, outputs, transposed="left")


def expected_operations(preset: Preset) -> int:
    """6 T B (entries of the matrices of layers and head + K V E)."""
    gates = 4 * preset.hidden
    inputs = [preset.embedding] + [preset.hidden] * (preset.layers - 1)
    entries = sum((i + preset.hidden) * gates for i in inputs)
    latents = preset.softmaxes * preset.embedding
    entries += preset.hidden * (preset.softmaxes + latents)
    return 6 * preset.tokens * (entries + latents * preset.vocabulary)


def seconds(make: Callable[[Product], Callable[[], object]], preset: Preset):
    """The seconds of each product in a step: a median, times its repetitions."""
    for product in products(preset):
        run = make(product)
        run()
        yield product.times * statistics.median(_timed(run) for _ in range(REPEATS))


def _timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def operands(product: Product) -> tuple[np.ndarray, np.ndarray]:
    """Random operands, stored as in the step."""
    rng = np.random.default_rng(0)
    left, right = (product.m, product.k), (product.k, product.n)
    if product.transposed == "left":
        left = left[::-1]
    if product.transposed == "right":
        right = right[::-1]
    return tuple(rng.standard_normal(shape, np.float32) for shape in (left, right))


def in_jax(product: Product) -> Callable[[], object]:
    """The product as a compiled function."""
    import jax
    import jax.numpy as jnp

    left, right = map(jnp.asarray, operands(product))

    @jax.jit
    def multiply(left, right):
        left = left.T if product.transposed == "left" else left
        return left @ (right.T if product.transposed == "right" else right)

    return lambda: jax.block_until_ready(multiply(left, right))


def in_torch(product: Product, device: str) -> Callable[[], object]:
    """The product in PyTorch, written into preallocated memory."""
    import torch

    left, right = (torch.from_numpy(x).to(device) for x in operands(product))
    left = left.T if product.transposed == "left" else left
    right = right.T if product.transposed == "right" else right
    out = torch.empty(product.m, product.n, device=device)

    def multiply():
        torch.matmul(left, right, out=out)
        if device != "cpu":
            torch.cuda.synchronize()

    return multiply
