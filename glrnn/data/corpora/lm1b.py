"""`lm1b`: the One Billion Word Benchmark, sentences of news in random order.

Its 99 files of training text have 30,301,028 sentences of 768,648,884 words. Of the 50
files that are held out the first is the test set, as in Jozefowicz et al., "Exploring
the Limits of Language Modeling", 2016; the second is the validation set. Words seen
fewer than 3 times in the training set are unknown: the benchmark's vocabulary of
793,471 words counts `<S>`, `</S>` and `<UNK>`, where ours has `<eos>` and `<unk>`.
Source: Chelba et al., "One Billion Word Benchmark for Measuring Progress in Statistical
Language Modeling", 2013.
"""

from glrnn.data.corpora.download import Archive, Member, Source, Text
from glrnn.data.corpora.downloaded import TextsBuilder

_NAME = "1-billion-word-language-modeling-benchmark-r13output"
_TRAINING = f"{_NAME}/training-monolingual.tokenized.shuffled"
_HELD_OUT = f"{_NAME}/heldout-monolingual.tokenized.shuffled"


class Lm1b(TextsBuilder):
    """The TFDS builder of `lm1b`."""

    name = "glrnn_lm1b"
    source = Source(
        name="lm1b",
        licence=(
            "news of the WMT 2011 workshop, prepared by Chelba et al.; for research, "
            "the rights of the texts are their publishers'"
        ),
        addresses=(
            f"http://www.statmt.org/lm-benchmark/{_NAME}.tar.gz",
            f"https://www.statmt.org/lm-benchmark/{_NAME}.tar.gz",
        ),
        texts={
            # The words of the training set and its sentences.
            "train": Text("", num_tokens=768_648_884 + 30_301_028),
            "valid": Text("", num_tokens=None),
            "test": Text("", num_tokens=None),
        },
        # tensorflow-datasets has this SHA-256 (datasets/lm1b/checksums.tsv). Nobody has
        # published those of the files in the archive.
        archive=Archive(
            f"{_NAME}.tar.gz",
            "01ba60381110baf7f189dfd2b8374de371e8c9a340835793f190bdae9e90a34e",
            {
                "train": Member(f"{_TRAINING}/news.en-*-of-00100"),
                "valid": Member(f"{_HELD_OUT}/news.en.heldout-00001-of-00050"),
                "test": Member(f"{_HELD_OUT}/news.en.heldout-00000-of-00050"),
            },
        ),
    )
