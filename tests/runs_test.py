"""The listing of runs: how far each is, the command to resume, and damaged ones."""

import json
import math
import shlex
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from glrnn import data, runs, train
from glrnn.config import Config, Layer, Phase, Stage
from glrnn.data.vocabulary import Vocabulary
from glrnn.ground.validation import to_json
from glrnn.reports.rows import run_row
from glrnn.storage import opening, run_folder
from glrnn.storage.metrics_log import read_epochs
from glrnn.storage.run_folder import Summary
from glrnn.training.warning_signs import nothing_learned, unstable

CONFIG = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),) * 2,
    phases=(
        Phase(1, main=Stage(2), finetune=Stage(3)),
        Phase(2, replace(Phase().dropout, hidden=(0.0,)), main=Stage(4)),
    ),
    batch_size=4,
    valid_batch_size=2,
)
DONE = Summary(1, 1, 666, 5, 2.0, 1.5, math.log(7.0), 3.0)


@pytest.fixture
def corpus(tmp_path):
    stream = np.arange(60, dtype=np.int32) % 3
    words = Vocabulary(("a", "b", "c"))
    return data.Corpus(str(tmp_path / "words"), words, *[stream] * 3, unknown={})


@pytest.fixture
def start(tmp_path, corpus):
    """Begins a run with metrics.

    An epoch is its phase, stage, number and loss, and its warnings if it records any.
    """

    def start(name, *epochs, finished=(), experiment="papers/ptb.py"):
        folder = tmp_path / "runs" / name
        run = opening.open_run(folder, CONFIG, corpus, experiment)
        names = "phase", "stage", "epoch", "valid_loss", "warnings"
        records = [dict(zip(names, epoch, strict=False)) for epoch in epochs]
        lines = [json.dumps(record | {"train_loss": 9.0}) for record in records]
        (folder / "metrics.jsonl").write_text("".join(line + "\n" for line in lines))
        for phase in finished:
            (folder / f"phase_{phase}").mkdir()
            run.write_summary(replace(DONE, phase=phase))
        return run

    return start


def listed(capsys, folder, status=None):
    """The rows as printed, the commands to resume, and the errors."""
    if status is None:
        runs.main([str(folder)])
    else:
        with pytest.raises(SystemExit) as exit_:
            runs.main([str(folder)])
        assert exit_.value.code == status
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    table, _, rest = printed.out.partition("\nTo resume:\n")
    return table.splitlines()[2:], rest.splitlines(), printed.err


def test_a_row_tells_how_far_a_run_is(start):
    run = start(
        "one",
        (1, "main", 1, 3.0),
        (1, "finetune", 1, 2.0),
        (2, "main", 1, math.log(90.0)),
        (2, "main", 2, math.log(80.0)),
        (2, "main", 3, math.log(85.0)),
        finished=[1],
    )
    row = run_row(run)
    assert row.pop("best valid") == pytest.approx(80)  # of this phase, not of the last
    assert row.pop("test") == pytest.approx(7)
    assert row == {
        "run": str(run.folder),
        "experiment": "ptb",
        "data": "words",
        "reached": "2/2 main 3/4",
    }


def test_a_run_that_has_just_begun_has_no_figures(start):
    row = run_row(start("new", experiment=""))
    assert row["reached"] == "0/2"
    assert row["experiment"] == "quickstart"
    assert row["test"] is None
    assert row["best valid"] is None


def test_a_run_is_finished_with_its_last_phase(start):
    assert run_row(start("one", finished=[1]))["reached"] != "finished"
    assert run_row(start("both", finished=[1, 2]))["reached"] == "finished"


def test_a_last_line_that_was_cut_short_does_not_count(start):
    run = start("cut", (1, "main", 1, 3.0))
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"phase": 1, "sta')
    assert [epoch.epoch for epoch in read_epochs(run)] == [1]


NOTHING = asdict(nothing_learned(2.1, 2.0))
UNSTABLE = asdict(unstable([0.5, 2.1]))


def test_warnings_are_repeated_below_the_table(start, tmp_path, capsys):
    """That nothing is learned only where it is so still."""
    start("fine", (1, "main", 1, 2.1, [NOTHING]), (1, "main", 2, 0.5, []))
    start("bad", (1, "main", 1, 0.5), (1, "finetune", 2, 2.1, [UNSTABLE, NOTHING]))
    start("was", (1, "main", 2, 2.1, [UNSTABLE, NOTHING]), (2, "main", 1, 0.5, []))
    start("old", (1, "main", 1, 2.1))
    lines, _, _ = listed(capsys, tmp_path / "runs")
    bad, was = (
        f"warning: {tmp_path / 'runs' / name}: phase 1 · " for name in ("bad", "was")
    )
    assert [line for line in lines if line.startswith("warning: ")] == [
        f"{bad}finetune · epoch 2: {UNSTABLE['text']}",
        f"{bad}finetune · epoch 2: {NOTHING['text']}",
        f"{was}main · epoch 2: {UNSTABLE['text']}",
    ]
    assert len(lines) == 4 + 1 + 3


def test_all_runs_below_a_folder_are_listed_by_name(start, tmp_path, capsys):
    for name in ("b", "a", "more/c"):
        start(name)
    rows, commands, _ = listed(capsys, tmp_path)
    folders = [str(tmp_path / "runs" / name) for name in ("a", "b", "more/c")]
    assert [row.split()[0] for row in rows] == folders
    assert [shlex.split(line)[-1] for line in commands] == folders


def test_a_run_behind_a_link_is_listed(start, tmp_path, capsys):
    start("a")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "linked").symlink_to(tmp_path / "runs" / "a")
    (tmp_path / "others" / "circle").symlink_to(tmp_path / "others")
    (tmp_path / "runs" / "latest").symlink_to(tmp_path / "runs" / "a")
    rows, _, _ = listed(capsys, tmp_path)
    assert [row.split()[0] for row in rows] == [str(tmp_path / "runs" / "a")]
    runs.main([str(tmp_path / "others")])
    assert str(tmp_path / "others" / "linked") in capsys.readouterr().out


def test_a_run_can_be_named_itself(start, tmp_path, capsys):
    start("a")
    rows, _, _ = listed(capsys, tmp_path / "runs" / "a")
    assert len(rows) == 1


def test_only_unfinished_runs_are_to_be_resumed(start, tmp_path, capsys):
    start("done", finished=[1, 2])
    rows, commands, _ = listed(capsys, tmp_path / "runs")
    assert rows[0].split()[-2:] == ["finished", "7.00"]
    assert commands == []


def test_the_command_survives_a_space_in_a_name(start, tmp_path, capsys):
    start("two words")
    _, commands, _ = listed(capsys, tmp_path / "runs")
    assert shlex.split(commands[0]) == [
        "python", "-m", "glrnn.train", str(tmp_path / "runs" / "two words"),
    ]  # fmt: skip


def test_brackets_and_colons_in_a_name_are_no_markup(start, tmp_path, capsys):
    start("lr[a]:smile:[")
    rows, _, _ = listed(capsys, tmp_path / "runs")
    assert rows[0].split()[0].endswith("lr[a]:smile:[")


def test_control_characters_are_escaped(start, tmp_path, capsys):
    """A terminal would obey them, whatever file they come from."""
    evil = "\x1b[2J\x9b\u202e\n"
    sign = {"kind": "unstable", "text": f"rose{evil}"}
    run = start(f"a{evil}b", (1, "main", 1, 3.0, [sign]), experiment=f"e{evil}.py")
    origin = replace(run.origin, data=f"d{evil}")
    (run.folder / "origin.json").write_text(to_json(origin))
    bad = start(f"bad{evil}")
    (bad.folder / "config.json").write_text("{")
    with pytest.raises(SystemExit):
        runs.main([str(tmp_path / "runs")])
    printed = "".join(capsys.readouterr())
    found = [each for each in printed if each != "\n" and not each.isprintable()]
    assert not found
    escaped = r"\x1b[2J\u009b\u202e\x0a"
    assert f"a{escaped}b" in printed  # the table
    assert f"d{escaped}" in printed
    assert f"e{escaped}" in printed
    assert f"rose{escaped}" in printed
    assert f"/a{escaped}b'\n" in printed  # the command to resume
    assert f"bad{escaped}/config.json: not a config" in printed


def test_a_damaged_run_does_not_hide_the_others(start, tmp_path, capsys):
    start("good")
    bad = start("bad")
    (bad.folder / "config.json").write_text("{")
    rows, _, errors = listed(capsys, tmp_path / "runs", status=2)
    assert len(rows) == 1
    assert "bad/config.json: not a config" in errors


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "not an epoch: Expecting value"),
        ("[1]", "not an epoch: [1] is no JSON object"),
        ("{}", "required field missing @ epoch.phase"),
        ('{"phase": 3, "stage": "main", "epoch": 1, "valid_loss": 1}', "no phase 3"),
        ('{"phase": 1, "stage": "mian", "epoch": 1, "valid_loss": 1}', "is 'mian'"),
        ('{"phase": 1, "stage": "main", "epoch": 0, "valid_loss": 1}', "epoch is 0"),
        (
            '{"phase": 1, "stage": "main", "epoch": 1, "valid_loss": 1, "warnings": '
            '[{"kind": "bad", "text": ""}]}',
            "Sign.kind is 'bad'",
        ),
        ('{"phase": 1, "stage": "main", "epoch": 1, "valid_loss": NaN}', "is nan"),
    ],
)
def test_damaged_metrics_are_told_with_the_line(start, tmp_path, capsys, line, message):
    run = start("bad", (1, "main", 1, 3.0))
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write(line + "\n")
    errors = listed(capsys, tmp_path / "runs", status=2)[2]
    assert "metrics.jsonl, line 2: " in errors
    assert message in errors


def _table(capsys):
    """The last row of the table that a run ends with."""
    return capsys.readouterr().out.split("\n\n")[0].splitlines()[-1]


@pytest.mark.thorough
def test_a_run_is_resumed_by_its_folder(tmp_path, capsys):
    """Stopped after the first phase, resumed by the command that is listed."""
    words = tmp_path / "words"
    words.mkdir()
    for split in ("train", "valid", "test"):
        (words / f"{split}.txt").write_text("a b c\n" * 20)
    (tmp_path / "tiny.py").write_text(
        "from glrnn.config import Config, Layer, Phase, Stage\n"
        "config = Config(embedding_size=4, layers=(Layer(hidden_size=4),),\n"
        "                phases=(Phase(main=Stage(2)),), batch_size=8,\n"
        "                window_length=5, valid_batch_size=2)"
    )
    folder = tmp_path / "run"
    given = [tmp_path / "tiny.py", "--data", words, "--workdir", folder]
    train.main([str(argument) for argument in given])
    told = _table(capsys)
    shutil.copytree(folder, tmp_path / "again")
    (tmp_path / "again" / "phase_1" / "summary.json").unlink()

    again = run_folder.read(tmp_path / "again")
    assert run_row(again)["reached"] == "1/1 main 2/2"
    train.main([str(tmp_path / "again")])
    assert _table(capsys) == told
    row = run_row(again)
    assert row["reached"] == "finished"
    assert row["experiment"] == "tiny"
