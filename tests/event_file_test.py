"""Event files have the epochs of a run's metrics, each once, and change nothing."""

import errno
import json
import shutil
import struct
import subprocess
import sys

import pytest
from begun_runs import LINE, begin
from mistakes_test import refused

from glrnn import report, train
from glrnn.errors import UsageError
from glrnn.reports import event_file
from glrnn.reports.event_file import EventFile, scalars
from glrnn.storage import run_folder
from glrnn.storage.metrics_log import EpochRecord, MetricsLog, read_epochs
from glrnn.storage.run_folder import StageId

event_pb2 = pytest.importorskip(
    "tensorboardX.proto.event_pb2", reason="tensorboardX is not installed"
)
# What differs from run to run.
TIMED = {"seconds", "tokens_per_second"}


def events(folder):
    """The events of the one file in a folder, its checksums checked."""
    from tensorboardX.record_writer import masked_crc32c

    (path,) = folder.iterdir()
    content, found = path.read_bytes(), []
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        head, data = content[:8], content[12 : 12 + size]
        assert struct.unpack("<I", content[8:12])[0] == masked_crc32c(head)
        end = content[12 + size : 16 + size]
        assert struct.unpack("<I", end)[0] == masked_crc32c(data)
        found.append(event_pb2.Event.FromString(data))
        content = content[16 + size :]
    return found


def points(folder):
    """The step and the numbers of each event that has some."""
    return [
        (event.step, {value.tag: value.simple_value for value in event.summary.value})
        for event in events(folder)
        if event.HasField("summary")
    ]


def expected(run):
    """The same by the run's metrics, in float32 as protobuf has it."""
    return [
        (step, pytest.approx(scalars(record), rel=1e-6))
        for step, record in enumerate(read_epochs(run_folder.read(run)), 1)
    ]


def test_an_epoch_has_its_numbers():
    record = EpochRecord(
        phase=2,
        stage="main",
        epoch=1,
        valid_loss=1.0,
        train_loss=1e30,
        learning_rate=0.5,
        gradient_norm={"layer 2": 3.0},
        clipped={"layer 2": 0.25},
    )
    assert scalars(record) == {
        "perplexity/validation": pytest.approx(2.718281828),
        "learning_rate": 0.5,
        "phase": 2.0,
        "gradient_norm/layer_2": 3.0,
        "clipped/layer_2": 0.25,
    }


def test_a_finished_run_is_exported(trained, tmp_path, capsys):
    shutil.copytree(trained[0], tmp_path / "run")
    for _ in range(2):  # the second time in place of the first
        report.main([str(tmp_path / "run"), "--tensorboard", str(tmp_path / "tb")])
        folder = tmp_path / "tb" / "run"
        assert points(folder) == expected(tmp_path / "run")
    times = [event.wall_time for event in events(folder)[2:]]
    assert times == sorted(times)
    assert [event.file_version for event in events(folder)][:1] == ["brain.Event:2"]
    # TensorBoard drops what it has read of an earlier file.
    assert events(folder)[1].session_log.status == event_pb2.SessionLog.START


def test_training_is_shown_and_learns_the_same(trained, tmp_path, capsys):
    _, texts, _ = trained
    run, tb = tmp_path / "run", tmp_path / "tb"
    words = [texts / "small.py", "--data", texts, "--workdir", run, "--tensorboard", tb]
    train.main([*map(str, words), "--phases.0.finetune.epochs", "1"])
    assert len(points(tb / "run")) == 3
    # Killed between the line of an epoch and its checkpoint, and resumed.
    with (run / "metrics.jsonl").open("a") as file:
        line = LINE | {"stage": "finetune", "epoch": 2}
        file.write(json.dumps(line) + "\n")
    train.main([*map(str, words)])
    assert points(tb / "run") == expected(run)

    def learned(folder):
        rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]

    assert learned(run) == learned(trained[0])


def test_an_epoch_that_is_trained_again_replaces_the_first(tmp_path):
    run = begin(tmp_path / "run", [LINE])
    log = MetricsLog(run.folder / "metrics.jsonl")
    file = EventFile(tmp_path / "tb", run.folder)
    file.rewrite()
    for epoch, loss in ((2, 3.0), (3, 2.0), (2, 1.0)):
        log.truncate_after(StageId(1, "main"), epoch - 1)
        record = EpochRecord(phase=1, stage="main", epoch=epoch, valid_loss=loss)
        log.append(record)
        file.write(record)
    file.close()
    assert [step for step, _ in points(tmp_path / "tb" / "run")] == [1, 2]
    assert points(tmp_path / "tb" / "run") == expected(run.folder)


def test_two_runs_of_one_name_do_not_delete_each_others_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        run = begin(tmp_path / name / "run", [LINE])
        file = EventFile(tmp_path / "tb", run.folder)
        file.rewrite()
        file.close()
    assert len(list((tmp_path / "tb" / "run").iterdir())) == 2


def test_a_folder_that_is_lost_does_not_end_a_run(trained, tmp_path, capsys):
    _, texts, _ = trained
    run, tb = tmp_path / "run", tmp_path / "tb"

    def lost(self, record):
        raise UsageError("cannot write event files in tb: No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventFile, "write", lost)
        words = [texts / "small.py", "--data", texts, "--workdir", run]
        train.main([*map(str, words), "--tensorboard", str(tb)])
    said = " ".join(capsys.readouterr().out.split())
    assert "No space left on device; the run goes on without them" in said
    assert len(read_epochs(run_folder.read(run))) == 4


def test_a_failed_write_is_the_last(tmp_path):
    run = begin(tmp_path / "run", [LINE])
    file = EventFile(tmp_path / "tb", run.folder)
    file.rewrite()

    def full(event):
        raise OSError(errno.ENOSPC, "No space left on device")

    file._writer.write_event = full
    record = EpochRecord(phase=1, stage="main", epoch=2, valid_loss=1.0)
    with pytest.raises(UsageError, match="No space left"):
        file.write(record)
    file.write(record)


def test_what_cannot_be_written_is_refused_before_training(
    trained, tmp_path, monkeypatch
):
    run, texts, _ = trained
    words = texts / "small.py", "--data", texts, "--workdir", tmp_path / "new"
    (tmp_path / "file").touch()
    for folder, told in (
        (tmp_path / "file", "is no folder"),
        (run / "tb", f"is inside the run {run}"),
        (tmp_path / "new" / "tb", "is inside the run"),
    ):
        assert told in refused(train.main, *words, "--tensorboard", folder)
    monkeypatch.setattr(event_file, "is_installed", lambda name: False)
    told = (
        "needs tensorboardX, which is not installed: pip install 'glrnn[tensorboard]'"
    )
    assert told in refused(train.main, *words, "--tensorboard", tmp_path / "tb")
    assert told in refused(report.main, run, "--tensorboard", tmp_path / "tb")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_tensorflow_is_not_imported(tmp_path):
    run = begin(tmp_path / "run", [LINE])
    program = (
        "import sys; from pathlib import Path\n"
        "from glrnn.reports.event_file import EventFile\n"
        "EventFile(Path(sys.argv[1]), Path(sys.argv[2])).rewrite()\n"
        "assert 'tensorboardX' in sys.modules\n"
        "assert not {'tensorflow', 'tensorboard'} & sys.modules.keys()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "tb"), str(run.folder)]
    subprocess.run(command, check=True)
