"""Kills runs of several processes again and again: `python tests/stress_processes.py`.

A small run is trained once, by one process on one device and by one on two. Then it is
trained again and again by several processes on this machine, each on a device of its
own, and they are killed: one or all of them, by SIGKILL, SIGTERM, SIGINT or SIGSTOP, at
a random moment, while a checkpoint is being saved, or when a stage or phase has just
begun. Every process that is left must end by itself within a minute, with one line. The
same command, with another number of processes, then goes on until the run is at its
end. Where two devices have shared every batch, in one process or in two, it must be the
run of one process bit for bit; where 1, 2 and 4 took turns, up to rounding.

    python tests/stress_processes.py --kills 20 --seed 0
"""

import collections
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from stress import (
    CHECKPOINT_MINUTES,
    MOMENTS,
    await_moment,
    is_saving,
    run,
    write_texts,
)
from whole_runs import everything, records, same, strays

from glrnn import data
from glrnn.console.interruption import STOPPING
from glrnn.storage import run_folder

# A limit for the gradient of each layer, batches that 4 share, and a learning rate that
# does not magnify rounding: at 10, one device and two are percents apart in 5 epochs.
EXPERIMENT = """
from glrnn.config import Averaging, Config, Dropout, Layer, Phase, Stage


def phase(num_layers, dropout):
    limits = (0.05,) * (1 + num_layers)
    main = Stage(5, learning_rate=1.0, max_norms=limits)
    finetune = Stage(3, learning_rate=0.5, max_norms=limits)
    return Phase(num_layers, dropout, main, finetune)


config = Config(
    embedding_size=16,
    layers=(Layer(hidden_size=16),) * 2,
    phases=(
        phase(1, Dropout(0.1, 0.1, (), 0.1)), phase(2, Dropout(0.1, 0.1, (0.1,), 0.1))
    ),
    averaging=Averaging(window=1),
    batch_size=12,
    window_length=10,
    valid_batch_size=2,
)
"""
# Processes, and the devices of each: of two devices, and of any number.
TWO = ((2, 1), (1, 2))
ANY = ((2, 1), (4, 1), (1, 1), (2, 2))
# Signals, and whether all processes get them or one.
KINDS = (
    (signal.SIGKILL, "one"),
    (signal.SIGKILL, "all"),
    (signal.SIGTERM, "one"),
    (signal.SIGSTOP, "one"),
    (signal.SIGINT, "all"),
)
SECONDS = {"--join-seconds": 25, "--lost-seconds": 10}
# The longest that a process may take to end.
LONGEST = 60
# The number of kills that one run sees.
A_ROUND = 5
# How processes end that were not killed: lost, or not joined; or at their end.
LEFT_ALONE = {2, 3}
RELATIVE = 1e-5
LAST_LINE = re.compile(r"(stopped|error): [^\n]*\n")

Layout = tuple[int, int]
Processes = list["subprocess.Popen[str]"]


def begin(
    folder: Path,
    name: str,
    layout: Layout,
    *options: str,
    last: Sequence[str] = (),
) -> Processes:
    """The processes that train a run, or train it on; `last` is for the last one."""
    count, devices = layout
    with socket.create_server(("127.0.0.1", 0)) as free:
        place = f"127.0.0.1:{free.getsockname()[1]}"
    words = ["small.py", "--data", ".", "--workdir", name]
    words += ["--checkpoint-minutes", str(CHECKPOINT_MINUTES)]
    flags = os.environ.get("XLA_FLAGS", "")
    flags += f" --xla_force_host_platform_device_count={devices}"
    processes = []
    for number in range(count):
        joined = ["--distributed", place, "--num-processes", str(count)]
        joined += ["--process-id", str(number)]
        joined += [str(word) for item in SECONDS.items() for word in item]
        processes.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "glrnn.train", *words),
                    *joined * (count > 1),
                    *options,
                    *(last if number == count - 1 else ()),
                ],
                cwd=folder,
                env=os.environ | {"XLA_FLAGS": flags},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return processes


def end(processes: Processes, longest: float | None = LONGEST) -> list[int]:
    """The statuses of processes, which end by themselves and say why in one line.

    Raises:
        AssertionError: if one does not end, or says something else.
    """
    until = None if longest is None else time.monotonic() + longest
    said = []
    for number, process in enumerate(processes):
        left = None if until is None else max(until - time.monotonic(), 0.1)
        try:
            output, errors = process.communicate(timeout=left)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"process {number} hangs") from None
        assert number == 0 or not output, output
        assert "Gloo" not in output + errors, errors
        said.append(errors.replace(f"{STOPPING}\n", ""))
    statuses = [process.returncode for process in processes]
    for status, errors in zip(statuses, said, strict=True):
        wanted = status > 0
        assert bool(LAST_LINE.fullmatch(errors)) if wanted else not errors, (
            status,
            errors,
        )
    return statuses


def whole(folder: Path, name: str, devices: int) -> None:
    """Trains a run to its end, by one process."""
    assert end(begin(folder, name, (1, devices)), longest=None) == [0]


def kill(processes: Processes, number: int, which: str, rng: random.Random) -> None:
    """Sends a signal, and sees that all that are left end as they should."""
    victims = [rng.choice(processes)] if which == "one" else processes
    for victim in victims:
        victim.send_signal(number)
    lost = number in (signal.SIGKILL, signal.SIGSTOP)
    rest = [each for each in processes if not (lost and each in victims)]
    # They end while a frozen one is there; then it is ended too.
    statuses = end(rest)
    for victim in victims if lost else ():
        victim.kill()
        victim.communicate()
    allowed = {0, *LEFT_ALONE} if lost else {0, *LEFT_ALONE, -number, 128 + number}
    assert {*statuses} <= allowed, statuses


def close(one: run_folder.Run, other: run_folder.Run) -> bool:
    """Whether two runs are the same up to rounding."""
    pairs = list(zip(records(one), records(other), strict=True))
    names = ("phase", "stage", "epoch", "updates", "tokens", "averaging", "triggered")
    for a, b in pairs:
        assert all(a[name] == b[name] for name in names), (a, b)
    return all(
        np.isclose(a[name], b[name], rtol=RELATIVE, atol=0)
        for a, b in pairs
        for name in ("train_loss", "valid_loss", "raw_valid_loss")
    )


def stress(kills: int, seed: int, folder: Path) -> collections.Counter[str]:
    """Makes so many kills; how many of each kind the runs survived.

    Raises:
        AssertionError: if anything is not as it should be.
    """
    rng = random.Random(seed)
    write_texts(folder)
    (folder / "small.py").write_text(EXPERIMENT)
    for devices in (1, 2):
        whole(folder, f"whole_{devices}", devices)
    on_one, on_two = (run_folder.read(folder / f"whole_{n}") for n in (1, 2))
    corpus = data.load(str(folder), on_one.vocabulary)
    expected = everything(on_two, corpus)
    survived: collections.Counter[str] = collections.Counter()
    done, rounds = 0, 0
    while done < kills:
        rounds += 1
        name, layouts = f"killed_{rounds}", TWO if rounds % 2 else ANY
        enough = min(kills, rounds * A_ROUND)
        for turn in range(1000):
            layout = layouts[turn % len(layouts)]
            processes = begin(folder, name, layout)
            if layout[0] == 1 or done >= enough:
                # One process alone is killed in `stress`; here it only goes on a while.
                if done < enough and await_moment(
                    processes[0], folder / name, "any time", rng
                ):
                    processes[0].terminate()
                if end(processes, longest=None) == [0] * layout[0]:
                    break
                continue
            number, which = KINDS[done % len(KINDS)]
            moment = MOMENTS[(done + done // len(KINDS)) % len(MOMENTS)]
            if not await_moment(processes[0], folder / name, moment, rng):
                assert {*end(processes)} == {0}
                break
            saving = is_saving(folder / name)
            kill(processes, number, which, rng)
            done += 1
            survived["kills"] += 1
            survived[f"{signal.Signals(number).name} at {which}"] += 1
            survived[moment] += 1
            survived[f"of {layout[0]} processes"] += 1
            survived["a checkpoint was half written"] += saving
            told = f"{signal.Signals(number).name} at {which} of {layout[0]}, {moment}"
            print(f"{done}: {name}, {told}", flush=True)
        found = run_folder.read(folder / name)
        if layouts is TWO:
            assert same(everything(found, corpus), expected), f"{name} is another run"
        assert close(found, on_one), f"{name} is another run"
        left = strays(found.folder)
        assert not left, f"{name} has {left}"
    survived["runs"] = rounds
    return survived


if __name__ == "__main__":
    run(stress, __doc__, kills=20)
    print("all the same: two devices bit for bit, others up to rounding")
