"""Several processes train one run: as one does, and none hangs when another is gone."""

import json
import re
import signal
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import stress_processes
from small_run import write_texts
from stress_processes import TWO, begin, end, whole
from whole_runs import everything, same

from glrnn import data
from glrnn.console.interruption import STOPPING
from glrnn.errors import DivergedError, UsageError
from glrnn.ground import processes
from glrnn.ground.devices import _taking_part, own_columns
from glrnn.ground.processes import Processes, here
from glrnn.storage import run_folder

# What processes of the tests wait for one another.
QUICK = ("--join-seconds", "40", "--lost-seconds", "8")


@pytest.fixture
def together(monkeypatch):
    """Has a function called by two processes, which are threads here.

    It is given its `Processes`; what it returns or raises is returned.
    """
    barrier, place, mine = threading.Barrier(2), [None, None], threading.local()

    def exchange(value):
        place[mine.rank] = np.asarray(value)
        barrier.wait(10)
        found = list(place)
        barrier.wait(10)
        return found

    def from_first(value):
        return exchange(value)[0]

    monkeypatch.setattr(processes, "broadcast_one_to_all", from_first)
    monkeypatch.setattr(
        processes, "process_allgather", lambda value: np.stack(exchange(value))
    )

    def call(function):
        found = [None, None]

        def work(rank):
            mine.rank = rank
            try:
                found[rank] = function(Processes(rank, 2))
            except Exception as error:
                found[rank] = error

        threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return found

    return call


def test_the_first_process_leads(together):
    asked = []

    def lead(those):
        return those.lead(lambda: asked.append(those.rank) or {"loss": [0.1, 1e300]})

    assert together(lead) == [{"loss": [0.1, 1e300]}] * 2
    assert asked == [0]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (UsageError("no room"), UsageError),
        (OSError("no room"), UsageError),
        (DivergedError("no room"), DivergedError),
    ],
)
def test_what_the_first_process_fails_with_all_fail_with(together, raised, expected):
    def fail():
        raise raised

    for error in together(lambda those: those.lead(fail)):
        assert type(error) is expected
        assert str(error) == "no room"


def test_a_function_of_each_is_called_by_the_first_before_the_others(together, capsys):
    called = []

    def act(those):
        print("seen", file=sys.stderr)
        called.append(those.rank)
        return those.rank

    assert together(lambda those: those.each(lambda: act(those))) == [0, 1]
    assert called == [0, 1]
    assert capsys.readouterr().err == "seen\n"


@pytest.mark.parametrize("bad", [0, 1])
def test_a_function_that_fails_at_one_ends_all(together, bad):
    def act(those):
        if those.rank == bad:
            raise UsageError("no texts")

    found = together(lambda those: those.each(lambda: act(those)))
    assert all(isinstance(error, UsageError) for error in found)
    assert str(found[bad]) == "no texts"
    if bad:
        assert str(found[0]) == "process 1 cannot go on; it says why"


def test_processes_that_were_given_different_things_are_told_which(together):
    def agree(those, texts):
        those.agree({"settings": lambda: "same", "texts": lambda: texts})

    assert together(lambda those: agree(those, "same")) == [None, None]
    for error in together(lambda those: agree(those, str(those.rank))):
        assert isinstance(error, UsageError)
        assert str(error).startswith("process 1 has other texts than process 0; ")


def test_arrays_are_shared_bit_for_bit(together, monkeypatch):
    monkeypatch.setattr(processes, "LARGEST", 512)  # in pieces
    floats = np.random.default_rng(0).normal(size=(20, 30)).astype("f")
    floats[0, :3] = -0.0, np.nan, np.inf
    tree = {"weights": floats, "count": np.int32(7), "none": np.zeros((0, 3), "f")}
    mine, theirs = together(
        lambda those: those.share(tree if those.is_first else None, tree)
    )
    assert same(mine, tree) and same(theirs, tree)


def test_the_largest_number(together):
    assert together(lambda those: those.largest(those.rank * 15)) == [15, 15]


def test_one_process_is_asked_for_nothing():
    def never():
        raise AssertionError

    here().agree({"settings": never})
    tree = [object()]
    assert here().share(tree, None) is tree and here().whole(tree) is tree
    assert own_columns(None, 8) == slice(0, 8)


def devices(*counts):
    return [
        SimpleNamespace(process_index=rank, id=100 * rank + number)
        for rank, count in enumerate(counts)
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "batch_size", "num_devices", "chosen"),
    [
        ((2, 2), 8, 0, [0, 1, 100, 101]),
        ((2, 2), 6, 0, [0, 100]),
        ((2, 3), 12, 0, [0, 1, 100, 101]),
        ((3, 3), 12, 2, [0, 100]),
        ((1, 1, 1, 1), 4, 0, [0, 100, 200, 300]),
    ],
)
def test_every_process_takes_part_with_as_many_devices(
    counts, batch_size, num_devices, chosen
):
    found = _taking_part(devices(*counts)[::-1], batch_size, num_devices)
    assert [device.id for device in found] == chosen


@pytest.mark.parametrize(
    ("batch_size", "num_devices", "message"),
    [
        (25, 0, "2 processes do not share 25 sequences equally"),
        (12, 3, "3 devices are not shared equally by 2 processes"),
        (12, 6, "there are 2 devices in each of 2 processes, not 3"),
        (6, 4, "4 devices do not share 6 sequences equally"),
    ],
)
def test_devices_that_cannot_share_a_batch_are_refused(
    batch_size, num_devices, message
):
    with pytest.raises(UsageError, match=message):
        _taking_part(devices(2, 2), batch_size, num_devices)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts and a small experiment whose batches two and four can share."""
    folder = tmp_path_factory.mktemp("texts")
    write_texts(folder)
    source = (folder / "small.py").read_text().replace("size=25", "size=24")
    source = source.replace("size=24,", "size=24, fixed_windows=True,")
    # A rate that does not magnify rounding.
    source = source.replace("learning_rate=10.0", "learning_rate=1.0")
    (folder / "small.py").write_text(source.replace("Stage(2,", "Stage(20,"))
    return folder


@pytest.fixture(scope="module")
def on_two_devices(texts):
    """The run of one process on two devices."""
    whole(texts, "whole", devices=2)
    return run_folder.read(texts / "whole")


def contents(run):
    """The arrays of all checkpoints, as their files have them."""
    files = (path for path in run.rglob("*") if path.name[0].isdigit())
    return {
        path.relative_to(run).as_posix(): path.read_bytes()
        for path in files
        if path.is_file()
    }


def names(run):
    return {path.relative_to(run).as_posix() for path in run.rglob("*")}


def is_the_run(found, expected, texts):
    """Whether a run is another one bit for bit, and has the same files."""
    corpus = data.load(str(texts), expected.vocabulary)
    run = run_folder.read(found)
    return (
        same(everything(run, corpus), everything(expected, corpus))
        and contents(found) == contents(expected.folder)
        and names(found) == names(expected.folder)
    )


def test_two_processes_train_as_one_does_on_two_devices(texts, on_two_devices):
    assert end(begin(texts, "two", (2, 1), *QUICK)) == [0, 0]
    assert is_the_run(texts / "two", on_two_devices, texts)


def test_a_process_that_never_comes_is_not_waited_for(texts):
    began = time.monotonic()
    alone, missing = begin(texts, "missing", (2, 1), "--join-seconds", "2")
    missing.kill()
    missing.communicate()
    _, said = alone.communicate(timeout=60)
    assert alone.returncode == 2
    assert said.startswith("error: process 0 of 2 has waited 2 seconds for the others")
    assert len(said.splitlines()) == 1
    assert time.monotonic() - began < 60
    assert not (texts / "missing").exists()


def records_of(log):
    """The validation losses of a run so far."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [json.loads(line)["raw_valid_loss"] for line in lines]


def lines_more_than(count, log, running):
    """Waits until a run has gone on for an epoch."""
    while not (log.exists() and log.read_bytes().count(b"\n") > count):
        assert running[0].poll() is None, running[0].communicate()
        time.sleep(0.02)


@pytest.mark.thorough
def test_a_signal_at_one_stops_all_and_any_number_resumes(texts, on_two_devices):
    name, log = "handed_on", texts / "handed_on" / "metrics.jsonl"
    for layout, number in (((2, 1), signal.SIGTERM), ((4, 1), signal.SIGINT)):
        running = begin(texts, name, layout, *QUICK)
        lines_more_than(len(records_of(log)), log, running)
        running[-1].send_signal(number)
        said = [process.communicate(timeout=60)[1].splitlines() for process in running]
        assert {process.returncode for process in running} == {128 + number}, said
        # All stop before the same update.
        assert len({lines[-1] for lines in said}) == 1
        assert re.search("saved|has not begun", said[0][-1])
        assert {line for lines in said for line in lines[:-1]} <= {STOPPING}
    assert end(begin(texts, name, (1, 1))) == [0]
    wanted = records_of(on_two_devices.folder / "metrics.jsonl")
    assert records_of(log) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    "victim",
    [
        pytest.param(0, marks=pytest.mark.slow),
        pytest.param(1, marks=pytest.mark.thorough),
    ],
)
def test_a_killed_process_ends_the_others_and_nothing_is_lost(
    texts, on_two_devices, victim
):
    name = f"killed_{victim}"
    running = begin(texts, name, (2, 1), *QUICK)
    lines_more_than(0, texts / name / "metrics.jsonl", running)
    running[victim].kill()
    running[victim].communicate()
    _, said = running[1 - victim].communicate(timeout=60)
    assert running[1 - victim].returncode == 3
    assert re.fullmatch("stopped: another process of the run is gone .*\n", said)
    assert {*end(begin(texts, name, TWO[victim], *QUICK))} == {0}
    assert is_the_run(texts / name, on_two_devices, texts)


@pytest.mark.thorough
def test_a_frozen_process_is_lost(texts):
    running = begin(texts, "frozen", (2, 1), "--lost-seconds", "5")
    lines_more_than(0, texts / "frozen" / "metrics.jsonl", running)
    running[1].send_signal(signal.SIGSTOP)
    assert end(running[:1]) == [3]
    running[1].kill()
    running[1].communicate()


@pytest.mark.parametrize(
    ("given", "what"),
    [
        pytest.param(["--seed", "9"], "settings", marks=pytest.mark.slow),
        pytest.param(["--data", "other"], "texts", marks=pytest.mark.thorough),
    ],
)
def test_processes_that_disagree_train_nothing(texts, given, what):
    other = texts / "other"
    other.mkdir(exist_ok=True)
    for split in ("train", "valid", "test"):
        lines = (texts / f"{split}.txt").read_text().split("\n")
        # The same words, and the last line first.
        (other / f"{split}.txt").write_text("\n".join([lines[0], *lines]))
    running = begin(texts, "disagree", (2, 1), *QUICK, last=given)
    for process in running:
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said.count("\n")) == (2, 1), said
        assert said.startswith(f"error: process 1 has other {what} than process 0; ")
    assert not (texts / "disagree").exists()


@pytest.mark.slow
def test_runs_that_are_killed_twenty_times(tmp_path):
    survived = stress_processes.stress(kills=20, seed=1, folder=tmp_path)
    assert survived["kills"] == 20
