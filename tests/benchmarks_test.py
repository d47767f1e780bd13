"""Both sides of a benchmark do the same work, and the floor is all of its products."""

import json

import pytest

from benchmarks import floor, growth, ours, results
from benchmarks.presets import PRESETS, Preset

TINY = Preset(
    vocabulary=30, embedding=4, hidden=8, layers=2, softmaxes=3, batch=3, window=5
)


@pytest.mark.parametrize("name", PRESETS)
def test_the_floor_is_all_matrix_products(name):
    total = sum(product.operations for product in floor.products(PRESETS[name]))
    assert total == floor.expected_operations(PRESETS[name])


def test_a_step_of_preset_ptb_is_330_gflop():
    assert round(floor.expected_operations(PRESETS["ptb"]) / 1e9) == 330


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["train", "eval", "dynamic", "score"])
def test_both_sides_have_the_same_size_and_a_like_loss(mode):
    theirs = pytest.importorskip("benchmarks.theirs", reason="PyTorch is not installed")
    our_step, our_size = ours.make_step(TINY, mode)
    their_step, their_size = theirs.make_step(TINY, mode, compiled=False, device="cpu")
    assert our_size == their_size
    # Both begin near log V.
    assert our_step() == pytest.approx(their_step(), rel=0.1)


def test_growth_is_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    point = {"seconds": [0.1, 0.2], "peak_bytes": [1e8, 2e8]}
    found = {
        axis: [{"size": size} | point for size in sizes]
        for axis, sizes in growth.AXES.items()
    }
    growth.draw(found, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000


def test_a_result_says_what_it_was_measured_on(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    results.write(tmp_path / "new", "speed", {"ratio": 2.0})
    record = json.loads((tmp_path / "new" / "speed.json").read_text())
    assert record["ratio"] == 2.0
    assert {"date", "processor", "cores", "jax", "torch"} <= record.keys()
