"""The update rule of dynamic evaluation: what a model learns from one window."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.tree_util import keystr

from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.evaluation.perplexity import LanguageModel
from glrnn.evaluation.window_gradient import copy, map_learned, window_gradient
from glrnn.ground.arrays import in_float32, is_inexact


def checked_params(params: Any, rms: Any) -> Any:
    """The trained parameters, without infinities.

    Raises:
        UsageError: `rms` does not fit the parameters, or is negative somewhere.
    """
    _check_rms(params, rms)
    has_infinities, is_negative = _looked_at(params, rms)
    if is_negative:
        raise UsageError(
            "rms has numbers below 0; it takes the gradient statistics of "
            "glrnn.gradient_rms, after the parameters"
        )
    return map_learned(_finite, params) if has_infinities else params


@partial(jax.jit, static_argnums=0)
def beginning(model: LanguageModel, params: Any) -> tuple[Any, Any]:
    """The parameters and the carry to begin with, to be donated."""
    return copy((in_float32(params), model.initial_carry(1)))


def adaptation(
    model: LanguageModel, trained: Any, rms: Any, rates: tuple[Any, Any, Any]
) -> Callable[[tuple[Any, Any], Window], tuple[tuple[Any, Any], Array]]:
    """The step from one window to the next.

    Args:
        model: The model.
        trained: theta_0, from `checked_params`.
        rms: M.
        rates: eta, lambda and epsilon.

    Returns:
        `((params, carry), window) -> ((params, carry), nll)`: the mean nats per token
        of the window under `params`, and the parameters that have learned from it.
    """
    learning_rate, decay_rate, epsilon = rates
    gradient = window_gradient(model, trained)
    anchors, rms = in_float32((trained, rms))
    relative_decay = _relative_decay(decay_rate, anchors, rms)

    def adapt(param, anchor, size, grad):
        pull = jnp.minimum(1.0, relative_decay * size)
        step = learning_rate * jnp.conj(grad) / (size + epsilon)
        return param + pull * (anchor - param) - step

    def step(params_and_carry, window):
        params, carry = params_and_carry
        (nll, carry), grads = gradient(params, carry, window)
        # Otherwise XLA would compute all that depends on the sizes alone before the
        # loop and store it, which takes longer to read than to compute.
        sizes, nll = lax.optimization_barrier((rms, nll))
        return (map_learned(adapt, params, anchors, sizes, grads), carry), nll

    return step


def _check_rms(params: Any, rms: Any) -> None:
    def check_leaf(path, param, size):
        if is_inexact(param) and (
            jnp.shape(size) != jnp.shape(param) or jnp.iscomplexobj(size)
        ):
            raise UsageError(
                f"rms{keystr(path)} is {jnp.result_type(size)}{list(jnp.shape(size))}; "
                f"that of the parameters is real{list(jnp.shape(param))}"
            )

    jax.tree.map_with_path(check_leaf, params, rms)


@jax.jit
def _looked_at(params: Any, rms: Any) -> tuple[Array, Array]:
    """Whether parameters are infinite, and whether root mean squares are negative."""
    leaves, structure = jax.tree.flatten(params)
    learned = [
        in_float32(pair)
        for pair in zip(leaves, structure.flatten_up_to(rms), strict=True)
        if is_inexact(pair[0])
    ]
    infinite = [jnp.isinf(param).any() for param, _ in learned]
    negative = [(size < 0).any() for _, size in learned]
    return jnp.array(infinite).any(), jnp.array(negative).any()


def _finite(leaf: Any) -> Any:
    """A leaf without infinities, whose distance to themselves is no number.

    The bias of a word that is ruled out may be -inf, and is as good as the lowest.
    """
    leaf = jnp.asarray(leaf)
    if jnp.iscomplexobj(leaf):
        return lax.complex(_finite(leaf.real), _finite(leaf.imag))
    limits = jnp.finfo(leaf.dtype)
    return jnp.clip(leaf, limits.min, limits.max)


def _relative_decay(decay_rate: Any, params: Any, rms: Any) -> Array:
    """lambda / mean(M), finite so that it is no decay where M is 0."""
    leaves, structure = jax.tree.flatten(params)
    means = [
        jnp.mean(size)
        for param, size in zip(leaves, structure.flatten_up_to(rms), strict=True)
        if is_inexact(param) and param.size
    ]
    total = jnp.asarray(sum(means))
    relative = decay_rate * len(means) / jnp.where(total > 0, total, jnp.inf)
    return jnp.minimum(relative, jnp.finfo(relative.dtype).max)
