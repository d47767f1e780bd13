"""Signs that splits are not what they should be; and none of the published corpora."""

import numpy as np
import pytest

from glrnn import data
from glrnn.data.split_checks import suspicions
from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import UNK, Vocabulary

TEXTS = {
    "train": "the cat sat on a mat\n a dog saw the cat\n",
    "valid": "the dog sat\n",
    "test": "a mat saw\n",
}
LONG = "one of many more lines\n" * 2


def said(**texts):
    tokens = {
        split: text.replace("\n", f" {EOS} ").split()
        for split, text in (TEXTS | texts).items()
    }
    vocabulary = Vocabulary.of(*tokens.values())
    encoded = {split: vocabulary.encode(words) for split, words in tokens.items()}
    streams = {split: ids for split, (ids, _) in encoded.items()}
    unknown = {split: count for split, (_, count) in encoded.items()}
    return suspicions(vocabulary, **streams, unknown=unknown)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ({}, []),
        (
            {"valid": TEXTS["train"]},
            ["the train split and the valid split are the same text"],
        ),
        (
            {"valid": TEXTS["test"]},
            ["the valid split and the test split are the same text"],
        ),
        (
            {"test": TEXTS["train"].split("\n")[0] + "\n a cat\n"},
            ["70% of the test split is in lines that the train split has too"],
        ),
        (
            {"valid": LONG + TEXTS["train"], "test": "a mat saw\n"},
            [
                "52% of the valid split is in lines that the train split has too",
                "the valid split is larger than the train split: 25 tokens to 13; are "
                "they swapped?",
            ],
        ),
        (
            {"valid": f"a {UNK} sat\n"},
            [
                "the valid and test splits have 1 unknown words, but the train split "
                "has no <unk>, so that no model can learn it; a minimum count of 2 "
                "gives it some"
            ],
        ),
        ({"train": TEXTS["train"] + UNK, "test": f"a {UNK} saw\n"}, []),
        (
            {"train": TEXTS["train"] + UNK, "test": "a [UNK] saw\n"},
            [
                "the texts have <unk> and [UNK]; unknown words are read as <unk>, and "
                "the others are ordinary words"
            ],
        ),
    ],
)
def test_what_looks_wrong_is_said(texts, expected):
    assert said(**texts) == expected


def test_the_same_text_in_other_lines_is_told():
    words = [f"w{i}" for i in range(90)]
    texts = {
        "train": "\n".join(words[::-1] * 3),
        "valid": "\n".join(" ".join(words[i : i + 9]) for i in range(0, 90, 9)),
        "test": "\n".join(" ".join(words[i : i + 6]) for i in range(0, 90, 6)),
    }
    assert said(**texts) == [
        "the valid split and the test split are the same text, but for their line "
        "breaks"
    ]


def test_texts_of_one_line_without_an_end_share_nothing():
    words = Vocabulary(("a", "b"))
    streams = [np.array(ids, np.int32) for ids in ([0, 1, 0, 1, 1], [0, 1], [1, 1])]
    assert suspicions(words, *streams, {}) == []


def test_overlapping_texts_of_one_line_are_told():
    rng = np.random.default_rng(0)
    train, other = rng.choice(list("abcdefgh"), (2, 400))
    texts = {"train": train, "valid": train[:200], "test": train[200:]}
    found = said(**{split: " ".join(text) + "\n" for split, text in texts.items()})
    shared = "100% of the {} split is in passages that the train split has too"
    assert found == [shared.format("valid"), shared.format("test")]
    # Half a split is enough, wherever it begins; lines of the other do not matter.
    mixed = " ".join([*other[:70], *train[17:217]])
    lines = "\n".join(" ".join(row) for row in train.reshape(40, 10))
    (found,) = said(train=lines, valid=mixed, test=" ".join(other[200:]))
    assert found == shared.format("valid").replace("100%", "66%")


@pytest.mark.parametrize("name", ["ptb", "wikitext-2"])
def test_published_corpora_are_not_suspicious(corpora, name, capsys):
    data.load(corpora / name)
    assert capsys.readouterr().err == ""
