"""A parser of the text of a compiled module.

The text of a compiled program (`jax.stages.Compiled.as_text`) is a list of
computations. An instruction names the computations that it calls: the body of a loop,
the branches of a conditional, the computation of a fused kernel.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# Keys of the attributes that name a called computation.
CALLS = ("calls", "to_apply", "body", "condition", "branch_computations")
BRANCHES = ("true_computation", "false_computation")

WIDTHS = {"pred": 1, "s4": 1, "u4": 1, "token": 0, "opaque": 0}


class Array(NamedTuple):
    """The type of an array in memory.

    Attributes:
        dtype: The type of its numbers as XLA writes it, `f32`.
        sizes: The sizes of its axes.
        order: Its axes from the fastest-varying one in memory; empty if the text does
            not say.
        tile: The last axes in memory are padded to multiples of these sizes.
    """

    dtype: str
    sizes: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()

    @property
    def num_elements(self) -> int:
        """The count of its numbers."""
        return math.prod(self.sizes)

    @property
    def num_bytes(self) -> int:
        """The memory of its numbers in bytes, without padding."""
        bits = re.search(r"\d+", self.dtype)
        width = max(1, int(bits.group()) // 8) if bits else 1
        return self.num_elements * WIDTHS.get(self.dtype, width)

    @property
    def row_major(self) -> bool:
        """Whether its last axis varies fastest in memory, and so on."""
        return self.order == tuple(sorted(self.order, reverse=True))

    @property
    def padding(self) -> float:
        """Its padded memory as a multiple of `num_bytes`."""
        in_memory = [self.sizes[axis] for axis in self.order]
        padded = 1.0
        tile = self.tile[::-1]
        # A tile of more axes than the array has covers an axis of 1.
        in_memory += [1] * (len(tile) - len(in_memory))
        for size, unit in zip(in_memory, tile, strict=False):
            padded *= -(-size // unit) * unit / size if size else 1
        return padded

    def __str__(self) -> str:
        """The type as XLA writes it, without tiles."""
        axes = ",".join(map(str, self.sizes))
        order = ",".join(map(str, self.order))
        return f"{self.dtype}[{axes}]{{{order}}}"


ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,<=]*)\](?:\{([\d,]*)(?::([^{}]*))?\})?")


def arrays(text: str) -> list[Array]:
    """All array types in a text.

    Example:
        >>> (tiled,) = arrays("u16[11,2]{1,0:T(8,128)(2,1)}")
        >>> tiled.order, tiled.tile, tiled.padding
        ((1, 0), (8, 128), 93.0909090909091)
    """
    found = []
    for dtype, sizes, order, rest in ARRAY.findall(text):
        tile = re.search(r"T\(([\d,]*)\)", rest)
        found.append(
            Array(
                dtype,
                _numbers(sizes.replace("<=", "")),
                _numbers(order),
                _numbers(tile.group(1)) if tile else (),
            )
        )
    return found


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: The name of the instruction.
        opcode: The kind of instruction: `fusion`, `while`.
        result: The type of its result, as text.
        operands: The names of its operands.
        rest: Its attributes, as text.
        root: Whether its result is that of the computation.
        argument: The text between its brackets.
    """

    name: str
    opcode: str
    result: str
    operands: tuple[str, ...]
    rest: str
    root: bool
    argument: str

    @property
    def arrays(self) -> list[Array]:
        """The arrays of its result."""
        return arrays(self.result)

    def attribute(self, key: str) -> str | None:
        """The value of an attribute such as `index` or `custom_call_target`."""
        found = re.search(rf'\b{key}=(?:"([^"]*)"|([^\s,{{}}]+))', self.rest)
        return found and (found.group(1) or found.group(2))

    def called(self, *keys: str) -> list[str]:
        """Names of the computations that attributes of it name; all if none is given.

        Example:
            >>> (line,) = read_instructions(
            ...     "%w = s32[] while(%a), body=%b, condition=%c"
            ... )
            >>> line.called("body"), line.called()
            (['b'], ['b', 'c'])
        """
        keys = keys or (*CALLS, *BRANCHES)
        pattern = rf"\b(?:{'|'.join(keys)})=(?:%([\w.\-]+)|\{{([^}}]*)\}})"
        names = []
        for one, several in re.findall(pattern, self.rest):
            names += [one] if one else re.findall(r"%([\w.\-]+)", several)
        return names


@dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
        computations: The instructions of each computation, by its name.
        entry: The name of the computation that a call executes.
        frames: The source lines of each stack frame, innermost first, as
            `folder/file:line function`.
    """

    computations: dict[str, list[Instruction]]
    entry: str
    frames: dict[str, list[str]] = field(default_factory=dict)

    def within(self, instruction: Instruction) -> Iterator[Instruction]:
        """Yields an instruction and those of the computations that it calls."""
        yield instruction
        for name in instruction.called():
            for inner in self.computations[name]:
                yield from self.within(inner)

    def trips(self, loop: Instruction) -> int | None:
        """The number of trips of a loop; `None` if it is unknown.

        If the compiler does not state it, it is the number that the condition of the
        loop compares a counter with, which `lax.scan` starts from 0.
        """
        if found := re.search(r'known_trip_count":\{"n":"(\d+)"', loop.rest):
            return int(found.group(1))
        condition = self.computations[loop.called("condition")[0]]
        inside = [each for line in condition for each in self.within(line)]
        compared = [each for each in inside if each.opcode == "compare"]
        numbers = [each for each in inside if each.opcode == "constant"]
        if [each.attribute("direction") for each in compared] != ["LT"]:
            return None
        return int(numbers[0].argument) if len(numbers) == 1 else None

    def source(self, instruction: Instruction) -> list[str]:
        """The source lines that an instruction comes from, innermost first; or none.

        A kernel without a source has that of its last operation.
        """
        *inner, last = reversed(list(self.within(instruction)))
        for each in (last, *inner):
            frame = each.attribute("stack_frame_id")
            if frame in self.frames:
                return self.frames[frame]
        return []


def read(text: str) -> Module:
    """Parses the text of a compiled program.

    Example:
        >>> module = read('''HloModule m
        ...
        ... ENTRY %main (x: f32[2]) -> f32[2] {
        ...   %x = f32[2]{0} parameter(0)
        ...   ROOT %y = f32[2]{0} negate(%x)
        ... }
        ... ''')
        >>> module.entry, [each.opcode for each in module.computations["main"]]
        ('main', ['parameter', 'negate'])
    """
    computations: dict[str, list[Instruction]] = {}
    entry = ""
    pattern = r"^(ENTRY )?%?([\w.\-]+) \(.*\{\n((?: .*\n)*)\}"
    for found in re.finditer(pattern, text, re.MULTILINE):
        is_entry, name, body = found.groups()
        computations[name] = read_instructions(body)
        entry = name if is_entry else entry
    if not entry:
        raise ValueError("this is not the text of a compiled module: it has no ENTRY")
    return Module(computations, entry, _frames(text))


def read_instructions(body: str) -> list[Instruction]:
    """The instructions of a computation, one a line.

    Example:
        >>> (line,) = read_instructions("ROOT %y = f32[2]{0} add(%a, %b), sharding={}")
        >>> line.name, line.opcode, line.operands, line.root
        ('y', 'add', ('a', 'b'), True)
    """
    return [_instruction(line) for line in body.splitlines() if " = " in line]


def _instruction(line: str) -> Instruction:
    line = re.sub(r"/\*.*?\*/", "", line.strip())
    target, value = line.split(" = ", 1)
    end = _closing(value) if value.startswith("(") else value.index(" ")
    result, call = value[:end], value[end:].strip()
    opening = call.index("(")
    closing = opening + _closing(call[opening:])
    argument = call[opening + 1 : closing - 1]
    return Instruction(
        name=target.split()[-1].lstrip("%"),
        opcode=call[:opening],
        result=result,
        operands=tuple(re.findall(r"%([\w.\-]+)", argument)),
        rest=call[closing:],
        root=target.startswith("ROOT "),
        argument=argument,
    )


def _closing(text: str) -> int:
    """The position after the bracket that closes the first one."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return place + 1
    raise ValueError(f"a bracket is never closed: {text[:60]}")


def _frames(text: str) -> dict[str, list[str]]:
    files, functions = _table(text, "FileNames"), _table(text, "FunctionNames")
    locations, frames = _table(text, "FileLocations"), _table(text, "StackFrames")

    def number(entry: str, key: str) -> str:
        found = re.search(rf"\b{key}=(\d+)", entry)
        return found.group(1) if found else ""

    def line(frame: str) -> str:
        at = locations[number(frames[frame], "file_location_id")]
        path = Path(files[number(at, "file_name_id")].strip('"'))
        file = "/".join(path.parts[-2:])
        function = functions[number(at, "function_name_id")].strip('"')
        return f"{file}:{number(at, 'line')} {function}"

    # Parents are printed one too high, 1 for none, and come before their children.
    found: dict[str, list[str]] = {"0": []}
    for frame in frames:
        parent = str(int(number(frames[frame], "parent_frame_id")) - 1)
        found[frame] = [line(frame), *found[parent]]
    return found


def _table(text: str, title: str) -> dict[str, str]:
    found = re.search(rf"^{title}\n((?:\d+ .*\n)*)", text, re.MULTILINE)
    rows = found.group(1).splitlines() if found else []
    return dict(row.split(" ", 1) for row in rows)
