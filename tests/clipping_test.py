import dataclasses
import math
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.optim import norm
from glrnn.optim.clipping import LayerwiseClipState, group_norms, layerwise_clip_by_norm

NAMES = ("a", "b", "c")
SHAPES = {"table": (4, 3), "layers": ({"w": (4, 3), "b": ()}, {"w": (4, 3), "b": ()})}
LIMITS = {"table": 0.5, "layers": (1.0, 2.0)}

seeds = st.integers(0, 2**32 - 1)
limits = st.floats(2**-10, 2**10, width=32)
scales = st.lists(st.sampled_from([0.0, 1e-4, 0.1, 1.0, 30.0]), min_size=5, max_size=5)
few = settings(max_examples=25, deadline=None)


def make_updates(seed=0, scales=(1.0,) * 5, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    shapes, treedef = jax.tree.flatten(SHAPES, is_leaf=is_shape)
    leaves = [
        jnp.asarray(scale * rng.normal(size=shape), dtype)
        for shape, scale in zip(shapes, scales, strict=True)
    ]
    return jax.tree.unflatten(treedef, leaves)


def is_shape(node):
    return isinstance(node, tuple) and all(isinstance(n, int) for n in node)


def clip(updates, *args, **kwargs):
    transform = layerwise_clip_by_norm(*args, **kwargs)
    return transform.update(updates, transform.init(updates))[0]


def norm64(tree):
    leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
    return float(np.linalg.norm(np.concatenate([np.zeros(1), *leaves])))


def assert_trees_equal(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def assert_trees_close(actual, expected, rtol=2e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-30),
        actual,
        expected,
    )


# Against optax.


@few
@given(seeds, scales, limits)
def test_bare_number_is_clip_by_global_norm(seed, scales, limit):
    updates = make_updates(seed, scales)
    expected, _ = optax.clip_by_global_norm(limit).update(updates, optax.EmptyState())
    assert_trees_equal(clip(updates, limit), expected)


@few
@given(
    seeds,
    scales,
    st.lists(st.sampled_from(NAMES), min_size=5, max_size=5),
    st.fixed_dictionaries(dict.fromkeys(NAMES, limits)),
)
def test_labels_are_a_partition_of_clip_by_global_norm(seed, scales, names, limit_of):
    updates = make_updates(seed, scales)
    labels = jax.tree.unflatten(jax.tree.structure(updates), names)
    limit_of = {name: limit_of[name] for name in set(names)}
    oracle = optax.partition(
        {name: optax.clip_by_global_norm(c) for name, c in limit_of.items()}, labels
    )
    expected, _ = oracle.update(updates, oracle.init(updates))
    assert_trees_close(clip(updates, limit_of, labels), expected)
    assert_trees_close(clip(updates, limit_of, lambda _: labels), expected)


@few
@given(seeds, scales, st.tuples(limits, limits, limits))
def test_prefix_clips_each_subtree_alone(seed, scales, limit_of):
    updates = make_updates(seed, scales)
    table, first, second = limit_of
    clipped = clip(updates, {"table": table, "layers": (first, second)})
    for c, before, after in zip(
        limit_of,
        (updates["table"], *updates["layers"]),
        (clipped["table"], *clipped["layers"]),
        strict=True,
    ):
        assert norm64(after) <= c * (1 + 1e-5)
        scale = min(1, c / norm64(before)) if norm64(before) else 1
        assert_trees_close(after, optax.tree.scale(scale, before), 1e-5)
    labels = {"table": "a", "layers": ("b", "c")}
    named = dict(zip(NAMES, limit_of, strict=True))
    assert_trees_equal(clip(updates, named, labels), clipped)


def test_updates_within_their_limit_pass_bit_for_bit():
    updates = make_updates(dtype=jnp.bfloat16)
    assert_trees_equal(clip(updates, 1e6), updates)


# Dtypes.


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_has_a_float32_norm_and_keeps_its_dtype(dtype):
    # 300^2 overflows float16; adding 1 to 256 ones is lost in bfloat16.
    updates = {
        "w": jnp.full(64, 300.0, dtype),
        "b": jnp.concatenate([jnp.full(1, 16.0), jnp.ones(300)]).astype(dtype),
    }
    wide = jax.tree.map(lambda u: u.astype(jnp.float32), updates)
    expected = jax.tree.map(
        lambda u: u.astype(dtype), clip(wide, {"w": 2.0, "b": 10.0})
    )
    actual = clip(updates, {"w": 2.0, "b": 10.0})
    assert_trees_equal(actual, expected)
    assert {leaf.dtype for leaf in jax.tree.leaves(actual)} == {jnp.dtype(dtype)}
    norms = group_norms(updates, {"w": 0, "b": 0})
    assert {norm.dtype for norm in norms.values()} == {jnp.dtype("float32")}
    assert norms["b"] == pytest.approx(math.sqrt(16**2 + 300))


def test_mixed_dtypes_keep_theirs_under_strict_promotion():
    updates = {
        "half": jnp.full(4, 3.0, jnp.float16),
        "single": jnp.full(4, 4.0),
        "complex": jnp.full(1, 6.0 + 8.0j),
    }
    with jax.numpy_dtype_promotion("strict"):
        clipped = clip(updates, math.sqrt(200) / 2)
    assert_trees_close(clipped, jax.tree.map(lambda u: u / 2, updates), 1e-3)
    for name, update in updates.items():
        assert clipped[name].dtype == update.dtype


def test_bare_python_number_is_a_tree():
    np.testing.assert_allclose(clip(8.0, 2.0), 2.0)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_eight_bits_and_less_are_clipped_in_float32(name):
    updates = {"w": jnp.array([3, 4], name), "b": jnp.array([0.5], name)}
    clipped = clip(updates, {"w": 2.5, "b": 1.0})
    assert {leaf.dtype for leaf in jax.tree.leaves(clipped)} == {jnp.dtype(name)}
    np.testing.assert_array_equal(clipped["w"].astype("f"), [1.5, 2.0])
    np.testing.assert_array_equal(clipped["b"].astype("f"), [0.5])


def test_leaves_that_are_not_inexact_pass_unchanged_and_do_not_count():
    others = {
        "counter": jnp.array([16777217, 123456789]),
        "table": np.arange(3),
        "mask": jnp.array([True]),
        "key": jax.random.key(7),
        "no gradient": np.zeros(2, jax.dtypes.float0),
        "none": None,
        "number": 7,
        "function": jnp.tanh,
    }
    updates = {"w": jnp.array([3.0, 4.0]), **others}
    for arguments in (1.0,), ({"x": 1.0}, lambda u: jax.tree.map(lambda _: "x", u)):
        clipped = clip(updates, *arguments)
        np.testing.assert_allclose(clipped.pop("w"), [0.6, 0.8], rtol=1e-6)
        assert clipped.keys() == others.keys()
        assert all(clipped[name] is leaf for name, leaf in others.items())
    assert group_norms(updates, 0) == 5.0


# Edges.


# Squares of these overflow or underflow in float32, some norms too.
EXTREMES = (1e19, 1e28, 8e37, 1e-19, 1e-24, 1e-36)


@pytest.mark.parametrize("jitted", [False, True])
@pytest.mark.parametrize("size", EXTREMES)
def test_norms_neither_overflow_nor_underflow(size, jitted):
    updates = {"w": jnp.array([3 * size, 4 * size]), "b": jnp.array([0.3, 0.4])}
    clipping = jax.jit(clip, static_argnums=1) if jitted else clip
    for limit in (5.0, size):
        scale = min(1.0, limit / (5 * size))
        clipped = clipping(updates["w"], limit)
        np.testing.assert_allclose(clipped, scale * updates["w"], rtol=1e-6)
    norms = group_norms(updates, {"w": 0, "b": 0})
    expected = {"w": min(5 * size, float(jnp.finfo("f").max)), "b": 0.5}
    assert_trees_close(norms, expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.complex64])
@pytest.mark.parametrize(
    ("wide", "narrow", "limit", "expected"),
    [
        ((0.0, 0.0), 0.0, 1.0, 0.0),
        ((3e100, 4e100), 1.0, 1e99, 0.02),
        ((3e-60, 4e-60), 0.0, 1e-61, 0.0),
    ],
)
def test_a_group_of_float64_and_narrower_leaves(dtype, wide, narrow, limit, expected):
    with jax.enable_x64(True):
        updates = {"a": jnp.array(wide), "b": jnp.full(2, narrow, dtype)}
        clipped = clip(updates, limit)
        assert [leaf.dtype for leaf in clipped.values()] == [jnp.float64, dtype]
        norm = np.hypot(*wide)
        factor = min(1.0, limit / norm) if norm else 1.0
        np.testing.assert_allclose(clipped["a"], np.array(wide) * factor, rtol=1e-12)
        np.testing.assert_allclose(
            clipped["b"].astype(jnp.complex128), expected, rtol=5e-3, atol=1e-30
        )
        _, pull = jax.vjp(lambda tree: clip(tree, limit), updates)
        (cotangent,) = pull(jax.tree.map(jnp.ones_like, clipped))
        assert all(jnp.isfinite(leaf).all() for leaf in cotangent.values())


def test_norms_of_float64_are_in_float64():
    with jax.enable_x64(True):
        for size in (1e200, 1.0, 1e-200):
            updates = {"w": jnp.array([3 * size]), "b": jnp.array([4.0 * size])}
            clipped = clip(updates, 1e-250)
            expected = {"w": 0.6e-250, "b": 0.8e-250}
            jax.tree.map(
                lambda a, e: np.testing.assert_allclose(a, [e], rtol=1e-14),
                clipped,
                expected,
            )
        assert clipped["w"].dtype == jnp.float64


@pytest.mark.parametrize(("size", "exact"), [(1e-26, 1), (1.0, 0), (1e19, 2)])
def test_norms_of_large_trees_on_a_cpu_and_on_a_gpu(size, exact):
    updates = size * np.random.default_rng(0).normal(size=(500, 700)).astype("f")
    expected = norm64(updates)
    np.testing.assert_allclose(group_norms(updates, 0), expected, rtol=1e-5)
    # As a GPU does, but a CPU adds up one after the other, which rounds.
    sums = jax.jit(lambda u: norm._sums_in_one_pass([[u]], norm._RANGE))(updates)
    scale = (1.0, norm._RANGE.up, norm._RANGE.down)[exact]
    np.testing.assert_allclose(math.sqrt(sums[exact]) / scale, expected, rtol=1e-3)


def test_what_is_not_finite_has_no_finite_norm():
    updates = {"w": jnp.array([1.0, jnp.inf]), "b": jnp.array([jnp.nan, 1e30])}
    norms = group_norms(updates, {"w": 0, "b": 0})
    assert np.isinf(norms["w"]) and np.isnan(norms["b"])


@pytest.mark.parametrize(
    ("values", "limit"),
    [
        ((3.0, 4.0), 1.0),
        ((0.3, 0.4), 1.0),
        ((3e30, 4e30), 2.0),
        ((3e-24, 4e-24), 1e-24),
    ],
)
def test_derivative_through_the_clip(values, limit):
    """u min(1, c / |u|), whose derivative is c / |u| (1 - u u' / |u|^2) above c."""
    u, along = np.array(values), np.array([1.0, -2.0])
    size = np.linalg.norm(u)
    unit = u / size
    expected = (along - unit * (unit @ along)) * limit / size if size > limit else along
    _, forward = jax.jvp(
        lambda u: clip(u, limit), (jnp.asarray(u, "f"),), (jnp.asarray(along, "f"),)
    )
    _, pull = jax.vjp(lambda u: clip(u, limit), jnp.asarray(u, "f"))
    np.testing.assert_allclose(forward, expected, rtol=1e-5)
    np.testing.assert_allclose(pull(jnp.asarray(along, "f"))[0], expected, rtol=1e-5)


def test_derivative_at_zero_is_the_identity():
    updates = {"w": jnp.zeros(2), "b": jnp.array([1.0])}
    clipped = jax.jacobian(lambda w: clip({**updates, "w": w}, {"w": 1.0, "b": 9.0}))
    np.testing.assert_array_equal(clipped(updates["w"])["w"], np.eye(2))
    norm_of = jax.grad(lambda w: group_norms(w, 0))
    np.testing.assert_array_equal(norm_of(updates["w"]), [0, 0])


def test_zero_updates_stay_zero_and_no_nan_is_computed():
    zeros = jax.tree.map(jnp.zeros_like, make_updates())
    with jax.debug_nans(True):
        assert_trees_equal(clip(zeros, {"table": 0.1, "layers": (1.0, jnp.inf)}), zeros)
        assert_trees_equal(clip(zeros, {"x": 0.1}, "x"), zeros)


def test_infinite_limit_is_no_limit():
    huge = {"w": jnp.array([1e38, jnp.inf]), "b": jnp.array([1e30])}
    assert_trees_equal(clip(huge, math.inf), huge)
    assert_trees_equal(clip(huge, {"x": jnp.inf}, "x"), huge)


def test_nan_spoils_its_own_group_and_no_other():
    updates = {"w": jnp.ones(2), "b": jnp.array([jnp.nan]), "other": jnp.ones(1)}
    clipped = clip(updates, {"x": 5.0, "y": 5.0}, {"w": "x", "b": "x", "other": "y"})
    assert np.isnan(clipped["w"]).all() and np.isnan(clipped["b"]).all()
    np.testing.assert_array_equal(clipped["other"], [1.0])


def test_empty_groups():
    assert clip({"w": jnp.full(1, 4.0), "none": ()}, {"w": 1.0, "none": 2.0}) == {
        "w": 1.0,
        "none": (),
    }
    assert clip({}, 1.0) == {}


# What is refused.


@pytest.mark.parametrize(
    "limit",
    [
        *(0.0, -1.0, math.nan, np.zeros(()), "0.1", object()),
        *(np.ones(3), jnp.ones((1,)), np.array("1")),
        # No real numbers.
        *(
            True,
            np.bool_(True),
            jnp.array(True),
            1 + 0j,
            np.complex64(1),
            jnp.array(1j),
        ),
        # Rounded to zero in float32, and no number in float64.
        *(1e-38, 1e-46, np.float64(1e-40), 10**400, 10**5000),
    ],
    ids=lambda limit: type(limit).__name__,
)
def test_limit_that_is_no_scalar_above_zero_is_refused(limit):
    with pytest.raises(ValueError, match=r"max_norm must be a scalar above zero"):
        layerwise_clip_by_norm(limit)
    with pytest.raises(ValueError, match=r"max_norm\['layers'\]\[1\] must be a scalar"):
        layerwise_clip_by_norm({"table": 1.0, "layers": (1.0, limit)})
    with pytest.raises(ValueError, match=r"max_norm\['x'\] must be a scalar"):
        layerwise_clip_by_norm({"x": limit}, "x")


def test_limit_nested_under_a_name_is_refused():
    with pytest.raises(ValueError, match=r"max_norm\['x'\] must be a scalar"):
        layerwise_clip_by_norm({"x": {"deeper": 1.0}}, "x")


def test_traced_limit_is_refused_for_its_shape_only():
    updates = make_updates()
    traced = jax.jit(lambda c: clip(updates, c))
    assert_trees_close(traced(0.5), clip(updates, 0.5))
    with pytest.raises(ValueError, match="max_norm must be a scalar"):
        traced(jnp.ones(2))


def test_a_limit_that_falls_below_zero_is_zero():
    updates = {"w": jnp.array([3.0, 4.0])}
    transform = layerwise_clip_by_norm(optax.linear_schedule(1.0, -1.0, 2))
    for update in (transform.update, jax.jit(transform.update)):
        state = transform.init(updates)
        for expected in ([0.6, 0.8], [0, 0], [0, 0]):
            clipped, state = update(updates, state)
            np.testing.assert_allclose(clipped["w"], expected, rtol=1e-6)
    traced = jax.jit(lambda limit: clip(updates, limit)["w"])
    np.testing.assert_array_equal(traced(-2.0), [0, 0])


@pytest.mark.parametrize(
    "value", [0.0, -1, np.float32(-1), np.zeros(()), jnp.zeros(())]
)
def test_a_scheduled_limit_of_zero_or_less_is_zero(value):
    updates = {"w": jnp.array([3.0, 4.0])}
    np.testing.assert_array_equal(clip(updates, lambda _: value)["w"], [0, 0])


@pytest.mark.parametrize("value", [True, 1j, "1", None, jnp.ones(2), jnp.array(True)])
def test_schedule_is_refused_for_its_shape_and_dtype(value):
    with pytest.raises(ValueError, match="a scheduled max_norm must be a scalar; got"):
        clip(make_updates(), lambda _: value)


@pytest.mark.parametrize("compile_", [jax.jit, lambda update: update])
def test_an_injected_limit_of_zero_or_less_is_zero_with_and_without_jit(compile_):
    updates = {"w": jnp.array([3.0, 4.0])}
    falling = optax.linear_schedule(1.0, -1.0, 2)
    optimizer = optax.inject_hyperparams(layerwise_clip_by_norm)(falling)
    state = optimizer.init(updates)
    for expected in ([0.6, 0.8], [0, 0], [0, 0]):
        clipped, state = compile_(optimizer.update)(updates, state, updates)
        np.testing.assert_allclose(clipped["w"], expected, rtol=1e-6)
    optimizer = optax.inject_hyperparams(layerwise_clip_by_norm)(1.0)
    state = optimizer.init(updates)
    for limit in (0.0, -1.0):
        state.hyperparams["max_norm"] = jnp.asarray(limit)
        clipped, _ = compile_(optimizer.update)(updates, state, updates)
        np.testing.assert_array_equal(clipped["w"], [0, 0])


@pytest.mark.parametrize("limit", [10**39, 1e39, np.float64(1e39)])
def test_a_limit_above_float32_is_no_limit(limit):
    updates = {"w": jnp.array([3e38, 3e38])}
    assert_trees_equal(clip(updates, limit), updates)


def test_name_without_a_limit_and_limit_without_a_leaf():
    labels = {"table": "table", "layers": "lstm"}
    missing = "no limit for the label 'lstm'; it has limits for: 'table'"
    unused = "a limit for 'head', which labels no leaf; the labels are: 'lstm', 'table'"
    few, many = {"table": 1.0}, {"table": 1.0, "lstm": 1.0, "head": 1.0}
    for max_norm, message in [(few, missing), (many, unused)]:
        with pytest.raises(ValueError, match=message):
            layerwise_clip_by_norm(max_norm, labels)
        computed = layerwise_clip_by_norm(max_norm, lambda _: labels)
        with pytest.raises(ValueError, match=message):
            computed.init(make_updates())
        with pytest.raises(ValueError, match=message):
            computed.update(make_updates(), optax.EmptyState())


def test_labels_need_a_mapping():
    with pytest.raises(ValueError, match=r"maps each name to its limit; got 0\.25"):
        layerwise_clip_by_norm(0.25, {"w": "x"})


@pytest.mark.parametrize(
    "arguments",
    [
        ({"table": 1.0},),
        ({"table": 1.0, "layers": (1.0, 1.0, 1.0)},),
        ({"x": 1.0}, {"table": "x", "layers": ["x", "x"]}),
    ],
)
def test_prefix_that_does_not_fit_fails_at_init_with_the_error_of_jax(arguments):
    transform = layerwise_clip_by_norm(*arguments)
    with pytest.raises(ValueError, match=r"pytree|tuple|list|[Kk]ey"):
        transform.init(make_updates())


# Schedules.


def test_schedules_follow_a_count_that_nothing_else_needs():
    updates = {"w": jnp.full(1, 8.0), "b": jnp.full(1, 8.0)}
    assert layerwise_clip_by_norm(1.0).init(updates) == optax.EmptyState()

    transform = layerwise_clip_by_norm({"w": lambda count: 1.0 + count, "b": 0.5})
    named = layerwise_clip_by_norm(
        {"x": lambda count: 1.0 + count, "y": 0.5}, {"w": "x", "b": "y"}
    )
    for clipper in (transform, named):
        step = jax.jit(clipper.update)
        state = clipper.init(updates)
        assert isinstance(state, LayerwiseClipState)
        for t in range(3):
            clipped, state = step(updates, state)
            assert_trees_close(
                clipped, {"w": np.full(1, 1.0 + t), "b": np.full(1, 0.5)}
            )
        assert state.count == 3 and state.count.dtype == jnp.int32
        assert step._cache_size() == 1


# Other people's trees and transforms.


def test_dataclass_prefix_and_callable_tree_of_names():
    @jax.tree_util.register_dataclass
    @dataclasses.dataclass
    class Module:
        table: object
        layers: object

        def __call__(self, x):
            raise AssertionError("a tree of names is not a function")

    updates = Module(**make_updates())
    expected = clip(make_updates(), LIMITS)
    for clipped in (
        clip(updates, Module(**LIMITS)),
        clip(updates, {"a": 0.5, "b": 1.0, "c": 2.0}, Module("a", ("b", "c"))),
    ):
        assert_trees_equal(vars(clipped), expected)


def test_masked_node_is_an_empty_group_also_below_the_mask():
    updates = make_updates()
    expected = {**clip(updates, LIMITS), "layers": updates["layers"]}
    masks = {"table": True, "layers": False}
    deep = {"table": 0.5, "layers": ({"w": 1.0, "b": 2.0}, 3.0)}
    names = {"table": "t", "layers": ({"w": "w", "b": "b"}, "l")}
    by_name = {"t": 0.5, "w": 1.0, "b": 2.0, "l": 3.0}

    def by_path(tree):
        return jax.tree.map_with_path(lambda path, _: path[0].key, tree)

    for inner in (
        layerwise_clip_by_norm(0.5),
        layerwise_clip_by_norm(LIMITS),
        layerwise_clip_by_norm({"table": 0.5, "layers": optax.MaskedNode()}),
        layerwise_clip_by_norm(deep),
        layerwise_clip_by_norm(by_name, names),
        layerwise_clip_by_norm(by_name, lambda _: names),
        layerwise_clip_by_norm({"table": 0.5, "layers": 1.0}, by_path),
    ):
        transform = optax.masked(inner, masks)
        clipped, _ = jax.jit(transform.update)(updates, transform.init(updates))
        assert_trees_close(clipped, expected)


def test_masked_leaves_do_not_count_towards_their_group():
    updates = {"layer": {"w": jnp.full(1, 4.0), "b": jnp.full(1, 100.0)}}
    transform = optax.masked(
        layerwise_clip_by_norm({"layer": 8.0}), {"layer": {"w": True, "b": False}}
    )
    clipped, _ = transform.update(updates, transform.init(updates))
    assert_trees_equal(clipped, updates)


def test_inside_partition_chain_and_jit():
    updates = make_updates()
    optimizer = optax.partition(
        {
            "train": optax.chain(layerwise_clip_by_norm(LIMITS), optax.scale(-2.0)),
            "freeze": optax.set_to_zero(),
        },
        {"table": "freeze", "layers": "train"},
    )
    actual, _ = jax.jit(optimizer.update)(updates, optimizer.init(updates))
    expected = jax.tree.map(lambda u: -2.0 * u, clip(updates, LIMITS))
    expected["table"] = jnp.zeros_like(updates["table"])
    assert_trees_close(actual, expected)


def test_inside_multi_steps_the_accumulated_gradient_is_clipped():
    first, second = make_updates(1), make_updates(2)
    schedule = {"table": lambda count: 0.5 + count, "layers": (1.0, 2.0)}
    optimizer = optax.MultiSteps(layerwise_clip_by_norm(schedule), every_k_schedule=2)
    step = jax.jit(optimizer.update)
    state = optimizer.init(first)
    for offset in (0.0, 1.0):
        nothing, state = step(first, state)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(nothing))
        actual, state = step(second, state)
        mean = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
        expected = clip(mean, {"table": 0.5 + offset, "layers": (1.0, 2.0)})
        assert_trees_close(actual, expected, 1e-5)


def test_inside_inject_hyperparams():
    updates = make_updates()
    inject = optax.inject_hyperparams(layerwise_clip_by_norm, static_args="labels")
    optimizer = inject(0.5)
    state = optimizer.init(updates)
    assert_trees_close(
        jax.jit(optimizer.update)(updates, state, updates)[0], clip(updates, 0.5)
    )
    state.hyperparams["max_norm"] = jnp.asarray(0.25)
    assert_trees_close(
        optimizer.update(updates, state, updates)[0], clip(updates, 0.25)
    )
    labelled = inject({"x": 0.5}, lambda _: "x")
    assert_trees_close(
        labelled.update(updates, labelled.init(updates), updates)[0], clip(updates, 0.5)
    )


@pytest.mark.parametrize("labels", [None, lambda p: {"table": "a", "layers": "b"}])
def test_state_can_be_mapped_by_optax(labels):
    params = make_updates()
    max_norm = LIMITS if labels is None else {"a": optax.constant_schedule(1.0), "b": 2}
    optimizer = optax.chain(
        layerwise_clip_by_norm(max_norm, labels), optax.scale_by_adam()
    )
    state = optimizer.init(params)
    marked = optax.tree.map_params(
        optimizer, lambda _: "p", state, transform_non_params=lambda _: "s"
    )
    assert jax.tree.leaves(marked).count("p") == 2 * len(jax.tree.leaves(params))


def test_under_vmap_each_example_has_its_own_norm():
    batch = {"w": jnp.array([[3.0, 4.0], [0.3, 0.4]])}
    clipped = jax.vmap(lambda u: clip(u, {"w": 1.0}))(batch)
    np.testing.assert_allclose(clipped["w"], [[0.6, 0.8], [0.3, 0.4]], rtol=1e-6)


# Norms.


@few
@given(seeds, scales)
def test_group_norms_against_numpy(seed, scales):
    updates = make_updates(seed, scales)
    norms = group_norms(updates, {"table": "any", "layers": ("leaf", "does")})
    expected = {
        "table": norm64(updates["table"]),
        "layers": tuple(norm64(layer) for layer in updates["layers"]),
    }
    assert_trees_close(norms, expected)
    np.testing.assert_allclose(group_norms(updates, 0), norm64(updates), rtol=1e-6)


def test_group_norms_of_masked_updates_keep_the_structure_of_the_groups():
    updates = {"w": jnp.array([3.0, 4.0]), "layers": optax.MaskedNode()}
    norms = group_norms(updates, {"w": 0, "layers": ({"a": 0}, 0)})
    assert norms == {"w": 5.0, "layers": ({"a": 0.0}, 0.0)}


def test_on_a_mesh_of_two_devices():
    program = """
        import jax
        jax.config.update("jax_num_cpu_devices", 2)
        import jax.numpy as jnp
        import numpy as np
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        from glrnn.optim.clipping import layerwise_clip_by_norm

        updates = {"w": jnp.arange(8.0), "layer": {"b": -jnp.ones((3, 4))}}
        specs = {"w": PartitionSpec("x"), "layer": {"b": PartitionSpec(None, "x")}}
        for kind in (AxisType.Auto, AxisType.Explicit):
            mesh = jax.make_mesh((2,), ("x",), axis_types=(kind,))
            shardings = jax.tree.map(lambda s: NamedSharding(mesh, s), specs)
            sharded = jax.device_put(updates, shardings)
            for arguments in (
                (1.5,),
                ({"w": 1.5, "layer": 0.5},),
                ({"p": 1.5}, {"w": "p", "layer": "p"}),
            ):
                clip = layerwise_clip_by_norm(*arguments)
                with jax.set_mesh(mesh):
                    actual, _ = jax.jit(clip.update)(sharded, clip.init(sharded))
                expected, _ = clip.update(updates, clip.init(updates))
                jax.tree.map(
                    lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-6),
                    actual, expected,
                )
                for leaf in jax.tree.leaves(actual):
                    assert len(leaf.sharding.device_set) == 2
                    assert not leaf.sharding.is_fully_replicated
        print("two devices agree with one")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.stdout == "two devices agree with one\n", ran.stderr
