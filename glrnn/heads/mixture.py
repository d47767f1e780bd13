"""The mixture of softmaxes (Yang, Dai, Salakhutdinov and Cohen 2018)."""

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array

from glrnn.cells import affine, uniform
from glrnn.ground.arrays import in_float32
from glrnn.ground.dropout import drop
from glrnn.heads.head import Head, mixture_head


@struct.dataclass
class MixtureParams:
    """The weights of a mixture of K softmaxes.

    Attributes:
        prior: W_pi, `[H, K]`, without a bias.
        latent: W_lat, `[H, K E]`.
        latent_bias: b_lat, `[K E]`.
    """

    prior: Array
    latent: Array
    latent_bias: Array


def mixture(hidden_size: int, embedding_size: int, num_softmaxes: int) -> Head:
    """p(y) = sum_k pi_k softmax(D z_k + b)[y].

    z_k = tanh(W_lat o + b_lat)_k;  pi = softmax(W_pi o). The mixture is computed as a
    log-sum-exp of log-probabilities. Parameters are initialised from U(-1/sqrt(H),
    1/sqrt(H)).

    Args:
        hidden_size: The hidden size of the last layer, H.
        embedding_size: E.
        num_softmaxes: K.

    Raises:
        ValueError: if K is below 1.

    Example:
        >>> head = mixture(6, 4, num_softmaxes=3)
        >>> head.init(jax.random.key(0)).latent.shape
        (6, 12)
    """
    if num_softmaxes < 1:
        raise ValueError(f"a mixture needs at least 1 softmax, not {num_softmaxes}")
    latent_size = num_softmaxes * embedding_size

    def init(key: Array) -> MixtureParams:
        shapes = (
            (hidden_size, num_softmaxes),
            (hidden_size, latent_size),
            (latent_size,),
        )
        return MixtureParams(*uniform(key, hidden_size**-0.5, *shapes))

    def latents_and_prior(
        params: MixtureParams, outputs: Array, mask: Array | None
    ) -> tuple[Array, Array]:
        params, outputs = in_float32((params, outputs))
        latents = affine(outputs, params.latent)
        latents = drop(jnp.tanh(latents + params.latent_bias[None, None]), mask)
        latents = latents.reshape(*outputs.shape[:2], num_softmaxes, embedding_size)
        return latents, jax.nn.log_softmax(affine(outputs, params.prior), axis=-1)

    return mixture_head(init, latents_and_prior, latent_size)
