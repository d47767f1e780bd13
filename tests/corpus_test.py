"""Corpora against their published counts, and what cannot be one."""

import errno
import io
import os
import pathlib
import sys
from collections import Counter

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from glrnn import check, data, study, train
from glrnn.console import bar
from glrnn.console.corpus import load_corpus
from glrnn.data import windows
from glrnn.data.encoding import text_of
from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import UNK, Vocabulary
from glrnn.errors import UsageError

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
quick = hypothesis.settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module", params=["ptb", "wikitext-2"])
def named_corpus(request):
    folder = FOLDER / request.param
    if not folder.is_dir():
        pytest.skip(f"the texts of {request.param} are not beside this checkout")
    return request.param, data.load(folder)


def write(folder, **texts):
    for split, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{split}.txt").write_bytes(content)
    return folder


# The published corpora.


def test_the_corpora_have_the_published_counts(named_corpus):
    name, corpus = named_corpus
    sizes, vocabulary_size, eos, unk, unknown = {
        "ptb": ((929_589, 73_760, 82_430), 10_000, 24, 26, (45_020, 3_485, 4_794)),
        "wikitext-2": (
            *((2_088_628, 217_646, 245_569), 33_278, 0, 9),
            (54_625, 11_718, 15_218),
        ),
    }[name]
    assert (corpus.train.size, corpus.valid.size, corpus.test.size) == sizes
    assert len(corpus.vocabulary) == vocabulary_size
    assert corpus.vocabulary.index[EOS] == eos
    assert corpus.vocabulary.index[UNK] == unk
    assert tuple(corpus.unknown.values()) == unknown
    assert {s.dtype for s in corpus[2:5]} == {np.dtype(np.int32)}


def test_the_ids_of_the_corpora_are_those_of_runs_before(named_corpus):
    name, corpus = named_corpus
    expected = {
        "ptb": "62fcb75d36c0b42f7b743551e8007f819ff3fcaf24303e31bc5be339f0794c76",
        "wikitext-2": (
            "6b3606ae7674cb9a91bccb6ef2a117883045c944fc112513275fc783f5a0feb2"
        ),
    }
    assert data.fingerprint(corpus) == expected[name]


def test_the_corpora_have_the_published_rows(named_corpus):
    name, corpus = named_corpus
    batch_size, train_rows, valid_rows = {
        "ptb": (12, 77_465, 7_376),
        "wikitext-2": (15, 139_241, 21_764),
    }[name]
    assert windows.columns(corpus.train, batch_size).shape == (train_rows, batch_size)
    assert windows.columns(corpus.valid, 10).shape == (valid_rows, 10)


# Corpora.


def test_the_vocabulary_is_of_train_then_valid_then_test(tmp_path):
    corpus = data.load(write(tmp_path, train="b a\n", valid="c a\n", test="d c\n"))
    assert corpus.name == str(tmp_path)
    assert corpus.vocabulary.words == ("b", "a", EOS, "c", "d")
    assert corpus.train.tolist() == [0, 1, 2]
    assert corpus.valid.tolist() == [3, 1, 2]
    assert corpus.test.tolist() == [4, 3, 2]


def test_a_stored_vocabulary_takes_unknown_words_as_unk(tmp_path):
    write(tmp_path, train="a\n", valid="b b\n", test="a b\n")
    corpus = data.load(tmp_path, Vocabulary(("a", EOS, UNK)))
    assert corpus.unknown == {"train": 0, "valid": 2, "test": 1}
    assert corpus.valid.tolist() == [2, 2, 1]
    with pytest.raises(UsageError, match="2 of the 3 tokens of the valid split of "):
        data.load(tmp_path, Vocabulary(("a", EOS)))


def test_an_unknown_data_set_is_refused(tmp_path):
    (tmp_path / "file.txt").touch()
    usual = "train.txt, valid.txt and test.txt"
    names = "python-docs, hmm, ptb, wikitext-2, wikitext-103, lm1b, text8, enwik8"
    for name, message in {
        "ptbb": f"unknown data set 'ptbb'; choose from: {names}, or give a folder with "
        f"{usual}",
        f"{tmp_path}/gone": f"there is no folder '{tmp_path}/gone'; give a folder with "
        f"{usual}, or a name: {names}",
        f"{tmp_path}/file.txt": f"{tmp_path}/file.txt is no folder; a data set is a "
        f"folder with {usual}",
    }.items():
        with pytest.raises(UsageError) as error:
            data.load(name)
        assert str(error.value) == message


def test_a_folder_named_like_a_corpus_is_told_from_it(tmp_path, monkeypatch, capsys):
    tokens = {"train": ["a", "b", EOS], "valid": ["b", EOS], "test": ["a", EOS]}
    texts = {split: text_of(words) for split, words in tokens.items()}
    monkeypatch.setattr(data.corpus, "CORPORA", {"ptb": lambda manual_dir: texts})
    monkeypatch.chdir(tmp_path)
    assert data.load("ptb").train.size == 3
    assert capsys.readouterr().err == ""
    (tmp_path / "ptb").mkdir()
    write(tmp_path / "ptb", train="c\nd e\n", valid="d\n", test="e\n")
    assert data.load("ptb").train.size == 3
    assert capsys.readouterr().err == (
        "note: ptb is the corpus of that name, not the folder ./ptb\n"
    )
    # A path is no name, and the name that is stored with a run is not taken for one.
    for path in ("./ptb", "ptb/", pathlib.Path("ptb")):
        corpus = data.load(path)
        assert corpus.train.size == 5
        assert corpus.name not in data.corpus.CORPORA
    assert capsys.readouterr().err == ""


def test_a_folder_without_a_split_is_refused(tmp_path):
    write(tmp_path, train="a\n", test="a\n")
    with pytest.raises(UsageError, match=rf"{tmp_path} has no valid\.txt; a data set"):
        data.load(tmp_path)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(UsageError, match=r"has no train\.txt and no valid\.txt"):
        data.load(tmp_path)


@pytest.mark.parametrize(
    ("min_count", "train", "valid"),
    [
        (0, ["a", "b", "a", EOS], ["b", "c", EOS]),
        (1, ["a", "b", "a", EOS], ["b", UNK, EOS]),
        (2, ["a", UNK, "a", EOS], [UNK, UNK, EOS]),
    ],
)
def test_a_minimum_count_makes_other_words_unknown(tmp_path, min_count, train, valid):
    write(tmp_path, train="a b a\n", valid="b c\n", test="a\n")
    corpus = data.load(tmp_path, min_count=min_count)
    assert corpus.vocabulary.decode(corpus.train) == train
    assert corpus.vocabulary.decode(corpus.valid) == valid
    assert corpus.unknown == {
        "train": train.count(UNK),
        "valid": valid.count(UNK),
        "test": 0,
    }
    # With the vocabulary that a run stores it is read the same.
    again = data.load(tmp_path, corpus.vocabulary)
    assert data.fingerprint(again) == data.fingerprint(corpus)


def test_suspicious_splits_are_told_where_a_model_is_to_be_trained(tmp_path, capsys):
    write(tmp_path, train="a b\n", valid="a b\n", test="b\n")
    corpus = data.load(tmp_path)
    assert capsys.readouterr().err == (
        f"warning: {tmp_path}: the train split and the valid split are the same text\n"
    )
    data.load(tmp_path, corpus.vocabulary)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("ending", "tokens", "warning"),
    [
        (
            " <eos>\n",
            ["a", EOS, EOS, "b", EOS, EOS],
            "lines that already end in <eos>: 2; each gets a second one, so remove it",
        ),
        (
            "\t<eos> \r\n",
            ["a", EOS, EOS, "b", EOS, EOS],
            "lines that already end in <eos>: 2; each gets a second one, so remove it",
        ),
        (
            "\r",
            ["a", "b", EOS],
            "carriage returns without a newline: 2; they end no line and get no <eos>, "
            "so replace them by newlines",
        ),
        (
            " </s>\n",
            ["a", "</s>", EOS, "b", "</s>", EOS],
            "lines that end in </s>: 2 of the first 2; each gets <eos> too, so remove "
            "</s> if it means the same",
        ),
        (
            "\n<eos> x\n",
            ["a", EOS, EOS, "x", EOS, "b", EOS],
            "lines that begin with <eos>: 2; the line before ends in one already, so "
            "remove it",
        ),
        (
            " \u2028\n",
            ["a", EOS, "b", EOS],
            "line separators (U+2028): 2; they end no line and get no <eos>, so "
            "replace them by newlines if they should",
        ),
        ("\r\n", ["a", EOS, "b", EOS], None),
        (" <eos> c x<eos>\n", ["a", EOS, "c", "x<eos>", EOS, "b"], None),
    ],
)
def test_line_ends_that_are_not_newlines_are_told(
    tmp_path, capsys, ending, tokens, warning
):
    write(tmp_path, train=f"a{ending}b{ending}", valid="b a\n", test="b b\n")
    corpus = data.load(tmp_path)
    assert corpus.vocabulary.decode(corpus.train)[: len(tokens)] == tokens
    expected = f"warning: {tmp_path}/train.txt: {warning}\n" if warning else ""
    assert capsys.readouterr().err == expected
    data.load(tmp_path, corpus.vocabulary, splits=["train"])  # as `evaluate` loads it
    assert capsys.readouterr().err == expected


def test_how_much_is_unknown_is_told(tmp_path, capsys):
    write(tmp_path, train="a a a a b\n" * 3, valid="a\na\na c\n", test="b b a\n")

    def told(min_count):
        data.load(tmp_path, min_count=min_count)
        return capsys.readouterr().err.splitlines()

    assert told(0) == []
    assert told(1)[-1] == (
        f"note: {tmp_path}: the vocabulary has 4 words; 0.0% of train, 14.3% of valid, "
        f"0.0% of test is <unk>"
    )
    assert told(4) == [
        f"warning: {tmp_path}: the vocabulary has 3 words; 16.7% of train, 14.3% of "
        f"valid, 50.0% of test is <unk>; choose a lower minimum count"
    ]


@quick
@hypothesis.given(
    st.lists(st.sampled_from("abcdefg"), min_size=1), st.lists(st.sampled_from("xya"))
)
def test_words_in_order_of_frequency_are_those_that_a_counter_counts(train, valid):
    vocabulary = Vocabulary.of(train, valid)
    words = vocabulary.by_frequency(Counter(train)).words
    expected = [word for word, _ in Counter(train).most_common()]
    assert list(words[: len(expected)]) == expected
    assert {*words} == {*vocabulary.words}


def test_a_folder_is_loaded_in_order_of_frequency(texts):
    plain, sorted_ = data.load(texts), data.load(texts, order="frequency")
    assert sorted_.vocabulary != plain.vocabulary
    assert np.all(np.diff(np.bincount(sorted_.train)) <= 0)
    assert sorted_.unknown == plain.unknown
    # The order of a model that is evaluated is its own.
    again = data.load(texts, sorted_.vocabulary)
    assert data.fingerprint(again) == data.fingerprint(sorted_)


@pytest.mark.parametrize("min_count", [-1, 1.5, "2", None, True])
def test_a_minimum_count_that_is_none_is_refused(tmp_path, min_count):
    write(tmp_path, train="a\n", valid="a\n", test="a\n")
    with pytest.raises(UsageError, match="it must be an integer, at least 0"):
        data.load(tmp_path, min_count=min_count)
    with pytest.raises(UsageError, match="it must be an integer, at least 1"):
        Vocabulary.of_frequent(["a", "a"], min_count)


def test_a_command_line_shows_how_far_reading_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bar, "SECONDS_BETWEEN_LINES", 0.0)
    write(tmp_path, train="a b\nb a\n", valid="a\n", test="b\n")
    corpus = load_corpus(tmp_path)
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == f"reading {tmp_path}: 100%, 0:00 left"
    again = load_corpus(tmp_path, corpus.vocabulary, splits=["test"])
    assert again.test.tolist() == corpus.test.tolist()
    assert capsys.readouterr().err == ""


def test_only_some_splits_can_be_loaded_with_a_vocabulary(tmp_path):
    write(tmp_path, test="a b\n")
    corpus = data.load(tmp_path, Vocabulary(("a", "b", EOS)), splits=["test"])
    assert corpus.test.tolist() == [0, 1, 2]
    assert corpus.train.size == corpus.valid.size == 0
    with pytest.raises(ValueError, match="without a vocabulary"):
        data.load(tmp_path, splits=["test"])


def test_a_split_that_cannot_be_read_is_refused(tmp_path):
    write(tmp_path, train="a\n", valid="a\n")
    (tmp_path / "test.txt").mkdir()
    with pytest.raises(UsageError, match=r"cannot read .*test\.txt: Is a directory"):
        data.load(tmp_path)


def test_the_fingerprint_tells_corpora_apart(tmp_path):
    write(tmp_path, train="a b\n", valid="a\n", test="b\n")
    corpus = data.load(tmp_path)
    fingerprint = data.fingerprint(corpus)
    assert fingerprint == data.fingerprint(data.load(tmp_path)._replace(name="moved"))
    others = [
        corpus._replace(vocabulary=Vocabulary(("a", "c", EOS))),
        corpus._replace(train=corpus.train[:-1]),
        corpus._replace(valid=corpus.test, test=corpus.valid),
        # The same numbers in a row, cut elsewhere.
        corpus._replace(
            train=np.append(corpus.train, corpus.valid[0]), valid=corpus.valid[1:]
        ),
    ]
    assert len({fingerprint, *map(data.fingerprint, others)}) == 5


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(UsageError, match=f"cannot read {tmp_path}: Permission denied"):
        data.load(tmp_path)


@pytest.mark.parametrize("main", [train.main, study.main, check.main])
def test_commands_make_the_vocabulary_of_their_settings(main, tmp_path, monkeypatch):
    """And take it from a run that is resumed, where it is kept."""
    path = tmp_path / "mine.py"
    settings = "min_count=3, vocabulary_order='frequency'"
    path.write_text(f"from glrnn import Config\nconfig = Config({settings})")

    def load(name, manual_dir, min_count, order, begin, advance):
        raise UsageError(f"minimum count {min_count}, {order}")

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with pytest.raises(SystemExit):
        main([str(path)])
    assert sys.stderr.getvalue() == "error: minimum count 3, frequency\n"
