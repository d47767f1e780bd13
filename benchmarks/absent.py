"""Devices to compile for that this machine does not have.

XLA's compilers for NVIDIA GPUs and for TPUs run on any CPU and make the very program
that the device would run: its kernels, layouts, loops, memory and collectives. Only its
time and its results need the device. The extra `programs` installs them.
"""

import os
from importlib.util import find_spec
from typing import Any

# This must come before JAX looks for devices: it uses none, asks no server what TPU
# this machine is, and lets several processes compile for a TPU at a time.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from glrnn.errors import UsageError

# The properties of an H100 (SXM, 80 GB) in the form that XLA reads.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
runtime_version { major: 12 minor: 9 patch: 0 }
dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 84929347584
  memory_bandwidth: 3352320000000
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
"""

# Partitions x hosts x GPUs of a host.
GPUS = {"h100": "1x1x1", "8xh100": "1x1x8", "16xh100": "1x2x8"}
# Programs are compiled for one chip of each slice.
TPUS = ("v5e:2x2", "v6e:2x2")
DEVICES = (*GPUS, *TPUS)


def missing(device: str) -> str | None:
    """The module that is needed to compile for a device, if it is not installed.

    Example:
        >>> missing("h100") in ("jax_cuda12_plugin", None)
        True
    """
    module = "jax_cuda12_plugin" if device in GPUS else "libtpu"
    return module if find_spec(module) is None else None


def platform_of(mesh: Mesh) -> Any:
    """The value of `jax.default_device` while a program for a mesh is traced."""
    name = mesh.devices.flat[0].platform
    return "gpu" if name == "cuda" else name


def absent_mesh(device: str) -> Mesh:
    """The devices with a name in `DEVICES`, as a mesh with one axis `batch`.

    Raises:
        UsageError: the name is unknown, or its compiler is not installed.
    """
    if device not in DEVICES:
        choices = ", ".join(DEVICES)
        raise UsageError(f"unknown device {device!r}; choose from: {choices}")
    if module := missing(device):
        raise UsageError(
            f"compiling for {device!r} takes {module}; install the extra 'programs'"
        )
    if device in GPUS:
        topology = topologies.get_topology_desc(
            device, "cuda", target_config=H100, topology=GPUS[device]
        )
        devices = topology.devices
    else:
        devices = topologies.get_topology_desc(device, "tpu").devices[:1]
    return Mesh(np.array(devices), ("batch",), axis_types=(AxisType.Auto,))


def on_devices(mesh: Mesh, tree: Any, *axes: Any) -> Any:
    """The shapes of a tree with a sharding: split along mesh axes, or replicated.

    Args:
        mesh: From `absent_mesh`.
        tree: Arrays or `jax.ShapeDtypeStruct`s.
        axes: The arguments of a `PartitionSpec`; none replicates the arrays.
    """
    sharding = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
    )
