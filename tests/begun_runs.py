"""Runs on disk that were never trained: their settings, words and metrics."""

import json
from dataclasses import replace

import numpy as np

from glrnn import data
from glrnn.config import Config, Layer, Phase, Stage
from glrnn.data.vocabulary import Vocabulary
from glrnn.storage import opening

CONFIG = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),) * 2,
    phases=(
        Phase(main=Stage(9, max_norms=(0.1, 0.2)), finetune=Stage(9)),
        Phase(2, replace(Phase().dropout, hidden=(0.0,)), main=Stage(9)),
    ),
    batch_size=4,
    valid_batch_size=2,
)
LINE = {"phase": 1, "stage": "main", "epoch": 1, "valid_loss": 4.5}


def begin(folder, lines=(), config=CONFIG):
    """A run whose metrics have these lines, of JSON or of bytes."""
    stream = np.arange(60, dtype=np.int32) % 3
    words = Vocabulary(("a", "b", "c"))
    corpus = data.Corpus(str(folder.parent / "words"), words, *[stream] * 3, unknown={})
    run = opening.open_run(folder, config, corpus)
    written = [
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n"
        for line in lines
    ]
    (folder / "metrics.jsonl").write_bytes(b"".join(written))
    return run
