"""`wikitext-2`: good and featured articles of the English Wikipedia.

Case, punctuation and numbers are kept; words seen fewer than 3 times are `<unk>`, which
leaves 33,278 word types. Source: Merity et al., "Pointer Sentinel Mixture Models",
2016.
"""

from glrnn.data.corpora.download import Source, Text
from glrnn.data.corpora.downloaded import TextsBuilder

_AT_COMMIT = "2323a3b55f0a746e8f46a80200d616bfadce5742/data/wiki2.{split}.txt"


class Wikitext2(TextsBuilder):
    """The TFDS builder of `wikitext-2`."""

    name = "glrnn_wikitext2"
    source = Source(
        name="wikitext-2",
        licence=(
            "articles by the contributors of Wikipedia, collected by Merity et al.; "
            "Creative Commons BY-SA 3.0"
        ),
        # The same bytes everywhere; the last is the first's commit, served by another
        # network.
        addresses=(
            "https://raw.githubusercontent.com/zivaharoni/gradual-learning-rnn/"
            + _AT_COMMIT,
            "https://raw.githubusercontent.com/pytorch/examples/"
            "77f55b912142e11fcfdf5b530231fb9c52f181e8/"
            "word_language_model/data/wikitext-2/{split}.txt",
            "https://cdn.jsdelivr.net/gh/zivaharoni/gradual-learning-rnn@" + _AT_COMMIT,
        ),
        texts={
            "train": Text(
                "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f",
                num_tokens=2_088_628,
            ),
            "valid": Text(
                "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
                num_tokens=217_646,
            ),
            "test": Text(
                "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
                num_tokens=245_569,
            ),
        },
    )
