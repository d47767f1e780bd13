"""Two sides timed in turn, A B A B, in one run.

Each side is a process of its own, so that they share no threads or memory; one waits
while the other works.
"""

import contextlib
import multiprocessing
import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import floor
from benchmarks.presets import Preset

WARM_UP = 2
SECONDS_A_TURN = 3.0
SECONDS_TO_END = 10


def _work(pipe: Connection, side: str, preset: Preset, mode: str, device: str) -> None:
    """Runs one side: takes the requested number of steps and sends their times."""
    step, size = _make_step(side, preset, mode, device)
    for _ in range(WARM_UP):
        step()
    pipe.send(size)
    with contextlib.suppress(EOFError):  # a side that is no longer needed
        while count := pipe.recv():
            times = []
            for _ in range(count):
                started = time.perf_counter()
                step()
                times.append(time.perf_counter() - started)
            pipe.send(times)
        pipe.send(peak_bytes(side, device))


def _make_step(side: str, preset: Preset, mode: str, device: str):
    if side == "glrnn":
        from benchmarks import ours

        return ours.make_step(preset, mode)
    from benchmarks import theirs

    where = "cuda" if device == "gpu" else device
    return theirs.make_step(preset, mode, side == "torch, compiled", where)


def peak_bytes(side: str, device: str) -> int:
    """The peak memory of the process, or of the GPU."""
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
def process(work: Any, *arguments: Any) -> Iterator[Connection]:
    # A spawned process inherits no memory and no library from this one.
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    process = context.Process(target=work, args=(its, *arguments), daemon=True)
    process.start()
    its.close()
    try:
        yield mine
    finally:
        mine.close()
        process.join(SECONDS_TO_END)
        process.terminate()


def _turn(pipe: Connection, count: int) -> float:
    time.sleep(0.3)  # lets the other side's threads fall asleep
    pipe.send(count)
    return statistics.median(pipe.recv())


def _peak(pipe: Connection) -> int:
    pipe.send(0)
    return pipe.recv()


def compare(
    preset: Preset,
    mode: str,
    device: str,
    pairs: int,
    peers: Sequence[str] = ("torch, eager", "torch, compiled"),
    seconds_a_turn: float = SECONDS_A_TURN,
) -> dict[str, Any]:
    """Times both sides; PyTorch's side is the faster of its forms.

    Args:
        preset: The size of the network.
        mode: `train`, `eval` or `dynamic`.
        device: `cpu` or `gpu`.
        pairs: The turns of each side.
        peers: The forms of PyTorch's side.
        seconds_a_turn: The length of a turn, which has at least one step.

    Returns:
        The seconds of a step, tokens per second and peak memory, this project first,
        and the median over the pairs of their ratios.
    """
    arguments = preset, mode, device
    with contextlib.ExitStack() as stack:
        # All sides start and compile at the same time.
        pipes = {
            side: stack.enter_context(process(_work, side, *arguments))
            for side in ("glrnn", *peers)
        }
        (size,) = {pipe.recv() for pipe in pipes.values()}
        first = {side: _turn(pipe, 1) for side, pipe in pipes.items()}
        counts = {
            side: max(1, round(seconds_a_turn / seconds))
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
            preset.tokens_a_step(mode) / seconds["glrnn"],
            preset.tokens_a_step(mode) / seconds[peer],
        ],
        "peak_bytes": [peaks["glrnn"], peaks[peer]],
        "memory_ratio": peaks["glrnn"] / peaks[peer],
    }


def time_floor(preset: Preset, device: str) -> list[dict[str, Any]]:
    """The seconds of each matrix product of a training step."""
    total = sum(product.operations for product in floor.products(preset))
    assert total == floor.expected_operations(preset)
    times = {}
    for side in ("jax", "torch"):
        with process(_floor_work, side, preset, device) as pipe:
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
