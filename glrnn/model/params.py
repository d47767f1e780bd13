"""The parameters: a tree whose fields are the groups that gradients are clipped by."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import Array
from jax.tree_util import keystr

from glrnn.errors import UsageError

Tree = Any
Carry = tuple[Tree, ...]
# Of arrays, by their paths in a tree.
Shapes = dict[str, tuple[int, ...]]


@struct.dataclass
class Embedding:
    """The table `[V, E]` shared by input and output, and the output's bias `[V]`."""

    table: Array
    bias: Array


@struct.dataclass
class Params:
    """Everything that is learned; anything "per group" is a prefix of this tree."""

    embedding: Any
    layers: tuple[Any, ...]
    head: Any


def grow(params: Params, fresh: Params, inherit_head: bool = True) -> Params:
    """Grafts a trained network onto a deeper, randomly initialised one.

    Args:
        params: The parameters that the previous phase has learned, l layers.
        fresh: The next phase's network as initialised, more than l layers.
        inherit_head: Whether to take the trained head rather than the fresh one.

    Returns:
        `fresh` with the embedding, the first l layers and, if inherited, the head of
        `params`, bit for bit.

    Raises:
        UsageError: `fresh` is not deeper, or what it inherits has other shapes there.

    Source:
        Aharoni, Rattner and Permuter (2017), section 4.2.

    Example:
        >>> from glrnn.config import Config
        >>> from glrnn.model import language_model
        >>> small, large = (
        ...     language_model(Config(), 9, depth).init(jax.random.key(depth))
        ...     for depth in (1, 2)
        ... )
        >>> grown = grow(small, large)
        >>> grown.layers[0] is small.layers[0], grown.layers[1] is large.layers[1]
        (True, True)
    """
    depth = len(params.layers)
    if len(fresh.layers) <= depth:
        raise UsageError(
            f"a network of {depth} layers does not grow to {len(fresh.layers)}"
        )
    grown = Params(
        embedding=params.embedding,
        layers=params.layers + fresh.layers[depth:],
        head=params.head if inherit_head else fresh.head,
    )
    check_shapes(grown, shapes_of(fresh))
    return grown


def shapes_of(tree: Tree) -> Shapes:
    """The shape of each array of a tree, by its path.

    Example:
        >>> shapes_of({"bias": jnp.zeros(3)})
        {"['bias']": (3,)}
    """
    leaves = jax.tree.leaves_with_path(tree)
    return {keystr(path): jnp.shape(leaf) for path, leaf in leaves}


def check_shapes(params: Tree, right: Shapes) -> None:
    """Refuses the parameters of another network, whose indices would be clamped.

    Args:
        params: The parameters.
        right: The shapes that they should have, from `shapes_of`.

    Raises:
        UsageError: They have others.

    Example:
        >>> check_shapes({"bias": jnp.zeros(3)}, {"['bias']": (4,)})
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: params['bias'] has the shape (3,); the network has \
(4,) there
    """
    found = shapes_of(params)
    for path in right | found:
        if right.get(path) != found.get(path):
            raise UsageError(
                f"params{path} has the shape {found.get(path, 'of nothing')}; the "
                f"network has {right.get(path, 'nothing')} there"
            )
