"""The sizes that are timed, and the settings of this project that have them.

`ptb` and `wikitext-2` have the sizes of the last phases of `experiments/ptb.py` and
`experiments/wikitext2.py`. Dropout rates and limits are not those of any experiment:
they are the same for all sizes, since the time does not depend on them.
"""

from dataclasses import replace
from typing import NamedTuple

from glrnn.config import Config, Dropout, Layer, Phase, Stage


class Preset(NamedTuple):
    """The size of a network and of its windows.

    Attributes:
        vocabulary: V.
        embedding: E.
        hidden: H of every layer.
        layers: L.
        softmaxes: K.
        batch: B.
        window: T.
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
        """Tokens in a window."""
        return self.window * self.batch

    def tokens_a_step(self, mode: str) -> int:
        """Tokens that a step trains on, or scores."""
        return {
            "train": self.tokens,
            "eval": self.tokens * EVALUATED_WINDOWS,
            "dynamic": DYNAMIC_WINDOWS * DYNAMIC_LENGTH,
        }[mode]


PRESETS = {
    "ptb": Preset(10_000, 280, 960, 3, 15, 12, 70),
    "wikitext-2": Preset(33_278, 300, 1050, 3, 15, 15, 70),
    "medium": Preset(10_000, 200, 400, 3, 5, 20, 70),
    "small": Preset(10_000, 100, 200, 2, 1, 20, 35),
}

# A step of evaluation scores so many windows, the state carried from one to the next.
EVALUATED_WINDOWS = 4

# A step of dynamic evaluation scores so many windows of so many tokens, one sequence,
# and learns from each.
DYNAMIC_WINDOWS, DYNAMIC_LENGTH = 20, 5
DYNAMIC_LEARNING_RATE, DYNAMIC_DECAY_RATE, DYNAMIC_EPSILON = 3.9e-5, 4.4e-3, 1.9e-5
# What gradients are the size of; the time does not depend on it.
GRADIENT_SIZE = 1e-3

# Both sides drop with these rates, clip each group to these norms, and learn so fast.
RATES = Dropout(embedding=0.1, input=0.4, output=0.4, latent=0.29, recurrent=0.5)
HIDDEN_RATE = 0.25
MAX_NORM = 0.15
LEARNING_RATE = 20.0
WEIGHT_DECAY = 1.2e-6


def make_config(preset: Preset) -> Config:
    """One phase of all layers, noise and clipping on."""
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
