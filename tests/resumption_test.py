"""A run stopped anywhere and started again is the run that would have been."""

import shutil
import signal
from collections import Counter
from dataclasses import replace

import faults
import jax
import numpy as np
import pytest
from whole_runs import everything, records, same

from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage
from glrnn.console.interruption import Interruption
from glrnn.errors import DivergedError, StoppedError, UsageError
from glrnn.ground.validation import to_json
from glrnn.storage import opening, run_folder
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.storage.metrics_log import MetricsLog
from glrnn.storage.run_folder import StageId
from glrnn.training import programs, stages

# 25 columns of 12 rows: four windows a pass, three steps long but for the last.
STAGE = Stage(3, learning_rate=5.0, max_norms=(0.3,))
CONFIG = Config(
    embedding_size=6,
    layers=(Layer(hidden_size=6),) * 2,
    phases=tuple(
        Phase(
            number,
            Dropout(0.1, 0.1, (0.1,) * (number - 1), 0.1, recurrent=0.1),
            main=STAGE,
            finetune=replace(STAGE, epochs=2),
        )
        for number in (1, 2)
    ),
    averaging=Averaging(window=0),
    batch_size=25,
    window_length=3,
    fixed_windows=True,
    valid_batch_size=2,
)
# Three passes of four windows, in epochs of five: some begin in the middle of a pass.
IN_TURNS = replace(CONFIG, updates_per_epoch=5)
WINDOWS = 2 * (3 + 2) * 4


@pytest.fixture(scope="module")
def corpus():
    return faults.small_corpus()


def go_on(folder, corpus, config=CONFIG, **how):
    """Trains, or trains on; the run and what was said."""
    return faults.go_on(folder, corpus, config, **how)


def stopped(folder, corpus, asked, config=CONFIG, **how):
    """What was said when the run was stopped, or None if it had ended before."""
    try:
        go_on(folder, corpus, config, interruption=faults.After(asked), **how)
    except StoppedError as error:
        assert error.signal == signal.SIGTERM
        return str(error)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus):
    """What runs that were never stopped have learned."""
    found = {}
    for config in (CONFIG, IN_TURNS):
        run, _ = go_on(tmp_path_factory.mktemp("whole"), corpus, config)
        found[config] = everything(run, corpus)
    return found


def test_the_run_is_worth_stopping(whole):
    found, _, _, newest, best, *_ = whole[CONFIG]
    assert Counter(record["averaging"] for record in found)[True] > 4
    assert any(record["triggered"] for record in found)
    assert len(found) == WINDOWS / 4
    assert newest == 12 and best is not None


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("config", "every"), [(CONFIG, 1), (IN_TURNS, 3)], ids=["passes", "turns"]
)
def test_stopped_again_and_again(tmp_path, corpus, whole, config, every):
    """In the middle of epochs, at their ends, and between stages and phases."""
    said = []
    while (line := stopped(tmp_path, corpus, every, config)) is not None:
        said.append(line)
        assert len(said) < 2 * WINDOWS, "it does not come to an end"
    assert len(said) > WINDOWS / every - 4
    assert said[0] == (
        f"phase 1/2 · main · epoch 1/3, update {every} of "
        f"{config.updates_per_epoch or 4} is saved; the same command resumes the run"
    )
    run, _ = go_on(tmp_path, corpus, config)
    assert same(everything(run, corpus), whole[config])


@pytest.mark.thorough
def test_checkpoints_within_epochs_change_nothing(tmp_path, corpus, whole):
    run, _ = go_on(tmp_path, corpus, checkpoint_minutes=1e-9)
    assert same(everything(run, corpus), whole[CONFIG])
    # All but the last of the second epoch are of its middle.
    names = {path.name for path in run.stage_folder(StageId(1, "main")).iterdir()}
    assert {"11", "12"} <= names


def of_phases(*phases):
    return replace(CONFIG, layers=CONFIG.layers[: len(phases)], phases=phases)


def test_a_run_extended_at_its_end_is_the_longer_run(tmp_path, corpus, whole, capsys):
    """By epochs of its last stage, by a finetuning stage and by a phase."""
    first, second = CONFIG.phases
    finetune = replace(first.finetune, epochs=0)
    once = replace(first, main=replace(STAGE, epochs=1), finetune=finetune)
    for config in (of_phases(once), of_phases(first), CONFIG):
        run, _ = go_on(tmp_path, corpus, config)
        assert run_folder.read(tmp_path).config == config
    assert same(everything(run, corpus), whole[CONFIG])
    assert capsys.readouterr().err == (
        f"{tmp_path} is extended: phases.0.main.epochs is 1 there, 3 here; "
        "phases.0.finetune.epochs is 0 there, 2 here\n"
        f"{tmp_path} is extended: layers has 1 entries there, 2 here; "
        "phases has 1 entries there, 2 here\n"
    )
    longer = replace(first, main=replace(STAGE, epochs=4))
    for other in (of_phases(first), of_phases(longer, second)):
        with pytest.raises(UsageError, match="its end alone can be extended"):
            go_on(tmp_path, corpus, other)


@pytest.mark.parametrize(
    "writes", [1, *(pytest.param(n, marks=pytest.mark.thorough) for n in (0, 2))]
)
def test_an_extension_that_is_interrupted_is_done_again(
    tmp_path, corpus, monkeypatch, writes
):
    """At the first file that it writes, at the second and at the third."""
    short = of_phases(replace(CONFIG.phases[0], finetune=Stage()))
    longer = of_phases(CONFIG.phases[0])
    go_on(tmp_path, corpus, short)
    write_text, left = run_folder.write_text, iter(range(writes, -1, -1))

    def full(path, text):
        if not next(left):
            raise UsageError("No space left on device")
        write_text(path, text)

    with monkeypatch.context() as patch, pytest.raises(UsageError):
        patch.setattr(run_folder, "write_text", full)
        go_on(tmp_path, corpus, longer)
    run = run_folder.read(tmp_path)
    assert run.config == (longer if writes == 2 else short)
    assert (run.read_summary(1) is None) == (writes == 2)
    run, _ = go_on(tmp_path, corpus, longer)
    assert run.read_summary(1).epochs == 5
    assert run_folder.read(tmp_path).origin.extension is None


def test_a_shortened_config_is_refused(tmp_path, corpus):
    run = opening.open_run(tmp_path, CONFIG, corpus)
    (tmp_path / "config.json").write_text(to_json(of_phases(CONFIG.phases[0])))
    with pytest.raises(UsageError, match="is not what the run began with"):
        run_folder.read(run.folder)


class Killed(BaseException):
    pass


@pytest.mark.thorough
def test_killed_between_checkpoints(tmp_path, corpus, whole, monkeypatch):
    """The metrics are cut back to what the checkpoint knows of."""
    append, lives = MetricsLog.append, 0

    def kill(self, record):
        append(self, record)
        raise Killed

    while True:
        lives += 1
        with monkeypatch.context() as patch:
            # An epoch's line is written before its checkpoint.
            if lives <= 3:
                patch.setattr(MetricsLog, "append", kill)
            try:
                run, _ = go_on(tmp_path, corpus, checkpoint_minutes=1e-9)
                break
            except Killed:
                assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert lives == 4
    assert same(everything(run, corpus), whole[CONFIG])


def test_a_stop_that_comes_during_validation_is_heeded_after_it(tmp_path, corpus):
    """What was validated is saved, as at the end of any epoch."""
    interruption = Interruption()
    validate = stages._validate

    def told_meanwhile(*arguments):
        interruption.signal = signal.SIGINT
        return validate(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_validate", told_meanwhile)
        with pytest.raises(
            StoppedError, match=r"epoch 1/3 is saved; the same"
        ) as caught:
            go_on(tmp_path, corpus, interruption=interruption)
    assert caught.value.signal == signal.SIGINT
    run = run_folder.read(tmp_path)
    assert len(records(run)) == 1
    with CheckpointFolder(
        run.stage_folder(StageId(1, "main")), read_only=True
    ) as checkpoints:
        assert (checkpoints.newest, checkpoints.best) == (4, 4)


def test_a_stop_that_comes_after_the_last_epoch_is_heeded_too(
    tmp_path, corpus, monkeypatch
):
    """As that of a study, which would go on with its next run."""
    interruption = Interruption()
    write_summary = run_folder.Run.write_summary

    def told_meanwhile(self, summary):
        interruption.signal = signal.SIGTERM
        write_summary(self, summary)

    monkeypatch.setattr(run_folder.Run, "write_summary", told_meanwhile)
    with pytest.raises(StoppedError, match="phase 1 is finished; the same"):
        go_on(tmp_path, corpus, MAIN, interruption=interruption)
    assert run_folder.read(tmp_path).read_summary(1) is not None


def test_a_timed_stage_goes_on_with_its_time(tmp_path, corpus):
    """Which that before the stop counts towards."""
    timed = replace(STAGE, minutes=1e-9)
    config = replace(MAIN, phases=(Phase(1, main=timed),))
    assert stopped(tmp_path, corpus, 2, config) is not None
    run, _ = go_on(tmp_path, corpus, config)
    (record,) = records(run)
    assert record["updates"] == 4


def test_a_checkpoint_is_never_due_before_an_update(tmp_path, corpus):
    run, _ = go_on(tmp_path, corpus, MAIN, checkpoint_minutes=1e-30)
    assert len(records(run)) == 5


@pytest.mark.thorough
def test_a_stage_that_is_gone_is_trained_anew_if_it_is_needed(tmp_path, corpus, whole):
    said = None
    asked = (3 + 2) * 4 + 1
    said = stopped(tmp_path, corpus, asked)
    assert said.startswith("phase 2/2 · main · epoch 1/3, update 1 of 4 is saved")
    run = run_folder.read(tmp_path)
    shutil.rmtree(run.stage_folder(StageId(1, "finetune")))
    run, _ = go_on(tmp_path, corpus)
    # Phase 2 had begun and needed nothing of it.
    assert not run.stage_folder(StageId(1, "finetune")).exists()
    assert records(run) == whole[CONFIG][0]
    for number in (2, 1):
        shutil.rmtree(tmp_path / f"phase_{number}" / "main")
        shutil.rmtree(tmp_path / f"phase_{number}" / "finetune", ignore_errors=True)
    shutil.rmtree(tmp_path / "phase_2")
    run, _ = go_on(tmp_path, corpus)
    assert same(everything(run, corpus), whole[CONFIG])


def test_a_run_begun_by_another_process_in_between_is_left_alone(
    tmp_path, corpus, monkeypatch
):
    alone = opening.locked

    def too_late(folder):
        assert not list(folder.iterdir())  # nothing is written without the lock
        opening.open_run(folder, replace(CONFIG, seed=7), corpus)
        return alone(folder)

    monkeypatch.setattr(opening, "locked", too_late)
    with (
        pytest.raises(UsageError, match="seed is 7 there, 28 here"),
        opening.open_locked(tmp_path, CONFIG, corpus),
    ):
        pass


def test_one_process_at_a_time(tmp_path):
    with (
        opening.locked(tmp_path),
        pytest.raises(UsageError, match="in use: another process is training there"),
        opening.locked(tmp_path),
    ):
        pass
    with opening.locked(tmp_path):
        pass


# Numbers that are not finite.


def poisoned(monkeypatch, bad):
    """Makes those windows bad, of which `bad(count, key)` is true."""
    build = programs.training_step

    def poisoned_step(*args, **kwargs):
        step = build(*args, **kwargs)

        def of_bad_masks(state, window, key):
            if bad(int(state.count), key):
                layer = state.params.layers[0]
                kernel = layer.recurrent
                broken = layer.replace(recurrent=kernel.at[0, 0].set(np.nan))
                params = state.params
                state = state.replace(
                    params=params.replace(layers=(broken, *params.layers[1:]))
                )
                after, metrics = step(state, window, key)
                params = after.params
                mended = params.layers[0].replace(recurrent=kernel)
                return after.replace(
                    params=params.replace(layers=(mended, *params.layers[1:]))
                ), metrics
            return step(state, window, key)

        return of_bad_masks

    programs.build_program.cache_clear()
    monkeypatch.setattr(programs, "training_step", poisoned_step)


@pytest.fixture
def poison(monkeypatch):
    yield lambda bad: poisoned(monkeypatch, bad)
    programs.build_program.cache_clear()


MAIN = replace(CONFIG, layers=CONFIG.layers[:1], phases=CONFIG.phases[:1])


@pytest.mark.thorough
def test_a_bad_update_is_left_out_and_the_next_draws_other_masks(
    tmp_path, corpus, poison
):
    keys = []

    def bad(count, key):
        keys.append(jax.random.fold_in(key, count))
        return count == 5

    poison(bad)
    run, said = go_on(tmp_path / "one", corpus, MAIN, on_nonfinite="skip")
    assert "skipped: the gradient of all is not finite at update 2 of phase 1/1" in said
    first, second, *_ = records(run)
    assert (first["skipped"], second["skipped"]) == (0, 1)
    assert (first["updates"], second["updates"]) == (4, 3)
    assert second["tokens"] == first["tokens"] - 3 * 25
    assert len({str(jax.random.key_data(key)) for key in keys}) == len(keys)
    # And stopped in between it is the same run.
    for _ in range(WINDOWS):
        stopped(tmp_path / "two", corpus, 1, MAIN, on_nonfinite="skip")
    assert records(run_folder.read(tmp_path / "two")) == records(run)


@pytest.mark.parametrize(
    ("updates", "where"), [(0, "update 4 of .*epoch 3"), (20, "update 16 of .*epoch 1")]
)
def test_too_many_bad_updates_stop_the_run(tmp_path, corpus, poison, updates, where):
    """A whole epoch of them, or eleven in a row."""
    poison(lambda count, key: count >= 5)
    config = replace(MAIN, updates_per_epoch=updates)
    with pytest.raises(DivergedError, match=where):
        go_on(tmp_path, corpus, config, on_nonfinite="skip")


def test_bad_updates_in_a_row_are_counted_over_epochs(tmp_path, corpus, poison):
    """The last six of one epoch and the first five of the next."""
    poison(lambda count, key: 6 <= count <= 16)
    config = replace(MAIN, updates_per_epoch=12)
    with pytest.raises(DivergedError, match=r"update 5 of .*epoch 2"):
        go_on(tmp_path, corpus, config, on_nonfinite="skip")


@pytest.mark.parametrize("minutes", [1e-9, 0], ids=["from within", "from an end"])
def test_a_run_goes_back_and_draws_other_masks(tmp_path, corpus, poison, minutes):
    unlucky = []

    def bad(count, key):
        if not unlucky and count == 6:
            unlucky.append(str(jax.random.key_data(key)))
        return count == 6 and str(jax.random.key_data(key)) in unlucky

    poison(bad)
    how = {"on_nonfinite": "rewind", "checkpoint_minutes": minutes}
    run, said = go_on(tmp_path, corpus, MAIN, **how)
    saved = 6 if minutes else 4
    folder = run.stage_folder(StageId(1, "main"))
    assert f"loss nan); the last good checkpoint is {folder / str(saved)}\n" in said
    assert said.count("rewound: ") == 1
    found = records(run)
    assert [record["epoch"] for record in found] == [1, 2, 3, 1, 2]
    assert all(record["skipped"] == 0 for record in found)
    assert np.isfinite([record["valid_loss"] for record in found]).all()


def test_a_run_that_fails_whatever_the_masks_is_stopped(tmp_path, corpus, poison):
    poison(lambda count, key: count == 2)
    with pytest.raises(DivergedError, match=r"update 3 of .*there is no checkpoint"):
        go_on(tmp_path, corpus, MAIN, on_nonfinite="rewind", checkpoint_minutes=0)


def test_a_validation_loss_that_is_not_finite_is_never_the_best(
    tmp_path, corpus, monkeypatch
):
    scored, perplexity = [], stages.perplexity

    def spoilt(*args, **kwargs):
        scored.append(1)
        score = perplexity(*args, **kwargs)
        return score if len(scored) != 2 else score._replace(nats_per_token=-np.inf)

    monkeypatch.setattr(stages, "perplexity", spoilt)
    with pytest.raises(DivergedError, match="the validation loss is not finite"):
        go_on(tmp_path / "stop", corpus, MAIN, on_nonfinite="skip")
    scored.clear()
    run, said = go_on(tmp_path / "rewind", corpus, MAIN, on_nonfinite="rewind")
    assert "rewound: the validation loss is not finite in phase 1, main" in said
    assert np.isfinite([record["valid_loss"] for record in records(run)]).all()
