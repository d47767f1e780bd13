"""Which windows an epoch has, and what is carried from one to the next."""

import io
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

from glrnn import data
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.console.progress import Progress
from glrnn.data.vocabulary import Vocabulary
from glrnn.storage import opening
from glrnn.storage.run_folder import StageId
from glrnn.training.context import new_context
from glrnn.training.epoch import train_epoch
from glrnn.training.programs import first_state, program

WORDS = "the cat sat on a mat and saw".split()
# 25 columns of 8 rows: windows of 3, 3 and 1 steps.
CONFIG = Config(
    embedding_size=6,
    layers=(Layer(hidden_size=6),),
    phases=(
        Phase(
            dropout=Dropout(input=0.2, recurrent=0.2),
            main=Stage(9, learning_rate=2.0, max_norms=(0.5,)),
        ),
    ),
    batch_size=25,
    window_length=3,
    fixed_windows=True,
)


@pytest.fixture(scope="module")
def corpus():
    stream = np.random.default_rng(0).integers(0, len(WORDS), 360).astype(np.int32)
    parts = np.split(stream, [200, 280])
    return data.Corpus("tiny", Vocabulary(tuple(WORDS)), *parts, unknown={})


def trained(folder, corpus, count, **settings):
    """The state after so many epochs, and their tallies."""
    run = opening.open_run(folder, replace(CONFIG, **settings), corpus)
    console = Console(file=io.StringIO())
    stage, tallies = StageId(1, "main"), []
    with Progress(console) as progress:
        context = new_context(run, corpus, progress)
        params = context.model(stage).init(jax.random.key(0))
        state, step = first_state(context, stage, params), program(context, stage).step
        for epoch in range(1, count + 1):
            state, tally = train_epoch(context, stage, step, state, epoch)
            tallies.append(tally)
    return state, tallies


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.thorough
def test_two_passes_in_three_turns_are_two_passes(tmp_path, corpus):
    """The second turn ends one pass and begins the next."""
    passes, of_passes = trained(tmp_path / "passes", corpus, 2)
    turns, of_turns = trained(tmp_path / "turns", corpus, 3, updates_per_epoch=2)
    assert_same(turns, passes)
    assert [tally.tokens for tally in of_passes] == [7 * 25] * 2
    assert [tally.tokens for tally in of_turns] == [6 * 25, 4 * 25, 4 * 25]
    assert [tally.updates for tally in of_turns] == [2, 2, 2]


def test_a_turn_goes_on_from_the_state_of_the_one_before(tmp_path, corpus):
    turn, _ = trained(tmp_path / "turn", corpus, 2, updates_per_epoch=1)
    once, _ = trained(tmp_path / "once", corpus, 1, updates_per_epoch=2)
    assert_same(turn, once)


@pytest.mark.thorough
def test_drawn_windows_can_be_counted_through_passes_too(tmp_path, corpus):
    settings = {"fixed_windows": False, "window_length": 5}
    passes, tallies = trained(tmp_path / "passes", corpus, 2, **settings)
    count = sum(tally.updates for tally in tallies)
    turn, _ = trained(tmp_path / "turn", corpus, 1, **settings, updates_per_epoch=count)
    assert_same(turn, passes)
