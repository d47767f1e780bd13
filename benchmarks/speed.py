"""This project and PyTorch in turn, in one run: `python -m benchmarks.speed`.

Each side is a process of its own, so that neither's threads or memory are the other's;
they are timed A B A B, the one waiting while the other works. The ratio is the median
over the pairs. On a training step, the floor is timed too: what its matrix products
alone would take.

    python -m benchmarks.speed --preset ptb --mode train
"""

import contextlib
import datetime
import json
import multiprocessing
import platform
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from benchmarks import floor
from benchmarks.presets import PRESETS, Preset
from glrnn.table import print_table

RESULTS = Path(__file__).parent / "results"
WARM_UP = 2
SECONDS_A_TURN = 1.0


@dataclass(frozen=True)
class Command:
    """Time this project and PyTorch, in turn.

    Attributes:
        preset: The size of the network.
        mode: A training step, or the static evaluation of a window.
        device: Where both sides work.
        pairs: Turns of each side.
        floor: Whether to time the matrix products alone, after a training step.
        output: A folder for the results.
    """

    preset: Annotated[str, tyro.conf.arg(constructor=Literal[*PRESETS])] = "ptb"
    mode: Literal["train", "eval"] = "train"
    device: Literal["cpu", "gpu"] = "cpu"
    pairs: int = 7
    floor: bool = True
    output: Path = RESULTS


def _work(pipe: Connection, side: str, preset: Preset, mode: str, device: str) -> None:
    """A side: takes as many steps as it is asked for, and says how long each took."""
    step, size = _make_step(side, preset, mode, device)
    for _ in range(WARM_UP):
        step()
    pipe.send(size)
    while count := pipe.recv():
        times = []
        for _ in range(count):
            started = time.perf_counter()
            step()
            times.append(time.perf_counter() - started)
        pipe.send(times)
    pipe.send(_peak_bytes(side, device))


def _make_step(side: str, preset: Preset, mode: str, device: str):
    if side == "glrnn":
        from benchmarks import ours

        return ours.make_step(preset, mode)
    from benchmarks import theirs

    where = "cuda" if device == "gpu" else device
    return theirs.make_step(preset, mode, side == "torch, compiled", where)


def _peak_bytes(side: str, device: str) -> int:
    """Of the process, or of the GPU's memory."""
    if device == "cpu":
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if side == "glrnn":
        import jax

        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
    import torch

    return torch.cuda.max_memory_allocated()


def _floor_work(pipe: Connection, side: str, preset: Preset, device: str) -> None:
    if side == "jax":
        make = floor.in_jax
    else:
        where = "cuda" if device == "gpu" else device

        def make(product: floor.Product):
            return floor.in_torch(product, where)

    pipe.send(list(floor.seconds(make, preset)))


@contextlib.contextmanager
def _process(work: Any, *arguments: Any) -> Iterator[Connection]:
    # Spawned: nothing of this process, and no library, is in its memory.
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=work, args=(its, *arguments), daemon=True)
    process.start()
    its.close()
    try:
        yield mine
    finally:
        process.terminate()
        process.join()


def _turn(pipe: Connection, count: int) -> float:
    time.sleep(0.3)  # for the other side's threads to fall asleep
    pipe.send(count)
    return statistics.median(pipe.recv())


def _peak(pipe: Connection) -> int:
    pipe.send(0)
    return pipe.recv()


def compare(preset: Preset, mode: str, device: str, pairs: int) -> dict[str, Any]:
    """Times both sides; PyTorch's is the faster of its eager and its compiled form."""
    arguments = preset, mode, device
    with contextlib.ExitStack() as stack:
        pipes = {}
        for side in ("glrnn", "torch, eager", "torch, compiled"):
            pipes[side] = stack.enter_context(_process(_work, side, *arguments))
            size = pipes[side].recv()
        first = {side: _turn(pipe, 1) for side, pipe in pipes.items()}
        counts = {
            side: max(1, round(SECONDS_A_TURN / seconds))
            for side, seconds in first.items()
        }
        first = {side: _turn(pipe, counts[side]) for side, pipe in pipes.items()}
        peer = min(first.keys() - {"glrnn"}, key=first.__getitem__)
        turns = [
            {side: _turn(pipes[side], counts[side]) for side in ("glrnn", peer)}
            for _ in range(pairs)
        ]
        peaks = {side: _peak(pipes[side]) for side in ("glrnn", peer)}
    seconds = {side: statistics.median(turn[side] for turn in turns) for side in peaks}
    return {
        "peer": peer,
        "first_turns": first,
        "turns": [[turn["glrnn"], turn[peer]] for turn in turns],
        "ratio": statistics.median(turn[peer] / turn["glrnn"] for turn in turns),
        "parameters": size,
        "seconds": [seconds["glrnn"], seconds[peer]],
        "tokens_per_second": [
            preset.tokens / seconds["glrnn"],
            preset.tokens / seconds[peer],
        ],
        "peak_bytes": [peaks["glrnn"], peaks[peer]],
        "memory_ratio": peaks["glrnn"] / peaks[peer],
    }


def time_floor(preset: Preset, device: str) -> list[dict[str, Any]]:
    """Seconds of each matrix product of a training step."""
    total = sum(product.operations for product in floor.products(preset))
    assert total == floor.expected_operations(preset)
    times = {}
    for side in ("jax", "torch"):
        with _process(_floor_work, side, preset, device) as pipe:
            times[side] = pipe.recv()
    return [
        {
            "product": product.name,
            "shape": f"[{product.m}, {product.k}] x [{product.k}, {product.n}]",
            "times": product.times,
            "GFLOP": product.operations / 1e9,
            "jax, ms": 1e3 * in_jax,
            "torch, ms": 1e3 * in_torch,
            "faster, ms": 1e3 * min(in_jax, in_torch),
        }
        for product, in_jax, in_torch in zip(
            floor.products(preset), times["jax"], times["torch"], strict=True
        )
    ]


def machine() -> dict[str, Any]:
    """Where and with what it was timed."""
    cpus = Path("/proc/cpuinfo")
    models = [
        line.split(":")[1].strip()
        for line in (cpus.read_text().splitlines() if cpus.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "date": datetime.date.today().isoformat(),
        "processor": models[0] if models else platform.processor(),
        "cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("glrnn", "jax", "jaxlib", "torch")},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.speed", args=arguments)
    preset = PRESETS[command.preset]
    result = machine() | {
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
    command.output.mkdir(parents=True, exist_ok=True)
    name = f"speed-{command.preset}-{command.mode}-{command.device}.json"
    (command.output / name).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
