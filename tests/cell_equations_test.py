"""Each cell is its equations, and starts where its paper starts.

The oracle is the equations of one step, in NumPy and float64; its gradients are central
differences. An LSTM and a GRU are PyTorch's too, where PyTorch is installed.
"""

from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells_test import assert_close, random_like, with_gradients

from glrnn.cells import CELLS, unroll
from glrnn.cells.capped import CappedParams

T, B, INPUTS, H = 3, 2, 3, 4
EPSILON = 1e-6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0)


def parts(array, count):
    return np.split(array, count, axis=-1)


# One step of each cell: `(params, mask, x, *state) -> state`, the output its first.


def lstm(p, mask, x, h, c):
    gates = x @ p.input + p.input_bias + (h * mask) @ p.recurrent + p.recurrent_bias
    i, f, g, o = parts(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru(p, mask, x, h):
    (W_r, W_z, W_n), (U_r, U_z, U_n) = parts(p.input, 3), parts(p.recurrent, 3)
    (b_r, b_z, b_n), (c_r, c_z, c_n) = (
        parts(p.input_bias, 3),
        parts(p.recurrent_bias, 3),
    )
    seen = h * mask
    r = sigmoid(x @ W_r + b_r + seen @ U_r + c_r)
    z = sigmoid(x @ W_z + b_z + seen @ U_z + c_z)
    n = np.tanh(x @ W_n + b_n + r * (seen @ U_n + c_n))
    return ((1 - z) * n + z * h,)


def nas(p, mask, x, m, c):
    u = [x @ W for W in parts(p.input, 8)]
    v = [(m * mask) @ U for U in parts(p.recurrent, 8)]
    a0 = sigmoid(u[0] + v[0])
    a1 = relu(u[1] + v[1])
    a2 = sigmoid(u[2] + v[2])
    a3 = relu(u[3] * v[3])
    a4 = np.tanh(u[4] + v[4])
    a5 = sigmoid(u[5] + v[5])
    a6 = np.tanh(u[6] + v[6])
    a7 = sigmoid(u[7] + v[7])
    b0, b1, b2 = np.tanh(a0 * a1), np.tanh(a2 + a3), np.tanh(a4 * a5)
    b3 = sigmoid(a6 + a7)
    c = np.tanh(b0 + c) * b1
    return np.tanh(c * np.tanh(b2 + b3)), c


def capped(p, mask, x, h, c):
    i, f, g, o = parts(x @ p.input + (h * mask) @ p.recurrent + p.bias, 4)
    i, f, o = sigmoid(i), sigmoid(f), sigmoid(o)
    c = f * c + np.where(i < 1 - f, i, 1 - f) * np.tanh(g)
    return o * np.tanh(c), c


def rhn(p, mask, x, s):
    W_h, W_t = parts(p.input, 2)
    for level, (matrix, bias) in enumerate(zip(p.recurrent, p.bias, strict=True)):
        (R_h, R_t), (b_h, b_t) = parts(matrix, 2), parts(bias, 2)
        first = level == 0
        h = np.tanh(first * (x @ W_h) + (s * mask) @ R_h + b_h)
        t = sigmoid(first * (x @ W_t) + (s * mask) @ R_t + b_t)
        s = h * t + s * (1 - t)
    return (s,)


def mogrifier(p, mask, x, h, c):
    h = h * mask
    for number, weights in enumerate(p.rounds):
        matrix = reduce(np.matmul, weights.factors)
        if number % 2 == 0:
            x = 2 * sigmoid(h @ matrix + weights.bias) * x
        else:
            h = 2 * sigmoid(x @ matrix + weights.bias) * h
    return capped(p, 1.0, x, h, c)


CASES = {
    "capped": (CELLS["capped"], capped),
    "gru": (CELLS["gru"], gru),
    "lstm": (CELLS["lstm"], lstm),
    "mogrifier": (CELLS["mogrifier"], mogrifier),
    "mogrifier of rank 2": (partial(CELLS["mogrifier"], depth=2, rank=2), mogrifier),
    "nas": (CELLS["nas"], nas),
    "rhn of depth 1": (partial(CELLS["rhn"], depth=1), rhn),
    "rhn of depth 3": (partial(CELLS["rhn"], depth=3), rhn),
}


def reference(step, params, state, window):
    """The leaves of the state after the window, and the outputs."""
    mask = 1.0 if params.mask is None else params.mask
    leaves, outputs = jax.tree.leaves(state), []
    for x in window:
        leaves = step(params, mask, x, *leaves)
        outputs.append(leaves[0])
    return leaves, np.stack(outputs)


def central_differences(loss, leaves):
    """The gradient of a loss in float64 arrays that it reads anew at each call."""

    def slope(leaf, place):
        value, losses = leaf[place], []
        for leaf[place] in (value + EPSILON, value - EPSILON):
            losses.append(loss())
        leaf[place] = value
        return (losses[0] - losses[1]) / (2 * EPSILON)

    return [
        np.reshape([slope(leaf, at) for at in np.ndindex(leaf.shape)], leaf.shape)
        for leaf in leaves
    ]


def draw(make, masked):
    """A cell, parameters all of one size, state, window and cotangents."""
    rng = np.random.default_rng(0)
    cell = make(INPUTS, H)
    params = random_like(cell.init(jax.random.key(0)), rng, scale=0.7)
    if masked:
        mask = 2.0 * rng.integers(0, 2, (B, H))
        params = params.replace(mask=jnp.asarray(mask, jnp.float32))
    state = random_like(cell.initial_state(B), rng)
    window, outputs = (
        jnp.asarray(rng.normal(size=(T, B, size)), jnp.float32) for size in (INPUTS, H)
    )
    return cell, params, state, window, (random_like(state, rng), outputs)


def test_every_cell_has_its_equations_here():
    assert {name.split(" of ")[0] for name in CASES} == set(CELLS)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.thorough if " of " in name else ())
        for name in CASES
    ],
)
def test_a_cell_and_its_gradients_are_its_equations(name):
    """With a mask on the state; `cells_test.py` has the same cells without."""
    make, step = CASES[name]
    cell, *values, cotangent = draw(make, masked=True)
    (last, outputs), grads = with_gradients(unroll, cell, *values, cotangent)

    values, cotangent = jax.tree.map(
        partial(np.array, dtype=float), (values, cotangent)
    )
    expected = reference(step, *values)

    def loss():
        results = jax.tree.leaves(reference(step, *values))
        return sum(map(np.vdot, results, jax.tree.leaves(cotangent)))

    assert_close((jax.tree.leaves(last), outputs), (list(expected[0]), expected[1]))
    assert_close(
        jax.tree.leaves(grads), central_differences(loss, jax.tree.leaves(values))
    )


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_a_cell_and_its_gradients_are_pytorchs(name):
    torch = pytest.importorskip(
        "torch", reason="PyTorch is not installed (pip install -e '.[parity]')"
    )
    cell, params, state, window, cotangent = draw(CELLS[name], masked=False)
    ours = with_gradients(unroll, cell, params, state, window, cotangent)

    def tensors(tree):
        return [
            torch.tensor(np.asarray(leaf, float), requires_grad=True)
            for leaf in jax.tree.leaves(tree)
        ]

    weights, states, (inputs,) = map(tensors, (params, state, window))
    layer = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[name](INPUTS, H).double()
    names = [name for name, _ in layer.named_parameters()]
    before = tuple(each[None] for each in states)
    outputs, after = torch.func.functional_call(
        layer,
        {
            name: weight.movedim(-1, 0)
            for name, weight in zip(names, weights, strict=True)
        },
        (inputs, before if name == "lstm" else before[0]),
    )
    results = [each[0] for each in after] if name == "lstm" else [after[0]]
    results.append(outputs)
    pairs = zip(results, tensors(cotangent), strict=True)
    sum((result * ct).sum() for result, ct in pairs).backward()
    theirs = [each.detach() for each in results]
    theirs += [leaf.grad for leaf in (*weights, *states, inputs)]
    assert_close(jax.tree.leaves(ours), [each.numpy() for each in theirs])


def test_a_mogrifier_without_rounds_is_the_lstm_with_a_capped_input_gate():
    cell, params, *values = draw(partial(CELLS["mogrifier"], depth=0), masked=True)
    assert not params.rounds
    lstm = CappedParams(params.input, params.recurrent, params.bias, params.mask)
    found = with_gradients(unroll, cell, params, *values)
    expected = with_gradients(unroll, CELLS["capped"](INPUTS, H), lstm, *values)
    assert_close(jax.tree.leaves(found), jax.tree.leaves(expected), rtol=1e-6)


def test_both_biases_of_an_lstm_get_the_whole_gradient():
    _, (grads, *_) = with_gradients(unroll, *draw(CELLS["lstm"], masked=False))
    assert np.array_equal(grads.input_bias, grads.recurrent_bias)
    assert grads.input_bias.all()


# Where training starts, and how much there is to learn.


def size(make, *sizes):
    params = jax.eval_shape(make(*sizes).init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_networks_have_as_many_parameters_as_their_papers_say():
    """Of the Penn Treebank's 10,000 words, the table shared by input and output."""
    assert size(CELLS["rhn"], 830, 830) + 10_000 * (830 + 1) == 23_482_400
    nas = 2 * size(CELLS["nas"], 741, 741) + 10_000 * (741 + 1)
    assert nas == pytest.approx(25.0e6, abs=5e4)
    # Theirs has a word more.
    capped = 4 * size(CELLS["capped"], 723, 723) + 10_001 * (723 + 1)
    assert capped == pytest.approx(23.98e6, abs=5e3)
    make = partial(CELLS["mogrifier"], depth=5, rank=84)
    mogrifier = 2 * size(make, 912, 912) + 10_001 * (912 + 1)
    assert mogrifier == pytest.approx(24e6, abs=2e4)


def assert_uniform(values, bound):
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.95 * bound
    np.testing.assert_allclose(np.std(values), bound / 3**0.5, rtol=0.1)


def assert_truncated_normal(values, deviation):
    np.testing.assert_allclose(np.std(values), deviation, rtol=0.05)
    # At two deviations of what is truncated, which has these 0.88 of its own.
    assert 2.2 * deviation < np.abs(values).max() < 2.3 * deviation


@pytest.mark.thorough
def test_initial_values_are_as_the_docstrings_say():
    makers = CELLS | {
        "mogrifier": partial(CELLS["mogrifier"], depth=2, rank=20),
        "whole mogrifier": CELLS["mogrifier"],
    }
    params = {
        name: jax.jit(make(30, 40).init)(jax.random.key(0))
        for name, make in makers.items()
    }
    for name in ("gru", "lstm"):
        for leaf in jax.tree.leaves(params[name]):
            assert_uniform(leaf, 40**-0.5)

    candidate_bias, gate_bias = parts(params["rhn"].bias, 2)
    for leaf in (params["rhn"].input, params["rhn"].recurrent, candidate_bias):
        assert_uniform(leaf, 0.04)
    assert np.all(gate_bias == -2)

    for name in ("capped", "mogrifier", "nas"):
        assert_truncated_normal(params[name].input, 30**-0.5)
        assert_truncated_normal(params[name].recurrent, 40**-0.5)
    for name in ("capped", "mogrifier"):
        spread = params[name].bias - np.repeat([0, 1, 0, 0], 40)
        np.testing.assert_allclose(np.std(spread), 40**-0.5, rtol=0.15)
        assert abs(np.mean(spread)) < 4 * 40**-0.5 / spread.size**0.5

    to_input, to_hidden = params["mogrifier"].rounds
    for weights, units in ((to_input, 40), (to_hidden, 30)):
        for factor in weights.factors:
            assert_truncated_normal(factor, 0.88 * (units * 20) ** -0.25)
        assert not np.any(weights.bias)
    (whole,) = params["whole mogrifier"].rounds[0].factors
    assert_truncated_normal(whole, 40**-0.5)


def test_a_depth_or_rank_that_makes_no_cell_is_refused():
    with pytest.raises(ValueError, match="is 0; it must be at least 1"):
        CELLS["rhn"](2, 3, depth=0)
    with pytest.raises(ValueError, match="are -1 and 0; they must be at least 0"):
        CELLS["mogrifier"](2, 3, depth=-1)
    with pytest.raises(ValueError, match="are 5 and -2; they must be at least 0"):
        CELLS["mogrifier"](2, 3, rank=-2)
