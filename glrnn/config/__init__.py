"""What is to be learned."""

from glrnn.config.config import Config, Dropout, Layer, Phase, Stage

__all__ = ["Config", "Dropout", "Layer", "Phase", "Stage"]
