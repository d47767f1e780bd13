"""Texts read in pieces and encoded in one pass, against the whole text at once."""

import io

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from reading import read_tokens, read_whole

from glrnn import data
from glrnn.data import encoding, texts
from glrnn.data.ids import Facts, check_ids, count_ids, with_facts
from glrnn.data.tokens import EOS, LineEnds, line_end_warnings
from glrnn.data.vocabulary import UNK, Vocabulary
from glrnn.data.windows import columns
from glrnn.errors import UsageError
from glrnn.evaluation.perplexity import unigram_score

quick = hypothesis.settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)

TRICKY = [
    b"the cat\n\nsat",
    b"a\r\nb\rc\r\n",
    b"\n \na\n\n",
    "\ufeffa\n\ufeffb c\n".encode(),
    "\ufeffa\ufeffb c\ufeff\n\ufeff d \ufeff\ufeff e\ufeff".encode(),
    "W \ufeff / 51\n \ufeff\n".encode(),
    "a\u2028b\x0cc\x85d\u3000e\x1cf\xa0g\n".encode(),
    "über <unk> naïve\n".encode() * 3,
    b"averyverylongwordthatspansblocks " * 3,
    b"one line of " + b"many words " * 20,
    b"<eos> a <eos>\n<eos>\nb <eos> \n a<eos> <eos>b\n <eos>",
    b"\tonly\ttabs\tin\ta\tlong\tline\tof\ttext",
    b"abc\n\xff\n",
    b"x" * 50 + b"\xc3",
    b"x y\xe2\x82 z\n",
    b"x y\xe2\x82\n z\n",
    b"a\0b\n" * 5,
    b"a\0b \n" * 5 + b"\xff",
    "the cat".encode("utf-16-le"),
    b"",
    b" \n\t\n",
]


def outcome(read, path):
    try:
        return read(path)
    except UsageError as error:
        return str(error)


# The tokens.


@pytest.mark.parametrize("content", TRICKY)
@pytest.mark.parametrize("block", [1, 2, 3, 7, 16, 2**20])
def test_pieces_hold_the_tokens_of_the_whole(tmp_path, monkeypatch, content, block):
    monkeypatch.setattr(texts, "BLOCK", block)
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert outcome(read_tokens, path) == outcome(read_whole, path)


parts = st.sampled_from(
    [*"ab \n\r\t", "\ufeff", "\u2028", "\xa0", "\x85", "é", EOS, f" {EOS} ", "\0"]
)
contents = st.lists(parts, max_size=30).map(lambda found: "".join(found).encode())
cut = st.builds(lambda content, at: content[:at], contents, st.integers(0, 60))


@quick
@hypothesis.given(
    content=st.one_of(contents, cut, st.binary(max_size=20)), block=st.integers(1, 9)
)
def test_any_text_is_read_as_the_whole(tmp_path, monkeypatch, content, block):
    monkeypatch.setattr(texts, "BLOCK", block)
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    assert outcome(read_tokens, path) == outcome(read_whole, path)


def test_an_error_in_a_late_block_is_told_by_its_place(tmp_path):
    path = tmp_path / "text.txt"
    for bad in (b"\xff\n", b"\0\n", b"\xe2\x82 x\n"):
        path.write_bytes(b"the cat\n" * 300_000 + bad)
        assert outcome(read_tokens, path) == outcome(read_whole, path)
        assert "at byte 2400000" in outcome(read_tokens, path)


@quick
@hypothesis.given(content=contents, block=st.integers(1, 9))
def test_the_ends_of_lines_are_judged_as_in_the_whole(
    tmp_path, monkeypatch, content, block
):
    monkeypatch.setattr(texts, "BLOCK", block)
    path = tmp_path / "text.txt"
    path.write_bytes(content.replace(b"\0", b""))
    ends = LineEnds()
    for piece in texts.pieces(path, lambda block: None):
        if piece:
            ends.add(piece)
    assert ends.warnings() == line_end_warnings(texts.read_text(path))


# The ids.

words = st.sampled_from(["a", "b", "c", "d", UNK, EOS, "\n", "\n"])
texts_of_splits = st.lists(
    st.lists(words, max_size=25).map(lambda found: " ".join(["a", *found])),
    min_size=3,
    max_size=3,
)


@quick
@hypothesis.given(contents=texts_of_splits, min_count=st.integers(0, 3))
def test_ids_and_words_are_those_of_lists_of_tokens(
    tmp_path, monkeypatch, contents, min_count
):
    monkeypatch.setattr(texts, "BLOCK", 5)
    monkeypatch.setattr(encoding, "CHUNK", 4)
    tokens = {}
    for split, content in zip(data.SPLITS, contents, strict=True):
        (tmp_path / f"{split}.txt").write_text(content)
        tokens[split] = read_whole(tmp_path / f"{split}.txt")
    try:
        if min_count:
            vocabulary = Vocabulary.of_frequent(tokens["train"], min_count)
        else:
            vocabulary = Vocabulary.of(*tokens.values())
    except UsageError as error:
        with pytest.raises(UsageError) as found:
            data.load(tmp_path, min_count=min_count)
        assert str(found.value) == str(error)
        return
    with pytest.raises(UsageError, match="which has no <unk>"):
        data.load(tmp_path, Vocabulary(()))
    for given in (None, vocabulary, vocabulary):
        corpus = data.load(tmp_path, given, min_count=min_count)
        assert corpus.vocabulary == vocabulary
        for split in data.SPLITS:
            ids, unknown = vocabulary.encode(tokens[split])
            found = getattr(corpus, split)
            assert found.dtype == np.int32
            assert found.tolist() == ids.tolist()
            assert corpus.unknown[split] == unknown


def test_unknown_words_without_a_symbol_are_told_by_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 2)
    tmp_path = tmp_path / "a{b}%s"
    tmp_path.mkdir()
    contents = {"train": "a a a\n", "valid": "a a a a b c b\n", "test": "a\n"}
    for split, content in contents.items():
        (tmp_path / f"{split}.txt").write_text(content)
    vocabulary = Vocabulary(("a", EOS))
    with pytest.raises(UsageError) as found:
        data.load(tmp_path, vocabulary)
    with pytest.raises(UsageError) as expected:
        vocabulary.encode(
            read_whole(tmp_path / "valid.txt"), f"the valid split of {tmp_path}"
        )
    assert str(found.value) == str(expected.value)
    assert "token 4;" in str(found.value)


def test_progress_is_counted_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "BLOCK", 4)
    for split in data.SPLITS:
        (tmp_path / f"{split}.txt").write_text("the cat\nsat\n")
    begun, done = [], []
    load = {"begin": lambda *told: begun.append(told), "advance": done.append}
    data.load(tmp_path, **load)
    assert begun == [(f"reading {tmp_path}", 36)]
    assert sum(done) == 36
    data.load(tmp_path, **load)
    assert len(begun) == 1


# What is known of a stream.


def test_facts_spare_a_look_at_the_tokens():
    ids = np.array([0, 2, 2, 1, 0, 3], np.int32)
    plain = ids.copy()
    known = with_facts(ids, Facts("a3", np.array([2, 1, 2, 1, 0])))
    assert count_ids(known, 5).tolist() == np.bincount(plain, minlength=5).tolist()
    assert unigram_score(known, plain, 5) == unigram_score(plain, plain, 5)
    with pytest.raises(UsageError, match=r"holds the id 3; ids must be in 0 \.\. 2"):
        check_ids(known, vocabulary_size=3)
    assert columns(known, 2).tolist() == columns(plain, 2).tolist()
    with pytest.raises(ValueError, match="read-only"):
        known[0] = 1


def test_columns_are_a_view():
    ids = np.arange(7, dtype=np.int32)
    assert np.shares_memory(columns(ids, 2), ids)


def test_a_file_of_ids_is_renumbered_where_it_lies(monkeypatch):
    monkeypatch.setattr(encoding, "CHUNK", 3)
    tokens = {"train": [*"abcdefgabc"], "valid": [*"gfzz"]}
    texts = {split: encoding.text_of(words) for split, words in tokens.items()}

    def backwards(counts):
        assert [*counts["train"]] == [*"abcdefg"]
        assert counts["valid"] == {"f": 1, "g": 1, "z": 2}
        return Vocabulary((*reversed(counts["train"]), UNK))

    def nothing(*told):
        pass

    made, encoded = encoding.encode(texts, backwards, io.BytesIO, nothing, nothing)
    for split, each in encoded.items():
        ids, _ = made.encode(tokens[split])
        assert np.frombuffer(each.file.getvalue(), np.int32).tolist() == ids.tolist()
        assert each.facts.counts.tolist() == np.bincount(ids, minlength=8).tolist()
