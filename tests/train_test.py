"""The command lines, as a user types them: from a folder of texts to a perplexity."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glrnn import evaluate, experiment, train
from glrnn.config import Config
from glrnn.errors import UsageError


def test_plain_lines_tell_the_run(trained):
    run, _, output = trained
    lines = [line for line in output.splitlines() if " averaging o" not in line]
    assert "240 training tokens, 10 words" in lines[0]
    assert lines[1].startswith("phase 1/1 · main · epoch 1/2 · train ")
    assert lines[3].startswith("phase 1/1 · finetune · epoch 1/2 · train ")
    assert "averaged" in lines[3]
    assert "\r" not in output
    assert "\x1b" not in output
    header, _, last = lines[-3:]
    assert header.split()[:4] == ["phase", "layers", "parameters", "epochs"]
    assert last.split()[:3] == ["1", "1", "666"]
    assert (run / "config.json").exists()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("split", ["valid", "test", "train"])
def test_evaluate_scores_a_split(trained, capsys, split):
    run, _, output = trained
    evaluate.main([str(run), "--split", split, "--json"])
    score = json.loads(capsys.readouterr().out)
    count = {"valid": 60 - 2, "test": 72 - 1, "train": 240 - 2}[split]
    assert score["num_tokens"] == count
    assert score["unknown"] == 0
    assert score["perplexity"] == pytest.approx(np.exp(score["nats_per_token"]))
    if split == "test":
        printed = float(output.splitlines()[-1].split()[-2])
        assert score["perplexity"] == pytest.approx(printed, abs=0.006)


def test_evaluate_counts_unknown_words_aloud(trained, tmp_path, capsys):
    run, _, _ = trained
    path = tmp_path / "mine.txt"
    path.write_text("the dog sat on a cat\nand barked")
    evaluate.main([str(run), "--text", str(path)])
    printed = capsys.readouterr().out
    assert "2 unknown words" in printed
    assert "9 tokens scored" in printed
    assert "perplexity" in printed


def test_evaluate_finds_data_that_moved(trained, texts, capsys):
    run, _, _ = trained
    evaluate.main([str(run), "--data", str(texts), "--json"])
    assert json.loads(capsys.readouterr().out)["num_tokens"] == 71


def test_evaluate_notes_that_the_texts_have_changed(trained, texts, tmp_path, capsys):
    run, _, _ = trained
    shutil.copytree(run, tmp_path / "run")
    origin = json.loads((run / "origin.json").read_text()) | {"data": str(texts)}
    (tmp_path / "run" / "origin.json").write_text(json.dumps(origin))
    evaluate.main([str(tmp_path / "run")])
    assert capsys.readouterr().err == ""
    with (texts / "test.txt").open("a") as file:
        file.write(" dog")
    evaluate.main([str(tmp_path / "run")])
    assert f"note: {texts} is no longer what" in capsys.readouterr().err


def test_evaluation_writes_nothing(trained, capsys):
    run, _, _ = trained

    def listing():
        return {
            path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()
        }

    before = listing()
    evaluate.main([str(run)])
    assert listing() == before
    assert capsys.readouterr().out


def test_experiments_import_one_another(texts):
    path = texts / "other.py"
    path.write_text(
        "from dataclasses import replace\nimport small\n"
        "config = replace(small.config, seed=7)"
    )
    assert experiment.load(path) == replace(experiment.load(texts / "small.py"), seed=7)


def test_a_diverging_run_exits_with_status_1(texts, capsys):
    given = [texts / "small.py", "--data", texts, "--workdir", texts / "run"]
    rate = ["--phases.0.main.learning-rate", "1e38"]
    with pytest.raises(SystemExit) as exit_:
        train.main([str(argument) for argument in [*given, *rate]])
    assert exit_.value.code == 1
    said = capsys.readouterr().err
    assert "not finite" in said
    assert "no checkpoint in" in said


def test_ctrl_c_ends_with_one_line_and_status_130(texts):
    given = ["small.py", "--data", ".", "--workdir", "run"]
    endless = ["--phases.0.main.epochs", "1000000"]
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "glrnn.train", *given, *endless],
        cwd=texts,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while "epoch 2/" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert said == "stopped; the same command goes on from the last epoch\n"


def test_help_answers_within_two_seconds():
    """Of processor time, which does not depend on what else the machine does."""
    before = os.times()
    command = [sys.executable, "-m", "glrnn.train", "--help"]
    output = subprocess.run(command, capture_output=True, text=True, check=True)
    after = os.times()
    assert "--workdir" in output.stdout
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 2


def test_quickstart_is_the_default():
    assert Config().phases[-1].num_layers == 3
    with pytest.raises(UsageError, match="no experiment"):
        experiment.load(Path("nowhere.py"))
