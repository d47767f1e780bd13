"""Columns and windows against the published loop, and exact tiling."""

import itertools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from glrnn.data import windows
from glrnn.errors import UsageError

quick = hypothesis.settings(max_examples=60, deadline=None)


# Columns.


@quick
@hypothesis.given(st.integers(2, 200), st.integers(1, 20))
def test_columns_are_contiguous_and_drop_the_tail(size, batch_size):
    rows = size // batch_size
    hypothesis.assume(rows >= 2)
    stream = windows.columns(np.arange(size), batch_size)
    assert stream.shape == (rows, batch_size)
    assert stream.dtype == np.int32
    assert stream.T.ravel().tolist() == list(range(rows * batch_size))


def test_a_stream_shorter_than_a_batch_is_refused():
    assert len(windows.columns(np.arange(8), 4, min_rows=2)) == 2
    with pytest.raises(
        UsageError,
        match=r"the train split has 11 tokens: too few for batch size 4, which needs "
        r"at least 12 \(3 rows\)",
    ):
        windows.columns(np.arange(11), 4, "train split", min_rows=3)
    with pytest.raises(UsageError, match="batch size must be at least 1, got 0"):
        windows.columns(np.arange(8), 0)


def test_a_stream_that_is_not_ids_is_refused():
    with pytest.raises(UsageError, match="the train split has dtype float64"):
        windows.columns([0.0, 1.5], 1, "train split")
    with pytest.raises(UsageError, match=r"the stream holds the id 5; .* 0 \.\. 4"):
        windows.columns(np.arange(6), 2, vocabulary_size=5)
    for stream in (np.full((8, 1), 2**32), np.full((8, 1), 0.5), np.arange(8)):
        with pytest.raises(UsageError, match="the stream h"):
            windows.windows(stream, [4], (4,))


# Window lengths.


def reference_lengths(rng, rows, window_length, max_extra):
    """The published loop: a slice of at most `length` rows, one short of the end."""
    lengths, i = [], 0
    while i < rows - 1 - 1:
        base = window_length if rng.random() < 0.95 else window_length / 2
        length = max(5, int(rng.normal(base, 5)))
        length = min(length, window_length + max_extra)
        lengths.append(min(length, rows - 1 - i))
        i += length
    return lengths


@quick
@hypothesis.given(
    st.integers(0, 1000), st.integers(3, 500), st.integers(5, 90), st.integers(0, 40)
)
def test_lengths_are_those_of_the_published_loop(seed, rows, window_length, max_extra):
    new, old = (np.random.default_rng(seed) for _ in range(2))
    assert windows.draw_lengths(
        new, rows, window_length, max_extra
    ) == reference_lengths(old, rows, window_length, max_extra)


@quick
@hypothesis.given(st.integers(0, 1000), st.integers(3, 300), st.integers(2, 90))
def test_lengths_fill_the_stream(seed, rows, window_length):
    lengths = windows.draw_lengths(np.random.default_rng(seed), rows, window_length)
    assert sum(lengths) in (rows - 1, rows - 2)
    assert min(lengths) >= 2
    assert max(lengths) <= windows.paddings(window_length, rows)[-1] <= rows - 1


def test_drawn_lengths_are_distributed_as_published():
    rng = np.random.default_rng(28)
    epochs = [windows.draw_lengths(rng, rows=77_465) for _ in range(20)]
    drawn = np.concatenate([epoch[:-1] for epoch in epochs])
    assert abs(drawn.mean() - 67.75) < 0.25
    assert abs(np.mean([len(epoch) for epoch in epochs]) - 1143) < 4
    assert abs((drawn < 52).mean() - 0.05) < 0.006
    assert abs(drawn[drawn > 52].std() - 5) < 0.15
    assert abs(drawn[drawn < 52].mean() - 34.5) < 0.7


def test_small_windows_stay_small():
    lengths = windows.draw_lengths(np.random.default_rng(0), 2_000, window_length=2)
    assert min(lengths[:-1]) == 2
    assert np.mean(lengths) < 5


def test_sizes_that_are_no_integers_are_refused():
    rng, stream = np.random.default_rng(0), np.arange(8)
    for refuse, value in (
        (lambda: windows.columns(stream, 2.0), "2.0"),
        (lambda: windows.columns(stream, True), "True"),
        (lambda: windows.draw_lengths(rng, 50, 10.5), "10.5"),
        (lambda: windows.draw_lengths(rng, 50.5), "50.5"),
        (lambda: windows.draw_lengths(rng, 50, max_extra=0.5), "0.5"),
        (lambda: windows.fixed_lengths(10, 2.5), "2.5"),
        (lambda: windows.paddings(10.5), "10.5"),
        (lambda: windows.windows(stream[:, None], [1.5], (2,)), "1.5"),
        (lambda: windows.windows(stream[:, None], [True], (2,)), "True"),
        (lambda: windows.windows(stream[:, None], [1], (2,), 0.5), "0.5"),
    ):
        with pytest.raises(UsageError, match=f"must be an integer, got {value}"):
            refuse()


@pytest.mark.parametrize("paddings", [(), (3, 2), (2, 2)])
def test_paddings_that_do_not_ascend_are_refused(paddings):
    with pytest.raises(ValueError, match="paddings must ascend"):
        windows.windows(windows.columns(np.arange(8), 1), [2], paddings)


@pytest.mark.parametrize("rows", [0, 2])
def test_training_on_too_few_rows_is_refused(rows):
    with pytest.raises(UsageError, match=f"at least 3 rows a column, got {rows}"):
        windows.draw_lengths(np.random.default_rng(0), rows)


def test_bad_window_settings_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UsageError, match="window length must be at least 2, got 1"):
        windows.draw_lengths(rng, 100, window_length=1)
    with pytest.raises(UsageError, match="window length must be at least 2, got 0"):
        windows.paddings(0)
    with pytest.raises(UsageError, match="max_extra must be at least 0, got -1"):
        windows.draw_lengths(rng, 100, max_extra=-1)
    with pytest.raises(UsageError, match="window length must be at least 1, got 0"):
        windows.fixed_lengths(100, 0)
    with pytest.raises(UsageError, match="at least 2 rows a column, got 1"):
        windows.fixed_lengths(1)


@quick
@hypothesis.given(st.integers(2, 300), st.integers(1, 90))
def test_fixed_lengths_score_every_target(rows, window_length):
    *whole, last = windows.fixed_lengths(rows, window_length)
    assert sum(whole) + last == rows - 1
    assert set(whole) <= {window_length}
    assert 1 <= last <= window_length


# Paddings.


@pytest.mark.parametrize(
    ("platform", "most", "window_length", "waste"),
    [
        ("cpu", 6, 10, 0.21),
        ("cpu", 6, 20, 0.14),
        ("cpu", 6, 35, 0.085),
        ("cpu", 6, 70, 0.0425),
        ("gpu", 3, 35, 0.175),
        ("tpu", 3, 70, 0.1),
    ],
)
def test_padding_wastes_little(platform, most, window_length, waste):
    rows = 77_465
    lengths = windows.draw_lengths(np.random.default_rng(0), rows, window_length)
    sizes = windows.paddings(window_length, rows, platform=platform)
    padded = [min(size for size in sizes if size >= length) for length in lengths]
    assert len(sizes) <= most
    assert sum(padded) <= (1 + waste) * sum(lengths)


@quick
@hypothesis.given(
    st.integers(2, 200),
    st.integers(3, 400),
    st.integers(0, 40),
    st.sampled_from(["cpu", "gpu", "tpu"]),
)
def test_paddings_are_ascending_and_fit_the_stream(
    window_length, rows, max_extra, platform
):
    sizes = windows.paddings(window_length, rows, max_extra, platform)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[0] >= 2
    assert sizes[-1] == min(window_length + max_extra, rows - 1)
    assert set(windows.paddings(window_length)) >= {window_length, window_length + 40}


# Windows.


@quick
@hypothesis.given(
    st.integers(0, 1000), st.integers(3, 200), st.integers(1, 4), st.integers(2, 40)
)
def test_windows_tile_the_stream(seed, rows, batch_size, window_length):
    stream = np.arange(1, rows * batch_size + 1, dtype=np.int32)
    stream = windows.columns(stream, batch_size)
    lengths = windows.draw_lengths(np.random.default_rng(seed), rows, window_length)
    sizes = windows.paddings(window_length, rows)
    found = list(windows.windows(stream, lengths, sizes))
    assert [int(window.length) for window in found] == lengths
    for window in found:
        assert window.inputs.shape == window.targets.shape
        assert window.inputs.dtype == window.targets.dtype == np.int32
        assert window.length.dtype == np.int32
        assert len(window.inputs) == min(s for s in sizes if s >= window.length)
        assert not window.inputs[window.length :].any()
        assert not window.targets[window.length :].any()
    scored = sum(lengths)
    inputs = np.concatenate([w.inputs[: w.length] for w in found])
    targets = np.concatenate([w.targets[: w.length] for w in found])
    np.testing.assert_array_equal(inputs, stream[:scored])
    np.testing.assert_array_equal(targets, stream[1 : scored + 1])


@quick
@hypothesis.given(st.integers(2, 200), st.integers(1, 40))
def test_fixed_windows_score_each_target_once(rows, window_length):
    stream = windows.columns(np.arange(1, 2 * rows + 1), 2)
    lengths = windows.fixed_lengths(rows, window_length)
    found = list(windows.windows(stream, lengths, (window_length,)))
    targets = np.concatenate([w.targets[: w.length] for w in found])
    np.testing.assert_array_equal(targets, stream[1:])
    assert {w.inputs.shape for w in found} == {(window_length, 2)}


def test_windows_go_on_where_a_run_stopped():
    stream = windows.columns(np.arange(200), 2)
    lengths = windows.draw_lengths(np.random.default_rng(0), 100, 10)
    sizes = windows.paddings(10, 100)
    whole = list(windows.windows(stream, lengths, sizes))
    for start in range(len(lengths) + 1):
        rest = windows.windows(stream, lengths, sizes, start)
        for new, old in itertools.zip_longest(rest, whole[start:]):
            for a, b in zip(new, old, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("lengths", "start", "message"),
    [
        ([4, 4], 0, "windows of 8 rows in all exceed the 7 targets"),
        ([4, 0], 0, r"must be in 1 \.\. 4, the longest padding; got 0 \.\. 4"),
        ([5], 0, r"must be in 1 \.\. 4, the longest padding; got 5 \.\. 5"),
        ([4], 2, r"start must be in 0 \.\. 1, got 2"),
        ([4], -1, r"start must be in 0 \.\. 1, got -1"),
    ],
)
def test_windows_that_do_not_fit_are_refused(lengths, start, message):
    with pytest.raises(ValueError, match=message):
        windows.windows(windows.columns(np.arange(8), 1), lengths, (2, 4), start)
