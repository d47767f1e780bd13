"""The interface of recurrent cells, and the function that unrolls them over time.

The gradient of a scan adds a full outer product to the gradient of every weight matrix
at every time step. `unroll` instead forms the gradient of each matrix once, after the
backward scan, as a single product over all tokens of the window. All that this asks of
a cell is that its step multiplies by weights through its last argument, `affine`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from glrnn.cells.affine import FEW, add_bias, affine, in_one_dtype, widest
from glrnn.errors import UsageError
from glrnn.ground import devices
from glrnn.ground.arrays import is_inexact, is_known

Tree = Any

# The name of arrays that are saved for the backward pass.
SAVED = "saved"


# The number of time steps that one iteration of the scan computes, by platform; 1 where
# none is given. On a GPU every operation of an iteration is a kernel launch: unrolled
# ten times, the scan stores its results once for ten steps, which halves the launches.
# On a CPU unrolling takes longer.
UNROLL = {"gpu": 10}


class Cell(NamedTuple):
    """A recurrent layer as pure functions; B sequences, I inputs, H hidden units.

    Attributes:
        init: `key -> params`.
        initial_state: `batch_size -> state`, arrays `[B, ...]` of zeros.
        project_inputs: `(params, window [T, B, I]) -> projection [T, B, ...]`, the
            input projection: everything that depends on the inputs alone, computed for
            the whole window at once.
        step: `(params, state, projection [B, ...], affine) -> (state, output [B, H])`.
            It multiplies by weights only through `affine(x, matrix, bias)`, never
            inside a loop or jit of its own. A matrix or bias that depends on the state
            or the input is not a weight, and `unroll` refuses it: multiply by it with a
            plain `@`, and add it with `+`.
            Arrays that the backward pass should not compute again go through
            `save_for_backward`.

    Weight-drop masks `params.recurrent`. `params.mask`, if a cell has it, is a dropout
    mask `[B, H]` on the hidden state, constant over the window.
    """

    init: Callable[[Array], Tree]
    initial_state: Callable[[int], Tree]
    project_inputs: Callable[[Tree, Array], Tree]
    step: Callable[..., tuple[Tree, Array]]


def uniform(key: Array, bound: float, *shapes: tuple[int, ...]) -> list[Array]:
    """One array of each shape, with entries drawn from U(-bound, bound).

    Example:
        >>> [leaf.shape for leaf in uniform(jax.random.key(0), 0.1, (2, 3), (3,))]
        [(2, 3), (3,)]
    """
    return [
        jax.random.uniform(leaf_key, shape, minval=-bound, maxval=bound)
        for leaf_key, shape in zip(
            jax.random.split(key, len(shapes)), shapes, strict=True
        )
    ]


def save_for_backward(x: Array) -> Array:
    """Marks x to be saved for the backward pass, which computes all else again.

    The results of `affine` are saved without a mark, unless they are only used in sums
    that have one.

    Example:
        >>> save_for_backward(jnp.ones(2)).tolist()
        [1.0, 1.0]
    """
    return checkpoint_name(x, SAVED)


def unroll(
    cell: Cell, params: Tree, state: Tree, window: Array, length: Array | None = None
) -> tuple[Tree, Array]:
    """Runs a cell over a window.

    The result and its gradients are those of `lax.scan(cell.step)`; only the order in
    which the gradients of matrices and biases are summed differs. Reverse mode only.
    A state narrower than the parameters or the window is widened to their dtype, and
    integers and keys among the parameters, or in the state, have no gradient.

    Args:
        cell: The cell.
        params: The cell's parameters in this window, after weight-drop.
        state: The state before the window.
        window: Inputs, `[T, B, I]`.
        length: The true number of time steps, in 0 .. T: one integer, or one for each
            sequence, `[B]`. The state does not change after it. `None` means T.

    Returns:
        The state after the last true time step, and the outputs `[T, B, H]`, which are
        meaningless from time step `length` on.

    Raises:
        UsageError: T or B is 0, the state has another B than the window, `length` is
            not such integers (traced ones may be outside 0 .. T), the step gives
            `affine` a matrix or bias that depends on the state or the input, or JAX
            does not promote the dtypes to one.

    Example:
        >>> from glrnn.cells import CELLS
        >>> cell = CELLS["lstm"](2, 3)
        >>> params = cell.init(jax.random.key(0))
        >>> state, outputs = unroll(
        ...     cell, params, cell.initial_state(4), jnp.ones((5, 4, 2))
        ... )
        >>> outputs.shape
        (5, 4, 3)
    """
    _check_shapes(state, window)
    state = _widened(state, (params, window))
    live = None
    if length is not None:
        _check_length(length, *window.shape[:2])
        steps = jnp.arange(window.shape[0])[:, None, None]
        live = steps < jnp.reshape(length, (1, -1, 1))
    inputs = cell.project_inputs(params, window), live
    _check_weights(cell.step, params, state, inputs)
    return _scan(cell.step, params, state, inputs)


def _check_weights(step, params, state, inputs):
    """Refuses matrices and biases of `affine` that the scan would take from step 0."""
    shapes = jax.eval_shape(_first, inputs)
    jax.eval_shape(partial(_weights, step), params, state, shapes)
    try:
        # Only what depends on a mapped argument may not leave unmapped.
        mapped = jax.vmap(partial(_weights, step), (None, 0, 0), None, axis_size=1)
        jax.eval_shape(mapped, params, *jax.tree.map(_with_axis, (state, shapes)))
    except NotImplementedError:  # a callback that cannot be mapped, and may be right
        return
    except ValueError as error:
        if "out_axes" not in str(error):
            return
        raise UsageError(
            "the cell gives `affine` a matrix or bias that depends on the state or the "
            "input; multiply by it with a plain `@`, and add it with `+`"
        ) from None


def _weights(step, params, state, first):
    return _operands(step, params, state, first)[0]


def _with_axis(leaf):
    return jax.ShapeDtypeStruct((1, *jnp.shape(leaf)), jnp.result_type(leaf))


def _check_shapes(state, window):
    num_steps, batch_size, *_ = (*jnp.shape(window), 0, 0)
    if not num_steps or not batch_size:
        raise UsageError(
            f"the window has shape {jnp.shape(window)}; it must be [T, B, I], with T "
            f"and B at least 1"
        )
    for leaf in jax.tree.leaves(state):
        shape = jnp.shape(leaf)
        if shape and shape[0] != batch_size:
            raise UsageError(
                f"the state holds an array {list(shape)}; its first axis must be the "
                f"window's B, {batch_size}"
            )


def _check_length(length, num_steps, batch_size):
    array = length if isinstance(length, jax.Array) else np.asarray(length)
    shapes = (), (1,), (batch_size,)
    if not jnp.issubdtype(array.dtype, jnp.integer) or array.shape not in shapes:
        raise UsageError(
            f"the length is {array.dtype}{list(array.shape)}; it must be an integer, "
            f"or one for each of {batch_size} sequences"
        )
    if is_known(array) and not np.all((array >= 0) & (array <= num_steps)):
        raise UsageError(f"the length is {length}; it must be in 0 .. {num_steps}")


def _widened(state, others):
    """The state, its floating-point leaves as wide as all that a step adds to it."""
    leaves = jax.tree.leaves((state, others))
    dtypes = [jnp.asarray(leaf).dtype for leaf in leaves if is_inexact(leaf)]
    if len(set(dtypes)) <= 1:
        return state
    wide = widest(dtypes)
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, wide) if is_inexact(leaf) else leaf, state
    )


def _scan_steps(body, state, inputs):
    return lax.scan(body, state, inputs, unroll=UNROLL.get(devices.platform(), 1))


def _advance(step, params, state, inputs, affine=affine):
    projection, live = inputs
    new, output = step(params, state, projection, affine)
    if live is not None:
        new = jax.tree.map(partial(_where, live), new, state)
    return new, output


def _where(live, new, old):
    """Elements of `[B, ...]` of the sequences that are live, `[B or 1, 1]`."""
    if not new.ndim and live.size > 1:
        raise UsageError(
            "the state holds a single number, which cannot have a length for each "
            "sequence; give it an axis B, or give one length"
        )
    return jnp.where(live.reshape((-1, *[1] * (new.ndim - 1))[: new.ndim]), new, old)


def _first(inputs):
    """The inputs of the first time step."""
    return jax.tree.map(lambda leaf: leaf[0], inputs)


def _operands(step, params, state, first):
    """The (matrix, bias) pairs of a step in order of use, and their products."""
    pairs, products = [], []

    def record(x, matrix, bias=None):
        x, matrix, bias = in_one_dtype(x, matrix, bias)
        pairs.append((matrix, bias))
        products.append(affine(x, matrix, bias))
        return products[-1]

    _advance(step, params, state, first, record)
    return pairs, products


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scan(step, params, state, inputs):
    # Outside the loop, since a highway network slices its matrices from one array.
    pairs, _ = _operands(step, params, state, _first(inputs))

    def body(state, inputs):
        weights = iter(pairs)

        def recall(x, matrix, bias=None):
            return affine(x, *next(weights))

        return _advance(step, params, state, inputs, recall)

    return _scan_steps(body, state, inputs)


@jax.custom_vjp
def _product(x, matrix, transposed, probe):
    """x W; the cotangent goes to x and, instead of to W, to a probe of zeros."""
    return jnp.matmul(x, matrix)


def _product_forward(x, matrix, transposed, probe):
    return jnp.matmul(x, matrix), (matrix, transposed)


def _product_backward(matrices, ct):
    matrix, transposed = matrices
    back = matrix.T if transposed is None else transposed
    return jnp.matmul(ct, back), None, None, ct


_product.defvjp(_product_forward, _product_backward)


def _forward(step, params, state, inputs):
    pairs, pull_operands, products = jax.vjp(
        lambda params: _operands(step, params, state, _first(inputs)),
        params,
        has_aux=True,
    )
    num_steps = jax.tree.leaves(inputs)[0].shape[0]
    # Transposed once here, or XLA would transpose at every step of the backward scan.
    transposed = [
        matrix.T if num_steps * len(y) > FEW else None
        for (matrix, _), y in zip(pairs, products, strict=True)
    ]
    probes = [jnp.zeros((num_steps, *y.shape), y.dtype) for y in products]

    def run(params, state, inputs, probes):
        def body(state, slices):
            inputs, probes = slices
            seen = []

            def deferred(x, matrix, bias=None):
                index = len(seen)
                weight, offset = pairs[index]
                x = x.astype(weight.dtype)
                seen.append(x)
                y = _product(x, weight, transposed[index], probes[index])
                y = save_for_backward(y)
                return y if bias is None else add_bias(y, offset)

            state, output = _advance(step, params, state, inputs, deferred)
            return state, (output, seen)

        # All else is cheap to compute again and would take much memory to save.
        policy = jax.checkpoint_policies.save_only_these_names(SAVED)
        body = jax.checkpoint(body, policy=policy, prevent_cse=False)
        state, (outputs, seen) = _scan_steps(body, state, (inputs, probes))
        return (state, outputs), seen

    result, pull, seen = jax.vjp(run, params, state, inputs, probes, has_aux=True)
    return result, (pull, pull_operands, seen, pairs)


def _backward(step, residuals, cotangent):
    pull, pull_operands, seen, pairs = residuals
    direct, state, inputs, products = pull(cotangent)

    def all_products(pairs):
        return [affine(x, *pair) for x, pair in zip(seen, pairs, strict=True)]

    (weights,) = jax.vjp(all_products, pairs)[1](products)
    (deferred,) = pull_operands(weights)
    return jax.tree.map(_add_gradients, direct, deferred), state, inputs


def _add_gradients(direct, deferred):
    """The sum; the gradient of integers and keys, of dtype float0, is no number."""
    return direct if direct.dtype == jax.dtypes.float0 else direct + deferred


_scan.defvjp(_forward, _backward)
