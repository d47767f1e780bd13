"""From text to token ids, and from these to the windows that a step trains on."""

from glrnn.data.corpus import (
    CORPORA,
    SPLITS,
    Corpus,
    fingerprint,
    load,
    split_fingerprints,
)

__all__ = ["CORPORA", "SPLITS", "Corpus", "fingerprint", "load", "split_fingerprints"]
