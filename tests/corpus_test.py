"""Corpora against their published counts, and what cannot be one."""

import errno
import os
import pathlib

import hypothesis
import numpy as np
import pytest

from glrnn import data
from glrnn.data import windows
from glrnn.data.vocabulary import EOS, UNK, Vocabulary
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
    for name in ("ptbb", str(tmp_path / "gone")):
        with pytest.raises(UsageError) as error:
            data.load(name)
        assert str(error.value) == (
            f"unknown data set {name!r}; choose from: python-docs, ptb, wikitext-2, or "
            "give a folder with train.txt, valid.txt and test.txt"
        )


def test_a_folder_without_a_split_is_refused(tmp_path):
    write(tmp_path, train="a\n", test="a\n")
    with pytest.raises(UsageError, match=rf"{tmp_path} has no valid\.txt; a data set"):
        data.load(tmp_path)
    (tmp_path / "train.txt").unlink()
    with pytest.raises(UsageError, match=r"has no train\.txt and no valid\.txt"):
        data.load(tmp_path)


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
