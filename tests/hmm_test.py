"""`hmm`: a source whose entropy rate is exact, and what is measured on it."""

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import information
from glrnn import data
from glrnn.config import Config, Dropout, Layer, Phase
from glrnn.data.corpora import hmm
from glrnn.data.vocabulary import Vocabulary
from glrnn.data.windows import Window
from glrnn.scoring.trained import untrained

SOURCE = hmm.source()
TWO = Phase(2, Dropout(hidden=(0.0,)))


@pytest.fixture(scope="module")
def text():
    return hmm.sample(SOURCE, 100_000, seed=1)


@pytest.fixture(scope="module")
def losses(text):
    return hmm.losses(SOURCE, text)


def test_the_entropy_rate_is_what_a_long_text_has(losses):
    """The mean loss of the forward algorithm, which knows nothing of the formula."""
    blocks = losses.reshape(-1, 100).mean(axis=1)
    error = blocks.std(ddof=1) / len(blocks) ** 0.5
    assert error < 0.004
    assert abs(blocks.mean() - hmm.entropy_rate(SOURCE)) < 4 * error


def test_entropies_are_those_of_a_texts_words(text):
    def entropy(counts):
        shares = counts[counts > 0] / counts.sum()
        return -np.sum(shares * np.log(shares))

    both = np.zeros((8, 8))
    np.add.at(both, (text[:-1], text[1:]), 1)
    one = entropy(both.sum(1))
    assert one == pytest.approx(hmm.entropy(SOURCE), abs=0.01)
    after = entropy(both.ravel()) - one
    assert after == pytest.approx(hmm.entropy_after_a_word(SOURCE), abs=0.01)


def test_the_past_tells_much_and_the_last_word_little():
    h, first = hmm.entropy_rate(SOURCE), hmm.entropy_after_a_word(SOURCE)
    assert hmm.entropy(SOURCE) - h >= 0.5
    assert first - h >= 0.15


def test_it_is_a_corpus_and_always_the_same():
    corpus, again = data.load("hmm"), data.load("hmm")
    assert [len(s) for s in (corpus.train, corpus.valid)] == [200_000, 20_000]
    assert data.fingerprint(corpus) == data.fingerprint(again)
    assert not np.array_equal(corpus.test[:20_000], corpus.valid)


def test_states_are_those_of_the_network():
    config = Config(8, layers=(Layer(hidden_size=8),) * 2, phases=(TWO,))
    model, params, *_ = untrained(Vocabulary(SOURCE.words), config)
    stream = jnp.arange(40).reshape(20, 2) % 8
    found = information.layer_states(model, params, stream)
    window = Window(stream[:-1], stream[1:], 19)
    carry = model.apply(params, model.initial_carry(2), window).carry
    for states, last in zip(found, carry, strict=True):
        assert states.shape == (19, 2, 16)
        expected = jnp.concatenate([last.hidden, last.cell], axis=-1)
        np.testing.assert_allclose(states[-1], expected, atol=1e-6)


@pytest.mark.thorough
def test_a_probe_finds_what_a_state_knows_and_no_more(text, losses):
    """Of the last word: I(Y; last word), by an independent formula."""
    words = jnp.eye(8)[text[:-1]]
    probe = information.fit_probe(words[:50_000], jnp.asarray(text[1:50_001]), 8)
    rest = slice(50_000, 99_900)
    found = information.probe_losses(probe, words[rest], jnp.asarray(text[1:][rest]))
    lost, error = information.mean_and_error((found - losses[1:][rest])[:, None])
    known = hmm.entropy_after_a_word(SOURCE) - hmm.entropy_rate(SOURCE)
    assert abs(lost - known) < 3 * error + 0.003
