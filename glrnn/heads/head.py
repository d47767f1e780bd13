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

    def read(
        params: Tree, table: Array, bias: Array, outputs: Array, mask: Array | None
    ) -> tuple[Array, ...]:
        return *latents_and_prior(params, outputs, mask), table, bias

    return head_of(
        init,
        read,
        latent_size,
        mixture_nll,
        mixture_log_likelihoods,
        mixture_log_probs,
    )


def head_of(
    init: Callable[[Array], Tree],
    read: Callable[..., tuple[Any, ...]],
    latent_size: int | None,
    nll: Callable[..., Array],
    log_likelihoods: Callable[..., Array],
    log_probs: Callable[..., Array],
) -> Head:
    """A head that first makes something of its parameters and the outputs.

    Args:
        init: As in `Head`.
        read: `(params, table, bias, outputs, mask) -> what the others begin with`.
        latent_size: As in `Head`.
        nll: `(*what is read, targets, weights) -> scalar`.
        log_likelihoods: `(*what is read, targets) -> [T, B]`.
        log_probs: `(*what is read) -> [T, B, V]`.

    Example:
        Words that are equally likely, whatever the outputs are.

        >>> import jax.numpy as jnp
        >>> def equal(shape, num_words):
        ...     return jnp.full((*shape, num_words), -jnp.log(num_words))
        >>> head = head_of(
        ...     lambda key: (),
        ...     lambda params, table, bias, outputs, mask: (
        ...         outputs.shape[:2],
        ...         len(bias),
        ...     ),
        ...     None,
        ...     lambda *read, targets, weights: jnp.log(read[1]) * weights.sum(),
        ...     lambda *read, targets: equal(*read)[..., 0],
        ...     equal,
        ... )
        >>> head.log_probs((), jnp.ones((5, 4)), jnp.ones(5), jnp.ones((2, 3, 4))).shape
        (2, 3, 5)
    """

    def nll_of(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        targets: Array,
        weights: Array,
        mask: Array | None = None,
    ) -> Array:
        return nll(*read(params, table, bias, outputs, mask), targets, weights)

    def log_likelihoods_of(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        targets: Array,
        mask: Array | None = None,
    ) -> Array:
        return log_likelihoods(*read(params, table, bias, outputs, mask), targets)

    def log_probs_of(
        params: Tree,
        table: Array,
        bias: Array,
        outputs: Array,
        mask: Array | None = None,
    ) -> Array:
        return log_probs(*read(params, table, bias, outputs, mask))

    return Head(init, nll_of, latent_size, log_likelihoods_of, log_probs_of)
