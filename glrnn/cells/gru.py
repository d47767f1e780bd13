"""Gated recurrent unit (Cho et al. 2014), as PyTorch and cuDNN compute it."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from glrnn.cells.affine import affine
from glrnn.cells.cell import Cell, uniform
from glrnn.ground.dropout import drop


@struct.dataclass
class GRUParams:
    """The weights of gates and candidate, in the order r, z, n along the last axis.

    Attributes:
        input: W, `[I, 3H]`.
        recurrent: U, `[H, 3H]`.
        input_bias: b, `[3H]`.
        recurrent_bias: c, `[3H]`; separate from b, since the reset gate multiplies c_n.
        mask: The dropout mask on the hidden state that U multiplies, `[B, H]`, constant
            over a window; or `None`.
    """

    input: Array
    recurrent: Array
    input_bias: Array
    recurrent_bias: Array
    mask: Array | None = None


def gru(input_size: int, hidden_size: int) -> Cell:
    """A GRU layer whose reset gate multiplies after the recurrent product.

    r = sigmoid(W_r x + b_r + U_r h + c_r);  z = sigmoid(W_z x + b_z + U_z h + c_z);
    n = tanh(W_n x + b_n + r (U_n h + c_n));  h' = (1 - z) n + z h.

    All parameters are initialised from U(-1/sqrt(H), 1/sqrt(H)), as PyTorch's are.

    Args:
        input_size: I.
        hidden_size: H.

    Returns:
        The cell; its state and its output are h', `[B, H]`.

    Example:
        >>> cell = gru(2, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> projection = cell.project_inputs(params, jnp.ones((1, 4, 2)))
        >>> state, output = cell.step(params, cell.initial_state(4), projection[0])
        >>> output.shape
        (4, 3)
    """

    def init(key: Array) -> GRUParams:
        width = 3 * hidden_size
        shapes = (input_size, width), (hidden_size, width), (width,), (width,)
        return GRUParams(*uniform(key, hidden_size**-0.5, *shapes))

    def initial_state(batch_size: int) -> Array:
        return jnp.zeros((batch_size, hidden_size))

    def project_inputs(params: GRUParams, window: Array) -> Array:
        return affine(window, params.input, params.input_bias)

    def step(params: GRUParams, hidden: Array, projection: Array, affine=affine):
        # The product is saved without a mark, since n uses it in more than a sum.
        recurrent = affine(
            drop(hidden, params.mask), params.recurrent, params.recurrent_bias
        )
        input_r, input_z, input_n = jnp.split(projection, 3, axis=-1)
        hidden_r, hidden_z, hidden_n = jnp.split(recurrent, 3, axis=-1)
        r = jax.nn.sigmoid(input_r + hidden_r)
        z = jax.nn.sigmoid(input_z + hidden_z)
        n = jnp.tanh(input_n + r * hidden_n)
        hidden = (1 - z) * n + z * hidden
        return hidden, hidden

    return Cell(init, initial_state, project_inputs, step)
