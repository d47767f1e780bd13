"""Texts as tokens, and words as ids and back."""

import errno
import json
import os

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from reading import read_tokens

from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import OTHER_UNKS, UNK, Vocabulary
from glrnn.errors import UsageError

quick = hypothesis.settings(max_examples=60, deadline=None)


def write(folder, **texts):
    for split, text in texts.items():
        content = text if isinstance(text, bytes) else text.encode()
        (folder / f"{split}.txt").write_bytes(content)
    return folder


# Reading.


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        (b"a b\nc\n", ["a", "b", EOS, "c", EOS]),
        (b"a b\nc", ["a", "b", EOS, "c", EOS]),
        (b"a\r\nb\r\n", ["a", EOS, "b", EOS]),
        (b"\n \na\n\n", [EOS, EOS, "a", EOS, EOS]),
        (b"\xef\xbb\xbfa\n", ["a", EOS]),
        # `cat a b`, and a word of WikiText-2.
        ("\ufeffa\n\ufeffb c\n".encode(), ["a", EOS, "b", "c", EOS]),
        ("\ufeffa\ufeffb c\ufeff\n\ufeff d".encode(), ["ab", "c", EOS, "d", EOS]),
        ("W \ufeff / 51\n".encode(), ["W", "\ufeff", "/", "51", EOS]),
        ("a\u2028b\x0cc\x85d\n".encode(), ["a", "b", "c", "d", EOS]),
        ("über <unk>\n".encode(), ["über", UNK, EOS]),
    ],
)
def test_every_line_ends_in_eos(tmp_path, content, tokens):
    write(tmp_path, text=content)
    assert read_tokens(tmp_path / "text.txt") == tokens


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"abc\n\xff\n", "is not UTF-8 text: invalid start byte at byte 4"),
        (b"x" * 100_000 + b"\xc3", "unexpected end of data at byte 100000"),
        (b"", "is empty: it holds no words"),
        (b"\n \n", "is empty: it holds no words"),
        ("the cat".encode("utf-16-le"), "is not UTF-8 text: NUL at byte 1"),
    ],
)
def test_a_bad_text_is_refused_by_its_path(tmp_path, content, message):
    path = write(tmp_path, bad=content) / "bad.txt"
    with pytest.raises(UsageError, match=message) as error:
        read_tokens(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("tokens", ["the b", b"the b", [0, 1], [None], ["a", b"a"]])
def test_what_is_no_list_of_words_is_refused(tokens):
    """Rather than read as unknown words, or letters."""
    vocabulary = Vocabulary(("a", "<unk>"))
    with pytest.raises(UsageError, match=r"give a list of words|not a word"):
        vocabulary.encode(tokens)


def test_words_are_a_tuple_of_strings():
    for words in ("abc", ["a"], (1, 2)):
        with pytest.raises(UsageError, match="must be a tuple of strings"):
            Vocabulary(words)
    with pytest.raises(UsageError, match="give a list of words"):
        Vocabulary.of("the b")


def test_a_path_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"cannot read .*gone\.txt: No such file"):
        read_tokens(tmp_path / "gone.txt")
    with pytest.raises(UsageError, match=f"cannot read {tmp_path}: Is a directory"):
        read_tokens(tmp_path)
    with pytest.raises(UsageError, match=r"cannot read .*: embedded null byte"):
        read_tokens("a\0b")

    def denied(path, mode):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    path = write(tmp_path, secret="a\n") / "secret.txt"
    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(UsageError, match=r"cannot read .*secret\.txt: Permission den"):
        read_tokens(path)


# The vocabulary.

words = st.text(max_size=5)


@quick
@hypothesis.given(st.lists(words, min_size=1), st.lists(words))
def test_encoding_and_decoding_undo_one_another(tokens, more):
    vocabulary = Vocabulary.of(tokens, more)
    assert len(vocabulary) == len({*tokens, *more})
    ids, unknown = vocabulary.encode(tokens)
    assert (ids.dtype, ids.shape) == (np.int32, (len(tokens),))
    assert unknown == tokens.count(vocabulary.unknown_symbol)
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
    assert (ids.tolist(), unknown) == ([1, 0, 1, 1], 3)
    words = Vocabulary(("a", UNK)).unknown_words(["b", "a", UNK, "c", UNK])
    assert words == {UNK: 2, "b": 1, "c": 1}


@pytest.mark.parametrize("symbol", OTHER_UNKS)
def test_another_symbol_for_unknown_words_is_recognised(symbol):
    vocabulary = Vocabulary(("a", symbol))
    assert vocabulary.unknown_symbol == symbol
    ids, unknown = vocabulary.encode(["b", "a", symbol, UNK])
    assert (ids.tolist(), unknown) == ([1, 0, 1, 1], 3)
    assert vocabulary.unknown_words(["b", "a", symbol]) == {"b": 1, symbol: 1}
    assert Vocabulary((symbol, UNK)).unknown_symbol == UNK
    assert Vocabulary.of_frequent(["a", "a", "b", EOS], 2).words == ("a", UNK, EOS)
    rare = Vocabulary.of_frequent(["a", "a", "b", symbol, EOS], 2)
    assert rare.words == ("a", symbol, EOS)


@quick
@hypothesis.given(st.lists(st.sampled_from("abcd")), st.integers(1, 4))
def test_frequent_words_are_those_that_numpy_counts(letters, min_count):
    tokens = [*letters, EOS]
    words, counts = np.unique(letters, return_counts=True)
    frequent = {str(word) for word in words[counts >= min_count]}
    if not frequent:
        with pytest.raises(UsageError, match=f"minimum count is {min_count}, but no "):
            Vocabulary.of_frequent(tokens, min_count)
        return
    vocabulary = Vocabulary.of_frequent(tokens, min_count)
    assert set(vocabulary.words) == frequent | {EOS, UNK}
    ids, unknown = vocabulary.encode(tokens)
    assert unknown == sum(letter not in frequent for letter in letters)
    # In order of appearance, which depends on nothing else.
    first = list(dict.fromkeys(ids.tolist()))
    assert first == list(range(len(first)))


def test_unknown_words_are_refused_without_unk():
    with pytest.raises(
        UsageError,
        match="2 of the 3 tokens of the valid split are not in the vocabulary, which "
        "has no <unk>; the first is 'b', token 1",
    ):
        Vocabulary(("a",)).encode(["a", "b", "c"], "the valid split")


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
        ('["a", "b"', "not a vocabulary: Expecting"),
        ('{"a": 0}', "no JSON list of strings"),
        ('["a", 1]', "no JSON list of strings"),
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
