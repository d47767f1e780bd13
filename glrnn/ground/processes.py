"""The processes that train one run together, and what they tell one another.

All of them run the same functions in the same order. What only one can decide (what is
on the disk, what a clock says) the first one decides, and the others are told. In a
process of its own everything here does nothing but call the function it is given.

JAX calls all of this collectives: each must be reached by every process, from its main
thread.
"""

import contextlib
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.multihost_utils import broadcast_one_to_all, process_allgather

from glrnn.errors import DeviceError, DivergedError, UsageError

Value = TypeVar("Value")
PyTree = Any

# The sizes of the pieces in which bytes are sent, in bytes: powers of two, for each is
# a program of its own.
SMALLEST, LARGEST = 2**8, 2**24
# What the first process may fail with so that the others fail alike.
ERRORS = {kind.__name__: kind for kind in (UsageError, DeviceError, DivergedError)}


class Processes(NamedTuple):
    """The processes that train one run; `here` has those of this program.

    Attributes:
        rank: The number of this process, from 0.
        count: The number of processes.

    Example:
        >>> alone = Processes()
        >>> alone.lead(lambda: 3), alone.largest(5), alone.is_first
        (3, 5, True)
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that decides, and has the run's folder."""
        return self.rank == 0

    def lead(self, act: Callable[[], Value]) -> Value:
        """What a function returns at the first process, which alone calls it.

        Args:
            act: Returns a value of JSON's types, and calls no collective itself.

        Raises:
            UsageError: At all processes, if it is raised by `act`, which may raise
                `DivergedError` and `DeviceError` likewise.
        """
        if self.count == 1:
            return act()
        told: dict[str, Any] = {}
        if self.is_first:
            try:
                told["value"] = act()
            except (*ERRORS.values(), OSError) as error:
                told = {"kind": type(error).__name__, "message": str(error)}
        told = json.loads(_broadcast(json.dumps(told).encode()))
        if "message" in told:
            raise ERRORS.get(told["kind"], UsageError)(told["message"])
        return told["value"]

    def each(self, act: Callable[[], Value]) -> Value:
        """What a function returns here; if it fails at one process, all of them end.

        The first process calls it before the others do: what it stores on a disk, they
        find there, and what is to be said on the way, it says.

        Args:
            act: Calls no collective itself.

        Raises:
            UsageError: As `act` has it, or naming the process that says why.
        """
        if self.count == 1:
            return act()
        found: list[Value] = []
        failed: UsageError | OSError | None = None
        self.lead(lambda: found.append(act()))
        if not self.is_first:
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    found.append(act())
            except (UsageError, OSError) as error:
                failed = error
        bad = np.flatnonzero(self._gather(np.int32(failed is not None)))
        if failed is not None:
            raise failed
        if bad.size:
            raise UsageError(f"process {bad[0]} cannot go on; it says why")
        return found[0]

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes give, below 2^31."""
        if self.count == 1:
            return number
        return int(self._gather(np.int32(number)).max())

    def agree(self, given: Mapping[str, Callable[[], str]]) -> None:
        """Refuses to go on if processes were given different things.

        Args:
            given: Functions that return what must be the same at all, by the name to
                say; of one process none is called.

        Raises:
            UsageError: Something is not.
        """
        if self.count == 1:
            return
        # Digests have one size; where sizes differ, a collective would abort.
        texts = [read() for read in given.values()]
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        mine = np.frombuffer(b"".join(digests), np.uint8).reshape(len(given), -1)
        theirs = self._gather(mine)
        differs = (theirs != theirs[0]).any(-1)
        if differs.any():
            which = differs.any(0)
            names = [name for name, bad in zip(given, which, strict=True) if bad]
            number = np.flatnonzero(differs.any(1))[0]
            raise UsageError(
                f"process {number} has other {' and '.join(names)} than process 0; "
                f"give all processes the same"
            )

    def share(self, tree: PyTree, like: PyTree) -> PyTree:
        """A tree of arrays of the first process, in the memory of every one.

        Args:
            tree: The tree; at the other processes it is not looked at.
            like: Its shapes and types.

        Returns:
            The tree, bit for bit; of several processes, on the first device of each.
        """
        if self.count == 1:
            return tree
        content = b""
        if self.is_first:
            leaves = map(np.asarray, jax.tree.leaves(tree))
            content = b"".join(leaf.tobytes() for leaf in leaves)
        content = _broadcast(content)
        wanted, structure = jax.tree.flatten(like)
        found, begin = [], 0
        for leaf in wanted:
            flat = np.frombuffer(content, leaf.dtype, leaf.size, begin)
            found.append(jnp.asarray(flat.reshape(leaf.shape)))
            begin += flat.nbytes
        return jax.tree.unflatten(structure, found)

    def whole(self, tree: PyTree) -> PyTree:
        """The tree with arrays that each process can read from its own memory.

        Args:
            tree: Arrays, some of which are sharded over the devices of all processes.
        """
        return tree if self.count == 1 else jax.tree.map(_whole, tree)

    def _gather(self, array: Any) -> np.ndarray:
        """The arrays of all processes, stacked."""
        return np.asarray(process_allgather(array))


def here() -> Processes:
    """The processes of this program: one, or those that `jax.distributed` has joined.

    Example:
        >>> here()
        Processes(rank=0, count=1)
    """
    return Processes(jax.process_index(), jax.process_count())


def _whole(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array) and not leaf.is_fully_replicated:
        return process_allgather(leaf, tiled=True)
    return leaf


def _broadcast(content: bytes) -> bytes:
    """The bytes that the first process has."""
    size = np.frombuffer(len(content).to_bytes(8, "little"), np.uint8)
    size = int.from_bytes(broadcast_one_to_all(size).tobytes(), "little")
    pieces, left = [], size
    while left > 0:
        room = min(LARGEST, max(SMALLEST, 1 << (left - 1).bit_length()))
        piece = np.zeros(room, np.uint8)
        mine = content[size - left : size - left + room]
        piece[: len(mine)] = np.frombuffer(mine, np.uint8)
        pieces.append(np.asarray(broadcast_one_to_all(piece))[:left].tobytes())
        left -= room
    return b"".join(pieces)
