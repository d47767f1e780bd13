"""Dynamic evaluation: a model that keeps learning from the text it is scored on.

After each window the parameters take a step down the gradient of that window's loss, in
units of the root mean square of their gradients on the training set, and a step back to
the trained parameters. Krause, Kahembwe, Murray and Renals (2018), "Dynamic evaluation
of neural sequence models", the RMS rule with a decay to the prior.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.tree_util import keystr

from glrnn.arrays import in_float32, is_inexact
from glrnn.data.windows import Window, columns
from glrnn.errors import UsageError
from glrnn.evaluation.perplexity import (
    LanguageModel,
    Score,
    check_model,
    loss_and_carry,
    mean_score,
    perplexity,
    stacked_windows,
    unpadded,
    vocabulary_size,
)
from glrnn.validation import above, at_least, check

# Where the square of a gradient overflows or underflows in float32, that of the
# gradient times a power of two does not: of one of more than 2^64 or less than 2^-36.
_SMALLEST, _UP, _DOWN = 2.0**-72, 2.0**96, 2.0**-80
# The number of windows in one call of a compiled loop; the last call has the rest.
CHUNK = 100


@dataclass(frozen=True)
class DynamicRule:
    """The settings of dynamic evaluation.

    The defaults are those of Aharoni, Rattner and Permuter (2017) for Penn Treebank,
    eta 0.002, lambda 0.075 and epsilon 0.001 in a convention that adds squared
    gradients up and takes the sum of all arrays. Here both are means: with n windows of
    statistics and 17 arrays that is eta / sqrt(n), lambda / 17, epsilon / sqrt(n).

    Attributes:
        learning_rate: eta, the rate of the gradient in units of its root mean square.
        decay_rate: lambda, the rate of decay to the trained parameters.
        epsilon: A number added to the root mean square of the gradients.
        window_length: The number of tokens between two updates, T.
        statistics_batch_size: The number of columns that the training set is cut into
            for the gradient statistics.
    """

    learning_rate: float = field(default=3.9e-5, metadata=at_least(0))
    decay_rate: float = field(default=4.4e-3, metadata=at_least(0))
    epsilon: float = field(default=1.9e-5, metadata=above(0))
    window_length: int = field(default=5, metadata=at_least(1))
    statistics_batch_size: int = field(default=70, metadata=at_least(1))

    def __post_init__(self):
        check(self)


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
    rms = _map_learned(lambda s: jnp.sqrt(s / num_windows), sums)
    largest = [float(jnp.max(s)) for s in _learned(sums) if s.size]
    if math.inf in largest:
        scale, is_better = _DOWN, jnp.isinf
    elif largest and max(largest) < _SMALLEST:
        scale, is_better = _UP, lambda s: s < _SMALLEST
    else:
        return rms
    return _map_learned(
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
    zeros = _map_learned(_real_zeros, in_float32(params))
    sums_and_carry = _copy((zeros, model.initial_carry(stream.inputs.shape[2])))
    for chunk in _chunks(unpadded(model, stream)):
        sums_and_carry = _add_squares(model, params, sums_and_carry, chunk, scale)
        jax.block_until_ready(sums_and_carry)
        advance(_num_tokens(chunk))
    return sums_and_carry[0]


def _real_zeros(leaf: Array) -> Array:
    return jnp.zeros(leaf.shape, jnp.finfo(leaf.dtype).dtype)


def dynamic_perplexity(
    model: LanguageModel,
    params: Any,
    rms: Any,
    tokens: Any,
    rule: DynamicRule,
    advance: Callable[[int], None] = lambda num_tokens: None,
) -> Score:
    """Scores a token stream by a model that learns from every window once it is scored.

    theta <- theta + min(1, lambda D) (theta_0 - theta) - eta g / (M + epsilon);
    D = M / mean(M), the mean taken over the means of the arrays that have elements;
    D = 0 if all of M is 0.

    The stream is one column. theta is in float32 at least, and rounded to the dtype of
    the trained parameters where the model is applied; float16 and narrower ones are
    then handed to it as float32, as in `gradient_rms`. For a complex parameter, g is
    the conjugate of what `jax.grad` returns, which points uphill. Leaves that cannot be
    learned, such as integers and PRNG keys, stay as they are. With both rates zero the
    score is that of `glrnn.perplexity` with the same window length.

    Args:
        model: A `glrnn.model.Model`, or anything hashable and immutable with the same
            two functions; see `LanguageModel`.
        params: theta_0, the trained parameters; they are not changed.
        rms: M, from `gradient_rms`.
        tokens: The stream, integers `[N]`.
        rule: The rates and the window length.
        advance: Called every `CHUNK` windows with the number of tokens in them.

    Returns:
        The score of N - 1 tokens; its perplexity is not finite if the parameters
        diverged.

    Raises:
        UsageError: if the stream is shorter than two tokens, or is not token ids of the
            model.

    Example:
        A text that is always the same word, and a parameter that learns how likely it
        is.

        >>> import collections, numpy as np
        >>> Model = collections.namedtuple("Model", "initial_carry apply")
        >>> Outcome = collections.namedtuple("Outcome", "nll carry")
        >>> constant = Model(
        ...     lambda batch_size: (),
        ...     lambda params, carry, window: Outcome(
        ...         -jax.nn.log_sigmoid(params), carry
        ...     ),
        ... )
        >>> text, rms = np.zeros(1000, int), jnp.float32(1.0)
        >>> for rate in (0.0, 0.1):
        ...     rule = DynamicRule(learning_rate=rate, decay_rate=0.0)
        ...     score = dynamic_perplexity(constant, jnp.float32(0.0), rms, text, rule)
        ...     print(f"{score.perplexity:.1f}")
        2.0
        1.2
    """
    check_model(model, params)
    if rule.learning_rate == rule.decay_rate == 0:  # nothing is learned
        score = perplexity(model, params, tokens, window_length=rule.window_length)
        advance(score.num_tokens)
        return score
    stream = stacked_windows(
        columns(tokens, 1, vocabulary_size=vocabulary_size(model)), rule.window_length
    )
    _check_rms(params, rms)
    rates = rule.learning_rate, rule.decay_rate, rule.epsilon
    params = _map_learned(_finite, params)
    params_and_carry = _copy((in_float32(params), model.initial_carry(1)))
    means = []
    for chunk in _chunks(unpadded(model, stream)):
        params_and_carry, found = _adapt(
            model, params, rms, rates, params_and_carry, chunk
        )
        means.append(np.asarray(found))
        advance(_num_tokens(chunk))
    return mean_score(np.concatenate(means), stream)


def _check_rms(params: Any, rms: Any) -> None:
    def check_leaf(path, param, size):
        if is_inexact(param) and (
            jnp.shape(size) != jnp.shape(param) or jnp.iscomplexobj(size)
        ):
            raise UsageError(
                f"rms{keystr(path)} is {jnp.result_type(size)}{list(jnp.shape(size))}; "
                f"that of the parameters is real{list(jnp.shape(param))}"
            )

    jax.tree.map_with_path(check_leaf, params, rms)


def _finite(leaf: Any) -> Any:
    """A leaf without infinities, whose distance to themselves is no number.

    The bias of a word that is ruled out may be -inf, and is as good as the lowest.
    """
    leaf = jnp.asarray(leaf)
    if not jnp.isinf(in_float32(leaf)).any():
        return leaf
    if jnp.iscomplexobj(leaf):
        return lax.complex(_finite(leaf.real), _finite(leaf.imag))
    limits = jnp.finfo(leaf.dtype)
    return jnp.clip(leaf, limits.min, limits.max)


def _copy(tree: Any) -> Any:
    """Arrays of their own, to be donated."""
    return jax.tree.map(jnp.array, tree)


def _chunks(stacks: Iterable[Window]) -> Iterator[Window]:
    """The windows of some stacks, at most `CHUNK` at a time."""
    for stack in stacks:
        for start in range(0, len(stack.inputs), CHUNK):
            yield Window(*(np.asarray(each)[start : start + CHUNK] for each in stack))


def _num_tokens(chunk: Window) -> int:
    return int(np.sum(chunk.length)) * chunk.inputs.shape[2]


def _map_learned(update: Callable[..., Any], params: Any, *others: Any) -> Any:
    """Maps a function over trees like `params`, whose other leaves stay as they are."""

    def map_leaf(param, *rest):
        return update(param, *rest) if is_inexact(param) else param

    return jax.tree.map(map_leaf, params, *others)


def _learned(params: Any) -> list[Any]:
    return [leaf for leaf in jax.tree.leaves(params) if is_inexact(leaf)]


def _window_gradient(model: LanguageModel, trained: Any) -> Any:
    """`(params, carry, window) -> ((nll, carry), gradient of nll)`.

    The model is applied to `params` in the dtypes of `trained`. The gradient has `None`
    for leaves that cannot be learned.
    """
    leaves, structure = jax.tree.flatten(trained)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    dtypes = [leaf.dtype for leaf in _learned(leaves)]

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
            for leaf, dtype in zip(_learned(params), dtypes, strict=True)
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


@partial(jax.jit, static_argnums=(0, 4), donate_argnums=2)
@jax.default_matmul_precision("float32")
def _add_squares(
    model: LanguageModel,
    params: Any,
    sums_and_carry: Any,
    chunk: Window,
    scale: float,
) -> Any:
    """Adds the squared gradients, times a power of two, of some windows."""
    gradient, wide = _window_gradient(model, params), in_float32(params)

    def add(sums_and_carry, window):
        sums, carry = sums_and_carry
        (_, carry), grads = gradient(wide, carry, window)
        return (_map_learned(add_square, sums, grads), carry), None

    def add_square(total, grad):
        if scale != 1:
            # The minimum changes no square, as in `glrnn.optim.norm`: it keeps XLA from
            # multiplying by the square of the scale.
            root = 2.0 ** (jnp.finfo(total.dtype).maxexp / 2)
            grad = jnp.minimum(jnp.abs(grad * scale), root)
        if jnp.iscomplexobj(grad):
            return total + (grad.real * grad.real + grad.imag * grad.imag)
        return total + grad * grad

    return lax.scan(add, sums_and_carry, chunk)[0]


@partial(jax.jit, static_argnums=0, donate_argnums=4)
@jax.default_matmul_precision("float32")
def _adapt(
    model: LanguageModel,
    trained: Any,
    rms: Any,
    rates: tuple[Any, Any, Any],
    params_and_carry: Any,
    chunk: Window,
) -> tuple[Any, Array]:
    """Scores some windows, each before the parameters learn from it.

    Returns:
        The parameters and the carry after them, and the mean nats per token of each
        window.
    """
    learning_rate, decay_rate, epsilon = rates
    gradient = _window_gradient(model, trained)
    anchors, rms = in_float32((trained, rms))
    relative_decay = _relative_decay(decay_rate, anchors, rms)

    def adapt(param, anchor, size, grad):
        pull = jnp.minimum(1.0, relative_decay * size)
        step = learning_rate * jnp.conj(grad) / (size + epsilon)
        return param + pull * (anchor - param) - step

    def score(params_and_carry, window):
        params, carry = params_and_carry
        (nll, carry), grads = gradient(params, carry, window)
        # Otherwise XLA would compute all that depends on the sizes alone before the
        # loop and store it, which takes longer to read than to compute.
        sizes, nll = lax.optimization_barrier((rms, nll))
        return (_map_learned(adapt, params, anchors, sizes, grads), carry), nll

    return lax.scan(score, params_and_carry, chunk)


def _relative_decay(decay_rate: Any, params: Any, rms: Any) -> Array:
    """lambda / mean(M), finite so that it is no decay where M is 0."""
    leaves, structure = jax.tree.flatten(params)
    means = [
        jnp.mean(size)
        for param, size in zip(leaves, structure.flatten_up_to(rms), strict=True)
        if is_inexact(param) and param.size
    ]
    total = jnp.asarray(sum(means))
    relative = decay_rate * len(means) / jnp.where(total > 0, total, jnp.inf)
    return jnp.minimum(relative, jnp.finfo(relative.dtype).max)
