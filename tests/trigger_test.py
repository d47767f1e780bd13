"""The triggers against their equations."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.optim.trigger import (
    TRIGGERS,
    epochs_since_best,
    non_monotonic_trigger,
    plateau_trigger,
)

# The trigger.


def trigger_of_the_equation(losses, window):
    """Epochs count from 1, as in the equation."""
    epoch = len(losses)
    if epoch < window + 2:
        return False
    value = dict(enumerate(losses, start=1))
    return value[epoch] > min(value[e] for e in range(1, epoch - window))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 6).map(float), max_size=14), st.integers(0, 7))
def test_trigger_is_its_equation(losses, window):
    assert non_monotonic_trigger(losses, window) is trigger_of_the_equation(
        losses, window
    )


def test_trigger_can_first_fire_at_epoch_seven_and_looks_past_the_last_five():
    worse_and_worse = [float(epoch) for epoch in range(1, 8)]
    assert [e for e in range(8) if non_monotonic_trigger(worse_and_worse[:e])] == [7]
    # The best of the last five, 1, is left aside: only the 5 counts.
    assert not non_monotonic_trigger([5.0, 4.0, 1.0, 1.0, 1.0, 1.0, 5.0])
    assert non_monotonic_trigger([5.0, 4.0, 1.0, 1.0, 1.0, 1.0, 5.1])


def test_trigger_on_numpy_nan_and_negative_window():
    losses = np.array([5.0, 4.0, 1.0, 1.0, 1.0, 1.0, 5.1])
    assert non_monotonic_trigger(losses) is True
    assert non_monotonic_trigger([*losses[:-1], math.nan]) is False
    with pytest.raises(ValueError, match="window must be at least 0; got -1"):
        non_monotonic_trigger(losses, window=-1)


def test_a_loss_that_is_nan_is_never_the_lowest():
    nan = math.nan
    worse_and_worse = [nan, *map(float, range(1, 8))]
    fired = [e for e in range(9) if non_monotonic_trigger(worse_and_worse[:e])]
    assert fired == [8]
    assert not non_monotonic_trigger([nan] * 6 + [9.0])
    assert epochs_since_best([nan, 3.0, 2.0, nan]) == 1
    assert epochs_since_best(np.array([nan, 2.0, 3.0])) == 1
    assert plateau_trigger([nan, 2.0, 1.0], 1) is False


def test_of_equal_losses_the_first_is_the_best():
    assert epochs_since_best([3.0, 1.0, 1.0, 1.0]) == 2
    assert not non_monotonic_trigger([1.0] * 9)


# The other triggers.


@given(st.lists(st.floats(1, 9), max_size=20), st.integers(1, 6))
def test_a_plateau_is_so_many_losses_without_a_lower_one(losses, window):
    expected = len(losses) > window and min(losses[:-window]) <= min(losses[-window:])
    assert plateau_trigger(losses, window) == expected


def test_a_plateau_of_no_length_is_refused():
    with pytest.raises(ValueError, match="window must be at least 1; got 0"):
        plateau_trigger([1.0], 0)


def test_never_is_never():
    assert not any(TRIGGERS["never"]([1.0] * n, 1) for n in range(9))
