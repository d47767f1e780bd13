"""`python -m glrnn.evaluate`: static and dynamic, of a split or a text of one's own."""

import io
import json
import math
import pickle
import re
import shutil

import numpy as np
import pytest

from glrnn import data, evaluate
from glrnn.evaluation import temperature, tuning
from glrnn.evaluation.dynamic import DynamicRule, dynamic_perplexity
from glrnn.evaluation.gradient_statistics import gradient_rms
from glrnn.evaluation.perplexity import Score
from glrnn.evaluation.temperature import TEMPERATURES, best_temperature
from glrnn.ground.losses import to_perplexity
from glrnn.model import language_model
from glrnn.storage import run_folder
from glrnn.storage.best_params import best_params
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.storage.checksums import SUMS


@pytest.mark.parametrize("split", ["valid", "test", "train"])
def test_evaluate_scores_a_split(trained, capsys, split):
    run, _, output = trained
    evaluate.main([str(run), "--split", split, "--json"])
    score = json.loads(capsys.readouterr().out)
    count = {"valid": 60 - 2, "test": 72 - 1, "train": 240 - 2}[split]
    assert score["num_tokens"] == count
    words = (trained[1] / f"{split}.txt").read_text().split()
    assert score["unknown"] == words.count("<unk>") > 0
    assert score["perplexity"] == pytest.approx(np.exp(score["nats_per_token"]))
    if split == "test":
        (row,) = re.findall("^ +1 .*$", output, re.MULTILINE)
        assert score["perplexity"] == pytest.approx(float(row.split()[-2]), abs=0.006)


def test_evaluate_counts_unknown_words_aloud(trained, tmp_path, capsys):
    run, _, _ = trained
    path = tmp_path / "mine.txt"
    path.write_text("the dog sat on a cat\nand barked")
    evaluate.main([str(run), "--text", str(path)])
    printed = capsys.readouterr().out
    assert "2 unknown words" in printed
    assert "9 tokens scored" in printed
    assert "perplexity" in printed


def test_unknown_words_are_listed_on_request(trained, tmp_path, capsys):
    run, _, _ = trained
    path = tmp_path / "mine.txt"
    path.write_text("the dog sat on a cat\ndog barked Größe <unk> \x1b[31mred")
    words = ["--text", str(path), "--list-unknown"]
    evaluate.main([str(run), *words])
    score, *listed = capsys.readouterr().out.splitlines()
    assert "6 unknown words" in score
    assert [line.split() for line in listed] == [
        ["2", "dog"],
        ["1", "barked"],
        ["1", "Größe"],
        ["1", "<unk>"],
        ["1", r"\x1b[31mred"],
    ]
    evaluate.main([str(run), *words, "--json"])
    record = json.loads(capsys.readouterr().out)
    assert list(record["unknown_words"].items()) == [
        ("dog", 2),
        ("barked", 1),
        ("Größe", 1),
        ("<unk>", 1),
        ("\x1b[31mred", 1),
    ]
    evaluate.main([str(run), *words[:2], "--json"])
    assert "unknown_words" not in json.loads(capsys.readouterr().out)


def test_the_run_of_a_stranger_is_data_and_no_more(
    trained, tmp_path, capsys, monkeypatch
):
    """Nothing in it is unpickled, and nothing imported."""
    run, _, _ = trained
    shutil.copytree(run, tmp_path / "run")
    for name in ("sitecustomize.py", "small.py", "orbax.py"):
        (tmp_path / "run" / name).write_text("raise SystemExit('executed')")
    monkeypatch.chdir(tmp_path / "run")

    def refuse(*args, **kwargs):
        pytest.fail("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    evaluate.main([str(tmp_path / "run"), "--json"])
    assert json.loads(capsys.readouterr().out)["num_tokens"] == 71


def test_evaluate_falls_back_from_a_damaged_checkpoint_and_says_so(
    trained, tmp_path, capsys
):
    run, _, _ = trained
    shutil.copytree(run, tmp_path / "run")
    stage = tmp_path / "run" / "phase_1" / "finetune"
    with CheckpointFolder(stage, read_only=True) as checkpoints:
        best = checkpoints.best
    (stage / str(best) / SUMS).unlink()
    evaluate.main([str(tmp_path / "run"), "--json"])
    told = capsys.readouterr()
    assert f"{stage / str(best)} is damaged and left out: {SUMS} is missing" in told.err
    assert json.loads(told.out)["num_tokens"] == 71
    assert (stage / str(best)).is_dir()


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


def printed(capsys, *arguments):
    evaluate.main([*map(str, arguments), "--json"])
    return json.loads(capsys.readouterr().out)


RATES = ("--dynamic.learning-rate", "1e-3", "--dynamic.statistics-batch-size", "8")


def test_a_phase_and_a_stage_can_be_chosen(trained, capsys):
    run = trained[0]
    last, main, finetuned = (
        printed(capsys, run, *options)["nats_per_token"]
        for options in ((), ("--stage", "main"), ("--phase", 1, "--stage", "finetune"))
    )
    assert last == finetuned != main


def test_dynamic_evaluation_is_that_of_the_function(trained, capsys):
    folder = trained[0]
    found = printed(capsys, folder, "--dynamic", *RATES)
    run = run_folder.read(folder)
    corpus = data.load(run.origin.data, run.vocabulary)
    model = language_model(run.config, len(run.vocabulary), 1)
    params = best_params(run, 1)
    rule = DynamicRule(1e-3, statistics_batch_size=8)
    rms = gradient_rms(model, params, corpus.train, batch_size=8)
    expected = dynamic_perplexity(model, params, rms, corpus.test, rule)
    assert found["nats_per_token"] == expected.nats_per_token
    assert found["num_tokens"] == len(corpus.test) - 1
    assert found["dynamic"]["learning_rate"] == 1e-3
    static = printed(capsys, folder)
    assert "dynamic" not in static
    assert abs(static["nats_per_token"] - found["nats_per_token"]) > 1e-4


def test_dynamic_evaluation_of_a_text_of_ones_own(trained, texts, capsys, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("the dog sat on a cat\n" * 5)
    # The training set is needed for the size of gradients, wherever it is now.
    found = printed(
        capsys, trained[0], "--text", path, "--data", texts, "--dynamic", *RATES
    )
    assert (found["num_tokens"], found["unknown"]) == (34, 5)


def test_a_line_tells_the_rates(trained, capsys):
    evaluate.main([str(trained[0]), "--dynamic", *RATES])
    line = capsys.readouterr().out
    assert (
        "model of phase 1 (finetune), dynamic (learning rate 0.001, decay rate 0.0044)"
        in line
    )


def test_tuned_rates_are_of_the_validation_set_and_remembered(
    trained, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(tuning, "LEARNING_RATES", (1e-5, 1e-3))
    monkeypatch.setattr(tuning, "DECAY_RATES", (1e-3,))
    shutil.copytree(trained[0], tmp_path / "run")
    arguments = tmp_path / "run", "--tune", "--dynamic.statistics-batch-size", 8
    evaluate.main([*map(str, arguments), "--json"])
    first = capsys.readouterr()
    found = json.loads(first.out)
    lines = first.err.splitlines()
    assert all(" on 60 tokens" in line for line in lines)
    trials = tuning.read_trials(tmp_path / "run" / "dynamic.json")
    assert len(trials) == len(lines) > 2
    best = min(trials, key=lambda trial: trial.nats_per_token)
    assert found["dynamic"]["learning_rate"] == best.rule.learning_rate
    valid = printed(
        capsys,
        *arguments[:1],
        *("--split", "valid", "--dynamic", "--dynamic.statistics-batch-size", 8),
        *("--dynamic.learning-rate", best.rule.learning_rate),
        *("--dynamic.decay-rate", best.rule.decay_rate),
    )
    assert valid["nats_per_token"] == best.nats_per_token
    evaluate.main([*map(str, arguments), "--json"])
    again = capsys.readouterr()
    assert again.err == ""
    assert json.loads(again.out) == found
    # Another training set has other gradients, by which the updates are scaled.
    moved = tmp_path / "moved"
    shutil.copytree(trained[1], moved, ignore=shutil.ignore_patterns("run"))
    lines = (moved / "train.txt").read_text().splitlines()
    (moved / "train.txt").write_text("\n".join(reversed(lines)))
    evaluate.main([*map(str, arguments), "--data", str(moved), "--json"])
    assert " on 60 tokens" in capsys.readouterr().err


def test_rates_that_diverge_end_with_status_1(trained, capsys):
    with pytest.raises(SystemExit) as exit_:
        evaluate.main(
            [str(trained[0]), "--dynamic", *RATES, "--dynamic.learning-rate", "1e30"]
        )
    assert exit_.value.code == 1
    said = capsys.readouterr().err
    assert "the perplexity is not finite at a learning rate of 1e+30" in said


# Options for texts.


def test_a_text_is_read_from_standard_input(trained, tmp_path, capsys, monkeypatch):
    run, _, _ = trained
    content = "\ufeffthe dog sat on a cat\nand barked".encode()
    (tmp_path / "mine.txt").write_bytes(content)
    expected = printed(capsys, run, "--text", tmp_path / "mine.txt")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))
    found = printed(capsys, run, "--text", "-")
    assert found == expected | {"text": "standard input"}


def test_only_the_splits_that_are_scored_must_be_there(trained, texts, capsys):
    run, _, _ = trained
    expected = printed(capsys, run)
    (texts / "train.txt").unlink()
    (texts / "valid.txt").unlink()
    (texts / "test.txt").rename(texts / "my.test.txt")
    found = printed(capsys, run, "--data", texts)
    assert found == expected | {"text": f"test split of {texts}"}
    for options, missing in {
        ("--split", "valid"): "has no valid.txt",
        ("--split", "train"): "has no train.txt",
        ("--dynamic",): "has no train.txt;",
        ("--tune",): "has no train.txt and no valid.txt",
        ("--tune-temperature",): "has no valid.txt",
    }.items():
        with pytest.raises(SystemExit):
            evaluate.main([str(run), "--data", str(texts), *options])
        assert missing in capsys.readouterr().err


def test_the_batch_size_can_be_chosen(trained, capsys):
    run, _, _ = trained
    valid = printed(capsys, run, "--split", "valid")
    two = printed(capsys, run, "--split", "valid", "--batch-size", 2)
    one = printed(capsys, run, "--split", "valid", "--batch-size", 1)
    assert valid == two != one
    assert one["num_tokens"] == 59


def test_what_is_left_out_is_told_and_not_counted(trained, tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text("the dog sat\n" * 3 + "a cat dog dog mouse\n")
    arguments = [str(trained[0]), "--text", str(path), "--list-unknown", "--json"]
    evaluate.main([*arguments, "--batch-size", "7"])
    told = capsys.readouterr()
    assert told.err == (
        "note: the last 4 of 18 tokens were left out: they do not fill a row of 7 "
        "columns\n"
    )
    found = json.loads(told.out)
    assert (found["num_tokens"], found["unknown"]) == (7, 3)
    assert found["unknown_words"] == {"dog": 3}
    evaluate.main([*arguments, "--batch-size", "1"])
    told = capsys.readouterr()
    assert (json.loads(told.out)["unknown"], told.err) == (6, "")


def test_line_ends_of_a_text_are_told(trained, tmp_path, capsys):
    path = tmp_path / "mine.txt"
    path.write_text("the cat <eos>\nsat\rand saw\n", newline="")
    evaluate.main([str(trained[0]), "--text", str(path)])
    eos, carriage = capsys.readouterr().err.splitlines()
    assert eos.startswith(f"warning: {path}: lines that already end in <eos>: 1;")
    assert carriage.startswith(f"warning: {path}: carriage returns without a newline: ")


def test_other_splits_than_those_of_the_run_are_noted(trained, texts, capsys):
    run, arguments = trained[0], [str(trained[0]), "--data", str(texts)]
    evaluate.main(arguments)
    assert capsys.readouterr().err == ""
    for split in ("test", "train"):
        with (texts / f"{split}.txt").open("a") as file:
            file.write(" cat")
    evaluate.main([*arguments, "--split", "valid"])
    assert capsys.readouterr().err == ""
    note = f"note: {texts} is not what {run} was trained on: it has another "
    evaluate.main(arguments)
    assert capsys.readouterr().err == f"{note}test split\n"
    evaluate.main([*arguments, "--dynamic", *RATES])
    assert capsys.readouterr().err == f"{note}train and another test split\n"


@pytest.mark.parametrize("nats", [math.nan, math.inf, 1000.0])
def test_a_score_that_is_not_finite_ends_with_status_1(
    trained, capsys, monkeypatch, nats
):
    score = Score(nats, to_perplexity(nats), 9)
    monkeypatch.setattr(evaluate, "perplexity", lambda *_, **__: score)
    with pytest.raises(SystemExit) as exit_:
        evaluate.main([str(trained[0]), "--json", "--temperature", "0.01"])
    told = capsys.readouterr()
    assert (exit_.value.code, told.out) == (1, "")
    assert f"is not finite at a temperature of 0.01: {nats:.4g} nats" in told.err


def test_a_huge_perplexity_is_short(trained, capsys, monkeypatch):
    score = Score(700.0, math.exp(700), 9)
    monkeypatch.setattr(evaluate, "perplexity", lambda *_, **__: score)
    evaluate.main([str(trained[0])])
    assert "perplexity 1.014e+304, 9" in capsys.readouterr().out


def test_another_symbol_for_unknown_words_is_named(trained, tmp_path, capsys):
    shutil.copytree(trained[0], tmp_path / "run")
    words = tmp_path / "run" / "vocabulary.json"
    words.write_text(words.read_text().replace("<unk>", "<UNK>"))
    began = tmp_path / "run" / "origin.json"  # without what it would be compared with
    began.write_text(
        json.dumps(
            json.loads(began.read_text()) | {"config": None, "vocabulary_sha256": ""}
        )
    )
    (tmp_path / "mine.txt").write_text("the dog sat on a <UNK>")
    arguments = [str(tmp_path / "run"), "--text", str(tmp_path / "mine.txt")]
    evaluate.main(arguments)
    assert "2 unknown words (read as <UNK>)" in capsys.readouterr().out


# Temperature.


@pytest.mark.thorough
def test_a_temperature_is_found_on_the_validation_set_and_told(
    trained, capsys, monkeypatch
):
    run, _, _ = trained
    # Each of them is a program; the middle one is 1.
    monkeypatch.setattr(temperature, "TEMPERATURES", TEMPERATURES[2:5])

    def scored(*options):
        evaluate.main([str(run), "--json", *options])
        printed = capsys.readouterr()
        return json.loads(printed.out), printed.err.splitlines()

    plain, _ = scored("--split", "valid")
    tuned, trials = scored("--split", "valid", "--tune-temperature")
    assert trials[0].startswith("temperature 0.980: perplexity ")
    assert tuned["perplexity"] <= plain["perplexity"]
    given, _ = scored("--split", "valid", "--temperature", str(tuned["temperature"]))
    assert given == tuned
    dynamic, _ = scored(
        *("--temperature", "1.25", "--dynamic"),
        *("--dynamic.learning-rate", "0", "--dynamic.decay-rate", "0"),
        *("--dynamic.statistics-batch-size", "8"),
    )
    static, _ = scored("--temperature", "1.25")
    assert dynamic["nats_per_token"] == pytest.approx(
        static["nats_per_token"], abs=1e-6
    )
    assert static["perplexity"] != scored()[0]["perplexity"]


def test_the_search_for_a_temperature_ends_when_two_are_no_better():
    tried = []

    def score(temperature):
        tried.append(temperature)
        return abs(temperature - 1.05) + 4

    found = best_temperature(score, lambda line: None)
    assert found == min(TEMPERATURES, key=lambda t: abs(t - 1.05))
    assert tried == list(TEMPERATURES[: len(tried)])
    assert tried.index(found) == len(tried) - 3


def test_an_ensemble_with_itself_scores_as_one(trained, capsys):
    run = str(trained[0])
    found = []
    for others in ([], ["--interpolate", run, "0.3"]):
        evaluate.main([run, "--json", *others])
        found.append(json.loads(capsys.readouterr().out))
    alone, mixed = found
    assert mixed["nats_per_token"] == pytest.approx(alone["nats_per_token"], rel=1e-6)
    assert mixed["interpolate"] == {run: 0.3} and "interpolate" not in alone
    evaluate.main([run, "--interpolate", run, "0.3"])
    assert f"with 0.3 of {run}" in capsys.readouterr().out
