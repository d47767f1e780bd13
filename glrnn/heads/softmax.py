"""The ordinary softmax over the tied embedding."""

import jax.numpy as jnp
from jax import Array

from glrnn.ground.dropout import drop
from glrnn.heads.head import Head, mixture_head


def softmax(hidden_size: int, embedding_size: int, num_softmaxes: int = 1) -> Head:
    """p(y) = softmax(D o + b), without parameters of its own.

    The output of the last layer is multiplied by the embedding of every word (Press and
    Wolf 2017; Inan et al. 2017), so both must have the same size.

    Args:
        hidden_size: The hidden size of the last layer, H.
        embedding_size: E.
        num_softmaxes: Must be 1.

    Raises:
        ValueError: if H is not E, or `num_softmaxes` is not 1.

    Example:
        >>> softmax(4, 4).latent_size is None
        True
    """
    if hidden_size != embedding_size:
        raise ValueError(
            f"a softmax head needs a last layer as wide as the embedding: hidden size "
            f"{hidden_size}, embedding size {embedding_size}; make them equal or "
            f"choose the head 'projected' or 'mixture'"
        )
    check_one(num_softmaxes)
    return mixture_head(lambda key: (), one_softmax, None)


def one_softmax(
    params: tuple[()], outputs: Array, mask: Array | None
) -> tuple[Array, Array]:
    """The latent vector of a single softmax, and the log-probability of that softmax.

    Args:
        params: Not used.
        outputs: `[T, B, E]`.
        mask: The dropout mask on the outputs, or `None`.

    Returns:
        `[T, B, 1, E]` and zeros `[T, B, 1]`.

    Example:
        >>> latents, log_prior = one_softmax((), jnp.ones((2, 3, 4)), None)
        >>> latents.shape, log_prior.shape
        ((2, 3, 1, 4), (2, 3, 1))
    """
    del params
    latents = drop(outputs, mask)[:, :, None]
    return latents, jnp.zeros(latents.shape[:3], outputs.dtype)


def check_one(num_softmaxes: int) -> None:
    """Refuses several softmaxes.

    Raises:
        ValueError: if `num_softmaxes` is not 1.

    Example:
        >>> check_one(1)
    """
    if num_softmaxes != 1:
        raise ValueError(
            f"this head has 1 softmax, not {num_softmaxes}; choose the head "
            f"'mixture' for more"
        )
