"""The systems that the paper is compared with: their published sizes and settings."""

import ast
from pathlib import Path

import jax
import pytest

from benchmarks.presets import PRESETS, make_config
from glrnn.config import experiment
from glrnn.model import language_model

FOLDER = Path(__file__).parents[1] / "experiments"

# The systems that the paper's models are compared with, and its method on other cells.
# Some were counted to the last parameter, the others published in millions.
COMPARED = {
    "ptb_awd_lstm": (10_000, 24_221_600, None),
    "ptb_awd_lstm_mos": (10_000, 21_500_620, None),
    "ptb_gl_capped": (10_000, 26_379_320, 26.39e6),
    "ptb_gl_gru": (10_000, 26_392_448, 26.39e6),
    "ptb_gl_nas": (10_000, 26_373_845, 26.39e6),
    "ptb_gl_rhn": (10_000, 26_391_004, 26.39e6),
    "ptb_mogrifier": (10_000, 23_972_264, 24e6),
    "ptb_mogrifier_lstm": (10_000, 23_986_480, 24e6),
    "ptb_nas": (10_000, 24_990_592, 25e6),
    "ptb_rhn": (10_000, 23_482_400, None),
    "ptb_skip_lstm": (10_000, 23_978_896, 24e6),
    "wikitext2_awd_lstm": (33_278, 33_556_078, None),
    "wikitext2_awd_lstm_mos": (33_278, 34_909_528, None),
    "wikitext2_mogrifier_lstm": (33_278, 34_991_552, 35e6),
    "wikitext2_skip_lstm": (33_278, 23_981_979, 24e6),
}


@pytest.mark.parametrize("name", COMPARED)
def test_a_compared_system_has_its_published_size(name):
    vocabulary_size, exact, millions = COMPARED[name]
    config = experiment.load(FOLDER / f"{name}.py")
    model = language_model(config, vocabulary_size, len(config.layers))
    params = jax.eval_shape(model.init, jax.random.key(0))
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert size == exact
    assert millions is None or size == pytest.approx(millions, rel=5e-3)
    docstring = ast.get_docstring(ast.parse((FOLDER / f"{name}.py").read_text()))
    assert f"{size:,}" in docstring


# Their published settings. Rule: learning rates of both stages, largest norm, L2 or
# weight decay. Windows: batch, length, updates between validations. Dropout: input,
# hidden, output, latent, recurrent, state, words. At most so many epochs.
RECIPES = {
    "ptb_awd_lstm": (
        ("sgd", 30, 30, 0.25, 1.2e-6),
        (20, 70, 0),
        (0.4, 0.25, 0.4, 0, 0.5, 0, 0.1),
        500,
    ),
    "ptb_awd_lstm_mos": (
        ("sgd", 20, 25, 0.25, 1.2e-6),
        (12, 70, 0),
        (0.4, 0.225, 0.4, 0.29, 0.5, 0, 0.1),
        1000,
    ),
    "ptb_mogrifier_lstm": (
        ("rms", 0.002299987, None, 10, 2.523534e-4),
        (64, 70, 200),
        (0.729079, 0.290982, 0.715669, 0, 0, 0.387294, 0),
        1000,
    ),
    "ptb_rhn": (
        ("sgd", 0.2, None, 10, 1e-7),
        (20, 35, 0),
        (0.75, None, 0.75, 0, 0, 0.25, 0.25),
        500,
    ),
    "ptb_skip_lstm": (
        ("rms", 0.003960247, None, 10, 7.44869e-5),
        (64, 35, 100),
        (0.633642, 0.309127, 0.700857, 0, 0, 0.642752, 0),
        1000,
    ),
    "wikitext2_awd_lstm": (
        ("sgd", 30, 30, 0.25, 1.2e-6),
        (80, 70, 0),
        (0.65, 0.2, 0.4, 0, 0.5, 0, 0.1),
        750,
    ),
    "wikitext2_awd_lstm_mos": (
        ("sgd", 15, 20, 0.25, 1.2e-6),
        (15, 70, 0),
        (0.55, 0.2, 0.4, 0.29, 0.5, 0, 0.1),
        1000,
    ),
    "wikitext2_mogrifier_lstm": (
        ("rms", 0.003287792, None, 10, 1.899499e-4),
        (64, 70, 200),
        (0.546909, 0.198823, 0.347667, 0.347667, 0, 0.22138, 0),
        1000,
    ),
    "wikitext2_skip_lstm": (
        ("rms", 0.002460414, None, 10, 3.77566e-5),
        (64, 35, 200),
        (0.484244, 0.092024, 0.391493, 0.391493, 0, 0.453889, 0),
        1000,
    ),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_compared_system_has_its_published_settings(name):
    config = experiment.load(FOLDER / f"{name}.py")
    (phase,) = config.phases
    main, finetune, drop = phase.main, phase.finetune, phase.dropout
    rule, windows, dropout, epochs = RECIPES[name]
    assert rule == (
        config.optimizer,
        main.learning_rate,
        finetune.learning_rate if finetune.epochs else None,
        *main.max_norms,
        config.weight_decay + config.l2_penalty,
    )
    # Windows of one length go with a loss that is summed over them, and are penalized.
    assert config.fixed_windows == config.sum_over_time == (config.weight_decay == 0)
    assert windows == (
        config.batch_size,
        config.window_length,
        config.updates_per_epoch,
    )
    assert dropout == (
        drop.input,
        drop.hidden[0] if drop.hidden else None,
        drop.output,
        drop.latent,
        drop.recurrent,
        drop.state,
        drop.embedding,
    )
    assert len(set(drop.hidden)) <= 1
    assert main.epochs == epochs
    assert finetune.epochs in (0, epochs)
    if config.optimizer == "rms":
        assert config.masks_per_step
        assert config.sum_outputs
        assert drop.carry == 0.01


@pytest.mark.parametrize(
    ("preset", "name"), [("ptb", "ptb"), ("wikitext-2", "wikitext2")]
)
def test_a_benchmark_has_the_size_of_its_experiment(preset, name):
    timed = make_config(PRESETS[preset])
    config = experiment.load(FOLDER / f"{name}.py")
    for field in (
        *("embedding_size", "layers", "head", "num_softmaxes"),
        *("batch_size", "window_length", "weight_decay"),
    ):
        assert getattr(timed, field) == getattr(config, field)
