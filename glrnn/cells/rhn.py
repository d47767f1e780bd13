"""Recurrent highway network (Zilly, Srivastava, Koutník and Schmidhuber 2017)."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from glrnn.cells.affine import affine
from glrnn.cells.cell import Cell, save_for_backward, uniform
from glrnn.ground.dropout import drop

BOUND = 0.04
GATE_BIAS = -2.0


@struct.dataclass
class RHNParams:
    """The weights of the candidate and the gate, in the order h, t along the last axis.

    Attributes:
        input: W, `[I, 2H]`.
        recurrent: R, one matrix for each micro-step, `[depth, H, 2H]`.
        bias: b, `[depth, 2H]`.
        mask: The dropout mask on the state that R multiplies, `[B, H]`, the same at
            every micro-step and constant over a window; or `None`.
    """

    input: Array
    recurrent: Array
    bias: Array
    mask: Array | None = None


def rhn(input_size: int, hidden_size: int, depth: int = 10) -> Cell:
    """A recurrent highway layer: several micro-steps for each token, coupled gates.

    s_0 = y;  for l = 1 ... depth:
    h_l = tanh(W_h x [l = 1] + R_h,l s_{l-1} + b_h,l);
    t_l = sigmoid(W_t x [l = 1] + R_t,l s_{l-1} + b_t,l);
    s_l = (h_l - s_{l-1}) t_l + s_{l-1};
    y' = s_depth.

    All parameters are initialised from U(-0.04, 0.04), but the biases of t as -2.

    Args:
        input_size: I.
        hidden_size: H.
        depth: The number of micro-steps for each token.

    Returns:
        The cell; its state and its output are y', `[B, H]`.

    Raises:
        ValueError: if the depth is below 1.

    Example:
        >>> cell = rhn(2, 3, depth=4)
        >>> params = cell.init(jax.random.key(0))
        >>> params.recurrent.shape
        (4, 3, 6)
        >>> projection = cell.project_inputs(params, jnp.ones((1, 5, 2)))
        >>> state, output = cell.step(params, cell.initial_state(5), projection[0])
        >>> output.shape
        (5, 3)
    """
    if depth < 1:
        raise ValueError(f"the depth of an rhn is {depth}; it must be at least 1")

    def init(key: Array) -> RHNParams:
        width = 2 * hidden_size
        shapes = (input_size, width), (depth, hidden_size, width), (depth, hidden_size)
        matrix, recurrent, bias = uniform(key, BOUND, *shapes)
        gate_bias = jnp.full((depth, hidden_size), GATE_BIAS)
        return RHNParams(matrix, recurrent, jnp.hstack([bias, gate_bias]))

    def initial_state(batch_size: int) -> Array:
        return jnp.zeros((batch_size, hidden_size))

    def project_inputs(params: RHNParams, window: Array) -> Array:
        return affine(window, params.input)

    def step(params: RHNParams, state: Array, projection: Array, affine=affine):
        levels = jnp.unstack(params.recurrent), jnp.unstack(params.bias)
        for level, (matrix, bias) in enumerate(zip(*levels, strict=True)):
            gates = affine(drop(state, params.mask), matrix, bias)
            if level == 0:
                gates = save_for_backward(projection + gates)
            h, t = jnp.split(gates, 2, axis=-1)
            state = (jnp.tanh(h) - state) * jax.nn.sigmoid(t) + state
        return state, state

    return Cell(init, initial_state, project_inputs, step)
