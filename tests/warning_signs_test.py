"""A run that learns nothing, or loses what it learned, says so; others do not."""

import json
import math
from collections import Counter, namedtuple
from dataclasses import replace
from fractions import Fraction

import faults
import jax.numpy as jnp
import numpy as np
import pytest

from glrnn import runs, train
from glrnn.evaluation.perplexity import perplexity, unigram_score
from glrnn.storage import run_folder
from glrnn.training import stages
from glrnn.training.checkpoint import Checkpoint
from glrnn.training.context import new_context
from glrnn.training.history import StageHistory
from glrnn.training.train_state import TrainState
from glrnn.training.warning_signs import nothing_learned, unstable

# Word frequencies.


@pytest.mark.parametrize(("size", "columns"), [(1, 1), (2, 1), (3, 4), (50, 7)])
def test_unigram_score_is_that_of_counts_plus_one(size, columns):
    """Token by token, in fractions."""
    rng = np.random.default_rng(size)
    train = rng.integers(0, size, 97)
    tokens = (rng.integers(0, size, 40) // 2 + size - 1) % size
    score = unigram_score(train, tokens, size, batch_size=columns)
    counts, rows, product = Counter(train.tolist()), 40 // columns, Fraction(1)
    for column in range(columns):
        for token in tokens[column * rows + 1 : (column + 1) * rows].tolist():
            product *= Fraction(counts[token] + 1, 97 + size)
    scored = columns * (rows - 1)
    nats = (math.log(product.denominator) - math.log(product.numerator)) / scored
    assert score.nats_per_token == pytest.approx(nats, rel=1e-12, abs=1e-13)
    assert score.perplexity == pytest.approx(math.exp(nats))
    assert score.num_tokens == scored


def test_unigram_score_is_over_the_tokens_that_a_network_is_scored_on():
    rng = np.random.default_rng(0)
    train, tokens = rng.integers(0, 5, 60), rng.integers(0, 5, 43)
    counts = np.bincount(train, minlength=5) + 1
    nats = jnp.asarray(-np.log(counts / counts.sum()), jnp.float32)
    Model = namedtuple("Model", "initial_carry apply")
    Outcome = namedtuple("Outcome", "nll carry")

    def apply(params, carry, window):
        real = jnp.arange(len(window.targets)) < window.length
        total = jnp.sum(params[window.targets] * real[:, None])
        return Outcome(total / (window.length * 4), carry)

    model = Model(lambda batch_size: (), apply)
    score = perplexity(model, nats, tokens, batch_size=4, window_length=4)
    unigram = unigram_score(train, tokens, 5, batch_size=4)
    assert unigram.num_tokens == score.num_tokens
    assert unigram.nats_per_token == pytest.approx(score.nats_per_token, rel=1e-6)


# Single epochs.


@pytest.mark.parametrize(
    ("perplexity", "said"),
    [(98.9, None), (99.1, "hardly below"), (100.0, "not below"), (800.0, "not below")],
)
def test_a_network_has_to_be_better_than_word_frequencies(perplexity, said):
    sign = nothing_learned(math.log(perplexity), math.log(100))
    if said is None:
        assert sign is None
    else:
        assert sign.text.startswith(f"validation perplexity {perplexity:.2f} is {said}")


@pytest.mark.parametrize(
    ("perplexities", "warns"),
    [
        ([900], False),
        ([80, 238], False),
        ([80, 242], True),
        ([30, 80, 120], False),  # of the epoch before, not of the best
        ([80, 300, 310], False),
        ([900, 80], False),
    ],
)
def test_perplexity_may_not_triple(perplexities, warns):
    assert (unstable([math.log(each) for each in perplexities]) is not None) == warns


@pytest.mark.parametrize(
    ("per_epoch", "epochs", "updates", "warns"),
    [
        (0, 5, 4, True),  # a pass has four windows
        (1, 5, 3, False),
        (1, 5, 4, True),
        (1, 3, 3, True),  # the stage is at its end
    ],
)
def test_a_stage_may_learn_nothing_for_a_while(
    tmp_path, per_epoch, epochs, updates, warns
):
    main = replace(faults.STAGE, epochs=epochs)
    phase = replace(faults.CONFIG.phases[0], main=main)
    config = replace(faults.CONFIG, updates_per_epoch=per_epoch, phases=(phase,))
    run = run_folder.Run(tmp_path, config, None, None)
    context = new_context(run, faults.small_corpus(), None)
    history = StageHistory((5.0,) * (updates if per_epoch else 1))
    now = Checkpoint(TrainState(None, None, None, updates), history, ())
    stage = run_folder.StageId(1, "main")
    signs = stages._warning_signs(context, stage, now)
    assert [sign.kind for sign in signs] == ["nothing_learned"] * warns
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "ENOUGH_UPDATES", 3)
        assert len(stages._warning_signs(context, stage, now)) == 1


# Whole runs.

TEXT = "the cat sat on a mat and saw the cat\n" * 60
EXPERIMENT = """
from glrnn.config import Config, Dropout, Layer, Phase, Stage

stage = Stage(2, learning_rate=10.0, max_norms=(1.0,))
config = Config(
    embedding_size=16,
    layers=(Layer(hidden_size=16),),
    phases=(Phase(1, Dropout(), stage, stage),),
    batch_size=5,
    window_length=5,
    fixed_windows=True,
    valid_batch_size=2,
)
"""


def run(folder):
    """Trains in a folder of texts; the lines printed."""
    options = ["--data", folder, "--workdir", folder / "run"]
    train.main([str(each) for each in [folder / "small.py", *options]])


def warned(capsys):
    lines = capsys.readouterr().out.splitlines()
    return lines, [line for line in lines if line.startswith("warning: ")]


def records(folder):
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture
def sentence(tmp_path):
    """A folder of texts that are one sentence, again and again."""
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text(TEXT)
    (tmp_path / "small.py").write_text(EXPERIMENT)
    return tmp_path


@pytest.mark.thorough
def test_a_run_that_learns_does_not_warn(sentence, capsys):
    run(sentence)
    lines, warnings = warned(capsys)
    assert warnings == []
    found = records(sentence)
    assert all(record["warnings"] == [] for record in found)
    (line,) = (line for line in lines if "word frequencies alone" in line)
    assert line.endswith(f": {found[0]['unigram_perplexity']:.2f}")
    assert found[0]["valid_perplexity"] < 0.9 * found[0]["unigram_perplexity"]


@pytest.mark.thorough
def test_a_run_on_shuffled_text_warns(sentence, capsys):
    shuffled = np.random.default_rng(0).permutation(TEXT.split())
    (sentence / "train.txt").write_text(" ".join(shuffled))
    run(sentence)
    lines, warnings = warned(capsys)
    found = records(sentence)
    assert len(found) == 4
    (last,) = (sign["text"] for sign in found[-1]["warnings"])
    assert "the network has learned nothing yet" in last
    # After every epoch, and after the table.
    told = [f"warning: {record['warnings'][0]['text']}" for record in found]
    again = f"warning: phase 1 · finetune · epoch 2: {last}"
    assert warnings == [*told, again]
    assert lines[lines.index(told[0]) - 1].startswith("phase 1/1 · main · epoch 1/2 · ")
    assert lines[lines.index(again) + 1] == ""  # the next commands follow
    run(sentence)  # There is nothing left to train.
    assert warned(capsys)[1] == [again]
    runs.main([str(sentence)])
    assert warned(capsys)[1] == [again.replace(": ", f": {sentence / 'run'}: ", 1)]


@pytest.mark.thorough
def test_a_log_that_cannot_be_read_does_not_fail_a_run(sentence, capsys):
    run(sentence)
    (sentence / "run" / "metrics.jsonl").write_text("x\n")
    run(sentence)
    last = capsys.readouterr().out.split("\n\n")[-2].splitlines()[-1]
    assert last.startswith("the warnings of earlier epochs cannot be read: ")


@pytest.mark.thorough
def test_a_run_that_loses_what_it_learned_warns(sentence, capsys, monkeypatch):
    """Of its raw parameters, and from one stage to the next."""
    main = [0.1, 1.3]
    finetune = [0.1, *[2.5, 0.1], *[0.2, 0.1]]  # before it, and raw and averaged
    losses = iter([*main, *finetune])
    score = stages.perplexity
    monkeypatch.setattr(
        stages,
        "perplexity",
        lambda *args, **how: score(*args, **how)._replace(nats_per_token=next(losses)),
    )
    run(sentence)
    _, warnings = warned(capsys)
    kinds = [[sign["kind"] for sign in each["warnings"]] for each in records(sentence)]
    assert kinds == [[], ["unstable"], ["unstable"], []]
    first, second, *repeated = warnings
    assert "rose from 1.11 to 3.67 in one epoch" in first
    assert "rose from 3.67 to 12.18 in one epoch" in second
    assert repeated == [
        first.replace(": ", ": phase 1 · main · epoch 2: ", 1),
        second.replace(": ", ": phase 1 · finetune · epoch 1: ", 1),
    ]
