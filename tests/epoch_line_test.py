"""The line of an epoch fits a terminal of 80 columns."""

import math

import pytest

from glrnn.console.epoch_line import clock, epoch_line


@pytest.mark.parametrize("perplexity", [1.0, 61.2, 999.99])
@pytest.mark.parametrize(
    "title",
    [
        "phase 1/3 · main · epoch 1/4",
        "phase 3/3 · main · epoch 500/500",
        "phase 3/3 · finetune · epoch 100/500",
    ],
)
def test_it_fits(title, perplexity):
    loss = math.log(perplexity)
    line = epoch_line(title, loss, loss, averaged=True, seconds=3599)
    assert len(line) <= 80
    assert line == (
        f"{title} · train {perplexity:.2f} · valid {perplexity:.2f} avg · 59:59"
    )


def test_a_clock_carries_over():
    assert [clock(s) for s in (0, 59.6, 3599.4, 3600, 90_061)] == [
        "0:00", "1:00", "59:59", "1:00:00", "25:01:01",
    ]  # fmt: skip
