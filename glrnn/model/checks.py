"""What a network is given: refused where indexing or broadcasting would hide a mistake.

Values are looked at where they are known, which is outside of `jax.jit`; shapes always.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.ground.arrays import is_known
from glrnn.ground.dropout import Masks
from glrnn.ground.validation import LARGEST_FLOAT, SMALLEST_FLOAT, shown
from glrnn.heads.loss import check_known_ids
from glrnn.model.network import Network, mask_shapes, params_like, parts_of
from glrnn.model.params import Carry, Params, Shapes, check_shapes, shapes_of


def check(
    network: Network,
    params: Params,
    carry: Carry,
    window: Window,
    masks: Masks | None,
    temperature: Any,
) -> None:
    """Checks all that a network is applied to.

    Raises:
        UsageError: Something does not fit the network, or a number is none.
    """
    check_shapes(params, _param_shapes(network))
    _check_window(window, network.vocabulary_size)
    _check_temperature(temperature)
    _check_carry(network, carry)
    if masks is not None:
        _check_masks(network, masks, *window.inputs.shape)


@lru_cache(maxsize=64)
def _param_shapes(network: Network) -> Shapes:
    return shapes_of(params_like(network))


def _check_window(window: Window, num_words: int) -> None:
    """Refuses ids outside the vocabulary, which indexing would clamp, and the like."""
    check_known_ids(window.inputs, "window of inputs", num_words)
    check_known_ids(window.targets, "window of targets", num_words)
    shapes = jnp.shape(window.inputs), jnp.shape(window.targets)
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"the window's inputs have the shape {shapes[0]} and its targets "
            f"{shapes[1]}; they must have the same"
        )
    num_steps, length = len(window.targets), window.length
    if not jnp.issubdtype(jnp.result_type(length), jnp.integer):
        raise UsageError(f"the window's length is {length}; it must be an integer")
    if is_known(length) and not np.all((length >= 0) & (length <= num_steps)):
        raise UsageError(
            f"the window's length is {length}; it must be in 0 .. {num_steps}"
        )


def _check_carry(network: Network, carry: Carry) -> None:
    cells = parts_of(network).cells
    right = jax.eval_shape(lambda: tuple(cell.initial_state(1) for cell in cells))
    found = tuple(carry) if isinstance(carry, list) else carry
    if jax.tree.structure(found) != jax.tree.structure(right):
        raise UsageError(
            "the carry is not that of the network; begin with its initial_carry(B)"
        )


def _check_masks(
    network: Network, masks: Masks, num_steps: int, batch_size: int
) -> None:
    """Refuses masks of another vocabulary or batch, which would be broadcast."""
    num_layers = len(network.layers)
    if len(masks.layers) != num_layers:
        raise UsageError(
            f"the masks are those of {len(masks.layers)} layers; the network has "
            f"{num_layers}"
        )
    # Masks may be those of every step and sequence, whatever the config draws.
    kinds = (
        network._replace(masks_per_step=each, word_masks_per_sequence=each)
        for each in (False, True)
    )
    right = [shapes_of(mask_shapes(kind, batch_size, num_steps)) for kind in kinds]
    for path, shape in shapes_of(masks).items():
        shapes = [found[path] for found in right if path in found]
        if shape not in shapes:
            told = " or ".join(map(str, dict.fromkeys(shapes))) or "nothing"
            raise UsageError(
                f"masks{path} has the shape {shape}; that of the window is {told}"
            )


def _check_temperature(temperature: Any) -> None:
    if temperature is None or not is_known(temperature):
        return
    is_number = not isinstance(temperature, str) and np.ndim(temperature) == 0
    if not (is_number and SMALLEST_FLOAT <= float(temperature) <= LARGEST_FLOAT):
        raise UsageError(f"the temperature is {shown(temperature)}; it must be above 0")
