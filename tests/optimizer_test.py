"""The chain of a stage against a loop in NumPy, and the groups it clips."""

from functools import cache

import jax
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.config import Config, Dropout, Layer, Phase
from glrnn.config.gradual import group_names
from glrnn.model import Params, language_model
from glrnn.optim.averaging import averaged_params, start_averaging
from glrnn.optim.clipping import group_norms, layerwise_clip_by_norm
from glrnn.training.optimizer import (
    clip_limits,
    set_hyperparams,
    training_optimizer,
)

V, E = 7, 4


def make_config(head, depth, **settings):
    return Config(
        embedding_size=E,
        layers=(Layer(hidden_size=E),) * depth,
        head=head,
        num_softmaxes=2 if head == "mixture" else 1,
        phases=(Phase(depth, Dropout(hidden=(0.0,) * (depth - 1))),),
        **settings,
    )


@cache
def make_params(head, depth):
    model = language_model(make_config(head, depth), V, depth)
    return jax.jit(model.init)(jax.random.key(0))


def random_like(tree, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (scale * rng.normal(size=leaf.shape)).astype(np.float32),
        tree,
    )


def groups_of(params):
    """The leaves of each group, in the order of the limits."""
    groups = [params.embedding, *params.layers, params.head]
    return [leaves for leaves in map(jax.tree.leaves, groups) if leaves]


# Against NumPy.


def numpy_stage(params, gradients, lengths, averaging_from, settings):
    """Clip, decay, scale, average: the published order, in float64."""
    limits, rate, decay, usual_length = settings
    groups = [[np.asarray(p, np.float64) for p in g] for g in groups_of(params)]
    iterates = []
    for count, (gradient, length) in enumerate(zip(gradients, lengths, strict=True)):
        clipped = []
        for group, limit in zip(groups_of(gradient), limits, strict=True):
            norm = np.sqrt(sum(np.sum(np.asarray(g, np.float64) ** 2) for g in group))
            clipped.append([np.asarray(g) * min(1, limit / norm) for g in group])
        groups = [
            [
                p - rate * length / usual_length * (g + decay * p)
                for p, g in zip(*both, strict=True)
            ]
            for both in zip(groups, clipped, strict=True)
        ]
        if count >= averaging_from:
            iterates.append(groups)
    means = [
        [np.mean(leaves, axis=0) for leaves in zip(*same_group, strict=True)]
        for same_group in zip(*iterates, strict=True)
    ]
    return groups, means


@pytest.mark.parametrize(
    ("head", "limits"),
    [
        ("mixture", (0.5, 1.0, 2.0, 1e6)),
        pytest.param("softmax", (0.5, 1e6, 2.0), marks=pytest.mark.thorough),
    ],
)
def test_a_stage_is_clip_decay_scale_average_in_this_order(head, limits):
    depth, rate, decay, usual_length = 2, 0.7, 0.1, 10
    optimizer = training_optimizer(
        depth, len(limits), weight_decay=decay, usual_length=usual_length
    )
    start = params = make_params(head, depth)
    lengths = [10, 3, 12, 7, 10]
    gradients = [random_like(params, seed) for seed in range(len(lengths))]

    @jax.jit
    def step(params, opt_state, gradient, length):
        updates, opt_state = optimizer.update(
            gradient, opt_state, params, window_length=length
        )
        return optax.apply_updates(params, updates), opt_state

    opt_state = set_hyperparams(optimizer.init(params), rate, limits)
    for count, (gradient, length) in enumerate(zip(gradients, lengths, strict=True)):
        if count == 2:
            opt_state = start_averaging(opt_state)
        params, opt_state = step(params, opt_state, gradient, np.int32(length))

    settings = limits, rate, decay, usual_length
    groups, means = numpy_stage(start, gradients, lengths, 2, settings)
    for tree, expected in (
        (params, groups),
        (averaged_params(opt_state, params), means),
    ):
        for actual_group, group in zip(groups_of(tree), expected, strict=True):
            for actual, leaf in zip(actual_group, group, strict=True):
                np.testing.assert_allclose(actual, leaf, rtol=1e-4, atol=1e-5)


def test_one_limit_clips_the_whole_gradient():
    params = make_params("mixture", 2)
    optimizer = training_optimizer(2, 1, usual_length=10)
    gradient = random_like(params, 0)
    opt_state = set_hyperparams(optimizer.init(params), 1.0, (0.25,))
    updates, _ = jax.jit(optimizer.update)(
        gradient, opt_state, params, window_length=10
    )
    norm = float(optax.tree.norm(gradient))
    assert norm > 1
    expected = jax.tree.map(lambda g: -0.25 * g / norm, gradient)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5), updates, expected
    )


# Properties.


@pytest.mark.thorough
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    head=st.sampled_from(["mixture", "softmax"]),
    depth=st.just(3),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 1e3]),
    data=st.data(),
)
def test_no_group_leaves_with_more_than_its_norm(seed, head, depth, scale, data):
    params = make_params(head, depth)
    size = 1 + depth + (head == "mixture")
    positive = st.floats(0.01, 10.0)
    max_norms = tuple(data.draw(st.lists(positive, min_size=size, max_size=size)))
    gradient = random_like(params, seed, scale)
    limits = clip_limits(max_norms, depth)
    clip = layerwise_clip_by_norm(limits)
    clipped, _ = clip.update(gradient, clip.init(params))

    before, after = (
        np.array(jax.tree.leaves(group_norms(tree, limits)))
        for tree in (gradient, clipped)
    )
    assert before.shape == (size,)
    expected = np.minimum(before, np.array(max_norms, np.float32))
    np.testing.assert_allclose(after, expected, rtol=1e-5)
    assert sum(len(group) for group in groups_of(params)) == len(
        jax.tree.leaves(params)
    )


def test_a_window_without_a_length_is_refused():
    optimizer = training_optimizer(1, 1, usual_length=70)
    params = make_params("softmax", 1)
    with pytest.raises(TypeError, match="window_length"):
        optimizer.update(params, optimizer.init(params), params)


def test_other_hyperparameters_do_not_retrace():
    """And take effect."""
    optimizer, traces = training_optimizer(1, 2), []

    @jax.jit
    def update(updates, opt_state, params):
        traces.append(None)
        return optimizer.update(updates, opt_state, params)[0]

    params = Params(np.ones(1, np.float32), (np.ones(1, np.float32),), ())
    gradient = Params(np.full(1, 3.0, np.float32), (np.full(1, 4.0, np.float32),), ())
    first = set_hyperparams(optimizer.init(params), 1.0, (1.0, np.inf))
    second = set_hyperparams(first, 0.5, (np.inf, 2.0))
    for state, expected in ((first, (-1.0, -4.0)), (second, (-1.5, -1.0))):
        found = update(gradient, state, params)
        assert (found.embedding.item(), found.layers[0].item()) == expected
    assert len(traces) == 1


def test_an_optimizer_built_while_a_function_is_traced_can_be_kept():
    """As that of a resumed run is, whose state's shapes are asked for first."""
    kept = []

    def shapes(params):
        kept.append(training_optimizer(1, 1))
        return kept[0].init(params)

    params = {"w": np.ones(2, np.float32)}
    jax.eval_shape(shapes, params)
    assert np.isinf(kept[0].init(params).hyperparams["max_norms"])


# The groups.


@pytest.mark.parametrize(
    ("head", "max_norms", "names"),
    [
        ("mixture", (0.1, 0.2, 0.3, 0.4), ("embedding", "layer 1", "layer 2", "head")),
        ("softmax", (0.1, 0.2, 0.3), ("embedding", "layer 1", "layer 2")),
        ("mixture", (0.1,), ("all",)),
        ("softmax", (0.1,), ("all",)),
    ],
)
def test_each_limit_has_a_name_and_a_part_of_the_parameters(head, max_norms, names):
    params = make_params(head, 2)
    limits = clip_limits(max_norms, 2)
    assert group_names(max_norms, 2) == names
    assert tuple(jax.tree.leaves(limits)) == max_norms
    parts = {
        "all": params,
        "embedding": params.embedding,
        "layer 1": params.layers[0],
        "layer 2": params.layers[1],
        "head": params.head,
    }
    norms = jax.tree.leaves(group_norms(params, limits))
    for name, norm in zip(names, norms, strict=True):
        np.testing.assert_allclose(norm, optax.tree.norm(parts[name]), rtol=1e-6)


def test_limits_are_a_prefix_of_the_parameters():
    assert clip_limits((0.1, 0.2, 0.3), 1) == Params(0.1, (0.2,), 0.3)
    assert clip_limits((0.1, 0.2, 0.3), 2) == Params(0.1, (0.2, 0.3), ())
    assert clip_limits((0.1,), 2) == 0.1
