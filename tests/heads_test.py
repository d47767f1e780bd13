"""The loss of a mixture of softmaxes against a dense one, and what it never holds."""

import math
from functools import partial
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.scipy.special import logsumexp

from glrnn.errors import UsageError
from glrnn.heads import HEADS, blocks, mixture, projected, softmax
from glrnn.heads.blocks import Block
from glrnn.heads.loss import mixture_nll

# A head's own settings, and its number of softmaxes.
OPTIONS = {"adaptive": {"cutoffs": (3, 8)}, "mixture": {"num_softmaxes": 3}}

few = settings(max_examples=4, deadline=None)


def in_blocks(logits, table=2**31):
    """Has the loss work through so many logits, and entries of the table, at a time."""
    return mock.patch.dict(blocks.BLOCKS, {jax.default_backend(): Block(logits, table)})


def dense_nll(latents, log_prior, table, bias, targets, weights):
    logits = jnp.einsum("tbke,ve->tbkv", latents, table) + bias[None, None, None]
    joint = log_prior[..., None] + jax.nn.log_softmax(logits)
    log_p = logsumexp(joint, axis=2)
    chosen = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return -jnp.sum(weights * chosen)


def draw(seed, num_steps, batch_size, num_softmaxes, embedding_size, vocabulary_size):
    """Random arguments of `mixture_nll`; a third of the weights are zero."""
    rng = np.random.default_rng(seed)
    shape = num_steps, batch_size

    def normal(*sizes):
        return jnp.asarray(rng.normal(size=sizes), jnp.float32)

    prior = rng.dirichlet(np.ones(num_softmaxes), shape)
    weights = rng.uniform(0.1, 1, shape) * (rng.random(shape) < 2 / 3)
    return (
        normal(*shape, num_softmaxes, embedding_size),
        jnp.asarray(np.log(prior), jnp.float32),
        normal(vocabulary_size, embedding_size),
        normal(vocabulary_size),
        jnp.asarray(rng.integers(0, vocabulary_size, shape), jnp.int32),
        jnp.asarray(weights, jnp.float32),
    )


sizes = st.tuples(
    st.integers(0, 2**16),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(1, 4),
    st.integers(2, 9),
)


def assert_close(actual, expected, rtol=1e-5):
    """Equal to `rtol` of the largest element of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape
        scale = max(1.0, float(np.max(np.abs(e), initial=0)))
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * scale)


# Against the dense computation.


@few
@given(sizes, st.sampled_from([1, 9, 30, 9999]), st.sampled_from([1, 5, 12, 9999]))
def test_loss_and_gradients_are_the_dense_ones(sizes, logits, table):
    args = draw(*sizes)

    def with_gradients(loss):
        # Scaled, for the gradient must follow what it is multiplied by.
        return jax.value_and_grad(lambda *args: -3 * loss(*args), argnums=(0, 1, 2, 3))

    @jax.jit
    def compare(*args):
        with in_blocks(logits, table):
            actual = with_gradients(mixture_nll)(*args)
            value = mixture_nll(*args)
        return value, actual, with_gradients(dense_nll)(*args)

    value, actual, expected = compare(*args)
    assert_close(actual, expected)
    assert_close(-3 * value, expected[0])


@pytest.mark.parametrize(
    "masked", [True, pytest.param(False, marks=pytest.mark.thorough)]
)
def test_the_mixture_head_is_its_equations(masked):
    H, K, E, V, T, B = 5, 3, 4, 7, 4, 2
    _, _, table, bias, targets, weights = draw(0, T, B, K, E, V)
    rng = np.random.default_rng(1)
    outputs = jnp.asarray(rng.normal(size=(T, B, H)), jnp.float32)
    mask = jnp.asarray(2 * rng.integers(0, 2, (1, B, K * E)), jnp.float32)
    mask = mask if masked else None
    params = mixture(H, E, K).init(jax.random.key(0))

    def dense(params, table, bias, outputs):
        latents = jnp.tanh(outputs @ params.latent + params.latent_bias[None, None])
        if mask is not None:
            latents = latents * mask
        prior = jax.nn.softmax(outputs @ params.prior)
        latents = latents.reshape(T, B, K, E)
        return dense_nll(latents, jnp.log(prior), table, bias, targets, weights)

    def loss(params, table, bias, outputs):
        return mixture(H, E, K).nll(
            params, table, bias, outputs, targets, weights, mask
        )

    with in_blocks(8 * V, 12):
        actual, expected = (
            jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2, 3)))(
                params, table, bias, outputs
            )
            for f in (loss, dense)
        )
    assert_close(actual, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_the_softmax_head_is_its_equation(masked):
    E, V, T, B = 4, 7, 5, 2
    outputs, _, table, bias, targets, weights = draw(0, T, B, 1, E, V)
    outputs = outputs[:, :, 0]
    mask = jnp.array([[[0.0, 2, 2, 0], [2, 0, 2, 2]]]) if masked else None

    def dense(table, bias, outputs):
        latents = outputs if mask is None else outputs * mask
        logits = jnp.einsum("tbe,ve->tbv", latents, table) + bias[None, None]
        log_p = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
        return -jnp.sum(weights * chosen)

    def loss(table, bias, outputs):
        return softmax(E, E).nll((), table, bias, outputs, targets, weights, mask)

    with in_blocks(4 * V, 12):
        actual, expected = (
            jax.jit(jax.value_and_grad(f, argnums=(0, 1, 2)))(table, bias, outputs)
            for f in (loss, dense)
        )
    assert_close(actual, expected)


def test_the_projected_head_is_the_softmax_of_a_narrower_vector():
    H, E, V, T, B = 6, 4, 9, 5, 2
    made = projected(H, E)
    params = made.init(jax.random.key(0))
    np.testing.assert_allclose(params.down.T @ params.down, np.eye(E), atol=1e-6)
    rng = np.random.default_rng(0)
    *_, table, bias, targets, weights = draw(0, T, B, 1, E, V)
    outputs = jnp.asarray(rng.normal(size=(T, B, H)), jnp.float32)
    mask = jnp.asarray(2 * rng.integers(0, 2, (1, B, E)), jnp.float32)
    nll = made.nll(params, table, bias, outputs, targets, weights, mask)
    expected = dense_nll(
        (outputs @ params.down * mask)[:, :, None],
        jnp.zeros((T, B, 1)),
        table,
        bias,
        targets,
        weights,
    )
    np.testing.assert_allclose(nll, expected, rtol=1e-5)


@pytest.mark.thorough
def test_a_mixture_of_one_is_the_softmax_of_its_latents():
    H, E, V, T, B = 5, 4, 7, 4, 2
    _, _, table, bias, targets, weights = draw(0, T, B, 1, E, V)
    outputs = jnp.asarray(np.random.default_rng(1).normal(size=(T, B, H)), jnp.float32)
    params = mixture(H, E, 1).init(jax.random.key(0))
    latents = jnp.tanh(outputs @ params.latent + params.latent_bias[None, None])
    rest = targets, weights
    assert_close(
        mixture(H, E, 1).nll(params, table, bias, outputs, *rest),
        softmax(E, E).nll((), table, bias, latents, *rest),
        rtol=1e-6,
    )


# Properties.


@pytest.mark.parametrize("num_softmaxes", [1, 3])
def test_probabilities_sum_to_one(num_softmaxes):
    T, B, V = 4, 3, 7
    latents, log_prior, table, bias, *_ = draw(0, T, B, num_softmaxes, 4, V)

    @jax.jit
    @partial(jax.vmap, in_axes=(0, None))
    def nll(target, weights):
        targets = jnp.full((T, B), target)
        return mixture_nll(latents, log_prior, table, bias, targets, weights)

    for t, b in np.ndindex(T, B):
        alone = np.zeros((T, B), "f")
        alone[t, b] = 1
        total = np.sum(np.exp(-np.asarray(nll(np.arange(V), alone))))
        assert math.isclose(total, 1, rel_tol=1e-5)


@pytest.mark.parametrize("name", sorted(HEADS))
def test_an_empty_table_finds_all_words_equally_likely(name):
    E, V, T, B = 4, 11, 3, 2
    made = HEADS[name](E, E, **OPTIONS.get(name, {}))
    outputs = jax.random.normal(jax.random.key(1), (T, B, E))
    nll = jax.jit(made.nll)(
        made.init(jax.random.key(0)),
        jnp.zeros((V, E)),
        jnp.zeros(V),
        outputs,
        jnp.arange(T * B).reshape(T, B),
        jnp.full((T, B), 1 / (T * B)),
        None,
    )
    assert math.isclose(float(nll), math.log(V), rel_tol=1e-6)


def test_a_token_of_weight_zero_counts_for_nothing():
    latents, log_prior, table, bias, targets, _ = draw(0, 3, 2, 2, 4, 7)
    weights = jnp.ones((3, 2)).at[1].set(0)

    def loss(latents, log_prior, table, bias, targets):
        return mixture_nll(latents, log_prior, table, bias, targets, weights)

    @jax.jit
    def run(latents, targets):
        return jax.value_and_grad(loss, argnums=(0, 1, 2, 3))(
            latents, log_prior, table, bias, targets
        )

    value, grads = run(latents, targets)
    assert not grads[0][1].any()
    assert not grads[1][1].any()
    other = run(latents.at[1].set(9.0), targets.at[1].set(0))
    assert_close((value, grads), other, rtol=1e-6)


def test_a_token_of_weight_zero_may_be_impossible():
    """Padding is the first word, which a bias of -inf rules out."""
    latents, log_prior, table, bias, targets, _ = draw(0, 3, 2, 2, 4, 7)
    targets = jnp.maximum(targets, 1).at[1].set(0)
    weights = jnp.ones((3, 2)).at[1].set(0)
    run = jax.jit(jax.value_and_grad(mixture_nll, argnums=(0, 1, 2, 3)))
    found, expected = (
        run(latents, log_prior, table, bias.at[0].set(barred), targets, weights)
        for barred in (-jnp.inf, -1e30)
    )
    assert np.isfinite(found[0])
    assert_close(found, expected)


@pytest.mark.parametrize(
    "dtype", [jnp.bfloat16, pytest.param(jnp.float16, marks=pytest.mark.thorough)]
)
def test_half_precision_is_computed_with_in_float32(dtype):
    """Twice 500 tokens, whose losses would not add up in so few bits."""
    *values, targets, weights = draw(0, 500, 2, 2, 4, 7)
    half = [value.astype(dtype) for value in values]
    wide = [value.astype(jnp.float32) for value in half]
    run = jax.jit(jax.value_and_grad(mixture_nll, argnums=(0, 1, 2, 3)))
    (value, grads), (expected, exact) = (
        run(*each, targets, weights) for each in (half, wide)
    )
    assert value.dtype == jnp.float32
    assert value == expected
    # The two programs may round a last bit of float32 otherwise, and so the half's.
    last_bit = float(jnp.finfo(dtype).eps)
    for found, grad in zip(grads, exact, strict=True):
        assert found.dtype == dtype
        np.testing.assert_allclose(
            found.astype(jnp.float32), grad, rtol=last_bit, atol=1e-7
        )


def test_targets_outside_the_vocabulary_are_refused():
    *values, targets, weights = draw(0, 3, 2, 2, 4, 7)
    for bad, message in (
        (targets.at[0].set(7), r"targets holds the id 7; ids must be in 0 \.\. 6"),
        (targets.at[0].set(-1), "targets holds the id -1"),
        (targets.astype(float), "targets has dtype float32"),
    ):
        with pytest.raises(UsageError, match=message):
            mixture_nll(*values, bad, weights)


@pytest.mark.parametrize(
    ("place", "shape", "message"),
    [
        (3, (9,), r"bias of the loss must have shape \[7\] .* got \[9\]"),
        (3, (1,), r"got \[1\]"),
        (5, (3, 1), r"weights of the loss must have shape \[3, 2\]"),
        (0, (3, 2, 1, 4), "latent vectors of the loss"),
        (4, (3, 0), r"at least 1; got \[3, 0\] and \[7, 4\]"),
    ],
)
def test_shapes_that_would_be_broadcast_are_refused(place, shape, message):
    arguments = list(draw(0, 3, 2, 2, 4, 7))
    arguments[place] = jnp.zeros(shape, arguments[place].dtype)
    with pytest.raises(UsageError, match=message):
        jax.eval_shape(mixture_nll, *arguments)


def test_a_wider_table_is_computed_with_in_its_dtype():
    with jax.enable_x64(True):
        latents, log_prior, table, *rest = draw(0, 3, 2, 2, 4, 7)
        run = jax.value_and_grad(mixture_nll, argnums=(0, 2))
        value, grads = run(latents, log_prior, table.astype(jnp.float64), *rest)
        exact, _ = run(
            *(each.astype(jnp.float64) for each in (latents, log_prior, table)), *rest
        )
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, exact, rtol=1e-12)
    assert [grad.dtype.name for grad in grads] == ["float32", "float64"]


def test_large_logits_are_no_trouble():
    latents, log_prior, table, bias, targets, weights = draw(0, 3, 2, 2, 4, 7)
    value, grads = jax.jit(jax.value_and_grad(mixture_nll, argnums=(0, 1, 2, 3)))(
        1e3 * latents, 1e3 * log_prior, 1e3 * table, bias, targets, weights
    )
    assert np.isfinite(value)
    assert all(np.isfinite(grad).all() for grad in grads)


def largest_array(function, *args):
    """Elements of the largest array anywhere in a function's program."""

    def visit(jaxpr):
        for eqn in jaxpr.eqns:
            yield from (math.prod(v.aval.shape) for v in eqn.outvars)
            for value in eqn.params.values():
                if hasattr(value, "eqns"):
                    yield from visit(value)

    return max(visit(jax.make_jaxpr(function)(*args)))


def test_all_logits_are_never_held_at_once():
    T, B, K, E, V = 40, 4, 3, 6, 50
    args = draw(0, T, B, K, E, V)
    gradient = partial(jax.value_and_grad, argnums=(0, 1, 2, 3))
    assert largest_array(gradient(dense_nll), *args) >= T * B * K * V
    with in_blocks(64 * V):
        assert largest_array(gradient(mixture_nll), *args) < 1.5 * 64 * V
        # Without a gradient twice as many at a time, none of which is kept.
        assert largest_array(mixture_nll, *args) <= 2 * 64 * V


@pytest.mark.parametrize("name", sorted(HEADS))
def test_no_head_holds_all_logits_at_once(name):
    T, B, E, V = 40, 4, 6, 50
    made = HEADS[name](E, E, **OPTIONS.get(name, {}))
    *_, table, bias, targets, weights = draw(0, T, B, 1, E, V)

    def loss(params, table, bias, outputs):
        return made.nll(params, table, bias, outputs, targets, weights, None)

    with in_blocks(64 * V):
        largest = largest_array(
            jax.value_and_grad(loss, argnums=(0, 1, 2, 3)),
            made.init(jax.random.key(0)),
            table,
            bias,
            jnp.ones((T, B, E)),
        )
    num_softmaxes = OPTIONS.get(name, {}).get("num_softmaxes", 1)
    assert largest < T * B * num_softmaxes * V


# Shapes, and what is refused.


def test_latent_size_is_what_a_mask_applies_to():
    made = mixture(6, 4, 3)
    params = made.init(jax.random.key(0))
    assert [p.shape for p in jax.tree.leaves(params)] == [(6, 3), (6, 12), (12,)]
    assert made.latent_size == 12
    assert softmax(4, 4).latent_size is None
    assert softmax(4, 4).init(jax.random.key(0)) == ()


@pytest.mark.parametrize(
    ("name", "sizes", "message"),
    [
        ("mixture", (4, 4, 0), "a mixture needs at least 1 softmax, not 0"),
        ("projected", (5, 4, 2), "1 softmax, not 2; .*'mixture'"),
        ("softmax", (5, 4, 1), "hidden size 5, embedding size 4; .*'projected'"),
        ("softmax", (4, 4, 2), "1 softmax, not 2; .*'mixture'"),
        ("adaptive", (4, 4, 2), "1 softmax, not 2; .*'mixture'"),
        ("adaptive", (4, 4, 1, (5, 5)), "cut-offs are .5, 5.; they must rise"),
    ],
)
def test_what_does_not_fit_is_refused(name, sizes, message):
    with pytest.raises(ValueError, match=message):
        HEADS[name](*sizes)
