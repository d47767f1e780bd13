"""Gradual learning end to end, through the checkpoints on disk."""

import io
import json
import shutil
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console

from glrnn import data
from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.console.progress import Progress
from glrnn.data.vocabulary import Vocabulary
from glrnn.data.windows import paddings
from glrnn.errors import DivergedError, UsageError
from glrnn.evaluation.perplexity import perplexity
from glrnn.optim.averaging import is_averaging
from glrnn.optim.learning_rate import Schedule
from glrnn.storage import opening, run_folder
from glrnn.storage.best_params import best_params, newest_params
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.storage.metrics_log import MetricsLog
from glrnn.storage.run_folder import StageId
from glrnn.training import programs
from glrnn.training.context import new_context
from glrnn.training.phases import train
from glrnn.training.starting_params import starting_params

WORDS = "the cat sat on a mat and saw".split()
TIMES = {"seconds", "tokens_per_second"}


def tiny_phase(num_layers, **changes):
    stage = Stage(2, learning_rate=5.0, max_norms=(0.2, *(0.3,) * num_layers, 0.3))
    phase = Phase(
        num_layers,
        Dropout(0.1, 0.1, (0.1,) * (num_layers - 1), 0.1, 0.1, 0.1),
        main=stage,
        finetune=stage,
    )
    return replace(phase, **changes)


CONFIG = Config(
    embedding_size=6,
    layers=(Layer(hidden_size=8),) * 2,
    head="mixture",
    num_softmaxes=2,
    phases=tuple(map(tiny_phase, (1, 2))),
    batch_size=25,  # eight rows, so that two padded lengths are all
    window_length=5,
    valid_batch_size=2,
)


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    stream = (np.cumsum(rng.integers(1, 3, 360)) % len(WORDS)).astype(np.int32)
    parts = np.split(stream, [200, 280])
    return data.Corpus("tiny", Vocabulary(tuple(WORDS)), *parts, unknown={})


def start(folder, corpus, config=CONFIG):
    return opening.open_run(folder, config, corpus)


def quiet(run):
    return Progress(Console(file=io.StringIO()))


def records(run):
    return [
        {key: value for key, value in json.loads(line).items() if key not in TIMES}
        for line in (run.folder / "metrics.jsonl").read_text().splitlines()
    ]


def same(one, other):
    equal = jax.tree.map(lambda a, b: bool((a == b).all()), one, other)
    return all(jax.tree.leaves(equal))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, corpus):
    """A run of two phases, and its summaries."""
    run = start(tmp_path_factory.mktemp("runs") / "whole", corpus)
    with quiet(run) as progress:
        return run, train(new_context(run, corpus, progress))


def test_every_epoch_leaves_a_record(finished):
    run, summaries = finished
    where = [(r["phase"], r["stage"], r["epoch"]) for r in records(run)]
    assert where == [
        (phase, stage, epoch)
        for phase in (1, 2)
        for stage in ("main", "finetune")
        for epoch in (1, 2)
    ]
    last = records(run)[-1]
    assert last["averaging"]
    assert list(last["gradient_norm"]) == ["embedding", "layer 1", "layer 2", "head"]
    assert all(0 <= fraction <= 1 for fraction in last["clipped"].values())
    assert summaries[-1].epochs == 4
    assert [summary.layers for summary in summaries] == [1, 2]


def test_the_summary_is_that_of_the_checkpoint(finished, corpus):
    run, summaries = finished
    for summary in summaries:
        params = best_params(run, summary.phase)
        stage = StageId(summary.phase, "main")
        model = new_context(run, corpus, None).model(stage)
        valid = perplexity(model, params, corpus.valid, batch_size=2)
        best = min(
            record["valid_loss"]
            for record in records(run)
            if record["phase"] == summary.phase
        )
        assert valid.nats_per_token == pytest.approx(best, rel=1e-6)
        test = perplexity(model, params, corpus.test)
        assert summary.test_loss == pytest.approx(test.nats_per_token, rel=1e-6)


def test_a_phase_inherits_all_but_the_new_layer_bit_by_bit(finished, corpus):
    run, _ = finished
    context, stage = new_context(run, corpus, None), StageId(2, "main")
    grown = starting_params(context, stage)
    before = best_params(run, 1)
    assert same(grown.embedding, before.embedding)
    assert same(grown.head, before.head)
    assert len(grown.layers) == 2
    assert same(grown.layers[:-1], before.layers)
    init_key = jax.random.fold_in(context.phase_key(stage), 2)
    fresh = context.model(stage).init(init_key)
    assert same(grown.layers[-1], fresh.layers[-1])
    assert not any(
        same(grown.layers[-1].recurrent, layer.recurrent) for layer in before.layers
    )


def test_what_crosses_is_the_best_average_not_the_raw_parameters(finished, corpus):
    run, _ = finished
    stage = StageId(1, "finetune")
    params = best_params(run, 1)
    like = programs.state_like(new_context(run, corpus, None), stage)
    with CheckpointFolder(run.stage_folder(stage), read_only=True) as found:
        newest, about = found.restore_newest(like)
        best_epoch = found.best
    assert bool(is_averaging(newest.opt_state))
    if best_epoch == 2:
        assert not same(params, newest.params)
    first = min(record["valid_loss"] for record in records(run)[:2])
    assert best_epoch == int(
        np.argmin([first, *about["stages"][-1]["averaged_losses"]])
    )


def test_a_random_head_is_an_option(tmp_path, corpus, finished):
    whole, _ = finished
    run = whole._replace(config=replace(CONFIG, inherit_head=False))
    grown = starting_params(new_context(run, corpus, None), StageId(2, "main"))
    before = best_params(whole, 1)
    assert same(grown.embedding, before.embedding)
    assert not same(grown.head, before.head)


class Killed(Exception):
    pass


def test_a_run_started_again_is_the_run_that_would_have_been(
    tmp_path, corpus, finished, monkeypatch
):
    run = start(tmp_path / "run", corpus)
    append = MetricsLog.append

    def killed_in_the_middle(self, record):
        append(self, record)
        if len(records(run)) > 5:
            raise Killed  # the checkpoint, which comes next, is never written

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "append", killed_in_the_middle)
        with pytest.raises(Killed), quiet(run) as progress:
            train(new_context(run, corpus, progress))
    with quiet(run) as progress:
        train(new_context(start(run.folder, corpus), corpus, progress))
    whole, _ = finished
    assert records(run) == records(whole)
    assert same(best_params(run, 2), best_params(whole, 2))


def test_a_finished_run_started_again_trains_nothing(finished, corpus, monkeypatch):
    run, summaries = finished
    monkeypatch.setattr(Progress, "begin_epoch", None)
    with quiet(run) as progress:
        assert train(new_context(run, corpus, progress)) == summaries


def test_the_deepest_phase_with_a_checkpoint_is_evaluated(finished, tmp_path):
    """Also while the next one is in its first epoch."""
    run, _ = finished
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "phase_2")
    (tmp_path / "run" / "phase_2" / "main").mkdir(parents=True)
    (phase, _), params = newest_params(run_folder.read(tmp_path / "run"))
    assert phase == 1
    assert same(params, best_params(run, 1))


def test_a_phase_is_not_trained_anew_under_a_later_one(finished, tmp_path, corpus):
    run, _ = finished
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "phase_1")
    run = start(tmp_path / "run", corpus)
    before = records(run)
    with quiet(run) as progress, pytest.raises(UsageError, match="but no phase 1"):
        train(new_context(run, corpus, progress))
    assert records(run) == before


def test_a_run_is_not_replaced_even_before_its_first_checkpoint(tmp_path, corpus):
    """It may be in its first epoch."""
    start(tmp_path / "run", corpus)
    with pytest.raises(UsageError, match="seed is 28 there, 7 here"):
        start(tmp_path / "run", corpus, replace(CONFIG, seed=7))
    assert run_folder.read(tmp_path / "run").config == CONFIG


def test_a_config_of_someone_elses_is_left_alone(tmp_path, corpus):
    (tmp_path / "config.json").write_text('{"model_type": "theirs"}')
    with pytest.raises(UsageError, match="extra fields found"):
        start(tmp_path, corpus)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "theirs"}'
    assert len(list(tmp_path.iterdir())) == 1


def one_phase(**changes):
    return replace(CONFIG, layers=CONFIG.layers[:1], phases=(tiny_phase(1, **changes),))


def test_finetuning_that_never_improves_hands_on_what_it_began_with(tmp_path, corpus):
    wild = Stage(1, learning_rate=500.0, max_norms=(5.0,))
    config = replace(one_phase(finetune=wild), seed=1)
    run = start(tmp_path / "run", corpus, config)
    with quiet(run) as progress:
        (summary,) = train(new_context(run, corpus, progress))
    stage = StageId(1, "main")
    with CheckpointFolder(run.stage_folder(stage), read_only=True) as main:
        like = programs.params_like(new_context(run, corpus, None), stage)
        assert same(best_params(run, 1), main.restore_best(like)[0])
    assert summary.averaged_valid_loss > summary.raw_valid_loss


@pytest.mark.thorough
def test_the_trigger_begins_averaging_and_patience_ends_a_stage(tmp_path, corpus):
    stage = Stage(30, learning_rate=40.0, max_norms=(0.5,), patience=4)
    config = replace(
        one_phase(main=stage, finetune=Stage()), averaging=Averaging(window=1)
    )
    run = start(tmp_path / "run", corpus, config)
    with quiet(run) as progress:
        (summary,) = train(new_context(run, corpus, progress))
    found = records(run)
    triggered = [record["triggered"] for record in found]
    assert sum(triggered) == 1
    since = triggered.index(True)
    assert [record["averaging"] for record in found] == [
        epoch > since for epoch in range(len(found))
    ]
    raw = [record["raw_valid_loss"] for record in found]
    assert raw[since] > min(raw[: since - 1])
    losses = [record["valid_loss"] for record in found]
    assert len(losses) < 30
    assert len(losses) - 1 - int(np.argmin(losses)) == 4
    assert summary.averaged_valid_loss is not None
    assert list(found[0]["gradient_norm"]) == ["all"]


def test_what_is_not_finite_stops_the_run_and_says_where(tmp_path, corpus, monkeypatch):
    stage = replace(CONFIG.phases[0].main, epochs=6)
    run = start(tmp_path / "run", corpus, one_phase(main=stage, finetune=Stage()))
    apply = programs.training_step

    def poisoned(*args, **kwargs):
        step = apply(*args, **kwargs)

        def poisoned_step(state, window, key):
            if int(state.count) == 3:
                layer = state.params.layers[0]
                layer = layer.replace(recurrent=layer.recurrent.at[0, 0].set(np.nan))
                state = state.replace(params=state.params.replace(layers=(layer,)))
            return step(state, window, key)

        return poisoned_step

    programs.build_program.cache_clear()
    monkeypatch.setattr(programs, "training_step", poisoned)
    message = r"gradient of .*layer 1.* update \d+ of phase 1/1 · main · epoch \d/6.*"
    with (
        pytest.raises(
            DivergedError, match=message + r"last good checkpoint is .*/main/\d"
        ),
        quiet(run) as progress,
    ):
        train(new_context(run, corpus, progress))
    programs.build_program.cache_clear()
    assert np.isfinite(best_params(run, 1).embedding.table).all()


@pytest.mark.thorough
def test_each_padded_length_compiles_once_and_nothing_after_the_first_epoch(
    tmp_path, corpus, compiled
):
    """Of both stages together, whose rates and limits are data."""
    main = Stage(3, learning_rate=5.0, max_norms=(0.3,), schedule=Schedule(decay=0.5))
    finetune = Stage(3, learning_rate=2.0, max_norms=(0.7,))
    config = replace(
        one_phase(main=main, finetune=finetune), batch_size=4, window_length=20
    )
    run = start(tmp_path / "run", corpus, config)
    epochs = []

    def end_epoch(line):
        epochs.append(list(compiled))
        compiled.clear()

    with quiet(run) as progress:
        progress.end_epoch = end_epoch
        train(new_context(run, corpus, progress))
    steps = [names.count("jit(step)") for names in epochs]
    assert 0 < sum(steps) <= len(paddings(20, rows=50))
    later = {name for names in epochs[1:3] + epochs[4:] for name in names}
    assert later <= {"jit(step)"}


# When a stage ends, when averaging begins, how the learning rate falls.


def one_stage(folder, corpus, main, **settings):
    """The records of a run of one layer that is not finetuned."""
    stage = replace(tiny_phase(1).main, epochs=3, **main)
    config = replace(one_phase(main=stage, finetune=Stage()), **settings)
    run = start(folder / "run", corpus, config)
    with quiet(run) as progress:
        train(new_context(run, corpus, progress))
    return records(run)


def test_a_stage_ends_when_its_minutes_are_over(tmp_path, corpus):
    assert len(one_stage(tmp_path, corpus, {"minutes": 1e-9})) == 1


def test_the_rate_falls_and_averaging_begins_when_they_are_told_to(tmp_path, corpus):
    schedule = Schedule(decay=1e-12, constant_epochs=1)
    averaging = Averaging("never", latest=2)
    found = one_stage(tmp_path, corpus, {"schedule": schedule}, averaging=averaging)
    rates = [record["learning_rate"] for record in found]
    assert rates == pytest.approx([5.0, 5.0, 5e-12])
    # So slow that nothing moves, and an average is what it is of.
    first, second, third = (record["valid_loss"] for record in found)
    assert first != second == third
    assert [record["averaging"] for record in found] == [False, False, True]
    assert [record["triggered"] for record in found] == [False, True, False]


@pytest.mark.thorough
def test_a_run_of_another_recipe_started_again_is_the_same_too(
    tmp_path, corpus, monkeypatch
):
    """Stopped in the middle of a pass over the text, before averaging begins."""
    dropout = Dropout(0.1, 0.1, (), 0.1, 0.1, 0.1, state=0.1, carry=0.3)
    schedule = Schedule(decay=0.9, drop=0.5, drop_patience=1)
    stage = Stage(6, learning_rate=0.05, max_norms=(0.5,), schedule=schedule)
    config = replace(
        one_phase(dropout=dropout, main=stage, finetune=Stage()),
        updates_per_epoch=3,
        masks_per_step=True,
        word_masks_per_sequence=True,
        optimizer="rms",
        sum_over_time=True,
        l2_penalty=1e-3,
        averaging=Averaging("plateau", window=1, latest=4),
    )
    whole, stopped = (start(tmp_path / name, corpus, config) for name in "ab")
    with quiet(whole) as progress:
        train(new_context(whole, corpus, progress))
    append = MetricsLog.append

    def killed_in_the_middle(self, record):
        append(self, record)
        if len(records(stopped)) > 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(MetricsLog, "append", killed_in_the_middle)
        with pytest.raises(Killed), quiet(stopped) as progress:
            train(new_context(stopped, corpus, progress))
    with quiet(stopped) as progress:
        train(new_context(start(stopped.folder, corpus, config), corpus, progress))
    found = records(whole)
    assert records(stopped) == found
    assert same(best_params(stopped, 1), best_params(whole, 1))
    assert {record["updates"] for record in found} == {3}
    assert any(record["averaging"] for record in found)
    assert len({record["learning_rate"] for record in found}) == 6
