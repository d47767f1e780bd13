"""NVIDIA's LSTM: all time steps of a window in one call of cuDNN."""

import warnings
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.experimental import rnn

# Of a trial's largest number; cuDNN may multiply in TF32.
TOLERANCE = 1e-2


def lstm(
    window: Array,
    hidden: Array,
    cell: Array,
    matrices: tuple[Array, Array],
    biases: tuple[Array, Array],
    length: Array | None = None,
) -> tuple[Array, Array, Array]:
    """One layer over one window.

    It multiplies in float32 where `jax.default_matmul_precision` asks for that, else in
    TF32.

    Args:
        window: Inputs, `[T, B, I]`, float32.
        hidden: h before the window, `[B, H]`.
        cell: c before the window, `[B, H]`.
        matrices: W_ih `[I, 4H]` and W_hh `[H, 4H]`, the gates in the order i, f, g, o.
        biases: b_ih and b_hh, each `[4H]`.
        length: The true number of time steps, one number or one a sequence `[B]`, at
            least 1. `None` means T.

    Returns:
        The outputs `[T, B, H]`, zero from `length` on, and h and c after `length`.

    Example:
        >>> matrices = jnp.ones((2, 4)), jnp.ones((1, 4))
        >>> state = jnp.zeros((3, 1))
        >>> arguments = state, state, matrices, (jnp.ones(4), jnp.ones(4))
        >>> if is_usable():
        ...     assert lstm(jnp.ones((5, 3, 2)), *arguments)[0].shape == (5, 3, 1)
    """
    num_steps, batch_size, input_size = window.shape
    live = None
    if length is not None:
        live = jnp.arange(num_steps)[:, None, None] < jnp.reshape(length, (1, -1, 1))
        # Not for the result: so that no gradient comes from where nothing was computed.
        window = jnp.where(live, window, 0)
    weights = [matrix.T.ravel() for matrix in matrices] + list(biases)
    lengths = jnp.reshape(num_steps if length is None else length, (-1,))
    layer: Any = rnn.lstm
    outputs, hidden, cell = layer(
        jnp.swapaxes(window, 0, 1),
        hidden[None],
        cell[None],
        jnp.concatenate(weights),
        jnp.broadcast_to(lengths, (batch_size,)).astype(jnp.int32),
        input_size,
        hidden.shape[-1],
        1,  # layers
        0.0,  # dropout
        False,  # one direction
    )
    outputs = jnp.swapaxes(outputs, 0, 1)
    if live is not None:
        outputs = jnp.where(live, outputs, 0)
    return outputs, hidden[0], cell[0]


@cache
def is_usable() -> bool:
    """Whether this process computes on an NVIDIA GPU whose cuDNN passes a trial.

    The trial compares a small window and its gradients with JAX's own reference. Where
    it fails, a warning says why.
    """
    device = jax.devices()[0]
    if device.platform != "gpu" or "cuda" not in device.client.platform_version:
        return False
    try:
        # A program that is being traced may ask; the trial is not to be a part of it.
        with jax.ensure_compile_time_eval():
            error = _trial()
    except Exception as failure:
        warnings.warn(f"cuDNN's LSTM is not used: {failure}", stacklevel=2)
        return False
    if not error < TOLERANCE:
        warnings.warn(f"cuDNN's LSTM is not used: off by {error:.1e}", stacklevel=2)
    return error < TOLERANCE


def _trial() -> float:
    """The largest difference from the reference, of the largest number."""
    num_steps, batch_size, inputs, hidden_size = 3, 2, 4, 8
    rng = np.random.default_rng(0)
    gates = 4 * hidden_size

    def normal(*shape: int) -> Array:
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    def by_cudnn(window, hidden, cell, matrices, biases):
        return lstm(window, hidden, cell, matrices, biases, lengths)

    def by_reference(window, hidden, cell, matrices, biases):
        outputs, hidden, cell = rnn.lstm_ref(
            jnp.swapaxes(window, 0, 1),
            hidden[None],
            cell[None],
            *({0: matrix.T} for matrix in matrices),
            *({0: bias} for bias in biases),
            lengths,
            inputs,
            hidden_size,
            1,
            0.0,
            False,
        )
        return jnp.swapaxes(outputs, 0, 1), hidden[0], cell[0]

    lengths = jnp.array([num_steps, num_steps - 1], jnp.int32)
    arguments = (
        normal(num_steps, batch_size, inputs),
        normal(batch_size, hidden_size),
        normal(batch_size, hidden_size),
        (normal(inputs, gates), normal(hidden_size, gates)),
        (normal(gates), normal(gates)),
    )
    found, expected = (
        jax.tree.leaves((result, pull(result)))
        for result, pull in (
            jax.vjp(each, *arguments) for each in (by_cudnn, by_reference)
        )
    )
    return max(
        float(jnp.max(jnp.abs(a - b)) / jnp.max(jnp.abs(b)))
        for a, b in zip(found, expected, strict=True)
    )
