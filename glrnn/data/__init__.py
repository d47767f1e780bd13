"""From text to token ids, and from these to the windows that a step trains on."""

from glrnn.data.corpus import (
    CORPORA,
    SPLITS,
    Corpus,
    fingerprint,
    load,
    split_fingerprints,
)
from glrnn.data.in_memory import IN_MEMORY, corpus_of_arrays

__all__ = [
    "CORPORA",
    "IN_MEMORY",
    "SPLITS",
    "Corpus",
    "corpus_of_arrays",
    "fingerprint",
    "load",
    "split_fingerprints",
]
