"""The runner of comparisons: what it trains, what it chooses, and that it goes on."""

import json
from pathlib import Path

import pytest

from glrnn import study
from glrnn.config import Config
from glrnn.config.variants import VARIANTS
from glrnn.errors import DivergedError, UsageError
from glrnn.study import Plan, carry_out, plans

NAMES = ("as_it_is", "without_gl")


# An experiment whose stage ends by the clock.
TIMED = """
from glrnn.config import Config, Layer, Phase, Stage

config = Config(layers=(Layer(),), phases=(Phase(1, main=Stage(9, minutes=1.0)),))
"""


def run(folder, *options, file="small.py"):
    arguments = [file, "--data", ".", "--workdir", "runs", *map(str, options)]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        study.main(arguments)


def epochs_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_all_combinations_are_planned_in_order(texts):
    path = texts / "small.py"
    found = list(plans([path], NAMES, [3, 4], texts / "out"))
    assert [(plan.variant, plan.config.seed) for plan in found] == [
        (name, seed) for name in NAMES for seed in (3, 4)
    ]
    folders = [plan.folder.relative_to(texts) for plan in found]
    assert str(folders[3]) == "out/small/without_gl/seed_4"
    (own,) = plans([path], NAMES[:1], [], texts)
    assert own.config.seed == 28


@pytest.mark.thorough
def test_rates_and_seeds_share_programs(texts, compiled):
    """Nine trials and three runs of two stages: one program of each padded length."""
    path = texts / "small.py"
    text = path.read_text().replace("size=8", "size=9")  # for no other test
    fixed = "window_length=5, fixed_windows=True"
    path.write_text(text.replace("window_length=5", fixed))
    run(texts, "--learning-rates", 1, 5, 10, "--seeds", 1, 2, 3)
    assert compiled.count("jit(step)") == 1
    # The validation set and the test set.
    assert compiled.count("jit(_window_means)") == 2


def test_a_study_trains_and_tells_and_does_nothing_twice(texts, capsys):
    run(texts, "--variants", *NAMES, "--learning-rates", 5, 10)
    told = capsys.readouterr().out
    rows = [line.split() for line in told.splitlines()[-2:]]
    assert [row[:3] for row in rows] == [["small", name, "28"] for name in NAMES]
    # Four epochs, the first of them with both learning rates.
    assert [row[5] for row in rows] == ["4", "4"]
    folder = texts / "runs" / "small" / "as_it_is" / "seed_28"
    tried = {
        rate: epochs_of(folder / f"rate_{rate}" / "metrics.jsonl") for rate in (5, 10)
    }
    assert [len(lines) for lines in tried.values()] == [1, 1]
    best = min(tried, key=lambda rate: tried[rate][0]["valid_loss"])
    assert float(rows[0][3]) == best
    whole = epochs_of(folder / "run" / "metrics.jsonl")
    assert len(whole) == 4
    # The run begins as the trial did.
    assert whole[0]["valid_loss"] == tried[best][0]["valid_loss"]

    def written():
        files = (texts / "runs").rglob("summary.json")
        return {path: path.stat().st_mtime_ns for path in files}

    before = written()
    assert len(before) == 6
    run(texts, "--variants", *NAMES, "--learning-rates", 5, 10)
    assert capsys.readouterr().out.splitlines()[-2:] == told.splitlines()[-2:]
    assert written() == before


def test_a_rate_that_diverges_is_not_chosen(monkeypatch, tmp_path):
    losses = {1.0: 5.0, 2.0: None, 3.0: 4.0}

    def train(plan, name, config, corpus):
        loss = losses[config.phases[0].main.learning_rate]
        if loss is None:
            raise DivergedError("the loss is not finite")
        summary = study.Summary(1, 1, 10, 4, loss, loss + 0.1, loss, 60.0)
        return [summary]

    monkeypatch.setattr(study, "_train", train)
    plan = Plan("x", "x.py", "as_it_is", study.Config(), tmp_path)
    row = carry_out(plan, None, (1.0, 2.0, 3.0))
    assert row["rate"] == 3.0
    assert row["valid"] == pytest.approx(54.598, abs=1e-3)
    with pytest.raises(DivergedError, match="every learning rate diverged"):
        carry_out(plan, None, (2.0, 2.0))


def test_a_run_that_diverges_leaves_the_others_alone(texts, capsys, monkeypatch):
    def carry_out(plan, corpus, rates):
        if plan.variant == "as_it_is":
            raise DivergedError("the loss is not finite")
        return {"variant": plan.variant, "valid": 7.0}

    monkeypatch.setattr(study, "carry_out", carry_out)
    run(texts, "--variants", *NAMES)
    told = capsys.readouterr()
    assert "the loss is not finite" in told.err
    assert "as_it_is" in told.out
    assert "7.00" in told.out


def test_an_unknown_variant_is_refused_before_anything_is_trained(texts):
    with pytest.raises(UsageError, match="unknown variant 'twice'; choose from: as_it"):
        list(plans([texts / "small.py"], ["as_it_is", "twice"], [], texts))


def test_learning_rates_are_not_tried_where_minutes_count(texts, capsys):
    (texts / "timed.py").write_text(TIMED)
    with pytest.raises(SystemExit) as exit_:
        run(texts, "--learning-rates", 1, 2, file="timed.py")
    assert exit_.value.code == 2
    assert "the stages of timed have minutes" in capsys.readouterr().err
    assert not (texts / "runs").exists()


def test_without_a_file_it_is_the_quickstart():
    (plan,) = plans([], ["gru"], [], Path("out"))
    assert (plan.experiment, plan.origin) == ("quickstart", "")
    assert plan.config == VARIANTS["gru"](Config())
