"""The kernels of one update in JAX's profiler, and the gaps between them."""

import re
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

WARM_UP = 3
TIMED = 20
TOP = 15


class Kernel(NamedTuple):
    """A kernel: its name, its start and its end in nanoseconds."""

    name: str
    start: float
    end: float


def profile(take: Callable[[], Any]) -> Iterator[dict[str, Any]]:
    """Profiles one call.

    Args:
        take: A step that returns when the device has finished it.

    Returns:
        A row of all kernels together, then one for each of the slowest names. A step
        takes longer under the profiler than `ms, not profiled`.
    """
    for _ in range(WARM_UP):
        take()
    times = []
    for _ in range(TIMED):
        started = time.perf_counter()
        take()
        times.append(time.perf_counter() - started)
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            take()
        (path,) = Path(folder).rglob("*.xplane.pb")
        seen = kernels(jax.profiler.ProfileData.from_file(str(path)))
    busy = busy_nanoseconds(seen)
    span = max(each.end for each in seen) - min(each.start for each in seen)
    yield {
        "kernel": "all",
        "count": len(seen),
        "ms": busy / 1e6,
        "span, ms": span / 1e6,
        "busy": busy / span,
        "ms, not profiled": 1e3 * statistics.median(times),
    }
    yield from by_name(seen)[:TOP]


def kernels(data: Any) -> list[Kernel]:
    """The kernels on the streams of a GPU, or XLA's operations on the CPU.

    Args:
        data: A `jax.profiler.ProfileData`.

    Raises:
        ValueError: the profile has neither; the message lists its contents.
    """
    planes = list(data.planes)
    on_streams = [
        event
        for plane in planes
        for line in plane.lines
        if plane.name.startswith("/device:") and line.name.startswith("Stream")
        for event in line.events
    ]
    found = on_streams or [
        event
        for plane in planes
        if plane.name == "/host:CPU"
        for line in plane.lines
        for event in line.events
        if any(name == "hlo_op" for name, _ in event.stats)
    ]
    if not found:
        lines = [
            f"{plane.name}: {line.name}" for plane in planes for line in plane.lines
        ]
        raise ValueError(f"no kernels in the profile, which has {lines}")
    return [
        Kernel(event.name, event.start_ns, event.start_ns + event.duration_ns)
        for event in found
    ]


def busy_nanoseconds(seen: Sequence[Kernel]) -> float:
    """The time during which at least one kernel ran.

    Example:
        >>> busy_nanoseconds([Kernel("a", 0, 4), Kernel("b", 1, 2), Kernel("c", 8, 9)])
        5.0
    """
    total, until = 0.0, float("-inf")
    for each in sorted(seen, key=lambda kernel: kernel.start):
        total += max(0.0, each.end - max(each.start, until))
        until = max(until, each.end)
    return total


def by_name(seen: Sequence[Kernel]) -> list[dict[str, Any]]:
    """The kernels grouped by name, the slowest first.

    The numbers that XLA appends to the copies in an unrolled loop are dropped.

    Example:
        >>> by_name([Kernel("f_1", 0, 3e6), Kernel("f_2", 4e6, 5e6)])
        [{'kernel': 'f', 'count': 2, 'ms': 4.0}]
    """
    times = defaultdict(list)
    for each in seen:
        name = re.sub(r"[._]\d+(?=$|[._])", "", each.name)[:60]
        times[name].append(each.end - each.start)
    rows = [
        {"kernel": name, "count": len(those), "ms": sum(those) / 1e6}
        for name, those in times.items()
    ]
    return sorted(rows, key=lambda row: -row["ms"])
