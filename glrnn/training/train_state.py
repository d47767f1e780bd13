"""The state of training: what a step reads and replaces."""

from functools import partial
from typing import Any

import jax
import numpy as np
import optax
from flax import struct
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from glrnn.ground.devices import spans_processes
from glrnn.model import Carry, Params


@struct.dataclass
class TrainState:
    """All that a step reads and replaces.

    Attributes:
        params: The raw parameters, never the averaged ones.
        opt_state: The state of the stage's optimizer; it holds the averages.
        carry: The layers' states, from window to window.
        count: The number of windows since the stage began, skipped ones included; the
            key of a step is made from it.
    """

    params: Params
    opt_state: optax.OptState
    carry: Carry
    count: Array


def replicate(state: TrainState, mesh: Mesh | None) -> TrainState:
    """The state on the devices of a mesh, as a step on them takes it.

    Everything is replicated but the carry, whose sequences are sharded.

    Args:
        state: The state of one device.
        mesh: The devices that share a batch; `None` leaves the state where it is.

    Example:
        >>> import jax.numpy as jnp
        >>> carry = (jnp.zeros((2, 3)),)
        >>> state = TrainState(jnp.ones(4), (), carry, jnp.zeros((), int))
        >>> mesh = jax.make_mesh((1,), ("batch",), (jax.sharding.AxisType.Auto,))
        >>> replicate(state, mesh).carry[0].sharding.mesh == mesh
        True
    """
    if mesh is None:
        return state
    sharded = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    replicated = NamedSharding(mesh, PartitionSpec())
    shardings: list[Any] = [replicated, replicated, sharded, replicated]
    if not spans_processes(mesh):
        return jax.device_put(state, TrainState(*shardings))
    parts = state.params, state.opt_state, state.carry, state.count
    put = [
        jax.tree.map(partial(_put, sharding), part)
        for part, sharding in zip(parts, shardings, strict=True)
    ]
    return TrainState(*put)


def _put(sharding: NamedSharding, leaf: Any) -> Any:
    """An array over the devices of several processes, all of which have the same.

    `jax.device_put` would compare it across processes, array by array.
    """
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return jax.device_put(leaf, sharding)
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)
