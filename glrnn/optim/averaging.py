"""Averaged SGD with a non-monotonic trigger (NT-ASGD).

The trigger is a function of validation losses; the average is an optax transform for
any tree of parameters. This module needs nothing but jax and optax.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

PyTree = Any


class AveragingState(NamedTuple):
    """The state of `nt_asgd`; its structure is the same before and after the switch.

    Attributes:
        active: Whether iterates are being averaged, bool `[]`.
        count: The number of iterates in the average, int32 `[]`.
        average: The mean of these iterates, float32 in the shapes of the parameters;
            zeros at first.
    """

    active: Array
    count: Array
    average: PyTree


def nt_asgd() -> optax.GradientTransformationExtraArgs:
    """Averages the parameters from `start_averaging` on.

    average_t = (theta_{T+1} + ... + theta_t) / (t - T), for the parameters theta_t
    *after* update t and the last update T before averaging began: a running mean in
    float32 of every iterate since. Updates pass unchanged. Put it last in the chain,
    where the updates are those that will be applied.

    Returns:
        A transform whose `update` needs `params`.

    Raises:
        ValueError: if `update` was called without `params`.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> from glrnn.optim.clipping import layerwise_clip_by_norm
        >>> params = {
        ...     "body": {"w": jnp.ones((2, 2)), "b": jnp.zeros(2)},
        ...     "out": jnp.array([1.0, 0.0]),
        ... }
        >>> def loss(params, x):
        ...     hidden = jnp.tanh(x @ params["body"]["w"] + params["body"]["b"])
        ...     return (hidden @ params["out"]) ** 2
        >>> optimizer = optax.chain(
        ...     layerwise_clip_by_norm({"body": 0.1, "out": 0.2}),
        ...     optax.add_decayed_weights(1.2e-6),
        ...     optax.scale_by_learning_rate(0.5),
        ...     nt_asgd(),
        ... )
        >>> opt_state = optimizer.init(params)
        >>> @jax.jit
        ... def step(params, opt_state, x):
        ...     grads = jax.grad(loss)(params, x)
        ...     updates, opt_state = optimizer.update(grads, opt_state, params)
        ...     return optax.apply_updates(params, updates), opt_state
        >>> x = jnp.array([1.0, 2.0])
        >>> iterates = []
        >>> for t in range(4):
        ...     if t == 2:  # in training: if non_monotonic_trigger(losses)
        ...         opt_state = start_averaging(opt_state)
        ...     params, opt_state = step(params, opt_state, x)
        ...     iterates.append(params["out"])
        >>> average = averaged_params(opt_state, params)
        >>> bool(jnp.allclose(average["out"], (iterates[2] + iterates[3]) / 2))
        True

    Source:
        Polyak and Juditsky (1992), "Acceleration of stochastic approximation by
        averaging"; Merity, Keskar and Socher (2018), "Regularizing and optimizing LSTM
        language models", arXiv:1708.02182, algorithm 1.
    """

    def init_fn(params: PyTree) -> AveragingState:
        return AveragingState(
            active=jnp.zeros((), bool),
            count=jnp.zeros((), jnp.int32),
            # Not the parameters themselves: one buffer of a donated state would then
            # be donated twice.
            average=jax.tree.map(
                lambda p: jnp.zeros_like(p, dtype=_mean_dtype(p)), params
            ),
        )

    def update_fn(
        updates: PyTree,
        state: AveragingState,
        params: PyTree | None = None,
        **extra_args: Any,
    ) -> tuple[PyTree, AveragingState]:
        del extra_args
        if params is None:
            raise ValueError(
                "nt_asgd averages the parameters: call update(updates, opt_state, "
                "params), not update(updates, opt_state)"
            )
        count = jnp.asarray(optax.safe_increment(state.count))

        # A select instead of lax.cond: on a CPU the select fuses with the update of the
        # parameters and costs little before averaging, but cond copies the average.
        def mean(average: Array, iterate: Array) -> Array:
            change = iterate.astype(average.dtype) - average
            moved = average + change / count.astype(average.dtype)
            return jnp.where(state.active, moved, average)

        # The barrier lets the caller overwrite the old parameters with the new ones;
        # without it they would be read again here.
        iterate = jax.lax.optimization_barrier(optax.apply_updates(params, updates))
        return updates, AveragingState(
            active=state.active,
            count=jnp.where(state.active, count, state.count),
            average=jax.tree.map(mean, state.average, iterate),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def start_averaging(opt_state: PyTree) -> PyTree:
    """Switches `nt_asgd` on: the next iterate is the first in the average.

    Structure, shapes and dtypes do not change, so a compiled step is not traced again.
    If averaging has begun already, nothing changes.

    Args:
        opt_state: The state of an optimizer with one `nt_asgd` anywhere in it.

    Returns:
        The state with the switch on.

    Raises:
        ValueError: if `opt_state` holds no `AveragingState`, or more than one.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = optax.chain(optax.sgd(0.1), nt_asgd())
        >>> opt_state = optimizer.init({"w": jnp.ones(2)})
        >>> bool(is_averaging(start_averaging(opt_state)))
        True
    """
    _find(opt_state)

    def switch_on(node: Any) -> Any:
        if isinstance(node, AveragingState):
            return node._replace(active=jnp.ones_like(node.active))
        return node

    return jax.tree.map(switch_on, opt_state, is_leaf=_is_averaging_state)


def averaged_params(opt_state: PyTree, params: PyTree) -> PyTree:
    """The averaged parameters; before averaging begins, the current ones.

    Args:
        opt_state: The state of an optimizer with one `nt_asgd` anywhere in it.
        params: The current parameters. They are returned where `optax.masked` excludes
            parameters from the average.

    Returns:
        The parameters to evaluate and to save: new arrays, with the dtypes of `params`.

    Raises:
        ValueError: if `opt_state` holds no `AveragingState`, or more than one.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> optimizer = optax.chain(optax.sgd(1.0), nt_asgd())
        >>> params = {"w": jnp.array([4.0])}
        >>> opt_state = start_averaging(optimizer.init(params))
        >>> averaged_params(opt_state, params)
        {'w': Array([4.], dtype=float32)}
        >>> for _ in range(3):
        ...     updates, opt_state = optimizer.update(
        ...         {"w": jnp.array([1.0])}, opt_state, params
        ...     )
        ...     params = optax.apply_updates(params, updates)
        >>> params, averaged_params(opt_state, params)  # 1, and the mean of 3, 2, 1
        ({'w': Array([1.], dtype=float32)}, {'w': Array([2.], dtype=float32)})
    """
    state = _find(opt_state)

    def choose(average: Any, now: PyTree) -> PyTree:
        if isinstance(average, optax.MaskedNode):
            return jax.tree.map(jnp.array, now)
        now = jnp.asarray(now)
        return jnp.where(state.count > 0, average.astype(now.dtype), now)

    return jax.tree.map(
        choose,
        state.average,
        params,
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )


def is_averaging(opt_state: PyTree) -> Array:
    """Whether averaging has begun, bool `[]`.

    Args:
        opt_state: The state of an optimizer with one `nt_asgd` anywhere in it.

    Raises:
        ValueError: if `opt_state` holds no `AveragingState`, or more than one.

    Example:
        >>> import jax.numpy as jnp
        >>> is_averaging(nt_asgd().init({"w": jnp.ones(2)}))
        Array(False, dtype=bool)
    """
    # A copy, since the state may be donated before the result is read.
    return jnp.array(_find(opt_state).active)


def non_monotonic_trigger(losses: Sequence[float], window: int = 5) -> bool:
    """Whether the current loss is above the lowest of the losses before the window.

    e >= n + 2 and v_e > min(v_1, ..., v_{e-n-1}), for the validation losses v_1 ... v_e
    and a window of n.

    Args:
        losses: The validation losses so far, the current one last.
        window: The number n of losses just before the current one that are not compared
            with it.

    Returns:
        Whether to begin averaging or, in finetuning, to stop. False if the current loss
        is NaN.

    Raises:
        ValueError: if `window` is negative.

    Example:
        >>> falling = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
        >>> non_monotonic_trigger([*falling, 8.5])
        False
        >>> non_monotonic_trigger([*falling, 9.5])
        True

    Source:
        Merity, Keskar and Socher (2018), arXiv:1708.02182, as in their code; algorithm
        1 of the paper has a misprint here.
    """
    if window < 0:
        raise ValueError(f"window must be at least 0; got {window}")
    before = losses[: max(0, len(losses) - window - 1)]
    return len(before) > 0 and bool(losses[-1] > min(before))


def plateau_trigger(losses: Sequence[float], window: int) -> bool:
    """Whether the lowest loss is at least `window` epochs old.

    Args:
        losses: The validation losses so far, the current one last.
        window: The number of epochs, at least 1.

    Raises:
        ValueError: if `window` is below 1.

    Example:
        >>> plateau_trigger([3.0, 2.0, 2.5], 2), plateau_trigger([2.0, 2.0, 2.5], 2)
        (False, True)

    Source:
        Melis, Kočiský and Blunsom (2020), "Mogrifier LSTM", as in their code.
    """
    if window < 1:
        raise ValueError(f"window must be at least 1; got {window}")
    return epochs_since_best(losses) >= window


def epochs_since_best(losses: Sequence[float]) -> int:
    """The number of losses after the lowest one (the first, if several are lowest).

    Example:
        >>> epochs_since_best([3.0, 1.0, 2.0]), epochs_since_best([])
        (1, 0)
    """
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


# The triggers of averaging by name: functions of the losses and the window. After every
# epoch `training.stages` asks one of them, and has a latest epoch beside it.
TRIGGERS: dict[str, Callable[[Sequence[float], int], bool]] = {
    "never": lambda losses, window: False,
    "non_monotonic": non_monotonic_trigger,
    "plateau": plateau_trigger,
}


def _mean_dtype(param: Any) -> Any:
    with jax.numpy_dtype_promotion("standard"):
        return jnp.promote_types(jnp.result_type(param), jnp.float32)


def _is_averaging_state(node: Any) -> bool:
    return isinstance(node, AveragingState)


def _find(opt_state: PyTree) -> AveragingState:
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_averaging_state)
    found = [node for node in nodes if isinstance(node, AveragingState)]
    if len(found) != 1:
        raise ValueError(
            f"opt_state must hold the state of one nt_asgd; found {len(found)}"
        )
    return found[0]
