"""Update rules and learning-rate schedules.

The learning rate of an epoch is a function of the validation losses before it, so that
a resumed run knows it without having stored it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from glrnn.optim.averaging import epochs_since_best
from glrnn.validation import above, at_least, check

# RMS is Adam without a first moment: beta_1 = 0.
RULES: dict[str, Callable[[], optax.GradientTransformation]] = {
    "rms": lambda: optax.scale_by_rms(
        decay=0.999, eps=1e-8, eps_in_sqrt=False, bias_correction=True
    ),
    "sgd": optax.identity,
}


@dataclass(frozen=True)
class Schedule:
    """A learning-rate schedule: the rate of each epoch; constant by default.

    Attributes:
        decay: The factor of the learning rate after every epoch but the first few.
        constant_epochs: The number of first epochs that no decay follows.
        drop: A further factor, applied once: see `drop_patience` and `drop_latest`.
        drop_patience: The rate drops after so many epochs without a lower validation
            loss; 0 for never.
        drop_latest: The rate drops after so many epochs in any case; 0 for never.
    """

    decay: float = field(default=1.0, metadata=above(0))
    constant_epochs: int = field(default=0, metadata=at_least(0))
    drop: float = field(default=1.0, metadata=above(0))
    drop_patience: int = field(default=0, metadata=at_least(0))
    drop_latest: int = field(default=0, metadata=at_least(0))

    def __post_init__(self):
        check(self)


def rate_factor(schedule: Schedule, losses: Sequence[float]) -> float:
    """The factor of the next epoch's learning rate.

    Args:
        schedule: The schedule.
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

    Where a window's loss is the mean over its tokens, every window has the same weight;
    multiplied by s / w as well, the window's length in units of the usual one, every
    token has.

    Args:
        learning_rate: eta, for a window of the usual length.
        usual_length: w; `None` leaves lengths out.

    Returns:
        A transform whose `update` takes `window_length`, s, if there is a usual one.

    Raises:
        TypeError: `update` was called without it.

    Source:
        Merity, Keskar and Socher (2018), section 5.

    Example:
        >>> sgd = scale_by_learning_rate(0.1, usual_length=10)
        >>> sgd.update(jnp.ones(1), sgd.init(None), window_length=40)[0].tolist()
        [-0.4000000059604645]
    """

    def update(updates, state, params=None, *, window_length: Any = None, **extra):
        del params, extra
        rate = jnp.asarray(learning_rate, jnp.float32)
        if usual_length is not None:
            if window_length is None:
                raise TypeError("update needs the window_length")
            rate = rate * (jnp.asarray(window_length, jnp.float32) / usual_length)
        return jax.tree.map(lambda g: (-rate * g).astype(g.dtype), updates), state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )
