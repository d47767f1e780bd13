"""A model averaged over dropout masks: the mean of its probabilities with noise.

Melis, Kočiský and Blunsom (2020), "Mogrifier LSTM", evaluate so: the network as it was
trained, with dropout, many times over, at rates that are scaled down, instead of once
without. Their published figures were obtained in this way.
"""

import math
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.ground.dropout import Masks, draw_masks
from glrnn.ground.validation import check_integers, shown
from glrnn.model import Model, dropout_rates
from glrnn.scoring.interpolated import with_loss
from glrnn.scoring.trained import Trained

# The rates of a phase, flat, so that programs are found again by them.
_Rates = tuple[float | None, ...]


def over_masks(
    trained: Trained, num_samples: int, scale: float = 1.0, seed: int = 0
) -> Trained:
    """The arithmetic mean of the probabilities over samples of dropout masks.

    Each sample carries a state of its own, and draws masks anew for every window, at
    the rates of the phase that trained the model times `scale`. States are not reset at
    random, as they may be in training.

    Args:
        trained: The model.
        num_samples: The number of samples.
        scale: What dropout rates are multiplied by.
        seed: The same seed draws the same masks.

    Raises:
        UsageError: There are no samples, the scale is below 0, or it makes a rate of 1
            or more.

    Example:
        >>> from glrnn.config import Config
        >>> over_masks(Trained(None, None, None, Config(), None), 0)
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: the number of samples is 0; it must be at least 1
    """
    check_integers("number of samples", num_samples)
    check_integers("seed", seed)
    if num_samples < 1:
        raise UsageError(
            f"the number of samples is {num_samples}; it must be at least 1"
        )
    if not 0 <= scale < math.inf:
        raise UsageError(f"the dropout scale is {shown(scale)}; it must be at least 0")
    dropout = trained.config.phases[trained.stage.phase - 1].dropout
    rates = dropout_rates(dropout)._replace(carry=None)
    leaves, structure = jax.tree.flatten(rates, is_leaf=lambda rate: rate is None)
    scaled = tuple(None if rate is None else rate * scale for rate in leaves)
    for rate in scaled:
        if rate is not None and not 0 <= rate < 1:
            raise UsageError(
                f"the scale {shown(scale)} makes a dropout rate {rate:.4g}; it must be "
                f"below 1"
            )
    return trained._replace(
        model=_model(trained.model, scaled, structure, num_samples, seed)
    )


@lru_cache(maxsize=64)
def _model(
    model: Model, leaves: _Rates, structure: Any, num_samples: int, seed: int
) -> Model:
    rates: Masks = jax.tree.unflatten(structure, leaves)

    def initial_carry(batch_size: int) -> tuple[Any, Array]:
        carry = model.initial_carry(batch_size)
        each = jax.tree.map(lambda x: jnp.stack([x] * num_samples), carry)
        return each, jnp.zeros((), jnp.int32)

    def mean(name: str, params: Any, carry: Any, window: Window, **settings: Any):
        carries, number = carry
        num_steps, batch_size = jnp.shape(window.inputs)
        shapes = model.mask_shapes(batch_size, num_steps)
        key = jax.random.fold_in(jax.random.key(seed), number)

        def score(of_one):
            sample_key, own_carry = of_one
            masks = draw_masks(sample_key, rates, shapes)
            return getattr(model, name)(params, own_carry, window, masks, **settings)

        # One after the other: side by side they would need as much more memory.
        keys = jax.random.split(key, num_samples)
        found, carries = lax.map(score, (keys, carries))
        total = jax.nn.logsumexp(found, axis=0) - math.log(num_samples)
        return total, (carries, number + 1)

    log_likelihoods = partial(mean, "log_likelihoods")
    return model._replace(
        initial_carry=initial_carry,
        apply=with_loss(log_likelihoods),
        log_likelihoods=log_likelihoods,
        log_probs=partial(mean, "log_probs"),
    )
