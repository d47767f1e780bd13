"""A run stopped anywhere and started again is the run that would have been."""

import io
import signal
from collections import Counter
from dataclasses import replace

import jax
import numpy as np
import pytest
from rich.console import Console
from whole_runs import everything, records, same

from glrnn import data, run_folder, stages
from glrnn.checkpoints import StageCheckpoints
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.errors import DivergedError, StoppedError, UsageError
from glrnn.interruption import Interruption
from glrnn.job import Job
from glrnn.phases import train
from glrnn.progress import Progress
from glrnn.vocabulary import Vocabulary

WORDS = "the cat sat on a mat and saw".split()
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
    nonmonotonic=0,
    batch_size=25,
    window_length=3,
    fixed_windows=True,
    valid_batch_size=2,
)
# Three passes of four windows, in epochs of five: some begin in the middle of a pass.
IN_TURNS = replace(CONFIG, updates_per_epoch=5)
WINDOWS = 2 * (3 + 2) * 4


class After(Interruption):
    """Comes when it has been asked so often."""

    def __init__(self, asked: int) -> None:
        super().__init__()
        self.left = asked

    def has_come(self):
        self.left -= 1
        if self.left < 0:
            self.signal = signal.SIGTERM
        return self.signal is not None


@pytest.fixture(scope="module")
def corpus():
    stream = np.random.default_rng(0).integers(0, len(WORDS), 460).astype(np.int32)
    parts = np.split(stream, [300, 380])
    return data.Corpus("tiny", Vocabulary(tuple(WORDS)), *parts, unknown={})


def go_on(folder, corpus, config=CONFIG, **how):
    """Trains, or trains on; the run and what was said."""
    run = run_folder.start(folder, config, corpus)
    console = Console(file=io.StringIO(), width=1000)
    with Progress(folder / "metrics.jsonl", console) as progress:
        train(Job(run, corpus, progress, **how))
    return run, console.file.getvalue()


def stopped(folder, corpus, asked, config=CONFIG, **how):
    """What was said when the run was stopped, or None if it had ended before."""
    try:
        go_on(folder, corpus, config, interruption=After(asked), **how)
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
        f"{config.updates_per_epoch or 4} is saved; the same command goes on from there"
    )
    run, _ = go_on(tmp_path, corpus, config)
    assert same(everything(run, corpus), whole[config])


def test_checkpoints_within_epochs_change_nothing(tmp_path, corpus, whole):
    run, _ = go_on(tmp_path, corpus, checkpoint_minutes=1e-9)
    assert same(everything(run, corpus), whole[CONFIG])
    # All but the last of the second epoch are of its middle.
    names = {path.name for path in run.stage_folder(1, "main").iterdir()}
    assert {"11", "12"} <= names


class Killed(BaseException):
    pass


def test_killed_between_checkpoints(tmp_path, corpus, whole, monkeypatch):
    """The metrics are cut back to what the checkpoint knows of."""
    write, lives = Progress.write, 0

    def kill(self, record):
        write(self, record)
        raise Killed

    while True:
        lives += 1
        with monkeypatch.context() as patch:
            # An epoch's line is written before its checkpoint.
            if lives <= 3:
                patch.setattr(Progress, "write", kill)
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

    def told_meanwhile(job, params):
        interruption.signal = signal.SIGINT
        return validate(job, params)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "_validate", told_meanwhile)
        with pytest.raises(
            StoppedError, match=r"epoch 1/3 is saved; the same"
        ) as caught:
            go_on(tmp_path, corpus, interruption=interruption)
    assert caught.value.signal == signal.SIGINT
    run = run_folder.read(tmp_path)
    assert len(records(run)) == 1
    with StageCheckpoints(run.stage_folder(1, "main"), read_only=True) as checkpoints:
        assert (checkpoints.newest, checkpoints.best) == (4, 4)


def test_one_process_at_a_time(tmp_path):
    with (
        run_folder.written_by_this_process_alone(tmp_path),
        pytest.raises(UsageError, match="in use: another process is training there"),
        run_folder.written_by_this_process_alone(tmp_path),
    ):
        pass
    with run_folder.written_by_this_process_alone(tmp_path):
        pass


# Numbers that are not finite.


def poisoned(monkeypatch, bad):
    """Makes those windows bad, of which `bad(count, key)` is true."""
    build = stages.training_step

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

    stages._update_rule.cache_clear()
    monkeypatch.setattr(stages, "training_step", poisoned_step)


@pytest.fixture
def poison(monkeypatch):
    yield lambda bad: poisoned(monkeypatch, bad)
    stages._update_rule.cache_clear()


MAIN = replace(CONFIG, layers=CONFIG.layers[:1], phases=CONFIG.phases[:1])


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
    folder = run.stage_folder(1, "main")
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
