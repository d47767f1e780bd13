"""The experiments as shipped, against the authors' settings; and how one is loaded."""

import ast
import io
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from glrnn import data, evaluate
from glrnn.cells import CELLS
from glrnn.config import Averaging, Config, Dropout, Stage, experiment
from glrnn.config.gradual import group_names
from glrnn.config.variants import resized
from glrnn.console.progress import Progress
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.ground.dropout import draw_masks
from glrnn.ground.validation import from_values, to_json
from glrnn.heads import HEADS
from glrnn.model import dropout_rates, language_model
from glrnn.optim.clipping import group_norms
from glrnn.optim.learning_rate import RULES
from glrnn.storage import opening
from glrnn.training import phases
from glrnn.training.context import new_context
from glrnn.training.optimizer import clip_limits, training_optimizer

FOLDER = Path(__file__).parents[1] / "experiments"
EXPERIMENTS = sorted({*FOLDER.glob("*.py")} - {FOLDER / "twelve_minutes.py"})
every_experiment = pytest.mark.parametrize(
    "path", EXPERIMENTS, ids=lambda path: path.stem
)

PTB, WIKITEXT2 = FOLDER / "ptb.py", FOLDER / "wikitext2.py"


# The authors' settings, phase by phase: the options of their run scripts. Dropout:
# dropouti, dropouth, dropout, dropoutl. Stages: lr, clip.
AUTHORS = {
    PTB: [
        (0.40, (), 0.40, 0.29, (20, (0.05, 0.15, 0.15)), (25, (0.05, 0.15, 0.15))),
        (
            *(0.425, (0.24,), 0.425, 0.325),
            (20, (0.035, 0.12, 0.16, 0.16)),
            (25, (0.035, 0.12, 0.16, 0.16)),
        ),
        (
            *(0.45, (0.25, 0.23), 0.45, 0.35),
            (20, (0.035, 0.13, 0.15, 0.16, 0.17)),
            (25, (0.035, 0.14, 0.15, 0.17, 0.17)),
        ),
    ],
    WIKITEXT2: [
        (0.55, (), 0.35, 0.29, (15, (0.05, 0.15, 0.15)), (20, (0.05, 0.15, 0.15))),
        (
            *(0.55, (0.24,), 0.35, 0.29),
            (15, (0.035, 0.12, 0.16, 0.16)),
            (15, (0.035, 0.12, 0.16, 0.16)),
        ),
        (
            *(0.55, (0.25, 0.23), 0.35, 0.29),
            (15, (0.035, 0.13, 0.15, 0.16, 0.17)),
            (15, (0.035, 0.13, 0.15, 0.16, 0.17)),
        ),
    ],
}


@pytest.mark.parametrize("path", AUTHORS, ids=lambda path: path.stem)
def test_phases_have_the_authors_settings(path):
    config = experiment.load(path)
    assert [phase.num_layers for phase in config.phases] == [1, 2, 3]
    for phase, options in zip(config.phases, AUTHORS[path], strict=True):
        dropout, main, finetune = phase.dropout, phase.main, phase.finetune
        assert (dropout.embedding, dropout.recurrent) == (0.1, 0.5)
        assert options == (
            dropout.input,
            dropout.hidden,
            dropout.output,
            dropout.latent,
            (main.learning_rate, main.max_norms),
            (finetune.learning_rate, finetune.max_norms),
        )
        assert (main.epochs, finetune.epochs) == (400, 400)
        assert (main.patience, finetune.patience) == (0, 0)


@pytest.mark.parametrize(
    ("path", "embedding_size", "hidden_size", "batch_size"),
    [(PTB, 280, 960, 12), (WIKITEXT2, 300, 1050, 15)],
    ids=["ptb", "wikitext2"],
)
def test_runs_have_the_authors_settings(path, embedding_size, hidden_size, batch_size):
    config = experiment.load(path)
    assert config.embedding_size == embedding_size
    assert config.batch_size == batch_size
    layers = [(layer.cell, layer.hidden_size) for layer in config.layers]
    assert layers == [("lstm", hidden_size)] * 3
    assert (config.head, config.num_softmaxes) == ("mixture", 15)
    assert config.inherit_head
    assert config.window_length == 70
    assert config.activation_regularization == 2
    assert config.temporal_activation_regularization == 1
    assert config.weight_decay == 1.2e-6
    assert config.averaging == Averaging("non_monotonic", window=5)
    assert (config.valid_batch_size, config.test_batch_size) == (10, 1)
    assert config.seed == 28


@pytest.mark.parametrize(
    ("path", "vocabulary_size", "totals"),
    [
        (PTB, 10_000, [11_629_880, 19_010_360, 26_390_840]),
        (WIKITEXT2, 33_278, [20_440_328, 29_268_728, 38_097_128]),
    ],
    ids=["ptb", "wikitext2"],
)
def test_the_networks_have_the_papers_sizes(path, vocabulary_size, totals):
    config = experiment.load(path)
    for phase, total in zip(config.phases, totals, strict=True):
        model = language_model(config, vocabulary_size, phase.num_layers)
        params = jax.eval_shape(model.init, jax.random.key(0))
        leaves = jax.tree.leaves(params)
        assert sum(leaf.size for leaf in leaves) == total
        assert len(leaves) == 5 + 4 * phase.num_layers
        assert f"{total:,}" in ast.get_docstring(ast.parse(path.read_text()))


def test_a_window_of_the_full_model_has_the_right_shapes():
    config = experiment.load(PTB)
    phase = config.phases[2]
    model = language_model(config, 10_000, 3)
    optimizer = training_optimizer(3, len(phase.main.max_norms), usual_length=70)

    def step(key):
        params = model.init(key)
        carry = model.initial_carry(config.batch_size)
        noise = draw_masks(
            key, dropout_rates(phase.dropout), model.mask_shapes(config.batch_size, 70)
        )
        tokens = jnp.zeros((70, config.batch_size), jnp.int32)

        def loss(params):
            outcome = model.apply(params, carry, Window(tokens, tokens, 68), noise)
            return outcome.nll, outcome

        (nll, outcome), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, _ = optimizer.update(
            grads, optimizer.init(params), params, window_length=68
        )
        return nll, outcome, params, updates

    nll, outcome, params, updates = jax.eval_shape(step, jax.random.key(0))
    assert nll.shape == ()
    assert outcome.outputs.shape == (70, 12, 960)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, params)


# What the best model is compared with.

NAMES = ("ptb_gl_lwgc", "ptb_random_softmax", "ptb_without_gl", "ptb_without_lwgc")


@pytest.mark.parametrize("name", [*NAMES, "ptb_reference", "ptb_two_layers"])
def test_what_it_is_compared_with_has_its_size(name):
    """The networks of all phases, by shapes."""
    config = experiment.load(FOLDER / f"{name}.py")
    totals = {1: 11_629_880, 2: 19_010_360, 3: 26_390_840}
    for phase in config.phases:
        model = language_model(config, 10_000, phase.num_layers)
        params = jax.eval_shape(model.init, jax.random.key(0))
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        assert size == totals[phase.num_layers]
    assert f"{size:,}" in ast.get_docstring(
        ast.parse((FOLDER / f"{name}.py").read_text())
    )


def test_wikitext2_before_finetuning_has_its_size():
    config = experiment.load(FOLDER / "wikitext2_gl_lwgc.py")
    model = language_model(config, 33_278, 3)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 38_097_128
    assert config.phases[-1].finetune.epochs == 0


@pytest.mark.parametrize(
    ("name", "vocabulary_size", "total"),
    [("wikitext103", 267_735, 283_172_314), ("lm1b", 793_471, 429_174_658)],
)
def test_large_vocabularies_have_the_sizes_that_are_told(name, vocabulary_size, total):
    path = FOLDER / f"{name}.py"
    model = language_model(experiment.load(path), vocabulary_size, 1)
    params = jax.eval_shape(model.init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == total
    assert f"{total:,}" in ast.get_docstring(ast.parse(path.read_text()))


def test_without_lwgc_has_the_papers_norms():
    phases = experiment.load(FOLDER / "ptb_without_lwgc.py").phases
    norms = [phase.main.max_norms + phase.finetune.max_norms for phase in phases]
    assert norms == [
        pytest.approx(pair, abs=5e-6)
        for pair in [(0.21794, 0.21794), (0.25851, 0.25851), (0.30842, 0.31800)]
    ]


def test_the_reference_has_the_settings_of_its_recipe():
    (phase,) = experiment.load(FOLDER / "ptb_reference.py").phases
    assert phase.num_layers == 3
    assert phase.dropout == Dropout(0.1, 0.4, (0.225, 0.225), 0.4, 0.29, 0.5)
    assert phase.main == Stage(1000, 20.0, (0.25,))
    assert phase.finetune.epochs == 0


@pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*_12min.py")), ids=lambda path: path.stem
)
def test_twelve_minutes_are_shared_by_the_stages(path):
    whole = experiment.load(FOLDER / path.name.replace("_12min", ""))
    small = experiment.load(path)
    stages = [stage for p in small.phases for stage in (p.main, p.finetune)]
    assert sum(s.minutes for s in stages if s.epochs) == pytest.approx(12)
    assert {layer.hidden_size for layer in small.layers} == {small.embedding_size}
    assert {s.epochs for s in stages} <= {0, 10**6}
    for phase, full in zip(small.phases, whole.phases, strict=True):
        assert phase.dropout.output == full.dropout.output / 8
        assert phase.dropout.hidden == tuple(r / 8 for r in full.dropout.hidden)
        assert phase.main.learning_rate == full.main.learning_rate
    assert small.optimizer == whole.optimizer


# Every head, rule and cell, from the first phase to dynamic evaluation.

SHRUNK = {
    FOLDER / f"{name}.py": experiment.load(FOLDER / f"{name}.py")
    for name in (
        *("ptb_small", "ptb_nas", "ptb_rhn"),
        *("ptb_skip_lstm", "wikitext2_skip_lstm", "wikitext2_mogrifier_lstm"),
        "wikitext103",
    )
}


def test_the_shrunk_experiments_have_every_head_rule_and_cell():
    """GRUs are in no experiment of their own."""
    configs = SHRUNK.values()
    assert {config.head for config in configs} == set(HEADS)
    assert {config.optimizer for config in configs} == set(RULES)
    cells = {layer.cell for config in configs for layer in config.layers}
    assert cells == set(CELLS) - {"gru"}
    assert {len(config.phases) for config in configs} == {1, 3}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(
            path,
            id=path.stem,
            # `cutoffs_test` has a smaller one.
            marks=[pytest.mark.slow] * (path.stem == "wikitext103"),
        )
        for path in SHRUNK
    ],
)
def test_a_shrunk_experiment_runs_to_its_end(path, texts, tmp_path, capsys):
    config = resized(SHRUNK[path], embedding_size=8, hidden_size=8, epochs=1)
    # What takes long to compile: depth, and each of the lengths that windows are padded
    # to. In columns of five tokens there is one.
    config = replace(
        config,
        layers=tuple(replace(each, depth=each.depth and 2) for each in config.layers),
        batch_size=48,
        small_batch_size=0,
        window_length=5,
        # Those of the small vocabulary are chosen.
        cutoffs=(),
        updates_per_epoch=config.updates_per_epoch and 5,
        valid_batch_size=2,
    )
    corpus = data.load(str(texts), order=config.vocabulary_order)
    run = opening.open_run(tmp_path / "run", config, corpus)
    console = Console(file=io.StringIO())
    with Progress(console) as progress:
        summaries = phases.train(new_context(run, corpus, progress))
    assert [s.layers for s in summaries] == [p.num_layers for p in config.phases]
    for options in ([], ["--dynamic", "--dynamic.statistics-batch-size", "8"]):
        evaluate.main([str(tmp_path / "run"), "--json", *options])
        score = json.loads(capsys.readouterr().out)
        assert 1 < score["perplexity"] < 50
        assert score["phase"] == len(config.phases)


# Every experiment there is.


@every_experiment
def test_an_experiment_loads_and_is_written_down_whole(path):
    config = experiment.load(path)
    assert from_values(Config, json.loads(to_json(config)), "a config") == config


@every_experiment
def test_an_experiment_says_what_it_is_and_how_it_is_run(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert f"    python -m glrnn.train experiments/{path.name}" in docstring


@every_experiment
def test_the_limits_of_an_experiment_fit_its_network(path):
    config = experiment.load(path)
    for phase in config.phases:
        model = language_model(config, 10**6, phase.num_layers)
        params = jax.eval_shape(model.init, jax.random.key(0))
        for stage in (phase.main, phase.finetune):
            limits = clip_limits(stage.max_norms, phase.num_layers)
            names = group_names(stage.max_norms, phase.num_layers)
            norms = jax.eval_shape(lambda p, g=limits: group_norms(p, g), params)
            assert len(jax.tree.leaves(norms)) == len(names)


# Loading.


def write(folder, text, name="mine.py"):
    path = folder / name
    path.write_text(text)
    return path


def test_experiments_can_vary_one_another(tmp_path):
    write(
        tmp_path, "from glrnn import Config\nconfig = Config(seed=3)\n", "parent_a.py"
    )
    path = write(
        tmp_path,
        "from dataclasses import replace\n"
        "from parent_a import config as parent\n"
        "config = replace(parent, batch_size=7)\n",
    )
    before = list(sys.path)
    config = experiment.load(path)
    assert (config.seed, config.batch_size) == (3, 7)
    assert sys.path == before
    # Another one may have a parent of the same name.
    other = tmp_path / "other"
    other.mkdir()
    write(other, "from glrnn import Config\nconfig = Config(seed=5)\n", "parent_a.py")
    write(other, path.read_text())
    # By a path that is not the shortest, too.
    assert experiment.load(other / ".." / "other" / "mine.py").seed == 5


@pytest.mark.parametrize(
    ("home", "preamble", "module"),
    [
        ("sub", "", "sub.base"),  # a folder without __init__.py
        (
            "lib",
            "import os, sys\nsys.path.insert(0, os.path.dirname(__file__) + '/lib')\n",
            "base",
        ),
    ],
)
def test_settings_of_one_name_are_those_of_each_experiment(
    tmp_path, home, preamble, module
):
    for seed in (3, 7):
        folder = tmp_path / str(seed) / home
        folder.mkdir(parents=True)
        text = f"from glrnn import Config\nconfig = Config(seed={seed})\n"
        write(folder, text, "base.py")
        path = write(folder.parent, f"{preamble}from {module} import config\n")
        assert experiment.load(path).seed == seed
        assert module not in sys.modules


def test_an_experiment_does_not_move_the_process(tmp_path):
    text = "import os\nos.chdir(os.path.dirname(os.path.abspath(__file__)))\n"
    path = write(tmp_path, text + "from glrnn import Config\nconfig = Config()\n")
    before = os.getcwd()
    experiment.load(path)
    assert os.getcwd() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "has no `config = glrnn.Config"),
        ("config = 3\n", "has no `config = glrnn.Config"),
        ("1 / 0\n", "failed: ZeroDivisionError: division by zero"),
        ("raise GeneratorExit\n", "failed: GeneratorExit"),
        (
            "class E(Exception):\n    def __str__(self): 1 / 0\nraise E\n",
            "failed: E: ",
        ),
        (
            "from glrnn.config import Layer\nclass L(Layer): pass\n"
            "from glrnn import Config\nconfig = Config(layers=(L(),))\n",
            "it must be Layer and no subclass of it",
        ),
        ("import nowhere_at_all\n", "failed: ModuleNotFoundError: .*nowhere_at_all"),
        ("config = (\n", "failed: SyntaxError"),
        (
            "from glrnn import Config\nconfig = Config(batch_size=0)\n",
            r"mine\.py: Config\.batch_size is 0; it must be at least 1",
        ),
    ],
)
def test_an_experiment_that_fails_says_so_in_one_line(tmp_path, text, message):
    before = list(sys.path)
    with pytest.raises(UsageError, match=message) as caught:
        experiment.load(write(tmp_path, text))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sys.path == before


def test_an_experiment_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no experiment '.*missing\.py'; give a"):
        experiment.load(tmp_path / "missing.py")
