"""Step sizes: schedules against the recipes' own formulas, rules against optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.optim.learning_rate import (
    RULES,
    Schedule,
    rate_factor,
    scale_by_learning_rate,
)


def test_the_rate_of_a_highway_networks_epochs_is_the_recipes():
    """0.2 / 1.02^max(i - 19, 0) in epoch i from 0 (Zilly et al. 2017)."""
    schedule = Schedule(decay=1 / 1.02, constant_epochs=19)
    for i in (0, 18, 19, 20, 21, 60, 499):
        expected = 1.02 ** -max(i - 19, 0)
        assert rate_factor(schedule, [5.0] * i) == pytest.approx(expected, rel=1e-5)


@given(st.lists(st.floats(1, 9), max_size=30), st.integers(1, 5), st.integers(0, 20))
def test_the_rate_drops_once_and_stays_down(losses, patience, latest):
    schedule = Schedule(drop=0.1, drop_patience=patience, drop_latest=latest)
    expected, best, since = 1.0, np.inf, 0
    assert rate_factor(schedule, []) == 1.0
    for count, loss in enumerate(losses, 1):
        since = 0 if loss < best else since + 1
        best = min(best, loss)
        if since >= patience or 0 < latest <= count:
            expected = 0.1
        assert rate_factor(schedule, losses[:count]) == pytest.approx(expected)


def test_by_default_the_rate_stays():
    assert {rate_factor(Schedule(), [9.0] * n) for n in range(50)} == {1.0}


def test_rms_is_adam_without_a_first_moment():
    ours, theirs = RULES["rms"](), optax.scale_by_adam(b1=0.0, b2=0.999, eps=1e-8)
    rng = np.random.default_rng(0)
    params = {"a": jnp.zeros((3, 2)), "b": jnp.zeros(4)}
    states = ours.init(params), theirs.init(params)
    for scale in (1.0, 1e-3, 10.0):
        grads = jax.tree.map(
            lambda p, scale=scale: jnp.asarray(scale * rng.normal(size=p.shape), "f"),
            params,
        )
        (mine, first), (other, second) = (
            rule.update(grads, state)
            for rule, state in zip((ours, theirs), states, strict=True)
        )
        states = first, second
        for name in params:
            np.testing.assert_allclose(mine[name], other[name], rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 10), st.integers(1, 110))
def test_an_update_is_in_proportion_to_the_windows_length(rate, length):
    sgd = scale_by_learning_rate(rate, usual_length=70)
    updates = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)}
    scaled, _ = sgd.update(updates, sgd.init(updates), window_length=length)
    for name, values in updates.items():
        expected = -rate * length / 70 * values
        np.testing.assert_allclose(scaled[name], expected, rtol=1e-5)


def test_without_a_usual_length_a_windows_does_not_matter():
    sgd = scale_by_learning_rate(0.5)
    for length in ({}, {"window_length": 3}):
        updates, _ = sgd.update(jnp.ones(1), sgd.init(None), **length)
        assert updates.tolist() == [-0.5]


@pytest.mark.parametrize("length", [-5, -1.0, np.nan, jnp.int32(-5), jnp.ones(1)])
def test_a_length_below_zero_does_not_turn_the_step_round(length):
    sgd = scale_by_learning_rate(0.5, usual_length=10)
    with pytest.raises(ValueError, match="window_length must be a number of at least"):
        sgd.update(jnp.ones(1), sgd.init(None), window_length=length)
    with pytest.raises(ValueError, match="usual_length must be at least 1; got 0"):
        scale_by_learning_rate(0.5, usual_length=0)


def test_updates_keep_their_dtype():
    sgd = scale_by_learning_rate(0.5, usual_length=1)
    updates, _ = sgd.update(
        jnp.ones(2, jnp.bfloat16), sgd.init(None), window_length=jnp.int32(4)
    )
    assert updates.dtype == jnp.bfloat16
    assert updates.tolist() == [-2, -2]


def test_leaves_that_are_not_inexact_are_left_alone():
    updates = {
        "w": jnp.array([2.0], jnp.float8_e5m2),
        "counter": jnp.array([16777217]),
        "no gradient": np.zeros(2, jax.dtypes.float0),
    }
    scaled, _ = scale_by_learning_rate(0.5).update(updates, optax.EmptyState())
    assert (scaled["w"].dtype, scaled["w"].tolist()) == (updates["w"].dtype, [-1.0])
    assert all(scaled[name] is updates[name] for name in ("counter", "no gradient"))


def test_a_first_loss_that_is_nan_is_not_the_best():
    losses = [float("nan"), 3.0, 2.0]
    assert rate_factor(Schedule(drop=0.1, drop_patience=2), losses) == 1.0
