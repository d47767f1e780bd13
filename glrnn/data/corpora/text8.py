"""`text8`: 100 million characters of the English Wikipedia, cleaned.

The first 10^8 bytes of the text of articles of March 2006: lower-case letters and
single spaces, digits spelled out; 27 symbols. A space is `_`. There are no lines, and
no `<eos>`. The splits have 90, 5 and 5 million characters, as in Mikolov et al.,
"Subword Language Modeling with Neural Networks", 2012. Source: Matt Mahoney, "About the
Test Data", 2011, http://mattmahoney.net/dc/textdata.html.
"""

import string

from glrnn.data.corpora.characters import TEXTS, CharactersBuilder
from glrnn.data.corpora.download import Archive, Member, Source

_SYMBOLS = {letter: letter for letter in string.ascii_lowercase} | {" ": "_"}


class Text8(CharactersBuilder):
    """The TFDS builder of `text8`."""

    name = "glrnn_text8"
    symbols = tuple(_SYMBOLS.get(chr(byte)) for byte in range(256))
    source = Source(
        name="text8",
        licence=(
            "articles by the contributors of Wikipedia, cleaned by Mahoney; GNU Free "
            "Documentation License"
        ),
        addresses=(
            "http://mattmahoney.net/dc/text8.zip",
            "https://mattmahoney.net/dc/text8.zip",
        ),
        texts=TEXTS,
        # Several projects that load it publish the same two. Mahoney's page has another
        # checksum of the text, its MD5: 3bea1919949baf155f99411df5fada7e.
        archive=Archive(
            "text8.zip",
            "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232",
            {
                "all": Member(
                    "text8",
                    "6e890197040d37d85beb962ae1f041ff1d9a9ca8d20c7d99c85027eebf51dca7",
                )
            },
        ),
    )
