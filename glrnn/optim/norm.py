"""The L2 norm of a tree, whatever the size of its leaves."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn.ground.arrays import is_inexact, widened

PyTree = Any
# Sums of squares: of leaves as they are, times `up`, times `down`.
_Sums = tuple[Array, Array, Array]


class Norm(NamedTuple):
    """A norm, which is `divisor` times `excess`.

    Attributes:
        divisor: The norm if its reciprocal is a normal number or infinite, else the
            largest such number; inf or NaN only if the tree holds such numbers, `[]`.
        excess: How many times larger the norm is than `divisor`: 1 but for the largest
            norms, `[]`.
    """

    divisor: Array
    excess: Array

    @property
    def value(self) -> Array:
        """The norm; if it is larger than any number of its dtype, the largest."""
        largest = jnp.finfo(self.divisor.dtype).max
        value = jnp.minimum(self.divisor * self.excess, largest)
        return jnp.where(jnp.isinf(self.divisor), jnp.inf, value)


def l2_norm(trees: Sequence[PyTree]) -> Norm:
    """The L2 norm of all leaves of some trees together.

    Squares are added up in float32, or in float64 if a leaf is of that precision. If
    their sum overflows or underflows, they are those of the leaves times a power of
    two. Leaves that are not inexact do not count. The derivative at zero is zero.

    Args:
        trees: Trees of arrays. The squares of each are added up before its sum is added
            to the others'.

    Example:
        >>> norm = l2_norm([jnp.array([3e19, 4e19])])
        >>> print(f"{norm.divisor:.3g} {norm.excess}")
        5e+19 1.0
    """
    return _l2_norm(
        [
            [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree) if is_inexact(leaf)]
            for tree in trees
        ]
    )


class _Range(NamedTuple):
    """Where a sum of squares is exact, and what to multiply by elsewhere.

    Powers of two, which round nothing.

    Attributes:
        smallest: A sum below it may have lost terms to underflow.
        up: The factor for the leaves of such a sum.
        down: The factor for the leaves of a sum that overflows.
        root: The smallest number whose square overflows.
    """

    smallest: float
    up: float
    down: float
    root: float


# For float32, whose numbers go from 2^-149 to 2^128; a sum may have 2^28 terms. The
# exponents of float64 go eight times as far.
_RANGE = _Range(smallest=2.0**-72, up=2.0**96, down=2.0**-80, root=2.0**64)
_WIDE_RANGE = _Range(*(number**8 for number in _RANGE))


@jax.custom_jvp
def _l2_norm(trees: list[list[Array]]) -> Norm:
    total = _square_sum(trees, None, _RANGE)
    one = jnp.ones_like(total)
    if not any(trees):
        return Norm(total, one)
    range_ = _WIDE_RANGE if total.dtype == jnp.float64 else _RANGE
    total, larger, smaller = _square_sums(total, trees, range_)
    small, large = total < range_.smallest, total == jnp.inf
    norm = jnp.sqrt(jnp.where(small, larger, jnp.where(large, smaller, total)))
    scale = jnp.where(small, range_.up, jnp.where(large, range_.down, 1.0))
    highest = 1 / jnp.finfo(norm.dtype).tiny
    beyond = large & (norm > highest * range_.down) & (norm < jnp.inf)
    return Norm(
        jnp.where(beyond, highest, norm / scale.astype(norm.dtype)),
        jnp.where(beyond, norm / (highest * range_.down), one),
    )


@_l2_norm.defjvp
def _l2_norm_jvp(
    primals: tuple[list[list[Array]]], tangents: tuple[list[list[Array]]]
) -> tuple[Norm, Norm]:
    divisor, excess = _l2_norm(*primals)
    safe, change = jnp.where(divisor == 0, 1.0, divisor), jnp.zeros_like(divisor)
    for leaf, tangent in zip(
        jax.tree.leaves(primals), jax.tree.leaves(tangents), strict=True
    ):
        wide = widened(leaf, divisor.dtype)
        unit = wide / safe.astype(wide.dtype) / excess.astype(wide.dtype)
        along = jnp.real(jnp.conj(unit) * tangent.astype(wide.dtype))
        change += jnp.sum(along).astype(divisor.dtype)
    beyond = excess > 1
    return Norm(divisor, excess), Norm(
        jnp.where(beyond, 0.0, change), jnp.where(beyond, change / safe, 0.0)
    )


# Compiled also where nothing else is, or each call would compile the branches anew.
@partial(jax.jit, static_argnums=2, inline=True)
def _square_sums(total: Array, trees: list[list[Array]], range_: _Range) -> _Sums:
    """All three sums, or only the first, thrice, if that is exact."""

    def each(total: Array, trees: list[list[Array]]) -> _Sums:
        larger, smaller = (
            _square_sum(trees, scale, range_) for scale in (range_.up, range_.down)
        )
        return total, larger, smaller

    def if_needed(total: Array, trees: list[list[Array]]) -> _Sums:
        exact = (total >= range_.smallest) & (total < jnp.inf)
        return lax.cond(exact, lambda total, _: (total,) * 3, each, total, trees)

    def at_once(total: Array, trees: list[list[Array]]) -> _Sums:
        del total
        return _sums_in_one_pass(trees, range_)

    # A GPU would wait for the host at a condition, but has the time to add up thrice
    # while it reads. A CPU adds up only one after the other in that way, which rounds.
    return lax.platform_dependent(
        total, trees, cuda=at_once, rocm=at_once, default=if_needed
    )


def _square_sum(trees: list[list[Array]], scale: float | None, range_: _Range) -> Array:
    dtype = _sum_dtype(trees)
    zero = total = jnp.zeros((), dtype)
    for tree in trees:
        squares = (_squares(leaf, dtype, scale, range_) for leaf in tree)
        total += sum(map(jnp.sum, squares), start=zero)
    return total


def _sums_in_one_pass(trees: list[list[Array]], range_: _Range) -> _Sums:
    dtype = _sum_dtype(trees)
    zero = jnp.zeros((), dtype)

    def add(x: _Sums, y: _Sums) -> _Sums:
        return x[0] + y[0], x[1] + y[1], x[2] + y[2]

    total = zero, zero, zero
    for tree in trees:
        subtotal = zero, zero, zero
        for leaf in tree:
            squares = tuple(
                _squares(leaf, dtype, scale, range_)
                for scale in (None, range_.up, range_.down)
            )
            axes = tuple(range(leaf.ndim))
            subtotal = add(subtotal, lax.reduce(squares, (zero,) * 3, add, axes))
        total = add(total, subtotal)
    return total


def _squares(leaf: Array, dtype: Any, scale: float | None, range_: _Range) -> Array:
    # With the exponents of the sum, or zeros times the scale might be no number.
    wide = widened(leaf, dtype)
    # abs comes before the cast, which would drop an imaginary part.
    if scale is None:
        return jnp.square(jnp.abs(wide).astype(dtype))
    # The minimum changes no square: it keeps XLA from multiplying by the square of the
    # scale, which overflows.
    return jnp.square(jnp.minimum(jnp.abs(wide * scale).astype(dtype), range_.root))


def _sum_dtype(trees: list[list[Array]]) -> Any:
    bits = [jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(trees)]
    return jnp.float64 if max(bits, default=32) > 32 else jnp.float32
