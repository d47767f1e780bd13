"""Results with a description of the machine that they were measured on."""

import datetime
import json
import multiprocessing
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from glrnn.ground.files import write_text

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("glrnn", "jax", "jaxlib", "torch", "libtpu")


def machine() -> dict[str, Any]:
    """The date, the processor and the library versions."""
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
        **{name: version(name) for name in LIBRARIES if _installed(name)},
    }


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Writes a result and the machine that it was measured on, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    record = machine() | result
    write_text(folder / f"{name}.json", json.dumps(record, indent=2) + "\n")
