"""What a compiled program does: launches, loops, scatters, copies, padding.

module = hlo.read(jax.jit(function).lower(...).compile().as_text())
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from benchmarks.hlo import Array, Instruction, Module

# What a GPU need not be asked for; every other instruction of the entry or of a loop is
# a kernel, a call of a library or a copy.
FREE = set(
    """
    parameter constant tuple get-tuple-element bitcast after-all opt-barrier domain
    partition-id replica-id add-dependency while conditional call async-update
    """.split()
)
FINISHED = re.compile(r"-done$")

# Custom calls that are directions to the compiler.
NO_CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}

COLLECTIVES = re.compile(
    r"^(all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+|ragged-\S+)"
    r"(-start)?$"
)

# What makes nothing of its operands. A TPU moves a copy nearer by `copy-start`, or a
# piece of one by `slice-start`, while it computes.
MADE_ELSEWHERE = set(
    """
    bitcast get-tuple-element tuple opt-barrier while conditional call
    copy-start copy-done slice-start slice-done
    """.split()
)


class Visit(NamedTuple):
    """An instruction that a call of the program runs.

    Attributes:
        instruction: Of the entry, or of what it runs.
        computation: The name of the one it stands in.
        loops: The loops that it stands in, outermost first.
    """

    instruction: Instruction
    computation: str
    loops: tuple[Instruction, ...]


class Loop(NamedTuple):
    """A loop of a program.

    Attributes:
        trips: How often it runs, each time that it is reached.
        launches: Of one trip, loops within counted out.
        depth: How many loops it stands in.
        source: Where it was written, innermost line first.
        instruction: The loop itself.
    """

    trips: int
    launches: int
    depth: int
    source: list[str]
    instruction: Instruction

    @property
    def over_time(self) -> bool:
        """Whether it is a loop over the time steps of a window."""
        return any(line.endswith(" unroll") for line in self.source)


class Collective(NamedTuple):
    """An exchange between devices.

    Attributes:
        opcode: `all-reduce`, and so on.
        arrays: What is exchanged.
        in_loop: Whether it happens at every trip of some loop.
    """

    opcode: str
    arrays: list[Array]
    in_loop: bool

    @property
    def num_elements(self) -> int:
        """How many numbers."""
        return sum(array.num_elements for array in self.arrays)


def visits(module: Module, within: str = "") -> Iterator[Visit]:
    """All that a call runs, but for the insides of kernels; each instruction once.

    Args:
        module: The program.
        within: A computation to begin with, in place of the entry.
    """

    def walk(name: str, loops: tuple[Instruction, ...]) -> Iterator[Visit]:
        for each in module.computations[name]:
            yield Visit(each, name, loops)
            around = (*loops, each) if each.opcode == "while" else loops
            for called in _runs(each):
                yield from walk(called, around)

    return walk(within or module.entry, ())


def is_launch(instruction: Instruction) -> bool:
    """Whether a GPU is handed something because of it."""
    if instruction.opcode in FREE or FINISHED.search(instruction.opcode):
        return False
    return instruction.attribute("custom_call_target") not in NO_CALLS


def launches(module: Module, name: str = "") -> int:
    """Kernels, library calls and copies of one call of a program, loops counted out.

    Of the branches of a conditional the longest counts.

    Args:
        module: Compiled for a GPU.
        name: A computation, in place of the entry.

    Raises:
        ValueError: the length of a loop is not known.
    """
    return sum(
        _launches_of(module, each) for each in module.computations[name or module.entry]
    )


def _launches_of(module: Module, instruction: Instruction) -> int:
    called = [launches(module, name) for name in _runs(instruction)]
    if instruction.opcode == "while":
        return _trips(module, instruction) * sum(called)
    if instruction.opcode == "conditional":
        # Which one to take is copied to the host.
        return 1 + max(called)
    return sum(called) if called else int(is_launch(instruction))


def _runs(instruction: Instruction) -> list[str]:
    """Computations whose instructions are handed to the device one by one."""
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
    """All loops that a call runs, in the order in which they begin."""
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


def odd_layouts(module: Module) -> list[str]:
    """What library calls are given or give that is not row-major.

    A call of cuDNN or of a kernel of one's own takes it that arrays are; one of cuBLAS
    is told which of its operands are transposed, so it may be given either.
    """
    odd = []
    for each, computation, _ in visits(module):
        target = each.attribute("custom_call_target") or ""
        if each.opcode != "custom-call" or re.search("cublas|Triton|triton", target):
            continue
        types = {line.name: line for line in module.computations[computation]}
        operands = [types[name] for name in each.operands if name in types]
        for array in (a for line in (each, *operands) for a in line.arrays):
            if not array.row_major:
                odd.append(f"{target}: {array}")
    return odd


def adding_scatters(module: Module) -> list[str]:
    """Scatters whose result depends on chance: floating point, added up in any order.

    One whose indices are told to be unique is none, nor is one that replaces, or takes
    the larger number, or adds integers.
    """
    found = []
    for outer, _, _ in visits(module):
        if _runs(outer):
            continue
        for each in module.within(outer):
            if each.opcode not in ("scatter", "select-and-scatter"):
                continue
            if each.attribute("unique_indices") == "true":
                continue
            combiner = module.computations[each.called("to_apply", "scatter")[0]]
            opcodes = {line.opcode for line in combiner}
            floating = each.arrays[0].dtype[0] in "fb"
            if floating and opcodes & {"add", "subtract", "multiply", "fusion"}:
                source = module.source(each) or ["?"]
                found.append(f"{each.arrays[0]} at {source[0]}")
    return found


def host_callbacks(module: Module) -> list[str]:
    """What asks the host in the middle of the program."""
    found = []
    for each, _, _ in visits(module):
        target = each.attribute("custom_call_target") or ""
        transfer = each.attribute("is_host_transfer") == "true"
        if transfer or each.opcode in ("infeed", "outfeed") or "callback" in target:
            found.append(target or each.opcode)
    return found


def remade_weights(module: Module, at_least: int) -> list[str]:
    """Matrices that every step of a loop over time makes anew of a weight.

    To copy, transpose, mask or convert all of a weight belongs before the loop.

    Args:
        module: The program.
        at_least: How many numbers make a matrix a weight, if such a loop is given it
            and hands it on as it was: those of H by H.
    """
    found = []
    for loop in loops(module):
        if not loop.over_time:
            continue
        body = module.computations[loop.instruction.called("body")[0]]
        lines = {each.name: each for each in body}
        (end,) = (each for each in body if each.root)
        for each in body:
            if each.opcode in MADE_ELSEWHERE or _writes_in_place(module, each):
                continue
            for weight in (_weight(lines, end, name) for name in each.operands):
                large = weight and weight.num_elements >= at_least
                if large and weight.num_elements in _sizes(each):
                    place = (module.source(each) or loop.source)[0]
                    found.append(f"{weight} by {each.opcode} at {place}")
    return found


def _writes_in_place(module: Module, instruction: Instruction) -> bool:
    """Whether what it makes is an array of a loop with a few numbers replaced."""
    opcodes = {each.opcode for each in module.within(instruction)}
    return "dynamic-update-slice" in opcodes


def _sizes(instruction: Instruction) -> set[int]:
    return {array.num_elements for array in instruction.arrays}


def _weight(lines: dict[str, Instruction], end: Instruction, name: str) -> Array | None:
    """The matrix that a name stands for in a loop, if every trip finds the same one."""
    each = lines[name]
    while each.opcode == "bitcast":
        each = lines[each.operands[0]]
    index = _place_in_state(lines, each)
    if index is None or index >= len(end.operands):
        return None
    (array,) = each.arrays
    matrix = sum(size > 1 for size in array.sizes) > 1
    same = _place_in_state(lines, lines[end.operands[index]]) == index
    return array if matrix and same else None


def _place_in_state(lines: dict[str, Instruction], each: Instruction) -> int | None:
    """Which of the arrays that a loop hands on it is, as a trip finds it."""
    if each.opcode != "get-tuple-element":
        return None
    if lines[each.operands[0]].opcode != "parameter":
        return None
    return int(each.attribute("index") or 0)


def collectives(module: Module) -> list[Collective]:
    """Exchanges between devices."""
    found = []
    for each, computation, around in visits(module):
        if matched := COLLECTIVES.match(each.opcode):
            types = {line.name: line for line in module.computations[computation]}
            given = [a for name in each.operands for a in types[name].arrays]
            found.append(Collective(matched.group(1), given, bool(around)))
    return found


def padded(module: Module, times: float = 4.0, at_least: int = 2**20) -> list[str]:
    """Arrays that take more memory than so many times what their numbers take.

    Args:
        module: Compiled for a TPU, whose memory is tiled.
        times: How often.
        at_least: Bytes below which it does not matter, padding counted in.
    """
    found = {}
    for each, _, around in visits(module):
        for array in each.arrays:
            whole = array.padding * array.num_bytes
            if array.padding > times and whole >= at_least:
                place = "in a loop" if around else "in the entry"
                source = (module.source(each) or ["?"])[0]
                found.setdefault(
                    f"{array} {array.padding:.0f} times, {whole / 1e6:.0f} MB, {place}",
                    f"{each.name} at {source}",
                )
    return [f"{array}: {source}" for array, source in found.items()]
