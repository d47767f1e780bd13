"""What every cell must do: one line in CELLS puts a new one under these tests.

The oracle is a plain `lax.scan` of the cell's own step. What its equations are is asked
in `cell_equations_test.py`.
"""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from glrnn.cells import CELLS, Cell, affine, unroll
from glrnn.cells.cell import UNROLL
from glrnn.errors import UsageError
from glrnn.ground import devices

# What has settings of its own is tested with others than the default ones, too.
VARIANTS = {
    "mogrifier without rounds": partial(CELLS["mogrifier"], depth=0),
    "mogrifier of rank 2": partial(CELLS["mogrifier"], depth=2, rank=2),
    "rhn of depth 1": partial(CELLS["rhn"], depth=1),
}
# And no deeper than it needs to be: depth is what takes long to compile.
MAKERS = CELLS | VARIANTS | {"rhn": partial(CELLS["rhn"], depth=2)}

# What takes long to compile is thorough; the equations of each are asked of every cell.
QUICK = ("gru", "lstm")


def each(names):
    return pytest.mark.parametrize(
        "name",
        [
            pytest.param(name, marks=() if name in QUICK else pytest.mark.thorough)
            for name in sorted(names)
        ],
    )


every_cell = each(CELLS)
every_cell_and_variant = each([*CELLS, *VARIANTS])

T, B, INPUTS, H = 6, 3, 7, 5


@cache
def make(name, *sizes):
    """One cell for each name and sizes, so that tests share compiled programs."""
    return MAKERS[name](*sizes)


def plain_scan(cell, params, state, window, length=None):
    def body(state, inputs):
        step, drive = inputs
        new, output = cell.step(params, state, drive, affine)
        if length is not None:
            live = (step < jnp.broadcast_to(length, window.shape[1]))[:, None]
            new = jax.tree.map(lambda a, b: jnp.where(live, a, b), new, state)
        return new, output

    steps = jnp.arange(window.shape[0])
    return lax.scan(body, state, (steps, cell.project_inputs(params, window)))


@partial(jax.jit, static_argnums=(0, 1))
def with_gradients(run, cell, params, state, window, cotangent, length=None):
    """State and outputs, and the gradients in the parameters, state and window."""
    result, pull = jax.vjp(
        lambda *args: run(cell, *args, length=length), params, state, window
    )
    return result, pull(cotangent)


forward = jax.jit(unroll, static_argnums=0)


def random_like(tree, rng, scale=1.0):
    return jax.tree.map(
        lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype), tree
    )


def draw(name, seed=0, sizes=(INPUTS, H), num_steps=T, batch_size=B):
    """A cell and random parameters, state, window and cotangents."""
    rng = np.random.default_rng(seed)
    cell = make(name, *sizes)
    # Not as they start: a gate that starts shut hides what is behind it.
    params = random_like(cell.init(jax.random.key(seed)), rng, scale=0.5)
    state = random_like(cell.initial_state(batch_size), rng)
    window = jnp.asarray(
        rng.normal(size=(num_steps, batch_size, sizes[0])), jnp.float32
    )
    outputs = jnp.asarray(
        rng.normal(size=(num_steps, batch_size, sizes[1])), jnp.float32
    )
    return cell, params, state, window, (random_like(state, rng), outputs)


def assert_close(actual, expected, rtol=1e-5):
    """Equal to `rtol` of the largest element of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape
        scale = float(np.max(np.abs(e), initial=1e-6))
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * scale)


# Against the plain scan.


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["lstm", "rhn"])
def test_steps_written_out_for_a_gpu_are_the_plain_scans(name, monkeypatch):
    monkeypatch.setattr(devices, "platform", lambda: "gpu")
    monkeypatch.setitem(UNROLL, "gpu", 4)  # of 6 steps two are left over
    cell, *values = draw(name)
    arguments = cell, *values, jnp.int32(T - 1)
    # Traced anew, for another platform.
    by_gpu = jax.jit(with_gradients.__wrapped__, static_argnums=(0, 1))
    found, grads = by_gpu(unroll, *arguments)
    expected, plain_grads = with_gradients(plain_scan, *arguments)
    assert_close((found, grads), (expected, plain_grads))


@pytest.mark.thorough
@every_cell
@settings(max_examples=2, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    sizes=st.sampled_from([(1, 1), (3, 2), (2, 4)]),
    num_steps=st.sampled_from([1, 2, 5, 9]),
    batch_size=st.sampled_from([1, 3]),
    kind=st.sampled_from(["whole", "one length", "a length each"]),
    masked=st.booleans(),
)
def test_the_gradient_is_the_plain_scans(
    name, seed, sizes, num_steps, batch_size, kind, masked
):
    rng = np.random.default_rng(seed)
    cell, params, state, window, (ct_state, ct_outputs) = draw(
        name, seed, sizes, num_steps, batch_size
    )
    length = None
    if kind != "whole":
        count = batch_size if kind == "a length each" else 1
        length = jnp.asarray(rng.integers(1, num_steps + 1, count), jnp.int32)
        live = np.arange(num_steps)[:, None] < np.broadcast_to(length, batch_size)
        ct_outputs *= live[..., None]
        length = length if kind == "a length each" else length[0]
    if masked:
        mask = jnp.asarray(2 * rng.integers(0, 2, params.recurrent.shape), jnp.float32)
        params = params.replace(recurrent=params.recurrent * mask)
        if hasattr(params, "mask"):
            shape = batch_size, sizes[1]
            mask = jnp.asarray(2 * rng.integers(0, 2, shape), jnp.float32)
            params = params.replace(mask=mask)
    (fast, fast_grads), (plain, plain_grads) = (
        with_gradients(run, cell, params, state, window, (ct_state, ct_outputs), length)
        for run in (unroll, plain_scan)
    )
    if length is not None:
        fast, plain = ((s, outputs * live[..., None]) for s, outputs in (fast, plain))
    assert_close(fast, plain)
    assert_close(fast_grads, plain_grads)


@every_cell
def test_the_gradient_is_the_plain_scans_under_vmap(name):
    draws = [draw(name, seed) for seed in range(3)]
    cell, params, *_ = draws[0]
    state, window, cotangent = jax.tree.map(
        lambda *leaves: jnp.stack(leaves), *(tuple(each[2:]) for each in draws)
    )
    length = np.array([2, T, 4], np.int32)
    live = np.arange(T) < length[:, None]
    cotangent = cotangent[0], cotangent[1] * live[..., None, None]
    mapped = jax.vmap(
        lambda *args: with_gradients(unroll, cell, params, *args)[1],
    )(state, window, cotangent, length)
    for index in range(3):
        pick = partial(jax.tree.map, lambda leaf, at=index: leaf[at])
        _, expected = with_gradients(
            plain_scan,
            cell,
            params,
            *pick((state, window, cotangent)),
            length[index],
        )
        assert_close(pick(mapped), expected)


@every_cell_and_variant
def test_padding_changes_nothing(name):
    cell, params, state, window, (ct_state, ct_outputs) = draw(name)
    lengths = np.array([1, 4, 4])  # two programs of the plain scan
    live = (np.arange(T)[:, None] < lengths)[..., None]
    window = jnp.where(live, window, 1e3 * window)
    ct_outputs *= live
    (last, outputs), (params_grad, state_grad, window_grad) = with_gradients(
        unroll, cell, params, state, window, (ct_state, ct_outputs), lengths
    )

    assert_close(window_grad * ~live, jnp.zeros_like(window_grad))
    params_grads = []
    for b, s in enumerate(lengths):

        def column(tree, b=b):
            return jax.tree.map(lambda leaf: leaf[b : b + 1], tree)

        def true_part(array, b=b, s=s):
            return array[:s, b : b + 1]

        expected, grads = with_gradients(
            plain_scan,
            cell,
            params,
            column(state),
            true_part(window),
            (column(ct_state), true_part(ct_outputs)),
        )
        assert_close((column(last), true_part(outputs)), expected)
        assert_close((column(state_grad), true_part(window_grad)), grads[1:])
        params_grads.append(grads[0])
    assert_close(params_grad, jax.tree.map(lambda *each: sum(each), *params_grads))


def scans_and_products(run, name):
    """What the scans of a gradient carry, and the products inside and outside them."""
    cell, params, state, window, cotangent = draw(name)
    jaxpr = jax.make_jaxpr(partial(with_gradients, run, cell))(
        params, state, window, cotangent
    )
    carried, inside, outside = [], [], []

    def visit(jaxpr, in_scan):
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == "scan":
                # What is stacked over time has an axis more than a matrix.
                carried.extend(v.aval.shape for v in eqn.outvars)
            # Of few tokens it is no matrix product but a sum of outer ones.
            if eqn.primitive.name == "dot_general" or (
                in_scan and eqn.primitive.name == "mul"
            ):
                (inside if in_scan else outside).append(eqn.outvars[0].aval.shape)
            for value in eqn.params.values():
                if hasattr(value, "eqns"):
                    visit(value, in_scan or eqn.primitive.name == "scan")

    visit(jaxpr, in_scan=False)
    # Those of the step, of which a parameter may hold several, and the projection's.
    matrices = [weight[0].shape for weight in recorded_weights(name)[0]]
    matrices.append(params.input.shape)
    shapes = {*matrices, *(shape[::-1] for shape in matrices)}
    return [
        [shape for shape in found if shape in shapes]
        for found in (carried, inside, outside)
    ]


@every_cell_and_variant
def test_each_matrix_gradient_is_formed_once_and_outside_the_scans(name):
    carried, inside, outside = scans_and_products(unroll, name)
    assert not carried, f"a scan adds up gradients of the shapes {carried}"
    assert not inside, f"a scan forms gradients of the shapes {inside}"
    weights = recorded_weights(name)[0]
    assert len(outside) >= len(weights) > 0


def test_the_plain_scan_does_form_them_at_every_step():
    carried, inside, _ = scans_and_products(plain_scan, "lstm")
    assert (H, 4 * H) in carried
    assert inside


# `affine` is for weights alone.


def recorded_weights(name=None, cell=None):
    """The weights that one step hands to `affine`, those that are not weights apart.

    A weight depends on the parameters alone; what depends on state or input is none.
    """
    cell = cell or make(name, INPUTS, H)
    params, state = cell.init(jax.random.key(0)), cell.initial_state(B)
    drive = jax.tree.map(
        lambda leaf: leaf[0], cell.project_inputs(params, jnp.zeros((1, B, INPUTS)))
    )

    def step(params, state, drive):
        weights = []

        def record(x, matrix, bias=None):
            weights.append([matrix] if bias is None else [matrix, bias])
            return affine(x, matrix, bias)

        cell.step(params, state, drive, record)
        return weights

    closed, shapes = jax.make_jaxpr(step, return_shape=True)(params, state, drive)
    variable = closed.jaxpr.invars[len(jax.tree.leaves(params)) :]
    tainted = set(variable)
    for eqn in closed.jaxpr.eqns:
        if any(v in tainted for v in eqn.invars if not hasattr(v, "val")):
            tainted.update(eqn.outvars)
    outputs = [v for v in closed.jaxpr.outvars if not hasattr(v, "val")]
    return shapes, [v.aval.shape for v in outputs if v in tainted]


@every_cell_and_variant
def test_affine_is_given_weights_alone(name):
    weights, no_weights = recorded_weights(name)
    assert weights
    assert not no_weights, f"{no_weights} depend on state or input: use a plain @"


@pytest.mark.parametrize("culprit", ["state", "drive"])
def test_a_matrix_made_of_state_or_input_is_found_out(culprit):
    lstm = CELLS["lstm"](INPUTS, H)

    def step(params, state, drive, affine=affine):
        gate = jnp.mean(state.hidden if culprit == "state" else drive)
        hidden = affine(state.hidden, params.recurrent * gate)
        return lstm.step(params, state.replace(hidden=hidden[:, :H]), drive, affine)

    culprit_cell = lstm._replace(step=step)
    _, no_weights = recorded_weights(cell=culprit_cell)
    assert (H, 4 * H) in no_weights
    arguments = lstm.init(jax.random.key(0)), lstm.initial_state(B)
    with pytest.raises(UsageError, match="matrix or bias that depends on the state"):
        unroll(culprit_cell, *arguments, jnp.ones((T, B, INPUTS)))


def bare_cell(step):
    """A cell of one matrix whose input is its projection."""
    return Cell(
        lambda key: jax.random.normal(key, (H, H)),
        lambda batch_size: jnp.zeros((batch_size, H)),
        lambda params, window: window,
        step,
    )


def test_a_bias_that_is_the_projection_is_refused_under_jit_too():
    def step(matrix, state, projection, affine=affine):
        state = jnp.tanh(affine(state, matrix, projection))
        return state, state

    cell = bare_cell(step)
    loss = jax.grad(lambda matrix, *rest: unroll(cell, matrix, *rest)[1].sum())
    with pytest.raises(UsageError, match="matrix or bias that depends on the state"):
        jax.eval_shape(loss, jnp.eye(H), jnp.zeros((B, H)), jnp.ones((T, B, H)))


def test_a_weight_may_be_computed_and_the_state_printed():
    printed = []

    def step(matrix, state, projection, affine=affine):
        jax.debug.callback(printed.append, state)
        state = jnp.tanh(affine(state, 2 * matrix) + projection)
        return state, state

    unroll(bare_cell(step), jnp.eye(H), jnp.zeros((B, H)), jnp.ones((T, B, H)))
    jax.effects_barrier()
    assert printed


def test_a_step_may_call_what_cannot_be_mapped():
    def step(matrix, state, projection, affine=affine):
        state = jnp.tanh(affine(state, matrix) + projection)
        shape = jax.ShapeDtypeStruct(state.shape, state.dtype)
        return state, jax.pure_callback(lambda x: np.asarray(x), shape, state)

    arguments = jnp.eye(H), jnp.zeros((B, H)), jnp.ones((T, B, H))
    _, found = unroll(bare_cell(step), *arguments)
    plain = bare_cell(lambda *arguments: (step(*arguments)[0],) * 2)
    np.testing.assert_array_equal(found, unroll(plain, *arguments)[1])


def test_a_state_may_hold_a_number():
    def step(matrix, state, projection, affine=affine):
        hidden, count = state
        hidden = jnp.tanh(affine(hidden, matrix) + projection)
        return (hidden, count + 1), hidden

    arguments = jnp.eye(H), (jnp.zeros((B, H)), jnp.int32(0)), jnp.ones((T, B, H))
    for length in (None, 2):
        (_, count), _ = unroll(bare_cell(step), *arguments, length)
        assert count == (T if length is None else length)
    with pytest.raises(UsageError, match="cannot have a length for each sequence"):
        unroll(bare_cell(step), *arguments, np.full(B, 2))


def test_dtypes_that_are_not_promoted_are_named():
    cell, params, state, window, _ = draw("lstm")
    narrow = jax.tree.map(lambda leaf: leaf.astype(jnp.float8_e4m3fn), params)
    with pytest.raises(UsageError, match="promote float32, float8_e4m3fn; cast"):
        unroll(cell, narrow, state, window)


# Properties of the recurrence.


@every_cell_and_variant
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_state_in_is_state_out(name, dtype):
    cell, *values, _ = draw(name)
    params, state, window = jax.tree.map(lambda leaf: leaf.astype(dtype), values)
    with jax.numpy_dtype_promotion("strict"):
        last, outputs = forward(cell, params, state, window)
    assert jax.tree.structure(last) == jax.tree.structure(state)
    for new, old in zip(jax.tree.leaves(last), jax.tree.leaves(state), strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert not np.array_equal(new, old)
    assert (outputs.shape, outputs.dtype) == ((T, B, H), dtype)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 2.5}, r"the length is float64\[\]; it must be an integer"),
        ({"length": np.ones(B + 1, int)}, "one for each of 3 sequences"),
        ({"length": T + 1}, r"the length is 7; it must be in 0 \.\. 6"),
        ({"length": -1}, "the length is -1"),
        ({"window": np.ones((0, B, INPUTS))}, "with T and B at least 1"),
        ({"state": make("lstm", INPUTS, H).initial_state(1)}, "the window's B, 3"),
    ],
)
def test_what_does_not_fit_a_window_is_refused(changes, message):
    cell = make("lstm", INPUTS, H)
    arguments = {
        "params": cell.init(jax.random.key(0)),
        "state": cell.initial_state(B),
        "window": np.ones((T, B, INPUTS), np.float32),
    }
    with pytest.raises(UsageError, match=message):
        unroll(cell, **arguments | changes)


@pytest.mark.thorough
def test_the_gradient_of_a_bias_in_half_precision_is_summed_in_float32():
    """In bfloat16 a sum of 8,000 terms stops growing."""
    cell = make("lstm", INPUTS, H)
    params = jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16), cell.init(jax.random.key(0))
    )

    @jax.jit
    @jax.grad
    def gradient(params):
        dtype = params.input.dtype
        state = jax.tree.map(lambda leaf: leaf.astype(dtype), cell.initial_state(4))
        window = jnp.full((2_000, 4, INPUTS), 0.1, dtype)
        return unroll(cell, params, state, window)[1].astype(jnp.float32).sum()

    expected = gradient(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params))
    for name in ("input_bias", "recurrent_bias"):
        found = getattr(gradient(params), name).astype(jnp.float32)
        np.testing.assert_allclose(found, getattr(expected, name), rtol=0.04, atol=4)


def test_a_wider_bias_widens_what_it_is_added_to():
    half = jnp.ones((2, 2), jnp.bfloat16)
    assert affine(half, half, jnp.ones(2)).dtype == jnp.float32
    assert affine(half, half, jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def test_integers_and_keys_have_no_gradient():
    """Among the parameters and in the state, of whatever rank its arrays are."""
    lstm, *values, (last, outputs) = draw("lstm")
    fixed = {"table": jnp.arange(3), "key": jax.random.key(1)}

    def step(params, state, projection, affine=affine):
        state, deep, count = state
        state, output = lstm.step(params["own"], state, projection, affine)
        return (state, deep + output[..., None], count + params["table"][1]), output

    def project_inputs(params, window):
        return lstm.project_inputs(params["own"], window)

    cell = lstm._replace(project_inputs=project_inputs, step=step)
    params, state, window = values
    deep, count = jnp.zeros((B, H, 1)), jnp.zeros((B, 1), int)

    @jax.jit
    def gradient(params, state, deep):
        def run(own, state, deep):
            everything = fixed | {"own": own}
            length = jnp.array([T, 3, 1])
            after = unroll(cell, everything, (state, deep, count), window, length)
            return (after[0][:2], after[1]), after[0][2]

        _, pull, counts = jax.vjp(run, params, state, deep, has_aux=True)
        return pull(((last, deep + 1), outputs)), counts

    @jax.jit
    def plain(params, state, deep):
        def run(own, state, deep):
            length = jnp.array([T, 3, 1])
            after, outputs = plain_scan(lstm, own, state, window, length)
            live = jnp.arange(T)[:, None, None] < length[None, :, None]
            total = deep + jnp.sum(outputs * live, axis=0)[..., None]
            return (after, total), outputs

        return jax.vjp(run, params, state, deep)[1](((last, deep + 1), outputs))

    found, counts = gradient(params, state, deep)
    assert counts.ravel().tolist() == [T, 3, 1]
    assert_close(found, plain(params, state, deep))

    everything = fixed | {"own": params}
    _, pull = jax.vjp(
        lambda params: unroll(cell, params, (state, deep, count), window)[1], everything
    )
    (grads,) = pull(outputs)
    assert {grads[name].dtype for name in fixed} == {jax.dtypes.float0}


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_narrower_state_is_widened(dtype):
    cell, params, _, window, _ = draw("lstm")
    state = cell.initial_state(B)
    narrow = jax.tree.map(lambda leaf: leaf.astype(dtype), state)
    found, expected = (forward(cell, params, each, window) for each in (narrow, state))
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@every_cell_and_variant
def test_the_initial_state_is_zeros_one_a_sequence(name):
    for leaf in jax.tree.leaves(make(name, INPUTS, H).initial_state(B)):
        assert leaf.shape[0] == B
        assert leaf.dtype == jnp.float32
        assert not leaf.any()


@every_cell_and_variant
def test_parameters_are_drawn_independently(name):
    cell = make(name, H, H)  # where shapes agree, so would values of one key
    params, others = (jax.tree.leaves(cell.init(jax.random.key(s))) for s in (0, 1))
    drawn = [p for p in params if np.unique(p).size > 1]
    assert drawn
    for index, leaf in enumerate(drawn):
        assert leaf.dtype == jnp.float32
        assert not any(np.isin(leaf, other).all() for other in drawn[:index])
    assert any(not np.array_equal(p, q) for p, q in zip(params, others, strict=True))


@every_cell_and_variant
def test_two_halves_equal_the_whole(name):
    cell, params, state, window, _ = draw(name)
    whole = forward(cell, params, state, window)
    middle, first = forward(cell, params, state, window[: T // 2])
    last, second = forward(cell, params, middle, window[T // 2 :])
    assert_close((last, jnp.concatenate([first, second])), whole, rtol=1e-6)


@every_cell_and_variant
def test_no_output_depends_on_later_inputs_or_on_other_sequences(name):
    cell, params, state, window, _ = draw(name)
    # d outputs[t, b] / d inputs[t', b'], features summed.
    slopes = jax.jit(
        jax.jacrev(
            lambda window: jnp.sum(unroll(cell, params, state, window)[1], axis=-1)
        )
    )(window)
    reach = np.any(np.asarray(slopes) != 0, axis=-1)
    for t in range(T):
        assert not reach[t, :, t + 1 :].any()
        for b in range(B):
            assert reach[t, b, : t + 1, b].all()
            assert not np.delete(reach[t, b], b, axis=-1).any()


@every_cell_and_variant
def test_weight_drop_reaches_the_cell(name):
    cell, params, state, window, cotangent = draw(name)
    mask = jnp.asarray(np.random.default_rng(0).integers(0, 2, params.recurrent.shape))
    mask = mask.astype(jnp.float32)

    def dropped(cell, raw, *args, length=None):
        in_force = params.replace(recurrent=raw * mask)
        return unroll(cell, in_force, *args, length=length)

    (_, outputs), (grad, *_) = with_gradients(
        dropped, cell, params.recurrent, state, window, cotangent
    )
    _, without = forward(cell, params, state, window)
    assert not np.allclose(outputs, without, atol=1e-3)
    assert not grad[mask == 0].any()
    assert grad[mask == 1].all()


@every_cell_and_variant
def test_a_state_mask_reaches_the_cell(name):
    cell, params, state, window, cotangent = draw(name)
    assert params.mask is None
    masked = params.replace(mask=jnp.ones((B, H)))
    result, (grads, *_) = with_gradients(unroll, cell, masked, state, window, cotangent)
    assert_close(result, forward(cell, params, state, window), rtol=1e-6)
    assert grads.mask.all()


@every_cell
def test_a_second_call_does_not_retrace(name):
    cell, params, _, window, cotangent = draw(name)
    traces = []

    @jax.jit
    def run(params, state, window, cotangent, length):
        traces.append(length)
        return with_gradients(unroll, cell, params, state, window, cotangent, length)

    state = cell.initial_state(B)
    for length in (np.int32(3), np.int32(T)):
        (state, _), _ = run(params, state, window, cotangent, length)
    assert len(traces) == 1


def test_a_cell_is_a_tuple_of_functions():
    assert all(isinstance(make(INPUTS, H), Cell) for make in CELLS.values())
