"""The sizes of network that are timed, and this project's settings for them.

`ptb` and `wikitext-2` have the sizes of the last phases of `experiments/ptb.py` and
`experiments/wikitext2.py`. Dropout rates and limits are not those of any experiment:
they are the same for all sizes, since the time does not depend on them.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from glrnn.config import Config, Dropout, Layer, Phase, Stage


class Preset(NamedTuple):
    """The size of a network and of its windows.

    Attributes:
        vocabulary: The size of the vocabulary, V.
        embedding: The size of the embedding, E.
        hidden: The hidden size of every layer, H.
        layers: The number of layers, L.
        softmaxes: The number of softmaxes, K.
        batch: The number of sequences in a batch, B.
        window: The number of tokens in a window, T.
    """

    vocabulary: int
    embedding: int
    hidden: int
    layers: int
    softmaxes: int
    batch: int
    window: int

    @property
    def tokens(self) -> int:
        """The number of tokens in a batch of windows."""
        return self.window * self.batch

    def tokens_a_step(self, mode: str) -> int:
        """The number of tokens that a step trains on or scores."""
        return {
            "train": self.tokens,
            "eval": self.tokens * EVALUATED_WINDOWS,
            "dynamic": DYNAMIC_WINDOWS * DYNAMIC_LENGTH,
            "score": sum(SENTENCES),
        }[mode]


PRESETS = {
    "ptb": Preset(10_000, 280, 960, 3, 15, 12, 70),
    "wikitext-2": Preset(33_278, 300, 1050, 3, 15, 15, 70),
    "medium": Preset(10_000, 200, 400, 3, 5, 20, 70),
    "small": Preset(10_000, 100, 200, 2, 1, 20, 35),
    # The medium network of Zaremba, Sutskever and Vinyals (2014), of a kind that speech
    # recognisers rescore with: one softmax, and layers too large for a cache.
    "zaremba": Preset(10_000, 650, 650, 2, 1, 20, 35),
}

# The number of windows that a step of evaluation scores; the state is carried from one
# to the next.
EVALUATED_WINDOWS = 4

# A step of dynamic evaluation scores this many windows of this many tokens of a single
# sequence, and learns from each.
DYNAMIC_WINDOWS, DYNAMIC_LENGTH = 20, 5
DYNAMIC_LEARNING_RATE, DYNAMIC_DECAY_RATE, DYNAMIC_EPSILON = 3.9e-5, 4.4e-3, 1.9e-5
# The root mean square that gradients are taken to have; the time does not depend on it.
GRADIENT_SIZE = 1e-3

# The tokens of each sentence that a step scores, each read from a fresh state; on both
# sides so many are scored side by side, sorted by length.
SENTENCES = tuple(random.Random(0).choices(range(5, 45), k=64))
SIDE_BY_SIDE = 32

# One way to rescore a list of candidates: `turn -> tokens` scores a part of it, which
# differs from turn to turn; and a function returns the log-probabilities of the tokens
# of every so many lines, by which the sides are compared.
ListSide = tuple[Callable[[int], int], Callable[[], list[np.ndarray]]]
COMPARED = 100

# The dropout rates, the limit of each group's norm and the learning rate of both sides.
RATES = Dropout(embedding=0.1, input=0.4, output=0.4, latent=0.29, recurrent=0.5)
HIDDEN_RATE = 0.25
MAX_NORM = 0.15
LEARNING_RATE = 20.0
WEIGHT_DECAY = 1.2e-6


def make_config(preset: Preset) -> Config:
    """The settings of one phase that trains all layers, with dropout and clipping."""
    dropout = replace(RATES, hidden=(HIDDEN_RATE,) * (preset.layers - 1))
    limits = (MAX_NORM,) * (preset.layers + 2)
    return Config(
        embedding_size=preset.embedding,
        layers=(Layer("lstm", preset.hidden),) * preset.layers,
        head="mixture",
        num_softmaxes=preset.softmaxes,
        phases=(Phase(preset.layers, dropout, Stage(1, LEARNING_RATE, limits)),),
        batch_size=preset.batch,
        window_length=preset.window,
        weight_decay=WEIGHT_DECAY,
    )
