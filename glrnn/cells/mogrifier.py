"""Mogrifier LSTM (Melis, Kočiský and Blunsom 2020)."""

import itertools

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.nn.initializers import lecun_normal, truncated_normal

from glrnn.cells.capped import CappedParams, capped
from glrnn.cells.cell import Cell, affine
from glrnn.cells.lstm import LSTMState
from glrnn.dropout import drop


@struct.dataclass
class Round:
    """Weights by which one vector gates another.

    Attributes:
        factors: The matrix `[from, to]` alone, or two factors of it, `[from, k]` and
            `[k, to]`.
        bias: `[to]`.
    """

    factors: tuple[Array, ...]
    bias: Array


@struct.dataclass
class MogrifierParams:
    """Weights of the rounds, and of the gates in the order i, f, g, o.

    Attributes:
        input: W, `[I, 4H]`.
        recurrent: U, `[H, 4H]`.
        bias: b, `[4H]`.
        rounds: Q_1, R_2, Q_3 ... with their biases, one a round: Q gates x, from H to
            I; R gates h, from I to H.
        mask: On the hidden state before the rounds, `[B, H]`, constant over a window;
            or `None`.
    """

    input: Array
    recurrent: Array
    bias: Array
    rounds: tuple[Round, ...]
    mask: Array | None = None


def mogrifier(input_size: int, hidden_size: int, depth: int = 5, rank: int = 0) -> Cell:
    """An LSTM layer whose input and hidden state gate each other beforehand.

    For n = 1 ... depth:
    x <- 2 sigmoid(Q_n h + q_n) x, where n is odd;
    h <- 2 sigmoid(R_n x + s_n) h, where n is even.
    Then x and h are what the LSTM with a capped input gate, `capped`, reads.

    Its matrices and biases start as that cell's; Q and R as a truncated normal of
    variance 1/n for a source of n units, each of two factors with a deviation of
    (n k)^(-1/4) before it is truncated; q and s as 0: as in the authors' code.

    Args:
        input_size: I.
        hidden_size: H.
        depth: Rounds a token; without any, it is `capped`.
        rank: k of every Q and R; 0 for whole matrices.

    Returns:
        The cell; its output is h' of the LSTM.

    Raises:
        ValueError: if the depth or the rank is below 0.

    Example:
        >>> cell = mogrifier(2, 3, depth=2)
        >>> params = cell.init(jax.random.key(0))
        >>> [each.factors[0].shape for each in params.rounds]
        [(3, 2), (2, 3)]
        >>> drive = cell.project(params, jnp.ones((1, 4, 2)))
        >>> state, output = cell.step(params, cell.initial_state(4), drive[0])
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

    def project(params: MogrifierParams, window: Array) -> Array:
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
        drive = affine(x, params.input, params.bias)
        gates = CappedParams(params.input, params.recurrent, params.bias)
        return lstm.step(gates, LSTMState(hidden, state.cell), drive, affine)

    return Cell(init, lstm.initial_state, project, step)
