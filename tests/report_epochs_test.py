"""The columns of a run's epochs, and curves with fewer points."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from glrnn.reports.axis import in_time, limits, perplexity_ticks
from glrnn.reports.comparison import at_equal, equal
from glrnn.reports.epochs import best_row, columns, segments, thinned
from glrnn.storage.metrics_log import EpochRecord, Sign


def record(phase, stage, epoch, loss, **rest):
    return EpochRecord(phase=phase, stage=stage, epoch=epoch, valid_loss=loss, **rest)


def test_epochs_are_in_the_order_of_training_whatever_the_file_says():
    found = columns(
        [
            record(2, "main", 1, 3.0, gradient_norm={"layer 2": 5.0}),
            record(1, "finetune", 1, 2.0),
            record(1, "main", 2, 1.0, gradient_norm={"layer 1": 4.0}),
            record(1, "main", 1, math.nan, train_loss=7.0),
        ]
    )
    assert found.valid_loss[1:].tolist() == [1.0, 2.0, 3.0]
    assert found.train_loss[:1].tolist() == [7.0]
    np.testing.assert_array_equal(found.norms["layer 2"], [math.nan] * 3 + [5.0])
    np.testing.assert_array_equal(
        found.norms["layer 1"], [math.nan, 4] + [math.nan] * 2
    )
    stages = [(*part.stage, part.start, part.stop) for part in segments(found)]
    assert stages == [(1, "main", 0, 2), (1, "finetune", 2, 3), (2, "main", 3, 4)]
    assert best_row(found.valid_loss, slice(0, 2)) == 1


def test_warnings_that_last_are_kept():
    nothing, unstable = Sign("nothing_learned", "no"), Sign("unstable", "up")
    first = record(1, "main", 1, 1.0, warnings=(nothing, unstable))
    (warning,) = columns([first, record(1, "main", 2, 1.0)]).warnings
    assert warning.endswith("epoch 1: up")
    assert len(columns([first]).warnings) == 2


def test_a_run_without_epochs_has_no_segments():
    assert segments(columns([])) == []


@given(
    y=arrays.arrays(
        float, st.integers(1, 300), elements=st.floats(-5, 5) | st.just(math.nan)
    ),
    most=st.integers(2, 40),
)
def test_a_thinned_curve_is_as_low_and_as_high_as_the_whole(y, most):
    x = np.arange(len(y), dtype=float)
    few_x, few_y = thinned(x, y, most)
    assert len(few_x) <= max(most, 2)
    assert (np.diff(few_x) >= 0).all()
    np.testing.assert_array_equal(few_y, y[few_x.astype(int)])
    if np.isfinite(y).any():
        assert np.nanmin(few_y) == np.nanmin(y)
        assert np.nanmax(few_y) == np.nanmax(y)


def test_an_axis_ends_where_curves_say_nothing():
    found = limits([np.array([4.0, 4.5, 29.0, 1e30, math.nan])])
    assert found == (4.0, 9.0)
    assert found.shown(np.array([29.0, 4.0])).tolist() == [9.0, 4.0]
    assert limits([np.array([math.nan, 800.0])]) is None


@given(low=st.floats(0, 30), width=st.floats(0.1, 5))
def test_an_axis_has_some_ticks_and_not_too_many(low, width):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    ticks = perplexity_ticks(low, low + width)
    assert 2 <= len(ticks) <= 13
    inside = (low - 1e-9 <= math.log(tick) <= low + width + 1e-9 for tick in ticks)
    assert all(inside)


def test_time_has_a_unit_that_suits_it():
    units = [in_time(seconds)[1] for seconds in (5, 600, 20_000, 1e6)]
    assert units == ["seconds", "minutes", "hours", "days"]


def test_runs_are_compared_where_all_have_come():
    fast = columns([record(1, "main", n, 9.0 - n, seconds=1.0) for n in (1, 2, 3, 4)])
    slow = columns([record(1, "main", n, 8.0 - n, seconds=3.0) for n in (1, 2)])
    at = equal([fast, slow, columns([])])
    assert at == (2, 4.0)
    assert np.log(at_equal(fast, at)).round(6).tolist() == [7.0, 5.0]
    assert np.log(at_equal(slow, at)).round(6).tolist() == [6.0, 7.0]
    assert at_equal(columns([]), at) == (None, None)
