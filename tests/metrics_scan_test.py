"""Metrics that are read as far as they can be."""

import dataclasses
import json
import math

import pytest
from begun_runs import LINE, begin
from hypothesis import given, settings
from hypothesis import strategies as st

from glrnn.errors import UsageError
from glrnn.storage import metrics_scan, run_folder
from glrnn.storage.metrics_log import read_epochs
from glrnn.storage.metrics_scan import scan_epochs


@pytest.fixture
def begun(tmp_path):
    """Makes a run with these bytes for metrics."""
    return lambda content: begin(tmp_path / "run", [content])


def scanned(run):
    damages = []
    return list(scan_epochs(run, damages)), damages


def test_a_sound_file_is_read_as_the_strict_reader_does(trained):
    run = run_folder.read(trained[0])
    epochs, damages = scanned(run)
    strict = [
        dataclasses.replace(epoch, train_perplexity=None, valid_perplexity=None)
        for epoch in read_epochs(run)
    ]
    assert epochs == strict
    assert damages == []


def test_damaged_lines_are_left_out_and_counted(begun):
    good = json.dumps(LINE).encode()
    bad = [
        b"",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        json.dumps(LINE | {"phase": 3}).encode(),
        json.dumps(LINE | {"phase": True}).encode(),
        json.dumps(LINE | {"stage": ["main"]}).encode(),
        json.dumps(LINE | {"epoch": 1.5}).encode(),
        json.dumps(LINE | {"epoch": 10**400}).encode()[:4000],
        b" " * (metrics_scan.LONGEST + 5) + good,
    ]
    content = b"\n".join([good, *bad, good]) + b"\n" + good[:20]
    epochs, damages = scanned(begun(content))
    assert len(epochs) == 2
    assert damages == [
        "10 lines, of which line 2 is the first, of metrics.jsonl cannot be read"
    ]
    assert scanned(begun(good + b"\n{\n"))[1] == [
        "line 2 of metrics.jsonl cannot be read"
    ]


def test_numbers_that_are_none_are_missing(begun):
    line = json.dumps(
        LINE
        | {
            "valid_loss": math.nan,
            "train_loss": math.inf,
            "raw_valid_loss": "x",
            "tokens": -3,
            "seconds": -1.0,
            "averaging": "yes",
            "gradient_norm": {"embedding": 1.0, "layer 1": math.nan, "<b>": 2.0},
            "clipped": [1],
            "warnings": [3, {"kind": "x", "text": "y"}],
            "unigram_perplexity": 10**400,
        }
    )
    ((epoch,), _) = scanned(begun(line.replace(" 1000", " 1e0").encode() + b"\n"))
    assert math.isnan(epoch.valid_loss)
    assert epoch.train_loss is None
    assert epoch.raw_valid_loss is None
    assert (epoch.tokens, epoch.seconds, epoch.averaging) == (0, 0.0, False)
    assert epoch.gradient_norm == {"embedding": 1.0}
    assert (epoch.clipped, epoch.warnings) == ({}, ())


def test_no_more_lines_are_read_than_that(begun, monkeypatch):
    monkeypatch.setattr(metrics_scan, "MOST_LINES", 2)
    line = json.dumps(LINE).encode() + b"\n"
    epochs, damages = scanned(begun(line * 3))
    assert (len(epochs), damages) == (2, ["only the first 2 epochs were read"])
    assert scanned(begun(line * 2))[1] == []


def test_a_link_is_not_followed(begun, tmp_path):
    run = begun(b"")
    (run.folder / "metrics.jsonl").unlink()
    assert scanned(run) == ([], [])
    (run.folder / "metrics.jsonl").symlink_to("/dev/zero")
    with pytest.raises(UsageError, match=r"metrics.jsonl: it is a symbolic link"):
        scanned(run)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["kind", "text", "layer 1", "x"]), inner)
    ),
    max_leaves=5,
)
FIELDS = st.sampled_from((*metrics_scan.GROUPS, *metrics_scan.NUMBERS, *LINE))


@pytest.mark.thorough
def test_anything_is_read_or_counted(tmp_path_factory, begun):
    @settings(deadline=None, max_examples=200)
    @given(changes=st.dictionaries(FIELDS | st.just("warnings"), JSON, max_size=4))
    def check(changes):
        epochs, damages = scanned(begun(json.dumps(LINE | changes).encode() + b"\n"))
        assert len(epochs) + len(damages) == 1

    check()
