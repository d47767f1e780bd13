"""Candidates rescored, three ways in turn: `python -m benchmarks.nbest`.

The ways are `python -m glrnn.score --nbest`'s, one call of `glrnn.log_likelihoods` for
each line, and PyTorch's loop over batches of like length, with the same weights. Each
is a process of its own with all cores, and computes in float32; compiling, loading and
reading are not timed.

    python -m benchmarks.nbest --data DIR --preset ptb
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from benchmarks.candidates import UTTERANCES
from benchmarks.pairs import peak_bytes, process
from benchmarks.presets import PRESETS, Preset
from benchmarks.results import RESULTS, write
from glrnn.console.table import print_table

WAYS = ("by prefix", "line by line", "torch")


@dataclass(frozen=True)
class Command:
    """Time three ways to rescore a list of candidates.

    Attributes:
        data: The folder of Penn Treebank; the candidates are made from its valid.txt.
        preset: The size of the network.
        turns: The turns of each way.
        utterances: The number of sentences, of ten candidates each.
        output: A folder for the results.
    """

    data: Path
    preset: Annotated[str, tyro.conf.arg(constructor=Literal[*PRESETS])] = "ptb"
    turns: int = 5
    utterances: int = UTTERANCES
    output: Path = RESULTS


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.nbest", args=arguments)
    with tempfile.TemporaryDirectory() as name:
        result = compare(Path(name), command)
    rows = [
        {
            "way": way,
            "tokens/s": round(result["tokens_per_second"][way]),
            "peak MB": round(result["peak_bytes"][way] / 1e6),
        }
        for way in WAYS
    ]
    print_table(rows)
    share = result["distinct_prefixes"] / result["tokens"]
    print(
        f"\n{command.preset}: {result['lines']:,} lines, {result['tokens']:,} tokens; "
        f"the distinct prefixes are {share:.0%} of these\n"
        f"{result['ratios']['line by line']:.1f} times the speed of one call a line, "
        f"{result['ratios']['torch']:.2f} times that of {result['form']}\n"
        f"largest difference of a word: {max(result['differences'].values()):.1e} nats"
    )
    write(command.output, f"nbest-{command.preset}-cpu", result)


def compare(folder: Path, command: Command) -> dict[str, Any]:
    """Times the ways in turn; ratios are medians over the turns."""
    from benchmarks.our_lists import prepare

    preset = PRESETS[command.preset]
    counts = prepare(folder, command.data, preset, command.utterances)
    with ExitStack() as stack:
        pipes = {
            way: stack.enter_context(process(_work, way, folder, preset))
            for way in WAYS
        }
        forms, found = {}, {}
        for way, pipe in pipes.items():  # one after the other: they try what is fastest
            pipe.send("go")
            forms[way], found[way] = pipe.recv()
        turns = [
            {way: _turn(pipe, turn) for way, pipe in pipes.items()}
            for turn in range(command.turns)
        ]
        peaks = {way: _ask(pipe, None) for way, pipe in pipes.items()}
    return {
        "preset": command.preset,
        "form": forms["torch"],
        **counts,
        "turns": turns,
        "tokens_per_second": {
            way: statistics.median(turn[way] for turn in turns) for way in WAYS
        },
        "ratios": {
            way: statistics.median(turn["by prefix"] / turn[way] for turn in turns)
            for way in WAYS[1:]
        },
        "differences": {
            way: max(
                float(np.abs(ours - others).max())
                for ours, others in zip(found["by prefix"], found[way], strict=True)
            )
            for way in WAYS[1:]
        },
        "peak_bytes": peaks,
    }


def _turn(pipe: Connection, turn: int) -> float:
    time.sleep(0.3)  # lets the other sides' threads fall asleep
    return _ask(pipe, turn)


def _ask(pipe: Connection, turn: int | None) -> Any:
    pipe.send(turn)
    return pipe.recv()


def _work(pipe: Connection, way: str, folder: Path, preset: Preset) -> None:
    """Runs one way: sends what it finds, then its tokens per second in each turn."""
    pipe.recv()
    form = way
    if way == "torch":
        from benchmarks.their_lists import batched

        (score, scores), form = batched(folder, preset)
    else:
        from benchmarks import our_lists

        make = {"by prefix": our_lists.by_prefix, "line by line": our_lists.one_by_one}
        score, scores = make[way](folder, preset)
    found = scores()
    score(0)
    pipe.send((form, found))
    while (turn := pipe.recv()) is not None:
        started = time.perf_counter()
        count = score(turn)
        pipe.send(count / (time.perf_counter() - started))
    pipe.send(peak_bytes(way, "cpu"))


if __name__ == "__main__":
    main()
