"""The parts of `python -m benchmarks.gpu`, and what each measures."""

import datetime
import os
import platform
import statistics
import time
from argparse import Namespace as Command
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks import epochs, kernels, minutes, ours
from benchmarks.pairs import compare
from benchmarks.presets import PRESETS, Preset
from glrnn import data
from glrnn.cells import cell
from glrnn.config import Config, experiment
from glrnn.ground.devices import PRECISIONS
from glrnn.storage.run_folder import StageId
from glrnn.training.context import temporary
from glrnn.training.execution import Execution

Rows = Iterator[dict[str, Any]]

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")
EXPERIMENTS = Path(__file__).parents[1] / "experiments"
# The vocabulary size, and the numbers of training and validation tokens.
PTB_SIZES = 10_000, 929_590, 73_760
TINY = Preset(30, 4, 8, 2, 3, 3, 5)
TINY_SIZES = 30, 4_000, 300

UNROLLED = (10, 5, 20, 35)
TIMED = 30

# Environment variables that set the precision of matrix products on an NVIDIA GPU.
# PyTorch's own default is TF32 for its LSTM and float32 for everything else.
PRECISION_VARIABLES = {
    "tensorfloat32": {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    "float32": {"NVIDIA_TF32_OVERRIDE": "0"},
    "bfloat16": {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
}


class Part(NamedTuple):
    """A part of the benchmark: the rows it measures, and its time limit in seconds."""

    rows: Callable[[Command], Rows]
    seconds: float


def machine(command: Command) -> Rows:
    """The date, the device and the library versions."""
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
    """One update of the last phase of `ptb.py` on both, in each precision.

    Raises:
        ArithmeticError: the device differs from the CPU, or from itself; raised after
            the last row.
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
    """The speed relative to PyTorch; below 1 this project is slower."""
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
    """The same update with the loop over time unrolled to different degrees.

    A program in the compilation cache is not compiled again.
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
    """The time of an epoch of each phase of `ptb.py`, the last phase first."""
    precision = PRECISIONS[command.precision]
    return epochs.epoch_seconds(_ptb(command), _corpus(command), precision)


def minute_rows(command: Command) -> Rows:
    """A run of `ptb_minutes.py`, with all stages shortened by the same factor."""
    config = experiment.load(EXPERIMENTS / "ptb_minutes.py")
    config = minutes.scaled(config, command.minutes)
    if command.tiny:
        # With one window length there is one program to compile.
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
    # This project always evaluates in float32.
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
    """Sets the precision in this process and in those that it starts from now on."""
    os.environ["JAX_DEFAULT_MATMUL_PRECISION"] = PRECISIONS[name]
    os.environ |= PRECISION_VARIABLES[name]
    jax.config.update("jax_default_matmul_precision", PRECISIONS[name])
