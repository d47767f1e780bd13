"""Layer-wise gradient clipping: each group of a gradient to a norm of its own.

An optax transform for any tree of parameters. This module needs nothing but jax and
optax.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from glrnn.ground.arrays import is_inexact, widened
from glrnn.ground.validation import shown
from glrnn.optim.norm import l2_norm

PyTree = Any


class LayerwiseClipState(NamedTuple):
    """The state if a limit is a schedule: the number of updates so far, int32 `[]`."""

    count: Array


def layerwise_clip_by_norm(
    max_norm: PyTree,
    labels: PyTree | Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformation:
    """Scales each group of updates down to its own largest norm.

    g_k <- min(1, c_k / ||g_k||) g_k, for the updates g_k of group k and its limit c_k.

    The norm is the L2 norm of the whole group, in float32 (float64 if a leaf is) and
    with no epsilon: zero updates stay zero. It neither overflows nor underflows.
    Updates keep their dtypes, and leaves that are not inexact (counters, PRNG keys,
    `float0`) pass unchanged and do not count. A NaN in a group makes all of that group
    NaN, and nothing else.

    A limit is a scalar above zero, `inf` for no limit, or a schedule: a function of the
    number of updates so far. A limit that was computed, by a schedule or as a JAX
    array, counts as zero if it is below zero.
    `optax.MaskedNode` is an empty group, so the transform works inside `optax.masked`
    and `optax.partition`.

    Args:
        max_norm: Without `labels`, a prefix tree of the updates whose leaves are
            limits. Each limit makes one group of the subtree it stands for, and a bare
            number is `optax.clip_by_global_norm`. With `labels`, a mapping from name to
            limit.
        labels: A prefix tree of the updates whose leaves are names, or a function from
            the updates to such a tree. All leaves of one name are one group, wherever
            they are. For trees whose prefix cannot be written by hand, and for groups
            that are not subtrees. (`optax.inject_hyperparams` mistakes a function for a
            schedule unless told `static_args="labels"`.)

    Returns:
        A transform; its state is a count if a limit is a schedule, and empty otherwise.

    Raises:
        ValueError: if a limit is not a real scalar, or not above the numbers that
            float32 rounds to zero (of a JAX array and the value of a schedule only
            shape and dtype are checked), a name has no limit, or no leaf has the name
            of a limit. If a prefix does not fit the tree, the error
            is JAX's own.

    Example:
        >>> import jax, jax.numpy as jnp, optax
        >>> layer = {"w": jnp.full(2, 2.0), "b": jnp.full(2, 2.0)}
        >>> grads = {"table": jnp.full(4, 2.0), "layers": (layer, layer)}

        One limit for each subtree; the norm of each of the three is 4.

        >>> clip = layerwise_clip_by_norm({"table": 1.0, "layers": (2.0, jnp.inf)})
        >>> clipped, _ = clip.update(grads, clip.init(grads))
        >>> clipped["table"]
        Array([0.5, 0.5, 0.5, 0.5], dtype=float32)
        >>> clipped["layers"][0]
        {'b': Array([1., 1.], dtype=float32), 'w': Array([1., 1.], dtype=float32)}
        >>> clipped["layers"][1]
        {'b': Array([2., 2.], dtype=float32), 'w': Array([2., 2.], dtype=float32)}

        One limit for everything: the global norm.

        >>> clip = layerwise_clip_by_norm(1.0)
        >>> clipped, _ = clip.update(grads, clip.init(grads))
        >>> print(f"{optax.tree.norm(clipped):.4f}")
        1.0000

        Names: both biases are one group, all other leaves are another.

        >>> def kind(path, leaf):
        ...     return "bias" if path[-1].key == "b" else "rest"
        >>> clip = layerwise_clip_by_norm(
        ...     {"bias": 2.0, "rest": 100.0},
        ...     labels=lambda updates: jax.tree.map_with_path(kind, updates),
        ... )
        >>> clipped, _ = clip.update(grads, clip.init(grads))
        >>> clipped["layers"][1]
        {'b': Array([1., 1.], dtype=float32), 'w': Array([2., 2.], dtype=float32)}

        A limit that changes as training goes on:

        >>> clip = layerwise_clip_by_norm(optax.linear_schedule(1.0, 2.0, 10))
        >>> clip.init(grads)
        LayerwiseClipState(count=Array(0, dtype=int32))

    Source:
        Aharoni, Rattner and Permuter (2017), "Gradual learning of recurrent neural
        networks", arXiv:1708.08863, equation (20).
    """
    limits, names_of = _grouping(max_norm, labels)
    scheduled = any(callable(limit) for limit in limits.values())

    def init_fn(params: PyTree) -> optax.OptState:
        # A prefix that does not fit fails here instead of in the first step. A tree
        # without leaves is the placeholder by which optax.tree.map_params asks for a
        # state.
        if jax.tree.leaves(params):
            jax.eval_shape(lambda: group_norms(params, names_of(params)))
        if scheduled:
            return LayerwiseClipState(jnp.zeros((), jnp.int32))
        return optax.EmptyState()

    def update_fn(
        updates: PyTree, state: Any, params: PyTree | None = None
    ) -> tuple[PyTree, optax.OptState]:
        del params
        names, now = names_of(updates), limits
        if scheduled:
            now = {name: _limit_at(state.count, c) for name, c in limits.items()}
            state = LayerwiseClipState(jnp.asarray(optax.safe_increment(state.count)))
        return _clip(updates, names, now), state

    return optax.GradientTransformation(init_fn, update_fn)


def group_norms(updates: PyTree, groups: PyTree) -> PyTree:
    """The L2 norm of each group of updates, in float32 (float64 if a leaf is).

    It is finite if and only if all of the group is: a norm above the largest number of
    its dtype is that number.

    Args:
        updates: Any tree of arrays. An `optax.MaskedNode` in it has norm zero, and
            leaves that are not inexact do not count.
        groups: A prefix tree of `updates`; only its structure is used.

    Returns:
        The tree `groups` with the norm of its group at each leaf, float32 `[]`.

    Raises:
        ValueError: JAX's own, if `groups` is not a prefix of `updates`.

    Example:
        >>> import jax.numpy as jnp
        >>> grads = {
        ...     "table": jnp.array([3.0]),
        ...     "layer": {"w": jnp.array([3.0]), "b": jnp.array([4.0])},
        ... }
        >>> group_norms(grads, {"table": 0, "layer": 0})["layer"]
        Array(5., dtype=float32)
    """
    widened = _widened(updates, groups)
    return jax.tree.map(lambda _, group: l2_norm([group]).value, groups, widened)


def _clip(updates: PyTree, names: PyTree, limits: Mapping[Any, Any]) -> PyTree:
    widened = _widened(updates, names)
    groups: dict[Any, list[PyTree]] = {}
    jax.tree.map(
        lambda name, group: groups.setdefault(name, []).append(group), names, widened
    )
    norms = {name: l2_norm(trees) for name, trees in groups.items()}

    def clip_group(name: Any, group: PyTree) -> PyTree:
        divisor, excess = norms[name]
        # A limit that is computed may be below zero, which would change signs.
        limit = jnp.maximum(_as_array(limits[name], divisor.dtype), 0)
        # "Not within" instead of "above": as in min(1, c / norm), a NaN norm reaches
        # the whole group. Groups within the limit use ones, so that neither 0 / 0 nor
        # inf / inf is computed.
        over = jnp.logical_not(divisor * excess <= limit)
        divisor = jnp.where(over, divisor, 1.0)
        factor = jnp.where(over, limit / excess, 1.0)
        return jax.tree.map(lambda u: _rescaled(u, divisor, factor), group)

    clipped = jax.tree.map(clip_group, names, widened)
    return jax.tree.unflatten(jax.tree.structure(updates), jax.tree.leaves(clipped))


def _as_array(limit: Any, dtype: Any) -> Array:
    """A limit in the dtype of the norm; infinite where it overflows."""
    if not isinstance(limit, Array) and limit > float(jnp.finfo(dtype).max):
        limit = jnp.inf
    return jnp.asarray(limit, dtype)


def _rescaled(update: Any, divisor: Array, factor: Array) -> Any:
    if not is_inexact(update):
        return update
    update = jnp.asarray(update)
    wide = widened(update, divisor.dtype)
    unit = _quotient(wide, divisor.astype(wide.dtype))
    return (unit * factor.astype(wide.dtype)).astype(update.dtype)


@jax.custom_jvp
def _quotient(x: Array, divisor: Array) -> Array:
    return x / divisor


@_quotient.defjvp
def _quotient_jvp(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    """Without the square of the divisor, which overflows."""
    _, divisor = primals
    quotient = _quotient(*primals)
    change, divisor_change = tangents
    return quotient, change / divisor - quotient * (divisor_change / divisor)


def _widened(updates: PyTree, groups: PyTree) -> PyTree:
    """Replaces each MaskedNode by a copy for each group of the subtree that it hides.

    Otherwise `groups` would not be a prefix of the masked updates where a mask hides a
    subtree that holds several groups.
    """
    masked = _masked_paths(updates)
    hidden = dict(
        jax.tree.leaves_with_path(
            groups, is_leaf=lambda path, _: path in masked, is_leaf_takes_path=True
        )
    )

    def widen(path: tuple[Any, ...], node: Any) -> Any:
        if path in masked and path in hidden:
            return jax.tree.map(lambda _: node, hidden[path])
        return node

    return jax.tree.map_with_path(widen, updates, is_leaf=_is_masked)


def _masked_paths(updates: PyTree) -> set[tuple[Any, ...]]:
    nodes = jax.tree.leaves_with_path(updates, is_leaf=_is_masked)
    return {path for path, node in nodes if _is_masked(node)}


def _is_masked(node: Any) -> bool:
    return isinstance(node, optax.MaskedNode)


def _grouping(
    max_norm: PyTree, labels: PyTree | Callable[[PyTree], PyTree] | None
) -> tuple[dict[Any, Any], Callable[[PyTree], PyTree]]:
    """The limit of each name, and the function from updates to their names."""
    if labels is None:
        for path, limit in jax.tree.leaves_with_path(max_norm):
            _check_limit(f"max_norm{jax.tree_util.keystr(path)}", limit)
        # Without labels each limit is its own name.
        leaves, treedef = jax.tree.flatten(max_norm)
        own_names = jax.tree.unflatten(treedef, range(len(leaves)))
        return dict(enumerate(leaves)), lambda _: own_names

    if not isinstance(max_norm, Mapping):
        raise ValueError(
            f"with labels, max_norm maps each name to its limit; got {max_norm!r}"
        )
    limits = dict(max_norm)
    for name, limit in limits.items():
        _check_limit(f"max_norm[{name!r}]", limit)
    # A module can be both a tree of names and callable: then it is used as the tree.
    if not (callable(labels) and jax.tree_util.all_leaves([labels])):
        _check_names(labels, limits)
        return limits, lambda _: labels

    def names_of(updates: PyTree) -> PyTree:
        names = labels(updates)
        # If leaves are masked, the leaves of a limit may be among them.
        _check_names(names, limits, all_seen=not _masked_paths(updates))
        return names

    return limits, names_of


def _check_names(
    names: PyTree, limits: Mapping[Any, Any], *, all_seen: bool = True
) -> None:
    used = set(jax.tree.leaves(names))
    if missing := used - limits.keys():
        raise ValueError(
            f"max_norm has no limit for the label {_listed(missing)}; "
            f"it has limits for: {_listed(limits)}"
        )
    if all_seen and (unused := limits.keys() - used):
        raise ValueError(
            f"max_norm has a limit for {_listed(unused)}, which labels no leaf; "
            f"the labels are: {_listed(used)}"
        )


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(sorted(map(repr, names)))


def _check_limit(name: str, limit: Any) -> None:
    if not (callable(limit) or (_is_real_scalar(limit) and _is_in_range(limit))):
        raise ValueError(
            f"{name} must be a scalar above zero (inf: unlimited) or a schedule of "
            f"such; got {shown(limit)}"
        )


def _is_real_scalar(limit: Any) -> bool:
    if isinstance(limit, np.number | np.ndarray | Array):
        real = jnp.integer, jnp.floating
        return limit.ndim == 0 and any(jnp.issubdtype(limit.dtype, r) for r in real)
    return isinstance(limit, int | float) and not isinstance(limit, bool)


def _is_in_range(limit: Any) -> bool:
    """Whether a limit is above zero, as far as it is not the result of a computation.

    A computed one, such as that of `inject_hyperparams`, is treated alike inside and
    outside of `jax.jit`, where it cannot be read.
    """
    if isinstance(limit, Array):
        return True
    try:
        # Anything smaller is rounded to zero, and so would the updates be.
        return float(limit) >= float(jnp.finfo(jnp.result_type(float)).tiny)
    except OverflowError:  # an integer with more digits than a float has room for
        return False


def _limit_at(count: Array, limit: Any) -> Any:
    if not callable(limit):
        return limit
    value = limit(count)
    if not _is_real_scalar(value):
        raise ValueError(f"a scheduled max_norm must be a scalar; got {shown(value)}")
    return value
