"""The average of averaged SGD, an optax transform for any tree of parameters.

When it begins is for `optim.trigger` to say: the two together are NT-ASGD. This module
needs nothing but jax and optax.
"""

from collections import OrderedDict
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.tree_util import keystr

from glrnn.ground.arrays import is_inexact, wide_dtype

PyTree = Any

# The states of transforms that change the updates of the transform inside them.
_REWRITING = (
    optax.LookaheadState,
    optax.contrib.MechanicState,
    optax.contrib.ScheduleFreeState,
)


class AveragingState(NamedTuple):
    """The state of `nt_asgd`; its structure is the same before and after the switch.

    Attributes:
        active: Whether iterates are being averaged, bool `[]`.
        count: The number of iterates in the average, int32 `[]`.
        average: The mean of these iterates, float32 in the shapes of the parameters;
            zeros at first. An `optax.MaskedNode` stands for a leaf that is not inexact.
    """

    active: Array
    count: Array
    average: PyTree


def nt_asgd() -> optax.GradientTransformationExtraArgs:
    """Averages the parameters from `start_averaging` on.

    average_t = (theta_{T+1} + ... + theta_t) / (t - T), for the parameters theta_t
    *after* update t and the last update T before averaging began: a running mean in
    float32 of every iterate since. Updates pass unchanged. As in PyTorch's ASGD, after
    n iterates a change below n 2^-24 of the average is rounded away: after 10,000 that
    is 0.06 percent of an element, far less than the noise of an update.

    An iterate is `params + updates`, of what `update` is given. So `params` must be the
    current parameters, and the updates those that will be applied: put `nt_asgd` last
    in the chain, after the learning rate. `start_averaging` and the functions that read
    the state refuse a chain in which another transform follows, and an `nt_asgd` inside
    of `optax.lookahead`, `optax.contrib.mechanize` or `schedule_free`.

    Leaves that are not inexact (counters, tables, PRNG keys) are not averaged, and
    neither are those that have no update: `None`, or an `optax.MaskedNode`.

    Returns:
        A transform whose `update` needs `params`.

    Raises:
        ValueError: if `update` was called without `params`, with leaves of another
            shape than those of `init`, or outside the `vmap` that made the state.

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
            average=jax.tree.map(_zeros, params),
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
                "nt_asgd averages params + updates: call update(updates, opt_state, "
                "params), not update(updates, opt_state)"
            )
        if jnp.ndim(state.count):
            raise ValueError(
                f"the state of nt_asgd has the axes {jnp.shape(state.count)} of a "
                "vmap; call update under it"
            )
        count = jnp.asarray(optax.safe_increment(state.count))

        # A select instead of lax.cond: on a CPU the select fuses with the update of the
        # parameters and costs little before averaging, but cond copies the average.
        def mean(average: Any, iterate: Any) -> Any:
            if _is_left_out(average):
                return average
            change = iterate.astype(average.dtype) - average
            moved = average + change / count.astype(average.dtype)
            return jnp.where(state.active, moved, average)

        iterates = jax.tree.map_with_path(
            _iterate, state.average, updates, params, is_leaf=_is_left_out
        )
        # The barrier lets the caller overwrite the old parameters with the new ones;
        # without it they would be read again here.
        iterates = jax.tree.map(jax.lax.optimization_barrier, iterates)
        return updates, AveragingState(
            active=state.active,
            count=jnp.where(state.active, count, state.count),
            average=jax.tree.map(mean, state.average, iterates, is_leaf=_is_left_out),
        )

    return optax.GradientTransformationExtraArgs(init_fn, update_fn)


def start_averaging(opt_state: PyTree) -> PyTree:
    """Switches `nt_asgd` on: the next iterate is the first in the average.

    Structure, shapes and dtypes do not change, so a compiled step is not traced again.
    If averaging has begun already, nothing changes.

    Args:
        opt_state: The state of an optimizer with one `nt_asgd` anywhere in it, that of
            an `nnx.Optimizer` included.

    Returns:
        The state with the switch on.

    Raises:
        ValueError: if `opt_state` holds no `AveragingState`, or more than one, or a
            transform changes the updates after `nt_asgd`.

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
            # Mapped, for the array may be wrapped, as Flax's nnx does.
            return node._replace(active=jax.tree.map(jnp.ones_like, node.active))
        return node

    return jax.tree.map(switch_on, opt_state, is_leaf=_is_averaging_state)


def averaged_params(opt_state: PyTree, params: PyTree) -> PyTree:
    """The averaged parameters; before averaging begins, the current ones.

    Args:
        opt_state: The state of an optimizer with one `nt_asgd` anywhere in it. Of S
            states that were made under a `vmap` along axis 0, each is read by itself.
        params: The current parameters; for an `nnx.Optimizer`, `nnx.state(model, wrt)`.
            They are returned where there is no average: leaves that are not inexact,
            and those that `optax.masked` or a `None` left out.

    Returns:
        The parameters to evaluate and to save: new arrays, with the structure and the
        dtypes of `params`.

    Raises:
        ValueError: if `opt_state` holds no `AveragingState`, or more than one, or a
            transform changes the updates after `nt_asgd`, or `params` has other leaves
            or shapes than the average.

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
    count = _unwrapped(state.count)
    nodes = jax.tree.leaves_with_path(state.average, is_leaf=_is_left_out)
    left_out = {path for path, node in nodes if _is_left_out(node)}
    # By path, for the leaves of the state may be wrapped in another class than those of
    # the model, as Flax's nnx does.
    averages = dict(jax.tree.leaves_with_path(state.average))

    def choose(path: tuple[Any, ...], now: Any) -> Any:
        if path in averages:
            return _average(path, count, averages.pop(path), jnp.asarray(now))
        if any(path[:end] in left_out for end in range(len(path) + 1)):
            return jnp.array(now) if hasattr(now, "dtype") else now
        raise ValueError(
            f"there is no average of params{keystr(path)}; params must have the "
            "structure of what init was given"
        )

    chosen = jax.tree.map_with_path(choose, params)
    if averages:
        raise ValueError(f"params has no leaf params{keystr(next(iter(averages)))}")
    return chosen


def is_averaging(opt_state: PyTree) -> Array:
    """Whether averaging has begun, bool `[]` (`[S]` if S states were made by `vmap`).

    Args:
        opt_state: The state of an optimizer with one `nt_asgd` anywhere in it.

    Raises:
        ValueError: if `opt_state` holds no `AveragingState`, or more than one, or a
            transform changes the updates after `nt_asgd`.

    Example:
        >>> import jax.numpy as jnp
        >>> is_averaging(nt_asgd().init({"w": jnp.ones(2)}))
        Array(False, dtype=bool)
    """
    # A copy, since the state may be donated before the result is read.
    return jnp.array(_unwrapped(_find(opt_state).active))


def _zeros(param: Any) -> Any:
    if not is_inexact(param):
        return optax.MaskedNode()
    return jnp.zeros_like(param, dtype=wide_dtype(param))


def _iterate(path: Any, average: Any, update: Any, param: Any) -> Any:
    if _is_left_out(average):
        return None
    new = param if update is None else optax.apply_updates(param, update)
    if jnp.shape(new) != average.shape:
        raise ValueError(
            f"params{keystr(path)} + updates has the shape {jnp.shape(new)}; what init "
            f"was given has {average.shape}"
        )
    return new


def _average(path: Any, count: Array, average: Array, now: Array) -> Array:
    if average.shape != now.shape or now.shape[: count.ndim] != count.shape:
        raise ValueError(
            f"params{keystr(path)} has the shape {now.shape}, its average "
            f"{average.shape}, the count of averages {count.shape}; call "
            "averaged_params under the vmap that made them"
        )
    begun = jnp.expand_dims(count > 0, tuple(range(count.ndim, now.ndim)))
    return jnp.where(begun, average.astype(now.dtype), now)


def _unwrapped(scalar: Any) -> Array:
    (array,) = jax.tree.leaves(scalar)
    return array


def _is_left_out(node: Any) -> bool:
    return node is None or isinstance(node, optax.MaskedNode)


def _is_averaging_state(node: Any) -> bool:
    return isinstance(node, AveragingState)


def _states_in(opt_state: PyTree) -> list[AveragingState]:
    nodes = jax.tree.leaves(opt_state, is_leaf=_is_averaging_state)
    return [node for node in nodes if _is_averaging_state(node)]


def _is_followed(node: Any) -> bool:
    """Whether a node is the state of a chain with a transform after `nt_asgd`."""
    # An OrderedDict is that of a named_chain; other dicts have no order.
    if isinstance(node, OrderedDict):
        node = tuple(node.values())
    return type(node) is tuple and any(map(_states_in, node[:-1]))


def _is_rewritten(node: Any) -> bool:
    """Whether a node is the state of a transform that changes the updates inside it."""
    return isinstance(node, _REWRITING) and bool(_states_in(node))


def _find(opt_state: PyTree) -> AveragingState:
    found = _states_in(opt_state)
    if len(found) != 1:
        raise ValueError(
            f"opt_state must hold the state of one nt_asgd; found {len(found)}"
        )
    if any(map(_is_followed, jax.tree.leaves(opt_state, is_leaf=_is_followed))):
        raise ValueError(
            "nt_asgd must be the last transform of its chain: it averages params + "
            "updates, and the transforms after it change the updates (if opt_state is "
            "a tuple of the states of several optimizers, give the one with nt_asgd)"
        )
    for node in jax.tree.leaves(opt_state, is_leaf=_is_rewritten):
        if _is_rewritten(node):
            name = type(node).__name__.removesuffix("State")
            raise ValueError(
                f"nt_asgd must not be inside of optax's {name}, which changes the "
                "updates that it averages"
            )
    return found[0]
