"""Long short-term memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000)."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from glrnn.cells.affine import affine
from glrnn.cells.cell import Cell, save_for_backward, uniform
from glrnn.ground.dropout import drop


@struct.dataclass
class LSTMParams:
    """The weights of the four gates, in the order i, f, g, o along the last axis.

    Attributes:
        input: W_ih, `[I, 4H]`.
        recurrent: W_hh, `[H, 4H]`.
        input_bias: b_ih, `[4H]`.
        recurrent_bias: b_hh, `[4H]`. Two biases differ from one: each receives the
            whole gradient, so their sum moves twice as far and counts twice in a norm.
        mask: The dropout mask on the hidden state, `[B, H]`, constant over a window; or
            `None`.
    """

    input: Array
    recurrent: Array
    input_bias: Array
    recurrent_bias: Array
    mask: Array | None = None


@struct.dataclass
class LSTMState:
    """The output h and the memory cell c of the last time step, each `[B, H]`."""

    hidden: Array
    cell: Array


def lstm(input_size: int, hidden_size: int) -> Cell:
    """An LSTM layer as PyTorch and cuDNN compute it: two biases, no peepholes.

    i, f, g, o = W_ih x + b_ih + W_hh h + b_hh;
    c' = sigmoid(f) c + sigmoid(i) tanh(g);  h' = sigmoid(o) tanh(c').

    All parameters are initialised from U(-1/sqrt(H), 1/sqrt(H)), as PyTorch's are.

    Args:
        input_size: I.
        hidden_size: H.

    Returns:
        The cell; its output is h'.

    Example:
        >>> cell = lstm(2, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> projection = cell.project_inputs(params, jnp.ones((1, 4, 2)))
        >>> state, output = cell.step(params, cell.initial_state(4), projection[0])
        >>> output.shape
        (4, 3)
    """

    def init(key: Array) -> LSTMParams:
        width = 4 * hidden_size
        shapes = (input_size, width), (hidden_size, width), (width,), (width,)
        return LSTMParams(*uniform(key, hidden_size**-0.5, *shapes))

    def initial_state(batch_size: int) -> LSTMState:
        return LSTMState(
            jnp.zeros((batch_size, hidden_size)), jnp.zeros((batch_size, hidden_size))
        )

    def project_inputs(params: LSTMParams, window: Array) -> Array:
        return affine(window, params.input, params.input_bias + params.recurrent_bias)

    def step(params: LSTMParams, state: LSTMState, projection: Array, affine=affine):
        recurrent = affine(drop(state.hidden, params.mask), params.recurrent)
        gates = save_for_backward(projection + recurrent)
        i, f, g, o = jnp.split(gates, 4, axis=-1)
        cell = jax.nn.sigmoid(f) * state.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
        return LSTMState(hidden, cell), hidden

    return Cell(init, initial_state, project_inputs, step)
