"""The start of a training run on a corpus of WikiText-103's size.

The corpus is made up: 103,227,021 training tokens of 267,735 words, whose frequencies
are those of Zipf's law, in lines as long as WikiText-103's. The command is `python -m
glrnn.train`, in a process of its own that ends with the first window of the first
epoch, before any step is compiled. It starts with an empty cache, where the texts are
read, counted and encoded, then with the cache that the first start filled.

    python -m benchmarks.corpora

With `--folder` the texts are made there and left, 540 MB, or are used if there are any.
"""

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.results import RESULTS, write

# Tokens of WikiText-103, one `<eos>` for each line among them, and its word types.
TOKENS = {"train": 103_227_021, "valid": 217_646, "test": 245_569}
NUM_WORDS = 267_735
LINE = 57
SYLLABLES = [c + v for c in "bcdfghjklmnpqrstvwxz" for v in "aeiou"]

EXPERIMENT = """
from glrnn.config import Config, Layer, Phase, Stage

stage = Stage(1, learning_rate=1.0, max_norms=(0.5,))
config = Config(
    embedding_size=8,
    layers=(Layer(hidden_size=8),),
    phases=(Phase(main=stage, finetune=stage),),
)
"""

CHILD = """
import json, os, resource, sys, time
from glrnn import data, train
from glrnn.training import epoch

load, windows = data.load, epoch.windows
seconds = {}

def timed_load(*arguments, **options):
    began = time.perf_counter()
    corpus = load(*arguments, **options)
    seconds["load"] = time.perf_counter() - began
    return corpus

def first_window(*arguments):
    next(windows(*arguments))
    used = resource.getrusage(resource.RUSAGE_SELF)
    found = {
        "load_seconds": seconds["load"],
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024,
    }
    os.write(int(sys.argv[1]), json.dumps(found).encode())
    os._exit(0)

data.load, epoch.windows = timed_load, first_window
train.main(sys.argv[2:])
"""


@dataclass(frozen=True)
class Command:
    """Time the first start on a large corpus, and later ones.

    Attributes:
        folder: A folder for the texts; a temporary one by default.
        times: The number of later starts.
        scale: The part of the corpus's size, for a rehearsal.
        output: A folder for the results.
    """

    folder: Path | None = None
    times: int = 3
    scale: float = 1.0
    output: Path = RESULTS


def make_texts(folder: Path, scale: float) -> None:
    """Writes train.txt, valid.txt and test.txt, in which every word occurs."""
    num_words = round(NUM_WORDS * scale) - 1  # `<eos>` is the last one
    words = np.array([*map(_word, range(num_words))], object)
    shares = np.cumsum(1 / np.arange(1, num_words + 1))
    shares /= shares[-1]
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, num_tokens in TOKENS.items():
        count = round(num_tokens * scale)
        every = rng.permutation(num_words) if split == "train" else []
        with (folder / f"{split}.txt").open("w") as file:
            for ids in _blocks(rng, shares, every, count - -(-count // (LINE + 1))):
                for row in np.split(words[ids], range(LINE, len(ids), LINE)):
                    file.write(" ".join(row.tolist()) + "\n")


def _word(number: int) -> str:
    """A word of two syllables or three for a number: of two below 10,000."""
    digits, number = "", number + len(SYLLABLES)
    while number >= 0:
        number, digit = divmod(number, len(SYLLABLES))
        digits = SYLLABLES[digit] + digits
        number -= 1
    return digits


def _blocks(
    rng: np.random.Generator, shares: np.ndarray, every: Sequence[int], count: int
) -> Iterator[np.ndarray]:
    """The words of whole lines, some at a time: each of `every`, then drawn ones."""
    done = 0
    while done < count:
        size = min(count - done, LINE * 2**14)
        ids = np.searchsorted(shares, rng.random(size))
        first = every[done : done + size]
        ids[: len(first)] = first
        yield ids
        done += size


def start(folder: Path, cache: Path) -> dict[str, float]:
    """The wall time, CPU time and peak memory of a start up to the first window."""
    with tempfile.TemporaryDirectory() as name:
        experiment = Path(name, "small.py")
        experiment.write_text(EXPERIMENT)
        arguments = ["--data", str(folder), "--workdir", f"{name}/run"]
        reading, writing = os.pipe()
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-c", CHILD, str(writing), str(experiment), *arguments],
            env=os.environ | {"XDG_CACHE_HOME": str(cache)},
            stdout=subprocess.DEVNULL,
            pass_fds=[writing],
            check=True,
        )
        seconds = time.perf_counter() - began
        os.close(writing)
        with os.fdopen(reading) as found:
            return {"seconds": seconds, **json.load(found)}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.corpora", args=arguments)
    with contextlib.ExitStack() as temporary:
        folder = command.folder or Path(
            temporary.enter_context(tempfile.TemporaryDirectory())
        )
        cache = Path(temporary.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / "test.txt").exists():
            make_texts(folder, command.scale)
        first = start(folder, cache)
        later = [start(folder, cache) for _ in range(command.times)]
        texts = sum(path.stat().st_size for path in folder.glob("*.txt"))
        kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    result = {
        "train_tokens": round(TOKENS["train"] * command.scale),
        "words": round(NUM_WORDS * command.scale),
        "text_bytes": texts,
        "cache_bytes": kept,
        **{f"first_{name}": value for name, value in first.items()},
        **{
            f"later_{name}": statistics.median(each[name] for each in later)
            for name in first
        },
    }
    print(
        f"{result['train_tokens']:,} tokens, {result['words']:,} words: first start "
        f"{first['seconds']:.1f} s ({first['cpu_seconds']:.1f} of CPU), "
        f"{first['peak_bytes'] / 1e9:.2f} GB; later {result['later_seconds']:.1f} s "
        f"({result['later_cpu_seconds']:.1f} of CPU), "
        f"{result['later_peak_bytes'] / 1e9:.2f} GB"
    )
    name = "corpora" if command.scale == 1 else "corpora-rehearsal"
    write(command.output, name, result)


if __name__ == "__main__":
    main()
