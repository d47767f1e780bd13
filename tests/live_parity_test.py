"""The model and its training against PyTorch, side by side, on inputs of the moment."""

import importlib
import io
import itertools
import json
from dataclasses import asdict, replace
from pathlib import Path

import hypothesis
import jax
import numpy as np
import pytest
from golden import ours
from hypothesis import strategies as st
from rich.console import Console

from glrnn import data
from glrnn.config import Layer, experiment
from glrnn.console.progress import Progress
from glrnn.data.vocabulary import Vocabulary
from glrnn.data.windows import columns, draw_lengths
from glrnn.ground import dropout
from glrnn.model import dropout_rates
from glrnn.storage import opening, run_folder
from glrnn.storage.run_folder import StageId
from glrnn.training import phases
from glrnn.training.context import new_context
from glrnn.training.starting_params import starting_params

torch = pytest.importorskip(
    "torch", reason="PyTorch is not installed (pip install -e '.[parity]')"
)
theirs = importlib.import_module("golden.theirs")
pytestmark = pytest.mark.thorough  # parity_test.py has numbers that PyTorch left

# Compiling takes seconds an example: few of them, and none to look for a smaller one.
few = hypothesis.settings(
    max_examples=2,
    deadline=None,
    phases=[hypothesis.Phase.reuse, hypothesis.Phase.generate],
)
heads = pytest.mark.parametrize("head", ["softmax", "mixture"])
rates = st.just(0.0) | st.floats(0.05, 0.6)
sizes = st.integers(3, 9)


@st.composite
def comparisons(draw, head):
    """Settings, what they make of fresh inputs in PyTorch, and a padded length."""
    num_layers = draw(st.integers(1, 3))
    embedding_size = draw(sizes)
    mixture = head == "mixture"
    groups = draw(st.sampled_from([1, 1 + num_layers + mixture]))
    rule = {
        "learning_rate": draw(st.floats(1.0, 20.0)),
        "max_norms": draw(
            st.lists(st.floats(0.002, 0.2), min_size=groups, max_size=groups)
        ),
    }
    settings = {
        "head": head,
        "embedding_size": embedding_size,
        "hidden_size": draw(sizes) if mixture else embedding_size,
        "num_softmaxes": draw(st.integers(2, 4)) if mixture else 1,
        "window_length": draw(st.integers(2, 12)),
        "weight_decay": draw(st.just(0.0) | st.floats(1e-3, 1e-2)),
        "activation_regularization": draw(st.sampled_from([0.0, 2.0])),
        "temporal_activation_regularization": draw(st.sampled_from([0.0, 1.0])),
        "dropout": {
            "embedding": draw(rates),
            "input": draw(rates),
            "hidden": [draw(rates) for _ in range(num_layers - 1)],
            "output": draw(rates),
            "latent": draw(rates) if mixture else 0.0,
            "recurrent": draw(rates),
        },
        "main": rule,
        "finetune": rule,
    }
    longest = draw(st.integers(2, 12))
    drawn = theirs.draw(
        settings,
        theirs.Sizes(
            vocabulary=draw(st.integers(5, 60)),
            batch=draw(st.integers(1, 5)),
            updates=4,
            first=draw(st.integers(2, longest)),
            shortest=2,
            longest=longest,
        ),
        np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
    )
    expected, _ = theirs.reference(settings, drawn, torch.float64)
    single, _ = theirs.reference(settings, drawn, torch.float32)
    # Where PyTorch loses its digits to cancellation, so do others: a tenth of what is
    # allowed is as much as a case may lose.
    first, later = theirs.largest_differences(single, expected)
    hypothesis.assume(first < 1e-5 and later < 1e-4)
    return settings, theirs.values(drawn, expected), longest + draw(st.integers(0, 3))


@heads
@few
@hypothesis.given(st.data())
def test_loss_gradient_and_carry_equal_pytorch(head, drawing):
    ours.check_loss_gradient_and_carry(*drawing.draw(comparisons(head)))


@heads
@few
@hypothesis.given(st.data())
def test_updates_and_averages_equal_pytorch(head, drawing):
    ours.check_updates_and_averages(*drawing.draw(comparisons(head)))


@heads
@few
@hypothesis.given(st.data())
def test_dynamic_evaluation_equals_the_authors_convention_in_pytorch(head, drawing):
    settings, golden, _ = drawing.draw(comparisons(head))
    rng = np.random.default_rng(drawing.draw(st.integers(0, 2**32 - 1)))
    shape = ours.NUM_WINDOWS * ours.LENGTH + 1, golden["tokens"].shape[1]
    golden["tokens"] = rng.integers(len(golden["asgd.table"]), size=shape)
    golden |= theirs.evaluations(settings, golden)
    ours.check_dynamic_evaluation(settings, golden, tolerance=1e-4)


# Learning: two epochs of ptb_small, smaller still.

HIDDEN_SIZE = 64


def small(config):
    """Its phase of two layers, one epoch of SGD and one averaged.

    At its learning rate of 30 a network this small magnifies rounding errors: within
    150 updates PyTorch in single precision is 5 percent of perplexity away from PyTorch
    in double precision. At 10 errors stay small, and all else can be compared; but not
    on every path: with this seed both end 4e-7 apart, with another 1e-3.
    """
    phase = config.phases[1]
    return replace(
        config,
        embedding_size=HIDDEN_SIZE,
        layers=(Layer(hidden_size=HIDDEN_SIZE),) * phase.num_layers,
        phases=(
            replace(
                phase,
                main=replace(phase.main, learning_rate=10.0),
                finetune=replace(phase.finetune, learning_rate=10.0),
            ),
        ),
        batch_size=10,
        seed=0,
    )


def beginning(folder):
    """The beginning of a corpus, with few words: most of the time goes to them."""
    words = data.load(folder).vocabulary.words[:2000]
    corpus = data.load(folder, Vocabulary(words))
    return corpus._replace(
        train=corpus.train[:100_000],
        valid=corpus.valid[:10_000],
        test=corpus.test[:1000],
    )


def tensor(array):
    return torch.tensor(np.asarray(array))


def state_dict(params):
    named = {"table": params.embedding.table, "bias": params.embedding.bias}
    for number, layer in enumerate(params.layers):
        for name, weight in zip(ours.LSTM, jax.tree.leaves(layer), strict=True):
            named[f"layers.{number}.{name}"] = weight.T
    return jax.tree.map(tensor, named)


def by_place(masks):
    places = {"embedding": masks.embedding, "input": masks.input}
    for number, layer in enumerate(masks.layers):
        places[f"recurrent.{number}"] = layer.recurrent.T
        places[f"output.{number}"] = layer.output
    return jax.tree.map(tensor, places)


def windows(context, stage):
    """The rows and masks of a stage's first epoch, drawn anew: none are recorded."""
    config = context.config
    stream = columns(context.corpus.train, config.batch_size)
    origin = config.seed, stage.phase, run_folder.STAGES.index(stage.name), 1
    lengths = draw_lengths(
        np.random.default_rng(origin), len(stream), config.window_length
    )
    key = context.stage_key(stage)
    rates = dropout_rates(context.phase(stage).dropout)
    shapes = context.model(stage).mask_shapes(config.batch_size, 1)

    @jax.jit
    def sample(count):
        return dropout.draw_masks(jax.random.fold_in(key, count), rates, shapes)

    starts = [0, *itertools.accumulate(lengths)]
    return [
        (tensor(stream[start : end + 1]).long(), by_place(sample(count)))
        for count, (start, end) in enumerate(itertools.pairwise(starts))
    ]


def train_ours(run, corpus):
    """Validation perplexities after each epoch."""
    metrics = run.folder / "metrics.jsonl"
    with Progress(Console(file=io.StringIO())) as progress:
        phases.train(new_context(run, corpus, progress))
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [record["averaging"] for record in records] == [False, True]
    return [record["valid_perplexity"] for record in records]


def train_theirs(run, corpus):
    config = run.config
    context, main = new_context(run, corpus, None), StageId(1, "main")
    settings = asdict(config) | asdict(context.phase(main))
    settings |= {"hidden_size": HIDDEN_SIZE}
    model = theirs.LanguageModel(settings, len(corpus.vocabulary))
    model.load_state_dict(state_dict(starting_params(context, main)))
    carry = torch.zeros(len(config.layers), 2, config.batch_size, HIDDEN_SIZE)
    valid = tensor(columns(corpus.valid, config.valid_batch_size)).long()

    theirs.train(settings, settings["main"], model, carry, windows(context, main))
    raw = theirs.static_perplexity(settings, model, valid)
    rows = windows(context, StageId(1, "finetune"))
    _, average, _ = theirs.train(settings, settings["finetune"], model, carry, rows)
    model.load_state_dict(average)
    return [raw, theirs.static_perplexity(settings, model, valid)]


@pytest.mark.slow
def test_two_epochs_of_ptb_small_learn_as_much_as_pytorch(corpora, tmp_path):
    config = small(
        experiment.load(Path(__file__).parents[1] / "experiments" / "ptb_small.py")
    )
    corpus = beginning(corpora / "ptb")
    run = opening.open_run(tmp_path / "run", config, corpus)
    perplexities = train_ours(run, corpus)
    unigram = new_context(run, corpus, None).unigram.perplexity
    assert perplexities[0] < 0.9 * unigram
    assert perplexities[1] < 0.8 * unigram
    # Asked for are 2 percent; the same windows and masks bring it far below.
    assert perplexities == pytest.approx(train_theirs(run, corpus), rel=1e-4)
