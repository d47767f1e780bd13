"""Gradual learning of recurrent language models.

Train one layer, keep it, add the next, and clip each layer's gradient to its own norm.
The public names are loaded when they are first asked for, so that a project that takes
one transformation pays for no more than optax.

Every docstring uses these letters for dimensions; arrays are time-major, `[T, B, ...]`.

    T  tokens in a window
    B  sequences in a batch
    V  vocabulary
    E  embedding size
    I  a layer's input size
    H  hidden units
    K  softmaxes in the mixture
    L  layers

And these words for what is carried along:

    state       of one layer, after one step
    carry       the states of all layers, from one window to the next
    opt_state   of the optimizer
    TrainState  all that a training step needs from the one before

Example:
    >>> import jax.numpy as jnp
    >>> import glrnn
    >>> clip = glrnn.layerwise_clip_by_norm({"embedding": 1.0, "layers": 0.5})
    >>> updates = {"embedding": jnp.array([0.5]), "layers": jnp.array([3.0, 4.0])}
    >>> updates, _ = clip.update(updates, clip.init(updates))
    >>> jnp.linalg.norm(updates["layers"]).round(4)
    Array(0.5, dtype=float32)
"""

from importlib import import_module

TYPE_CHECKING = False  # as `typing` has it, without the milliseconds of its import

if TYPE_CHECKING:
    from typing import Any

    from glrnn.cells import CELLS as CELLS
    from glrnn.cells import Cell as Cell
    from glrnn.cells import unroll as unroll
    from glrnn.config import Averaging as Averaging
    from glrnn.config import Config as Config
    from glrnn.config import Dropout as Dropout
    from glrnn.config import Layer as Layer
    from glrnn.config import Phase as Phase
    from glrnn.config import Stage as Stage
    from glrnn.data import corpus_of_arrays as corpus_of_arrays
    from glrnn.evaluation.dynamic import DynamicRule as DynamicRule
    from glrnn.evaluation.dynamic import dynamic_perplexity as dynamic_perplexity
    from glrnn.evaluation.gradient_statistics import gradient_rms as gradient_rms
    from glrnn.evaluation.perplexity import perplexity as perplexity
    from glrnn.heads import HEADS as HEADS
    from glrnn.model import grow as grow
    from glrnn.model import language_model as language_model
    from glrnn.optim.averaging import AveragingState as AveragingState
    from glrnn.optim.averaging import averaged_params as averaged_params
    from glrnn.optim.averaging import is_averaging as is_averaging
    from glrnn.optim.averaging import nt_asgd as nt_asgd
    from glrnn.optim.averaging import start_averaging as start_averaging
    from glrnn.optim.clipping import layerwise_clip_by_norm as layerwise_clip_by_norm
    from glrnn.optim.trigger import non_monotonic_trigger as non_monotonic_trigger
    from glrnn.scoring.generation import Sampling as Sampling
    from glrnn.scoring.generation import sample as sample
    from glrnn.scoring.interpolated import interpolated as interpolated
    from glrnn.scoring.tokens import log_likelihoods as log_likelihoods
    from glrnn.scoring.tokens import next_log_probs as next_log_probs
    from glrnn.scoring.trained import Trained as Trained
    from glrnn.scoring.trained import encode as encode
    from glrnn.scoring.trained import load as load
    from glrnn.training.execution import Runtime as Runtime
    from glrnn.training.fitting import fit as fit

    __version__: str

_HOMES = {
    "Averaging": "config",
    "AveragingState": "optim.averaging",
    "CELLS": "cells",
    "Cell": "cells",
    "Config": "config",
    "Dropout": "config",
    "DynamicRule": "evaluation.dynamic",
    "HEADS": "heads",
    "Layer": "config",
    "Phase": "config",
    "Runtime": "training.execution",
    "Sampling": "scoring.generation",
    "Stage": "config",
    "Trained": "scoring.trained",
    "averaged_params": "optim.averaging",
    "corpus_of_arrays": "data",
    "dynamic_perplexity": "evaluation.dynamic",
    "encode": "scoring.trained",
    "fit": "training.fitting",
    "gradient_rms": "evaluation.gradient_statistics",
    "grow": "model",
    "interpolated": "scoring.interpolated",
    "is_averaging": "optim.averaging",
    "language_model": "model",
    "layerwise_clip_by_norm": "optim.clipping",
    "load": "scoring.trained",
    "log_likelihoods": "scoring.tokens",
    "next_log_probs": "scoring.tokens",
    "non_monotonic_trigger": "optim.trigger",
    "nt_asgd": "optim.averaging",
    "perplexity": "evaluation.perplexity",
    "sample": "scoring.generation",
    "start_averaging": "optim.averaging",
    "unroll": "cells",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> "Any":
    if name == "__version__":
        return import_module("importlib.metadata").version("glrnn")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, "__version__"})
