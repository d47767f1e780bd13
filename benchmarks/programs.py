"""The programs of devices that are not there: `python -m benchmarks.programs`.

A training update and a window of evaluation, of dynamic evaluation and of the gradient
statistics that it needs, compiled for H100s or a TPU by XLA's own compilers, which run
on any CPU, and what was compiled, counted. It takes the extra `programs`.

    python -m benchmarks.programs --device h100 --preset ptb
    python -m benchmarks.programs --device h100 --preset ptb --workload train --list
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks import compiled, hlo
from benchmarks.absent import DEVICES, absent_mesh, platform_of
from benchmarks.presets import PRESETS, make_config
from benchmarks.results import RESULTS, write
from benchmarks.workloads import NUM_WINDOWS, WORKLOADS, lowered
from glrnn.cells import CELLS
from glrnn.config import Config, Layer
from glrnn.heads import HEADS
from glrnn.table import print_table

# At the size of the preset `small`, where the preset is a cell or a head by name.
SMALL = PRESETS["small"]
NETWORKS = (*PRESETS, *CELLS, *HEADS)
# A batch that 8 and 16 devices share equally.
SHARED_BATCH = 16

Device = Annotated[str, tyro.conf.arg(constructor=Literal[*DEVICES])]
Network = Annotated[str, tyro.conf.arg(constructor=Literal[*NETWORKS])]
Workload = Annotated[str, tyro.conf.arg(constructor=Literal[*WORKLOADS])]


@dataclass(frozen=True)
class Command:
    """Compile for devices that are not there, and count.

    Attributes:
        device: What to compile for: H100s of one host or of two, or a chip of a TPU.
        preset: The size of the network; or the name of a cell or head, at the size of
            `small`.
        workload: What to compile.
        list: Whether to tell what each loop launches, and where in the source that is.
        output: A folder for the results.
    """

    device: tuple[Device, ...] = DEVICES
    preset: tuple[Network, ...] = NETWORKS
    workload: tuple[Workload, ...] = tuple(WORKLOADS)
    list: bool = False
    output: Path = RESULTS


class Program:
    """A program, compiled.

    Attributes:
        device: What for.
        workload: What it computes.
        module: Its text, read.
        memory: As XLA gives it, of each device.
        seconds: To compile.
    """

    def __init__(self, device: str, network: str, workload: str):
        mesh = absent_mesh(device)
        config, vocabulary_size = network_of(network, mesh.size)
        program = lowered(workload, config, vocabulary_size, mesh)
        started = time.perf_counter()
        executable = program.compile()
        self.seconds = time.perf_counter() - started
        self.device, self.network, self.workload = device, network, workload
        self.on_gpu = platform_of(mesh) == "gpu"
        self.memory = executable.memory_analysis()
        self.module = hlo.read(executable.as_text())
        self.loops = compiled.loops(self.module)

    @property
    def launches(self) -> int:
        """Of an update, or of a window."""
        if self.workload == "train":
            return compiled.launches(self.module)
        (windows,) = (loop for loop in self.loops if loop.trips == NUM_WINDOWS)
        return windows.launches

    def facts(self) -> dict[str, Any]:
        """All that is counted, as JSON has it."""
        module = self.module
        found: dict[str, Any] = {
            "device": self.device,
            "network": self.network,
            "workload": self.workload,
            "loops": [
                {"trips": loop.trips, "launches": loop.launches, "depth": loop.depth}
                for loop in self.loops
            ],
            "callbacks": compiled.host_callbacks(module),
            "weight_copies": compiled.weight_copies(module),
            "collectives": [
                {
                    "opcode": each.opcode,
                    "arrays": list(map(str, each.arrays)),
                    "in_loop": each.in_loop,
                }
                for each in compiled.collectives(module)
            ],
            "temporary_bytes": self.memory.temp_size_in_bytes,
            "argument_bytes": self.memory.argument_size_in_bytes,
            "seconds_to_compile": self.seconds,
        }
        if self.on_gpu:
            found |= {
                "launches": self.launches,
                "odd_layouts": compiled.odd_layouts(module),
                "adding_scatters": compiled.adding_scatters(module),
            }
        else:
            found["padded"] = compiled.padded(module)
        return found


def network_of(name: str, num_devices: int = 1) -> tuple[Config, int]:
    """The settings of a preset, a cell or a head, and the size of its vocabulary."""
    preset = PRESETS.get(name, SMALL)
    if num_devices > 1:
        preset = preset._replace(batch=SHARED_BATCH)
    config = make_config(preset)
    if name in CELLS:
        layers = tuple(replace(layer, cell=name) for layer in config.layers)
        config = replace(config, layers=layers)
    if name in HEADS:
        sizes = preset.hidden, preset.hidden
        if name == "softmax":
            sizes = preset.hidden, preset.embedding
        layers = tuple(Layer("lstm", size) for size in sizes)
        softmaxes = 5 if name == "mixture" else 1
        config = replace(config, head=name, layers=layers, num_softmaxes=softmaxes)
    return config, preset.vocabulary


def row(facts: dict[str, Any]) -> dict[str, Any]:
    """A row of the table."""
    loops = [f"{loop['trips']}x{loop['launches']}" for loop in facts["loops"]]
    exchanged = facts["collectives"]
    return {
        "device": facts["device"],
        "network": facts["network"],
        "workload": facts["workload"],
        "launches": facts.get("launches"),
        "loops": " ".join(f"{n}({each})" for each, n in Counter(loops).items()),
        "odd layouts": _count(facts.get("odd_layouts")),
        "adding scatters": _count(facts.get("adding_scatters")),
        "callbacks": _count(facts["callbacks"]),
        "weights copied": _count(facts["weight_copies"]),
        "padded": _count(facts.get("padded")),
        "collectives": len(exchanged),
        "in loops": sum(each["in_loop"] for each in exchanged),
        "temporary MB": round(facts["temporary_bytes"] / 2**20),
        "arguments MB": round(facts["argument_bytes"] / 2**20),
        "s to compile": facts["seconds_to_compile"],
    }


def _count(found: list[Any] | None) -> int | None:
    return None if found is None else len(found)


def listed(program: Program) -> Iterator[str]:
    """What the entry and each loop launch, and where in the source that is."""
    module = program.module
    names = {"entry": module.entry}
    for loop in program.loops:
        place = f"loop of {loop.trips} at {_place(loop.source)}"
        if loop.over_time:
            place += ", over time"
        names[f"{place} ({loop.instruction.name})"] = loop.instruction.called("body")[0]
    for title, name in names.items():
        launched = [
            each for each in module.computations[name] if compiled.is_launch(each)
        ]
        kinds = Counter(each.opcode for each in launched)
        told = ", ".join(f"{count} {opcode}" for opcode, count in kinds.most_common())
        yield f"\n{title}: {len(launched)} launches itself ({told})"
        for each in launched:
            what = each.attribute("op_name") or ""
            made = ", ".join(map(str, each.arrays[:3]))
            yield f"  {each.name:40} {made:40} {_place(module.source(each)):28} {what}"


def _place(source: list[str]) -> str:
    """The innermost line of the package, without the folder it is in."""
    ours = [line for line in source if "/glrnn/" in line] or source[:1]
    return ours[0].rsplit("/glrnn/")[-1] if ours else "?"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.programs", args=arguments)
    for device in command.device:
        for network in command.preset:
            found = []
            for workload in command.workload:
                program = Program(device, network, workload)
                found.append(program.facts())
                if command.list:
                    print(f"{device}, {network}, {workload}")
                    print("\n".join(listed(program)))
            print_table([row(facts) for facts in found])
            for facts in found:
                for kind in ("odd_layouts", "adding_scatters", "callbacks"):
                    for each in facts.get(kind, ()):
                        print(f"{facts['workload']}: {kind}: {each}")
                for kind in ("weight_copies", "padded"):
                    for each in facts.get(kind, ()):
                        print(f"{facts['workload']}: {kind}: {each}")
            name = f"programs-{network}-{device.replace(':', '-')}"
            write(command.output, name, {"programs": found})


if __name__ == "__main__":
    main()
