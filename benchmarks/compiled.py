"""The launches, loops and collectives of a compiled program.

module = hlo.read(jax.jit(function).lower(...).compile().as_text())
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.hlo import Array, Instruction, Module

# Instructions that launch nothing on a GPU. Every other instruction of the entry or of
# a loop is a kernel, a library call or a copy.
FREE = set(
    """
    parameter constant tuple get-tuple-element bitcast after-all opt-barrier domain
    partition-id replica-id add-dependency while conditional call async-update
    """.split()
)
FINISHED = re.compile(r"-done$")

# Custom calls that only annotate the program for the compiler.
NO_CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}

COLLECTIVES = re.compile(
    r"^(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+|ragged-\S+)"
    r"(-start)?$"
)


class Visit(NamedTuple):
    """An instruction that a call of the program executes.

    Attributes:
        instruction: An instruction of the entry or of a computation that it runs.
        computation: The name of the computation that contains it.
        loops: The loops that contain it, outermost first.
    """

    instruction: Instruction
    computation: str
    loops: tuple[Instruction, ...]


class Loop(NamedTuple):
    """A loop of a program.

    Attributes:
        trips: The number of trips, each time that it is reached.
        launches: The launches of one trip, inner loops multiplied by their trips.
        depth: The number of loops that contain it.
        source: The source lines that it comes from, innermost first.
        instruction: The loop itself.
    """

    trips: int
    launches: int
    depth: int
    source: list[str]
    instruction: Instruction

    @property
    def over_time(self) -> bool:
        """Whether the loop runs over the time steps of a window."""
        return any(line.endswith(" unroll") for line in self.source)


class Collective(NamedTuple):
    """An exchange between devices.

    Attributes:
        opcode: `all-reduce`, and so on.
        arrays: The exchanged arrays.
        in_loop: Whether it happens in every trip of some loop.
    """

    opcode: str
    arrays: list[Array]
    in_loop: bool

    @property
    def num_elements(self) -> int:
        """The count of exchanged numbers."""
        return sum(array.num_elements for array in self.arrays)


def visits(module: Module, within: str = "") -> Iterator[Visit]:
    """Yields each instruction that a call executes once, except those inside kernels.

    Args:
        module: The program.
        within: A computation to start from instead of the entry.
    """

    def walk(name: str, loops: tuple[Instruction, ...]) -> Iterator[Visit]:
        for each in module.computations[name]:
            yield Visit(each, name, loops)
            around = (*loops, each) if each.opcode == "while" else loops
            for called in run_by(each):
                yield from walk(called, around)

    return walk(within or module.entry, ())


def is_launch(instruction: Instruction) -> bool:
    """Whether an instruction launches work on a GPU."""
    if instruction.opcode in FREE or FINISHED.search(instruction.opcode):
        return False
    return instruction.attribute("custom_call_target") not in NO_CALLS


def launches(module: Module, name: str = "") -> int:
    """Counts the kernels, library calls and copies of one call of a program.

    A loop counts as often as it runs; a conditional counts as its longest branch.

    Args:
        module: A program for a GPU.
        name: A computation to count instead of the entry.

    Raises:
        ValueError: the number of trips of a loop is unknown.
    """
    return sum(
        _launches_of(module, each) for each in module.computations[name or module.entry]
    )


def _launches_of(module: Module, instruction: Instruction) -> int:
    called = [launches(module, name) for name in run_by(instruction)]
    if instruction.opcode == "while":
        return _trips(module, instruction) * sum(called)
    if instruction.opcode == "conditional":
        # The index of the branch is copied to the host.
        return 1 + max(called)
    return sum(called) if called else int(is_launch(instruction))


def run_by(instruction: Instruction) -> list[str]:
    """The computations whose instructions the device executes one by one."""
    if instruction.opcode == "while":
        return instruction.called("body")
    if instruction.opcode in ("call", "conditional", "async-start"):
        return instruction.called()
    return []


def _trips(module: Module, loop: Instruction) -> int:
    trips = module.trips(loop)
    if trips is None:
        raise ValueError(f"nothing says how often the loop {loop.name} runs")
    return trips


def loops(module: Module) -> list[Loop]:
    """All loops that a call executes, in the order in which they begin."""
    return [
        Loop(
            _trips(module, each),
            launches(module, each.called("body")[0]),
            len(around),
            module.source(each),
            each,
        )
        for each, _, around in visits(module)
        if each.opcode == "while"
    ]


def collectives(module: Module) -> list[Collective]:
    """All exchanges between devices."""
    found = []
    for each, computation, around in visits(module):
        if matched := COLLECTIVES.match(each.opcode):
            types = {line.name: line for line in module.computations[computation]}
            given = [a for name in each.operands for a in types[name].arrays]
            found.append(Collective(matched.group(1), given, bool(around)))
    return found
