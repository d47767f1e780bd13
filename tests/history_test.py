"""The history of a stage is read back as it was saved, and as nothing else."""

import json
from dataclasses import asdict

import pytest

from glrnn.errors import UsageError
from glrnn.training.history import StageHistory, Tally, read_histories

MAIN = StageHistory((5.0, 4.0), (4.5,), 12.5, 1)
# Sums of norms may be larger than what JAX computes with.
FINETUNE = StageHistory(
    (4.0,), (), 3.0, tally=Tally(2, 4, 150, 600.0, (3e38 * 9, 1e-44), (0.0, 1.0), 1, 1)
)


def saved(*histories):
    """As JSON has it."""
    return json.loads(json.dumps({"stages": [asdict(each) for each in histories]}))


def test_what_was_saved_is_read():
    assert read_histories(saved(MAIN), groups=2) == (MAIN,)
    assert read_histories(saved(MAIN, FINETUNE), groups=2) == (MAIN, FINETUNE)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no list of 1 to 2 stages"),
        ({"stages": []}, "no list of 1 to 2 stages"),
        ({"stages": "ab"}, "no list of 1 to 2 stages"),
        ({"stages": [3]}, "not a history"),
        (saved(MAIN, MAIN, MAIN), "no list of 1 to 2 stages"),
    ],
)
def test_another_form_is_refused(values, message):
    with pytest.raises(UsageError, match=message):
        read_histories(values, groups=2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_losses": "abc"}, "StageHistory.raw_losses is 'a'; it must be float"),
        ({"raw_losses": [-1.0]}, "it must be a finite number, at least 0"),
        ({"raw_losses": [float("nan")]}, "raw_losses is nan; it must be finite"),
        ({"raw_losses": []}, "more averaged_losses than raw_losses"),
        ({"rewinds": -1}, "StageHistory.rewinds is -1"),
        ({"seconds": None}, "StageHistory.seconds is None"),
        ({"colour": 1}, "extra fields found .colour"),
        ({"tally": []}, "not a history"),
        ({"tally": {"windows": 1.5}}, "Tally.windows is 1.5; it must be int"),
        ({"tally": {"windows": 4, "total": 4}}, "a tally of 4 windows, 0 of them"),
        ({"tally": {"skipped": 2, "windows": 1, "total": 4}}, "1 windows, 2 of them"),
        ({"tally": {"norm_sums": [1.0]}}, "the history has 1 norm_sums, not 2"),
        ({"tally": {"clipped": ["x", 1.0]}}, "Tally.clipped is 'x'; it must be float"),
    ],
)
def test_a_history_that_no_stage_has_is_refused(changes, message):
    values = saved(MAIN)
    values["stages"][0] |= changes
    with pytest.raises(UsageError, match=message):
        read_histories(values, groups=2)
