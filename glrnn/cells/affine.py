"""The affine map of a recurrent cell, in one dtype."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from glrnn.errors import UsageError
from glrnn.ground.arrays import in_float32

# Up to this many tokens, those of a window of dynamic evaluation, the gradient of a
# matrix takes longer to store than to compute, and so does a transposed matrix.
FEW = 8


def affine(x: Array, matrix: Array, bias: Array | None = None) -> Array:
    """x W + b, for x `[..., I]` and W `[I, O]`, in the widest of their dtypes.

    Example:
        >>> affine(jnp.ones((2, 3)), jnp.eye(3), jnp.arange(3.0)).tolist()
        [[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    """
    x, matrix, bias = in_one_dtype(x, matrix, bias)
    # With two axes, or XLA would transpose the operands of the gradient's product.
    tokens = x.reshape(-1, x.shape[-1])
    multiply = _multiply_few if len(tokens) <= FEW else jnp.matmul
    y = multiply(tokens, matrix).reshape(*x.shape[:-1], matrix.shape[-1])
    return y if bias is None else add_bias(y, bias)


def in_one_dtype(
    x: Array, matrix: Array, bias: Array | None
) -> tuple[Array, Array, Array | None]:
    """The operands of `affine` in the widest of their dtypes."""
    dtypes = {array.dtype for array in (x, matrix, bias) if array is not None}
    if len(dtypes) == 1:
        return x, matrix, bias
    wide = widest(dtypes)
    wide_bias = None if bias is None else bias.astype(wide)
    return x.astype(wide), matrix.astype(wide), wide_bias


def widest(dtypes: Iterable[Any]) -> Any:
    """The dtype that JAX promotes some dtypes to.

    Raises:
        UsageError: It promotes them to none.
    """
    dtypes = set(dtypes)
    try:
        return jnp.result_type(*dtypes)
    except ValueError:  # such as float8, which JAX promotes to nothing
        names = ", ".join(sorted({dtype.name for dtype in dtypes}))
        raise UsageError(
            f"a cell computes in one dtype, and JAX does not promote {names}; cast its "
            f"parameters, state and window to one"
        ) from None


def add_bias(y: Array, bias: Array) -> Array:
    """y + b; in half precision the gradient of b, a sum over tokens, is in float32."""
    dtype = jnp.result_type(y, bias)
    wide, bias = in_float32((y, bias))
    return (wide + jnp.broadcast_to(bias, y.shape)).astype(dtype)


@jax.custom_vjp
def _multiply_few(x, matrix):
    """x W, for x `[n, I]`; the gradient of W is computed where it is used."""
    return jnp.matmul(x, matrix)


def _multiply_few_backward(operands, ct):
    x, matrix = operands
    return jnp.matmul(ct, matrix.T), _outer(x, ct)


def _outer(x, ct):
    """sum_n x_n ct_n^T, written as a sum so that XLA need not store it."""
    return sum(row[:, None] * ct_row[None] for row, ct_row in zip(x, ct, strict=True))


_multiply_few.defvjp(
    lambda x, matrix: (jnp.matmul(x, matrix), (x, matrix)), _multiply_few_backward
)
