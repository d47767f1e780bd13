"""`enwik8`: 100 million bytes of the English Wikipedia, as they are.

The first 10^8 bytes of the dump of March 2006, XML and UTF-8; 205 symbols. A token is a
byte: its number in decimal, and `<eos>` for the byte 10, which ends a line. These are
the tokens of the texts that `prep_enwik8.py` of Merity et al., "An Analysis of Neural
Language Modeling at Multiple Scales", 2018, writes, and Transformer-XL after it. The
splits have 90, 5 and 5 million bytes there too. Source: Matt Mahoney, "Large Text
Compression Benchmark", 2006, http://mattmahoney.net/dc/textdata.html.
"""

from glrnn.data.corpora.characters import TEXTS, CharactersBuilder
from glrnn.data.corpora.download import Archive, Member, Source
from glrnn.data.tokens import EOS

NEWLINE = 10


class Enwik8(CharactersBuilder):
    """The TFDS builder of `enwik8`."""

    name = "glrnn_enwik8"
    symbols = tuple(EOS if byte == NEWLINE else str(byte) for byte in range(256))
    source = Source(
        name="enwik8",
        licence=(
            "articles by the contributors of Wikipedia; GNU Free Documentation License"
        ),
        addresses=(
            "http://mattmahoney.net/dc/enwik8.zip",
            "https://mattmahoney.net/dc/enwik8.zip",
        ),
        texts=TEXTS,
        # The SHA-256 of the archive is in Hugging Face's datasets
        # (datasets/enwik8/dataset_infos.json at commit 0401021), and several projects
        # that load the text publish the same one of it.
        archive=Archive(
            "enwik8.zip",
            "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc",
            {
                "all": Member(
                    "enwik8",
                    "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8",
                )
            },
        ),
    )
