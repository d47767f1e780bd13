"""Results with a description of the machine that they were measured on."""

import datetime
import json
import multiprocessing
import platform
from pathlib import Path
from typing import Any

from glrnn.ground.files import write_text
from glrnn.ground.machine import processor, versions

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("glrnn", "jax", "jaxlib", "torch", "libtpu")


def machine() -> dict[str, Any]:
    """The date, the processor and the library versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": processor(),
        "cores": multiprocessing.cpu_count(),
        "python": platform.python_version(),
        **versions(LIBRARIES),
    }


def write(folder: Path, name: str, result: dict[str, Any]) -> None:
    """Writes a result and the machine that it was measured on, as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    record = machine() | result
    write_text(folder / f"{name}.json", json.dumps(record, indent=2) + "\n")
