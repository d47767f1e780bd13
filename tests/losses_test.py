"""Means over the true part of a padded window, against NumPy on that part alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.ground.losses import (
    activation_regularization,
    temporal_activation_regularization,
    token_weights,
)

few = settings(max_examples=15, deadline=None)

# A seed, T, B and H; few shapes, for each is compiled anew.
windows = st.tuples(
    st.integers(0, 2**16),
    st.sampled_from([1, 2, 6]),
    st.sampled_from([1, 3]),
    st.just(2),
)


def draw(window):
    """Random outputs `[T, B, H]` whose padding is large, and a true length."""
    seed, *shape = window
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=shape).astype(np.float32)
    length = int(rng.integers(1, shape[0] + 1))
    outputs[length:] *= 1e4
    return outputs, length


@few
@given(windows)
def test_token_weights_make_means(window):
    values, length = draw(window)
    values = values[..., 0]
    weights = token_weights(*values.shape, jnp.int32(length))
    assert (weights.shape, weights.dtype) == (values.shape, jnp.float32)
    assert not weights[length:].any()
    np.testing.assert_allclose(
        np.sum(weights * values), np.mean(values[:length]), rtol=1e-5, atol=1e-6
    )


@few
@given(windows)
def test_activation_regularization_is_the_mean_square(window):
    outputs, length = draw(window)
    np.testing.assert_allclose(
        activation_regularization(jnp.asarray(outputs), jnp.int32(length)),
        np.mean(outputs[:length].astype(np.float64) ** 2),
        rtol=1e-5,
    )


@few
@given(windows)
def test_temporal_regularization_is_the_mean_square_of_differences(window):
    outputs, length = draw(window)
    differences = np.diff(outputs[:length].astype(np.float64), axis=0)
    np.testing.assert_allclose(
        temporal_activation_regularization(jnp.asarray(outputs), jnp.int32(length)),
        np.mean(differences**2) if length > 1 else 0.0,
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    "regularization", [activation_regularization, temporal_activation_regularization]
)
def test_padding_has_no_gradient_and_a_length_may_be_traced(regularization):
    outputs = jax.random.normal(jax.random.key(0), (6, 2, 3))
    gradient = jax.jit(jax.grad(regularization))
    for length in (2, 4):
        grads = gradient(outputs, jnp.int32(length))
        assert grads[:length].all()
        assert not grads[length:].any()
        exact = gradient(outputs[:length], jnp.int32(length))
        np.testing.assert_allclose(grads[:length], exact, rtol=1e-6)


def test_a_window_of_one_step_has_no_differences():
    outputs = jnp.ones((1, 2, 3))
    assert temporal_activation_regularization(outputs, jnp.int32(1)) == 0.0
