"""This project against PyTorch, timed in turn: `python -m benchmarks.speed`.

The ratio is the median over the pairs. After a training step, its floor is timed too:
its matrix products alone.

    python -m benchmarks.speed --preset ptb --mode train
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks import floor
from benchmarks.pairs import compare, time_floor
from benchmarks.presets import PRESETS
from benchmarks.results import RESULTS, write
from glrnn.console.table import print_table


@dataclass(frozen=True)
class Command:
    """Time this project and PyTorch, in turn.

    Attributes:
        preset: The size of the network.
        mode: A training step, a step of static or dynamic evaluation, or scoring of
            sentences.
        device: The device of both sides.
        pairs: The turns of each side.
        floor: Whether to time the matrix products of a training step alone.
        output: A folder for the results.
    """

    preset: Annotated[str, tyro.conf.arg(constructor=Literal[*PRESETS])] = "ptb"
    mode: Literal["train", "eval", "dynamic", "score"] = "train"
    device: Literal["cpu", "gpu"] = "cpu"
    pairs: int = 7
    floor: bool = True
    output: Path = RESULTS


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.speed", args=arguments)
    preset = PRESETS[command.preset]
    result: dict[str, Any] = {
        "preset": command.preset,
        "mode": command.mode,
        "device": command.device,
    }
    result |= compare(preset, command.mode, command.device, command.pairs)
    rows = [
        {
            "side": side,
            "ms a step": 1e3 * result["seconds"][i],
            "tokens/s": round(result["tokens_per_second"][i]),
            "peak MB": round(result["peak_bytes"][i] / 1e6),
        }
        for i, side in enumerate(("glrnn", result["peer"]))
    ]
    print_table(rows)
    print(
        f"\n{command.preset}, {command.mode}, {command.device}: "
        f"{result['ratio']:.2f} times the tokens per second, "
        f"{result['memory_ratio']:.2f} of the memory "
        f"({result['parameters']:,} parameters, {command.pairs} pairs)"
    )
    if command.mode == "train" and command.floor:
        products = time_floor(preset, command.device)
        print()
        print_table(products)
        lowest = sum(product["faster, ms"] for product in products) / 1e3
        result |= {
            "floor": products,
            "floor_seconds": lowest,
            "fraction_of_floor": lowest / result["seconds"][0],
        }
        print(
            f"\nfloor: {1e3 * lowest:.1f} ms for "
            f"{floor.expected_operations(preset) / 1e9:.1f} GFLOP; the step reaches "
            f"{result['fraction_of_floor']:.0%} of it"
        )
    name = f"speed-{command.preset}-{command.mode}-{command.device}"
    write(command.output, name, result)


if __name__ == "__main__":
    main()
