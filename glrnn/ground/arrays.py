"""Leaves of a tree: which can be learned, and the precision to compute in."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf of a tree of parameters can be learned.

    Floating-point and complex numbers can. All others are left as they are: counters,
    tables of indices, PRNG keys, the `float0` gradients of integers, functions.

    Example:
        >>> [is_inexact(leaf) for leaf in (1.0, jnp.arange(2), jax.random.key(0), abs)]
        [True, False, False, False]
    """
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, float | complex)
    return jnp.issubdtype(dtype, jnp.inexact)


def wide_dtype(leaf: Any) -> jnp.dtype:
    """The dtype to compute in: that of an inexact leaf, but of 32 bits or more.

    Sums of many terms need them: in bfloat16 a sum of ones stops at 256.

    Example:
        >>> wide_dtype(jnp.ones(2, jnp.float8_e5m2)), wide_dtype(jnp.ones(2, complex))
        (dtype('float32'), dtype('complex64'))
    """
    dtype = jnp.dtype(jnp.result_type(leaf))
    # Not promote_types, which has no rule for types of 8 bits.
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def widened(leaf: Any, dtype: Any) -> Any:
    """An inexact array in its wide dtype, with the precision of `dtype` at least.

    Example:
        >>> widened(jnp.ones(2, jnp.bfloat16), jnp.float32).dtype
        dtype('float32')
    """
    leaf = leaf.astype(wide_dtype(leaf))
    if dtype != jnp.float64:
        return leaf
    return leaf.astype(jnp.complex128 if jnp.iscomplexobj(leaf) else jnp.float64)


def in_float32(tree: Any) -> Any:
    """A tree with narrower floating-point leaves in float32, the others as they are.

    Example:
        >>> counter, half = jnp.int32(7), jnp.ones(2, jnp.bfloat16)
        >>> [leaf.dtype.name for leaf in in_float32([counter, half])]
        ['int32', 'float32']
    """

    def widen(leaf):
        leaf = jnp.asarray(leaf)
        return leaf.astype(wide_dtype(leaf)) if is_inexact(leaf) else leaf

    return jax.tree.map(widen, tree)


def is_known(array: Any) -> bool:
    """Whether the elements of an array can be read: it is not traced, and all here.

    Example:
        >>> jax.jit(lambda x: is_known(x))(1.0), is_known(1.0)
        (Array(False, dtype=bool), True)
    """
    is_traced = isinstance(array, Tracer)
    return not is_traced and getattr(array, "is_fully_addressable", True)
