"""What is handed to cuDNN and made of its results; JAX's reference stands in for it.

The stand-in leaves nonsense wherever cuDNN promises nothing.
"""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cells_test import T, assert_close, draw, plain_scan, with_gradients
from jax.experimental import rnn

from glrnn.cells import cudnn, unroll

GPU = SimpleNamespace(
    platform="gpu", client=SimpleNamespace(platform_version="PJRT C API\ncuda 13000")
)


def standing_in(x, hidden, cell, weights, lengths, *settings):
    live = (jnp.arange(x.shape[1])[None] < lengths[:, None])[..., None]

    @jax.custom_vjp
    def careless(x):
        return x

    careless.defvjp(lambda x: (x, None), lambda _, ct: (jnp.where(live, ct, jnp.nan),))
    unpacked = rnn.unpack_lstm_weights(weights, *settings[:3], settings[4])
    reference = rnn.lstm_ref(careless(x), hidden, cell, *unpacked, lengths, *settings)
    return jnp.where(live, reference[0], jnp.nan), *reference[1:]


@pytest.fixture
def cudnn_at_hand(monkeypatch):
    monkeypatch.setattr(rnn, "lstm", standing_in)
    monkeypatch.setattr(cudnn, "is_usable", lambda: True)


@pytest.mark.usefixtures("cudnn_at_hand")
@pytest.mark.parametrize("length", [None, T, 4, (1, 4, T)])
def test_an_lstm_by_cudnn_is_the_plain_scans(length):
    cell, *values = draw("lstm")
    length = None if length is None else jnp.array(length, jnp.int32)
    if length is not None:
        live = np.arange(T)[:, None] < np.broadcast_to(length, values[2].shape[1])
        values[-1] = values[-1][0], values[-1][1] * live[..., None]
    (state, outputs), grads = with_gradients(unroll, cell, *values, length)
    (last, expected), plain_grads = with_gradients(plain_scan, cell, *values, length)
    if length is not None:
        expected = expected * live[..., None]
    assert_close((state, outputs), (last, expected))
    assert_close(grads, plain_grads)


@pytest.mark.usefixtures("cudnn_at_hand")
def test_cudnn_is_asked_and_only_for_what_it_can_do(monkeypatch):
    asked = []

    def counting(*arguments):
        asked.append(arguments)
        return standing_in(*arguments)

    monkeypatch.setattr(rnn, "lstm", counting)
    cell, params, state, window, _ = draw("lstm")
    unroll(cell, params, state, window)
    assert len(asked) == 1
    masked = params.replace(mask=jnp.ones_like(state.hidden))
    unroll(cell, masked, state, window)
    unroll(cell, *jax.tree.map(jnp.bfloat16, (params, state, window)))
    assert len(asked) == 1


def answers(monkeypatch, lstm, device=GPU):
    monkeypatch.setattr(rnn, "lstm", lstm)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    # Not what is remembered of this process.
    return cudnn.is_usable.__wrapped__()


def test_it_is_usable_where_a_trial_succeeds_even_while_tracing(monkeypatch):
    asked = []
    jax.jit(lambda x: asked.append(answers(monkeypatch, standing_in)) or x)(1.0)
    assert asked == [True]


def test_it_is_not_usable_without_an_nvidia_gpu(monkeypatch):
    version = SimpleNamespace(platform_version="PJRT C API\nrocm 60000")
    for platform in ("cpu", "gpu"):
        device = SimpleNamespace(platform=platform, client=version)
        assert not answers(monkeypatch, standing_in, device)


def test_it_is_not_usable_where_the_trial_fails(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("no cuDNN here")

    with pytest.warns(UserWarning, match="is not used: no cuDNN here"):
        assert not answers(monkeypatch, broken)

    def wrong(x, hidden, cell, *others):
        return standing_in(x, cell, hidden, *others)

    with pytest.warns(UserWarning, match="is not used: off by"):
        assert not answers(monkeypatch, wrong)
