"""Requests to pause an epoch: one process decides, several tell each other."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from glrnn.ground.devices import own_columns, shard, spans_processes


class Requests:
    """Whether to pause before the next update.

    Several processes must stop before the same one, though they are asked at different
    times: each sends its answer along with an update, whose metrics have all of them.
    Metrics are read in order, and each with as many updates under way, so that all
    processes find the same at the same point. That costs no message of its own.

    Example:
        >>> requests = Requests(lambda: True, mesh=None)
        >>> requests.next() is None
        True
    """

    def __init__(self, pause: Callable[[], bool], mesh: Mesh | None) -> None:
        """Nothing was asked for yet.

        Args:
            pause: Whether this process asks for it.
            mesh: The devices that share a batch.
        """
        self._pause = pause
        self._answers: list[jax.Array] = []
        self._heard = False
        if mesh is not None and spans_processes(mesh):
            own = own_columns(mesh, mesh.size)
            size = own.stop - own.start
            self._answers = [
                shard(np.full(size, answer, np.int32), mesh, axis=0)
                for answer in (0, 1)
            ]

    def next(self) -> tuple[jax.Array, ...] | None:
        """What the next update's step is given beside its window; `None` to pause."""
        if not self._answers:
            return None if self._pause() else ()
        return None if self._heard else (self._answers[self._pause()],)

    def hear(self, metrics: Mapping[str, Any]) -> None:
        """Reads what the processes told each other in an update."""
        self._heard |= bool(metrics.get("told", 0))
