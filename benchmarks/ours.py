"""This project's side of a comparison: the same step as in a training run."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.presets import (
    DYNAMIC_DECAY_RATE,
    DYNAMIC_EPSILON,
    DYNAMIC_LEARNING_RATE,
    DYNAMIC_LENGTH,
    DYNAMIC_WINDOWS,
    EVALUATED_WINDOWS,
    GRADIENT_SIZE,
    SENTENCES,
    Preset,
    make_config,
)
from glrnn.config import Config
from glrnn.console.compilation import return_memory
from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import Vocabulary
from glrnn.data.windows import Window
from glrnn.evaluation.dynamic import DynamicRule, dynamic_perplexity
from glrnn.evaluation.perplexity import perplexity
from glrnn.model import Model, language_model
from glrnn.scoring.sentences import Sentence, score_sentences
from glrnn.scoring.trained import Trained
from glrnn.storage.run_folder import StageId
from glrnn.training.optimizer import set_hyperparams
from glrnn.training.programs import Program, Recipe, build_program
from glrnn.training.train_state import TrainState


def make_step(preset: Preset, mode: str) -> tuple[Callable[[], float], int]:
    """Returns a function that takes a step and returns its loss, and the model size."""
    return_memory()
    config = make_config(preset)
    model = language_model(config, preset.vocabulary, preset.layers)
    params = jax.jit(model.init)(jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    make = {
        "train": _training,
        "eval": _evaluation,
        "dynamic": _dynamic,
        "score": _scoring,
    }[mode]
    return make(preset, config, model, params), size


def make_update(
    config: Config,
    model: Model,
    mesh: Mesh | None = None,
    precision: str | None = None,
) -> Program:
    """The optimizer and the step of a config that has one phase."""
    (phase,) = config.phases
    return build_program(
        model,
        Recipe.of(config),
        phase.num_layers,
        len(phase.main.max_norms),
        phase.dropout,
        mesh,
        precision,
    )


def _training(preset, config, model, params):
    optimizer, step = make_update(config, model)
    main = config.phases[0].main
    opt_state = set_hyperparams(
        jax.jit(optimizer.init)(params), main.learning_rate, main.max_norms
    )
    carry = model.initial_carry(preset.batch)
    state = TrainState(params, opt_state, carry, jnp.zeros((), jnp.int32))
    rows = np.random.default_rng(0).integers(
        preset.vocabulary, size=(preset.window + 1, preset.batch), dtype=np.int32
    )
    window = Window(rows[:-1], rows[1:], np.int32(preset.window))
    key = jax.random.key(1)

    def take() -> float:
        nonlocal state
        state, metrics = step(state, window, key)
        loss = float(metrics["nll"])
        jax.block_until_ready(state)
        return loss

    return take


def _evaluation(preset, config, model, params):
    rows = EVALUATED_WINDOWS * preset.window + 1
    tokens = np.random.default_rng(0).integers(
        preset.vocabulary, size=preset.batch * rows, dtype=np.int32
    )
    score = partial(
        perplexity,
        model,
        params,
        tokens,
        batch_size=preset.batch,
        window_length=preset.window,
    )
    return lambda: score().nats_per_token


def _dynamic(preset, config, model, params):
    tokens = np.random.default_rng(0).integers(
        preset.vocabulary, size=DYNAMIC_WINDOWS * DYNAMIC_LENGTH + 1, dtype=np.int32
    )
    rms = jax.tree.map(lambda leaf: jnp.full_like(leaf, GRADIENT_SIZE), params)
    rule = DynamicRule(
        DYNAMIC_LEARNING_RATE, DYNAMIC_DECAY_RATE, DYNAMIC_EPSILON, DYNAMIC_LENGTH
    )
    score = partial(dynamic_perplexity, model, params, rms, tokens, rule)
    return lambda: score().nats_per_token


def _scoring(preset, config, model, params):
    words = (EOS, *map(str, range(preset.vocabulary - 1)))
    stage = StageId(1, "main")
    trained = Trained(model, params, Vocabulary(words), config, stage)
    rng = np.random.default_rng(0)
    sentences = [
        Sentence(
            line,
            (),
            rng.integers(preset.vocabulary, size=size, dtype=np.int32),
            np.zeros(size, bool),
        )
        for line, size in enumerate(SENTENCES, 1)
    ]

    def score() -> float:
        found = score_sentences(trained, sentences)
        total = sum(each.log_likelihoods.sum(dtype=np.float64) for each in found)
        return -float(total) / sum(SENTENCES)

    return score
