"""Probabilities token by token: against numpy, `evaluate`, and KenLM's own numbers."""

import io
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import glrnn
from glrnn import CELLS, HEADS
from glrnn.config import Config, Layer, Phase
from glrnn.data.vocabulary import Vocabulary
from glrnn.data.windows import Window
from glrnn.errors import UsageError
from glrnn.evaluation.temperature import tempered
from glrnn.ground.dropout import draw_masks
from glrnn.model import dropout_rates
from glrnn.scoring import adaptive, prefixes
from glrnn.scoring import sentences as scoring
from glrnn.scoring.adaptive import score_adaptively
from glrnn.scoring.interpolated import interpolated
from glrnn.scoring.layouts import LAYOUTS, Options
from glrnn.scoring.mask_samples import over_masks
from glrnn.scoring.sentences import (
    Sentence,
    read_sentences,
    score_sentences,
    score_stream,
)
from glrnn.scoring.tokens import beginning, log_likelihoods, next_log_probs
from glrnn.scoring.trained import Trained, encode, untrained
from glrnn.storage.run_folder import StageId

ORACLE = json.loads(
    Path(__file__).with_name("golden").joinpath("kenlm.json").read_text()
)
# Heads beside the softmax, which take long to compile with gradients in a loop.
ALSO = {
    "adaptive": pytest.mark.slow,
    "mixture": pytest.mark.thorough,
    "projected": pytest.mark.slow,
}
WORDS = Vocabulary(("a", "<eos>", "<unk>", *(f"w{i}" for i in range(17))))


def network(head="softmax", cell="lstm", seed=0):
    """A trained model of one layer, with random parameters."""
    hidden_size = 8 if head == "softmax" else 12
    config = Config(
        embedding_size=8,
        layers=(Layer(cell, hidden_size),),
        head=head,
        num_softmaxes=3 if head == "mixture" else 1,
        cutoffs=(5, 12) if head == "adaptive" else (),
        phases=(Phase(1),),
    )
    trained = untrained(WORDS, config, seed)
    return trained._replace(params=jax.tree.map(lambda x: 3 * x, trained.params))


@pytest.fixture(scope="module")
def plain():
    return network()


def text_of(*lengths, seed=0):
    """Lines of so many words, some of them unknown."""
    rng = np.random.default_rng(seed)
    return "\n".join(
        " ".join(f"w{i}" for i in rng.integers(20, size=n)) for n in lengths
    )


def scored(trained, text, score=score_sentences, *details, **options):
    lines = read_sentences(
        io.BytesIO(text.encode()), trained.vocabulary, "a text", trained.eos
    )
    return list(score(trained, lines, *details, **options))


@pytest.mark.parametrize("head", HEADS)
def test_the_probabilities_are_those_of_the_loss(head):
    model, params, *_ = network(head)
    tokens = np.random.default_rng(0).integers(len(WORDS), size=(9, 3))
    window, carry = Window(tokens[:-1], tokens[1:], 8), model.initial_carry(3)
    nll = model.apply(params, carry, window).nll
    found, after = model.log_likelihoods(params, carry, window)
    everything, same = model.log_probs(params, carry, window)
    np.testing.assert_allclose(-found.mean(), nll, rtol=1e-6)
    own = jnp.take_along_axis(everything, window.targets[..., None], -1)[..., 0]
    np.testing.assert_allclose(own, found, atol=1e-6)
    np.testing.assert_allclose(jnp.exp(everything).sum(-1), 1, atol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, after, same)


def test_probabilities_equal_an_independent_loop(plain):
    """The LSTM and its softmax in numpy, in double precision."""
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), plain.params)
    (layer,), table, bias = params.layers, params.embedding.table, params.embedding.bias

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    ids = encode(plain, text_of(12).replace("\n", " "))
    hidden, cell, last, expected = np.zeros(8), np.zeros(8), plain.eos, []
    for token in ids:
        gates = table[last] @ layer.input + layer.input_bias
        gates += hidden @ layer.recurrent + layer.recurrent_bias
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        hidden = sigmoid(o) * np.tanh(cell)
        logits = table @ hidden + bias
        expected.append(logits[token] - np.log(np.exp(logits).sum()))
        last = token
    found, context = log_likelihoods(plain, ids)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    logits = next_log_probs(plain, context)
    assert logits.shape == (len(WORDS),)


def test_a_context_carries_on(plain):
    ids = encode(plain, text_of(150))
    whole, end = log_likelihoods(plain, ids)
    context = beginning(plain)
    for start, stop in ((0, 1), (1, 70), (70, 70), (70, 150)):
        following = next_log_probs(plain, context)[ids[start]]
        assert following == pytest.approx(whole[start], abs=1e-6)
        found, context = log_likelihoods(plain, ids[start:stop], context)
        np.testing.assert_allclose(found, whole[start:stop], atol=1e-6)
    assert context.last == end.last == ids[-1]


def test_sentences_are_scored_as_each_alone(plain, monkeypatch):
    """In whatever company: no state leaks, padding is not seen, long ones in pieces."""
    text = text_of(3, 0, 20, 300, 7, 1, 128, 127, 129, 8, 9, *[5] * 20)
    found = scored(plain, text)
    assert [score.sentence.line for score in found] == list(range(1, 32))
    monkeypatch.setattr(scoring, "BLOCK", 4)
    monkeypatch.setattr(prefixes, "SIZES", (1, 4))
    alone = scored(plain, text)
    detailed = scored(plain, text, details=True)
    for score, one, more, line in zip(
        found, alone, detailed, text.split("\n"), strict=True
    ):
        expected, _ = log_likelihoods(plain, [*encode(plain, line), plain.eos])
        for each in (score, one, more):
            np.testing.assert_allclose(each.log_likelihoods, expected, atol=1e-5)
        assert more.ranks.min() >= 1 and more.ranks.max() <= len(WORDS)


def sentences_that_begin_alike():
    """Lists of candidates, duplicates and a sentence within another among them."""
    words = st.lists(st.integers(0, 3), max_size=6)
    return st.lists(words, min_size=1, max_size=12).map(
        lambda found: sorted((np.array([*each, 9]) for each in found), key=len)[::-1]
    )


@given(sentences_that_begin_alike())
def test_a_tree_has_each_prefix_once(sentences):
    texts = {}
    before = [()]
    for length, level in enumerate(prefixes.levels(sentences), 1):
        before = [
            (*before[parent], token)
            for parent, token in zip(level.parents, level.tokens, strict=True)
        ]
        assert len(set(before)) == len(before)
        reaching = [sentence for sentence in sentences if len(sentence) >= length]
        assert len(level.places) == len(reaching)
        for sentence, place in zip(reaching, level.places, strict=True):
            assert before[place] == tuple(sentence[:length])
            texts[tuple(sentence)] = length
    assert texts == {tuple(sentence): len(sentence) for sentence in sentences}


@pytest.mark.parametrize("kind", ["mixture", "ensemble"])
def test_what_begins_alike_is_computed_once(kind, plain, monkeypatch):
    """In batches of whatever size, within the states that have been set aside."""
    trained = network("mixture")
    if kind == "ensemble":
        trained = interpolated([plain, network(cell="gru", seed=2)], [0.6, 0.4])
    text = text_of(6, 9, 4, 0, 12)
    variants = [
        " ".join([*line.split()[:cut], *f"w3 w{cut}".split()])
        for line in text.splitlines()
        for cut in range(1, 8, 2)
    ]
    text = "\n".join([text, *variants, *variants[:3]])
    rows, real = [], prefixes._score_level

    def count(trained, carry, spare, inputs, level, details):
        rows.append(len(inputs))
        return real(trained, carry, spare, inputs, level, details)

    monkeypatch.setattr(prefixes, "_score_level", count)
    found = scored(trained, text)
    distinct = {
        tuple(score.sentence.ids[:length])
        for score in found
        for length in range(1, len(score.sentence.ids) + 1)
    }
    assert sum(rows) == len(distinct) < sum(len(score.sentence.ids) for score in found)
    for score in found:
        expected, _ = log_likelihoods(trained, score.sentence.ids)
        np.testing.assert_allclose(score.log_likelihoods, expected, atol=1e-5)


def test_lines_are_read_a_block_at_a_time(plain, monkeypatch):
    monkeypatch.setattr(scoring, "BLOCK", 4)
    read = []

    def endless():
        for line in itertools.count(1):
            read.append(line)
            ids = np.array([3 + line % 5, 1], np.int32)
            yield Sentence(line, ("w",), ids, np.zeros(2, bool))

    found = itertools.islice(score_sentences(plain, endless()), 6)
    assert [score.sentence.line for score in found] == [1, 2, 3, 4, 5, 6]
    assert len(read) == 8


def test_a_state_that_is_not_a_sentences_own_is_refused(plain):
    with pytest.raises(UsageError, match="a mean over dropout masks can be evaluated"):
        scored(over_masks(plain, 2, scale=0.0), "w1")


def test_entropies_and_ranks_are_those_of_the_distributions(plain):
    (score,) = scored(plain, text_of(10), details=True)
    context = beginning(plain)
    for index, token in enumerate(score.sentence.ids):
        log_probs = np.float64(next_log_probs(plain, context))
        entropy = -np.sum(np.exp(log_probs) * log_probs)
        assert score.entropies[index] == pytest.approx(entropy, abs=1e-5)
        assert score.ranks[index] == 1 + np.sum(log_probs > log_probs[token])
        _, context = log_likelihoods(plain, [token], context)


def stream_of(trained, scores):
    """The tokens that were scored, after `<eos>`."""
    return np.concatenate([[trained.eos], *(score.sentence.ids for score in scores)])


def nats(scores):
    return -sum(score.log_likelihoods.sum(dtype=np.float64) for score in scores)


@pytest.mark.parametrize(
    ("head", "cell"),
    [*((head, "lstm") for head in HEADS), *(("softmax", cell) for cell in CELLS)],
)
def test_a_file_that_is_one_text_has_the_perplexity_of_evaluate(head, cell):
    trained = network(head, cell)
    found = scored(trained, text_of(6, 0, 40, 3), score_stream)
    score = glrnn.perplexity(trained.model, trained.params, stream_of(trained, found))
    assert nats(found) == pytest.approx(
        score.nats_per_token * score.num_tokens, rel=1e-6
    )


@pytest.mark.parametrize(
    "head",
    ["softmax", *(pytest.param(h, marks=ALSO[h]) for h in HEADS if h != "softmax")],
)
def test_a_model_that_learns_has_the_score_of_dynamic_evaluation(head, monkeypatch):
    monkeypatch.setattr(adaptive, "CHUNK", 4)  # so that sentences span chunks
    model, params, *_ = trained = network(head)
    rms = glrnn.gradient_rms(model, params, np.arange(200) % 20, batch_size=4)
    rule = glrnn.DynamicRule(0.01, 0.01, 1e-3, window_length=5)
    text = text_of(6, 0, 40, 3, 30)
    found = scored(trained, text, score_adaptively, rms=rms, rule=rule)
    stream = stream_of(trained, found)
    score = glrnn.dynamic_perplexity(model, params, rms, stream, rule)
    total = score.nats_per_token * score.num_tokens
    assert nats(found) == pytest.approx(total, rel=1e-5)
    static = glrnn.perplexity(model, params, stream)
    assert abs(static.nats_per_token - score.nats_per_token) > 1e-2
    detailed = scored(trained, text, score_adaptively, True, rms=rms, rule=rule)
    for one, more in zip(found, detailed, strict=True):
        np.testing.assert_allclose(one.log_likelihoods, more.log_likelihoods, atol=1e-5)
        assert len(more.ranks) == len(more.entropies) == len(more.sentence.ids)


def test_no_word_is_learned_before_it_is_scored(plain):
    """Up to the end of the first window the model is the trained one."""
    rms, rule = jax.tree.map(jnp.ones_like, plain.params), glrnn.DynamicRule(1.0)
    text = text_of(20)
    (static,) = scored(plain, text, score_stream)
    (adaptive,) = scored(plain, text, score_adaptively, rms=rms, rule=rule)
    same = np.isclose(static.log_likelihoods, adaptive.log_likelihoods, atol=1e-5)
    assert same[: rule.window_length].all()
    assert not same[rule.window_length :].any()


def test_words_are_what_ascii_whitespace_separates():
    text = "\ufeffa\u00a0b \t a\r\n\n\u3000\x0bw1\x0ca"
    lines = read_sentences(io.BytesIO(text.encode()), WORDS, "a text", eos=1)
    assert [line.words for line in lines] == [
        ("a\u00a0b", "a"),
        (),
        ("\u3000", "w1", "a"),
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "a text is empty"),
        (b"a\nb\xff", "line 2 of a text is not UTF-8 text: invalid start byte"),
        ("a".encode("utf-16"), "line 1 of a text is not UTF-8"),
        (b"a\0", "line 1 of a text is not UTF-8 text: it has a NUL"),
    ],
)
def test_what_is_no_text_is_refused(text, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        list(read_sentences(io.BytesIO(text), WORDS, "a text", eos=1))


def test_without_a_symbol_an_unknown_word_is_refused():
    vocabulary = Vocabulary(("a", "<eos>"))
    with pytest.raises(UsageError, match="line 2 of a text are not in the vocab"):
        list(read_sentences(io.BytesIO(b"a\nb"), vocabulary, "a text", eos=1))


def test_an_ensemble_is_the_mean_of_probabilities(plain):
    other, third = network("mixture", seed=1), network(cell="gru", seed=2)
    weights = 0.5, 0.3, 0.2
    mixed = interpolated([plain, other, third], weights)
    ids = encode(plain, text_of(9))
    each = [np.exp(log_likelihoods(one, ids)[0]) for one in (plain, other, third)]
    expected = np.log(np.average(each, axis=0, weights=weights))
    np.testing.assert_allclose(log_likelihoods(mixed, ids)[0], expected, atol=1e-5)
    np.testing.assert_allclose(np.exp(next_log_probs(mixed)).sum(), 1, atol=1e-5)
    score = glrnn.perplexity(mixed.model, mixed.params, [plain.eos, *ids])
    assert -score.nats_per_token == pytest.approx(expected.mean(), abs=1e-5)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ((0.5, 0.4), "the weights 0.5 + 0.4 sum to 0.9, not 1"),
        ((1.5, -0.5), "the weight 1.5 is not above 0, at most 1"),
        ((1.0,), "there are 2 models and 1 weights"),
    ],
)
def test_weights_that_are_none_are_refused(plain, weights, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        interpolated([plain, plain], weights)


def test_models_of_other_words_are_refused(plain):
    other = plain._replace(vocabulary=Vocabulary(WORDS.words[::-1]))
    with pytest.raises(UsageError, match="the vocabularies of the models differ"):
        interpolated([plain, other], [0.5, 0.5])


class Tree(NamedTuple):
    """The interface of a model that can be scored with."""

    initial_carry: Any
    log_likelihoods: Any
    log_probs: Any


@pytest.fixture(scope="module")
def kenlm():
    """KenLM's trigram model as far as its conditional tables go: a tree of histories.

    The state is a node of the tree; the first token that is read, `<eos>`, leads to its
    root. Reading a token follows its branch.
    """
    events = ORACLE["events"]
    vocabulary = Vocabulary(
        tuple({"</s>": "<eos>"}.get(event, event) for event in events)
    )
    unknown, end = events.index("<unk>"), events.index("</s>")
    tables, branches = [np.zeros(len(events))], [{}]
    for sentence in ORACLE["sentences"]:
        ids = vocabulary.encode(sentence["text"].split())[0].tolist()
        node = 0
        for token, log10, row in zip(
            [*ids, end], sentence["log10"], sentence["table"], strict=True
        ):
            if not branches[node]:
                tables[node] = np.array(row) * np.log(10)
            tables[node][token] = log10 * np.log(10)
            if token not in branches[node]:
                branches[node][token] = len(tables)
                tables.append(np.zeros(len(events)))
                branches.append({})
            node = branches[node][token]
    following = np.zeros((len(tables), len(events)), np.int32)
    for node, branch in enumerate(branches):
        for token, child in branch.items():
            following[node, token] = child
    params = {"table": jnp.asarray(tables, jnp.float32), "next": jnp.asarray(following)}

    def log_probs(params, carry, window):
        def step(node, token):
            node = jnp.where(node < 0, 0, params["next"][node, token])
            return node, params["table"][node]

        carry, found = jax.lax.scan(step, carry, window.inputs)
        return found, carry

    def log_likelihoods(params, carry, window):
        found, carry = log_probs(params, carry, window)
        return jnp.take_along_axis(found, window.targets[..., None], -1)[..., 0], carry

    model = Tree(
        initial_carry=lambda batch_size: jnp.full(batch_size, -1),
        log_likelihoods=log_likelihoods,
        log_probs=log_probs,
    )
    assert vocabulary.unknown_symbol == "<unk>" and unknown == 0
    return Trained(model, params, vocabulary, Config(), StageId(1, "main"))


def layout(kind, trained, **options):
    text = "\n".join(sentence["text"] for sentence in ORACLE["sentences"])
    scores = scored(trained, text, details=kind == "complexity")
    return list(LAYOUTS[kind](scores, Options(**options)))


def numbers(line):
    return [float(number) for number in re.findall(r"-?\d+\.\d+(?:e-?\d+)?", line)]


def test_kenlm_prints_the_same_lines(kenlm):
    found = layout("kenlm", kenlm)
    assert len(found) == len(ORACLE["printed"])
    for ours, theirs in zip(found, ORACLE["printed"], strict=True):
        assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-6)
        # Ids and lengths of n-grams are its own; the id of unknown words is 0 in both.
        shape = re.compile(r"(?<==)[1-9]\d* \d+ \S+|(?<==0) \d+ \S+|-?\d+\.\d+")
        assert shape.sub("#", ours) == shape.sub("#", theirs)


@pytest.mark.parametrize("skips", [False, True])
def test_srilm_prints_its_perplexities(kenlm, skips):
    expected = ORACLE["srilm"]["oov_skipped" if skips else "oov_scored"]
    *_, counts, sums = layout("srilm", kenlm, skips_unknown=skips, name="x")
    assert counts == f"file x: 11 sentences, 49 words, {expected['oovs']} OOVs"
    figures = re.fullmatch(r"0 zeroprobs, logprob= (\S+) ppl= (\S+) ppl1= (\S+)", sums)
    assert [float(figure) for figure in figures.groups()] == pytest.approx(
        [expected[name] for name in ("logprob", "ppl", "ppl1")], rel=1e-6
    )


def test_srilm_has_the_probability_in_field_10(kenlm):
    lines = layout("srilm", kenlm, debug=2, skips_unknown=True)
    fields = [line.split() for line in lines if line.startswith("\tp( ")]
    expected = [
        log10
        for sentence in ORACLE["sentences"]
        if sentence["text"].strip()
        for log10 in sentence["log10"]
    ]
    for each, log10 in zip(fields, expected, strict=True):
        if each[6] == "[OOV]":
            assert each[6:] == ["[OOV]", "0", "[", "-inf", "]"]
        else:
            assert float(each[9]) == pytest.approx(log10, rel=1e-6)
            assert float(each[7]) == pytest.approx(10**log10, rel=1e-5)
    assert fields[0][:5] == ["p(", "the", "|", "<s>", ")"]
    assert fields[1][:5] == ["p(", "cat", "|", "the", "...)"]
    assert sum(each[6] == "[OOV]" for each in fields) == 7
    assert "the cat ran" in lines  # single-spaced


def test_words_are_the_table_of_lm_zoo(kenlm):
    header, *rows = layout("words", kenlm)
    assert header == "sentence_id\ttoken_id\ttoken\tsurprisal"
    cells = [row.split("\t") for row in rows]
    assert cells[0] == ["1", "1", "the", "1.514573"]  # 0.4559320 / log10(2)
    assert {row[2] for row in cells if row[0] == "6"} == {"<unk>", "<eos>"}
    assert not any(row[0] == "4" for row in cells)  # a blank line keeps its number
    assert all(re.fullmatch(r"\d+\.\d{6}", row[3]) for row in cells)


def test_a_certain_word_has_the_surprisal_0_without_a_sign(kenlm):
    (score,) = scored(kenlm, "the")
    for value in (0.0, -0.0, 1e-7):
        certain = score._replace(log_likelihoods=np.full(2, value, np.float32))
        _, first, _ = LAYOUTS["words"]([certain], Options())
        assert first.split("\t")[-1] == "0.000000"


def test_further_columns_and_another_base(kenlm):
    columns = ("surface", "unknown", "line")
    header, *rows = layout("words", kenlm, columns=columns, base="10")
    assert header.split("\t")[3:] == ["surprisal_log10", *columns]
    (unknown,) = (row for row in rows if "zebra" in row and row.startswith("3\t"))
    assert unknown == "3\t2\t<unk>\t2.481827\tzebra\t1\t3"


def test_a_row_a_sentence(kenlm):
    header, first, *_, last = layout("sentences", kenlm, base="10")
    assert header == "sentence_id\tlog_prob_log10\ttokens\tunknown\tperplexity"
    assert first == "1\t-2.382203\t8\t0\t1.98507"
    assert last.split("\t")[2:4] == ["7", "2"]
    *_, skipped = layout("sentences", kenlm, base="10", skips_unknown=True)
    assert skipped.split("\t")[2:4] == ["5", "2"]


def test_complexity_counts_from_0_and_leaves_out_the_end(kenlm):
    header, *rows = layout("complexity", kenlm)
    assert header == "word sentid sentpos wlen surp entropy entred"
    cells = [row.split() for row in rows]
    assert cells[0][:4] == ["the", "0", "0", "3"] and cells[0][6] == "0"
    assert cells[-1][:4] == ["<unk>", "10", "5", "5"]
    assert not any(row[0] == "<eos>" for row in cells)
    entropies = [float(row[5]) for row in cells[:7]]
    reductions = [float(row[6]) for row in cells[:7]]
    expected = [0, *np.maximum(0, -np.diff(entropies))]
    assert reductions == pytest.approx(expected)


def test_json_has_an_object_a_sentence(kenlm):
    first, *_ = map(json.loads, layout("json", kenlm, base="e"))
    assert first["sentence_id"] == 1 and first["unit"] == "nats"
    total = sum(token["surprisal"] for token in first["tokens"])
    assert total == pytest.approx(2.3822026 * np.log(10), rel=1e-6)


def test_a_context_of_another_vocabulary_is_refused(plain):
    context = beginning(plain)._replace(last=len(WORDS))
    with pytest.raises(UsageError, match="the context holds the id 20"):
        next_log_probs(plain, context)
    with pytest.raises(UsageError, match="the context holds the id 20"):
        log_likelihoods(plain, [1], context)


def test_temperatures_of_an_ensemble_multiply(plain):
    hot = plain._replace(model=tempered(plain.model, 2.0))
    mixed = interpolated([hot, hot], [0.5, 0.5])
    ids = [4, 5, 6]
    found, _ = log_likelihoods(mixed._replace(model=tempered(mixed.model, 1.5)), ids)
    expected, _ = log_likelihoods(plain._replace(model=tempered(plain.model, 3.0)), ids)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_loss_of_an_ensemble_takes_one_length(plain):
    mixed = interpolated([plain, plain], [0.5, 0.5])
    tokens, carry = np.ones((3, 2), int), mixed.model.initial_carry(2)
    window = Window(tokens, tokens, np.array([3, 1]))
    with pytest.raises(UsageError, match="must be one integer"):
        mixed.model.apply(mixed.params, carry, window)


def test_byte_order_marks_of_joined_files_are_dropped():
    text = "\ufeffa\n\ufeffb\n\ufeff\n".encode()
    lines = read_sentences(io.BytesIO(text), WORDS, "a text", eos=1)
    assert [line.words for line in lines] == [("a",), ("b",), ("\ufeff",)]


def test_words_may_hold_what_is_no_unicode(plain):
    assert encode(plain, "w01 \udc80").tolist() == [2, 2]
    with pytest.raises(UsageError, match="has a NUL"):
        glrnn.load("run\0")


def test_the_mean_over_masks_is_that_of_probabilities():
    """By hand: three samples, each with a state and masks of its own, two windows."""
    trained = network("mixture")
    dropout = replace(Phase().dropout, hidden=(), input=0.3, output=0.4, latent=0.2)
    phases = (Phase(1, dropout),)
    trained = trained._replace(config=replace(trained.config, phases=phases))
    averaged = over_masks(trained, 3, scale=0.5, seed=7)
    model, params = trained.model, trained.params
    halved = dropout_rates(replace(dropout, input=0.15, output=0.2, latent=0.1))
    tokens = np.random.default_rng(0).integers(len(WORDS), size=(9, 2))
    carries = [model.initial_carry(2)] * 3
    carry = averaged.model.initial_carry(2)
    for number, (start, stop) in enumerate([(0, 4), (4, 8)]):
        window = Window(tokens[start:stop], tokens[start + 1 : stop + 1], 4)
        key = jax.random.fold_in(jax.random.key(7), number)
        each = []
        for sample, sample_key in enumerate(jax.random.split(key, 3)):
            masks = draw_masks(sample_key, halved, model.mask_shapes(2, 4))
            found, carries[sample] = model.log_likelihoods(
                params, carries[sample], window, masks
            )
            each.append(np.exp(np.float64(found)))
        found, carry_after = averaged.model.log_likelihoods(params, carry, window)
        np.testing.assert_allclose(np.exp(found), np.mean(each, axis=0), rtol=1e-5)
        outcome = averaged.model.apply(params, carry, window)
        np.testing.assert_allclose(outcome.nll, -np.mean(found), rtol=1e-6)
        carry = carry_after
    assert np.std(each, axis=0).max() > 1e-4


def test_without_dropout_the_mean_over_masks_is_the_model(plain):
    ids = [4, 5, 6, 1]
    averaged = over_masks(plain, 2, scale=0.0)
    expected, _ = log_likelihoods(plain, ids)
    np.testing.assert_allclose(log_likelihoods(averaged, ids)[0], expected, atol=1e-6)


def test_a_scale_that_makes_a_rate_none_is_refused(plain):
    dropout = replace(Phase().dropout, output=0.5)
    config = replace(plain.config, phases=(Phase(1, dropout),))
    with pytest.raises(UsageError, match="the scale 2 makes a dropout rate 1"):
        over_masks(plain._replace(config=config), 3, scale=2)
