"""The language model: embedding, recurrent layers, output distribution.

The tree is the design: `Params` has three fields, and these are the groups that
gradients are clipped by, one for each layer. Growing, grafting, clipping and averaging
are maps over it.
"""

from glrnn.model.forward import Outcome
from glrnn.model.language_model import Model, language_model
from glrnn.model.network import Network, dropout_rates
from glrnn.model.params import Carry, Embedding, Params, grow

__all__ = [
    "Carry",
    "Embedding",
    "Model",
    "Network",
    "Outcome",
    "Params",
    "dropout_rates",
    "grow",
    "language_model",
]
