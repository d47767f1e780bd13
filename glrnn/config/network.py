"""The settings of the network: its layers and its dropout."""

import inspect
from dataclasses import dataclass, field

from glrnn.cells import CELLS
from glrnn.errors import UsageError
from glrnn.ground.validation import at_least, between, check, choice, rate

# The largest depth of a cell: each micro-step is compiled by itself.
MOST_STEPS = 100


@dataclass(frozen=True)
class Layer:
    """One recurrent layer.

    Attributes:
        cell: The kind of cell: capped, gru, lstm, mogrifier, nas or rhn.
        hidden_size: The number of hidden units, H.
        depth: The number of micro-steps of an rhn or of rounds of a mogrifier, at most
            100; None for the cell's default.
        rank: The rank of the matrices in the rounds of a mogrifier, 0 for full
            matrices; None for the cell's default.
    """

    cell: str = field(default="lstm", metadata=choice(CELLS))
    hidden_size: int = field(default=128, metadata=at_least(1))
    depth: int | None = field(default=None, metadata=between(0, MOST_STEPS))
    rank: int | None = field(default=None, metadata=at_least(0))

    def __post_init__(self):
        check(self)
        known = inspect.signature(CELLS[self.cell]).parameters
        for name, value in self.options.items():
            if name not in known:
                raise UsageError(
                    f"Layer.{name} is {value}, but a cell of the kind {self.cell} has "
                    f"no {name}; leave it out"
                )
        try:
            CELLS[self.cell](1, self.hidden_size, **self.options)
        except ValueError as error:
            raise UsageError(str(error)) from None

    @property
    def options(self) -> dict[str, int]:
        """The cell's keyword arguments: every other field that is not None."""
        others = {**vars(self)}
        del others["cell"], others["hidden_size"]
        return {name: value for name, value in others.items() if value is not None}


@dataclass(frozen=True)
class Dropout:
    """The dropout rates of a phase: each is a probability of dropping.

    Attributes:
        embedding: Drops whole word types of the input embedding.
        input: Drops units of the embedded input.
        hidden: Drops units of the output of every layer but the last; one rate for each
            of these layers.
        output: Drops units of the output of the last layer.
        latent: Drops units of the vectors that a projected head or a mixture compares
            with the embedding.
        recurrent: Weight-drop: drops entries of every layer's hidden-to-hidden matrix.
        state: Drops units of every layer's hidden state, on its way to the next time
            step.
        carry: Resets a sequence's state to zero at the start of a window.
    """

    embedding: float = field(default=0.0, metadata=rate())
    input: float = field(default=0.0, metadata=rate())
    hidden: tuple[float, ...] = field(default=(), metadata=rate())
    output: float = field(default=0.0, metadata=rate())
    latent: float = field(default=0.0, metadata=rate())
    recurrent: float = field(default=0.0, metadata=rate())
    state: float = field(default=0.0, metadata=rate())
    carry: float = field(default=0.0, metadata=rate())

    def __post_init__(self):
        check(self)
