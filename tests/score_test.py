"""`python -m glrnn.score`: what it prints, from where, and to where."""

import io
import json
import os
import sys

import numpy as np
import pytest

import glrnn
from glrnn import evaluate, score


def printed(capsys, *words):
    score.main(list(map(str, words)))
    return capsys.readouterr().out.splitlines()


def given(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("the cat sat\n\na dog")
    return path


def test_words_are_those_of_the_library(trained, mine, capsys):
    run, _, _ = trained
    _, *rows = printed(capsys, run, mine, "--words")
    model = glrnn.load(run)
    found = np.concatenate(
        [
            glrnn.log_likelihoods(model, [*glrnn.encode(model, line), model.eos])[0]
            for line in ("the cat sat", "a dog")
        ]
    )
    surprisals = [float(row.split("\t")[-1]) for row in rows]
    np.testing.assert_allclose(surprisals, -found / np.log(2), atol=2e-6)
    assert [row.split("\t")[:3] for row in rows][-2:] == [
        ["3", "2", "<unk>"],
        ["3", "3", "<eos>"],
    ]


def test_standard_input_and_several_files_are_one_text(
    trained, mine, capsys, monkeypatch
):
    run, _, _ = trained
    given(monkeypatch, mine.read_text())
    once = printed(capsys, run)
    given(monkeypatch, mine.read_text())
    assert printed(capsys, run, "-") == once
    _, *rows = printed(capsys, run, mine, mine)
    assert [row.split("\t")[0] for row in rows] == ["1", "3", "4", "6"]
    assert rows[2].split("\t")[1:] == once[1].split("\t")[1:]


DYNAMIC = ("--dynamic", "--dynamic.statistics-batch-size", "8")


@pytest.mark.parametrize(
    "options", [(), (*DYNAMIC, "--dynamic.learning-rate", "1e-3")], ids=len
)
def test_a_text_read_as_a_whole_has_the_score_of_evaluate(
    trained, mine, capsys, options
):
    run, _, _ = trained
    mine.write_text("the cat sat on the dog\n\na dog " * 10)
    words = run, mine, "--context", "file", "--base", "e", *options
    _, *rows = printed(capsys, *words)
    total = -sum(float(row.split("\t")[1]) for row in rows)
    # `evaluate` does not score the first token: that of a blank line is `<eos>`.
    mine.write_text("\n" + mine.read_text())
    evaluate.main([str(run), "--text", str(mine), "--json", *options])
    found = json.loads(capsys.readouterr().out)
    assert total == pytest.approx(
        found["nats_per_token"] * found["num_tokens"], rel=1e-5
    )


def test_an_output_file_is_whole_or_not_there(trained, mine, tmp_path, capsys):
    run, _, _ = trained
    expected = printed(capsys, run, mine)
    assert printed(capsys, run, mine, "--output", tmp_path / "out.txt") == []
    assert (tmp_path / "out.txt").read_text().splitlines() == expected
    mine.write_bytes(b"a\n" * 3000 + b"\xff\n")
    with pytest.raises(SystemExit):
        score.main([str(run), str(mine), "--output", str(tmp_path / "out.txt")])
    assert "line 3,001 of" in capsys.readouterr().err
    assert (tmp_path / "out.txt").read_text().splitlines() == expected
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt", "out.txt"}


def test_a_model_interpolated_with_itself_is_itself(trained, mine, capsys):
    run, _, _ = trained
    alone = printed(capsys, run, mine, "--words")
    mixed = printed(capsys, run, mine, "--words", "--interpolate", run, "0.25")
    for one, other in zip(alone[1:], mixed[1:], strict=True):
        assert other.split("\t")[:3] == one.split("\t")[:3]
        assert float(other.split("\t")[3]) == pytest.approx(
            float(one.split("\t")[3]), abs=2e-6
        )


def test_a_word_that_is_known_in_another_normal_form_is_told(
    trained, mine, capsys, monkeypatch
):
    run, _, _ = trained
    model = glrnn.load(run)
    words = (*model.vocabulary.words[:-1], "é")
    other = model._replace(vocabulary=type(model.vocabulary)(words))
    monkeypatch.setattr(score, "load_run", lambda *_: other)
    mine.write_text("the e\u0301 cat e\u0301\n", encoding="utf-8")
    score.main([str(run), str(mine)])
    said = capsys.readouterr().err
    assert said.count("warning") == 1
    assert "line 1 has unknown words such as" in said


def test_candidates_are_rescored_line_by_line(trained, tmp_path, capsys):
    """Empty and repeated ones too, with their keys as they are."""
    run, _, _ = trained
    path = tmp_path / "nbest.txt"
    path.write_text("utt-a-1 the cat\nutt-a-2\nutt-a-1  the cat\nx-10 a dog sat\n")
    found = printed(capsys, run, path, "--nbest")
    assert [line.split()[0] for line in found] == [
        "utt-a-1",
        "utt-a-2",
        "utt-a-1",
        "x-10",
    ]
    assert found[0] == found[2]
    model = glrnn.load(run)
    for line, text in zip(found, ("the cat", "", "the cat", "a dog sat"), strict=True):
        ids = [*glrnn.encode(model, text), model.eos]
        cost = -glrnn.log_likelihoods(model, ids)[0].sum()
        assert float(line.split()[1]) == pytest.approx(cost, abs=2e-4)
    each = printed(capsys, run, path, "--nbest", "--per-word")
    assert [len(line.split()) for line in each] == [4, 2, 4, 5]
    total = sum(map(float, each[3].split()[1:]))
    assert total == pytest.approx(float(found[3].split()[1]), abs=5e-4)


def test_an_output_that_is_no_file_is_written_as_it_is(trained, mine, tmp_path, capsys):
    """A device stays one; of a link, what it points to is written."""
    run, _, _ = trained
    before = os.stat(os.devnull)
    assert printed(capsys, run, mine, "--output", os.devnull) == []
    assert os.stat(os.devnull).st_mode == before.st_mode
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "out.txt")
    expected = printed(capsys, run, mine)
    printed(capsys, run, mine, "--output", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "out.txt").read_text().splitlines() == expected


@pytest.mark.parametrize("name", ["config.json", "new/deep.txt"])
def test_an_output_inside_a_run_is_refused(trained, mine, capsys, name):
    run, _, _ = trained
    with pytest.raises(SystemExit):
        score.main([str(run), str(mine), "--output", str(run / name)])
    assert "is inside the run" in capsys.readouterr().err


def test_what_is_printed_is_in_utf8(trained, mine, monkeypatch):
    run, _, _ = trained
    mine.write_text("the Größe\n", encoding="utf-8")
    found = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(found, encoding="ascii"))
    score.main([str(run), str(mine), "--words", "--columns", "surface"])
    sys.stdout.flush()
    assert "Größe".encode() in found.getvalue()


def test_an_end_of_ones_own_is_told(trained, mine, capsys):
    run, _, _ = trained
    mine.write_text("the cat <eos>\na <eos>\n")
    score.main([str(run), str(mine)])
    said = capsys.readouterr().err
    assert said == f"warning: {mine}: line 1 has <eos>, and each line gets one\n"


@pytest.mark.parametrize("text", [b"", b"\xff", None])
def test_nothing_is_printed_of_a_text_that_cannot_be_read(trained, mine, capsys, text):
    if text is None:
        mine.unlink()
    else:
        mine.write_bytes(text)
    with pytest.raises(SystemExit):
        score.main([str(trained[0]), str(mine)])
    assert capsys.readouterr().out == ""


def test_rates_that_diverge_are_told(trained, mine, capsys):
    mine.write_text("the cat sat on the dog\n" * 10)
    options = "--context", "file", *DYNAMIC, "--dynamic.learning-rate", "1e30"
    with pytest.raises(SystemExit):
        score.main([str(trained[0]), str(mine), *options])
    assert "line 1 is not finite; try a lower learning rate" in capsys.readouterr().err
