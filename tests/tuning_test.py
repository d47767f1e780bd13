"""The search for the rates of dynamic evaluation: what it tries, keeps and chooses."""

import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest

from glrnn.errors import DivergedError, UsageError
from glrnn.evaluation import tuning
from glrnn.evaluation.dynamic import DynamicRule
from glrnn.evaluation.tuning import (
    DECAY_RATES,
    LEARNING_RATES,
    SEARCH_TOKENS,
    read_trials,
    tune,
)

GRID = len(LEARNING_RATES) * len(DECAY_RATES)
# Around 6e-5 and 2e-3, beside those in the grid: 9e-5, and 4e-3.
AROUND = 2
TOKENS = np.zeros(SEARCH_TOKENS + 10, np.int32)


class Scores:
    """Losses lowest at 6e-5 on a beginning, at 7e-5 on the whole; counts its calls."""

    def __init__(self):
        self.asked = []

    def __call__(self, rule, text):
        self.asked.append((rule, len(text)))
        best = 6e-5 if len(text) == SEARCH_TOKENS else 7e-5
        return (
            4 + 1e4 * abs(rule.learning_rate - best) + 150 * abs(rule.decay_rate - 2e-3)
        )


RULE = DynamicRule()
PARAMS = (np.ones(3),)


def search(path, score, tokens=TOKENS, rule=RULE, params=PARAMS):
    return tune(score, params, tokens, rule, path, say=lambda line: None)


def test_all_rates_are_tried_on_the_beginning_and_the_best_on_all(tmp_path):
    scores = Scores()
    rule = DynamicRule(epsilon=1e-4, statistics_batch_size=9)
    chosen = search(tmp_path / "trials.json", scores, rule=rule)
    lengths = [length for _, length in scores.asked]
    beginnings = GRID + AROUND
    assert lengths == [SEARCH_TOKENS] * beginnings + [len(TOKENS)] * tuning.FINALISTS
    tried = {(rule.learning_rate, rule.decay_rate) for rule, _ in scores.asked}
    grid = {(a, b) for a in LEARNING_RATES for b in DECAY_RATES}
    assert tried == grid | {(9e-5, 2e-3), (6e-5, 4e-3)}
    finalists = [rule for rule, length in scores.asked if length == len(TOKENS)]
    # Of those, not of all, the one that is best on the whole text.
    best = min(finalists, key=lambda rule: Scores()(rule, TOKENS))
    assert chosen == best
    assert chosen.learning_rate == 7e-5
    assert replace(chosen, learning_rate=3.9e-5, decay_rate=4.4e-3) == rule


def test_the_search_goes_on_beyond_the_grid(tmp_path):
    def score(rule, text):
        far = math.log(rule.learning_rate / 5e-4), math.log(rule.decay_rate / 2e-4)
        return 4 + math.hypot(*far)

    chosen = search(tmp_path / "trials.json", score)
    assert 5e-4 / 1.5 < chosen.learning_rate < 5e-4 * 1.5
    assert 1e-4 < chosen.decay_rate < 4e-4


def test_what_is_to_come_is_told_before_every_trial(tmp_path):
    path, told, scores = tmp_path / "trials.json", [], Scores()

    def tell(*figures):
        assert len(told) == len(scores.asked)
        told.append(figures)

    tune(scores, PARAMS, TOKENS, RULE, path, lambda line: None, tell)
    numbers, at_least, left = zip(*told, strict=True)
    count = GRID + AROUND + tuning.FINALISTS
    assert numbers == tuple(range(1, count + 1))
    assert at_least[0] == GRID + tuning.FINALISTS
    assert sorted(at_least) == list(at_least)
    assert at_least[-1] == count
    finals = tuning.FINALISTS * len(TOKENS)
    assert left[0] == GRID * SEARCH_TOKENS + finals
    assert left[-tuning.FINALISTS] == finals
    assert left[-1] == len(TOKENS)
    # Trials that were made before are not told of, but count.
    path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
    told.clear()
    tune(
        *(lambda *_: 9.0, PARAMS, TOKENS, RULE, path, lambda line: None),
        lambda *figures: told.append(figures),
    )
    assert told == [(count, count, len(TOKENS))]


def test_a_short_text_is_searched_whole_and_has_no_finals(tmp_path):
    told = []
    tune(
        *(Scores(), PARAMS, TOKENS[:9], RULE, tmp_path / "trials.json"),
        *(lambda line: None, lambda *figures: told.append(figures)),
    )
    assert told[0] == (1, GRID, 9 * GRID)
    assert told[-1][0] == told[-1][1] == len(told)


def test_rates_are_in_proportion_to_the_window(tmp_path):
    scores = Scores()
    search(tmp_path / "trials.json", scores, rule=DynamicRule(window_length=10))
    first = [rule for rule, _ in scores.asked[:GRID]]
    assert min(rule.learning_rate for rule in first) == 2 * 3e-5
    assert max(rule.decay_rate for rule in first) == 2 * 5e-3


def test_a_search_that_was_stopped_goes_on(tmp_path):
    path, whole = tmp_path / "trials.json", Scores()
    expected = search(tmp_path / "other.json", whole)

    first = Scores()

    def stopped(rule, text):
        if len(first.asked) == 10:
            raise KeyboardInterrupt
        return first(rule, text)

    with pytest.raises(KeyboardInterrupt):
        search(path, stopped)
    second = Scores()
    assert search(path, second) == expected
    assert first.asked + second.asked == whole.asked
    third = Scores()
    assert search(path, third) == expected
    assert third.asked == []


def test_what_another_model_or_text_gave_is_not_taken_for_this_ones(tmp_path):
    path = tmp_path / "trials.json"
    search(path, Scores())
    for change in (
        {"params": (np.zeros(3),)},
        {"tokens": TOKENS + 1},
        {"rule": DynamicRule(epsilon=1.0)},
    ):
        scores = Scores()
        search(path, scores, **change)
        assert len(scores.asked) == GRID + AROUND + tuning.FINALISTS
    assert len(read_trials(path)) == 4 * (GRID + AROUND + tuning.FINALISTS)


def test_a_key_among_the_parameters_is_told_from_another(tmp_path):
    score, path = Scores(), tmp_path / "dynamic.json"
    for number in (0, 1, 1):
        search(path, score, TOKENS[:9], params=(jax.random.key(number),))
    assert {trial.model for trial in read_trials(path)} == {
        tuning._fingerprint(np.array([0, number], np.uint32)) for number in (0, 1)
    }


def test_rates_that_diverge_are_never_chosen(tmp_path):
    def score(rule, text):
        return math.nan if rule.learning_rate < 1e-4 else 5.0

    path = tmp_path / "trials.json"
    assert search(path, score).learning_rate == 1e-4
    kept = [trial["nats_per_token"] for trial in json.loads(path.read_text())]
    # And the one below 1e-4 that is not in the grid.
    assert kept.count(None) == GRID - len(DECAY_RATES) + 1
    with pytest.raises(DivergedError, match="no rates"):
        search(path, lambda rule, text: math.inf, tokens=TOKENS + 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not a list of trials"),
        ("{}", "not a list of trials"),
        ("[3]", "not a trial: 3 is no JSON object"),
        ('[{"colour": 1}]', "extra fields found"),
        (
            '[{"model": "a", "text": "b", "rule": {"epsilon": 0}, '
            '"nats_per_token": 1}]',
            "DynamicRule.epsilon is 0; it must be above 0",
        ),
    ],
)
def test_a_damaged_record_is_refused_and_kept(tmp_path, text, message):
    path = tmp_path / "trials.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        search(path, Scores())
    assert "delete it to try anew" in str(caught.value)
    assert path.read_text() == text
