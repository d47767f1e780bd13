"""Several models as one: the weighted mean of their probabilities, word by word."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from glrnn.data.windows import Window, ignores_padding
from glrnn.errors import UsageError
from glrnn.evaluation.temperature import tempered
from glrnn.ground.losses import token_weights
from glrnn.ground.validation import shown
from glrnn.model import Model, Outcome
from glrnn.scoring.trained import Trained, load

# By so much may weights that a person types miss the sum of 1.
TOLERANCE = 1e-6


def interpolated(models: Sequence[Trained], weights: Sequence[float]) -> Trained:
    """An ensemble: p(w) = sum_i weight_i p_i(w).

    Its parameters are the tuple of theirs, and its dropout masks cannot be drawn. It is
    evaluated and scored with as any other model; it cannot be trained. A temperature
    divides the logits of each model.

    Args:
        models: The models, all of the same vocabulary.
        weights: Their weights, above 0, with the sum 1.

    Raises:
        UsageError: There are no models, as many weights as models are not given, they
            do not sum to 1, or vocabularies differ.

    Example:
        >>> interpolated([], [])
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: there are 0 models and 0 weights; they must be as many
    """
    if not models or len(models) != len(weights):
        raise UsageError(
            f"there are {len(models)} models and {len(weights)} weights; they must be "
            f"as many"
        )
    for weight in weights:
        if not 0 < weight <= 1:
            raise UsageError(f"the weight {shown(weight)} is not above 0, at most 1")
    if abs(math.fsum(weights) - 1) > TOLERANCE:
        told = " + ".join(f"{weight:g}" for weight in weights)
        raise UsageError(f"the weights {told} sum to {math.fsum(weights):g}, not 1")
    first = models[0]
    for other in models[1:]:
        if other.vocabulary.words != first.vocabulary.words:
            raise UsageError(
                f"the vocabularies of the models differ: {len(first.vocabulary):,} and "
                f"{len(other.vocabulary):,} words, and not the same in the same order"
            )
    model = _model(tuple(each.model for each in models), tuple(map(float, weights)))
    return first._replace(model=model, params=tuple(each.params for each in models))


def with_others(first: Trained, others: Sequence[tuple[Path, float]]) -> Trained:
    """A model and those of further runs as one.

    Args:
        first: The model, which has the weight that the others leave.
        others: The folders of the other runs, and their weights.

    Raises:
        UsageError: As `load` and `interpolated`.
    """
    if not others:
        return first
    weights = [weight for _, weight in others]
    models = [first, *(load(folder) for folder, _ in others)]
    return interpolated(models, [1 - math.fsum(weights), *weights])


def _at(model: Model, temperature: float | None) -> Model:
    """A model that may have a temperature already, which this one multiplies."""
    return model if temperature is None else tempered(model, temperature)


@lru_cache(maxsize=64)
def _model(models: tuple[Model, ...], weights: tuple[float, ...]) -> Model:
    def initial_carry(batch_size: int) -> tuple[Any, ...]:
        return tuple(model.initial_carry(batch_size) for model in models)

    def mixed(name, params, carry, window, temperature=None, **settings):
        found = [
            getattr(_at(model, temperature), name)(*of_one, window, **settings)
            for model, *of_one in zip(models, params, carry, strict=True)
        ]
        weighted = [
            math.log(weight) + each
            for weight, (each, _) in zip(weights, found, strict=True)
        ]
        total = jnp.logaddexp.reduce(jnp.stack(weighted), axis=0)
        return total, tuple(carry for _, carry in found)

    log_likelihoods = partial(mixed, "log_likelihoods")

    return Model(
        init=lambda key: tuple(model.init(key) for model in models),
        initial_carry=initial_carry,
        mask_shapes=models[0].mask_shapes,
        apply=with_loss(log_likelihoods),
        vocabulary_size=models[0].vocabulary_size,
        log_likelihoods=log_likelihoods,
        log_probs=partial(mixed, "log_probs"),
    )


def with_loss(
    log_likelihoods: Callable[..., tuple[Any, Any]],
) -> Callable[..., Outcome]:
    """The `apply` of a model that is given by its `log_likelihoods`."""

    @ignores_padding
    def apply(params: Any, carry: Any, window: Window, **settings: Any) -> Outcome:
        if jnp.ndim(window.length):
            raise UsageError("the window's length must be one integer for the loss")
        found, carry = log_likelihoods(params, carry, window, **settings)
        num_steps, batch_size = found.shape
        weights = token_weights(num_steps, batch_size, jnp.asarray(window.length))
        nll = -jnp.sum(jnp.where(weights > 0, weights * found, 0))
        nothing = jnp.zeros((0, 0, 0))
        return Outcome(nll, carry, nothing, nothing)

    return apply
