"""Devices: a program's platform, the mesh that shares a batch, matmul precisions."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from glrnn.errors import UsageError, one_line, said_by_jax

# The names of these precisions in JAX, whose "bfloat16" means TF32 on an NVIDIA GPU.
PRECISIONS = {
    "float32": "float32",
    "tensorfloat32": "tensorfloat32",
    "bfloat16": "BF16_BF16_F32",
}


# JAX's switches for debugging that no command can work under, and their usual values.
# Under the others it works; `jax_disable_jit` makes it very slow.
SWITCHES = {
    "jax_debug_infs": False,
    "jax_no_execution": False,
    "jax_no_tracing": False,
    "jax_transfer_guard": "allow",
}


def platform() -> str:
    """The platform that the program being traced is for: `cpu`, `gpu` or `tpu`.

    It is that of `jax.default_device` if set, else JAX's default. A function traced
    under `jax.default_device("gpu")` is a GPU's program, whether one is present or not.

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


def require_devices() -> None:
    """Makes JAX open its devices.

    Raises:
        UsageError: JAX has no device of the platform that the environment names, cannot
            open its devices, or has a switch on that stops every program.

    Example:
        >>> require_devices()
    """
    for name, usual in SWITCHES.items():
        value = jax.config.values.get(name)
        if value not in (None, usual):
            raise UsageError(
                f"{name.upper()} is {value}; no command works under it: unset it"
            )
    try:
        jax.local_devices()
    except (AssertionError, RuntimeError) as error:
        raise UsageError(_without_devices(error)) from None


def _without_devices(error: BaseException) -> str:
    """Says which platform was named, and which there are."""
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        platforms = jax.config.values.get(name.lower())
        if not platforms:
            continue
        jax.config.update(name.lower(), "")
        try:
            found = {"cpu"} | {device.platform for device in jax.local_devices()}
        except (AssertionError, RuntimeError):
            continue
        finally:
            jax.config.update(name.lower(), platforms)
        reason = f" ({one_line(error)})" if str(error) else ""
        return (
            f"{name} is {platforms!r}, but JAX finds no such device here{reason}; "
            f"choose from: {', '.join(sorted(found))}"
        )
    return f"JAX cannot open its devices: {said_by_jax(error)}"


def share_batch(batch_size: int, num_devices: int = 0) -> Mesh | None:
    """The devices that share a batch equally, of all processes that are joined.

    Of several processes each takes part with as many devices.

    Args:
        batch_size: The number of sequences in the batch, or in a microbatch.
        num_devices: The number of devices; 0 for the most that divide the batch.

    Returns:
        A mesh of one axis, or `None` for one device.

    Raises:
        UsageError: There are fewer devices, or they do not divide the batch.

    Example:
        >>> share_batch(12, 1) is None
        True
    """
    if jax.process_count() > 1:
        return _share_among_processes(batch_size, num_devices)
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


def _share_among_processes(batch_size: int, num_devices: int) -> Mesh:
    """The devices of several processes, side by side, that share a batch equally."""
    chosen = _taking_part(jax.devices(), batch_size, num_devices)
    return Mesh(np.array(chosen), ("batch",), axis_types=(AxisType.Auto,))


def _taking_part(
    devices: Sequence[Any], batch_size: int, num_devices: int
) -> list[Any]:
    """As many devices of each process as share a batch equally, process by process."""
    found: dict[int, list[Any]] = {}
    for device in sorted(devices, key=lambda device: device.id):
        found.setdefault(device.process_index, []).append(device)
    count, there = len(found), min(map(len, found.values()))
    if batch_size % count:
        raise UsageError(
            f"{count} processes do not share {batch_size} sequences equally"
        )
    if num_devices % count:
        raise UsageError(
            f"{num_devices} devices are not shared equally by {count} processes"
        )
    each = num_devices // count
    if each > there:
        raise UsageError(
            f"there are {there} devices in each of {count} processes, not {each}"
        )
    if each and batch_size % num_devices:
        raise UsageError(
            f"{num_devices} devices do not share {batch_size} sequences equally"
        )
    each = each or max(n for n in range(1, there + 1) if batch_size % (n * count) == 0)
    return [device for rank in sorted(found) for device in found[rank][:each]]


def spans_processes(mesh: Mesh | None) -> bool:
    """Whether the devices of a mesh are those of several processes.

    Example:
        >>> spans_processes(None)
        False
    """
    return mesh is not None and mesh.is_multi_process


def own_columns(mesh: Mesh | None, batch_size: int) -> slice:
    """The columns of a batch that this process's devices have.

    Args:
        mesh: The devices that share it, from `share_batch`.
        batch_size: The number of sequences in the batch.

    Example:
        >>> own_columns(None, 4)
        slice(0, 4, None)
    """
    if mesh is None or not spans_processes(mesh):
        return slice(0, batch_size)
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    found = sharding.addressable_devices_indices_map((batch_size,))
    slices = [index[0] for index in found.values() if index is not None]
    return slice(min(s.start or 0 for s in slices), max(s.stop for s in slices))


def shard(array: np.ndarray, mesh: Mesh, axis: int) -> Any:
    """An array over the devices of several processes, of which each has its own part.

    Args:
        array: The part of this process.
        mesh: The devices.
        axis: The axis that they share.
    """
    spec = PartitionSpec(*[None] * axis, mesh.axis_names)
    return jax.make_array_from_process_local_data(NamedSharding(mesh, spec), array)


def meet(mesh: Mesh | None) -> None:
    """Connects the devices of several processes.

    They would connect in the first update, which one process may reach, its program
    compiled, a minute before another: too long for JAX.

    Args:
        mesh: The devices.

    Example:
        >>> meet(None)
    """
    if mesh is not None and spans_processes(mesh):
        own = own_columns(mesh, mesh.size)
        ones = shard(np.ones(own.stop - own.start, np.int32), mesh, axis=0)
        jax.block_until_ready(jax.jit(jax.numpy.sum)(ones))
