"""The choice of cut-offs against every other, and what a run makes of it."""

import itertools
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn import data, evaluate, train
from glrnn.config import Config, Layer, Phase, Stage
from glrnn.config.settled import settled
from glrnn.errors import UsageError
from glrnn.heads import cutoffs
from glrnn.heads.cutoffs import choose_cutoffs, expected_cost
from glrnn.model import language_model
from glrnn.storage import opening, run_folder

CONFIG = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),),
    head="adaptive",
    phases=(Phase(main=Stage(2, learning_rate=10.0, max_norms=(0.5,))),),
    batch_size=25,
    window_length=5,
    vocabulary_order="frequency",
    valid_batch_size=2,
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=40), st.integers(1, 10**5))
def test_no_other_cutoffs_that_are_tried_cost_less(counts, num_tokens):
    counts = sorted(counts, reverse=True)
    found = choose_cutoffs(counts, num_tokens)
    places = [
        n
        for n in (1, 2, 3, 4, 5, 6, 7, 9, 10, 12, 15, 18, 22, 27, 33)
        if n < len(counts)
    ]
    shares = np.cumsum(counts) / np.sum(counts)
    large = [n for n in places if shares[n - 1] >= cutoffs.SHARE] or places[-1:]
    costs = {
        tried: expected_cost(counts, tried, num_tokens)
        for number in range(1, cutoffs.MOST + 1)
        for tried in itertools.combinations(large, number)
    }
    assert costs[found] == pytest.approx(min(costs.values()), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ptb", (1200, 3300, 6000)), ("wikitext-2", (2700, 7500, 18000))],
)
def test_the_cutoffs_of_published_corpora_are_those_of_the_documents(
    corpora, name, expected
):
    counts = Counter((corpora / name / "train.txt").read_text().split())
    frequent = sorted(counts.values(), reverse=True)
    assert {choose_cutoffs(frequent, tokens) for tokens in (420, 5600)} == {expected}


def test_the_cost_is_that_of_the_products():
    counts, tokens = np.array([50, 30, 10, 5, 3, 2]), 1000
    # Six products' beginnings aside: the head's four logits for all tokens; two words
    # for the 15 percent of the first tail, two for the 5 percent of the second.
    padded = cutoffs.IN_VAIN
    expected = 4 * tokens + 2 * (150 + padded) + 2 * (50 + padded)
    found = expected_cost(counts, (2, 4), tokens)
    assert found == pytest.approx(expected + 3 * cutoffs.BEGINNING)


def test_a_vocabulary_of_one_word_has_no_cutoffs():
    with pytest.raises(UsageError, match="at least 2 words"):
        choose_cutoffs([3], 100)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "Config.cutoffs is empty, but an adaptive head has 1 at least"),
        ((5, 9), r"Config.cutoffs is \(5, 9\); the last must be below .* words, 9"),
    ],
)
def test_a_network_with_other_cutoffs_than_its_words_is_refused(given, message):
    with pytest.raises(UsageError, match=message):
        language_model(replace(CONFIG, cutoffs=given), 9, 1)


def test_only_an_adaptive_head_has_cutoffs():
    with pytest.raises(UsageError, match=r"\(5,\), but the head softmax has no cut"):
        replace(CONFIG, head="softmax", cutoffs=(5,))
    with pytest.raises(UsageError, match=r"phase 1: the cut-offs are .5, 2.; they mu"):
        replace(CONFIG, cutoffs=(5, 2))


# What a run stores.


@pytest.fixture
def corpus(texts):
    return data.load(str(texts), order="frequency")


def test_words_in_another_order_are_refused_with_the_option(texts, tmp_path):
    plain = data.load(str(texts))
    for given_ in ((), (3,)):
        config = replace(CONFIG, cutoffs=given_)
        with pytest.raises(UsageError, match="--vocabulary-order frequency"):
            opening.open_run(tmp_path / "run", config, plain)
    assert not (tmp_path / "run").exists()


def test_a_run_stores_its_cutoffs_and_keeps_them(corpus, tmp_path, monkeypatch):
    chosen = settled(CONFIG, corpus).cutoffs
    assert chosen
    run = opening.open_run(tmp_path / "run", CONFIG, corpus)
    assert run.config.cutoffs == run_folder.read(tmp_path / "run").config.cutoffs
    assert run.config.cutoffs == chosen
    # A later version may choose others; what is given must be what there is.
    monkeypatch.setattr(cutoffs, "SHARE", 0.0)
    assert settled(CONFIG, corpus).cutoffs != chosen
    with opening.open_locked(tmp_path / "run", CONFIG, corpus) as again:
        assert again == run
    other = replace(CONFIG, cutoffs=(1, 2))
    with pytest.raises(UsageError, match=r"cutoffs.* there, .* here"):
        opening.open_run(tmp_path / "run", other, corpus)


@pytest.mark.thorough
def test_a_run_is_trained_resumed_scored_and_learns(texts, tmp_path, capsys):
    folder = tmp_path / "run"
    where = ["--data", str(texts), "--workdir", str(folder)]
    words = ["--head", "adaptive", "--vocabulary-order", "frequency"]
    command = [str(texts / "small.py"), *where, *words]
    train.main(command)
    train.main(command)
    train.main([str(folder)])
    stored = json.loads((folder / "config.json").read_text())
    capsys.readouterr()
    for options in ([], ["--dynamic", "--dynamic.statistics-batch-size", "8"]):
        evaluate.main([str(folder), "--json", *options])
        assert 1 < json.loads(capsys.readouterr().out)["perplexity"] < 12
    assert stored["cutoffs"]
