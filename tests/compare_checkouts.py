"""Trains the same runs with two checkouts and compares them bit for bit.

    python tests/compare_checkouts.py OLD_CHECKOUT [NEW_CHECKOUT] --quick

For a change that must not change what is learned. Compared are the lines of the
metrics, times aside, and the CRC-32 of every array in every checkpoint that is left:
the parameters, the averages and the states carried between windows. The optimizer's
state otherwise may be laid out differently in the two checkouts.

The last two runs take minutes each: `quickstart`, and three epochs of `ptb_smaller`,
which needs a folder with the texts of Penn Treebank (`--data`). `--quick` leaves both
out.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1]
TIMES = ("seconds", "tokens_per_second")
# The arrays of `progress` that are compared, without what stands before their names.
COMPARED = re.compile(r"(?:.*/)?((?:average|params|carry)/.*)|(count)")

AN_EPOCH_A_PHASE = [
    word
    for phase in range(3)
    for stage, epochs in (("main", 1), ("finetune", 0))
    for word in (f"--phases.{phase}.{stage}.epochs", str(epochs))
]

# Settings that checkouts spell differently are spelled here in both ways.
PREAMBLE = """
from glrnn.config import Config, Dropout, Layer, Phase, Stage
try:
    from glrnn.optim.learning_rate import Schedule
except ImportError:
    from glrnn.rules import Schedule
try:
    from glrnn.config import Averaging
except ImportError:
    def averaging(trigger, window, latest):
        return {"trigger": trigger, "nonmonotonic": window, "averaging_latest": latest}
else:
    def averaging(trigger, window, latest):
        return {"averaging": Averaging(trigger, window, latest)}

def three_phases(rate, norms, *, schedule=Schedule(), **rates):
    def phase(number):
        return Phase(
            number,
            Dropout(hidden=(0.1,) * (number - 1), **rates),
            Stage(2, rate, norms(number), schedule=schedule),
            Stage(2, rate / 2, tuple(norm / 2 for norm in norms(number))),
        )
    return tuple(map(phase, (1, 2, 3)))

def one_norm(number):
    return (0.5,)

def layerwise(number):
    return (0.2, *(0.3,) * number)

def layerwise_with_head(number):
    return (0.2, *(0.3,) * number, 0.4)

common = {"batch_size": 8, "window_length": 10, "valid_batch_size": 2}
"""
# One experiment a cell, each with another head or other settings.
EXPERIMENTS = {
    "lstm_softmax": """
config = Config(
    embedding_size=12,
    layers=(Layer("lstm", 12),) * 3,
    phases=three_phases(
        10.0, layerwise, embedding=0.1, input=0.1, output=0.1, recurrent=0.2
    ),
    **averaging("never", 5, 1),
    **common,
)
""",
    "lstm_mixture": """
config = Config(
    embedding_size=8,
    layers=(Layer("lstm", 12), Layer("lstm", 16), Layer("lstm", 12)),
    head="mixture",
    num_softmaxes=3,
    phases=three_phases(
        10.0, layerwise_with_head, input=0.1, output=0.1, latent=0.1, recurrent=0.2
    ),
    inherit_head=False,
    fixed_windows=True,
    **averaging("non_monotonic", 0, 0),
    **common,
)
""",
    "gru_projected": """
config = Config(
    embedding_size=8,
    layers=(Layer("gru", 12),) * 3,
    head="projected",
    phases=three_phases(
        5.0, layerwise_with_head, output=0.1, latent=0.1, recurrent=0.1
    ),
    small_batch_size=4,
    fixed_windows=True,
    **averaging("plateau", 1, 1),
    **common,
)
""",
    "nas_mixture": """
config = Config(
    embedding_size=8,
    layers=(Layer("nas", 8),) * 3,
    head="mixture",
    num_softmaxes=2,
    phases=three_phases(0.01, one_norm, input=0.1, state=0.1),
    fixed_windows=True,
    optimizer="rms",
    **averaging("never", 0, 1),
    **common,
)
""",
    "rhn_softmax": """
config = Config(
    embedding_size=8,
    layers=(Layer("rhn", 8, depth=2),) * 3,
    phases=three_phases(
        1.0,
        layerwise,
        schedule=Schedule(decay=0.5),
        embedding=0.1,
        input=0.2,
        state=0.1,
    ),
    fixed_windows=True,
    updates_per_epoch=30,
    word_masks_per_sequence=True,
    sum_over_time=True,
    l2_penalty=1e-4,
    **averaging("never", 0, 1),
    **common,
)
""",
    "mogrifier_softmax": """
config = Config(
    embedding_size=8,
    layers=(Layer("mogrifier", 8, depth=2, rank=3),) * 3,
    phases=three_phases(
        5.0, one_norm, schedule=Schedule(drop=0.5, drop_latest=1), state=0.1
    ),
    fixed_windows=True,
    **averaging("non_monotonic", 0, 1),
    **common,
)
""",
    "capped_projected": """
config = Config(
    embedding_size=8,
    embedding_bound=None,
    layers=(Layer("capped", 12),) * 3,
    head="projected",
    sum_outputs=True,
    phases=three_phases(0.01, one_norm, input=0.1, output=0.1, carry=0.1),
    fixed_windows=True,
    masks_per_step=True,
    optimizer="rms",
    sum_over_time=True,
    **averaging("plateau", 1, 0),
    **common,
)
""",
}


def write_texts(folder: Path) -> None:
    """Three texts in which a word makes a few others likely."""
    generator = random.Random(0)
    words = [f"word{number}" for number in range(30)]
    for split, lines in (("train", 400), ("valid", 60), ("test", 60)):
        with open(folder / f"{split}.txt", "w", encoding="utf-8") as file:
            for _ in range(lines):
                at, line = generator.randrange(30), []
                for _ in range(9):
                    line.append(words[at])
                    at = (3 * at + generator.randrange(4)) % 30
                print(*line, file=file)


# A module that this checkout lacks must not be found in another one, where glrnn may be
# installed as editable.
RUN = """
import runpy, sys
sys.meta_path = [each for each in sys.meta_path if "editable" not in repr(each).lower()]
runpy.run_module("glrnn.train", run_name="__main__", alter_sys=True)
"""


def train(checkout: Path, workdir: Path, arguments: list[str]) -> str | None:
    """Trains a run with a checkout's own code; the end of its output if it failed."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "--workdir", str(workdir)],
        cwd=checkout,
        env={
            **os.environ,
            "PYTHONPATH": str(checkout),
            "JAX_ENABLE_COMPILATION_CACHE": "false",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return f"failed: {done.stdout.strip()[-300:]}" if done.returncode else None


def contents(run: Path) -> Iterator[tuple[str, Any]]:
    """What a run has learned and recorded, by name, in the order of training."""
    lines = (run / "metrics.jsonl").read_text().splitlines()
    for number, line in enumerate(lines, 1):
        for name, value in json.loads(line).items():
            if name not in TIMES:
                yield f"metrics.jsonl, line {number}, {name}", value
    stages = [
        (phase, stage)
        for phase in sorted(run.glob("phase_*"))
        for stage in ("main", "finetune")
    ]
    for phase, stage in stages:
        numbers = sorted(
            int(path.name) for path in (phase / stage).glob("*") if path.name.isdigit()
        )
        for number in numbers:
            path = phase / stage / str(number)
            about = json.loads((path / "about" / "metadata").read_text())
            for item, arrays in sorted(about["arrays"].items()):
                for name, array in arrays.items():
                    if item == "params":
                        name = f"params/{name}"
                    found = COMPARED.fullmatch(name)
                    if found:
                        where = f"{phase.name}/{stage}/{number}, {item}"
                        yield f"{where}, {found[1] or found[2]}", array


def numbers_of(value: Any) -> list[float]:
    """The numbers in a value of the metrics."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for each in value for number in numbers_of(each)]
    return [value] if isinstance(value, int | float) else []


def difference(old: Path, new: Path) -> str | None:
    """The first and the largest difference of two runs; None if there is none."""
    one, other = dict(contents(old)), dict(contents(new))
    names = [*one, *(name for name in other if name not in one)]
    unequal = [name for name in names if one.get(name) != other.get(name)]
    if not unequal:
        return None
    first = unequal[0]
    relative = [
        (abs(a - b) / max(abs(a), abs(b)), name)
        for name in unequal
        if name.startswith("metrics")
        for a, b in zip(
            numbers_of(one.get(name)), numbers_of(other.get(name)), strict=False
        )
        if a != b
    ]
    largest = "the metrics have the same numbers"
    if relative:
        size, name = max(relative)
        largest = f"the largest relative difference is {size:.2g}, in {name}"
    return (
        f"{len(unequal)} of {len(names)} differ; the first is {first}: "
        f"{one.get(first, 'nothing')} and {other.get(first, 'nothing')}; {largest}"
    )


def compare(name: str, arguments: list[str], checkouts: list[Path]) -> bool:
    """Trains one run with each checkout, and prints how they differ."""
    with tempfile.TemporaryDirectory() as folder:
        runs = [Path(folder, which) for which in ("old", "new")]
        for checkout, run in zip(checkouts, runs, strict=True):
            failed = train(checkout, run, arguments)
            if failed:
                print(f"{name}: {checkout} {failed}", flush=True)
                return False
        found = difference(*runs)
        count = sum(1 for _ in contents(runs[0]))
    print(f"{name}: {found or f'same ({count} values and arrays)'}", flush=True)
    return found is None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, metavar="OLD_CHECKOUT")
    parser.add_argument(
        "new", type=Path, metavar="NEW_CHECKOUT", nargs="?", default=HERE
    )
    runs = (*EXPERIMENTS, "quickstart", "ptb_smaller")
    parser.add_argument("--only", nargs="+", choices=runs, default=runs)
    parser.add_argument("--quick", action="store_true", help="the small runs only")
    parser.add_argument("--data", type=Path, help="texts of Penn Treebank")
    options = parser.parse_args()
    names = [name for name in options.only if not options.quick or name in EXPERIMENTS]
    if "ptb_smaller" in names and options.data is None:
        parser.error("ptb_smaller needs --data; leave it out with --quick or --only")
    checkouts = [options.old.resolve(), options.new.resolve()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_texts(folder)
        arguments = {"quickstart": []}
        if options.data is not None:
            data = str(options.data.resolve())
            arguments["ptb_smaller"] = [
                *("experiments/ptb_smaller.py", "--data", data),
                *AN_EPOCH_A_PHASE,
            ]
        for experiment, source in EXPERIMENTS.items():
            path = folder / f"{experiment}.py"
            path.write_text(PREAMBLE + source)
            arguments[experiment] = [str(path), "--data", name]
        same = [compare(each, arguments[each], checkouts) for each in names]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
