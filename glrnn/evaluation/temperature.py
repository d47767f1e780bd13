"""A softmax temperature for evaluation, chosen on a validation set.

A regularised network may be too sure of itself on a new text, or not sure enough;
dividing all logits by one number mends either. Melis, Kočiský and Blunsom (2020),
"Mogrifier LSTM", as in their code, which multiplies by the inverse.
"""

import math
from collections.abc import Callable
from functools import cache, partial

from glrnn.losses import to_perplexity
from glrnn.model import Model

# 1/1.06, 1/1.04, ..., 1/0.8: from surer than the model to less sure.
TEMPERATURES = tuple(50 / hundredths for hundredths in range(53, 39, -1))
# Of the validation set.
FIRST_TOKENS = 50_000


@cache
def tempered(model: Model, temperature: float) -> Model:
    """The model with all logits divided by a temperature, those of a mixture's parts.

    Args:
        model: The model.
        temperature: Above 0; 1 leaves it as it is, more makes it less sure.

    Returns:
        The same model for the same arguments, so that what was compiled for it is found
        again.

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
    """The temperature that scores best, of those from 0.94 up to 1.25.

    The search ends when two in a row are no better than the best before them.

    Args:
        score: Nats per token at a temperature.
        say: Told of each trial, in one line.

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
