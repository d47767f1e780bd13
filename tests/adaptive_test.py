"""The adaptive softmax against a dense one, and against PyTorch's."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from heads_test import assert_close

from glrnn.errors import UsageError
from glrnn.heads import adaptive, softmax, tails
from glrnn.heads.adaptive import AdaptiveParams
from glrnn.heads.clusters import widths_of

H, E, V, T, B = 6, 64, 40, 7, 3
CUTOFFS = 5, 12, 30
WITH_GRADIENTS = (0, 1, 2, 3)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Tails of several chunks, the last of them padded."""
    monkeypatch.setitem(tails.CHUNKS, "cpu", 4)


def draw(seed=0, hidden_size=E, cutoffs=CUTOFFS, targets=None):
    """Random parameters, table, bias, outputs, targets and weights."""
    rng = np.random.default_rng(seed)

    def normal(*sizes):
        return jnp.asarray(rng.normal(size=sizes) / 2, jnp.float32)

    params = AdaptiveParams(
        down=None if hidden_size == E else normal(hidden_size, E),
        clusters=normal(len(cutoffs), E),
        cluster_bias=normal(len(cutoffs)),
        projections=tuple(normal(E, width) for width in widths_of(E, len(cutoffs))),
    )
    if targets is None:
        targets = rng.integers(0, V, (T, B))
    weights = rng.uniform(0.1, 1, (T, B)) * (rng.random((T, B)) < 2 / 3)
    return (
        params,
        normal(V, E),
        normal(V),
        normal(T, B, hidden_size),
        jnp.asarray(targets, jnp.int32),
        jnp.asarray(weights, jnp.float32),
    )


def dense_log_probs(params, table, bias, outputs, mask=None, cutoffs=CUTOFFS):
    """The equations, all words for all tokens."""
    x = outputs if params.down is None else outputs @ params.down
    x = x if mask is None else x * mask
    ends = *cutoffs, len(table)
    sizes = jnp.log(jnp.diff(jnp.array(ends)).astype(jnp.float32))
    words = jnp.einsum("tbe,ve->tbv", x, table[: ends[0]]) + bias[None, None, : ends[0]]
    clusters = jnp.einsum("tbe,je->tbj", x, params.clusters)
    clusters += (params.cluster_bias + sizes)[None, None]
    head = jax.nn.log_softmax(jnp.concatenate([words, clusters], -1))
    parts = [head[..., : ends[0]]]
    for j, (first, end) in enumerate(itertools.pairwise(ends)):
        projection = params.projections[j]
        rows = table[first:end, : projection.shape[1]]
        logits = jnp.einsum("tbe,ef,vf->tbv", x, projection, rows)
        inside = jax.nn.log_softmax(logits + bias[None, None, first:end])
        parts.append(head[..., ends[0] + j, None] + inside)
    return jnp.concatenate(parts, -1)


def dense_nll(params, table, bias, outputs, targets, weights, mask=None):
    log_p = dense_log_probs(params, table, bias, outputs, mask)
    chosen = jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0]
    return -jnp.sum(weights * chosen)


def head_of(hidden_size=E, cutoffs=CUTOFFS):
    return adaptive(hidden_size, E, cutoffs=cutoffs)


# Against the dense computation.

TARGETS = {
    "of all clusters": None,
    "of the head": np.zeros((T, B)),
    "of the last tail": np.full((T, B), V - 1),
    "at the edges": np.resize([4, 5, 11, 12, 29, 30, 39, 0], (T, B)),
}


@pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)
def test_loss_and_gradients_are_the_dense_ones(targets):
    arguments = draw(targets=targets)

    @jax.jit
    def compare(*arguments):
        # Scaled, for the gradient must follow what it is multiplied by.
        return [
            jax.value_and_grad(lambda *x, f=f: -3 * f(*x), WITH_GRADIENTS)(*arguments)
            for f in (head_of().nll, dense_nll)
        ]

    actual, expected = compare(*arguments)
    assert_close(actual, expected)
    assert_close(-3 * jax.jit(head_of().nll)(*arguments), expected[0])


def test_wider_outputs_are_projected_and_a_mask_drops_what_is_compared():
    arguments = draw(hidden_size=H)
    mask = jnp.asarray(2 * np.random.default_rng(1).integers(0, 2, (1, B, E)), "f")
    actual, expected = (
        jax.jit(jax.value_and_grad(f, WITH_GRADIENTS))(*arguments, mask)
        for f in (head_of(H).nll, dense_nll)
    )
    assert_close(actual, expected)
    assert head_of(H).latent_size == E


def test_log_probabilities_are_the_dense_ones_and_sum_to_one():
    *arguments, targets, _ = draw()
    log_p = jax.jit(head_of().log_probs)(*arguments)
    assert_close(log_p, dense_log_probs(*arguments))
    np.testing.assert_allclose(np.exp(log_p).sum(-1), 1, rtol=1e-5)
    found = jax.jit(head_of().log_likelihoods)(*arguments, targets)
    chosen = np.take_along_axis(np.asarray(log_p), np.asarray(targets)[..., None], -1)
    assert_close(found, jnp.asarray(chosen[..., 0]))


def test_it_is_pytorchs():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    params, table, bias, outputs, targets, _ = draw()
    bias = jnp.zeros_like(bias)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(
        E, V, list(CUTOFFS), div_value=4.0, head_bias=True
    )

    def tensor(array):
        return torch.tensor(np.asarray(array))

    sizes = jnp.log(jnp.diff(jnp.array((*CUTOFFS, V))).astype(jnp.float32))
    head_bias = jnp.concatenate([bias[:5], params.cluster_bias + sizes])
    state = {
        "head.weight": tensor(jnp.concatenate([table[:5], params.clusters])),
        "head.bias": tensor(head_bias),
    }
    for j, (first, end) in enumerate(itertools.pairwise((*CUTOFFS, V))):
        width = params.projections[j].shape[1]
        state[f"tail.{j}.0.weight"] = tensor(params.projections[j].T)
        state[f"tail.{j}.1.weight"] = tensor(table[first:end, :width])
    theirs.load_state_dict(state)
    x = tensor(outputs).reshape(-1, E).requires_grad_()
    loss = theirs(x, tensor(targets).reshape(-1).long()).loss
    loss.backward()
    weights = jnp.full((T, B), 1 / (T * B))
    found, (grads, table_grad, x_grad) = jax.jit(
        jax.value_and_grad(head_of().nll, (0, 1, 3))
    )(params, table, bias, outputs, targets, weights)
    np.testing.assert_allclose(found, loss.item(), rtol=1e-5)
    expected = x.grad.reshape(T, B, E), theirs.head.weight.grad[5:]
    assert_close((x_grad, grads.clusters), tuple(jnp.array(g) for g in expected))
    rows = theirs.head.weight.grad[:5], theirs.tail[1][1].weight.grad
    actual = table_grad[:5], table_grad[12:30, :4]
    assert_close(actual, tuple(jnp.array(each) for each in rows))
    assert not table_grad[12:30, 4:].any()  # features that no word of the tail uses
    log_p = theirs.log_prob(x).detach().reshape(T, B, V)
    assert_close(head_of().log_probs(params, table, bias, outputs), jnp.array(log_p))


# Properties.


def test_untrained_and_with_an_empty_table_all_words_are_equally_likely():
    params = head_of().init(jax.random.key(0))
    for projection in params.projections:
        np.testing.assert_allclose(
            projection.T @ projection, np.eye(projection.shape[1]), atol=1e-6
        )
    outputs = jax.random.normal(jax.random.key(1), (T, B, E))
    found = head_of().log_probs(params, jnp.zeros((V, E)), jnp.zeros(V), outputs)
    np.testing.assert_allclose(found, -math.log(V), rtol=1e-5)


def test_a_token_of_weight_zero_counts_for_nothing():
    params, table, bias, outputs, targets, _ = draw()
    weights = jnp.ones((T, B)).at[1].set(0)
    run = jax.jit(jax.value_and_grad(head_of().nll, WITH_GRADIENTS))
    found = run(params, table, bias, outputs, targets.at[1].set(V - 1), weights)
    assert not found[1][3][1].any()
    changed = outputs.at[1].set(9.0)
    other = run(params, table, bias, changed, targets.at[1].set(2), weights)
    assert_close(found, other, rtol=1e-6)


def test_padding_may_be_an_impossible_word():
    params, table, bias, outputs, targets, _ = draw()
    weights = jnp.ones((T, B)).at[-1].set(0)
    targets = jnp.clip(targets, 1, V - 2).at[-1].set(0)
    run = jax.jit(jax.value_and_grad(head_of().nll, WITH_GRADIENTS))
    found, expected = (
        run(
            params,
            table,
            bias.at[jnp.array([0, 5, V - 1])].set(barred),
            outputs,
            jnp.where(targets == 5, 6, targets),
            weights,
        )
        for barred in (-jnp.inf, -1e30)
    )
    assert np.isfinite(found[0])
    assert_close(found, expected)


@pytest.mark.thorough
def test_half_precision_is_computed_with_in_float32():
    *values, targets, weights = draw(hidden_size=H)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), values)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    run = jax.jit(jax.value_and_grad(head_of(H).nll, WITH_GRADIENTS))
    (value, grads), (expected, exact) = (
        run(*each, targets, weights) for each in (half, wide)
    )
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert {grad.dtype.name for grad in jax.tree.leaves(grads)} == {"bfloat16"}
    in_float32 = jax.tree.map(lambda x: x.astype(jnp.float32), grads)
    assert_close(in_float32, exact, rtol=2 * float(jnp.finfo(jnp.bfloat16).eps))


@pytest.mark.thorough
def test_a_wider_table_is_computed_with_in_its_dtype():
    with jax.enable_x64(True):
        params, table, *rest = draw()
        run = jax.value_and_grad(head_of().nll, (0, 1))
        value, grads = run(params, table.astype(jnp.float64), *rest)
    assert value.dtype == jnp.float64
    assert grads[0].clusters.dtype == jnp.float32


def test_a_temperature_divides_the_logits_of_all_that_is_learned():
    params, table, bias, outputs, *_ = draw()
    head = head_of()
    found = head.log_probs(head.tempered(params, 2.0), table / 2, bias / 2, outputs)
    # Every logit is linear in the outputs but for the biases.
    halved = params.replace(cluster_bias=params.cluster_bias / 2)
    assert_close(found, dense_log_probs(halved, table, bias / 2, outputs / 2))


def test_without_cutoffs_it_is_the_softmax():
    _, *rest = draw()
    params = head_of(cutoffs=()).init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 0
    assert_close(
        head_of(cutoffs=()).nll(params, *rest), softmax(E, E).nll((), *rest), 1e-6
    )


# What is refused.


@pytest.mark.parametrize("cutoffs", [(0, 5), (5, 5), (9, 5), (-1,)])
def test_cutoffs_that_do_not_rise_are_refused(cutoffs):
    with pytest.raises(ValueError, match="must rise, from 1 or more"):
        head_of(cutoffs=cutoffs)


def test_targets_outside_the_vocabulary_are_refused():
    *values, targets, weights = draw()
    with pytest.raises(UsageError, match="targets holds the id 40; ids must be in"):
        head_of().nll(*values, targets.at[0].set(V), weights)


def test_several_softmaxes_are_refused():
    with pytest.raises(ValueError, match="1 softmax, not 3"):
        adaptive(E, E, 3)
