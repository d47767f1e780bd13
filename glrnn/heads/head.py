"""The interface of output distributions, and what those that are mixtures share."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jax import Array

from glrnn.heads.log_probs import mixture_log_likelihoods, mixture_log_probs
from glrnn.heads.loss import mixture_nll

Tree = Any


class Head(NamedTuple):
    """An output distribution as pure functions.

    Attributes:
        init: `key -> params`, an empty tuple if there are no parameters.
        nll: `(params, table [V, E], bias [V], outputs [T, B, H], targets [T, B],
            weights [T, B], mask) -> scalar`, the weighted sum of the tokens' negative
            log-likelihoods in nats. `mask` is the dropout mask on the latent vectors,
            or `None`.
        latent_size: The number of features of the latent vectors that the mask
            multiplies, or `None`.
        log_likelihoods: `(params, table, bias, outputs, targets, mask) -> [T, B]`, the
            log-probability of each target in nats.
        log_probs: `(params, table, bias, outputs, mask) -> [T, B, V]`, those of all
            words.
        tempered: `(params, temperature) -> params`, those with logits of their own
            divided by a temperature, beside those of the table and the bias.
    """

    init: Callable[[Array], Tree]
    nll: Callable[..., Array]
    latent_size: int | None
    log_likelihoods: Callable[..., Array]
    log_probs: Callable[..., Array]
    tempered: Callable[[Tree, Any], Tree] = lambda params, temperature: params


def mixture_head(
    init: Callable[[Array], Tree],
    latents_and_prior: Callable[..., tuple[Array, Array]],
    latent_size: int | None,
) -> Head:
    """A head whose distribution is a mixture of softmaxes over the table.

    Args:
        init: As in `Head`.
        latents_and_prior: `(params, outputs [T, B, H], mask) -> (latents [T, B, K, E],
            log_prior [T, B, K])`.
        latent_size: As in `Head`.

    Example:
        An ordinary softmax over outputs as wide as the embedding.

        >>> import jax.numpy as jnp
        >>> def certain(params, outputs, mask):
        ...     return outputs[:, :, None], jnp.zeros((*outputs.shape[:2], 1))
        >>> head = mixture_head(lambda key: (), certain, None)
        >>> head.log_probs(
        ...     (), jnp.ones((5, 4)), jnp.zeros(5), jnp.ones((2, 3, 4))
        ... ).shape
        (2, 3, 5)
    """

    def nll(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        targets: Array,
        weights: Array,
        mask: Array | None = None,
    ) -> Array:
        latents, log_prior = latents_and_prior(params, outputs, mask)
        return mixture_nll(latents, log_prior, table, bias, targets, weights)

    def log_likelihoods(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        targets: Array,
        mask: Array | None = None,
    ) -> Array:
        latents, log_prior = latents_and_prior(params, outputs, mask)
        return mixture_log_likelihoods(latents, log_prior, table, bias, targets)

    def log_probs(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        mask: Array | None = None,
    ) -> Array:
        latents, log_prior = latents_and_prior(params, outputs, mask)
        return mixture_log_probs(latents, log_prior, table, bias)

    return Head(init, nll, latent_size, log_likelihoods, log_probs)
