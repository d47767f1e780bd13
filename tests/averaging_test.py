import dataclasses
import subprocess
import sys
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.optim.averaging import (
    AveragingState,
    averaged_params,
    is_averaging,
    nt_asgd,
    start_averaging,
)
from glrnn.optim.clipping import layerwise_clip_by_norm

# Names of the state's own fields: none of them may be mistaken for the state.
PARAMS = {"active": jnp.ones((2, 3)), "count": jnp.zeros(()), "average": (jnp.ones(4),)}


def make_grads(seed, params=PARAMS):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), params
    )


def make_step(optimizer, **jit_options):
    @jax.jit(**jit_options)
    def step(params, opt_state, grads):
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    return step


def copy(tree):
    return jax.tree.map(jnp.array, tree)


def mean_of(iterates):
    return jax.tree.map(
        lambda *xs: np.mean([np.asarray(x, np.float64) for x in xs], axis=0), *iterates
    )


def assert_trees_close(actual, expected, rtol=1e-6):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=rtol, atol=1e-6),
        actual,
        expected,
    )


SGD = optax.chain(optax.sgd(0.1), nt_asgd())
SGD_STEP = make_step(SGD)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 4), st.integers(1, 12))
def test_average_is_the_mean_of_every_iterate_since_the_switch(seed, before, after):
    params, opt_state = PARAMS, SGD.init(PARAMS)
    for t in range(before):
        params, opt_state = SGD_STEP(params, opt_state, make_grads(seed + t))
    assert_trees_close(averaged_params(opt_state, params), params, 0)
    opt_state = start_averaging(opt_state)
    assert_trees_close(averaged_params(opt_state, params), params, 0)
    iterates = []
    for t in range(before, before + after):
        params, opt_state = SGD_STEP(params, opt_state, make_grads(seed + t))
        iterates.append(params)
    assert_trees_close(averaged_params(opt_state, params), mean_of(iterates))


def test_updates_and_parameters_are_those_without_averaging():
    plain = optax.sgd(0.1)
    expected, _ = plain.update(make_grads(0), plain.init(PARAMS))
    for opt_state in (SGD.init(PARAMS), start_averaging(SGD.init(PARAMS))):
        updates, _ = SGD.update(make_grads(0), opt_state, PARAMS)
        jax.tree.map(np.testing.assert_array_equal, updates, expected)


def test_first_average_is_the_first_iterate_bit_for_bit():
    params, opt_state = SGD_STEP(
        PARAMS, start_averaging(SGD.init(PARAMS)), make_grads(3)
    )
    average = averaged_params(opt_state, params)
    jax.tree.map(np.testing.assert_array_equal, average, params)


def test_switch_neither_traces_again_nor_changes_the_structure():
    traces = []

    @jax.jit
    def step(params, opt_state, grads):
        traces.append(None)
        updates, opt_state = SGD.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def layout(opt_state):
        leaves, treedef = jax.tree.flatten(opt_state)
        return treedef, [(leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves]

    params, opt_state = PARAMS, SGD.init(PARAMS)
    first = layout(opt_state)
    for t in range(4):
        if t == 2:
            opt_state = start_averaging(opt_state)
            assert layout(opt_state) == first
        params, opt_state = step(params, opt_state, make_grads(t))
        assert layout(opt_state) == first
    assert len(traces) == 1 and step._cache_size() == 1


def test_until_the_switch_the_state_is_left_alone():
    params = jax.tree.map(lambda p: p * jnp.nan, PARAMS)
    _, opt_state = SGD_STEP(params, SGD.init(params), make_grads(0))
    state = opt_state[-1]
    assert state.count == 0 and not state.active
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.average))


def test_switching_on_twice_does_not_begin_again():
    params, opt_state = PARAMS, start_averaging(SGD.init(PARAMS))
    iterates = []
    for t in range(3):
        params, opt_state = SGD_STEP(params, opt_state, make_grads(t))
        opt_state = start_averaging(opt_state)
        iterates.append(params)
    assert opt_state[-1].count == 3
    assert_trees_close(averaged_params(opt_state, params), mean_of(iterates))


def test_whole_state_can_be_donated_with_the_parameters():
    optimizer = optax.chain(optax.sgd(0.1, momentum=0.9), nt_asgd())
    step = make_step(optimizer, donate_argnums=(0, 1))
    params = copy(PARAMS)
    opt_state = optimizer.init(params)
    for t in range(4):
        if t == 2:
            opt_state = start_averaging(opt_state)
        switch, average = is_averaging(opt_state), averaged_params(opt_state, params)
        given_away = jax.tree.leaves((params, opt_state))
        params, opt_state = step(params, opt_state, make_grads(t))
        # Nothing is held by two, so all of it can go, and what was read stays.
        assert all(leaf.is_deleted() for leaf in given_away)
        assert bool(switch) == (t >= 2)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(average))
    assert opt_state[-1].count == 2


def test_update_needs_the_parameters():
    with pytest.raises(ValueError, match=r"averages params \+ updates: call update\(u"):
        SGD.update(make_grads(0), SGD.init(PARAMS))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_averaged_in_float32(dtype):
    params = {"w": jnp.full(3, 1.0, dtype)}
    opt_state = start_averaging(SGD.init(params))
    iterates = []
    with jax.numpy_dtype_promotion("strict"):
        for t in range(20):
            params, opt_state = SGD_STEP(params, opt_state, make_grads(t, params))
            iterates.append(params)
        average = averaged_params(opt_state, params)
    assert opt_state[-1].average["w"].dtype == jnp.float32
    # Inside jit XLA may average what the parameters were before their last rounding.
    eps = float(jnp.finfo(dtype).eps)
    assert_trees_close(opt_state[-1].average, mean_of(iterates), eps / 2)
    assert average["w"].dtype == dtype
    np.testing.assert_array_equal(
        average["w"], opt_state[-1].average["w"].astype(dtype)
    )


# The state is found wherever it is.


def in_chain(inner):
    return optax.chain(optax.clip(1e6), optax.chain(inner))


def in_named_chain(inner):
    return optax.named_chain(("count", optax.identity()), ("active", inner))


def in_partition(inner):
    labels = {"active": "here", "count": "here", "average": "here"}
    return optax.partition({"here": inner, "not": optax.sgd(1.0)}, labels)


def in_multi_steps(inner):
    return optax.MultiSteps(inner, every_k_schedule=1).gradient_transformation()


def in_masked(inner):
    return optax.masked(inner, {"active": True, "count": True, "average": (True,)})


def in_apply_if_finite(inner):
    return optax.apply_if_finite(inner, max_consecutive_errors=2)


def in_inject_hyperparams(inner):
    return optax.inject_hyperparams(lambda rate: optax.chain(optax.scale(rate), inner))(
        1.0
    )


@pytest.mark.parametrize(
    "wrap",
    [
        in_chain,
        in_named_chain,
        in_partition,
        in_multi_steps,
        in_masked,
        in_apply_if_finite,
        in_inject_hyperparams,
    ],
)
def test_state_is_found_in(wrap):
    optimizer = wrap(SGD)
    step = make_step(optimizer)
    opt_state = optimizer.init(PARAMS)
    assert not is_averaging(opt_state)
    params, opt_state = step(PARAMS, opt_state, make_grads(0))
    opt_state = start_averaging(opt_state)
    assert is_averaging(opt_state)
    iterates = []
    for t in range(3):
        params, opt_state = step(params, opt_state, make_grads(t))
        iterates.append(params)
    assert_trees_close(averaged_params(opt_state, params), mean_of(iterates))
    assert step._cache_size() == 1


# Other people's containers.


@pytest.mark.parametrize("wrap", [lambda inner: inner, in_multi_steps])
def test_in_an_nnx_optimizer(wrap):
    model = nnx.Sequential(
        nnx.Linear(2, 3, rngs=nnx.Rngs(0)), nnx.Linear(3, 1, rngs=nnx.Rngs(1))
    )
    x = jnp.ones((4, 2))
    chain = optax.chain(layerwise_clip_by_norm(1.0), optax.sgd(0.1), nt_asgd())
    optimizer = nnx.Optimizer(model, wrap(chain), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        grads = nnx.grad(lambda model: jnp.sum(model(x) ** 2))(model)
        optimizer.update(model, grads)

    iterates = []
    for t in range(4):
        if t == 1:
            optimizer.opt_state = start_averaging(optimizer.opt_state)
        assert is_averaging(optimizer.opt_state) == (t >= 1)
        step(model, optimizer)
        if t >= 1:
            iterates.append(copy(nnx.state(model, nnx.Param)))
    params = nnx.state(model, nnx.Param)
    average = averaged_params(optimizer.opt_state, params)
    assert_trees_close(average, mean_of(iterates))
    nnx.update(model, average)
    assert not np.array_equal(
        model.layers[0].kernel[...], iterates[-1].layers[0].kernel
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Module:
    """As Equinox has them: of a gradient, fields that are not trained are None."""

    weight: Any
    frozen: Any
    bias: Any
    steps: Any
    activation: Any


@pytest.mark.parametrize("whole", [True, False])
def test_a_module_with_none_and_functions_for_leaves(whole):
    model = Module(jnp.ones(2), jnp.ones(3), None, jnp.array(16777217), jnp.tanh)
    arrays = dataclasses.replace(model, activation=None)
    grads = Module(jnp.array([3.0, 4.0]), None, None, None, None)
    optimizer = optax.chain(
        layerwise_clip_by_norm(1.0), optax.scale_by_learning_rate(1.0), nt_asgd()
    )
    opt_state = start_averaging(optimizer.init(model if whole else arrays))
    updates, opt_state = optimizer.update(grads, opt_state, model)
    _, opt_state = optimizer.update(grads, opt_state, model)
    average = averaged_params(opt_state, model)
    np.testing.assert_allclose(updates.weight, [-0.6, -0.8], rtol=1e-6)
    np.testing.assert_allclose(average.weight, [0.4, 0.2], rtol=1e-6)
    np.testing.assert_array_equal(average.frozen, np.ones(3))
    assert (average.bias, int(average.steps)) == (None, 16777217)
    assert average.activation is jnp.tanh


def test_leaves_that_are_not_inexact_are_not_averaged():
    params = {
        "w": jnp.ones(2),
        "counter": jnp.array([16777217, 123456789]),
        "mask": jnp.array([True, False]),
        "key": jax.random.key(3),
    }
    # The gradients of jax.grad(allow_int=True).
    grads = {
        name: jnp.full(2, 0.5) if name == "w" else np.zeros(2, jax.dtypes.float0)
        for name in params
    }
    optimizer = nt_asgd()
    opt_state = start_averaging(optimizer.init(params))
    for _ in range(2):
        updates, opt_state = optimizer.update(grads, opt_state, params)
    assert updates is grads
    average = averaged_params(opt_state, params)
    np.testing.assert_array_equal(average["w"], [1.5, 1.5])
    for name in ("counter", "mask"):
        assert average[name].dtype == params[name].dtype
        np.testing.assert_array_equal(average[name], params[name])
    assert average["key"] == params["key"]


def test_eight_bits_are_averaged_in_float32():
    params = {"w": jnp.array([1.0, 2.0], jnp.float8_e5m2)}
    optimizer = nt_asgd()
    opt_state = start_averaging(optimizer.init(params))
    for step in (0.0, 1.0):
        updates = {"w": jnp.full(2, step, jnp.float8_e5m2)}
        _, opt_state = optimizer.update(updates, opt_state, params)
    np.testing.assert_array_equal(opt_state.average["w"], np.float32([1.5, 2.5]))
    assert averaged_params(opt_state, params)["w"].dtype == jnp.float8_e5m2


# Several states, made under vmap.


def seeds(count=3):
    """States after an update, of which the last has not begun to average."""
    params = {"w": jnp.arange(2.0 * count).reshape(count, 2, 1), "b": jnp.ones(count)}
    # The last axis has the length of the first, where a count could be broadcast.
    params["square"] = jnp.ones((count, count))
    opt_state = jax.vmap(SGD.init)(params)
    begun = jnp.arange(count) < count - 1
    state = opt_state[-1]._replace(active=begun)
    step = jax.vmap(SGD.update)
    updates, opt_state = step(params, (*opt_state[:-1], state), params)
    return optax.apply_updates(params, updates), opt_state


def test_states_made_under_vmap_are_read_one_by_one():
    params, opt_state = seeds()
    params = jax.tree.map(lambda p: p + 1, params)
    average = averaged_params(opt_state, params)
    assert_trees_close(average, jax.vmap(averaged_params)(opt_state, params), 0)
    for name, leaf in params.items():
        np.testing.assert_allclose(average[name][:2], leaf[:2] - 1)
        np.testing.assert_array_equal(average[name][2], leaf[2])
    assert is_averaging(opt_state).tolist() == [True, True, False]
    assert is_averaging(start_averaging(opt_state)).all()


def test_other_axes_than_those_of_the_state_are_refused():
    params, opt_state = seeds()
    one = jax.tree.map(lambda p: p[0], params)
    with pytest.raises(ValueError, match="call averaged_params under the vmap"):
        averaged_params(opt_state, one)
    with pytest.raises(ValueError, match="call averaged_params under the vmap"):
        averaged_params(SGD.init(one), params)
    moved = jax.tree.map(lambda p: jnp.moveaxis(p, 0, -1), opt_state[-1].average)
    state = (*opt_state[:-1], opt_state[-1]._replace(average=moved))
    with pytest.raises(ValueError, match=r"params\['w'\] has the shape \(2, 1, 3\)"):
        averaged_params(state, moved)
    with pytest.raises(ValueError, match=r"has the axes \(3,\) of a vmap; call update"):
        SGD.update(params, opt_state, params)


def test_parameters_of_another_structure_are_refused():
    opt_state = SGD.init({"w": jnp.ones(2), "b": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"params has no leaf params\['b'\]"):
        averaged_params(opt_state, {"w": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"there is no average of params\['c'\]"):
        averaged_params(opt_state, {"c": jnp.ones(2), "w": jnp.ones(2)})


# The order.


def test_what_is_averaged_is_params_plus_updates():
    params = {"w": jnp.array([4.0])}
    for optimizer, expected in (
        (optax.chain(optax.scale(-0.5), nt_asgd()), 3.5),
        (optax.chain(optax.scale(-0.5), optax.masked(SGD, True)), 4.05),
    ):
        opt_state = start_averaging(optimizer.init(params))
        _, opt_state = optimizer.update({"w": jnp.ones(1)}, opt_state, params)
        average = averaged_params(opt_state, params)
        np.testing.assert_allclose(average["w"], [expected], rtol=1e-6)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.chain(nt_asgd(), optax.sgd(0.1)),
        optax.chain(optax.chain(nt_asgd()), optax.scale(-0.1)),
        optax.chain(optax.masked(nt_asgd(), True), optax.scale(-0.1)),
        optax.MultiSteps(optax.chain(nt_asgd(), optax.scale(-0.1)), 2),
        # In alphabetical order nt_asgd would be the last.
        optax.named_chain(("z", nt_asgd()), ("a", optax.sgd(0.1))),
    ],
)
def test_a_transform_after_nt_asgd_is_refused(optimizer):
    opt_state = optimizer.init(PARAMS)
    for read in (start_averaging, is_averaging, lambda s: averaged_params(s, PARAMS)):
        with pytest.raises(ValueError, match="must be the last transform of its chain"):
            read(opt_state)


@pytest.mark.parametrize("state_of", [jax.jit, lambda init: init])
def test_the_order_of_a_named_chain_survives_jit(state_of):
    """That of an nnx.Optimizer too, which wraps its leaves."""
    optimizer = optax.named_chain(("z", nt_asgd()), ("a", optax.sgd(0.1)))
    with pytest.raises(ValueError, match="must be the last transform of its chain"):
        start_averaging(state_of(optimizer.init)(PARAMS))
    linear = nnx.Linear(2, 1, rngs=nnx.Rngs(0))
    wrapped = nnx.Optimizer(linear, optimizer, wrt=nnx.Param)
    with pytest.raises(ValueError, match="must be the last transform of its chain"):
        start_averaging(wrapped.opt_state)


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("Lookahead", lambda inner: optax.lookahead(inner, 3, 0.5)),
        ("Mechanic", optax.contrib.mechanize),
        ("ScheduleFree", lambda inner: optax.contrib.schedule_free(inner, 0.1)),
    ],
)
def test_a_transform_around_nt_asgd_that_changes_its_updates_is_refused(name, wrap):
    optimizer = optax.chain(optax.clip(1.0), wrap(SGD))
    params = (
        optax.LookaheadParams.init_synced(PARAMS) if name == "Lookahead" else PARAMS
    )
    opt_state = optimizer.init(params)
    for read in (start_averaging, is_averaging, lambda s: averaged_params(s, PARAMS)):
        with pytest.raises(ValueError, match=f"not be inside of optax's {name}, which"):
            read(opt_state)


def test_the_states_of_two_optimizers_are_no_chain():
    states = SGD.init(PARAMS), optax.sgd(0.1).init(PARAMS)
    with pytest.raises(ValueError, match=r"of several optimizers, give the one with"):
        start_averaging(states)
    by_name = start_averaging({"a": states[0], "b": states[1]})
    assert is_averaging(by_name)


def test_updates_of_another_shape_than_the_average_are_refused():
    opt_state = start_averaging(SGD.init({"w": jnp.ones(2)}))
    for shape in [(3, 2), (2, 1), (1,)]:
        other = {"w": jnp.ones(shape)}
        expected = rf"params\['w'\] \+ updates has the shape \({shape[0]},"
        with pytest.raises(ValueError, match=expected):
            SGD.update(other, opt_state, other)


@pytest.mark.parametrize(
    "optimizer", [optax.sgd(0.1), optax.chain(nt_asgd(), SGD)], ids=["none", "two"]
)
def test_no_state_and_two_states_are_refused(optimizer):
    opt_state = optimizer.init(PARAMS)
    found = "the state of one nt_asgd; found [02]"
    for read in (start_averaging, is_averaging, lambda s: averaged_params(s, PARAMS)):
        with pytest.raises(ValueError, match=found):
            read(opt_state)


@pytest.mark.parametrize("by", ["masked", "partition"])
def test_parameters_left_out_stand_for_themselves(by):
    mask = {"active": True, "count": True, "average": False}
    optimizer = optax.chain(optax.sgd(0.1), optax.masked(nt_asgd(), mask))
    if by == "partition":
        optimizer = optax.partition({True: SGD, False: optax.sgd(0.1)}, mask)
    step = make_step(optimizer)
    params, opt_state = PARAMS, start_averaging(optimizer.init(PARAMS))
    iterates = []
    for t in range(3):
        params, opt_state = step(params, opt_state, make_grads(t))
        iterates.append(params)
    expected = {**mean_of(iterates), "average": params["average"]}
    assert_trees_close(averaged_params(opt_state, params), expected)


def test_multi_steps_average_what_it_applies_and_not_its_pauses():
    optimizer = optax.MultiSteps(SGD, every_k_schedule=3)
    step = make_step(optimizer)
    params, opt_state = PARAMS, start_averaging(optimizer.init(PARAMS))
    iterates = []
    for t in range(12):
        params, opt_state = step(params, opt_state, make_grads(t))
        if t % 3 == 2:
            iterates.append(params)
    assert opt_state.inner_opt_state[-1].count == 4
    assert_trees_close(averaged_params(opt_state, params), mean_of(iterates))


def test_extra_arguments_are_let_through():
    def by_length(updates, state, params=None, *, window_length, **extra):
        return jax.tree.map(lambda u: -u * window_length / 70, updates), state

    scale = optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), by_length
    )
    optimizer = optax.chain(layerwise_clip_by_norm(1.0), scale, nt_asgd())
    opt_state = start_averaging(optimizer.init(PARAMS))
    _, opt_state = optimizer.update(
        make_grads(0), opt_state, PARAMS, window_length=jnp.asarray(35)
    )
    clipped, _ = optax.clip_by_global_norm(1.0).update(
        make_grads(0), optax.EmptyState()
    )
    expected = jax.tree.map(lambda p, u: p - u / 2, PARAMS, clipped)
    assert_trees_close(averaged_params(opt_state, PARAMS), expected)


def test_readers_work_under_jit_and_state_can_be_mapped_by_optax():
    params, opt_state = SGD_STEP(
        PARAMS, start_averaging(SGD.init(PARAMS)), make_grads(1)
    )
    assert_trees_close(jax.jit(averaged_params)(opt_state, params), params)
    assert jax.jit(is_averaging)(jax.jit(start_averaging)(SGD.init(PARAMS)))
    marked = optax.tree.map_params(
        SGD, lambda _: "p", opt_state, transform_non_params=lambda _: "s"
    )
    assert marked[-1] == AveragingState("s", "s", jax.tree.map(lambda _: "p", PARAMS))


def test_on_a_mesh_of_two_devices():
    program = """
        import jax
        jax.config.update("jax_num_cpu_devices", 2)
        import jax.numpy as jnp
        import numpy as np
        import optax
        from jax.sharding import AxisType, NamedSharding, PartitionSpec
        from glrnn.optim.averaging import averaged_params, nt_asgd, start_averaging

        optimizer = optax.chain(optax.sgd(0.5), nt_asgd())
        mesh = jax.make_mesh((2,), ("x",), axis_types=(AxisType.Auto,))
        split = NamedSharding(mesh, PartitionSpec("x"))
        everywhere = NamedSharding(mesh, PartitionSpec())
        params = jax.device_put({"w": jnp.arange(8.0)}, split)
        opt_state = optimizer.init(params)
        assert opt_state[-1].average["w"].sharding == split
        opt_state = opt_state[:-1] + (jax.tree.map(
            lambda x: x if x.ndim else jax.device_put(x, everywhere), opt_state[-1]),)

        @jax.jit(donate_argnums=(0, 1))
        def step(params, opt_state):
            updates, opt_state = optimizer.update(
                jax.tree.map(jnp.ones_like, params), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        for t in range(4):
            if t == 2:
                opt_state = start_averaging(opt_state)
            params, opt_state = step(params, opt_state)
        average = averaged_params(opt_state, params)["w"]
        np.testing.assert_allclose(average, np.arange(8) - (1.5 + 2.0) / 2)
        assert average.sharding == split
        assert step._cache_size() == 1, step._cache_size()
        print("two devices agree with one")
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.stdout == "two devices agree with one\n", ran.stderr
