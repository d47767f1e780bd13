"""The embedded corpus: its size, its rules and its determinism."""

import collections
import itertools
import sys
import sysconfig
import types

import pytest

from glrnn import data
from glrnn.data.corpora import python_docs
from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import UNK
from glrnn.errors import UsageError


@pytest.fixture(scope="module")
def splits():
    return python_docs.splits()


@pytest.fixture
def standard_library(tmp_path, monkeypatch):
    """A standard library of our own, without help texts; not cached."""
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setattr(python_docs, "paragraphs", python_docs.paragraphs.__wrapped__)
    return tmp_path


def test_the_corpus_is_large_enough_to_learn_from(splits):
    # 239,000 tokens and 3,600 types on Python 3.11; other versions differ somewhat.
    tokens = [token for split in splits.values() for token in split]
    assert 150_000 < len(tokens) < 400_000
    assert 2_500 < len(set(tokens)) < 6_000
    assert tokens.count(UNK) / len(tokens) < 0.04


def test_the_paragraphs_are_shared_out_eight_to_one_to_one(splits):
    lines = {split: tokens.count(EOS) for split, tokens in splits.items()}
    total = len(python_docs.paragraphs())
    assert sum(lines.values()) == total
    assert lines["train"] / total == pytest.approx(0.8, abs=0.03)
    assert lines["valid"] / total == pytest.approx(0.1, abs=0.02)


def test_the_vocabulary_is_of_words_frequent_in_train(splits):
    counts = collections.Counter(splits["train"])
    assert min(counts.values()) >= python_docs.MIN_COUNT
    assert set(splits["valid"]) | set(splits["test"]) <= set(counts)


def test_a_split_ends_in_eos_and_has_no_empty_line(splits):
    for tokens in splits.values():
        assert tokens[-1] == EOS
        assert all(a != EOS or b != EOS for a, b in itertools.pairwise(tokens))


def test_paragraphs_are_prose_without_duplicates():
    kept = python_docs.paragraphs()
    assert len(set(kept)) == len(kept)
    assert all(python_docs.is_prose(paragraph) for paragraph in kept)
    assert not any("\n" in paragraph for paragraph in kept)


@pytest.mark.parametrize(
    ("paragraph", "kept"),
    [
        ("one two three four five six seven eight", True),
        ("one two three four five six seven", False),
        ("*one*, \"two\" (three) four: five; six? seven! 'eight'.", True),
        (">>> one two three four five six seven eight nine", False),
        ("one two three four five six seven eight nine 10", True),
        ("one two three four five six seven eight 9 10", False),
        ("one two three four five six seven a.b c", False),
    ],
)
def test_prose_is_eight_words_and_nine_tenths_letters(paragraph, kept):
    assert python_docs.is_prose(paragraph) is kept


def test_the_corpus_is_loaded_by_name(splits):
    corpus = data.load("python-docs")
    assert corpus.name == "python-docs"
    for split in data.SPLITS:
        assert corpus.vocabulary.decode(getattr(corpus, split)) == splits[split]
    assert corpus.vocabulary.words[0] == splits["train"][0]


def test_docstrings_are_read_in_order_and_nothing_else(standard_library):
    (standard_library / "a.py").write_text(
        '"""A module that says eight words in one sentence."""\n'
        "class A:\n"
        '    """A class that says eight words in one sentence.\n\n'
        '    A second paragraph that\n    says eight words in all."""\n'
        "    try:\n"
        "        pass\n"
        "    except ImportError:\n"
        "        async def f(self):\n"
        '            """A function that says eight words in one sentence."""\n'
        'x = """A plain string that says eight words in one sentence."""\n'
    )
    (standard_library / "broken.txt").write_text("not Python")
    for name in ("test", "site-packages"):
        (standard_library / name).mkdir()
        (standard_library / name / "b.py").write_text(
            '"""Words of another package or a test that must not be read."""'
        )
    (standard_library / "z").mkdir()
    (standard_library / "z" / "c.py").write_text(
        '"""A class that says eight words in one sentence."""\n'
        'raise SystemExit("never imported")\n'
    )
    expected = (
        "A module that says eight words in one sentence.",
        "A class that says eight words in one sentence.",
        "A second paragraph that says eight words in all.",
        "A function that says eight words in one sentence.",
    )
    assert python_docs.paragraphs() == expected
    assert python_docs.paragraphs() == expected


def test_help_texts_come_first_by_name(standard_library, monkeypatch):
    (standard_library / "a.py").write_text(
        '"""A module that says eight words in one sentence."""'
    )
    topics = types.ModuleType("pydoc_data.topics")
    vars(topics)["topics"] = {
        "b": "The second topic in order has eight words.",
        "a": "The first topic in order has eight words.",
    }
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", topics)
    firsts = [paragraph.split()[1] for paragraph in python_docs.paragraphs()]
    assert firsts == ["first", "second", "module"]


def test_a_python_without_documentation_is_told_so(standard_library):
    with pytest.raises(UsageError, match="no python-docs: this Python comes without"):
        data.load("python-docs")


def test_help_texts_alone_are_enough(standard_library, monkeypatch):
    monkeypatch.delitem(sys.modules, "pydoc_data.topics")
    assert {split for split, tokens in python_docs.splits().items() if tokens} == {
        "train",
        "valid",
        "test",
    }
