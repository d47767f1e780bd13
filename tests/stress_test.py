"""Runs that are killed, and runs that last, both shorter than as programs."""

import pytest
import soak
import stress


@pytest.mark.slow
def test_a_run_killed_thrice_is_the_run_that_would_have_been(tmp_path):
    """By each signal, and at each kind of moment."""
    survived = stress.stress(kills=3, seed=1, folder=tmp_path)
    assert survived["kills"] == 3


@pytest.mark.thorough
def test_a_run_leaves_nothing_behind_but_itself(tmp_path):
    epochs = soak.soak(windows=400, folder=tmp_path / "run")
    assert len(epochs) == soak.STAGES * soak.EPOCHS
