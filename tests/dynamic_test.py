"""Dynamic evaluation against a plain loop in NumPy, and where it must change nothing.

`parity_test.py` has the authors' convention in PyTorch.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from glrnn.config import Config, Dropout, Layer, Phase
from glrnn.data.windows import columns
from glrnn.errors import UsageError
from glrnn.evaluation.dynamic import DynamicRule, dynamic_perplexity
from glrnn.evaluation.gradient_statistics import gradient_rms
from glrnn.evaluation.perplexity import mean_score, perplexity, stacked_windows
from glrnn.evaluation.window_gradient import CHUNK
from glrnn.model import language_model

V = 11
CONFIG = Config(
    embedding_size=6,
    layers=(Layer(hidden_size=8),) * 2,
    head="mixture",
    num_softmaxes=2,
    phases=(Phase(2, Dropout(hidden=(0.0,))),),
)
MODEL = language_model(CONFIG, V, num_layers=2)
STILL = DynamicRule(learning_rate=0.0, decay_rate=0.0)


def draw(size, seed=0):
    """Parameters far from zero, and a text in which a word often says the next."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(V, size=size)
    for i in range(1, size):
        if rng.random() < 0.7:
            tokens[i] = (3 * tokens[i - 1] + 1) % V
    params = jax.tree.map(lambda p: 3 * p, MODEL.init(jax.random.key(seed)))
    return params, tokens.astype(np.int32)


@pytest.fixture(scope="module")
def drawn():
    params, tokens = draw(403)
    return params, tokens, gradient_rms(MODEL, params, tokens, batch_size=4)


class Outcome(NamedTuple):
    nll: jax.Array
    carry: jax.Array


class Line(NamedTuple):
    """A model whose loss of a window is the mean of (theta x - y)^2, by hand."""

    initial_carry = staticmethod(lambda batch_size: jnp.zeros(()))

    @staticmethod
    def apply(params, carry, window):
        live = jnp.arange(len(window.inputs))[:, None] < window.length
        x, y = (jnp.float32(ids) / V for ids in (window.inputs, window.targets))
        errors = live * (params["slope"][None] * x + params["shift"][None] - y) ** 2
        return Outcome(jnp.sum(errors) / (window.length * errors.shape[1]), carry + 1)


def by_hand(params, text, rms, rule):
    """The equations, window by window, in double precision."""
    x, y = text[:-1] / V, text[1:] / V
    trained = {name: float(value[0]) for name, value in params.items()}
    sizes = {name: float(value[0]) for name, value in rms.items()}
    now, total = dict(trained), 0.0
    whole = sum(sizes.values()) / len(sizes)
    for start in range(0, len(x), rule.window_length):
        a, b = (each[start : start + rule.window_length] for each in (x, y))
        error = now["slope"] * a + now["shift"] - b
        total += np.sum(error**2)
        grads = {"slope": np.mean(2 * error * a), "shift": np.mean(2 * error)}
        for name, grad in grads.items():
            pull = min(1.0, rule.decay_rate * sizes[name] / whole)
            step = rule.learning_rate * grad / (sizes[name] + rule.epsilon)
            now[name] += pull * (trained[name] - now[name]) - step
    return total / len(x)


def size_by_hand(params, stream, window_length):
    """Root mean squares of gradients, of a stream `[rows, B]`."""
    x, y = stream[:-1] / V, stream[1:] / V
    squares = []
    for start in range(0, len(x), window_length):
        a, b = (each[start : start + window_length] for each in (x, y))
        error = params["slope"] * a + params["shift"] - b
        squares.append([np.mean(2 * error * a) ** 2, np.mean(2 * error) ** 2])
    return np.sqrt(np.mean(squares, axis=0))


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 2**16),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.sampled_from([0.0, 0.1, 0.7, 5.0]),
)
def test_it_is_its_equations(seed, window_length, learning_rate, decay_rate):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(V, size=41).astype(np.int32)
    slope, shift = rng.normal(size=(2, 1)).astype(np.float32)
    params = {"slope": slope, "shift": shift}
    rms = gradient_rms(
        Line(), params, tokens, batch_size=3, window_length=window_length
    )
    stream = tokens[: 13 * 3].reshape(3, 13).T
    expected = size_by_hand(params, stream, window_length)
    found = [float(rms["slope"][0]), float(rms["shift"][0])]
    np.testing.assert_allclose(found, expected, rtol=1e-5)

    rule = DynamicRule(learning_rate, decay_rate, 1e-3, window_length)
    expected = by_hand(params, tokens, rms, rule)
    assume(expected < 1e6)  # the rates do not diverge
    score = dynamic_perplexity(Line(), params, rms, tokens, rule)
    assert score.num_tokens == 40
    assert score.nats_per_token == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    "window_length", [pytest.param(1, marks=pytest.mark.thorough), 5, 7]
)
def test_without_rates_it_is_static_evaluation(drawn, window_length):
    params, tokens, rms = drawn
    rule = DynamicRule(0.0, 0.0, window_length=window_length)
    dynamic = dynamic_perplexity(MODEL, params, rms, tokens, rule)
    static = perplexity(MODEL, params, tokens)
    assert dynamic.nats_per_token == pytest.approx(static.nats_per_token, abs=1e-6)
    assert dynamic == perplexity(MODEL, params, tokens, window_length=window_length)


def test_statistics_below_zero_are_refused(drawn):
    """Such as parameters given in their place."""
    params, tokens, rms = drawn
    with pytest.raises(UsageError, match="rms has numbers below 0; it takes the grad"):
        dynamic_perplexity(MODEL, rms, params, tokens, DynamicRule())


def test_statistics_count_small_gradients_after_a_large_one():
    """In float32, a sum of 2^24 and more does not change by single ones."""

    class Slope(NamedTuple):
        initial_carry: Any = staticmethod(lambda batch_size: jnp.zeros(()))
        apply: Any = staticmethod(
            lambda params, carry, window: Outcome(
                params * jnp.where(carry == 0, 2.0**12, 1.0), carry + 1
            )
        )

    text = np.zeros(5 * 400 + 1, int)
    found = gradient_rms(Slope(), 1.0, text, batch_size=1, window_length=5)
    expected = np.sqrt((2.0**24 + 399) / 400)
    np.testing.assert_allclose(found, expected, rtol=2e-7 * 25)


def test_decay_alone_changes_nothing(drawn):
    params, tokens, rms = drawn
    weak, strong = (
        dynamic_perplexity(MODEL, params, rms, tokens, DynamicRule(0.0, rate))
        for rate in (1e-3, 100.0)
    )
    assert weak == strong
    still = dynamic_perplexity(MODEL, params, rms, tokens, STILL)
    assert weak.nats_per_token == pytest.approx(still.nats_per_token, abs=1e-6)


def test_learning_lowers_the_loss_of_a_text_that_goes_on_as_it_began(drawn):
    params, tokens, rms = drawn
    still, learning = (
        dynamic_perplexity(MODEL, params, rms, tokens, rule).nats_per_token
        for rule in (STILL, DynamicRule(learning_rate=3e-3))
    )
    assert learning < still - 0.03


def test_full_decay_forgets_every_window():
    """Then each window is scored by the trained parameters and one step."""
    text = np.tile([2, 9], 30).astype(np.int32)
    params = {"slope": np.float32([0.3]), "shift": np.float32([0.1])}
    rms = {name: np.float32([1.0]) for name in params}
    kept, forgotten = (
        dynamic_perplexity(Line(), params, rms, text, rule).nats_per_token
        for rule in (DynamicRule(0.05, 0.0), DynamicRule(0.05, 1e3))
    )
    still = dynamic_perplexity(Line(), params, rms, text, STILL).nats_per_token
    assert kept < forgotten < still


def test_the_trained_parameters_are_left_as_they_are(drawn):
    params, tokens, rms = drawn
    before = jax.tree.map(np.array, params)
    dynamic_perplexity(MODEL, params, rms, tokens, DynamicRule(1e-2))
    jax.tree.map(np.testing.assert_array_equal, before, params)


# The whole stream in one loop, as it was before it was cut into chunks.


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def rms_in_one_loop(model, params, stream):
    def loss(params, carry, window):
        outcome = model.apply(params, carry, window)
        return outcome.nll, outcome.carry

    def add(sums_and_carry, window):
        sums, carry = sums_and_carry
        (_, carry), grads = jax.value_and_grad(loss, has_aux=True)(
            params, carry, window
        )
        return (jax.tree.map(lambda s, g: s + g * g, sums, grads), carry), None

    num_windows, _, batch_size = stream.inputs.shape
    zeros = jax.tree.map(jnp.zeros_like, params), model.initial_carry(batch_size)
    (sums, _), _ = jax.lax.scan(add, zeros, stream)
    return jax.tree.map(lambda s: jnp.sqrt(s / num_windows), sums)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def means_in_one_loop(model, trained, rms, rates, stream):
    learning_rate, decay_rate, epsilon = rates
    sizes = [jnp.mean(leaf) for leaf in jax.tree.leaves(rms)]
    relative_decay = decay_rate * len(sizes) / sum(sizes)

    def loss(params, carry, window):
        outcome = model.apply(params, carry, window)
        return outcome.nll, outcome.carry

    def adapt(param, anchor, size, grad):
        pull = jnp.minimum(1.0, relative_decay * size)
        step = learning_rate * grad / (size + epsilon)
        return param + pull * (anchor - param) - step

    def score(params_and_carry, window):
        params, carry = params_and_carry
        (nll, carry), grads = jax.value_and_grad(loss, has_aux=True)(
            params, carry, window
        )
        sizes, nll = jax.lax.optimization_barrier((rms, nll))
        return (jax.tree.map(adapt, params, trained, sizes, grads), carry), nll

    start = trained, model.initial_carry(1)
    return jax.lax.scan(score, start, stream)[1]


@pytest.mark.parametrize(
    "size",
    [pytest.param(n, marks=pytest.mark.thorough) for n in (403, 501, 506, 2003)],
)
def test_chunks_give_the_bits_of_one_loop(size):
    """Fewer windows than a chunk has, as many, one more, and several chunks."""
    params, tokens = draw(size)
    told = []
    rms = gradient_rms(
        MODEL, params, tokens, batch_size=1, window_length=5, advance=told.append
    )
    stream = stacked_windows(columns(tokens, 1), 5)
    assert len(stream.length) == -(-(size - 1) // 5)
    expected = rms_in_one_loop(MODEL, params, stream)
    # The squares of a chunk are added up before they are added to the others.
    one_chunk = len(stream.length) <= CHUNK
    jax.tree.map(
        np.testing.assert_array_equal
        if one_chunk
        else partial(np.testing.assert_allclose, rtol=2e-6),
        rms,
        expected,
    )
    assert sum(told) == size - 1
    assert len(told) == -(-len(stream.length) // CHUNK)

    told.clear()
    rule = DynamicRule(1e-3, 0.05)
    score = dynamic_perplexity(MODEL, params, rms, tokens, rule, told.append)
    rates = rule.learning_rate, rule.decay_rate, rule.epsilon
    means = means_in_one_loop(MODEL, params, rms, rates, stream)
    assert score == mean_score(means, stream)
    assert sum(told) == score.num_tokens


@pytest.mark.thorough
def test_texts_share_the_program_of_a_whole_chunk(drawn):
    params, tokens, rms = drawn
    traces = []
    model = MODEL._replace(
        apply=lambda *args: traces.append(args) or MODEL.apply(*args)
    )
    for windows in (2 * CHUNK, CHUNK, 3 * CHUNK):
        text = np.resize(tokens, 5 * windows + 1)
        dynamic_perplexity(model, params, rms, text, DynamicRule())
    assert len(traces) == 1


def test_another_rate_compiles_nothing_anew(drawn):
    params, tokens, rms = drawn
    traces = []
    model = MODEL._replace(
        apply=lambda *args: traces.append(args) or MODEL.apply(*args)
    )
    text = tokens[:401]  # no shorter last window, which has a program of its own
    for rate in (1e-5, 1e-4):
        dynamic_perplexity(model, params, rms, text, DynamicRule(rate))
    assert len(traces) == 1


def test_a_learning_rate_without_measure_makes_the_perplexity_infinite(drawn):
    params, tokens, rms = drawn
    score = dynamic_perplexity(MODEL, params, rms, tokens, DynamicRule(1e30))
    assert not np.isfinite(score.perplexity)


def test_texts_that_are_too_short_are_refused(drawn):
    params, _, rms = drawn
    with pytest.raises(UsageError, match="1 tokens: too few"):
        dynamic_perplexity(MODEL, params, rms, np.zeros(1, int), STILL)
    with pytest.raises(UsageError, match="train split has 5 tokens"):
        gradient_rms(MODEL, params, np.zeros(5, int), batch_size=3)


# Models of one's own.


class Own(NamedTuple):
    initial_carry: Callable[[int], Any]
    apply: Callable[..., Outcome]


LOGS = jnp.log(jnp.array([0.7, 0.2, 0.1]))
UNIGRAM = Own(
    lambda batch_size: (),
    lambda params, carry, window: Outcome(-jnp.mean(params[window.targets]), carry),
)
# Its gradient is 1 in every window.
SLOPE = Own(
    lambda batch_size: (),
    lambda params, carry, window: Outcome(params["w"].astype(jnp.float32), carry),
)
# A text of one word, whose probability is learned.
CONSTANT = Own(
    lambda batch_size: (),
    lambda params, carry, window: Outcome(-jax.nn.log_sigmoid(params["w"]), carry),
)


def test_padding_is_never_shown_to_a_model_of_ones_own():
    text = np.array([1, 2] * 15)
    rms = gradient_rms(UNIGRAM, LOGS, text, batch_size=1, window_length=7)
    windows = [text[1:][start : start + 7] for start in range(0, 29, 7)]
    shares = [[np.mean(window == word) for word in range(3)] for window in windows]
    np.testing.assert_allclose(rms, np.sqrt(np.mean(np.square(shares), axis=0)))
    rule = DynamicRule(1e-30, 0.0, window_length=7)  # as good as none
    score = dynamic_perplexity(UNIGRAM, LOGS, rms, text, rule)
    assert score.num_tokens == 29
    exact = -np.mean(np.asarray(LOGS)[text[1:]])
    assert score.nats_per_token == pytest.approx(exact, rel=1e-6)


def test_tokens_that_are_not_ids_are_refused(drawn):
    params, _, rms = drawn
    with pytest.raises(UsageError, match=r"train split holds the id 11; .* \.\. 10"):
        gradient_rms(MODEL, params, [0, 11], batch_size=1)
    for rule in (STILL, DynamicRule()):
        with pytest.raises(UsageError, match=r"stream holds the id 11; .* \.\. 10"):
            dynamic_perplexity(MODEL, params, rms, [0, 11], rule)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float8_e4m3fn"])
def test_squares_are_summed_in_float32(dtype):
    params = {"w": jnp.zeros((), dtype)}
    rms = gradient_rms(SLOPE, params, np.zeros(601, int), batch_size=1, window_length=1)
    assert rms["w"].dtype == jnp.float32
    assert rms["w"] == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_steps_smaller_than_half_precision_add_up(dtype):
    text, rms = np.zeros(1000, int), {"w": jnp.float32(1)}
    full, half = (
        dynamic_perplexity(
            CONSTANT, {"w": jnp.asarray(2, kind)}, rms, text, DynamicRule(0.01, 0.0)
        ).nats_per_token
        for kind in (jnp.float32, dtype)
    )
    still = -float(jax.nn.log_sigmoid(2.0))
    assert full < still - 0.005
    assert half == pytest.approx(full, abs=2e-4)


@pytest.mark.parametrize("dtype", ["float16", "float8_e4m3fn", "bfloat16"])
@pytest.mark.parametrize("size", [1e-9, 1e6])
def test_gradients_need_not_fit_into_the_dtype_of_a_parameter(dtype, size):
    """The statistics are 1e-9 and 1e6, and each step is a tenth as long as they are."""

    def apply(params, carry, window):
        return Outcome(size * params["w"].astype(jnp.float32), carry)

    model, params = SLOPE._replace(apply=apply), {"w": jnp.ones((), dtype)}
    text = np.zeros(7, int)
    rms = gradient_rms(model, params, text, batch_size=1, window_length=1)
    assert rms["w"] == pytest.approx(size, rel=4e-3)
    rule = DynamicRule(0.25, 0.0, 1e-20, window_length=1)
    found = dynamic_perplexity(model, params, rms, text, rule).nats_per_token
    assert found == pytest.approx(size * np.mean(1 - 0.25 * np.arange(6)), rel=4e-3)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", ["float16", "float8_e4m3fn"])
def test_narrow_parameters_of_the_network_are_those_of_its_float32_copy(drawn, dtype):
    params, tokens, _ = drawn
    narrow = jax.tree.map(lambda p: p.astype(dtype), params)
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), narrow)
    found, expected = (
        gradient_rms(MODEL, each, tokens[:101], batch_size=4) for each in (narrow, wide)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("evaluated", ["gradient_rms", "dynamic_perplexity"])
def test_a_carry_in_float16_is_refused_with_parameters_in_it(evaluated):
    def apply(params, carry, window):
        carry = jnp.tanh(params["w"] * carry + 1)
        return Outcome(carry.astype(jnp.float32), carry)

    def evaluate(dtype):
        model = Own(lambda batch_size: jnp.zeros((), dtype), apply)
        params, text = {"w": jnp.ones((), dtype)}, np.zeros(7, int)
        if evaluated == "gradient_rms":
            return gradient_rms(model, params, text, batch_size=1)["w"]
        rms = {"w": jnp.float32(1)}
        return dynamic_perplexity(model, params, rms, text, DynamicRule()).perplexity

    with pytest.raises(UsageError, match=r"carry is float16; .* it must be float32"):
        evaluate(jnp.float16)
    assert evaluate(jnp.bfloat16) > 0


def test_complex_parameters():
    """By hand: the gradient of |p - c|^2 / 2 in the plane is p - c."""
    points = np.array([1 + 2j, -1j, 3.0])

    def apply(params, carry, window):
        errors = params["p"] - jnp.asarray(points)[window.targets[:, 0]]
        return Outcome(jnp.mean(jnp.abs(errors) ** 2) / 2, carry)

    model, params = Own(lambda batch_size: (), apply), {"p": jnp.array([1 + 1j])}
    text = np.array([0, 1, 2, 0, 1, 1])
    rms = gradient_rms(model, params, text, batch_size=1, window_length=1)
    targets = points[text[1:]]
    expected = np.sqrt(np.mean(np.abs(1 + 1j - targets) ** 2))
    assert rms["p"].dtype == jnp.float32
    np.testing.assert_allclose(rms["p"], [expected], rtol=1e-6)

    rule = DynamicRule(0.1, 0.25, 1e-3, window_length=1)
    now, losses = 1 + 1j, []
    for target in targets:
        losses.append(abs(now - target) ** 2 / 2)
        step = 0.1 * (now - target) / (expected + 1e-3)
        now = now + 0.25 * (1 + 1j - now) - step
    score = dynamic_perplexity(model, params, rms, text, rule)
    assert score.nats_per_token == pytest.approx(np.mean(losses), rel=1e-6)

    endless = {"p": jnp.array([complex(-np.inf, 1)])}
    score = dynamic_perplexity(model, endless, rms, text, rule)
    assert score.nats_per_token == np.inf


@pytest.mark.parametrize(
    "sizes", [(1e25, 1.0, 1e-9), (1e-25, 1e-30, 0.0), (3e38, 1e25, 0.0), (1e-25,) * 3]
)
def test_squares_of_gradients_neither_overflow_nor_underflow(sizes):
    def apply(params, carry, window):
        return Outcome(jnp.sum(params["w"] * jnp.float32(sizes)), carry)

    model, params, told = SLOPE._replace(apply=apply), {"w": jnp.zeros(3)}, []
    rms = gradient_rms(
        model, params, np.zeros(9, int), batch_size=1, advance=told.append
    )
    np.testing.assert_allclose(rms["w"], sizes, rtol=1e-6)
    assert sum(told) == 8


def test_statistics_of_another_shape_are_refused():
    params, text = {"w": jnp.ones(3)}, np.zeros(9, int)
    model = SLOPE._replace(
        apply=lambda params, carry, window: Outcome(jnp.sum(params["w"]), carry)
    )
    for size, told in [
        (jnp.ones(()), r"float32\[\]"),
        (jnp.ones((2, 3)), r"float32\[2, 3\]"),
        (jnp.ones(3) * 1j, r"complex64\[3\]"),
    ]:
        expected = rf"rms\['w'\] is {told}; that of the parameters is real\[3\]"
        with pytest.raises(UsageError, match=expected):
            dynamic_perplexity(model, params, {"w": size}, text, DynamicRule())


def test_integers_and_keys_pass_through_untouched():
    others = {
        "count": jnp.int32(16_777_217),
        "key": jax.random.key(7),
        "flag": jnp.array(True),
        "nothing": None,
    }

    def apply(params, carry, window):
        known = params["count"] == 16_777_217
        draws = [jax.random.uniform(each["key"]) for each in (params, carry)]
        off = jnp.where(known & params["flag"] & (draws[0] == draws[1]), 0.0, 99.0)
        return Outcome(off - jax.nn.log_sigmoid(params["w"]), carry)

    model = Own(lambda batch_size: {"key": others["key"]}, apply)
    text, params = np.zeros(1000, int), {"w": jnp.float32(2)}
    rms = gradient_rms(model, params | others, text, batch_size=1)
    expected = gradient_rms(CONSTANT, params, text, batch_size=1)
    assert rms == expected | others
    rule = DynamicRule(0.01, 0.01)
    score = dynamic_perplexity(model, params | others, rms, text, rule)
    assert score == dynamic_perplexity(CONSTANT, params, expected, text, rule)


def test_arrays_without_elements_count_for_nothing():
    params, empty = {"w": jnp.float32(2)}, {"empty": jnp.zeros((0, 3))}
    text, rule = np.zeros(1000, int), DynamicRule(0.01, 0.01)
    rms = gradient_rms(CONSTANT, params | empty, text, batch_size=1)
    score = dynamic_perplexity(CONSTANT, params | empty, rms, text, rule)
    del rms["empty"]
    assert score == dynamic_perplexity(CONSTANT, params, rms, text, rule)


@pytest.mark.parametrize("rule", [DynamicRule(1e-9, 0.1), DynamicRule(1e-9, 1e38)])
@pytest.mark.parametrize("size", [0.0, 1e-19])
def test_statistics_of_zero_mean_no_decay(rule, size):
    """Where they are zero everywhere, and where only an array's are."""
    params = {"w": jnp.float32(2), "other": jnp.ones(2)}
    rms = {"w": jnp.float32(0), "other": jnp.array([size, 0])}
    text = np.zeros(500, int)
    score = dynamic_perplexity(CONSTANT, params, rms, text, rule)
    free = dynamic_perplexity(CONSTANT, params, rms, text, DynamicRule(1e-9, 0.0))
    assert np.isfinite(score.perplexity)
    assert score == free


def test_without_rates_no_statistics_matter():
    params, text = {"w": jnp.float32(2)}, np.zeros(99, int)
    score = perplexity(CONSTANT, params, text)
    for size in (0.0, np.nan, np.inf):
        rms = {"w": jnp.float32(size)}
        told = []
        assert score == dynamic_perplexity(
            CONSTANT, params, rms, text, STILL, told.append
        )
        assert sum(told) == score.num_tokens


def test_a_word_may_be_ruled_out(drawn):
    """By a bias of -inf, though the padding of the last window is that word."""
    params, tokens, _ = drawn
    tokens = np.maximum(tokens, 1)
    embedding = params.embedding
    scores = []
    for bias in (-1e30, -np.inf):
        barred = embedding.replace(bias=embedding.bias.at[0].set(bias))
        barred = params.replace(embedding=barred)
        rms = gradient_rms(MODEL, barred, tokens, batch_size=4)
        rule = DynamicRule(1e-3, 0.05)
        scores.append(
            [
                perplexity(MODEL, barred, tokens),
                dynamic_perplexity(MODEL, barred, rms, tokens, rule),
            ]
        )
    assert scores[0] == scores[1]
