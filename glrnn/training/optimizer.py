"""From the settings of a run to one optax chain.

Clip each group, apply the rule, decay weights, scale by the learning rate and the
window's length, skip what is not finite, average. The order is that of Aharoni, Rattner
and Permuter (2017) and of the code they build on (Merity, Keskar and Socher 2018; Yang
et al. 2018); their rule is plain SGD.

The learning rate and the largest norms are data in the optimizer's state, so that one
compiled step serves all stages, schedules and searches.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.typing import ArrayLike

from glrnn.model import Params
from glrnn.optim.averaging import nt_asgd
from glrnn.optim.clipping import layerwise_clip_by_norm
from glrnn.optim.learning_rate import RULES, scale_by_learning_rate


def training_optimizer(
    num_layers: int,
    num_groups: int,
    *,
    rule: str = "sgd",
    weight_decay: float = 0.0,
    usual_length: int | None = None,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a stage.

    g <- rule(clip(g));  g <- g + lambda theta;  theta <- theta - eta (s / w) g, where
    s is the window's length, handed to `update` as `window_length`, and w the usual
    one. At first eta is zero and norms are unlimited; `set_hyperparams` sets both.

    Args:
        num_layers: L of the phase.
        num_groups: The number of groups with a largest norm of their own; 1 for the
            whole gradient.
        rule: A name in `RULES`.
        weight_decay: lambda.
        usual_length: w; `None` leaves lengths out, for a loss that is summed over time,
            whose gradient has grown with s already.

    Example:
        >>> chain = training_optimizer(num_layers=1, num_groups=1, usual_length=70)
        >>> params = {"w": jnp.ones(2)}
        >>> state = set_hyperparams(chain.init(params), 20.0, (1.0,))
        >>> updates, _ = chain.update(
        ...     {"w": jnp.array([3.0, 4.0])}, state, params, window_length=70
        ... )
        >>> [round(x, 3) for x in updates["w"].tolist()]
        [-12.0, -16.0]
    """

    def chain(learning_rate: ArrayLike, max_norms: Array):
        limits = [max_norms[group] for group in range(num_groups)]
        return optax.chain(
            layerwise_clip_by_norm(clip_limits(limits, num_layers)),
            RULES[rule](),
            optax.add_decayed_weights(weight_decay),
            scale_by_learning_rate(learning_rate, usual_length),
            skip_not_finite(),
            nt_asgd(),
        )

    # NumPy's, for a cached optimizer may be built while a function is traced.
    unlimited = np.full(num_groups, np.inf, np.float32)
    return optax.inject_hyperparams(chain)(learning_rate=0.0, max_norms=unlimited)


def set_hyperparams(
    opt_state: Any, learning_rate: ArrayLike, max_norms: Sequence[float]
) -> Any:
    """The state of a `training_optimizer` with this learning rate and these norms.

    Structure, shapes and dtypes stay, so a compiled step is not traced again.

    Args:
        opt_state: The state.
        learning_rate: eta, for a window of the usual length.
        max_norms: The largest norm of each group.
    """
    values = {"learning_rate": learning_rate, "max_norms": max_norms}
    return opt_state._replace(
        hyperparams={
            name: jnp.asarray(values[name], old.dtype).reshape(old.shape)
            for name, old in opt_state.hyperparams.items()
        }
    )


def clip_limits(max_norms: Sequence[Any], num_layers: int) -> Any:
    """The largest norms as `layerwise_clip_by_norm` takes them: a prefix of `Params`.

    Args:
        max_norms: One number; or the embedding's, each layer's, and the head's if the
            head has parameters.
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


def skip_not_finite() -> optax.GradientTransformationExtraArgs:
    """Makes the updates zero if the gradient is not finite.

    It stands before the average, so that the parameters are written once, in place; a
    choice between old and new parameters afterwards would need both.

    Returns:
        A transform whose `update` takes `finite`, a boolean, true by default.

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
