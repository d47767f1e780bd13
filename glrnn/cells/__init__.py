"""Recurrent cells by name. A new cell is one file here and one line below."""

from collections.abc import Callable

from glrnn.cells.cell import Cell, affine, keep, unroll
from glrnn.cells.lstm import lstm

CELLS: dict[str, Callable[[int, int], Cell]] = {
    "lstm": lstm,
}

__all__ = ["CELLS", "Cell", "affine", "keep", "unroll"]
