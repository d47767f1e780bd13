"""Programs for devices that are absent: `python -m benchmarks.programs`.

Compiles a training update and a window of static evaluation, of dynamic evaluation and
of its gradient statistics for H100s or a TPU, by XLA's own compilers, which run on any
CPU, and counts what the programs contain. It needs the extra `programs`.

    python -m benchmarks.programs --device h100 8xh100 v5e:2x2 --preset ptb wikitext-2
    python -m benchmarks.programs --device h100 --preset ptb --workload train --list
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import tyro

from benchmarks import compiled, hlo, program_faults
from benchmarks.absent import DEVICES, TPUS, absent_mesh
from benchmarks.presets import PRESETS
from benchmarks.results import RESULTS, write
from benchmarks.workloads import (
    EXPERIMENTS,
    NUM_WINDOWS,
    WORKLOADS,
    lowered,
    network_of,
)
from glrnn.cells import CELLS
from glrnn.console.table import print_table
from glrnn.errors import told_plainly
from glrnn.heads import HEADS

NETWORKS = (*PRESETS, *EXPERIMENTS, *CELLS, *HEADS)
# Devices that shard a batch. Only training has a program of its own on them.
SHARING = ("8xh100", "16xh100")

Device = Annotated[str, tyro.conf.arg(constructor=Literal[*DEVICES])]
Network = Annotated[str, tyro.conf.arg(constructor=Literal[*NETWORKS])]
Workload = Annotated[str, tyro.conf.arg(constructor=Literal[*WORKLOADS])]

# Faults that a program should not have.
FAULTS = "odd_layouts adding_scatters callbacks remade_weights padded".split()


@dataclass(frozen=True)
class Command:
    """Compile programs for absent devices, and count what they contain.

    Attributes:
        device: The devices to compile for: H100s of one or two hosts, or a TPU chip.
        preset: The network: a preset, an experiment with a large vocabulary, or a cell
            or a head in one layer of the size of `small`.
        workload: The programs to compile.
        list: Whether to print each launch of each loop, with its source line.
        output: A folder for the results.
    """

    device: tuple[Device, ...] = ("h100",)
    preset: tuple[Network, ...] = ("ptb",)
    workload: tuple[Workload, ...] = tuple(WORKLOADS)
    list: bool = False
    output: Path = RESULTS


class Program(NamedTuple):
    """A compiled program.

    Attributes:
        workload: The name of the computation.
        module: The parsed program.
        loops: Its loops.
        facts: The counts, as written to JSON. Only GPUs have `launches` (of an update,
            or of a window), `odd_layouts` and `adding_scatters`, which mean nothing on
            a TPU; only TPUs have `padded`.
    """

    workload: str
    module: hlo.Module
    loops: list[compiled.Loop]
    facts: dict[str, Any]


def compile_program(
    device: str,
    network: str,
    workload: str,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Program:
    """Compiles a program for a device and counts what it contains.

    Args:
        device: A name in `absent.DEVICES`.
        network: A name in `NETWORKS`.
        workload: A name in `WORKLOADS`.
        options: Compiler options of XLA.
    """
    mesh = absent_mesh(device)
    config, vocabulary_size = network_of(network, mesh.size)
    program = lowered(workload, config, vocabulary_size, mesh)
    started = time.perf_counter()
    executable = program.compile(compiler_options=dict(options))
    seconds = time.perf_counter() - started
    memory = executable.memory_analysis()
    module = hlo.read(executable.as_text())
    loops = compiled.loops(module)
    width = min(layer.hidden_size for layer in config.layers)
    facts = {
        "device": device,
        "network": network,
        "workload": workload,
        "loops": [
            {"trips": loop.trips, "depth": loop.depth, "over_time": loop.over_time}
            for loop in loops
        ],
        "callbacks": program_faults.host_callbacks(module),
        "remade_weights": program_faults.remade_weights(module, at_least=width**2),
        "collectives": [
            {
                "opcode": each.opcode,
                "numbers": each.num_elements,
                "in_loop": each.in_loop,
            }
            for each in compiled.collectives(module)
        ],
        "temporary_bytes": memory.temp_size_in_bytes,
        "argument_bytes": memory.argument_size_in_bytes,
        "seconds_to_compile": seconds,
    }
    if device in TPUS:
        facts["padded"] = program_faults.padded(module)
    else:
        for told_of, loop in zip(facts["loops"], loops, strict=True):
            told_of["launches"] = loop.launches
        facts |= {
            "launches": _launches(workload, module, loops),
            "odd_layouts": program_faults.odd_layouts(module),
            "adding_scatters": program_faults.adding_scatters(module),
        }
    return Program(workload, module, loops, facts)


def _launches(workload: str, module: hlo.Module, loops: list[compiled.Loop]) -> int:
    if workload == "train":
        return compiled.launches(module)
    (over_windows,) = (loop for loop in loops if loop.trips == NUM_WINDOWS)
    return over_windows.launches


def row(facts: dict[str, Any]) -> dict[str, Any]:
    """A row of the table; a loop is shown by its trips, on a GPU times its launches."""
    loops = [
        f"{loop['trips']}x{loop['launches']}" if "launches" in loop else loop["trips"]
        for loop in facts["loops"]
    ]
    exchanged = facts["collectives"]
    return {
        "device": facts["device"],
        "network": facts["network"],
        "workload": facts["workload"],
        "launches": facts.get("launches"),
        "loops": " ".join(f"{n}({each})" for each, n in Counter(loops).items()),
        **{
            fault.replace("_", " "): len(facts[fault]) if fault in facts else None
            for fault in FAULTS
        },
        "collectives": len(exchanged),
        "in loops": sum(each["in_loop"] for each in exchanged),
        "temporary MB": round(facts["temporary_bytes"] / 1e6),
        "arguments MB": round(facts["argument_bytes"] / 1e6),
        "s to compile": facts["seconds_to_compile"],
    }


def told(facts: dict[str, Any]) -> Iterator[str]:
    """A line for each fault of a program, with its count."""
    for fault in FAULTS:
        for each, times in Counter(facts.get(fault, ())).items():
            often = f", {times} times" if times > 1 else ""
            yield f"{facts['workload']}, {fault.replace('_', ' ')}: {each}{often}\n"


def listing(program: Program) -> Iterator[str]:
    """The launches of the entry and of each loop, with their source lines."""
    module = program.module
    titles = {"entry": module.entry}
    for loop in program.loops:
        trips = f"{loop.trips} time steps" if loop.over_time else f"{loop.trips} trips"
        title = ", ".join([loop.instruction.name, trips, *loop.source[:1]])
        titles[title] = loop.instruction.called("body")[0]
    for title, name in titles.items():
        launched = [
            each for each in module.computations[name] if compiled.is_launch(each)
        ]
        kinds = Counter(each.opcode for each in launched)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        yield f"\n{title}: {len(launched)} launches ({counts})"
        for each in launched:
            made = ", ".join(map(str, each.arrays[:3]))
            line = "".join(module.source(each)[:1])
            yield (
                f"  {each.name:40} {made:40} {line:30} "
                f"{each.attribute('op_name') or ''}"
            )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.programs", args=arguments)
    with told_plainly():
        _compile(command)


def _compile(command: Command) -> None:
    for device in command.device:
        for network in command.preset:
            found = []
            for workload in command.workload:
                if workload != "train" and device in SHARING:
                    continue
                program = compile_program(device, network, workload)
                found.append(program.facts)
                if command.list:
                    print(f"{device}, {network}, {workload}")
                    print("\n".join(listing(program)), end="\n\n")
            print_table([row(facts) for facts in found])
            for facts in found:
                print("".join(told(facts)), end="")
            print(flush=True)
            name = f"programs-{network}-{device.replace(':', '-')}"
            write(command.output, name, {"programs": found})


if __name__ == "__main__":
    main()
