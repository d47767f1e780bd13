"""`benchmarks.shift`: distances of histograms, and whose they are."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import shift
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.data import corpus_of_arrays
from glrnn.storage.run_folder import StageId
from glrnn.training.context import temporary

FIRST = StageId(1, "main")


def test_distances_are_those_of_moved_mass():
    rng = np.random.default_rng(0)
    places = rng.integers(80, size=(3, 5))
    moved = shift.distances(np.eye(80)[places])
    width = shift.EDGES[1] - shift.EDGES[0]
    np.testing.assert_allclose(moved, np.abs(np.diff(places, axis=0)).mean(1) * width)


@pytest.mark.thorough
def test_activations_move_as_the_parameters_do():
    main = Stage(9, learning_rate=10.0, max_norms=(0.5,))
    config = Config(
        embedding_size=8,
        layers=(Layer(hidden_size=8),) * 2,
        phases=(Phase(2, Dropout(hidden=(0.0,)), main),),
        batch_size=10,
        window_length=5,
        fixed_windows=True,
    )
    ids = np.random.default_rng(1).integers(1, 9, size=4000)
    words = tuple("abcdefghi")
    corpus = corpus_of_arrays(words, ids, ids[:2500] % 3, ids[:200] % 4)
    with temporary(config, corpus) as context:
        found = shift.beginning(context, FIRST, updates=12, every=5)
        again = shift.beginning(
            context._replace(run=replace_seed(context.run)), FIRST, 1, 5
        )
    assert found.norms.shape == (12, 1) and found.names == ("all",)
    for each, other in zip(
        found.histograms.values(), again.histograms.values(), strict=True
    ):
        assert each.shape == (4, 8, 80)
        np.testing.assert_allclose(each.sum(-1), 1, rtol=1e-6)
        assert (shift.distances(each) > 0).all()
        assert not np.array_equal(each[0], other[0])  # other random parameters


def replace_seed(run):
    return run._replace(config=replace(run.config, seed=run.config.seed + 1))
