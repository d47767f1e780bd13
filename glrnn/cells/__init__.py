"""The recurrent cells by name. A new cell is one file here and one line below."""

from collections.abc import Callable

from glrnn.cells.affine import affine
from glrnn.cells.capped import capped
from glrnn.cells.cell import Cell, save_for_backward, uniform, unroll
from glrnn.cells.gru import gru
from glrnn.cells.lstm import lstm
from glrnn.cells.mogrifier import mogrifier
from glrnn.cells.nas import nas
from glrnn.cells.rhn import rhn

# Each takes the input size and the hidden size; all other arguments have defaults.
CELLS: dict[str, Callable[..., Cell]] = {
    "capped": capped,
    "gru": gru,
    "lstm": lstm,
    "mogrifier": mogrifier,
    "nas": nas,
    "rhn": rhn,
}

__all__ = ["CELLS", "Cell", "affine", "save_for_backward", "uniform", "unroll"]
