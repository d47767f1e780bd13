"""Adding rows into a table, with the same bits every time.

A GPU adds rows that meet in one place in whatever order they arrive, so that the last
bits of a sum are chance. Here rows of one index are added up by a matrix product first,
and each index is then written once.
"""

import jax.numpy as jnp
from jax import Array, lax

from glrnn import devices

# Rows that are compared with one another at a time.
MOST_ROWS = 2048


def add_rows(table: Array, indices: Array, rows: Array) -> Array:
    """The table with rows added to it; those of one index are all added.

    Args:
        table: `[V, ...]`.
        indices: Where each row belongs, integers below V, `[N]`.
        rows: `[N, ...]`.

    Example:
        >>> add_rows(jnp.zeros(3), jnp.array([2, 0, 2]), jnp.array([1.0, 2.0, 3.0]))
        Array([2., 0., 4.], dtype=float32)
    """
    if devices.platform() == "cpu":  # which adds in the order of the rows
        return table.at[indices].add(rows)
    num_blocks = -(-len(indices) // MOST_ROWS)
    if num_blocks == 1:
        return _add_block(table, indices, rows)
    # What fills up the last block belongs nowhere.
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
    # All but the first of an index point beyond the table, each to a place of its own.
    places = jnp.where(is_first, indices, len(table) + order)
    return table.at[places].add(
        sums.reshape(rows.shape), mode="drop", unique_indices=True
    )
