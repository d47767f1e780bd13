"""A small experiment, and texts for it."""

from pathlib import Path

import numpy as np

WORDS = "the cat sat on a mat and saw <unk>".split()
EXPERIMENT = """
from glrnn.config import Config, Layer, Phase, Stage

stage = Stage(2, learning_rate=10.0, max_norms=(0.5,))
config = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),),
    phases=(Phase(main=stage, finetune=stage),),
    batch_size=25,
    window_length=5,
    valid_batch_size=2,
)
"""


def write_texts(folder: Path) -> None:
    """Three small texts, and an experiment that suits them."""
    rng = np.random.default_rng(0)
    for split, lines in (("train", 40), ("valid", 10), ("test", 12)):
        rows = rng.choice(WORDS, (lines, 5))
        (folder / f"{split}.txt").write_text("\n".join(map(" ".join, rows)))
    (folder / "small.py").write_text(EXPERIMENT)
