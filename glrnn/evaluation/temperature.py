"""A softmax temperature for evaluation, chosen on a validation set.

A regularised network may be too confident on a new text, or not confident enough;
dividing all logits by one number corrects either. Melis, Kočiský and Blunsom (2020),
"Mogrifier LSTM", as in their code, which multiplies by the inverse.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from numbers import Real

from glrnn.errors import UsageError
from glrnn.ground.losses import to_perplexity
from glrnn.ground.validation import LARGEST_FLOAT, SMALLEST_FLOAT, shown
from glrnn.model import Model

# 1/1.06, 1/1.04, ..., 1/0.8: from more confident than the model to less confident.
TEMPERATURES = tuple(50 / hundredths for hundredths in range(53, 39, -1))
# The tokens of the validation set that temperatures are tried on.
TEMPERATURE_TOKENS = 50_000


def tempered(model: Model, temperature: float) -> Model:
    """The model with all logits divided by a temperature.

    In a mixture these are the logits of each softmax. Temperatures multiply: a tempered
    model at the temperature 2 has twice the temperature that it had.

    Args:
        model: The model.
        temperature: Above 0; 1 changes nothing, more makes the model less confident.

    Returns:
        The model; the same object for the same arguments, so that the programs compiled
        for it are used again.

    Raises:
        UsageError: if the temperature, or its product with that of the model, is not a
            number above 0 that float32 can hold.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.model import language_model
        >>> model = language_model(Config(), vocabulary_size=9, num_layers=1)
        >>> tempered(model, 1.1) is tempered(model, 1.1)
        True
    """
    _check(temperature)
    if temperature == 1:
        return model
    # A partial of a partial would forget the first one's temperature.
    before = getattr(model.apply, "keywords", {}).get("temperature")
    product = float(temperature) * (1.0 if before is None else before)
    _check(product)
    return _tempered(model, product)


def _check(temperature: float) -> None:
    is_number = isinstance(temperature, Real) and not isinstance(temperature, bool)
    if not (is_number and SMALLEST_FLOAT <= temperature <= LARGEST_FLOAT):
        raise UsageError(f"the temperature is {shown(temperature)}; it must be above 0")


@cache
def _tempered(model: Model, temperature: float) -> Model:
    return model._replace(
        apply=partial(model.apply, temperature=temperature),
        log_likelihoods=partial(model.log_likelihoods, temperature=temperature),
        log_probs=partial(model.log_probs, temperature=temperature),
    )


def best_temperature(
    score: Callable[[float], float], say: Callable[[str], None]
) -> float:
    """The temperature with the lowest loss, from 0.94 up to 1.25.

    The search ends when two temperatures in a row are no better than the best before
    them. A loss that is not finite is no best one.

    Args:
        score: Returns the nats per token at a temperature.
        say: Called with one line about each trial.

    Returns:
        The temperature; 1 if no loss is finite.

    Example:
        >>> tried = []
        >>> found = best_temperature(lambda t: (t - 1.0) ** 2, tried.append)
        >>> round(found, 3), len(tried)
        (1.0, 6)
    """
    best, lowest, worse = 1.0, math.inf, 0
    for temperature in TEMPERATURES:
        nats = score(temperature)
        say(f"temperature {temperature:.3f}: perplexity {to_perplexity(nats):.2f}")
        if -math.inf < nats < lowest:
            best, lowest, worse = temperature, nats, 0
        elif lowest < math.inf:
            worse += 1
        if worse == 2:
            break
    return best
