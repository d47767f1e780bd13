"""From the settings of a stage to one optax chain.

Clip each group, apply the rule, decay weights, scale by the learning rate and the
window's length, skip what is not finite, average: in this order, as Aharoni, Rattner
and Permuter (2017) and the code they build on (Merity, Keskar and Socher 2018; Yang et
al. 2018) have it, whose rule is plain SGD.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from glrnn.config import Stage
from glrnn.model import Params
from glrnn.optim.averaging import nt_asgd
from glrnn.optim.clipping import layerwise_clip_by_norm
from glrnn.optim.learning_rate import RULES, scale_by_rate


def stage_optimizer(
    config: Any, stage: Stage, num_layers: int
) -> optax.GradientTransformationExtraArgs:
    """The update rule of one stage.

    g <- rule(clip(g));  g <- g + lambda theta;  theta <- theta - eta f (s / w) g, where
    f is the schedule's factor, s the window's own length, handed to `update` as
    `window_length`, and w the usual one. Of a loss that is summed over time, g has
    grown with s already.

    Args:
        config: Gives lambda, w, the rule and whether losses are summed over time.
        stage: Gives eta and the largest norms.
        num_layers: L of the phase.

    Example:
        >>> from glrnn.config import Config
        >>> chain = stage_optimizer(Config(), Stage(1, max_norms=(1.0,)), num_layers=1)
        >>> params = {"w": jnp.ones(2)}
        >>> updates, _ = chain.update(
        ...     {"w": jnp.array([3.0, 4.0])},
        ...     chain.init(params),
        ...     params,
        ...     window_length=35,
        ... )
        >>> [round(x, 3) for x in updates["w"].tolist()]
        [-12.0, -16.0]
    """
    return optax.chain(
        layerwise_clip_by_norm(clip_limits(stage.max_norms, num_layers)),
        RULES[config.optimizer](),
        optax.add_decayed_weights(config.weight_decay),
        scale_by_rate(
            stage.learning_rate,
            None if config.sum_over_time else config.window_length,
        ),
        skip_not_finite(),
        nt_asgd(),
    )


def clip_limits(max_norms: tuple[float, ...], num_layers: int) -> float | Params:
    """Largest norms as `layerwise_clip_by_norm` takes them: a prefix of the parameters.

    Args:
        max_norms: One number; or the embedding's, each layer's, and the head's where
            the head has parameters.
        num_layers: L.

    Example:
        >>> clip_limits((0.05, 0.15, 0.15), num_layers=1)
        Params(embedding=0.05, layers=(0.15,), head=0.15)
        >>> clip_limits((0.25,), num_layers=3)
        0.25
    """
    if len(max_norms) == 1:
        return max_norms[0]
    embedding, *rest = max_norms
    # A head without parameters is an empty tuple, whose prefix is itself.
    head = rest[num_layers] if len(rest) > num_layers else ()
    return Params(embedding=embedding, layers=tuple(rest[:num_layers]), head=head)


def group_names(max_norms: tuple[float, ...], num_layers: int) -> tuple[str, ...]:
    """What each of the largest norms is of.

    Example:
        >>> group_names((0.05, 0.15, 0.15), num_layers=1)
        ('embedding', 'layer 1', 'head')
        >>> group_names((0.25,), num_layers=1)
        ('all',)
    """
    if len(max_norms) == 1:
        return ("all",)
    layers = (f"layer {number}" for number in range(1, num_layers + 1))
    return ("embedding", *layers, "head")[: len(max_norms)]


def skip_not_finite() -> optax.GradientTransformationExtraArgs:
    """Makes an update zero where it is said that the gradient is not finite.

    Before it is averaged, so that the parameters are written once, in place: a choice
    between old and new ones afterwards would need both.

    Returns:
        A transform whose `update` takes `finite`, a boolean; true if not given.

    Example:
        >>> skip = skip_not_finite()
        >>> skip.update(jnp.array([jnp.nan]), skip.init(None), finite=False)[0].tolist()
        [0.0]
    """

    def update(updates, state, params=None, *, finite: Array | bool = True, **extra):
        del params, extra
        return jax.tree.map(
            lambda u: jnp.where(finite, u, jnp.zeros_like(u)), updates
        ), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )
