"""LSTM with a capped input gate (Melis, Dyer and Blunsom 2018)."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.nn.initializers import lecun_normal

from glrnn.cells.affine import affine
from glrnn.cells.cell import Cell, save_for_backward
from glrnn.cells.lstm import LSTMState, lstm
from glrnn.ground.dropout import drop


@struct.dataclass
class CappedParams:
    """The weights of the four gates, in the order i, f, g, o along the last axis.

    Attributes:
        input: W, `[I, 4H]`.
        recurrent: U, `[H, 4H]`.
        bias: b, `[4H]`.
        mask: The dropout mask on the hidden state, `[B, H]`, constant over a window; or
            `None`.
    """

    input: Array
    recurrent: Array
    bias: Array
    mask: Array | None = None


def capped(input_size: int, hidden_size: int) -> Cell:
    """An LSTM layer whose input gate is at most 1 minus its forget gate: |c| < 1.

    i, f, g, o = W x + U h + b;
    c' = sigmoid(f) c + min(1 - sigmoid(f), sigmoid(i)) tanh(g);
    h' = sigmoid(o) tanh(c').

    W, U and b are initialised from truncated normal distributions of variance 1/I, 1/H
    and 1/H, with mean 1 for the biases of f and 0 for all others, as in the authors'
    code.

    Args:
        input_size: I.
        hidden_size: H.

    Returns:
        The cell; its output is h'.

    Example:
        >>> cell = capped(2, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> projection = cell.project_inputs(params, jnp.ones((1, 4, 2)))
        >>> state, output = cell.step(params, cell.initial_state(4), projection[0])
        >>> output.shape
        (4, 3)
    """

    def init(key: Array) -> CappedParams:
        input_key, recurrent_key, bias_key = jax.random.split(key, 3)
        normal = lecun_normal()  # of variance 1/rows
        spread = normal(bias_key, (hidden_size, 4)).T.ravel()
        means = jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), hidden_size)
        return CappedParams(
            normal(input_key, (input_size, 4 * hidden_size)),
            normal(recurrent_key, (hidden_size, 4 * hidden_size)),
            means + spread,
        )

    def project_inputs(params: CappedParams, window: Array) -> Array:
        return affine(window, params.input, params.bias)

    def step(params: CappedParams, state: LSTMState, projection: Array, affine=affine):
        hidden = drop(state.hidden, params.mask)
        gates = save_for_backward(projection + affine(hidden, params.recurrent))
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        forget = jax.nn.sigmoid(f)
        admit = jnp.minimum(1 - forget, jax.nn.sigmoid(i))
        cell = forget * state.cell + admit * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return LSTMState(hidden, cell), hidden

    return Cell(init, lstm(input_size, hidden_size).initial_state, project_inputs, step)
