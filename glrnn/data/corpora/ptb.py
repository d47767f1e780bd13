"""`ptb`: the Penn Treebank, as preprocessed by Mikolov.

Wall Street Journal articles in lower case, without punctuation, numbers as `N`, 10,000
word types. Sources: Marcus et al., "Building a Large Annotated Corpus of English: The
Penn Treebank", 1993; Mikolov et al., "Recurrent Neural Network Based Language Model",
2010. The bytes are those that the authors of "Gradual Learning of Recurrent Neural
Networks" trained on; other copies end in one more newline.
"""

from glrnn.data.corpora.download import Source, Text
from glrnn.data.corpora.downloaded import TextsBuilder

_AT_COMMIT = "2323a3b55f0a746e8f46a80200d616bfadce5742/data/ptb.{split}.txt"


class Ptb(TextsBuilder):
    """The TFDS builder of `ptb`."""

    name = "glrnn_ptb"
    source = Source(
        name="ptb",
        licence=(
            "the Penn Treebank as preprocessed by Mikolov; for research only, not to "
            "be passed on"
        ),
        # The second is the same commit's file, served by another network.
        addresses=(
            "https://raw.githubusercontent.com/zivaharoni/gradual-learning-rnn/"
            + _AT_COMMIT,
            "https://cdn.jsdelivr.net/gh/zivaharoni/gradual-learning-rnn@" + _AT_COMMIT,
        ),
        texts={
            "train": Text(
                "cf85b423e7f29fef400551a6ecd722595e104ed0ab150374ca30733578121198",
                num_tokens=929_589,
            ),
            "valid": Text(
                "6d1b028ab2267ddceed1ad3cb67d9aadf438b8c7ed74baf5b1182488f6b18231",
                num_tokens=73_760,
            ),
            "test": Text(
                "91a2fa938d84baddaa05a3d67a5698924847eca8a4e7faa1518f3fd11c3d6d73",
                num_tokens=82_430,
            ),
        },
    )
