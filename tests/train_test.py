"""The command lines, as a user types them: from a folder of texts to a perplexity."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from glrnn import train
from glrnn.config import Config, experiment
from glrnn.console.interruption import STOPPING
from glrnn.errors import UsageError


def test_plain_lines_tell_the_run(trained):
    run, _, output = trained
    # The words are random, so that there is nothing to learn.
    lines = [
        line
        for line in output.splitlines()
        if " averaging o" not in line
        and not line.startswith("warning: ")
        and not line.endswith("compiling")
    ]
    assert "240 training tokens, 10 words" in lines[0]
    assert lines[1] == "validation perplexity of word frequencies alone: 9.93"
    assert lines[2].startswith("phase 1/1 · main · epoch 1/2 · train ")
    assert lines[4].startswith("phase 1/1 · finetune · epoch 1/2 · train ")
    assert " avg · 0:" in lines[4]
    assert "\r" not in output
    assert "\x1b" not in output
    table, after = "\n".join(lines).split("\n\nTo score the test set, ")
    header, _, last = table.splitlines()[-3:]
    assert header.split()[:4] == ["phase", "layers", "parameters", "epochs"]
    assert last.split()[:3] == ["1", "1", "666"]
    assert [line for line in after.splitlines() if line.startswith(" ")] == [
        f"  python -m glrnn.evaluate {run}",
        f"  python -m glrnn.evaluate {run} --tune",
        f"  python -m glrnn.runs {run.parent}",
    ]
    assert (run / "config.json").exists()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 4


def test_the_next_commands_survive_a_space_in_a_name():
    commands = train._next_commands(Path("my runs", "a"))[2:]
    words = [shlex.split(line)[3:] for line in commands if line.startswith(" ")]
    assert words == [["my runs/a"], ["my runs/a", "--tune"], ["my runs"]]


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


def begin(texts, *arguments, program=("-m", "glrnn.train")):
    """A run that does not end by itself, once it is in its second epoch."""
    given = ["small.py", "--data", ".", "--workdir", "run", *arguments]
    endless = ["--phases.0.main.epochs", "1000000"]
    process = subprocess.Popen(
        [sys.executable, "-u", *program, *given, *endless],
        cwd=texts,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while "epoch 2/" not in process.stdout.readline():
        assert process.poll() is None, process.stderr.read()
    return process


SAVED = (
    r"stopped: phase 1/1 · main · epoch \d+/1000000"
    r"( is saved|, update \d+ of \d+ is saved| has not begun); "
)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.thorough),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.thorough),
    ],
)
def test_told_to_stop(texts, number, status):
    with begin(texts) as process:
        process.send_signal(number)
        _, said = process.communicate()
    assert process.returncode == status
    first, last = said.splitlines()
    assert first == STOPPING
    assert re.fullmatch(SAVED + "the same command resumes the run", last)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (None, 141),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.thorough),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.thorough),
    ],
)
def test_what_reads_the_output_may_end_with_it(texts, number, status):
    """As `tee` does, told by the same key, and `head`, when it has seen enough."""
    with begin(texts) as process:
        process.stdout.close()
        if number is not None:
            process.stderr.close()
            process.send_signal(number)
        assert process.wait(timeout=60) == status
        if number is None:
            assert re.fullmatch(
                SAVED + "the same command resumes the run\n", process.stderr.read()
            )
    stage = texts / "run" / "phase_1" / "main"
    numbers = [int(path.name) for path in stage.iterdir() if path.name.isdigit()]
    lines = (texts / "run" / "metrics.jsonl").read_text().splitlines()
    windows = sum(json.loads(line)["updates"] for line in lines)
    assert max(numbers) >= windows


# The terminal becomes that of the process, which it tells when it closes.
IN_A_TERMINAL = """
import fcntl, termios
from glrnn.console.start import train

fcntl.ioctl(0, termios.TIOCSCTTY, 0)
train()
"""


def test_a_closed_terminal_loses_nothing(texts):
    """It sends SIGHUP, and every write to it fails from then on."""
    pty = pytest.importorskip("pty", reason="there are no terminals here")
    terminal, there = pty.openpty()
    given = ["small.py", "--data", ".", "--workdir", "run"]
    endless = ["--phases.0.main.epochs", "1000000"]
    with subprocess.Popen(
        [sys.executable, "-c", IN_A_TERMINAL, *given, *endless],
        cwd=texts,
        stdin=there,
        stdout=there,
        stderr=there,
        start_new_session=True,
    ) as process:
        os.close(there)
        shown = b""
        while b"epoch 2/" not in shown:
            shown += os.read(terminal, 10_000)
        os.close(terminal)
        assert process.wait(timeout=60) == 129
    lines = (texts / "run" / "metrics.jsonl").read_text().splitlines()
    windows = sum(json.loads(line)["updates"] for line in lines)
    stage = texts / "run" / "phase_1" / "main"
    numbers = [int(path.name) for path in stage.iterdir() if path.name.isdigit()]
    assert max(numbers) >= windows > 0


# One process is several enough for the notice to take its way.
DISTRIBUTED = """
import socket, sys
import jax

with socket.socket() as free:
    free.bind(("localhost", 0))
    address = f"localhost:{free.getsockname()[1]}"
jax.distributed.initialize(address, num_processes=1, process_id=0)
from glrnn import train
train.main(sys.argv[1:])
"""


@pytest.mark.thorough
def test_the_notice_of_preemption_is_heeded(texts):
    with begin(texts, program=("-c", DISTRIBUTED)) as process:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
    assert process.returncode == 143, said
    assert re.fullmatch(
        SAVED + "the same command resumes the run", said.split("\n")[-2]
    )


@pytest.mark.thorough
def test_a_run_in_use_is_left_alone(texts):
    with begin(texts) as process:
        before = (texts / "run" / "metrics.jsonl").read_bytes()
        message = "error: run is in use: another process is training there"
        other = subprocess.run(process.args, cwd=texts, capture_output=True, text=True)
        assert (other.returncode, other.stdout) == (2, "")
        assert other.stderr.startswith(message)
        assert (texts / "run" / "metrics.jsonl").read_bytes().startswith(before)
        process.kill()


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
