"""Means over the true tokens of a padded window, and activation regularisation.

Merity, McCann and Socher (2017), "Revisiting activation regularization for language
RNNs": both terms act on the last recurrent layer.
"""

import math

import jax.numpy as jnp
from jax import Array


def token_weights(num_steps: int, batch_size: int, length: Array) -> Array:
    """Weights `[T, B]` that turn a sum over tokens into their mean.

    Args:
        num_steps: T, including padding.
        batch_size: B.
        length: The true number of time steps.

    Returns:
        1/(length B) at true tokens, 0 at padding. A loss there must still be finite.

    Example:
        >>> token_weights(3, 1, jnp.int32(2)).ravel().tolist()
        [0.5, 0.5, 0.0]
    """
    live = jnp.arange(num_steps)[:, None] < length
    count = jnp.maximum(length, 1) * batch_size
    weights = live.astype(jnp.float32) / count.astype(jnp.float32)
    return jnp.broadcast_to(weights, (num_steps, batch_size))


def activation_regularization(outputs: Array, length: Array) -> Array:
    """AR: the mean of o^2.

    Args:
        outputs: Outputs of the last layer after its dropout, `[T, B, H]`. Their padding
            is multiplied by 0, so it must be finite, and so must its squares.
        length: The true number of time steps.

    Returns:
        The mean over true elements, a scalar.

    Example:
        >>> activation_regularization(jnp.full((2, 1, 1), 3.0), jnp.int32(1)).item()
        9.0
    """
    return _masked_mean(outputs**2, length)


def temporal_activation_regularization(outputs: Array, length: Array) -> Array:
    """TAR: the mean of (h_{t+1} - h_t)^2, within the window only.

    Args:
        outputs: Raw outputs of the last layer, `[T, B, H]`. Their padding is multiplied
            by 0, so it must be finite, and so must the squares of its differences.
        length: The true number of time steps.

    Returns:
        The mean over all elements of the length - 1 differences, a scalar; 0 for a
        window of one step.

    Example:
        >>> outputs = jnp.array([1.0, 3.0, 9.0]).reshape(3, 1, 1)
        >>> temporal_activation_regularization(outputs, jnp.int32(2)).item()
        4.0
    """
    return _masked_mean((outputs[1:] - outputs[:-1]) ** 2, length - 1)


def _masked_mean(values, length):
    num_steps, batch_size, features = values.shape
    weights = token_weights(num_steps, batch_size, length)
    return jnp.sum(values * weights[..., None]) / features


def to_perplexity(nats_per_token: float) -> float:
    """The exponential of a loss; infinite where it overflows.

    Example:
        >>> round(to_perplexity(4.0), 2), to_perplexity(1000.0)
        (54.6, inf)
    """
    try:
        return math.exp(nats_per_token)
    except OverflowError:
        return math.inf
