"""Arrays: which can be learned, which are summed in float32, which are known."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def in_float32(tree: Any) -> Any:
    """A tree with narrower floating-point leaves in float32, the others as they are.

    Sums of many terms are formed in float32 at least: in bfloat16 a sum of ones stops
    at 256.

    Example:
        >>> counter, half = jnp.int32(7), jnp.ones(2, jnp.bfloat16)
        >>> [leaf.dtype.name for leaf in in_float32([counter, half])]
        ['int32', 'float32']
    """

    def widen(leaf):
        leaf = jnp.asarray(leaf)
        narrow = is_inexact(leaf) and jnp.finfo(leaf.dtype).bits < 32
        return leaf.astype(jnp.float32) if narrow else leaf

    return jax.tree.map(widen, tree)


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf of a tree of parameters can be learned: integers and keys cannot.

    Example:
        >>> [is_inexact(leaf) for leaf in (1.0, 1, jax.random.key(0))]
        [True, False, False]
    """
    return jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.inexact)


def is_known(array: Any) -> bool:
    """Whether the elements of an array can be read: it is not traced, and all here.

    Example:
        >>> jax.jit(lambda x: is_known(x))(1.0), is_known(1.0)
        (Array(False, dtype=bool), True)
    """
    is_traced = isinstance(array, Tracer)
    return not is_traced and getattr(array, "is_fully_addressable", True)
