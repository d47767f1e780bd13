"""Static evaluation of models of one's own, against means by hand."""

from collections import namedtuple
from functools import partial, wraps

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from glrnn.config import Config
from glrnn.data.windows import ignores_padding
from glrnn.errors import UsageError
from glrnn.evaluation.dynamic import DynamicRule, dynamic_perplexity
from glrnn.evaluation.gradient_statistics import gradient_rms
from glrnn.evaluation.perplexity import (
    perplexity,
    stacked_windows,
    unigram_score,
    unpadded,
)
from glrnn.model import language_model

Model = namedtuple("Model", "initial_carry apply")
Outcome = namedtuple("Outcome", "nll carry")
LOGS = jnp.log(jnp.array([0.7, 0.2, 0.1]))
TEXT = np.array([1, 2] * 15)


def unigram(params, carry, window):
    """The mean loss of all that a window holds, whatever its length says."""
    return Outcome(-jnp.mean(params[window.targets]), carry + len(window.targets))


UNIGRAM = Model(lambda batch_size: jnp.zeros((), int), unigram)


def sizes(leaf):
    """Gradient statistics of the shape of a parameter, if it is one."""
    return np.abs(leaf) if hasattr(leaf, "dtype") and leaf.dtype.kind == "f" else leaf


EVALUATIONS = [
    lambda model, params: perplexity(model, params, TEXT),
    lambda model, params: gradient_rms(model, params, TEXT, batch_size=1),
    lambda model, params: dynamic_perplexity(
        model, params, jax.tree.map(sizes, params), TEXT, DynamicRule()
    ),
]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("window_length", [4, 7, 29, 70])
def test_a_model_of_ones_own_is_scored_without_padding(batch_size, window_length):
    score = perplexity(
        UNIGRAM, LOGS, TEXT, batch_size=batch_size, window_length=window_length
    )
    targets = TEXT.reshape(batch_size, -1)[:, 1:]
    assert score.num_tokens == targets.size
    exact = -np.mean(np.asarray(LOGS)[targets])
    assert score.nats_per_token == pytest.approx(exact, rel=1e-6)


def test_the_carry_reaches_a_shorter_last_window():
    def apply(params, carry, window):
        return Outcome(params * carry, carry + 1)

    model = Model(lambda batch_size: jnp.zeros(()), apply)
    score = perplexity(model, 1.0, TEXT, window_length=12)
    assert score.nats_per_token == pytest.approx((0 * 12 + 1 * 12 + 2 * 5) / 29)


def test_a_model_that_ignores_padding_is_traced_once():
    shapes = []

    @ignores_padding
    def apply(factor, params, carry, window):
        shapes.append(window.inputs.shape)
        live = jnp.arange(len(window.targets))[:, None] < window.length
        total = -jnp.sum(params[window.targets] * live)
        return Outcome(factor * total / window.length, carry)

    model = Model(lambda batch_size: (), partial(apply, 1.0))
    score = perplexity(model, LOGS, TEXT, window_length=7)
    assert shapes == [(7, 1)]
    exact = perplexity(UNIGRAM, LOGS, TEXT, window_length=29).nats_per_token
    assert score.nats_per_token == pytest.approx(exact, rel=1e-6)


@ignores_padding
def masked(params, carry, window):
    live = jnp.arange(len(window.targets))[:, None] < window.length
    return Outcome(-jnp.sum(params[window.targets] * live) / window.length, carry)


class Methods:
    initial_carry = UNIGRAM.initial_carry

    @ignores_padding
    def apply(self, params, carry, window):
        return masked(params, carry, window)


def test_the_mark_of_a_function_is_not_that_of_its_wrapper():
    stream = stacked_windows(np.zeros((8, 1), np.int32), 3)
    for apply, stacks in (
        (masked, 1),
        (partial(masked), 1),
        (Methods().apply, 1),
        (wraps(masked)(lambda *args: unigram(*args)), 2),
        (ignores_padding(wraps(masked)(lambda *args: masked(*args))), 1),
    ):
        model = Model(UNIGRAM.initial_carry, apply)
        assert len(unpadded(model, stream)) == stacks
        score = perplexity(model, LOGS, TEXT, window_length=7)
        assert score.nats_per_token == pytest.approx(1.96796, abs=1e-5)


@pytest.mark.parametrize("evaluate", EVALUATIONS)
@pytest.mark.parametrize(
    ("nll", "told"),
    [
        (lambda loss: loss + 1j, "complex64"),
        (lambda loss: loss[None], r"float32\[1\]"),
        (lambda loss: loss * jnp.ones((2, 3)), r"float32\[2, 3\]"),
        (lambda loss: loss > 0, "bool"),
    ],
)
def test_a_loss_that_is_not_one_real_number_is_refused(evaluate, nll, told):
    def apply(params, carry, window):
        return Outcome(nll(-jnp.mean(params[window.targets])), carry)

    with pytest.raises(UsageError, match=f"the model's nll is {told}"):
        evaluate(Model(lambda batch_size: (), apply), LOGS)


@pytest.mark.parametrize("evaluate", EVALUATIONS)
@pytest.mark.parametrize("leaf", [abs, "relu", np.array(["a"])])
def test_a_leaf_that_is_no_array_is_refused(evaluate, leaf):
    with pytest.raises(UsageError, match=r"params\['f'\] is no array: "):
        evaluate(UNIGRAM, {"w": LOGS, "f": leaf})


class Network(nnx.Module):
    """A model whose apply would read its own weights."""

    def initial_carry(self, batch_size):
        return ()

    def apply(self, params, carry, window):
        return Outcome(jnp.float32(1), carry)


@pytest.mark.parametrize("evaluate", EVALUATIONS)
def test_a_model_that_would_go_stale_is_refused(evaluate):
    network = Network()
    for model in (network, Model(network.initial_carry, network.apply)):
        with pytest.raises(UsageError, match=r"is an nnx\.Module, .*\(nnx\.split, nnx"):
            evaluate(model, LOGS)
    with pytest.raises(UsageError, match=r"the model is not hashable: \{\}"):
        evaluate({}, LOGS)


def test_the_network_is_scored_by_one_program_of_padded_windows():
    model = language_model(Config(), vocabulary_size=3, num_layers=1)
    apply = model.apply
    while isinstance(apply, partial):
        apply = apply.func
    assert apply.ignores_padding
    # What is put in the place of its function is not known to do so.
    assert not hasattr(model._replace(apply=unigram).apply, "ignores_padding")


def test_ids_outside_the_vocabulary_are_refused():
    model = language_model(Config(), vocabulary_size=3, num_layers=1)
    params = model.init(jax.random.key(0))
    with pytest.raises(UsageError, match=r"the stream holds the id 3; .* 0 \.\. 2"):
        perplexity(model, params, [0, 1, 3])
    with pytest.raises(UsageError, match="the stream has dtype float"):
        perplexity(UNIGRAM, LOGS, [0.5, 1.0])
    with pytest.raises(UsageError, match="the train split holds the id 3"):
        unigram_score(np.array([0, 3]), TEXT, 3)
    with pytest.raises(UsageError, match="the stream holds the id 2"):
        unigram_score(np.array([0, 1]), TEXT, 2)
