"""Everything to measure on a GPU, in eight minutes: `python -m benchmarks.gpu`.

It is made for a machine that is available for minutes. The most important parts come
first. Each part is a process of its own, which is killed with all its children when its
time is up, and every row is written as soon as it is measured.

    machine     the device and the library versions
    check       one update on the device and on the CPU, and twice for the same bits
    train       a training update against PyTorch's, in TF32
    bfloat16    the same, with matrix products of bfloat16 inputs on this side
    profile     the kernels of that update
    unroll      that update with the loop over time unrolled to different degrees
    eval        four windows of evaluation against PyTorch's
    dynamic     twenty windows of dynamic evaluation against PyTorch's
    wikitext-2  a training update of the larger network against PyTorch's
    epochs      the training loop and the bare step, phase by phase
    minutes     experiments/ptb_minutes.py, only if --parts names it

It needs nothing but JAX, Flax, optax, Orbax, PyTorch and rich.

    python -m benchmarks.gpu --data DIR
    python -m benchmarks.gpu --data DIR --parts minutes --minutes 6
    python -m benchmarks.gpu --device cpu --tiny    # a rehearsal
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace as Command
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts import DEFAULT_PARTS, PARTS
from benchmarks.results import RESULTS
from glrnn.console.table import print_table
from glrnn.ground.devices import PRECISIONS
from glrnn.ground.files import write_text

# The time that a part has to save its work after SIGTERM.
SECONDS_TO_SAVE = 20


def take_part(command: Command, name: str) -> None:
    """Runs one part in this process, and writes the results after every row."""
    rows: list[dict[str, Any]] = []
    try:
        for row in PARTS[name].rows(command):
            rows.append(row)
            _note(command, name, rows)
    finally:
        print_table([_shown(row) for row in rows])


def run_parts(command: Command, arguments: Sequence[str]) -> dict[str, str]:
    """Runs each part in a process of its own.

    Returns:
        The failures: what went wrong, by the name of the part.
    """
    failed: dict[str, str] = {}
    taken: dict[str, float] = {}
    started = time.monotonic()
    for name in command.parts:
        print(f"\n{name}", flush=True)
        left = command.seconds - (time.monotonic() - started)
        begun = time.monotonic()
        trouble = "no time was left"
        if left > 0:
            child = [sys.executable, "-m", "benchmarks.gpu", *arguments, "--here", name]
            trouble = supervise(child, min(left, PARTS[name].seconds))
        taken[name] = round(time.monotonic() - begun, 1)
        if trouble:
            failed[name] = trouble
            _note(command, "failed", failed)
        _note(command, "seconds", taken)
        print(f"{taken[name]} s{', failed: ' if trouble else ''}{trouble}", flush=True)
        if trouble and name == "machine":
            break
    return failed


def supervise(child: Sequence[str], seconds: float) -> str:
    """Runs a command, and kills it with all its children when its time is up.

    Returns:
        What went wrong; empty if nothing did.
    """
    process = subprocess.Popen(child, process_group=0)
    trouble = ""
    try:
        code = process.wait(seconds)
        trouble = f"exit status {code}" if code else ""
    except subprocess.TimeoutExpired:
        trouble = f"not done after {seconds:.0f} s"
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(SECONDS_TO_SAVE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return trouble


def _note(command: Command, name: str, value: Any) -> None:
    rehearsal = command.tiny or command.device == "cpu"
    path = command.output / ("gpu-rehearsal.json" if rehearsal else "gpu.json")
    results = json.loads(path.read_text()) if path.exists() else {}
    write_text(path, json.dumps(results | {name: value}, indent=2) + "\n")


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """The entries that fit into a table: no lists, and small numbers in full."""

    def entry(value):
        small = isinstance(value, float) and abs(value) < 0.01
        return f"{value:.1e}" if small else value

    return {
        name: entry(value)
        for name, value in row.items()
        if not isinstance(value, list | dict)
    }


def parse(arguments: Sequence[str] | None) -> Command:
    """The command line's options."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu")
    add = parser.add_argument
    add("--device", choices=("gpu", "cpu"), default="gpu")
    add("--tiny", action="store_true", help="rehearse with very small networks")
    add("--parts", nargs="+", choices=PARTS, default=DEFAULT_PARTS, metavar="PART")
    add("--data", help="a folder with the texts of Penn Treebank; random otherwise")
    add("--seconds", type=float, default=480, help="the time limit of all parts")
    add("--pairs", type=int, default=3, help="turns of each side")
    add("--precision", choices=PRECISIONS, default="tensorfloat32", help="in training")
    add("--minutes", type=float, default=12, help="training time of the part minutes")
    add(
        "--workdir",
        type=Path,
        default=Path("runs/ptb_minutes"),
        help="the folder of its run",
    )
    add("--output", type=Path, default=RESULTS, help="a folder for the results")
    add("--here", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = parse(arguments)
    command.output.mkdir(parents=True, exist_ok=True)
    if command.here:
        take_part(command, command.here)
        return
    # Processes side by side share the GPU's memory and their compiled programs.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    programs = Path(tempfile.gettempdir(), "glrnn-benchmarks", "programs")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(programs))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    # The check needs the CPU as well as the GPU.
    os.environ["JAX_PLATFORMS"] = "cpu" if command.device == "cpu" else ""
    failed = run_parts(command, arguments)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
