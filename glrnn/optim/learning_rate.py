"""Update rules and learning-rate schedules.

The learning rate of an epoch is a function of the validation losses before it, so that
a resumed run can compute it and need not store it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from glrnn.ground.arrays import is_inexact, is_known, wide_dtype
from glrnn.ground.validation import above, at_least, check
from glrnn.optim.trigger import epochs_since_best

# The update rules by name, applied to clipped gradients. rms is Adam without a first
# moment: beta_1 = 0.
RULES: dict[str, Callable[[], optax.GradientTransformation]] = {
    "rms": lambda: optax.scale_by_rms(
        decay=0.999, eps=1e-8, eps_in_sqrt=False, bias_correction=True
    ),
    "sgd": optax.identity,
}


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule: a decay and a single drop; by default neither.

    Attributes:
        decay: The factor by which the learning rate is multiplied after every epoch
            but the first `constant_epochs`.
        constant_epochs: The number of epochs that no decay follows.
        drop: The factor by which the learning rate is multiplied once, when
            `drop_patience` or `drop_latest` says so.
        drop_patience: The learning rate drops after this many epochs without a lower
            validation loss; 0 for never.
        drop_latest: The learning rate drops after this many epochs in any case; 0 for
            never.
    """

    decay: float = field(default=1.0, metadata=above(0))
    constant_epochs: int = field(default=0, metadata=at_least(0))
    drop: float = field(default=1.0, metadata=above(0))
    drop_patience: int = field(default=0, metadata=at_least(0))
    drop_latest: int = field(default=0, metadata=at_least(0))

    def __post_init__(self):
        check(self)


def rate_factor(schedule: Schedule, losses: Sequence[float]) -> float:
    """The factor by which the learning rate is multiplied in the next epoch.

    Args:
        schedule: The learning-rate schedule.
        losses: The validation losses of all epochs of the stage so far.

    Example:
        >>> schedule = Schedule(decay=0.5, constant_epochs=2)
        >>> [rate_factor(schedule, [3.0] * epochs) for epochs in range(5)]
        [1.0, 1.0, 1.0, 0.5, 0.25]
    """
    decay = optax.exponential_decay(
        1.0, 1, schedule.decay, transition_begin=schedule.constant_epochs
    )
    factor = float(decay(len(losses)))
    return factor * schedule.drop if _dropped(schedule, losses) else factor


def _dropped(schedule: Schedule, losses: Sequence[float]) -> bool:
    if 0 < schedule.drop_latest <= len(losses):
        return True
    return schedule.drop_patience > 0 and any(
        epochs_since_best(losses[:count]) >= schedule.drop_patience
        for count in range(1, len(losses) + 1)
    )


def scale_by_learning_rate(
    learning_rate: ArrayLike, usual_length: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Multiplies updates by minus the learning rate, for windows of varying length.

    If a window's loss is the mean over its tokens, every window has the same weight.
    Multiplying by s / w as well, the window's length relative to the usual one, gives
    every token the same weight instead.

    Args:
        learning_rate: The learning rate eta of a window of the usual length.
        usual_length: The usual window length w; `None` ignores lengths.

    Returns:
        A transform. With a usual length, its `update` takes the extra argument
        `window_length`, s.

    Raises:
        TypeError: if `update` was called without a `window_length` that it needs.
        ValueError: if `usual_length` is below 1, or the `window_length` is no scalar,
            or below 0 where it is known, which is outside of `jax.jit`.

    Source:
        Merity, Keskar and Socher (2018), section 5.

    Example:
        >>> sgd = scale_by_learning_rate(0.1, usual_length=10)
        >>> sgd.update(jnp.ones(1), sgd.init(None), window_length=40)[0].tolist()
        [-0.4000000059604645]
    """
    if usual_length is not None and usual_length < 1:
        raise ValueError(f"usual_length must be at least 1; got {usual_length}")

    def update(updates, state, params=None, *, window_length: Any = None, **extra):
        del params, extra
        rate = jnp.asarray(learning_rate, jnp.float32)
        if usual_length is not None:
            if window_length is None:
                raise TypeError("update needs the window_length")
            if jnp.ndim(window_length) or (
                is_known(window_length) and not window_length >= 0
            ):
                raise ValueError(
                    f"window_length must be a number of at least 0; got {window_length}"
                )
            rate = rate * (jnp.asarray(window_length, jnp.float32) / usual_length)
        return jax.tree.map(lambda g: _scaled(g, -rate), updates), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )


def _scaled(update: Any, factor: Array) -> Any:
    if not is_inexact(update):
        return update
    return (factor * update.astype(wide_dtype(update))).astype(update.dtype)
