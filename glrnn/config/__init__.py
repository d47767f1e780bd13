"""The settings of what is learned."""

from glrnn.config.config import Config
from glrnn.config.gradual import Averaging, Phase, Stage
from glrnn.config.network import Dropout, Layer

__all__ = ["Averaging", "Config", "Dropout", "Layer", "Phase", "Stage"]
