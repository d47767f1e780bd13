"""The same model and training as this project computes them, beside PyTorch's numbers.

`golden` is what `theirs.values` says, from a file or fresh; nothing here needs PyTorch.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from glrnn.cells.lstm import LSTMParams, LSTMState
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.data.windows import Window
from glrnn.evaluation.dynamic import DynamicRule, dynamic_perplexity
from glrnn.evaluation.gradient_statistics import gradient_rms
from glrnn.evaluation.perplexity import perplexity
from glrnn.ground.dropout import LayerMasks, Masks
from glrnn.heads import blocks
from glrnn.heads.mixture import MixtureParams
from glrnn.model import Embedding, Params, dropout_rates, language_model
from glrnn.optim.averaging import averaged_params, start_averaging
from glrnn.training import gradient
from glrnn.training.gradient import Regularizers, training_loss
from glrnn.training.optimizer import set_hyperparams
from glrnn.training.programs import Recipe, build_program
from glrnn.training.train_state import TrainState

# Large networks work through their logits piece by piece; so do these.
SEVERAL_BLOCKS = blocks.Block(logits=300, table=100)

# PyTorch's names for the fields of `LSTMParams`, in their order.
LSTM = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


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
        return LSTMParams(*(leaf(f"layers.{layer}.{name}") for name in LSTM))

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
    """All windows' masks, stacked along a first axis; `None` where nothing drops."""
    rates = dropout_rates(config.phases[0].dropout)

    def mask(place, rate):
        if not rate:
            return None
        keep = golden[f"keep.{place}"]
        scaled = np.where(keep, np.float32(1 / (1 - rate)), np.float32(0))
        return np.swapaxes(scaled, 1, 2) if place.startswith("recurrent") else scaled

    return Masks(
        embedding=mask("embedding", rates.embedding),
        input=mask("input", rates.input),
        layers=tuple(
            LayerMasks(
                recurrent=mask(f"recurrent.{number}", layer.recurrent),
                output=mask(f"output.{number}", layer.output),
            )
            for number, layer in enumerate(rates.layers)
        ),
        latent=mask("latent", rates.latent),
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
    """The largest difference beside the largest value, leaf by leaf."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, a), e in zip(
        jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert a.shape == e.shape
        difference, largest = np.max(np.abs(np.asarray(a) - e)), np.max(np.abs(e))
        assert difference <= tolerance * largest, (
            f"{jax.tree_util.keystr(path)} is off by {difference:.1e} of {largest:.1e}"
        )


def check_loss_gradient_and_carry(settings, golden, padded):
    """Of the first window."""
    config = make_config(settings)
    model = make_model(config, golden)
    first_masks = jax.tree.map(lambda mask: mask[0], make_masks(config, golden))
    carry = make_carry(golden, "carry")
    window = make_window(golden, 0, padded)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(params):
        weights = Regularizers(
            config.activation_regularization, config.temporal_activation_regularization
        )
        total, (_, after) = training_loss(
            model, weights, params, carry, window, first_masks
        )
        return total, after

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(blocks.BLOCKS, jax.default_backend(), SEVERAL_BLOCKS)
        (total, after), grads = run(make_params(golden, "param"))
    assert_close(total, golden["loss"], 1e-4)
    assert_close(after, make_carry(golden, "carry_after"), 1e-4)
    assert_close(grads, make_params(golden, "grad"), 1e-4)


def check_updates_and_averages(settings, golden, padded):
    """Of a stage of SGD and one of averaged SGD, each half of the windows."""
    config = make_config(settings)
    model = make_model(config, golden)
    phase = config.phases[0]
    num_windows = len(golden["lengths"])
    key = jax.random.key(0)
    masks = make_masks(config, golden)
    step_keys = jax.vmap(lambda count: jax.random.fold_in(key, count))(
        jnp.arange(num_windows)
    )

    def injected(step_key, rates, shapes):
        """The masks of the update that has this key."""
        matches = jax.random.key_data(step_keys) == jax.random.key_data(step_key)[None]
        count = jnp.argmax(jnp.all(matches, axis=-1))
        return jax.tree.map(lambda mask: jnp.asarray(mask)[count], masks)

    # Not a cached program: it has these masks.
    program = build_program.__wrapped__(
        model,
        Recipe.of(config),
        len(config.layers),
        len(phase.main.max_norms),
        phase.dropout,
    )

    def train(state, stage, indices):
        opt_state = set_hyperparams(
            state.opt_state, stage.learning_rate, stage.max_norms
        )
        state = state.replace(opt_state=opt_state)
        for index in indices:
            window = make_window(golden, index, padded)
            state, metrics = program.step(state, window, key)
            if index == 0:
                assert_close(metrics["loss"], golden["loss"], 1e-4)
                assert_close(state.carry, make_carry(golden, "carry_after"), 1e-4)
        return state

    params = make_params(golden, "param")
    state = TrainState(
        params,
        program.optimizer.init(params),
        make_carry(golden, "carry"),
        np.int32(0),
    )
    state = jax.tree.map(jnp.array, state)  # copies: a step donates its state
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(blocks.BLOCKS, jax.default_backend(), SEVERAL_BLOCKS)
        patch.setattr(gradient, "draw_masks", injected)
        state = train(state, phase.main, range(num_windows // 2))
        assert_close(state.params, make_params(golden, "sgd"), 1e-3)

        # Nothing of the first stage may be in the average, so its state is kept.
        state = state.replace(opt_state=start_averaging(state.opt_state))
        state = train(state, phase.finetune, range(num_windows // 2, num_windows))
    assert_close(state.params, make_params(golden, "asgd"), 1e-3)
    average = averaged_params(state.opt_state, state.params)
    assert_close(average, make_params(golden, "average"), 1e-3)


# The authors' lambda, eta and epsilon, and how many windows of how many tokens.
DECAY, RATE, EPSILON = 0.075, 0.002, 0.001
NUM_WINDOWS, LENGTH = 50, 5


def check_dynamic_evaluation(settings, golden, tolerance):
    """Of 50 windows, by the parameters after both stages; means in place of sums.

    Both losses are to be so close, in nats per token; how far they are apart is what is
    returned.
    """
    model = make_model(make_config(settings), golden)
    params = jax.tree.map(jnp.asarray, make_params(golden, "asgd"))
    tokens = golden["tokens"].astype(np.int32)
    text = tokens[: NUM_WINDOWS * LENGTH + 1, 0]
    static = perplexity(model, params, text).nats_per_token
    assert static == pytest.approx(float(golden["static"]), abs=tolerance)

    num_windows = -(-(len(tokens) - 1) // LENGTH)
    rule = DynamicRule(
        learning_rate=RATE / num_windows**0.5,
        decay_rate=DECAY / len(jax.tree.leaves(params)),
        epsilon=EPSILON / num_windows**0.5,
        window_length=LENGTH,
    )
    rms = gradient_rms(
        model,
        params,
        tokens.T.ravel(),
        batch_size=tokens.shape[1],
        window_length=LENGTH,
    )
    dynamic = dynamic_perplexity(model, params, rms, text, rule)
    assert dynamic.num_tokens == len(text) - 1
    assert dynamic.nats_per_token == pytest.approx(
        float(golden["dynamic"]), abs=tolerance
    )
    return abs(dynamic.nats_per_token - static)
