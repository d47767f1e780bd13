"""Masks: their values, how often they drop, their shapes, and where they come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.errors import UsageError
from glrnn.ground import dropout as noise_module
from glrnn.ground.dropout import LayerMasks, Masks, draw_masks, drop, shard_masks
from glrnn.model import dropout_rates, language_model

few = settings(max_examples=20, deadline=None)


def shape(*sizes):
    return jax.ShapeDtypeStruct(sizes, jnp.float32)


# A place of every kind, all shapes alike so that equal masks would be seen.
SHAPES = Masks(
    embedding=shape(60, 1),
    input=shape(60, 1),
    layers=tuple(LayerMasks(*(shape(60, 1),) * 3) for _ in range(2)),
    latent=shape(60, 1),
    carry=shape(60, 1),
)
NUM_PLACES = 10


def rates_of(values):
    return jax.tree.unflatten(jax.tree.structure(SHAPES), values)


def masks_of(noise):
    return jax.tree.leaves(noise, is_leaf=lambda mask: mask is None)


# The same on every platform.


@pytest.mark.parametrize("size", [1, 127, 128, 1000])
def test_a_tpu_draws_the_same_masks(size, monkeypatch):
    def drawn():
        shapes = Masks(input=shape(1, size), latent=shape(size))
        return draw_masks(jax.random.key(3), Masks(input=0.4, latent=0.5), shapes)

    expected = drawn()
    monkeypatch.setattr(noise_module.devices, "platform", lambda: "tpu")
    jax.tree.map(np.testing.assert_array_equal, drawn(), expected)


# Values and frequencies.


@few
@given(st.integers(0, 2**16), st.floats(0.001, 0.99))
def test_values_are_zero_and_the_inverse_of_what_is_kept(seed, rate):
    shapes = Masks(input=shape(1, 8, 50))
    mask = draw_masks(jax.random.key(seed), Masks(input=rate), shapes).input
    assert (mask.shape, mask.dtype) == ((1, 8, 50), jnp.float32)
    assert set(np.unique(mask)) <= {np.float32(0), np.float32(1 / (1 - rate))}


@pytest.mark.parametrize("rate", [0.1, 0.29, 0.5, 0.75])
def test_as_much_is_dropped_as_the_rate_says(rate):
    size = 200_000
    shapes = Masks(input=shape(size))
    mask = draw_masks(jax.random.key(0), Masks(input=rate), shapes).input
    deviation = (rate * (1 - rate) / size) ** 0.5
    assert abs(np.mean(np.asarray(mask) == 0) - rate) < 4 * deviation
    assert abs(np.mean(mask) - 1) < 4 * deviation / (1 - rate)


@pytest.mark.parametrize("rate", [0.999, 0.9999, 0.999999])
def test_the_mean_is_1_at_rates_that_16_bits_do_not_have(rate):
    shapes = Masks(input=shape(2_000_000))
    mask = draw_masks(jax.random.key(0), Masks(input=rate), shapes).input
    deviation = (np.max(mask) / mask.size) ** 0.5
    assert abs(np.mean(mask) - 1) < 4 * deviation


@pytest.mark.parametrize("rate", [1, 1.5, -0.5, float("nan")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(UsageError, match="it must be in"):
        draw_masks(jax.random.key(0), Masks(input=rate), Masks(input=shape(5)))


def test_elements_are_dropped_independently():
    shapes = Masks(input=shape(500, 400))
    dropped = draw_masks(jax.random.key(0), Masks(input=0.5), shapes).input == 0
    for neighbours in (dropped[1:] == dropped[:-1], dropped[:, 1:] == dropped[:, :-1]):
        assert abs(np.mean(neighbours) - 0.5) < 4 * 0.5 / 200_000**0.5


@pytest.mark.parametrize("rate", [None, 0, 0.0])
def test_a_rate_of_zero_is_no_mask_at_all(rate):
    noise = draw_masks(jax.random.key(0), rates_of([rate] * NUM_PLACES), SHAPES)
    assert masks_of(noise) == [None] * NUM_PLACES


# Keys.


def test_one_key_gives_the_same_masks_and_another_others():
    rates = rates_of([0.5] * NUM_PLACES)
    first, again, other = (
        masks_of(draw_masks(jax.random.key(seed), rates, SHAPES)) for seed in (0, 0, 1)
    )
    for a, b, c in zip(first, again, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


def test_masks_of_different_places_differ():
    rates = rates_of([0.5] * NUM_PLACES)
    masks = [
        m.tobytes()
        for m in masks_of(jax.device_get(draw_masks(jax.random.key(0), rates, SHAPES)))
    ]
    assert len(set(masks)) == NUM_PLACES


@few
@given(
    st.integers(0, NUM_PLACES - 1),
    st.lists(st.sampled_from([0.3, 0.9]), min_size=NUM_PLACES, max_size=NUM_PLACES),
)
def test_a_mask_does_not_depend_on_how_much_is_dropped_elsewhere(place, values):
    values[place] = 0.5
    key = jax.random.key(3)
    noise, expected = (
        masks_of(draw_masks(key, rates_of(v), SHAPES))[place]
        for v in (values, [0.5] * NUM_PLACES)
    )
    assert np.array_equal(noise, expected)


def test_noise_at_some_places_leaves_the_others_without():
    values = [0.5, None, 0.0, 0.3, 0.2, None, 0.9, 0.0, 0.1, 0.4]
    noise = draw_masks(jax.random.key(0), rates_of(values), SHAPES)
    assert [mask is not None for mask in masks_of(noise)] == list(map(bool, values))
    for rate, mask in zip(values, masks_of(noise), strict=True):
        if rate:
            assert np.float32(mask.max()) == np.float32(1 / (1 - rate))


def test_masks_can_be_drawn_under_jit():
    rates = rates_of([0.5] * NUM_PLACES)
    key = jax.random.key(0)
    jitted = jax.jit(lambda key: draw_masks(key, rates, SHAPES))(key)
    for a, b in zip(
        masks_of(jitted), masks_of(draw_masks(key, rates, SHAPES)), strict=True
    ):
        assert np.array_equal(a, b)


# What a model asks for.


def test_masks_have_the_shapes_of_the_places_they_act_on():
    V, B, E, H, K = 11, 3, 4, 5, 2
    dropout = Dropout(0.1, 0.2, (0.3,), 0.4, 0.6, 0.5, state=0.7, carry=0.3)
    config = Config(
        embedding_size=E,
        layers=(Layer(hidden_size=7), Layer(hidden_size=H)),
        head="mixture",
        num_softmaxes=K,
        phases=(Phase(2, dropout, main=Stage(epochs=1)),),
    )
    model = language_model(config, V, 2)
    rates = dropout_rates(dropout)
    noise = draw_masks(jax.random.key(0), rates, model.mask_shapes(B, 5))

    assert noise.embedding.shape == (V, 1)
    assert noise.input.shape == (1, B, E)
    assert [layer.recurrent.shape for layer in noise.layers] == [(7, 28), (H, 4 * H)]
    assert [layer.output.shape for layer in noise.layers] == [(1, B, 7), (1, B, H)]
    assert [layer.state.shape for layer in noise.layers] == [(B, 7), (B, H)]
    assert noise.carry.shape == (B, 1)
    assert noise.latent.shape == (1, B, K * E)
    # Each rate at its place: the largest value of a mask is 1 / (1 - rate).
    largest = jax.tree.map(jnp.max, noise)
    expected = jax.tree.map(lambda rate: 1 / (1 - rate), rates)
    assert jax.tree.structure(largest) == jax.tree.structure(expected)
    np.testing.assert_allclose(
        jax.tree.leaves(largest), jax.tree.leaves(expected), rtol=1e-6
    )
    assert [layer.output for layer in rates.layers] == [0.3, 0.4]
    assert (rates.embedding, rates.input, rates.latent) == (0.1, 0.2, 0.6)
    assert [layer.recurrent for layer in rates.layers] == [0.5, 0.5]


def test_a_missing_mask_drops_nothing():
    x = jnp.arange(6.0).reshape(2, 3)
    assert drop(x, None) is x
    assert drop(x, jnp.array([[0.0, 2, 2]])).tolist() == [[0, 2, 4], [0, 8, 10]]


def test_many_blocks_repeat_nothing(monkeypatch):
    monkeypatch.setattr(noise_module, "BLOCK", 8)
    mask = draw_masks(
        jax.random.key(0), Masks(input=0.5), Masks(input=shape(1001))
    ).input
    assert mask.shape == (1001,)
    blocks = [row.tobytes() for row in np.asarray(mask)[:992].reshape(62, 16)]
    assert len(set(blocks)) > 60
    assert abs(np.mean(mask) - 1) < 4 / 1001**0.5


@pytest.mark.parametrize("of_each", [False, True])
def test_shares_are_the_columns_and_what_all_sequences_share(of_each):
    steps = 7 if of_each else 1
    shapes = Masks(
        embedding=shape(5, 6 if of_each else 1),
        input=shape(steps, 6, 2),
        layers=(LayerMasks(shape(3, 4), shape(6, 3), shape(steps, 6, 3)),),
        latent=shape(steps, 6, 4),
        carry=shape(6, 1),
    )
    rates = jax.tree.map(lambda leaf: 0.5, shapes)
    whole = draw_masks(jax.random.key(0), rates, shapes)
    shares = [shard_masks(whole, index, 3) for index in range(3)]
    for part in shares:
        np.testing.assert_array_equal(
            part.layers[0].recurrent, whole.layers[0].recurrent
        )
        if not of_each:
            np.testing.assert_array_equal(part.embedding, whole.embedding)
    for place, axis in (
        *([(lambda noise: noise.embedding, 1)] if of_each else []),
        (lambda noise: noise.input, 1),
        (lambda noise: noise.layers[0].state, 0),
        (lambda noise: noise.layers[0].output, 1),
        (lambda noise: noise.latent, 1),
        (lambda noise: noise.carry, 0),
    ):
        joined = np.concatenate([place(part) for part in shares], axis)
        np.testing.assert_array_equal(joined, place(whole))
    assert shard_masks(Masks(), 0, 2) == Masks()
