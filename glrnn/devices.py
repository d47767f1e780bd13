"""Which devices a program is for, which share a batch, how precisely they multiply."""

from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from glrnn.errors import UsageError

# As JAX calls them. By "bfloat16" it means TF32 on an NVIDIA GPU.
PRECISIONS = {
    "float32": "float32",
    "tensorfloat32": "tensorfloat32",
    "bfloat16": "BF16_BF16_F32",
}


def platform() -> str:
    """The platform that the program being traced is for: `cpu`, `gpu` or `tpu`.

    The one of `jax.default_device` if that is set, else JAX's default. What is traced
    under `jax.default_device("gpu")` is the program of a GPU, whether one is there or
    not.

    Example:
        >>> with jax.default_device("tpu"):
        ...     platform()
        'tpu'
    """
    device = jax.config.values["jax_default_device"]
    if device is None:
        return jax.default_backend()
    name = str(getattr(device, "platform", device))
    return "gpu" if name in ("cuda", "rocm") else name


def host_cpu() -> Any:
    """The host's CPU as a device, or `None` where JAX has no backend for it.

    Example:
        >>> host_cpu().platform
        'cpu'
    """
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def share_batch(batch_size: int, num_devices: int = 0) -> Mesh | None:
    """The devices of this process that take equal parts of a batch.

    Args:
        batch_size: Sequences that are there to be shared at a time.
        num_devices: How many devices; 0 for as many as there are and divide the batch.

    Returns:
        A mesh of one axis, or `None` if it is one device.

    Raises:
        UsageError: there are fewer devices, or they do not divide the batch.

    Example:
        >>> share_batch(12, 1) is None
        True
    """
    devices = jax.local_devices()
    if num_devices > len(devices):
        raise UsageError(f"there are {len(devices)} devices here, not {num_devices}")
    if num_devices and batch_size % num_devices:
        raise UsageError(
            f"{num_devices} devices do not share {batch_size} sequences equally"
        )
    count = num_devices or max(
        n for n in range(1, len(devices) + 1) if batch_size % n == 0
    )
    if count == 1:
        return None
    kinds = (AxisType.Auto,)
    return jax.make_mesh((count,), ("batch",), kinds, devices=devices[:count])
