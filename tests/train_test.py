"""The command lines, as a user types them: from a folder of texts to a perplexity."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from glrnn import experiment, train
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
