"""Whether two computations of one update agree but for rounding.

What is compared, in which units, and how much rounding may explain, by precision.
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
    """One thing that was compared.

    Attributes:
        name: What it is: a loss, the norm of a group's gradient, the update of an
            array of parameters, the state of a layer.
        found: What the device computed; of an array, its L2 norm.
        expected: What the CPU computed.
        difference: Of the two, in units of what was expected; of arrays, the norm of
            their difference, so that it sees a direction as well as a length.
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
        loss: Of the two losses.
        norm: Of the norms of a group's gradient and of its update.
        array: Of updates and states.
    """

    loss: float
    norm: float
    array: float


# Of what rounding did, most of it:
#
#                     loss    norm    array
#     float32         1e-7    1e-7    8e-6    on an H200, experiments/ptb.py
#     tensorfloat32   1e-7    1e-5    6e-4
#     BF16_BF16_F32   1e-7    2e-4    4e-3
#     tensorfloat32   2e-5    3e-4    4e-4    small networks, tests/false_alarms.py,
#     BF16_BF16_F32   1e-4    1e-3    8e-3    all cells but NAS
#
# On the other side, a gradient scaled by 1.1 is 0.1 of a norm; a transposed window or
# masks of another key are 0.1 to 1 of many arrays.
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
    """What rounding explains in a network.

    Args:
        precision: Of its matrix products, one of `devices.PRECISIONS`; of any other,
            the most that a device takes for its default.
        cells: The names of its cells.

    Example:
        >>> tolerance("float32", ["lstm"]).norm < tolerance("float32", ["nas"]).norm
        True
    """
    known = TOLERANCES if RECTIFIED.isdisjoint(cells) else RECTIFIED_TOLERANCES
    return known.get(precision or "", known["BF16_BF16_F32"])


# An update below this part of its group's is compared in units of that part: what
# remains where gradients cancel is rounding error alone.
SMALLEST_PART = 1e-2
EPSILON = float(np.finfo(np.float32).eps)


def compare_updates(
    params: Params,
    found: Update,
    expected: Update,
    groups: Sequence[str],
    tolerance: Tolerance,
) -> Iterator[Row]:
    """Compares what a device made of a state and a window with what is expected.

    Args:
        params: Those before the update, in the host's memory like all that follows.
        found: What the device's step returned.
        expected: What the step should have returned.
        groups: The names of the gradient's norms.
        tolerance: What rounding explains.

    Yields:
        A row for each thing compared: the losses, the gradient's norm by group, the
        update of every part and every array of the parameters, every layer's state.
    """
    (state, metrics), (true_state, true_metrics) = found, expected
    for name in ("nll", "loss"):
        yield _of_numbers(name, metrics[name], true_metrics[name], tolerance.loss)
    norms, true_norms = (
        jax.tree.leaves(each["norms"]) for each in (metrics, true_metrics)
    )
    for group, norm, true in zip(groups, norms, true_norms, strict=True):
        yield _of_numbers(f"gradient norm of {group}", norm, true, tolerance.norm)
    for group, before, after, true in zip(
        _groups(params).keys(),
        *(_groups(each).values() for each in (params, state.params, true_state.params)),
        strict=True,
    ):
        yield from _of_updates(group, before, after, true, tolerance)
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
    """The parts of the parameters by the names that `group_names` has for them."""
    layers = {f"layer {n}": layer for n, layer in enumerate(params.layers, 1)}
    return {"embedding": params.embedding, **layers, "head": params.head}


def _of_updates(
    group: str, before: Tree, after: Tree, true: Tree, tolerance: Tolerance
) -> Iterator[Row]:
    """The update of a group, and that of each of its arrays."""
    paths = [path for path, _ in jax.tree.leaves_with_path(before)]
    arrays = [jax.tree.leaves(tree) for tree in (before, after, true)]
    norms = [
        _norms(new - old, true - old) for old, new, true in zip(*arrays, strict=True)
    ]
    norm, true_norm = (math.hypot(*(each[side] for each in norms)) for side in (0, 1))
    if paths:
        yield _of_numbers(f"update of {group}", norm, true_norm, tolerance.norm)
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
    """Of both, and of what lies between them."""
    arrays = found, expected, found - expected
    norm, true, distance = (float(np.linalg.norm(array)) for array in arrays)
    return norm, true, distance


def _of_numbers(name: str, found: Any, expected: Any, tolerance: float) -> Row:
    found, expected = float(found), float(expected)
    difference = _relative(abs(found - expected), abs(expected))
    return Row(name, found, expected, difference, tolerance)


def _relative(distance: float, scale: float) -> float:
    """0 if there is no difference; infinite if it, and it alone, is not finite."""
    if distance == 0 or not math.isfinite(scale):
        return 0.0  # where the CPU too leaves the finite numbers, training says so
    return distance / scale if scale and math.isfinite(distance) else math.inf


def _flat(tree: Tree) -> np.ndarray:
    return np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)])
