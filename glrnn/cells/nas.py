"""The cell that neural architecture search found (Zoph and Le 2017)."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.nn import relu, sigmoid
from jax.nn.initializers import lecun_normal

from glrnn.cells.affine import affine
from glrnn.cells.cell import Cell
from glrnn.cells.lstm import LSTMState, lstm
from glrnn.ground.dropout import drop


@struct.dataclass
class NASParams:
    """The weights of the eight leaves of the cell's tree, without biases.

    Attributes:
        input: W_0 to W_7 along the last axis, `[I, 8H]`.
        recurrent: U_0 to U_7 along the last axis, `[H, 8H]`.
        mask: The dropout mask on the hidden state, `[B, H]`, constant over a window; or
            `None`.
    """

    input: Array
    recurrent: Array
    mask: Array | None = None


def nas(input_size: int, hidden_size: int) -> Cell:
    """A layer of NAS cells, as TensorFlow's NASCell computes them.

    u_j = W_j x;  v_j = U_j m;
    a_0 = sigmoid(u_0 + v_0);  a_1 = relu(u_1 + v_1);
    a_2 = sigmoid(u_2 + v_2);  a_3 = relu(u_3 v_3);
    a_4 = tanh(u_4 + v_4);  a_5 = sigmoid(u_5 + v_5);
    a_6 = tanh(u_6 + v_6);  a_7 = sigmoid(u_7 + v_7);
    b_0 = tanh(a_0 a_1);  b_1 = tanh(a_2 + a_3);
    b_2 = tanh(a_4 a_5);  b_3 = sigmoid(a_6 + a_7);
    c' = tanh(b_0 + c) b_1;  m' = tanh(c' tanh(b_2 + b_3)).

    a_3 is a function of a product, the others are functions of sums. W and U are
    initialised from truncated normal distributions of variance 1/I and 1/H, as in the
    code of Melis et al. (2018).

    Args:
        input_size: I.
        hidden_size: H.

    Returns:
        The cell; its output is m', the `hidden` of its state.

    Example:
        >>> cell = nas(2, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> projection = cell.project_inputs(params, jnp.ones((1, 4, 2)))
        >>> state, output = cell.step(params, cell.initial_state(4), projection[0])
        >>> output.shape
        (4, 3)
    """

    def init(key: Array) -> NASParams:
        input_key, recurrent_key = jax.random.split(key)

        normal = lecun_normal()  # of variance 1/rows
        return NASParams(
            normal(input_key, (input_size, 8 * hidden_size)),
            normal(recurrent_key, (hidden_size, 8 * hidden_size)),
        )

    def project_inputs(params: NASParams, window: Array) -> Array:
        return affine(window, params.input)

    def step(params: NASParams, state: LSTMState, projection: Array, affine=affine):
        # The product is saved without a mark, since a_3 uses it in more than a sum.
        u = jnp.split(projection, 8, axis=-1)
        hidden = drop(state.hidden, params.mask)
        v = jnp.split(affine(hidden, params.recurrent), 8, axis=-1)
        b0 = jnp.tanh(sigmoid(u[0] + v[0]) * relu(u[1] + v[1]))
        b1 = jnp.tanh(sigmoid(u[2] + v[2]) + relu(u[3] * v[3]))
        b2 = jnp.tanh(jnp.tanh(u[4] + v[4]) * sigmoid(u[5] + v[5]))
        b3 = sigmoid(jnp.tanh(u[6] + v[6]) + sigmoid(u[7] + v[7]))
        cell = jnp.tanh(b0 + state.cell) * b1
        hidden = jnp.tanh(cell * jnp.tanh(b2 + b3))
        return LSTMState(hidden, cell), hidden

    return Cell(init, lstm(input_size, hidden_size).initial_state, project_inputs, step)
