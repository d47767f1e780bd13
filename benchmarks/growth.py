"""The growth of cost with the size of the network: `python -m benchmarks.growth`.

Measures the time and memory of a training step, here and in PyTorch (eager), as the
vocabulary, the hidden size, the number of layers or the number of softmaxes grows.
Writes the measurements to one file and draws them in another.

    python -m benchmarks.growth
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from benchmarks.pairs import compare
from benchmarks.presets import Preset
from benchmarks.results import RESULTS, write

START = Preset(10_000, 100, 200, 2, 3, 20, 35)
AXES = {
    "vocabulary": (5_000, 10_000, 20_000, 40_000),
    "hidden": (100, 200, 400, 800),
    "layers": (1, 2, 3, 4),
    "softmaxes": (1, 3, 8, 15),
}
TITLES = {
    "vocabulary": "words",
    "hidden": "hidden units",
    "layers": "layers",
    "softmaxes": "softmaxes",
}
SIDES = ("glrnn", "PyTorch, eager")
COLORS = ("tab:blue", "tab:orange")


@dataclass(frozen=True)
class Command:
    """Time growing networks, and draw the results.

    Attributes:
        device: The device of both sides.
        pairs: Turns of each side for each point.
        output: A folder for the results.
    """

    device: Literal["cpu", "gpu"] = "cpu"
    pairs: int = 5
    output: Path = RESULTS


def measure(axis: str, device: str, pairs: int) -> list[dict[str, Any]]:
    """The seconds and bytes of both sides at each size along one axis."""
    found = []
    for size in AXES[axis]:
        preset = START._replace(**{axis: size})
        result = compare(preset, "train", device, pairs, peers=("torch, eager",))
        kept = ("parameters", "seconds", "peak_bytes", "ratio", "memory_ratio")
        found.append({"size": size} | {name: result[name] for name in kept})
        print(f"{axis} {size:,}: {result['ratio']:.2f} times the speed")
    return found


def draw(results: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draws times above and memory below, one column an axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    rows = {"seconds": (1e3, "ms a step"), "peak_bytes": (1e-6, "peak MB")}
    axes = figure.subplots(len(rows), len(results), sharex="col", squeeze=False)
    for (quantity, (scale, label)), row in zip(rows.items(), axes, strict=True):
        for (axis, points), panel in zip(results.items(), row, strict=True):
            sizes = [point["size"] for point in points]
            for side, (name, color) in enumerate(zip(SIDES, COLORS, strict=True)):
                values = [scale * point[quantity][side] for point in points]
                panel.plot(sizes, values, "o-", color=color, label=name)
            panel.set_ylim(bottom=0)
            panel.set_xlim(left=0)
            panel.grid(alpha=0.3)
            panel.spines[["top", "right"]].set_visible(False)
            if panel in axes[-1]:
                panel.set_xlabel(TITLES[axis])
        row[0].set_ylabel(label)
    axes[0, 0].legend(frameon=False)
    figure.suptitle("A training step as the network grows")
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.growth", args=arguments)
    results = {axis: measure(axis, command.device, command.pairs) for axis in AXES}
    name = f"growth-{command.device}"
    write(command.output, name, {"start": START._asdict(), "axes": results})
    draw(results, command.output / f"{name}.png")


if __name__ == "__main__":
    main()
