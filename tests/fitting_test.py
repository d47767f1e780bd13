"""`glrnn.fit`: what is trained from Python is what the command line trains."""

import jax
import numpy as np
import pytest

import glrnn
from glrnn import data, evaluate
from glrnn.storage import run_folder


@pytest.fixture(scope="module")
def fitted(trained, tmp_path_factory):
    """The same run, of arrays in memory."""
    run, folder, _ = trained
    config = run_folder.read(run).config
    corpus = data.load(str(folder))
    words = corpus.vocabulary.words
    arrays = glrnn.corpus_of_arrays(words, corpus.train, corpus.valid, corpus.test)
    workdir = tmp_path_factory.mktemp("fitted") / "run"
    return config, arrays, workdir, glrnn.fit(config, arrays, workdir)


def test_arrays_train_as_their_texts_do(trained, fitted):
    expected, found = glrnn.load(trained[0]), fitted[-1]
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    assert found[2:] == expected[2:]


def test_a_run_that_has_ended_is_only_loaded(fitted, capsys):
    config, arrays, workdir, first = fitted
    log = (workdir / "metrics.jsonl").read_bytes()
    again = glrnn.fit(config, arrays, str(workdir), glrnn.Runtime(num_devices=1))
    jax.tree.map(np.testing.assert_array_equal, again.params, first.params)
    assert (workdir / "metrics.jsonl").read_bytes() == log
    assert "arrays in memory: " in capsys.readouterr().out


def test_texts_of_arrays_are_where_the_user_says(trained, fitted, capsys):
    with pytest.raises(SystemExit):
        evaluate.main([str(fitted[2])])
    assert "was trained on arrays in memory; give its texts by --data" in (
        capsys.readouterr().err
    )
    evaluate.main([str(fitted[2]), "--data", str(trained[1])])
    mine = capsys.readouterr()
    evaluate.main([str(trained[0])])
    assert mine.out == capsys.readouterr().out and mine.err == ""


@pytest.mark.parametrize(
    ("words", "train", "told"),
    [
        (("a", "b"), [0, 2], "the train split holds the id 2; ids must be in 0 .. 1"),
        (("a", "a"), [0, 1], "the vocabulary holds 'a' more than once"),
        (("a", "b"), [0.5], "the train split has dtype float64"),
    ],
)
def test_arrays_that_are_no_corpus_are_refused(words, train, told):
    with pytest.raises(glrnn.errors.UsageError, match=told.replace(".", r"\.")):
        glrnn.corpus_of_arrays(words, train, [0, 1], [0, 1])
