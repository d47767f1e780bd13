"""All that is to be measured on a GPU, in one command: `python -m benchmarks.gpu`.

Its parts, of which `--parts` chooses some: `gradients` in float32 against float64;
`precisions`, a training step under each of JAX's matrix precisions; `epochs`, how long
those of Penn Treebank's phases take; `speed` against PyTorch; `original`, the training
of the 22M AWD-LSTM-MoS, which needs `--data`. What was found is written after every
row, and a part that fails leaves the others alone. Nothing is needed beyond JAX, Flax,
optax, Orbax, PyTorch and rich.

    python -m benchmarks.gpu --data DIR
    python -m benchmarks.gpu --device cpu --tiny    # a rehearsal
"""

import argparse
import datetime
import json
import os
import platform
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from benchmarks import epochs, gradients
from benchmarks.pairs import compare
from benchmarks.presets import PRESETS, Preset
from benchmarks.results import RESULTS
from glrnn import data, experiment
from glrnn.files import write_text
from glrnn.table import print_table

Rows = Iterator[dict[str, Any]]

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "torch")
PTB = Path(__file__).parents[1] / "experiments" / "ptb.py"
# Words, and tokens of train and valid.
PTB_SIZES = 10_000, 929_590, 73_760
# What makes both sides' processes multiply in the same precision on an NVIDIA GPU. By
# itself PyTorch takes TF32 for its LSTM and float32 for all else, JAX TF32 for all.
SAME_PRECISION = {
    "tensorfloat32": {
        "JAX_DEFAULT_MATMUL_PRECISION": "tensorfloat32",
        "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1",
    },
    "float32": {
        "JAX_DEFAULT_MATMUL_PRECISION": "float32",
        "NVIDIA_TF32_OVERRIDE": "0",
    },
}
TINY = Preset(30, 4, 8, 2, 3, 3, 5)
TINY_SIZES = 30, 4_000, 300


def where() -> dict[str, Any]:
    """Date, devices and versions."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "date": datetime.datetime.now().isoformat(timespec="minutes"),
        "device": jax.devices()[0].device_kind,
        "torch device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def speed(command: argparse.Namespace) -> Rows:
    """Ratios to PyTorch, training first; none is begun once the time is up."""
    peers = ("torch, eager",) if command.eager else ("torch, eager", "torch, compiled")
    presets = {"tiny": TINY} if command.tiny else PRESETS
    started = time.perf_counter()
    for mode in ("train", "eval"):
        for name, preset in presets.items():
            if time.perf_counter() - started > command.seconds:
                print(f"no time for {name}, {mode}")
                continue
            # This project evaluates in float32, whatever it trains in.
            precision = command.precision if mode == "train" else "float32"
            with gradients.environment(SAME_PRECISION[precision]):
                found = compare(preset, mode, command.device, command.pairs, peers)
            ours, theirs = found["seconds"]
            yield {
                "preset": name,
                "mode": mode,
                "precision": precision,
                "glrnn, ms": 1e3 * ours,
                "PyTorch, ms": 1e3 * theirs,
            } | found


def gradient_rows(command: argparse.Namespace) -> Rows:
    """The check of gradients, on a network of medium size."""
    return gradients.check(TINY if command.tiny else PRESETS["medium"])


def precision_rows(command: argparse.Namespace) -> Rows:
    """The training step of Penn Treebank's network."""
    return gradients.step_times(TINY if command.tiny else PRESETS["ptb"])


def epoch_rows(command: argparse.Namespace) -> Rows:
    """The phases of `experiments/ptb.py`."""
    config = experiment.load(PTB)
    config = epochs.shrunk(config) if command.tiny else config
    return epochs.epoch_seconds(config, _corpus(command))


def original_rows(command: argparse.Namespace) -> Rows:
    """Training of the original AWD-LSTM-MoS."""
    if command.data is None and not command.tiny:
        print("no --data, so nothing is trained")
        return iter(())
    config = epochs.shrunk(epochs.ORIGINAL) if command.tiny else epochs.ORIGINAL
    return epochs.train(config, _corpus(command), command.minutes)


def _corpus(command: argparse.Namespace) -> data.Corpus:
    if command.data is not None:
        return data.load(command.data)
    return epochs.random_corpus(*(TINY_SIZES if command.tiny else PTB_SIZES))


PARTS: dict[str, Callable[[argparse.Namespace], Rows]] = {
    "gradients": gradient_rows,
    "precisions": precision_rows,
    "epochs": epoch_rows,
    "speed": speed,
    "original": original_rows,
}


def measure(command: argparse.Namespace, path: Path) -> list[str]:
    """Takes each part in turn, and writes the file again after every row.

    Returns:
        The parts that failed.
    """
    failed: list[str] = []
    results: dict[str, Any] = where() | {"failed": failed}
    for name, value in results.items():
        print(f"{name}: {value}")
    for part in command.parts:
        rows = results[part] = []
        started = time.perf_counter()
        print(f"\n{part}", flush=True)
        try:
            for row in PARTS[part](command):
                rows.append(row)
                write_text(path, json.dumps(results, indent=2) + "\n")
        except Exception:
            # Time on such a machine is rare: what else can be measured is measured.
            traceback.print_exc()
            failed.append(part)
        print_table([_shown(row) for row in rows])
        print(f"{time.perf_counter() - started:.0f} s", flush=True)
    write_text(path, json.dumps(results, indent=2) + "\n")
    return failed


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """What a table has room for: no lists, and small numbers in full."""

    def cell(value):
        small = isinstance(value, float) and abs(value) < 0.01
        return f"{value:.1e}" if small else value

    return {
        name: cell(value)
        for name, value in row.items()
        if not isinstance(value, list | dict)
    }


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu")
    add = parser.add_argument
    add("--device", choices=("gpu", "cpu"), default="gpu")
    add("--tiny", action="store_true", help="very small networks, to try it out")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    add("--data", help="a folder with the texts of Penn Treebank")
    add("--minutes", type=float, default=5, help="for training the original model")
    add("--pairs", type=int, default=3, help="turns of each side, for speed")
    add("--seconds", type=float, default=300, help="begin no comparison later")
    add("--precision", choices=SAME_PRECISION, default="tensorfloat32", help="of speed")
    add("--eager", action="store_true", help="leave out PyTorch's compiled form")
    add("--output", type=Path, default=RESULTS, help="a folder for the results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = parse(arguments)
    # Processes beside this one are to find memory too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if command.device == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"
        jax.config.update("jax_platforms", "cpu")
    if jax.default_backend() != command.device:
        raise SystemExit(f"JAX finds no {command.device}: {jax.devices()}")
    command.output.mkdir(parents=True, exist_ok=True)
    rehearsal = command.tiny or command.device == "cpu"
    name = "gpu-rehearsal.json" if rehearsal else "gpu.json"
    failed = measure(command, command.output / name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
