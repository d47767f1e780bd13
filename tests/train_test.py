"""The command lines, as a user types them: from a folder of texts to a perplexity."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from glrnn import evaluate, experiment, train
from glrnn.config import Config
from glrnn.errors import UsageError

WORDS = "the cat sat on a mat and saw <unk>".split()

EXPERIMENT = """
from glrnn.config import Config, Layer, Phase, Stage

stage = Stage(2, learning_rate=10.0, max_norms=(0.5,))
config = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),),
    phases=(Phase(main=stage, finetune=stage),),
    batch_size=25,
    window_length=5,
    valid_batch_size=2,
)
"""


def text(rng, lines):
    return "\n".join(
        " ".join(WORDS[i] for i in rng.integers(0, len(WORDS), 5)) for _ in range(lines)
    )


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for split, lines in (("train", 40), ("valid", 10), ("test", 12)):
        (folder / f"{split}.txt").write_text(text(rng, lines))
    return folder


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(EXPERIMENT)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run, the folder of its texts, and what was printed while it trained."""
    place = tmp_path_factory.mktemp("trained")
    (place / "small.py").write_text(EXPERIMENT)
    rng = np.random.default_rng(0)
    for split, lines in (("train", 40), ("valid", 10), ("test", 12)):
        (place / f"{split}.txt").write_text(text(rng, lines))
    arguments = ["--data", str(place), "--workdir", str(place / "run")]
    output = subprocess.run(
        [sys.executable, "-m", "glrnn.train", str(place / "small.py"), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stderr == ""
    return place / "run", place, output.stdout


def refused(capsys, main, *arguments):
    """The one message of a command that exits with status 2."""
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    assert exit_.value.code == 2
    printed = capsys.readouterr()
    message = printed.out + printed.err
    assert "Traceback" not in message
    return " ".join(message.replace("│", " ").split())


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


def test_evaluate_finds_data_that_moved(trained, folder, capsys):
    run, _, _ = trained
    evaluate.main([str(run), "--data", str(folder), "--json"])
    assert json.loads(capsys.readouterr().out)["num_tokens"] == 71


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


def bad_split(folder, split, content):
    path = folder / f"{split}.txt"
    path.unlink() if content is None else path.write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("split", "content", "message"),
    [
        ("valid", None, "has no valid.txt"),
        ("train", b"", "train.txt"),
        ("test", b"caf\xe9", "test.txt is not UTF-8 text"),
        ("train", b"the cat", "train split has 3 tokens"),
        ("valid", b"", "valid.txt"),
        ("test", b"\n", "test"),
    ],
)
def test_a_bad_text_is_refused(capsys, folder, small, split, content, message):
    workdir = folder / "run"
    data = bad_split(folder, split, content)
    said = refused(capsys, train.main, small, "--data", data, "--workdir", workdir)
    assert message in said
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "unknown data set 'nowhere'; choose from: python-docs"),
        (["--manual-dir", "here"], "--manual-dir here is of no use to "),
        (["--head", "softmix"], "Config.head is 'softmix'; it must be one of mixture"),
        (["--layers.0.cell", "lstn"], "Layer.cell is 'lstn'; it must be one of lstm"),
        (["--embedding-size", "9"], "hidden size 8, embedding size 9"),
        (["--phases.0.main.max-norms", "1", "2", "3"], "main.max_norms has 3 numbers"),
        (["--phases.0.dropout.hidden", "0.5"], "Dropout.hidden has 1 rates"),
        (["--phases.0.dropout.input", "1"], "Dropout.input is 1.0; it must be a rate"),
        (["--phases.0.dropout.input", "-0.1"], "Dropout.input is -0.1"),
        (["--phases.0.main.learning-rate", "nan"], "Stage.learning_rate is nan"),
        (["--phases.0.main.epochs", "0"], "Phase.main.epochs is 0"),
        (["--phases.1.main.epochs", "3"], "--phases.1.main.epochs"),
        (["--batch-size", "many"], "--batch-size"),
        (["--batch-size", "0"], "Config.batch_size is 0; it must be at least 1"),
        (["--bach-size", "3"], "--bach-size"),
    ],
)
def test_a_bad_option_is_refused(capsys, folder, small, arguments, message):
    workdir = folder / "run"
    given = ["--data", folder, "--workdir", workdir, *arguments]
    assert message in refused(capsys, train.main, small, *given)
    assert not workdir.exists()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "no experiment"),
        ("conf = 3", "has no `config"),
        ("config = 3", "has no `config"),
        ("config = (", "SyntaxError"),
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("from glrnn import Config\nconfig = Config(seed=-1)", "Config.seed is -1"),
    ],
)
def test_a_bad_experiment_is_refused(capsys, tmp_path, source, message):
    path = tmp_path / "experiment.py"
    if source is not None:
        path.write_text(source)
    said = refused(capsys, train.main, path, "--workdir", tmp_path / "run")
    assert message in said
    assert "experiment.py" in said


def test_an_experiment_after_the_options_is_refused(capsys, small, tmp_path):
    workdir = tmp_path / "run"
    assert "must come first" in refused(capsys, train.main, "--workdir", workdir, small)


def test_experiments_import_one_another(tmp_path, small):
    path = tmp_path / "other.py"
    path.write_text(
        "from dataclasses import replace\nimport small\n"
        "config = replace(small.config, seed=7)"
    )
    assert experiment.load(path) == replace(experiment.load(small), seed=7)


def test_a_folder_with_another_experiment_is_left_alone(trained, capsys):
    run, place, _ = trained
    given = [place / "small.py", "--data", place, "--workdir", run]
    before = (run / "config.json").read_bytes()
    said = refused(capsys, train.main, *given, "--seed", "5", "--batch-size", "3")
    assert "batch_size is 25 there, 3 here; seed is 28 there, 5 here" in said
    assert (run / "config.json").read_bytes() == before


def test_a_folder_with_another_corpus_is_left_alone(trained, folder, capsys):
    run, place, _ = trained
    (folder / "train.txt").write_text("a dog " * 200)
    given = [place / "small.py", "--data", folder, "--workdir", run]
    assert "was trained on another corpus" in refused(capsys, train.main, *given)


def test_a_folder_with_something_else_is_left_alone(capsys, folder, small):
    given = [small, "--data", folder, "--workdir", folder]
    said = refused(capsys, train.main, *given)
    assert "is not empty and holds no run" in said
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no run in nowhere"),
        (["RUN", "--split", "tset"], "--split"),
        (["RUN", "--text", "nowhere.txt"], "cannot read nowhere.txt"),
        (["RUN", "--data", "nowhere"], "unknown data set 'nowhere'"),
        (["RUN", "--manual-dir", "here"], "--manual-dir here is of no use to "),
    ],
)
def test_a_bad_evaluation_is_refused(trained, capsys, arguments, message):
    run, _, _ = trained
    given = [str(run) if word == "RUN" else word for word in arguments]
    assert message in refused(capsys, evaluate.main, *given)


@pytest.mark.parametrize("name", ["config.json", "vocabulary.json", "corpus.json"])
@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b'{"seed": "x"}'])
def test_a_damaged_run_is_refused(trained, tmp_path, capsys, name, content):
    run, _, _ = trained
    for each in ("config.json", "vocabulary.json", "corpus.json"):
        (tmp_path / each).write_bytes((run / each).read_bytes())
    (tmp_path / name).write_bytes(content)
    assert name in refused(capsys, evaluate.main, tmp_path)


def test_a_run_without_a_checkpoint_is_refused(trained, tmp_path, capsys):
    run, _, _ = trained
    for each in ("config.json", "vocabulary.json", "corpus.json"):
        (tmp_path / each).write_bytes((run / each).read_bytes())
    assert "no checkpoint in" in refused(capsys, evaluate.main, tmp_path)


def test_a_diverging_run_exits_with_status_1(folder, small, capsys):
    workdir = folder / "run"
    given = [small, "--data", folder, "--workdir", workdir]
    rate = ["--phases.0.main.learning-rate", "1e38"]
    with pytest.raises(SystemExit) as exit_:
        train.main([str(argument) for argument in [*given, *rate]])
    assert exit_.value.code == 1
    said = capsys.readouterr().err
    assert "not finite" in said
    assert "no checkpoint in" in said


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
