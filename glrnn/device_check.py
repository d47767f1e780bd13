"""Whether a device computes what the CPU does: one update, by both, compared.

A device can compute wrong numbers without a word: the one GPU on which this project was
first tried read each window transposed, and a network of 26 million parameters learned
nothing in 13 epochs. So the first update of a stage is taken twice before anything is
trained: by the very step that training will use, at the very sizes, and by the same
step traced for the host's CPU, in float32. Both get the same parameters, the same
window and the same key, so the same dropout masks.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from glrnn.beginning import first_state, update_rule
from glrnn.devices import PRECISIONS
from glrnn.epoch import first_window
from glrnn.job import Job
from glrnn.model import Params
from glrnn.optimizer import group_names
from glrnn.rules import set_rate_factor
from glrnn.run_folder import STAGES
from glrnn.step import Metrics, TrainState, place

Tree = Any


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


# With the operands of every product rounded as the precision says, on a CPU, the
# full-size networks of `experiments/` came to at most 0.0003 of a norm and 0.005 of an
# array (ptb_nas: 0.041) in BF16_BF16_F32, an eighth of that in TF32, and to 6e-6 in
# float32.
#
# A transposed window or masks of another key make a difference of about 1 in an array,
# a gradient scaled by 1.1 one of 0.1 in a norm.
TOLERANCES = {
    "float32": Tolerance(1e-4, 1e-3, 2e-3),
    "tensorfloat32": Tolerance(1e-3, 5e-3, 2e-2),
    "BF16_BF16_F32": Tolerance(2e-3, 2e-2, 1.5e-1),
}
# Of a precision that nobody stated, the most that a device takes for its default.
LOOSEST = TOLERANCES["BF16_BF16_F32"]

# An update below this part of its group's is compared in units of that part: what
# remains where gradients cancel is rounding error alone.
SMALLEST_PART = 1e-2

# The learning rate of the update that is compared. The rate in force is a part of the
# state, as is all else that is chosen here, so the program stays the same.
UPDATE_RATE = 1e3
EPSILON = float(np.finfo(np.float32).eps)


def compare(job: Job) -> list[Row]:
    """Takes the first update of a stage on the device and on the CPU.

    It starts from random parameters, whatever phase it is of: the program is the same.

    Args:
        job: Which stage of which run, on which devices, in which precision. Nothing is
            read or written on disk.

    Returns:
        A row for each thing compared: the losses, the gradient's norm by group, the
        update of every array of parameters, and the state of every layer.

    Raises:
        RuntimeError: JAX has no CPU backend.
    """
    with jax.default_device(jax.devices("cpu")[0]):
        init_key = jax.random.fold_in(job.phase_key, len(STAGES))
        params = jax.device_get(job.model.init(init_key))
        on_cpu = job._replace(mesh=None, precision=PRECISIONS["float32"])
        expected = _first_update(on_cpu, params)
    return list(_rows(job, params, _first_update(job, params), expected))


def _first_update(job: Job, params: Params) -> tuple[TrainState, Metrics]:
    """What a step makes of a stage's first window, in the host's memory."""
    optimizer, step = update_rule(job)
    state = first_state(job, optimizer, params)
    state = replace(state, opt_state=_telling(job, state.opt_state))
    state, metrics = step(place(state, job.mesh), first_window(job), job.stage_key())
    return jax.device_get((replace(state, opt_state=()), metrics))


def _telling(job: Job, opt_state: Tree) -> Tree:
    """A state of the optimizer from which an update tells of its gradient.

    An update as small as usual is lost in the rounding of the parameters, and the first
    one in units of the root mean square is the gradient's signs, which rounding flips.
    """
    factor = UPDATE_RATE / job.stage.learning_rate
    opt_state = set_rate_factor(opt_state, factor)
    squares = optax.tree.get(opt_state, "nu")
    if squares is None:
        return opt_state
    return optax.tree.set(opt_state, nu=jax.tree.map(jnp.ones_like, squares))


def _rows(
    job: Job,
    params: Params,
    found: tuple[TrainState, Metrics],
    expected: tuple[TrainState, Metrics],
) -> Iterator[Row]:
    tolerance = TOLERANCES.get(job.precision or "", LOOSEST)
    (state, metrics), (true_state, true_metrics) = found, expected
    for name in ("nll", "loss"):
        yield _of_numbers(name, metrics[name], true_metrics[name], tolerance.loss)
    groups = group_names(job.stage.max_norms, job.phase.num_layers)
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
