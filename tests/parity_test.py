"""The model and its training against PyTorch, the same dropout masks on both sides.

The reference values and everything drawn at random come from `golden/make.py`; nothing
here needs PyTorch.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glrnn import noise
from glrnn.averaging import averaged_params, start_averaging
from glrnn.cells.lstm import LSTMParams, LSTMState
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.heads import head
from glrnn.heads.mixture import MixtureParams
from glrnn.losses import activation_regularization, temporal_activation_regularization
from glrnn.model import Embedding, Params, language_model, noise_rates
from glrnn.noise import LayerNoise, Noise
from glrnn.optimizer import stage_optimizer
from glrnn.step import TrainState, training_step
from glrnn.windows import Window

CASES = [f"{name}_{depth}" for name in ("softmax", "mixture") for depth in (1, 2, 3)]
UPDATES = 30  # a stage
PADDED = 10  # longer than every window


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    """Large networks work through their logits piece by piece; so do these."""
    monkeypatch.setattr(head, "ROWS", 20)


@functools.cache
def load(case):
    with np.load(Path(__file__).parent / "golden" / f"{case}.npz") as file:
        golden = dict(file)
    settings = json.loads(str(golden.pop("settings")))
    return settings, golden


def make_config(settings):
    hidden = tuple(settings["dropout"]["hidden"])
    main, finetune = (
        Stage(1, settings[name]["learning_rate"], tuple(settings[name]["max_norms"]))
        for name in ("main", "finetune")
    )
    num_layers = len(hidden) + 1
    dropout = Dropout(**settings["dropout"] | {"hidden": hidden})
    return Config(
        embedding_size=settings["embedding_size"],
        layers=(Layer("lstm", settings["hidden_size"]),) * num_layers,
        head=settings["head"],
        num_softmaxes=settings["num_softmaxes"],
        phases=(Phase(num_layers, dropout, main, finetune),),
        window_length=settings["window_length"],
        activation_regularization=settings["activation_regularization"],
        temporal_activation_regularization=settings[
            "temporal_activation_regularization"
        ],
        weight_decay=settings["weight_decay"],
    )


def make_model(config, golden):
    return language_model(config, len(golden["param.bias"]), len(config.layers))


def make_params(golden, kind):
    """PyTorch's weights are `[outputs, inputs]`, ours `[inputs, outputs]`."""

    def leaf(name):
        return golden[f"{kind}.{name}"].T.astype(np.float32)

    def lstm(layer):
        kinds = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        return LSTMParams(*(leaf(f"layers.{layer}.{name}") for name in kinds))

    mixture = f"{kind}.prior.weight" in golden
    return Params(
        embedding=Embedding(leaf("table").T, leaf("bias")),
        layers=tuple(map(lstm, range(len(golden["carry"])))),
        head=MixtureParams(
            leaf("prior.weight"), leaf("latent.weight"), leaf("latent.bias")
        )
        if mixture
        else (),
    )


def make_carry(golden, kind):
    return tuple(LSTMState(*state.astype(np.float32)) for state in golden[kind])


def make_masks(config, golden):
    """All windows' masks, stacked along a first axis."""
    rates = noise_rates(config.phases[0].dropout)

    def mask(place, rate):
        keep = golden[f"keep.{place}"]
        return np.where(keep, np.float32(1 / (1 - rate)), np.float32(0))

    return Noise(
        embedding=mask("embedding", rates.embedding),
        input=mask("input", rates.input),
        layers=tuple(
            LayerNoise(
                recurrent=np.swapaxes(
                    mask(f"recurrent.{number}", layer.recurrent), 1, 2
                ),
                output=mask(f"output.{number}", layer.output),
            )
            for number, layer in enumerate(rates.layers)
        ),
        latent=mask("latent", rates.latent) if rates.latent else None,
    )


def make_window(golden, index, padded):
    """A window of the stream, padded with words that must not be seen."""
    lengths = golden["lengths"].astype(int)
    start, length = lengths[:index].sum(), lengths[index]
    rows = golden["tokens"][start : start + length + 1].astype(np.int32)
    padding = [(0, padded - length), (0, 0)]
    inputs, targets = (
        np.pad(part, padding, constant_values=1) for part in (rows[:-1], rows[1:])
    )
    return Window(inputs, targets, np.int32(length))


def assert_close(actual, expected, tolerance):
    """The largest difference over the largest value, leaf by leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert a.shape == e.shape
        error = np.max(np.abs(np.asarray(a) - e)) / np.max(np.abs(e))
        assert error < tolerance, f"{jax.tree_util.keystr(path)} is off by {error:.1e}"


@pytest.mark.parametrize(
    ("case", "padding"),
    [*((case, 0) for case in CASES), ("softmax_3", 3), ("mixture_3", 3)],
)
def test_loss_gradient_and_carry_equal_pytorch(case, padding):
    settings, golden = load(case)
    config = make_config(settings)
    model = make_model(config, golden)
    first_masks = jax.tree.map(lambda mask: mask[0], make_masks(config, golden))
    carry = make_carry(golden, "carry")
    window = make_window(golden, 0, int(golden["lengths"][0]) + padding)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params):
        outcome = model.apply(params, carry, window, first_masks)
        length = jnp.asarray(window.length)
        total = (
            outcome.nll
            + 2 * activation_regularization(outcome.dropped, length)
            + temporal_activation_regularization(outcome.outputs, length)
        )
        return total, outcome.carry

    params = make_params(golden, "param")
    (total, after), grads = run(params)
    assert_close(total, golden["loss"], 1e-4)
    assert_close(after, make_carry(golden, "carry_after"), 1e-4)
    assert_close(grads, make_params(golden, "grad"), 1e-4)


@pytest.mark.parametrize("case", CASES)
def test_updates_and_averages_equal_pytorch(case, monkeypatch):
    settings, golden = load(case)
    config = make_config(settings)
    model = make_model(config, golden)
    num_layers = len(config.layers)
    key = jax.random.key(0)
    masks = make_masks(config, golden)
    step_keys = jax.vmap(lambda count: jax.random.fold_in(key, count))(
        jnp.arange(2 * UPDATES)
    )

    def injected(step_key, rates, shapes):
        """The masks of the update that has this key."""
        matches = jax.random.key_data(step_keys) == jax.random.key_data(step_key)[None]
        count = jnp.argmax(jnp.all(matches, axis=-1))
        return jax.tree.map(lambda mask: jnp.asarray(mask)[count], masks)

    monkeypatch.setattr(noise, "sample", injected)
    phase = config.phases[0]

    @functools.cache
    def make_step(stage):
        return training_step(
            model,
            stage_optimizer(config, stage, num_layers),
            rates=noise_rates(phase.dropout),
            groups=Params(embedding=0, layers=(0,) * num_layers, head=0),
            activation=config.activation_regularization,
            temporal_activation=config.temporal_activation_regularization,
        )

    params = make_params(golden, "param")
    state = TrainState(
        params,
        stage_optimizer(config, phase.main, num_layers).init(params),
        make_carry(golden, "carry"),
        np.int32(0),
    )
    state = jax.tree.map(jnp.array, state)  # copies: a step donates its state
    sgd = make_step(phase.main)
    for index in range(UPDATES):
        state, metrics = sgd(state, make_window(golden, index, PADDED), key)
        if index == 0:
            assert_close(metrics["loss"], golden["loss"], 1e-4)
            assert_close(state.carry, make_carry(golden, "carry_after"), 1e-4)
    assert_close(state.params, make_params(golden, "sgd"), 1e-3)

    # Nothing of the first stage may be in the average, so its state goes on.
    state = state.replace(opt_state=start_averaging(state.opt_state))
    asgd = make_step(phase.finetune)
    for index in range(UPDATES, 2 * UPDATES):
        state, _ = asgd(state, make_window(golden, index, PADDED), key)
    assert_close(state.params, make_params(golden, "asgd"), 1e-3)
    average = averaged_params(state.opt_state, state.params)
    assert_close(average, make_params(golden, "average"), 1e-3)
