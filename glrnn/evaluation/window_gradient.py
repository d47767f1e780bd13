"""The gradient of a window's loss, of a model of whatever dtypes.

What gradient statistics and dynamic evaluation share: the windows of a text in chunks,
one compiled loop for each, and the leaves of a tree that can be learned.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.evaluation.perplexity import LanguageModel, loss_and_carry
from glrnn.ground.arrays import is_inexact

# The number of windows in one call of a compiled loop; the last call has the rest.
CHUNK = 100


def copy(tree: Any) -> Any:
    """Arrays of their own, to be donated."""
    return jax.tree.map(jnp.array, tree)


def chunks(stacks: Iterable[Window]) -> Iterator[Window]:
    """The windows of some stacks, at most `CHUNK` at a time."""
    for stack in stacks:
        for start in range(0, len(stack.inputs), CHUNK):
            yield Window(*(np.asarray(each)[start : start + CHUNK] for each in stack))


def num_tokens(chunk: Window) -> int:
    """The number of tokens in some windows."""
    return int(np.sum(chunk.length)) * chunk.inputs.shape[2]


def map_learned(update: Callable[..., Any], params: Any, *others: Any) -> Any:
    """Maps a function over trees like `params`, whose other leaves stay as they are."""

    def map_leaf(param, *rest):
        return update(param, *rest) if is_inexact(param) else param

    return jax.tree.map(map_leaf, params, *others)


def learned_leaves(params: Any) -> list[Any]:
    """The leaves that can be learned."""
    return [leaf for leaf in jax.tree.leaves(params) if is_inexact(leaf)]


def window_gradient(model: LanguageModel, trained: Any) -> Any:
    """`(params, carry, window) -> ((nll, carry), gradient of nll)`.

    The model is applied to `params` in the dtypes of `trained`. The gradient has `None`
    for leaves that cannot be learned.
    """
    leaves, structure = jax.tree.flatten(trained)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    dtypes = [leaf.dtype for leaf in learned_leaves(leaves)]

    def loss(learned: Any, carry: Any, window: Window) -> tuple[Array, Any]:
        each = iter(
            leaf if _is_narrow(dtype) else leaf.astype(dtype)
            for leaf, dtype in zip(learned, dtypes, strict=True)
        )
        inside = [next(each) if is_inexact(leaf) else leaf for leaf in leaves]
        return loss_and_carry(model, structure.unflatten(inside), carry, window)

    def gradient(params: Any, carry: Any, window: Window) -> tuple[Any, Any]:
        learned = [
            # Rounded out here, for in there the gradient would be rounded too.
            leaf.astype(dtype).astype(leaf.dtype) if _is_narrow(dtype) else leaf
            for leaf, dtype in zip(learned_leaves(params), dtypes, strict=True)
        ]
        value, grads = jax.value_and_grad(loss, has_aux=True)(learned, carry, window)
        _check_carry(carry, value[1], dtypes)
        each = iter(grads)
        everywhere = [next(each) if is_inexact(leaf) else None for leaf in leaves]
        return value, structure.unflatten(everywhere)

    return gradient


def _is_narrow(dtype: Any) -> bool:
    """Whether gradients may not fit into a dtype; bfloat16 has the range of float32."""
    return jnp.finfo(dtype).bits < 32 and dtype != jnp.bfloat16


def _check_carry(before: Any, after: Any, dtypes: list[Any]) -> None:
    narrow = [dtype for dtype in dtypes if _is_narrow(dtype)]
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=False)
    for old, new in pairs:
        was_half = is_inexact(old) and jnp.finfo(old.dtype).bits < 32
        if narrow and was_half and jnp.result_type(new) == jnp.float32:
            raise UsageError(
                f"the model's carry is {old.dtype}; with parameters in {narrow[0]} it "
                "must be float32, for the model gets float32 copies of them"
            )
