"""The machine and the versions that something is computed with."""

import os
import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# The libraries whose versions may change what is learned, or how fast.
LIBRARIES = ("glrnn", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def machine() -> dict[str, str]:
    """The processor, the devices of JAX and the versions, each by its name.

    Example:
        >>> machine()["python"] == platform.python_version()
        True
    """
    import jax

    devices = jax.local_devices()
    return {
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "system": platform.platform(),
        "python": platform.python_version(),
        **versions(LIBRARIES),
    }


def processor() -> str:
    """The name of the processor, as Linux has it; elsewhere its kind."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those libraries that are installed.

    Example:
        >>> list(versions(["numpy", "no-such-library"]))
        ['numpy']
    """
    found = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
