"""The lines of `metrics.jsonl`: strict JSON, none twice, none half written."""

import json
import math
from dataclasses import asdict, replace

import pytest

from glrnn.config import Config
from glrnn.errors import UsageError
from glrnn.storage.metrics_log import EpochRecord, MetricsLog, Sign, read_epochs
from glrnn.storage.run_folder import Run, StageId

MAIN, FINETUNE = StageId(1, "main"), StageId(1, "finetune")
RECORD = EpochRecord(
    phase=1,
    stage="main",
    epoch=1,
    tokens=7,
    train_loss=0.1 + 0.2,
    gradient_norm={"head": 0.5, "perplexité": 5e-3},
    valid_loss=4.5,
    warnings=(Sign("unstable", "it rose"),),
)


def run_in(folder):
    return Run(folder, Config(), None, None)


def places(path):
    records = map(json.loads, path.read_text().splitlines())
    return [(record["stage"], record["epoch"]) for record in records]


def append(path, *places, after=None):
    log = MetricsLog(path)
    found = after is None or log.truncate_after(*after)
    for stage, epoch in places:
        log.append(replace(RECORD, stage=stage, epoch=epoch))
    return found


def test_a_line_is_strict_json_with_floats_as_they_are(tmp_path):
    path = tmp_path / "run" / "metrics.jsonl"
    diverged = replace(RECORD, train_perplexity=math.inf, clipped={"head": math.nan})
    MetricsLog(path).append(diverged)

    def refuse(token):
        raise AssertionError(f"{token} is not JSON")

    (line,) = path.read_text(encoding="utf-8").splitlines()
    expected = asdict(RECORD) | {"train_perplexity": None, "clipped": {"head": None}}
    expected["warnings"] = [asdict(sign) for sign in RECORD.warnings]
    found = json.loads(line, parse_constant=refuse)
    assert found == expected
    assert list(found) == list(asdict(RECORD))
    assert "perplexité" in line


def test_what_was_written_is_read(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    records = [RECORD, replace(RECORD, epoch=2, train_loss=None, warnings=())]
    for record in records:
        log.append(record)
    assert read_epochs(run_in(tmp_path)) == records


def test_a_line_of_another_version_is_read(tmp_path):
    """It lacks fields, and has one that nobody knows."""
    line = {"phase": 1, "stage": "main", "epoch": 3, "valid_loss": 4.0, "new": 1}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    (epoch,) = read_epochs(run_in(tmp_path))
    assert epoch == EpochRecord(phase=1, stage="main", epoch=3, valid_loss=4.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"phase": 9},
        {"epoch": 0},
        {"stage": "last"},
        {"valid_loss": None},
        {"valid_loss": "4"},
        {"gradient_norm": 3},
        {"gradient_norm": {"head": "3"}},
    ],
)
def test_a_line_that_no_run_writes_is_refused(tmp_path, wrong):
    line = {"phase": 1, "stage": "main", "epoch": 3, "valid_loss": 4.0} | wrong
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(UsageError, match=r"metrics\.jsonl, line 1: "):
        read_epochs(run_in(tmp_path))


def test_epochs_that_are_trained_again_do_not_stand_twice(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = [("main", 1), ("main", 2), ("finetune", 1), ("finetune", 2)]
    append(path, *first)
    # Saved after epoch 1 of finetuning; killed in epoch 3.
    assert append(path, ("finetune", 2), ("finetune", 3), after=(FINETUNE, 1))
    assert places(path) == [*first, ("finetune", 3)]
    assert append(path, after=(FINETUNE, 0))
    assert places(path) == first[:2]
    assert append(path, after=(MAIN, 1))
    assert places(path) == first[:1]
    assert append(path, after=(MAIN, 0))
    assert places(path) == []


def test_a_line_cut_short_by_a_kill_is_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, ("main", 1), ("main", 2))
    path.write_bytes(path.read_bytes() + b'{"epoch": 3, "lo')
    append(path, ("main", 3))
    assert places(path) == [("main", 1), ("main", 2), ("main", 3)]


def test_a_log_that_lacks_the_checkpoints_epoch_is_told(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, ("main", 1))
    assert not append(path, after=(MAIN, 2))
    assert places(path) == [("main", 1)]


def test_lines_that_are_damaged_are_left_alone(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, ("main", 1))
    damaged = path.read_bytes() + b"\xff damaged\n"
    path.write_bytes(damaged)
    append(path, ("main", 2), ("main", 3))
    assert append(path, after=(MAIN, 1))
    assert path.read_bytes() == damaged


@pytest.mark.parametrize(
    "line", ["[" * 100_000, '{"phase": Infinity, "stage": "main", "epoch": 1}', "3"]
)
def test_a_line_that_no_run_writes_stays(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line}\n")
    assert not append(path, ("main", 1), after=(MAIN, 1))
    assert path.read_text().startswith(f"{line}\n{{")


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "run").write_text("in the way")
    with pytest.raises(UsageError, match=r"cannot write .*metrics\.jsonl: "):
        append(tmp_path / "run" / "metrics.jsonl", ("main", 1))
