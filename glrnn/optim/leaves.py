"""Which leaves of a tree the transforms change, and the precision they compute in."""

from typing import Any

import jax.numpy as jnp


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf holds floating-point or complex numbers.

    The transforms leave all others as they are: counters, tables of indices, PRNG keys,
    the `float0` gradients of integers, functions.

    Example:
        >>> is_inexact(jnp.ones(2, jnp.bfloat16)), is_inexact(jnp.arange(2))
        (True, False)
    """
    dtype = getattr(leaf, "dtype", None)
    if dtype is None:
        return isinstance(leaf, float | complex)
    return jnp.issubdtype(dtype, jnp.inexact)


def wide_dtype(leaf: Any) -> jnp.dtype:
    """The dtype to compute in: that of the leaf, but of 32 bits or more.

    Example:
        >>> wide_dtype(jnp.ones(2, jnp.float8_e5m2)), wide_dtype(jnp.ones(2, complex))
        (dtype('float32'), dtype('complex64'))
    """
    dtype = jnp.dtype(jnp.result_type(leaf))
    # Not promote_types, which has no rule for types of 8 bits.
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)
