"""`wikitext-103`: all good and featured articles of the English Wikipedia of 2016.

28,475 articles; its validation and test sets are the articles of `wikitext-2`. Case,
punctuation and numbers are kept; words seen fewer than 3 times are `<unk>`, which
leaves 267,735 word types. Source: Merity et al., "Pointer Sentinel Mixture Models",
2016, whose table 1 has the numbers of tokens.
"""

from glrnn.data.corpora.download import Archive, Member, Source, Text
from glrnn.data.corpora.downloaded import TextsBuilder

_FOLDER = "wikitext-103"


class Wikitext103(TextsBuilder):
    """The TFDS builder of `wikitext-103`."""

    name = "glrnn_wikitext103"
    source = Source(
        name="wikitext-103",
        licence=(
            "articles by the contributors of Wikipedia, collected by Merity et al.; "
            "Creative Commons BY-SA 3.0"
        ),
        # The address of the paper, and that of its first author.
        addresses=(
            "https://s3.amazonaws.com/research.metamind.io/wikitext/"
            "wikitext-103-v1.zip",
            "https://wikitext.smerity.com/wikitext-103-v1.zip",
        ),
        texts={
            "train": Text("", num_tokens=103_227_021),
            "valid": Text("", num_tokens=217_646),
            "test": Text("", num_tokens=245_569),
        },
        # The SHA-256 of the archive is in Hugging Face's datasets
        # (datasets/wikitext/dataset_infos.json at commit 0401021), the SHA-1 of the
        # texts in GluonNLP (src/gluonnlp/data/corpora/wikitext.py at commit 3413f84).
        archive=Archive(
            "wikitext-103-v1.zip",
            "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
            {
                "train": Member(
                    f"{_FOLDER}/wiki.train.tokens",
                    "b7497e2dfe77e72cfef5e3dbc61b7b53712ac211",
                ),
                "valid": Member(
                    f"{_FOLDER}/wiki.valid.tokens",
                    "c326ac59dc587676d58c422eb8a03e119582f92b",
                ),
                "test": Member(
                    f"{_FOLDER}/wiki.test.tokens",
                    "8a5befc548865cec54ed4273cf87dbbad60d1e47",
                ),
            },
        ),
    )
