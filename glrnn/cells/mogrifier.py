"""Mogrifier LSTM (Melis, Kočiský and Blunsom 2020)."""

import itertools

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.nn.initializers import lecun_normal, truncated_normal

from glrnn.cells.affine import affine
from glrnn.cells.capped import CappedParams, capped
from glrnn.cells.cell import Cell
from glrnn.cells.lstm import LSTMState
from glrnn.ground.dropout import drop


@struct.dataclass
class Round:
    """The weights of one round, in which one vector gates another.

    Attributes:
        factors: The matrix `[from, to]`, or its two factors `[from, k]` and `[k, to]`.
        bias: `[to]`.
    """

    factors: tuple[Array, ...]
    bias: Array


@struct.dataclass
class MogrifierParams:
    """The weights of the rounds, and of the gates in the order i, f, g, o.

    Attributes:
        input: W, `[I, 4H]`.
        recurrent: U, `[H, 4H]`.
        bias: b, `[4H]`.
        rounds: Q_1, R_2, Q_3 ... with their biases, one for each round: Q, from H to I,
            gates x; R, from I to H, gates h.
        mask: The dropout mask on the hidden state before the rounds, `[B, H]`, constant
            over a window; or `None`.
    """

    input: Array
    recurrent: Array
    bias: Array
    rounds: tuple[Round, ...]
    mask: Array | None = None


def mogrifier(input_size: int, hidden_size: int, depth: int = 5, rank: int = 0) -> Cell:
    """A capped LSTM layer whose input and hidden state first gate each other.

    For n = 1 ... depth:
    x <- 2 sigmoid(Q_n h + q_n) x, where n is odd;
    h <- 2 sigmoid(R_n x + s_n) h, where n is even.
    Then x and h are the input and the hidden state of the LSTM with a capped input
    gate, `capped`.

    Parameters are initialised as in the authors' code: those of the LSTM as `capped`
    initialises them; Q and R, each for a source of n units, from truncated normal
    distributions of variance 1/n, or their two factors with a standard deviation of
    (n k)^(-1/4) before truncation; q and s as 0.

    Args:
        input_size: I.
        hidden_size: H.
        depth: The number of rounds for each token; 0 gives `capped`.
        rank: The rank k of every Q and R; 0 for full matrices.

    Returns:
        The cell; its output is h' of the LSTM.

    Raises:
        ValueError: if the depth or the rank is below 0.

    Example:
        >>> cell = mogrifier(2, 3, depth=2)
        >>> params = cell.init(jax.random.key(0))
        >>> [each.factors[0].shape for each in params.rounds]
        [(3, 2), (2, 3)]
        >>> projection = cell.project_inputs(params, jnp.ones((1, 4, 2)))
        >>> state, output = cell.step(params, cell.initial_state(4), projection[0])
        >>> output.shape
        (4, 3)
    """
    if min(depth, rank) < 0:
        raise ValueError(
            f"depth and rank of a mogrifier are {depth} and {rank}; they must be at "
            f"least 0"
        )
    lstm = capped(input_size, hidden_size)

    def init_round(key: Array, source: int, target: int) -> Round:
        bias = jnp.zeros(target)
        if not rank:
            return Round((lecun_normal()(key, (source, target)),), bias)
        factor = truncated_normal((source * rank) ** -0.25)
        first_key, second_key = jax.random.split(key)
        factors = factor(first_key, (source, rank)), factor(second_key, (rank, target))
        return Round(factors, bias)

    def init(key: Array) -> MogrifierParams:
        lstm_key, *round_keys = jax.random.split(key, 1 + depth)
        gates = lstm.init(lstm_key)
        directions = itertools.cycle(
            [(hidden_size, input_size), (input_size, hidden_size)]
        )
        rounds = (
            init_round(round_key, *direction)
            for round_key, direction in zip(round_keys, directions, strict=False)
        )
        return MogrifierParams(gates.input, gates.recurrent, gates.bias, tuple(rounds))

    def project_inputs(params: MogrifierParams, window: Array) -> Array:
        return window

    def step(params: MogrifierParams, state: LSTMState, x: Array, affine=affine):
        def gate(weights: Round, source: Array) -> Array:
            *first, last = weights.factors
            for factor in first:
                source = affine(source, factor)
            return 2 * jax.nn.sigmoid(affine(source, last, weights.bias))

        hidden = drop(state.hidden, params.mask)
        for n, weights in enumerate(params.rounds, start=1):
            if n % 2:
                x = gate(weights, hidden) * x
            else:
                hidden = gate(weights, x) * hidden
        projection = affine(x, params.input, params.bias)
        gates = CappedParams(params.input, params.recurrent, params.bias)
        return lstm.step(gates, LSTMState(hidden, state.cell), projection, affine)

    return Cell(init, lstm.initial_state, project_inputs, step)
