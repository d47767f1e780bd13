"""Both sides of a benchmark do the same work, and the floor is all of its products."""

import json

import numpy as np
import pytest

from benchmarks import adaptive, floor, growth, our_lists, ours, results
from benchmarks.candidates import candidates
from benchmarks.presets import PRESETS, Preset
from glrnn.errors import UsageError

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


def test_a_list_of_candidates_has_the_sentence_and_what_may_be_heard():
    text = "\n".join(f"a{line} b c d e f" for line in range(30)) + "\ntoo short"
    found = list(candidates(text, utterances=20, seed=3))
    assert found == list(candidates(text, utterances=20, seed=3))
    assert found != list(candidates(text, utterances=20, seed=4))
    sentences = {tuple(line.split()) for line in text.splitlines()}
    assert [key for key, _ in found[9:11]] == ["1-10", "2-1"]
    for first in range(0, 200, 10):
        own, *others = (tuple(words) for _, words in found[first : first + 10])
        assert own in sentences and len(own) == 6
        assert all(2 <= len(words) <= 6 for words in others)
        # A replaced word may be the same, and two errors may undo each other.
        assert len(set(others)) > 4


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """A corpus of 30 words, and a list made from it."""
    folder = tmp_path_factory.mktemp("listed")
    lines = [
        " ".join(f"w{(i * j) % 29}" for j in range(i, i + 9)) for i in range(1, 40)
    ]
    for name in ("train", "valid", "test"):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder, our_lists.prepare(folder, folder, TINY, utterances=20)


def test_the_list_is_counted(listed):
    folder, counts = listed
    lines = (folder / "list.txt").read_text().splitlines()
    assert counts["lines"] == len(lines) == 200
    assert counts["tokens"] == sum(len(line.split()) for line in lines)  # a key, <eos>
    prefixes = {
        tuple([*line.split()[1:], "<eos>"][:length])
        for line in lines
        for length in range(1, len(line.split()) + 1)
    }
    assert counts["distinct_prefixes"] == len(prefixes)


def test_a_corpus_of_other_words_is_refused(listed, tmp_path):
    with pytest.raises(UsageError, match="has 30 words and the preset 31"):
        our_lists.prepare(tmp_path, listed[0], TINY._replace(vocabulary=31), 20)


@pytest.mark.thorough
def test_all_ways_to_rescore_find_the_same(listed):
    theirs = pytest.importorskip(
        "benchmarks.their_lists", reason="PyTorch is not installed"
    )
    folder, counts = listed
    _, ours = our_lists.by_prefix(folder, TINY)
    score, one_by_one = our_lists.one_by_one(folder, TINY)
    (score_batches, batched), form = theirs.batched(folder, TINY, forms=("eager",))
    assert form.startswith("torch, eager, ")
    for found in (one_by_one(), batched()):
        for mine, other in zip(ours(), found, strict=True):
            np.testing.assert_allclose(mine, other, atol=1e-5)
    turns = range(our_lists.EVERY_LINE)
    assert sum(map(score, turns)) == counts["tokens"]
    assert sum(map(score_batches, range(theirs.EVERY_BATCH))) == counts["tokens"]


@pytest.mark.slow
def test_an_adaptive_softmax_is_timed_beside_the_full_one(texts, tmp_path):
    words = "--size 8 --small-size 8 --batch 2 --window 5 --pairs 2 --epochs 1"
    where = ["--data", str(texts), "--output", str(tmp_path)]
    adaptive.main([*where, *words.split()])
    record = json.loads((tmp_path / "adaptive-texts.json").read_text())
    assert len(record["speed"]["pairs"]) == 2
    assert record["cutoffs"]
    for found in record["learned"].values():
        assert 1 < found["valid"][0] < 20


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
