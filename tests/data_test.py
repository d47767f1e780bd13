"""The data room against the published counts of the corpora and the exact windows."""

import errno
import json
import os
import pathlib

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from glrnn import data, windows
from glrnn.data import EOS, UNK, Vocabulary
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
    sizes, vocabulary_size, eos, unk = {
        "ptb": ((929_589, 73_760, 82_430), 10_000, 24, 26),
        "wikitext-2": ((2_088_628, 217_646, 245_569), 33_278, 0, 9),
    }[name]
    assert (corpus.train.size, corpus.valid.size, corpus.test.size) == sizes
    assert len(corpus.vocabulary) == vocabulary_size
    assert corpus.vocabulary.index[EOS] == eos
    assert corpus.vocabulary.index[UNK] == unk
    assert corpus.unknown == {"train": 0, "valid": 0, "test": 0}
    assert {s.dtype for s in corpus[2:5]} == {np.dtype(np.int32)}


def test_the_corpora_have_the_published_rows(named_corpus):
    name, corpus = named_corpus
    batch_size, train_rows, valid_rows = {
        "ptb": (12, 77_465, 7_376),
        "wikitext-2": (15, 139_241, 21_764),
    }[name]
    assert windows.columns(corpus.train, batch_size).shape == (train_rows, batch_size)
    assert windows.columns(corpus.valid, 10).shape == (valid_rows, 10)


# Reading.


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        (b"a b\nc\n", ["a", "b", EOS, "c", EOS]),
        (b"a b\nc", ["a", "b", EOS, "c", EOS]),
        (b"a\r\nb\r\n", ["a", EOS, "b", EOS]),
        (b"\n \na\n\n", [EOS, EOS, "a", EOS, EOS]),
        (b"\xef\xbb\xbfa\n", ["a", EOS]),
        ("a\u2028b\x0cc\x85d\n".encode(), ["a", "b", "c", "d", EOS]),
        ("über <unk>\n".encode(), ["über", UNK, EOS]),
    ],
)
def test_every_line_ends_in_eos(tmp_path, content, tokens):
    write(tmp_path, text=content)
    assert data.read_tokens(tmp_path / "text.txt") == tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\n\xff\n", "is not UTF-8 text: invalid start byte at byte 4"),
        (b"x" * 100_000 + b"\xc3", "unexpected end of data at byte 100000"),
        (b"", "is empty: it holds no words"),
        (b"\n \n", "is empty: it holds no words"),
    ],
)
def test_a_bad_text_is_refused_by_its_path(tmp_path, content, message):
    path = write(tmp_path, bad=content) / "bad.txt"
    with pytest.raises(UsageError, match=message) as error:
        data.read_tokens(path)
    assert str(path) in str(error.value)


def test_a_path_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"cannot read .*gone\.txt: No such file"):
        data.read_tokens(tmp_path / "gone.txt")
    with pytest.raises(UsageError, match=f"cannot read {tmp_path}: Is a directory"):
        data.read_tokens(tmp_path)
    with pytest.raises(UsageError, match=r"cannot read .*: embedded null byte"):
        data.read_tokens("a\0b")

    def denied(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(pathlib.Path, "read_bytes", denied)
    with pytest.raises(UsageError, match=r"cannot read secret\.txt: Permission denied"):
        data.read_tokens("secret.txt")


# The vocabulary.

words = st.text(max_size=5)


@quick
@hypothesis.given(st.lists(words, min_size=1), st.lists(words))
def test_encoding_and_decoding_undo_one_another(tokens, more):
    vocabulary = Vocabulary.of(tokens, more)
    assert len(vocabulary) == len({*tokens, *more})
    ids, unknown = vocabulary.encode(tokens)
    assert (ids.dtype, ids.shape, unknown) == (np.int32, (len(tokens),), 0)
    assert vocabulary.decode(ids) == tokens


def test_ids_are_in_order_of_first_appearance():
    vocabulary = Vocabulary.of(["b", "a", "b"], ["c", "a", "d"])
    assert vocabulary.words == ("b", "a", "c", "d")
    with pytest.raises(AttributeError):
        vocabulary.words = ()


def test_an_empty_text_encodes_to_nothing():
    ids, unknown = Vocabulary(("a",)).encode([])
    assert (ids.dtype, ids.shape, unknown) == (np.int32, (0,), 0)


def test_unknown_words_become_unk_and_are_counted():
    ids, unknown = Vocabulary(("a", UNK)).encode(["b", "a", UNK, "c"])
    assert (ids.tolist(), unknown) == ([1, 0, 1, 1], 2)


def test_unknown_words_are_refused_without_unk():
    with pytest.raises(
        UsageError,
        match="2 of the 3 tokens of the valid split are not in the vocabulary, which "
        "has no <unk>; the first is 'b', token 1",
    ):
        Vocabulary(("a",)).encode(["a", "b", "c"], "valid split")


@pytest.mark.parametrize("ids", [[-1], [0, 2]])
def test_ids_outside_the_vocabulary_are_refused(ids):
    with pytest.raises(IndexError, match=r"in 0 \.\. 1"):
        Vocabulary(("a", "b")).decode(ids)


@quick
@hypothesis.given(tokens=st.lists(words))
def test_a_saved_vocabulary_is_the_same(tmp_path_factory, tokens):
    path = tmp_path_factory.getbasetemp() / "vocabulary.json"
    vocabulary = Vocabulary.of(tokens)
    vocabulary.save(path)
    assert Vocabulary.load(path) == vocabulary


def test_the_stored_form_is_a_plain_list_of_words(tmp_path):
    Vocabulary(("a", "über")).save(tmp_path / "vocabulary.json")
    assert json.loads((tmp_path / "vocabulary.json").read_text()) == ["a", "über"]


def test_a_failed_save_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "vocabulary.json"
    Vocabulary(("old",)).save(path)

    def killed(*paths):
        raise OSError("killed")

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(UsageError, match="cannot write"):
        Vocabulary(("new",)).save(path)
    assert Vocabulary.load(path).words == ("old",)
    assert os.listdir(tmp_path) == ["vocabulary.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a", "b"', "is not a vocabulary: Expecting"),
        ('{"a": 0}', "not a JSON list of strings"),
        ('["a", 1]', "not a JSON list of strings"),
        ('["a", "b", "a"]', "the vocabulary holds 'a' more than once"),
    ],
)
def test_a_bad_vocabulary_is_refused_by_its_path(tmp_path, content, message):
    path = tmp_path / "vocabulary.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=message) as error:
        Vocabulary.load(path)
    assert str(path) in str(error.value)


def test_a_vocabulary_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*none\.json: No such file"):
        Vocabulary.load(tmp_path / "none.json")


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
