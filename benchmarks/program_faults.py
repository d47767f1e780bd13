"""Faults that a compiled program should not have."""

import re

from benchmarks.compiled import loops, run_by, visits
from benchmarks.hlo import Array, Instruction, Module

# Instructions that compute nothing from their operands. A TPU prefetches an array with
# `copy-start`, or a piece of one with `slice-start`.
MADE_ELSEWHERE = set(
    """
    bitcast get-tuple-element tuple opt-barrier while conditional call
    copy-start copy-done slice-start slice-done
    """.split()
)


def odd_layouts(module: Module) -> list[str]:
    """The operands and results of library calls that are not row-major.

    A call of cuDNN or of a custom kernel assumes row-major arrays. A call of cuBLAS
    says which of its operands are transposed, so it may have either layout.
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
    """Scatters of floating-point sums, whose order and so whose result may vary.

    A scatter with unique indices is not one of them, nor is one that replaces a number,
    takes the larger number or adds integers.
    """
    found = []
    for outer, _, _ in visits(module):
        if run_by(outer):
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
    """The instructions that call the host or exchange data with it."""
    found = []
    for each, _, _ in visits(module):
        target = each.attribute("custom_call_target") or ""
        transfer = each.attribute("is_host_transfer") == "true"
        if transfer or each.opcode in ("infeed", "outfeed") or "callback" in target:
            found.append(target or each.opcode)
    return found


def remade_weights(module: Module, at_least: int) -> list[str]:
    """Weights that a loop over time copies, transposes or converts at every step.

    These operations on a whole weight belong before the loop.

    Args:
        module: The program.
        at_least: The size from which a matrix that such a loop carries unchanged is a
            weight: H times H numbers.
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
    """Whether an instruction only replaces a few numbers of an array of the loop."""
    opcodes = {each.opcode for each in module.within(instruction)}
    return "dynamic-update-slice" in opcodes


def _sizes(instruction: Instruction) -> set[int]:
    return {array.num_elements for array in instruction.arrays}


def _weight(lines: dict[str, Instruction], end: Instruction, name: str) -> Array | None:
    """The matrix with a name in a loop, if it is the same in every trip."""
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
    """The index of an instruction's array in the state that a loop carries, if any."""
    if each.opcode != "get-tuple-element":
        return None
    if lines[each.operands[0]].opcode != "parameter":
        return None
    return int(each.attribute("index") or 0)


def padded(module: Module, times: float = 4.0, at_least: int = 2**20) -> list[str]:
    """Arrays whose padded size exceeds a multiple of their own size.

    Args:
        module: A program for a TPU, whose memory is tiled.
        times: The multiple.
        at_least: Arrays of fewer bytes, padding included, do not count.
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
