"""Runs that reach out of their folder: refused, and nothing outside is touched."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from mistakes_test import refused, snapshot

from glrnn import check, evaluate, runs, train
from glrnn.errors import UsageError
from glrnn.ground import files
from glrnn.storage import metrics_log, opening


def outside(folder: Path) -> Path:
    """Something that must stay as it is: a file with lines, and a folder."""
    (folder / "outside" / "main" / ".unfinished_7").mkdir(parents=True)
    (folder / "outside" / "lines").write_text('{"phase": 1}\nnot finished')
    return folder / "outside"


def in_place_of(path: Path, target: Path) -> None:
    """Puts a symbolic link in the place of a file or folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target)


def hard_link(run: Path, there: Path) -> None:
    (run / "metrics.jsonl").unlink()
    os.link(there / "lines", run / "metrics.jsonl")


def empty_hard_link(run: Path, there: Path) -> None:
    (run / "metrics.jsonl").unlink()
    (there / "empty").touch()
    os.link(there / "empty", run / "metrics.jsonl")


def link_as_checkpoint(run: Path, there: Path) -> None:
    (newest, *_) = (run / "phase_1" / "main").iterdir()
    in_place_of(newest, there / "main")


HOSTILE = {
    "metrics.jsonl": lambda run, there: in_place_of(
        run / "metrics.jsonl", there / "lines"
    ),
    "lock": lambda run, there: in_place_of(run / ".lock", there / "lines"),
    "stage": lambda run, there: in_place_of(run / "phase_1" / "main", there / "main"),
    "phase": lambda run, there: in_place_of(run / "phase_1", there),
    "checkpoint": link_as_checkpoint,
    "dangling link": lambda run, there: (run / "notes").symlink_to(there / "new"),
    "pipe": lambda run, there: os.mkfifo(run / "phase_1" / "pipe"),
    "hard link": hard_link,
    "hard link to an empty file": empty_hard_link,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_run_that_reaches_outside_is_not_trained(trained, tmp_path, kind):
    run, there = tmp_path / "run", outside(tmp_path)
    shutil.copytree(trained[0], run)
    HOSTILE[kind](run, there)
    before = snapshot(tmp_path)
    said = refused(train.main, run)
    assert (
        "is a symbolic link; " in said
        or "is not a regular file" in said
        or ("metrics.jsonl is a hard link" in said)
    )
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("part", ["phase_1", "phase_1/finetune"])
def test_no_link_inside_a_run_is_evaluated(trained, tmp_path, part):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    shutil.copytree(run / part, tmp_path / "there")
    in_place_of(run / part, tmp_path / "there")
    assert f"{run / part} is a symbolic link" in refused(evaluate.main, run)


def test_a_run_inside_another_is_not_begun(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    before = snapshot(run)
    inner = "--workdir", run / "phase_1" / "finetune" / "77"
    options = "--data", trained[1], *inner
    assert "is inside the run" in refused(train.main, trained[1] / "small.py", *options)
    (tmp_path / "link").symlink_to(run / "phase_1")
    options = "--data", trained[1], "--workdir", tmp_path / "link" / "inner"
    assert "is inside the run" in refused(train.main, trained[1] / "small.py", *options)
    assert snapshot(run) == before


@pytest.mark.parametrize("door", [evaluate, check, runs, train])
def test_a_folder_that_may_not_be_entered_is_called_so(
    trained, tmp_path, door, monkeypatch
):
    """By any user: root may enter all, so the system's answer is made up."""
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    lstat = os.lstat

    def denied(path, **how):
        if os.fspath(path).startswith(os.fspath(run / "config")):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return lstat(path, **how)

    monkeypatch.setattr(files.os, "lstat", denied)
    told = f"cannot read {run / 'config.json'}: Permission denied"
    assert told in refused(door.main, run)


def test_a_finished_stage_without_its_checkpoint_is_not_replaced(trained, tmp_path):
    """Another stage's model would be scored, and nobody would know."""
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    shutil.rmtree(run / "phase_1" / "finetune")
    told = "its finetune stage has no checkpoint any more; name the --phase or --stage"
    assert told in refused(evaluate.main, run)
    evaluate.main([str(run), "--stage", "main"])


@pytest.mark.parametrize("door", [evaluate, check])
def test_a_run_larger_than_the_memory_is_refused(trained, tmp_path, door):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    config = json.loads((run / "config.json").read_text())
    config["embedding_size"] = config["layers"][0]["hidden_size"] = 2**31 - 1
    (run / "config.json").write_text(json.dumps(config))
    origin = json.loads((run / "origin.json").read_text())
    (run / "origin.json").write_text(json.dumps(origin | {"config": config}))
    assert "GiB of parameters; this machine has" in refused(door.main, run)


def test_a_path_with_a_backslash_is_refused(trained, tmp_path):
    """Its arrays would be written to another folder."""
    run = tmp_path / "odd\\name"
    shutil.copytree(trained[0], run)
    assert "has a backslash" in refused(evaluate.main, run)
    options = "--data", trained[1], "--workdir", run / "inner"
    assert "has a backslash" in refused(train.main, trained[1] / "small.py", *options)
    assert not (run / "inner").exists()


def test_a_name_that_is_not_utf8_is_refused(trained, tmp_path):
    run = tmp_path / "su\udcff"
    shutil.copytree(trained[0], run)
    assert "is not UTF-8" in refused(evaluate.main, run)


def test_words_in_another_order_are_not_trained_on(trained, tmp_path):
    """In a run of an earlier version, which has no fingerprint of them."""
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    words = json.loads((run / "vocabulary.json").read_text())
    (run / "vocabulary.json").write_text(json.dumps(words[::-1]))
    origin = json.loads((run / "origin.json").read_text())
    (run / "origin.json").write_text(json.dumps(origin | {"vocabulary_sha256": ""}))
    assert "has not the words of the corpus" in refused(train.main, run)


def test_the_folder_of_a_run_may_be_a_link(trained, tmp_path, capsys):
    shutil.copytree(trained[0], tmp_path / "run")
    (tmp_path / "link").symlink_to("run")
    train.main([str(tmp_path / "link")])
    assert "phase" in capsys.readouterr().out


def test_an_empty_folder_with_a_link_for_a_lock_is_not_used(texts, tmp_path):
    there = outside(tmp_path)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".lock").symlink_to(there / "lines")
    before = snapshot(tmp_path)
    options = "--data", texts, "--workdir", tmp_path / "new"
    assert ".lock is a symbolic link" in refused(
        train.main, texts / "small.py", *options
    )
    assert snapshot(tmp_path) == before


def test_a_lock_follows_no_link(tmp_path):
    """Without the walk over the folder, by `filelock` itself."""
    there = outside(tmp_path)
    (tmp_path / ".lock").symlink_to(there / "lines")
    with pytest.raises(UsageError, match="cannot write"), opening.locked(tmp_path):
        pass
    assert (there / "lines").read_text().endswith("not finished")


def test_the_metrics_of_a_finished_run_are_not_opened_to_write(
    trained, tmp_path, monkeypatch, capsys
):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"cut sh')

    def append(path):
        raise AssertionError("opened to write")

    monkeypatch.setattr(metrics_log, "append_regular", append)
    before = (run / "metrics.jsonl").read_bytes()
    train.main([str(run)])
    assert (run / "metrics.jsonl").read_bytes() == before


def test_runs_beside_very_deep_folders_are_listed(trained, tmp_path, capsys):
    """`os.walk` of Python 3.11 fails at a thousand."""
    shutil.copytree(trained[0], tmp_path / "run")
    deep = tmp_path
    for _ in range(1200):
        deep = deep / "d"
        deep.mkdir()
    try:
        runs.main([str(tmp_path)])
    finally:
        while deep != tmp_path:  # pytest would remove them by recursion
            deep.rmdir()
            deep = deep.parent
    assert str(tmp_path / "run") in capsys.readouterr().out


def test_the_help_of_a_run_escapes_control_characters(trained, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    path = run / "origin.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data": "x\x1b[2Jy"}))
    with pytest.raises(SystemExit):
        train.main([str(run), "--help"])
    assert r"x\x1b[2Jy" in capsys.readouterr().out.replace("\n", "")


def test_a_terabyte_in_a_checkpoint_is_not_read(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained[0], run)
    for checkpoint in (run / "phase_1" / "finetune").iterdir():
        (array,) = checkpoint.glob("progress/params.embedding.table/0*")
        os.truncate(array, 10**12)
    said = refused(evaluate.main, run)
    assert "every checkpoint in" in said
    assert "its files have 10000000" in said


def test_a_network_larger_than_the_memory_is_refused(texts, tmp_path):
    words = "--layers.0.hidden-size", 10**9, "--embedding-size", 10**9
    folder = "--data", texts, "--workdir", tmp_path / "new"
    said = refused(train.main, texts / "small.py", *folder, *words)
    assert "has 29,802,322,455 GiB of parameters; this machine has" in said
