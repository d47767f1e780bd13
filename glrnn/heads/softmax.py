"""The ordinary softmax over the tied embedding."""

import jax.numpy as jnp
from jax import Array

from glrnn.dropout import drop
from glrnn.heads.head import Head, mixture_nll


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
    if num_softmaxes != 1:
        raise ValueError(
            f"this head has 1 softmax, not {num_softmaxes}; choose the head "
            f"'mixture' for more"
        )

    def nll(
        params: tuple[()],
        table: Array,
        bias: Array,
        outputs: Array,
        targets: Array,
        weights: Array,
        mask: Array | None = None,
    ) -> Array:
        latents = drop(outputs, mask)[:, :, None]
        certain = jnp.zeros((*targets.shape, 1), outputs.dtype)
        return mixture_nll(latents, certain, table, bias, targets, weights)

    return Head(lambda key: (), nll, None)
