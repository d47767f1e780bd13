"""The root mean square of each parameter's gradient over the windows of a text.

Dynamic evaluation takes its steps in units of it.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from glrnn.data.windows import Window, columns
from glrnn.evaluation.perplexity import (
    LanguageModel,
    check_model,
    stacked_windows,
    unpadded,
    vocabulary_size,
)
from glrnn.evaluation.window_gradient import (
    chunks,
    copy,
    learned_leaves,
    map_learned,
    num_tokens,
    window_gradient,
)
from glrnn.ground.arrays import in_float32

# Where the square of a gradient overflows or underflows in float32, that of the
# gradient times a power of two does not: of one of more than 2^64 or less than 2^-36.
_SMALLEST, _UP, _DOWN = 2.0**-72, 2.0**96, 2.0**-80


def gradient_rms(
    model: LanguageModel,
    params: Any,
    tokens: Any,
    *,
    batch_size: int = 70,
    window_length: int = 5,
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> Any:
    """The root mean square of each parameter's gradient over the windows of a text.

    M = sqrt(1/n sum_i |g_i|^2), g_i the gradient of the mean loss of window i, without
    dropout, at fixed parameters. The squares are added up in float32 at least. If some
    overflow, or all are close to underflow, the statistics are taken once more in
    another unit, which takes as long again. A gradient below 1e-22 counts as zero
    beside one above 1e-11.

    Parameters in float16 or narrower are handed to the model as float32 copies, for
    their gradients would not fit into their own dtypes.

    Args:
        model: A `glrnn.model.Model`, or anything hashable and immutable with the same
            two functions; see `LanguageModel`.
        params: The trained parameters.
        tokens: The training set, integers `[N]`.
        batch_size: The number of columns that it is cut into.
        window_length: The time steps in a window, T.
        advance: Called every `CHUNK` windows with the number of tokens in them.

    Returns:
        M, a tree like `params`, real and in float32 at least; leaves that cannot be
        learned, such as integers and PRNG keys, are those of `params`.

    Raises:
        UsageError: if the stream is shorter than two rows, or is not token ids of the
            model; or if `check_model` or `loss_and_carry` refuses the model.

    Example:
        >>> import collections, numpy as np
        >>> Model = collections.namedtuple("Model", "initial_carry apply")
        >>> Outcome = collections.namedtuple("Outcome", "nll carry")
        >>> bigram = Model(
        ...     lambda batch_size: (),
        ...     lambda params, carry, window: Outcome(
        ...         jnp.mean(params * window.targets), carry
        ...     ),
        ... )
        >>> gradient_rms(bigram, 1.0, np.ones(11, int), batch_size=1).item()
        1.0
    """
    check_model(model, params)
    stream = stacked_windows(
        columns(
            tokens, batch_size, "train split", vocabulary_size=vocabulary_size(model)
        ),
        window_length,
    )
    sums = _sums_of_squares(model, params, stream, 1.0, advance)
    num_windows = len(stream.inputs)
    rms = map_learned(lambda s: jnp.sqrt(s / num_windows), sums)
    largest = [float(jnp.max(s)) for s in learned_leaves(sums) if s.size]
    if math.inf in largest:
        scale, is_better = _DOWN, jnp.isinf
    elif largest and max(largest) < _SMALLEST:
        scale, is_better = _UP, lambda s: s < _SMALLEST
    else:
        return rms
    return map_learned(
        lambda s, m, other: jnp.where(
            is_better(s), jnp.sqrt(other / num_windows) / scale, m
        ),
        *(sums, rms, _sums_of_squares(model, params, stream, scale)),
    )


def _sums_of_squares(
    model: LanguageModel,
    params: Any,
    stream: Window,
    scale: float,
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> Any:
    """Of each element, the sum over windows of (scale |g|)^2."""
    zeros = map_learned(_real_zeros, in_float32(params))
    sums_and_carry = copy((zeros, model.initial_carry(stream.inputs.shape[2])))
    for chunk in chunks(unpadded(model, stream)):
        sums_and_carry = _add_squares(model, params, sums_and_carry, chunk, scale)
        jax.block_until_ready(sums_and_carry)
        advance(num_tokens(chunk))
    return sums_and_carry[0]


def _real_zeros(leaf: Array) -> Array:
    return jnp.zeros(leaf.shape, jnp.finfo(leaf.dtype).dtype)


@partial(jax.jit, static_argnums=(0, 4), donate_argnums=2)
@jax.default_matmul_precision("float32")
def _add_squares(
    model: LanguageModel,
    params: Any,
    sums_and_carry: Any,
    chunk: Window,
    scale: float,
) -> Any:
    """Adds the squared gradients, times a power of two, of some windows.

    Those of a chunk are added up first: of many windows the sum is so large that single
    terms would be rounded away.
    """
    gradient, wide = window_gradient(model, params), in_float32(params)

    def add(sums_and_carry, window):
        sums, carry = sums_and_carry
        (_, carry), grads = gradient(wide, carry, window)
        return (map_learned(add_square, sums, grads), carry), None

    def add_square(total, grad):
        if scale != 1:
            # The minimum changes no square, as in `glrnn.optim.norm`: it keeps XLA from
            # multiplying by the square of the scale.
            root = 2.0 ** (jnp.finfo(total.dtype).maxexp / 2)
            grad = jnp.minimum(jnp.abs(grad * scale), root)
        if jnp.iscomplexobj(grad):
            return total + (grad.real * grad.real + grad.imag * grad.imag)
        return total + grad * grad

    sums, carry = sums_and_carry
    zeros = map_learned(jnp.zeros_like, sums)
    (found, carry), _ = lax.scan(add, (zeros, carry), chunk)
    return map_learned(jnp.add, sums, found), carry
