"""Whether two computations of one update agree up to rounding.

The figures compared, their units, and the tolerance of each precision.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from glrnn.model import Params
from glrnn.training.step import Metrics
from glrnn.training.train_state import TrainState

Tree = Any
Update = tuple[TrainState, Metrics]


class Row(NamedTuple):
    """One figure that was compared.

    Attributes:
        name: The name of the figure: a loss, the norm of a group's gradient, the update
            of an array of parameters, or the state of a layer.
        found: The device's value; of an array, its L2 norm.
        expected: The CPU's value.
        difference: The relative difference; of arrays, the norm of their difference
            over the norm of the CPU's array, which sees a direction as well as a
            length.
        tolerance: The largest difference that rounding explains.
    """

    name: str
    found: float
    expected: float
    difference: float
    tolerance: float

    @property
    def excess(self) -> float:
        """The difference over its tolerance; above 1 the device is wrong."""
        return self.difference / self.tolerance


class Tolerance(NamedTuple):
    """The largest relative differences that rounding explains.

    Attributes:
        loss: The tolerance of the two losses.
        norm: The tolerance of the norms of a group's gradient and of its update.
        array: The tolerance of updates and states.
    """

    loss: float
    norm: float
    array: float


# The largest differences seen that were due to rounding:
#
#                     loss    norm    array
#     float32         1e-7    1e-7    8e-6    on an H200, experiments/ptb.py
#     tensorfloat32   1e-7    1e-5    6e-4
#     BF16_BF16_F32   1e-7    2e-4    4e-3
#     tensorfloat32   2e-5    3e-4    4e-4    small networks, tests/false_alarms.py,
#     BF16_BF16_F32   1e-4    1e-3    8e-3    all cells but NAS
#
# Errors are larger: a gradient scaled by 1.1 differs by 0.1 in its norm; a transposed
# window or masks drawn from another key differ by 0.1 to 1 in many arrays.
TOLERANCES = {
    "float32": Tolerance(1e-4, 1e-3, 2e-3),
    "tensorfloat32": Tolerance(1e-3, 5e-3, 1e-2),
    "BF16_BF16_F32": Tolerance(2e-3, 1e-2, 5e-2),
}
# A NAS cell rectifies a product: where rounding turns its sign, a gradient changes by
# as much in any precision, up to 0.02 of a norm in TF32 and 0.03 in BF16_BF16_F32 in
# small networks, up to 0.04 of an array in `experiments/ptb_nas.py`.
RECTIFIED = {"nas"}
RECTIFIED_TOLERANCES = {
    "float32": Tolerance(1e-4, 2e-3, 2e-2),
    "tensorfloat32": Tolerance(1e-3, 5e-2, 2e-1),
    "BF16_BF16_F32": Tolerance(2e-3, 7e-2, 3e-1),
}


def tolerance(precision: str | None, cells: Iterable[str]) -> Tolerance:
    """The tolerances for a network.

    Args:
        precision: The precision of its matrix products, one of `devices.PRECISIONS`;
            any other is taken for the least precise one.
        cells: The names of its cells.

    Example:
        >>> tolerance("float32", ["lstm"]).norm < tolerance("float32", ["nas"]).norm
        True
    """
    known = TOLERANCES if RECTIFIED.isdisjoint(cells) else RECTIFIED_TOLERANCES
    return known.get(precision or "", known["BF16_BF16_F32"])


# An update smaller than this fraction of its group's is compared in units of that
# fraction: where gradients cancel, only rounding errors are left.
SMALLEST_PART = 1e-2
EPSILON = float(np.finfo(np.float32).eps)


def compare_updates(
    params: Params,
    found: Update,
    expected: Update,
    groups: Sequence[str],
    tolerance: Tolerance,
) -> Iterator[Row]:
    """Compares the result of a device's step with the expected one.

    Args:
        params: The parameters before the step; like all that follows, in the host's
            memory.
        found: The result of the device's step.
        expected: The expected result.
        groups: The names of the groups whose gradient norms are in the metrics.
        tolerance: The largest differences that rounding explains.

    Yields:
        A row for each figure: the losses, each group's gradient norm, the update of
        every group and every array of the parameters, every layer's state.
    """
    (state, metrics), (true_state, true_metrics) = found, expected
    for name in ("nll", "loss"):
        yield _scalar_row(name, metrics[name], true_metrics[name], tolerance.loss)
    norms, true_norms = (
        jax.tree.leaves(each["norms"]) for each in (metrics, true_metrics)
    )
    for group, norm, true in zip(groups, norms, true_norms, strict=True):
        yield _scalar_row(f"gradient norm of {group}", norm, true, tolerance.norm)
    for group, before, after, true in zip(
        _groups(params).keys(),
        *(_groups(each).values() for each in (params, state.params, true_state.params)),
        strict=True,
    ):
        yield from _update_rows(group, before, after, true, tolerance)
    carries = zip(state.carry, true_state.carry, strict=True)
    for number, (layer, true) in enumerate(carries, 1):
        found_norm, norm, distance = _norms(_flat(layer), _flat(true))
        yield Row(
            f"state of layer {number}",
            found_norm,
            norm,
            _relative(distance, norm),
            tolerance.array,
        )


def _groups(params: Params) -> dict[str, Tree]:
    """The groups of the parameters, by their names in `group_names`."""
    layers = {f"layer {n}": layer for n, layer in enumerate(params.layers, 1)}
    return {"embedding": params.embedding, **layers, "head": params.head}


def _update_rows(
    group: str, before: Tree, after: Tree, true: Tree, tolerance: Tolerance
) -> Iterator[Row]:
    """The rows of a group's update and of the update of each of its arrays."""
    paths = [path for path, _ in jax.tree.leaves_with_path(before)]
    arrays = [jax.tree.leaves(tree) for tree in (before, after, true)]
    norms = [
        _norms(new - old, true - old) for old, new, true in zip(*arrays, strict=True)
    ]
    norm, true_norm = (math.hypot(*(each[side] for each in norms)) for side in (0, 1))
    if paths:
        yield _scalar_row(f"update of {group}", norm, true_norm, tolerance.norm)
    for path, old, (found, expected, distance) in zip(
        paths, arrays[0], norms, strict=True
    ):
        scale = max(expected, SMALLEST_PART * true_norm)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        # Parameters are rounded after an update, on both sides.
        rounding = _relative(EPSILON * float(np.linalg.norm(old)), scale)
        yield Row(
            f"update of {group}, {name}",
            found,
            expected,
            _relative(distance, scale),
            tolerance.array + rounding,
        )


def _norms(found: np.ndarray, expected: np.ndarray) -> tuple[float, float, float]:
    """The norms of both arrays and of their difference."""
    arrays = found, expected, found - expected
    norm, true, distance = (float(np.linalg.norm(array)) for array in arrays)
    return norm, true, distance


def _scalar_row(name: str, found: Any, expected: Any, tolerance: float) -> Row:
    found, expected = float(found), float(expected)
    difference = _relative(abs(found - expected), abs(expected))
    return Row(name, found, expected, difference, tolerance)


def _relative(distance: float, scale: float) -> float:
    """The relative difference: infinite if only the device's value is not finite."""
    if distance == 0 or not math.isfinite(scale):
        return 0.0  # a CPU that diverges too is reported by training
    return distance / scale if scale and math.isfinite(distance) else math.inf


def _flat(tree: Tree) -> np.ndarray:
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
