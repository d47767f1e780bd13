"""Deterministic addition of rows to a table.

A GPU adds rows of the same index in an arbitrary order, so that the last bits of their
sum differ from run to run. Here a matrix product first adds up the rows of each index,
and each index is then written once.
"""

import jax.numpy as jnp
from jax import Array, lax

from glrnn.ground import devices
from glrnn.ground.arrays import in_float32

# The largest number of rows whose indices are compared with one another at a time.
MOST_ROWS = 2048


def add_rows(table: Array, indices: Array, rows: Array) -> Array:
    """Adds rows to a table; several rows may have the same index.

    Args:
        table: `[V, ...]`.
        indices: The index of each row in the table, integers below V, `[N]`.
        rows: The rows to add, `[N, ...]`.

    Returns:
        The table with the rows added to it, the same bits in every run. The sums are
        formed in float32 at least.

    Example:
        >>> add_rows(jnp.zeros(3), jnp.array([2, 0, 2]), jnp.array([1.0, 2.0, 3.0]))
        Array([2., 0., 4.], dtype=float32)
    """
    wide, rows = in_float32((table, rows))
    return _add_rows(wide, indices, rows).astype(table.dtype)


def _add_rows(table, indices, rows):
    if devices.platform() == "cpu":  # a CPU adds in the order of the rows
        return table.at[indices].add(rows)
    num_blocks = -(-len(indices) // MOST_ROWS)
    if num_blocks == 1:
        return _add_block(table, indices, rows)
    # The padding of the last block has an index beyond the table.
    rest = -len(indices) % num_blocks
    indices = jnp.pad(indices, (0, rest), constant_values=len(table))
    rows = jnp.pad(rows, [(0, rest)] + [(0, 0)] * (rows.ndim - 1))

    def add(table, block):
        return _add_block(table, *block), None

    blocks = [x.reshape(num_blocks, -1, *x.shape[1:]) for x in (indices, rows)]
    return lax.scan(add, table, blocks)[0]


def _add_block(table, indices, rows):
    same = indices[:, None] == indices[None]
    order = jnp.arange(len(indices), dtype=indices.dtype)
    is_first = jnp.argmax(same, axis=1).astype(order.dtype) == order
    flat = rows.reshape(len(rows), -1)
    sums = jnp.matmul(same.astype(rows.dtype), flat, precision=lax.Precision.HIGHEST)
    # The first row of each index gets the sum; the others get unique indices beyond
    # the table.
    places = jnp.where(is_first, indices, len(table) + order)
    return table.at[places].add(
        sums.reshape(rows.shape), mode="drop", unique_indices=True
    )
