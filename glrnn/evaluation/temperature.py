"""A softmax temperature for evaluation, chosen on a validation set.

A regularised network may be too confident on a new text, or not confident enough;
dividing all logits by one number corrects either. Melis, Kočiský and Blunsom (2020),
"Mogrifier LSTM", as in their code, which multiplies by the inverse.
"""

import math
from collections.abc import Callable
from functools import cache, partial

from glrnn.losses import to_perplexity
from glrnn.model import Model

# 1/1.06, 1/1.04, ..., 1/0.8: from more confident than the model to less confident.
TEMPERATURES = tuple(50 / hundredths for hundredths in range(53, 39, -1))
# The tokens of the validation set that temperatures are tried on.
TEMPERATURE_TOKENS = 50_000


@cache
def tempered(model: Model, temperature: float) -> Model:
    """The model with all logits divided by a temperature.

    In a mixture these are the logits of each softmax.

    Args:
        model: The model.
        temperature: Above 0; 1 changes nothing, more makes the model less confident.

    Returns:
        The model; the same object for the same arguments, so that the programs compiled
        for it are used again.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.model import language_model
        >>> model = language_model(Config(), vocabulary_size=9, num_layers=1)
        >>> tempered(model, 1.1) is tempered(model, 1.1)
        True
    """
    if temperature == 1:
        return model
    return model._replace(apply=partial(model.apply, temperature=temperature))


def best_temperature(
    score: Callable[[float], float], say: Callable[[str], None]
) -> float:
    """The temperature with the lowest loss, from 0.94 up to 1.25.

    The search ends when two temperatures in a row are no better than the best before
    them.

    Args:
        score: Returns the nats per token at a temperature.
        say: Called with one line about each trial.

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
        if nats < lowest:
            best, lowest, worse = temperature, nats, 0
        else:
            worse += 1
        if worse == 2:
            break
    return best
