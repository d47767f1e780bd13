"""What there is to measure on a GPU, in eight minutes: `python -m benchmarks.gpu`.

Made for a machine that is lent for minutes. What matters most comes first; each part is
a process of its own, killed with all that it started when its time is up; and every row
is written as soon as it is found.

    machine     the device and the versions
    check       one update on the device and on the CPU, the same bits twice
    train       a training update against PyTorch's, in TF32
    bfloat16    the same, our products of bfloat16 inputs
    profile     the kernels of that update
    unroll      that update by time steps a turn of the loop over time
    eval        four windows of evaluation against PyTorch's
    dynamic     twenty windows of dynamic evaluation against PyTorch's
    wikitext-2  a training update of the larger network against PyTorch's
    epochs      the training loop and the bare step, phase by phase
    minutes     experiments/ptb_minutes.py, if asked for by --parts

Nothing is needed beyond JAX, Flax, optax, Orbax, PyTorch and rich.

    python -m benchmarks.gpu --data DIR
    python -m benchmarks.gpu --data DIR --parts minutes --minutes 6
    python -m benchmarks.gpu --device cpu --tiny    # a rehearsal
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import epochs, kernels, minutes, ours
from benchmarks.pairs import compare
from benchmarks.presets import PRESETS, Preset
from benchmarks.results import RESULTS
from glrnn import data
from glrnn.cells import cell
from glrnn.config import Config, experiment
from glrnn.console.table import print_table
from glrnn.devices import PRECISIONS
from glrnn.files import write_text
from glrnn.storage.run_folder import StageId
from glrnn.training.context import Execution, temporary

Command = argparse.Namespace
Rows = Iterator[dict[str, Any]]

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
# Words, and tokens of train and valid.
PTB_SIZES = 10_000, 929_590, 73_760
TINY = Preset(30, 4, 8, 2, 3, 3, 5)
TINY_SIZES = 30, 4_000, 300

UNROLLED = (10, 5, 20, 35)
TIMED = 30
SECONDS_TO_SAVE = 20

# By what each side's process multiplies on an NVIDIA GPU. PyTorch by itself takes TF32
# for its LSTM and float32 for all else.
PRECISION_VARIABLES = {
    "tensorfloat32": {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    "float32": {"NVIDIA_TF32_OVERRIDE": "0"},
    "bfloat16": {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
}


class Part(NamedTuple):
    """A part of the benchmark: the rows it finds, and the seconds it may take."""

    rows: Callable[[Command], Rows]
    seconds: float


def machine(command: Command) -> Rows:
    """The date, the device and the versions."""
    device = jax.devices()[0]
    yield {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "device": device.device_kind,
        "platform": jax.default_backend(),
        "python": platform.python_version(),
        **{name: _version(name) for name in LIBRARIES},
    }
    if jax.default_backend() != command.device:
        raise SystemExit(f"JAX finds no {command.device}: {jax.devices()}")


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def check(command: Command) -> Rows:
    """The last phase of `ptb.py`: one update by both, in each precision.

    Raises:
        ArithmeticError: at the end, if the device is wrong, or not the same twice.
    """
    from glrnn.training import device_check

    wrong = []
    config, corpus = _ptb(command), _corpus(command)
    stage = StageId(len(config.phases), "main")
    with temporary(config, corpus) as context:
        in_each = {
            name: context._replace(execution=Execution(precision=PRECISIONS[name]))
            for name in ("tensorfloat32", "float32", "bfloat16")
        }
        for name, in_one in in_each.items():
            found = device_check.compare(in_one, stage)
            worst = max(found, key=lambda row: row.excess)
            yield {
                "what": name,
                "agrees": worst.excess <= 1,
                "worst": worst.name,
                "difference": worst.difference,
                "tolerance": worst.tolerance,
                "rows": [row._asdict() for row in found],
            }
            if worst.excess > 1:
                wrong.append(name)
        same = epochs.same_bits(in_each["tensorfloat32"], stage)
        yield {"what": "the same bits twice", "agrees": same}
    if wrong or not same:
        raise ArithmeticError(f"wrong: {wrong}; the same bits twice: {same}")


def speed(name: str, mode: str, precision: str, command: Command) -> Rows:
    """Ratio to PyTorch; below 1 this project is slower."""
    _set_precision(precision)
    preset = TINY if command.tiny else PRESETS[name]
    found = compare(
        *(preset, mode, command.device, command.pairs, ("torch, eager",)),
        seconds_a_turn=0.1 if command.tiny else 1.0,
    )
    sides = zip(
        ("glrnn", "PyTorch"), found["seconds"], found["peak_bytes"], strict=True
    )
    yield {
        "preset": name,
        "mode": mode,
        "precision": precision,
        "times PyTorch": found["ratio"],
        **{
            f"{side}, {unit}": value
            for side, seconds, size in sides
            for unit, value in {"ms": 1e3 * seconds, "MB": round(size / 1e6)}.items()
        },
    } | found


def profile(command: Command) -> Rows:
    """The kernels of the update that `train` times."""
    _set_precision(command.precision)
    take, _ = ours.make_step(_preset(command), "train")
    return kernels.profile(take)


def unroll(command: Command) -> Rows:
    """The same update by how many time steps are one turn of the loop over time.

    A program that was compiled before is not compiled again.
    """
    _set_precision(command.precision)
    for steps in UNROLLED:
        cell.UNROLL[jax.default_backend()] = steps
        jax.clear_caches()
        started = time.perf_counter()
        take, _ = ours.make_step(_preset(command), "train")
        take()
        compiled = time.perf_counter()
        times = []
        for _ in range(TIMED):
            begun = time.perf_counter()
            take()
            times.append(time.perf_counter() - begun)
        yield {
            "unrolled": steps,
            "s to begin": compiled - started,
            "ms an update": 1e3 * statistics.median(times),
        }


def epoch_rows(command: Command) -> Rows:
    """The phases of `ptb.py`, the last first."""
    precision = PRECISIONS[command.precision]
    return epochs.epoch_seconds(_ptb(command), _corpus(command), precision)


def minute_rows(command: Command) -> Rows:
    """The training of `ptb_minutes.py`, all stages shortened alike."""
    config = experiment.load(EXPERIMENTS / "ptb_minutes.py")
    config = minutes.scaled(config, command.minutes)
    if command.tiny:
        # One length of windows, for one program to compile.
        config = replace(epochs.shrunk(config), fixed_windows=True)
    return minutes.train(
        *(config, _corpus(command), command.workdir, command.output),
        PRECISIONS[command.precision],
    )


PARTS = {
    "machine": Part(machine, 60),
    "check": Part(check, 150),
    "train": Part(partial(speed, "ptb", "train", "tensorfloat32"), 75),
    "bfloat16": Part(partial(speed, "ptb", "train", "bfloat16"), 60),
    "profile": Part(profile, 45),
    "unroll": Part(unroll, 90),
    # This project evaluates in float32, whatever it trains in.
    "eval": Part(partial(speed, "ptb", "eval", "float32"), 60),
    "dynamic": Part(partial(speed, "ptb", "dynamic", "float32"), 60),
    "wikitext-2": Part(partial(speed, "wikitext-2", "train", "tensorfloat32"), 75),
    "epochs": Part(epoch_rows, 100),
    "minutes": Part(minute_rows, 1200),
}
DEFAULT_PARTS = [name for name in PARTS if name != "minutes"]


def _ptb(command: Command) -> Config:
    config = experiment.load(EXPERIMENTS / "ptb.py")
    return epochs.shrunk(config) if command.tiny else config


def _preset(command: Command) -> Preset:
    return TINY if command.tiny else PRESETS["ptb"]


def _corpus(command: Command) -> data.Corpus:
    if command.data is not None:
        return data.load(command.data)
    return epochs.random_corpus(*(TINY_SIZES if command.tiny else PTB_SIZES))


def _set_precision(name: str) -> None:
    """Of this process's products, and of those that it starts from here on."""
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = PRECISIONS[name]
    os.environ |= PRECISION_VARIABLES[name]
    jax.config.update("jax_default_matmul_precision", PRECISIONS[name])


def take_part(command: Command, name: str) -> None:
    """Takes one part, in this process, and writes the results after every row."""
    rows: list[dict[str, Any]] = []
    try:
        for row in PARTS[name].rows(command):
            rows.append(row)
            _note(command, name, rows)
    finally:
        print_table([_shown(row) for row in rows])


def run_parts(command: Command, arguments: Sequence[str]) -> dict[str, str]:
    """Has each part taken by a process of its own.

    Returns:
        What became of the parts that failed, by name.
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
    """Runs a command, and ends it with all that it started when its time is up.

    Returns:
        What went wrong, if anything.
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
    """What a table has room for: no lists, and small numbers in full."""

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
    add("--tiny", action="store_true", help="very small networks, to try it out")
    add("--parts", nargs="+", choices=PARTS, default=DEFAULT_PARTS, metavar="PART")
    add("--data", help="a folder with the texts of Penn Treebank; random otherwise")
    add("--seconds", type=float, default=480, help="for all parts together")
    add("--pairs", type=int, default=3, help="turns of each side against PyTorch")
    add("--precision", choices=PRECISIONS, default="tensorfloat32", help="of training")
    add("--minutes", type=float, default=12, help="of training in the part minutes")
    add("--workdir", type=Path, default=Path("runs/ptb_minutes"), help="of that run")
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
    # Processes beside one another are to find memory; programs are compiled once.
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
