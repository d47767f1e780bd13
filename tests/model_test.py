"""The model against its equations, growth, noise, and where training starts."""

import math
from dataclasses import replace
from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from glrnn.cells import CELLS, affine
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.ground.dropout import LayerMasks, Masks, draw_masks
from glrnn.heads import HEADS
from glrnn.model import Params, dropout_rates, grow, language_model

V, E, H, K, T, B = 11, 4, 4, 3, 7, 2
DEPTHS = (1, 2, 3)
# Of cells that are deep in themselves, which takes long to compile.
DEPTH = {"rhn": 2, "mogrifier": 2}


def make_config(head="mixture", cell="lstm", **settings):
    return Config(
        embedding_size=E,
        layers=(Layer(cell, H, DEPTH.get(cell)),) * len(DEPTHS),
        head=head,
        num_softmaxes=K if head == "mixture" else 1,
        cutoffs=(3, 7) if head == "adaptive" else (),
        phases=tuple(
            Phase(n, Dropout(hidden=(0.0,) * (n - 1)), main=Stage(epochs=1))
            for n in DEPTHS
        ),
        **settings,
    )


def make_model(num_layers=2, **choices):
    return language_model(make_config(**choices), V, num_layers)


def make_window(length=T, num_steps=T):
    """A window whose padding is not zeros, so that nobody relies on it."""
    stream = np.random.default_rng(0).integers(0, V, (T + 1, B)).astype(np.int32)
    return Window(stream[:num_steps], stream[1 : num_steps + 1], np.int32(length))


def make_noise(model, rate=0.3):
    """Every mask there is, those on the states included."""
    shapes = model.mask_shapes(B, T)
    rates = jax.tree.map(lambda shape: rate, shapes)
    return draw_masks(jax.random.key(0), rates, shapes)


def make_ones(model):
    return jax.tree.map(lambda mask: np.ones(mask.shape, "f"), model.mask_shapes(B, T))


@partial(jax.jit, static_argnums=0)
def initial_params(model, seed):
    return model.init(jax.random.key(seed))


@cache
def start(model):
    """Parameters, and a carry that is not zeros."""
    rng = np.random.default_rng(0)
    carry = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype("f"), model.initial_carry(B)
    )
    return initial_params(model, 0), carry


# Compiled once for each structure and shape of noise and window: tests share them.
@partial(jax.jit, static_argnums=0)
def loss_and_gradient(model, params, carry, window, noise=None):
    def loss(params):
        outcome = model.apply(params, carry, window, noise)
        # The outputs' gradient counts as well: regularisers act on them.
        live = (jnp.arange(len(outcome.outputs)) < window.length)[:, None, None]
        return outcome.nll + 0.1 * jnp.sum(live * outcome.dropped**2), outcome

    return jax.value_and_grad(loss, has_aux=True)(params)


def outcome_of(model, *args):
    return loss_and_gradient(model, *args)[0][1]


def assert_close(actual, expected, rtol=1e-5):
    """Equal to `rtol` of the largest element of each array."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, e = np.asarray(a), np.asarray(e)
        assert a.shape == e.shape
        scale = float(np.max(np.abs(e), initial=1e-6))
        np.testing.assert_allclose(a, e, rtol=0, atol=rtol * scale)


def assert_equal(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


# Against the equations.


def reference(params, input_table, carry, window, noise):
    """The mixture's model on the true part of a window, with an input table apart."""
    s = int(window.length)
    inputs, targets = window.inputs[:s], window.targets[:s]
    x = (input_table * noise.embedding)[inputs] * noise.input
    states = []
    for layer, state, masks in zip(params.layers, carry, noise.layers, strict=True):
        cell = CELLS["lstm"](x.shape[-1], H)
        in_force = layer.replace(
            recurrent=layer.recurrent * masks.recurrent, mask=masks.state
        )

        def step(state, drive, cell=cell, in_force=in_force):
            return cell.step(in_force, state, drive, affine)

        state, outputs = lax.scan(step, state, cell.project_inputs(in_force, x))
        states.append(state)
        x = outputs * masks.output
    head, (table, bias) = params.head, (params.embedding.table, params.embedding.bias)
    latents = jnp.tanh(x @ head.latent + head.latent_bias[None, None]) * noise.latent
    latents = latents.reshape(s, B, K, E)
    logits = jnp.einsum("tbke,ve->tbkv", latents, table) + bias[None, None, None]
    prior = jax.nn.softmax(x @ head.prior)[..., None]
    p = jnp.sum(prior * jax.nn.softmax(logits), axis=2)
    nll = -jnp.mean(jnp.log(jnp.take_along_axis(p, targets[..., None], axis=-1)))
    return nll, tuple(states), outputs, x


def test_the_model_is_its_equations_and_the_tied_gradient_a_sum():
    model = make_model()
    params, carry = start(model)
    window, noise = make_window(length=4), make_noise(model)

    @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def reference_loss(params, input_table):
        nll, *rest = reference(params, input_table, carry, window, noise)
        return nll + 0.1 * jnp.sum(rest[-1] ** 2), (nll, *rest)

    (value, expected), (grads, input_grad) = jax.jit(reference_loss)(
        params, params.embedding.table
    )
    (loss, outcome), actual = loss_and_gradient(model, params, carry, window, noise)
    nll, states, outputs, dropped = outcome
    assert_close(loss, value)
    assert_close((nll, states, outputs[:4], dropped[:4]), expected)

    assert input_grad.any()
    assert grads.embedding.table.any()
    tied = grads.embedding.table + input_grad
    embedding = grads.embedding.replace(table=tied)
    assert_close(actual, grads.replace(embedding=embedding))


@pytest.mark.parametrize(
    "head",
    [
        "mixture",
        *(
            pytest.param(head, marks=pytest.mark.thorough)
            for head in sorted(HEADS.keys() - {"mixture"})
        ),
    ],
)
def test_a_padded_window_equals_the_unpadded(head):
    model = make_model(head=head)
    noise = make_noise(model)
    ((loss, actual), grads), ((exact_loss, expected), exact_grads) = (
        loss_and_gradient(model, *start(model), window, noise)
        for window in (make_window(4), make_window(4, num_steps=4))
    )
    assert_close((loss, actual.nll, actual.carry), (exact_loss, *expected[:2]))
    assert_close(grads, exact_grads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.full((T, B), V)}, r"inputs holds the id 11; .* 0 \.\. 10"),
        ({"targets": np.full((T, B), -1)}, "targets holds the id -1"),
        ({"targets": np.full((T, B), 2**32)}, f"targets holds the id {2**32}"),
        ({"inputs": np.ones((T, B))}, "inputs has dtype float64"),
        ({"inputs": np.ones(T, int)}, r"inputs has shape \(7,\)"),
        ({"length": T + 1}, r"length is 8; it must be in 0 \.\. 7"),
        ({"length": -1}, "length is -1"),
        ({"length": 2.5}, "length is 2.5; it must be an integer"),
        ({"inputs": np.ones((T, 1), int)}, r"\(7, 1\) and its targets"),
        ({"length": np.full(B, T)}, "length has the shape .* must be one integer"),
    ],
)
def test_a_window_that_is_not_ids_is_refused(changes, message):
    model = make_model()
    with pytest.raises(UsageError, match=message):
        model.apply(*start(model), make_window()._replace(**changes))


@pytest.mark.parametrize(
    "temperature", [0, -1.0, math.nan, math.inf, 1e-40, "1", [1.0]]
)
def test_a_temperature_that_is_none_is_refused(temperature):
    model = make_model()
    with pytest.raises(UsageError, match="it must be above 0"):
        model.apply(*start(model), make_window(), temperature=temperature)


@pytest.mark.parametrize(
    ("words", "sequences"), [(V - 1, B), (V, B + 1), (V, 1 if B > 1 else 2)]
)
def test_masks_of_other_sizes_are_refused(words, sequences):
    """Under jit too, where an index beyond a mask would be clamped."""
    model = make_model()
    masks = Masks(
        embedding=jnp.ones((words, 1)),
        input=jnp.ones((1, sequences, E)),
        layers=(LayerMasks(),) * 2,
    )
    with pytest.raises(UsageError, match=r"masks\.(embedding|input) has the shape"):
        jax.eval_shape(model.apply, *start(model), make_window(), masks)


def test_masks_of_every_step_and_sequence_are_taken():
    model = make_model()
    params, carry = start(model)
    layers = (LayerMasks(),) * 2
    shared = Masks(jnp.ones((V, 1)), jnp.ones((1, B, E)), layers)
    each = Masks(jnp.ones((V, B)), jnp.ones((T, B, E)), layers)
    first, second = (
        model.apply(params, list(carry), make_window(), masks).nll
        for masks in (shared, each)
    )
    assert first == second


def test_the_masks_and_the_carry_of_another_network_are_refused():
    model = make_model()
    params, carry = start(model)
    with pytest.raises(UsageError, match="masks are those of 0 layers; the network ha"):
        model.apply(params, carry, make_window(), Masks())
    with pytest.raises(UsageError, match="the carry is not that of the network"):
        model.apply(params, carry[:1], make_window())


def test_the_parameters_of_another_network_are_refused():
    """Under jit too, where an id beyond the table would be clamped."""
    model, other = make_model(1), language_model(make_config(), V + 5, 1)
    params = jax.eval_shape(other.init, jax.random.key(0))
    arguments = model.initial_carry(B), make_window()
    with pytest.raises(UsageError, match=r"params\.embedding\.table has the shape"):
        jax.eval_shape(model.apply, params, *arguments)
    deeper = jax.eval_shape(make_model(2).init, jax.random.key(0))
    with pytest.raises(UsageError, match=r"params\.layers\[1\].*nothing there"):
        jax.eval_shape(model.apply, deeper, *arguments)


@pytest.mark.parametrize(
    ("vocabulary_size", "num_layers", "message"),
    [
        (0, 1, "vocabulary_size is 0"),
        (9, 0, "num_layers is 0; the config has 3 layers"),
        (9, 4, "num_layers is 4"),
        (9, -1, "num_layers is -1"),
        (9.0, 1, "the vocabulary size must be an integer, got 9.0"),
        (9, 1.0, "the number of layers must be an integer, got 1.0"),
    ],
)
def test_a_network_that_there_is_not_is_refused(vocabulary_size, num_layers, message):
    with pytest.raises(UsageError, match=message):
        language_model(Config(), vocabulary_size, num_layers)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_computed_with_in_float32(dtype):
    model = make_model(1, head="softmax")
    params, carry = start(model)
    half = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), half)

    @jax.jit
    def run(params):
        return jax.value_and_grad(
            lambda params: model.apply(params, carry, make_window()).nll
        )(params)

    (found, grads), (expected, exact) = run(half), run(wide)
    assert found == expected
    jax.tree.map(
        lambda grad, wide: np.testing.assert_array_equal(grad, wide.astype(dtype)),
        grads,
        exact,
    )


def test_a_table_in_float64_has_a_gradient():
    """Under JAX_ENABLE_X64 the carry is float64 as well."""
    model = make_model(1, head="softmax")
    params = initial_params(model, 0)
    with jax.enable_x64(True):
        table = params.embedding.table.astype(jnp.float64)
        wide = params.replace(embedding=params.embedding.replace(table=table))
        rest = model.initial_carry(B), make_window()
        gradient = jax.grad(lambda params: model.apply(params, *rest).nll)
        for given in (params, wide):
            grads = jax.eval_shape(gradient, given)
            dtypes = [jax.tree.map(jnp.result_type, each) for each in (grads, given)]
            assert dtypes[0] == dtypes[1]


def test_two_windows_equal_one():
    model = make_model()
    params, carry = start(model)
    whole, ones = make_window(), make_ones(model)
    first = Window(whole.inputs[:4], whole.targets[:4], np.int32(4))
    second = Window(
        np.pad(whole.inputs[4:], ((0, 1), (0, 0))),
        np.pad(whole.targets[4:], ((0, 1), (0, 0))),
        np.int32(3),
    )
    expected = outcome_of(model, params, carry, whole, ones)
    one = outcome_of(model, params, carry, first, ones)
    two = outcome_of(model, params, one.carry, second, ones)
    assert_close(two.carry, expected.carry)
    assert_close((4 * one.nll + 3 * two.nll) / 7, expected.nll)


# Masks.


def test_no_noise_equals_masks_of_ones():
    model = make_model()
    args = *start(model), make_window()
    assert_close(
        loss_and_gradient(model, *args, make_ones(model)),
        loss_and_gradient(model, *args),
        rtol=1e-6,
    )


def zeroed(noise, name):
    """Masks with one mask of zeros; in a layer, that of the first."""
    if name in LayerMasks._fields:
        first, *rest = noise.layers
        first = first._replace(**{name: 0 * getattr(first, name)})
        return noise._replace(layers=(first, *rest))
    return noise._replace(**{name: 0 * getattr(noise, name)})


@pytest.mark.parametrize(
    "name", ["embedding", "input", "recurrent", "state", "output", "latent"]
)
def test_a_mask_reaches_every_place(name):
    model = make_model()
    args, ones = (*start(model), make_window()), make_ones(model)
    outcome = outcome_of(model, *args, zeroed(ones, name))
    without = outcome_of(model, *args, ones)
    assert outcome.nll != without.nll
    unchanged = np.array_equal(outcome.outputs, without.outputs)
    assert unchanged == (name == "latent")


def test_the_last_layers_output_mask_acts_on_what_the_head_and_ar_see():
    model = make_model()
    noise = make_ones(model)
    mask = np.full((1, B, H), 2.0, "f")
    mask[0, 0, 0] = 0
    noise = noise._replace(
        layers=(noise.layers[0], noise.layers[1]._replace(output=mask))
    )
    outcome = outcome_of(model, *start(model), make_window(), noise)
    assert_equal(outcome.dropped, np.asarray(outcome.outputs) * mask)
    assert outcome.outputs.all()


def test_embedding_dropout_is_on_the_input_side_only():
    model = make_model()
    params, carry = start(model)
    inputs = np.arange(T * B, dtype=np.int32).reshape(T, B) % 5
    window = Window(inputs, inputs + 5, np.int32(T))
    ones = make_ones(model)
    without = outcome_of(model, params, carry, window, ones)

    targets_dropped = ones._replace(embedding=ones.embedding.copy())
    targets_dropped.embedding[5:] = 0
    (_, outcome), grads = loss_and_gradient(
        model, params, carry, window, targets_dropped
    )
    assert_close(outcome, without, rtol=1e-6)
    assert np.asarray(grads.embedding.table)[5:].any(axis=1).all()

    one_dropped = ones._replace(embedding=ones.embedding.copy())
    one_dropped.embedding[3] = 0
    outcome = outcome_of(model, params, carry, window, one_dropped)
    table = np.array(params.embedding.table)
    table[3] = 0
    moved = params.replace(embedding=params.embedding.replace(table=table))
    expected = outcome_of(model, moved, carry, window, ones)
    assert_close(outcome.outputs, expected.outputs, rtol=1e-6)
    assert abs(outcome.nll - expected.nll) > 1e-4  # the head keeps row 3


def test_evaluation_has_no_randomness_in_it():
    model = make_model()
    args = *start(model), make_window()
    assert_equal(outcome_of(model, *args), outcome_of(model, *args))
    assert "random" not in str(jax.make_jaxpr(model.apply)(*args))


# What other recipes ask for.


@pytest.mark.thorough
def test_masks_can_be_drawn_for_every_step():
    model = make_model(masks_per_step=True)
    noise = make_noise(model)
    steps = [noise.input, noise.latent, *(layer.output for layer in noise.layers)]
    assert {mask.shape[0] for mask in steps} == {T}
    assert all((mask[0] != mask[1]).any() for mask in steps)
    args = *start(model), make_window()
    nll, _, _, dropped = jax.jit(
        lambda params, noise: reference(
            params, params.embedding.table, *args[1:], noise
        )
    )(args[0], noise)
    outcome = outcome_of(model, *args, noise)
    assert_close((outcome.nll, outcome.dropped), (nll, dropped))


def test_each_sequence_can_be_without_words_of_its_own():
    model = make_model(word_masks_per_sequence=True)
    params, carry = start(model)
    window, ones = make_window(), make_ones(model)
    assert ones.embedding.shape == (V, B)
    word = window.inputs[2, 1]
    ones.embedding[word, 1] = 0
    dropped = outcome_of(model, params, carry, window, ones).outputs
    table = np.array(params.embedding.table)
    table[word] = 0
    moved = params.replace(embedding=params.embedding.replace(table=table))
    for column, expected in ((0, params), (1, moved)):
        outputs = outcome_of(make_model(), expected, carry, window).outputs
        assert_close(dropped[:, column], outputs[:, column], rtol=1e-6)
        assert column == 0 or np.any(window.inputs[:, column] == word)


def test_a_sequence_can_forget_what_came_before():
    model = make_model()
    params, carry = start(model)
    args, ones = (make_window(),), make_ones(model)
    forgetful = ones._replace(carry=np.array([[0.0], [1.5]], "f"))
    outputs = outcome_of(model, params, carry, *args, forgetful).outputs
    cold = outcome_of(model, params, model.initial_carry(B), *args).outputs
    warm = outcome_of(model, params, carry, *args).outputs
    assert_close(outputs[:, 0], cold[:, 0], rtol=1e-6)
    assert_close(outputs[:, 1], warm[:, 1], rtol=1e-6)
    assert not np.allclose(cold[:, 0], warm[:, 0])


def test_the_head_can_see_the_sum_of_all_layers():
    model = make_model(sum_outputs=True)
    params, carry = start(model)
    args = make_window(), make_noise(model)
    outcome = outcome_of(model, params, carry, *args)
    sums = 0
    for depth in (1, 2):
        layers = params.layers[:depth]
        noise = args[1]._replace(layers=args[1].layers[:depth])
        below = outcome_of(
            make_model(depth),
            params.replace(layers=layers),
            carry[:depth],
            args[0],
            noise,
        )
        sums = sums + below.outputs
    assert_close(outcome.outputs, sums)
    assert_close(outcome.dropped, sums * args[1].layers[-1].output)
    assert outcome.nll != below.nll


@pytest.mark.thorough
def test_a_temperature_divides_the_logits():
    model = make_model(head="softmax")
    params, carry = start(model)
    window = make_window()
    outputs = outcome_of(model, params, carry, window).outputs
    bias = params.embedding.bias[None, None]

    @jax.jit
    def tempered_nll(*args, temperature):
        return model.apply(*args, temperature=temperature).nll

    for temperature in (0.5, 1.0, 2.0):
        logits = (outputs @ params.embedding.table.T + bias) / temperature
        log_p = jax.nn.log_softmax(logits)
        expected = -jnp.mean(
            jnp.take_along_axis(log_p, window.targets[..., None], axis=-1)
        )
        nll = tempered_nll(params, carry, window, temperature=temperature)
        assert_close(nll, expected)


def test_an_embedding_can_start_from_a_normal_distribution():
    config = replace(make_config(), embedding_bound=None)
    model = language_model(config, 4000, 1)
    table = np.asarray(initial_params(model, 0).embedding.table)
    np.testing.assert_allclose(table.std(), E**-0.5, rtol=0.02)
    assert np.abs(table).max() < 2.3 * E**-0.5  # of the normal before it is truncated


# Growth.


def trained(num_layers):
    """Parameters none of which are initial ones: biases start at zero everywhere."""
    params = initial_params(make_model(num_layers), 1)
    return jax.tree.map(lambda p: np.asarray(p) + 1, params)


@pytest.mark.parametrize(("depth", "num_inherited"), [(2, 9), (3, 13)])
def test_growth_inherits_all_but_the_new_layer(depth, num_inherited):
    before, fresh = trained(depth - 1), initial_params(make_model(depth), 2)
    grown = grow(before, fresh)
    assert jax.tree.structure(grown) == jax.tree.structure(fresh)
    bits = {leaf.tobytes() for leaf in jax.tree.leaves(before)}
    inherited = [np.asarray(leaf).tobytes() in bits for leaf in jax.tree.leaves(grown)]
    assert sum(inherited) == num_inherited
    assert len(inherited) == num_inherited + 4
    assert_equal(grown, Params(before.embedding, grown.layers, before.head))
    assert_equal(grown.layers, (*before.layers, fresh.layers[-1]))


def test_what_does_not_grow_is_refused():
    shapes = [jax.eval_shape(make_model(n).init, jax.random.key(0)) for n in (1, 2)]
    with pytest.raises(UsageError, match="of 2 layers does not grow to 1"):
        grow(*shapes[::-1])
    other = jax.eval_shape(
        language_model(make_config(), V + 5, 2).init, jax.random.key(0)
    )
    with pytest.raises(UsageError, match=r"params\.embedding\.table has the shape"):
        grow(shapes[0], other)


def test_growth_can_begin_with_a_random_head():
    before, fresh = trained(1), initial_params(make_model(2), 2)
    grown = grow(before, fresh, inherit_head=False)
    layers = before.layers[0], fresh.layers[1]
    assert_equal(grown, Params(before.embedding, layers, fresh.head))


@pytest.mark.parametrize(
    ("cell", "head"),
    [
        pytest.param(
            *pair, marks=() if pair == ("lstm", "softmax") else pytest.mark.thorough
        )
        for pair in sorted({*product(CELLS, ["softmax"]), *product(["lstm"], HEADS)})
    ],
)
def test_every_cell_grows_and_one_step_lowers_its_loss(cell, head):
    models = [make_model(n, cell=cell, head=head) for n in (1, 2)]
    params = grow(*(initial_params(model, n) for n, model in enumerate(models)))
    args = models[1].initial_carry(B), make_window()
    (loss, _), grads = loss_and_gradient(models[1], params, *args)
    assert all(grad.any() for grad in jax.tree.leaves(grads))
    params = jax.tree.map(lambda p, g: np.asarray(p) - 0.1 * g, params, grads)
    assert loss_and_gradient(models[1], params, *args)[0][0] < loss


# Where training starts.


def test_three_layers_and_a_mixture_have_the_authors_17_arrays():
    params = initial_params(make_model(3), 0)
    assert len(jax.tree.leaves(params)) == 17
    assert [len(jax.tree.leaves(group)) for group in params.layers] == [4, 4, 4]
    assert len(jax.tree.leaves(params.embedding)) == 2
    assert len(jax.tree.leaves(params.head)) == 3


def test_initial_values_have_pytorchs_ranges():
    hidden_size, embedding_size, vocabulary_size = 64, 50, 200
    config = Config(
        embedding_size=embedding_size,
        layers=(Layer(hidden_size=hidden_size),),
        head="mixture",
        num_softmaxes=K,
        phases=(Phase(main=Stage(epochs=1)),),
    )
    params = jax.device_get(
        initial_params(language_model(config, vocabulary_size, 1), 0)
    )
    assert not params.embedding.bias.any()
    bounds = Params(embedding=0.1, layers=(hidden_size**-0.5,), head=hidden_size**-0.5)

    def check(bound, group):
        for leaf in jax.tree.leaves(group):
            if leaf is not params.embedding.bias:
                assert np.abs(leaf).max() <= bound
                assert np.abs(leaf).max() > 0.95 * bound
                np.testing.assert_allclose(leaf.std(), bound / 3**0.5, rtol=0.15)
                assert abs(leaf.mean()) < 4 * bound / (3 * leaf.size) ** 0.5

    jax.tree.map(check, bounds, params)


def test_initial_values_depend_on_the_key_and_on_the_layer():
    model = make_model(3)
    first, again, other = (initial_params(model, seed) for seed in (0, 0, 1))
    assert_equal(first, again)
    assert not np.array_equal(first.embedding.table, other.embedding.table)
    recurrent = [np.asarray(layer.recurrent) for layer in first.layers]
    assert len({matrix.tobytes() for matrix in recurrent}) == 3


def test_the_carry_keeps_its_structure_and_starts_at_zero():
    model = make_model()
    carry = model.initial_carry(B)
    assert not any(leaf.any() for leaf in jax.tree.leaves(carry))
    outcome = jax.eval_shape(
        model.apply, initial_params(model, 0), carry, make_window()
    )
    assert jax.tree.map(jnp.shape, outcome.carry) == jax.tree.map(jnp.shape, carry)
    assert outcome.nll.shape == ()
    assert outcome.outputs.shape == outcome.dropped.shape == (T, B, H)


def test_equal_configs_share_one_model():
    assert make_model(2) is make_model(2)
    assert make_model(2) is not make_model(3)


def test_dropout_rates_stand_at_their_places():
    rates = dropout_rates(
        Dropout(
            embedding=0.1,
            input=0.2,
            hidden=(0.3, 0.4),
            output=0.5,
            recurrent=0.7,
            state=0.8,
            carry=0.9,
        )
    )
    assert rates == Masks(
        embedding=0.1,
        input=0.2,
        layers=tuple(LayerMasks(0.7, 0.8, output) for output in (0.3, 0.4, 0.5)),
        latent=0.0,
        carry=0.9,
    )
