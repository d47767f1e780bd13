"""Generated words have the probabilities that they should have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scoring_test import WORDS, network

from glrnn import generate as door
from glrnn.errors import UsageError
from glrnn.scoring.generation import Sampling, choose, sample
from glrnn.scoring.tokens import beginning, log_likelihoods, next_log_probs

PROBS = np.array([0.4, 0.25, 0.25, 0.05, 0.03, 0.02])
COUNT = 100_000


def expected_probs(temperature=1.0, top_k=0, top_p=1.0):
    """By hand, in double precision: temperature, then k with ties, then p."""
    probs = PROBS ** (1 / temperature)
    probs /= probs.sum()
    if top_k:
        probs = np.where(probs >= np.sort(probs)[-min(top_k, 6)], probs, 0)
        probs /= probs.sum()
    if top_p < 1:
        order = np.argsort(-probs, kind="stable")
        before = np.cumsum(probs[order]) - probs[order]
        kept = order[(before < top_p) | (np.arange(6) == 0)]
        probs = np.where(np.isin(np.arange(6), kept), probs, 0)
        probs /= probs.sum()
    return probs


def statistic(counts, probs):
    """Chi-squared over its degrees of freedom; infinite where nothing should be."""
    if np.any(counts[probs == 0]):
        return np.inf
    some = probs > 0
    expected = COUNT * probs[some]
    squares = ((counts[some] - expected) ** 2 / expected).sum()
    return squares / max(1, some.sum() - 1)


CASES = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.5},
    {"top_k": 1},
    {"top_k": 2},  # of a tie with the third
    {"top_k": 9},
    {"top_p": 0.0},
    {"top_p": 0.5},
    {"top_p": 0.93},
    {"temperature": 2.0, "top_k": 4, "top_p": 0.8},
]


@pytest.fixture(scope="module")
def counts():
    """For each case, how often each word was drawn."""
    logits = jnp.broadcast_to(jnp.log(jnp.asarray(PROBS)) + 3.0, (COUNT, 6))

    def drawn(number, case):
        words = choose(jax.random.key(number), logits, Sampling(**case))
        return np.bincount(np.asarray(words), minlength=6)

    return [drawn(number, case) for number, case in enumerate(CASES)]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_words_are_drawn_with_their_probabilities(counts, number):
    """Those of this case and of no other: a wrong setting would be seen."""
    assert statistic(counts[number], expected_probs(**CASES[number])) < 5
    for other in CASES:
        probs = expected_probs(**other)
        if not np.allclose(probs, expected_probs(**CASES[number])):
            assert statistic(counts[number], probs) > 50


def test_the_first_word_of_a_sentence_has_the_models_probabilities():
    trained = network()
    probs = np.exp(np.float64(next_log_probs(trained)))
    drawn = sample(trained, length=1, num_samples=COUNT)
    words = [ids[0] if ids.size else trained.eos for ids in drawn]
    counts = np.bincount(words, minlength=len(WORDS))
    assert statistic(counts, probs / probs.sum()) < 3


def test_the_most_likely_words_are_taken_at_the_temperature_0():
    trained = network()
    sampling = Sampling(temperature=0.0, min_length=9)
    (ids,) = sample(trained, [4, 5], length=9, sampling=sampling)
    _, context = log_likelihoods(trained, ids[:2], beginning(trained))
    for word in ids[2:]:
        log_probs = np.array(next_log_probs(trained, context))
        log_probs[trained.eos] = -np.inf
        assert word == log_probs.argmax()
        _, context = log_likelihoods(trained, [word], context)


def test_a_seed_gives_the_same_sentences_and_another_others():
    trained = network()
    first, again, other = (
        [ids.tolist() for ids in sample(trained, num_samples=4, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again != other
    assert len({*map(tuple, first)}) > 1


def test_sentences_end_and_what_is_ruled_out_does_not_come():
    trained = network()
    sampling = Sampling(temperature=3.0, min_length=5, bans_unknown=True)
    drawn = sample(trained, [3], length=40, num_samples=200, sampling=sampling)
    unknown = WORDS.index["<unk>"]
    lengths = {len(ids) - 1 for ids in drawn}
    assert min(lengths) == 5 and max(lengths) == 40 and len(lengths) > 5
    assert all(ids[0] == 3 for ids in drawn)
    assert not any(np.isin(ids, (trained.eos, unknown)).any() for ids in drawn)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"length": 0}, "the length is 0; it must be at least 1"),
        ({"num_samples": 1.5}, "the number of samples must be an integer, got 1.5"),
        ({"prompt": [99]}, "the prompt holds the id 99"),
    ],
)
def test_what_cannot_be_generated_is_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        sample(network(), **settings)


def test_the_command_prints_a_sentence_a_line(trained, capsys):
    run, _, _ = trained
    words = ["--prompt", "the dog", "--samples", "3", "--length", "4"]
    door.main([str(run), *words, "--min-length", "4"])
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert [len(line.split()) for line in lines] == [6] * 3
    assert all(line.startswith("the <unk> ") for line in lines)
    assert printed.err == "note: the model does not know: dog\n"
    door.main([str(run), *words, "--min-length", "4"])
    assert capsys.readouterr().out == printed.out
