"""Temperatures that multiply, and a search past losses that are not finite."""

import math

import jax
import numpy as np
import pytest

from glrnn.config import Config, Layer
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.evaluation.perplexity import perplexity
from glrnn.evaluation.temperature import TEMPERATURES, best_temperature, tempered
from glrnn.model import language_model

CONFIG = Config(embedding_size=4, layers=(Layer(hidden_size=4),) * 3, head="softmax")
MODEL = language_model(CONFIG, 7, num_layers=1)


@pytest.mark.thorough
def test_temperatures_multiply():
    twice = tempered(tempered(MODEL, 2), np.float32(3))
    assert twice is tempered(tempered(MODEL, 2.0), 3)
    assert tempered(twice, 1) is twice
    assert tempered(MODEL, 1) is MODEL
    params = jax.tree.map(lambda p: 9 * p, MODEL.init(jax.random.key(0)))
    tokens = np.arange(40) ** 2 % 7
    # As if the logits had been divided: the table and the bias of one softmax.
    table = jax.tree.map(lambda p: p / 6, params.embedding)
    window = Window(tokens[:-1, None], tokens[1:, None], np.int32(39))
    outputs = MODEL.apply(params, MODEL.initial_carry(1), window).dropped
    logits = outputs[:, 0] @ table.table.T + table.bias[None]
    log_p = jax.nn.log_softmax(logits)[np.arange(39), tokens[1:]]
    found = perplexity(twice, params, tokens).nats_per_token
    assert found == pytest.approx(-float(log_p.mean()), rel=1e-6)
    back = tempered(tempered(MODEL, 2.0), 0.5)
    expected = perplexity(MODEL, params, tokens).nats_per_token
    assert perplexity(back, params, tokens).nats_per_token == pytest.approx(expected)


@pytest.mark.parametrize("value", [0, -1.0, math.nan, math.inf, 1e-40, True, "2", None])
def test_what_is_no_temperature_is_refused(value):
    with pytest.raises(UsageError, match=r"the temperature is .*; it must be above 0"):
        tempered(MODEL, value)


def test_a_product_that_float32_cannot_hold_is_refused():
    with pytest.raises(UsageError, match="the temperature is 1e-40; it must be above"):
        tempered(tempered(MODEL, 1e-20), 1e-20)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_search_goes_past_losses_that_are_not_finite(bad):
    losses = dict.fromkeys(TEMPERATURES, 5.0) | {TEMPERATURES[4]: 4.0}
    losses |= dict.fromkeys(TEMPERATURES[:3], bad)
    tried = []
    found = best_temperature(lambda t: losses[t], tried.append)
    assert (found, len(tried)) == (TEMPERATURES[4], 7)
    assert best_temperature(lambda t: bad, tried.append) == 1.0
