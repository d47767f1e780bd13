"""The metrics of a run as far as they can be read: for what shows them.

`metrics_log.read_epochs` refuses a file with a damaged line. Here such a line is left
out and counted, a number that is not finite counts as missing, and a file of a million
lines is read in seconds, one line at a time.
"""

import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from glrnn.config.gradual import group_names
from glrnn.errors import UsageError
from glrnn.ground.files import open_regular
from glrnn.storage.metrics_log import EpochRecord, Sign
from glrnn.storage.run_folder import STAGES, Run

# The largest number of lines, and of bytes in one of them; a line about a hundred
# layers has 9,000.
MOST_LINES, LONGEST = 1_000_000, 2**16
# The largest number of warnings of an epoch, and of characters in one.
MOST_WARNINGS, LONGEST_WARNING = 4, 500
# The largest count; beyond it a float cannot count.
LARGEST_COUNT = 2**53
COUNTS = ("updates", "skipped", "tokens")
NUMBERS = (
    "train_loss",
    "tokens_per_second",
    "learning_rate",
    "raw_valid_loss",
    "unigram_perplexity",
)
GROUPS = ("gradient_norm", "clipped")


def scan_epochs(run: Run, damages: list[str]) -> Iterator[EpochRecord]:
    """The epochs in a run's metrics that can be read, in the order of their lines.

    Perplexities other than that of word frequencies are left out: the losses say the
    same. A validation loss that is missing or not finite is NaN.

    Args:
        run: The run.
        damages: Takes a sentence about what could not be read, once all was read. A
            last line that was cut short is passed over.

    Raises:
        UsageError: The file cannot be read at all.
    """
    path = run.folder / "metrics.jsonl"
    if not os.path.lexists(path):
        return
    groups = {
        (number, name): group_names(getattr(phase, name).max_norms, phase.num_layers)
        for number, phase in enumerate(run.config.phases, 1)
        for name in STAGES
    }
    damaged: list[int] = []
    try:
        with open_regular(path) as file:
            lines = _lines(file)
            for number, line in enumerate(itertools.islice(lines, MOST_LINES), 1):
                record = _record(line, groups)
                if record is not None:
                    yield record
                else:
                    damaged.append(number)
            if next(lines, None) is not None:
                damages.append(f"only the first {MOST_LINES:,} epochs were read")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    if damaged:
        told = f"{len(damaged):,} lines, of which line {damaged[0]:,} is the first,"
        which = f"line {damaged[0]:,}" if len(damaged) == 1 else told
        damages.append(f"{which} of metrics.jsonl cannot be read")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines that end in a newline; of one that is too long, the newline alone."""
    while line := file.readline(LONGEST):
        whole = line.endswith(b"\n")
        while line and not line.endswith(b"\n"):
            line = file.readline(LONGEST)
        if line:
            yield line if whole else b"\n"


def _record(
    line: bytes, groups: Mapping[tuple[int, str], Sequence[str]]
) -> EpochRecord | None:
    """The epoch of a line, or `None` if it is no such line."""
    try:
        values = json.loads(line.decode())
        stage = values["phase"], values["stage"]
        names = groups[stage]
        epoch = values["epoch"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    # True is a number in Python, and equal to 1.
    if type(stage[0]) is not int or type(epoch) is not int:
        return None
    if not 1 <= epoch <= LARGEST_COUNT:
        return None
    loss = _number(values.get("valid_loss"))
    read: dict[str, Any] = {name: _count(values.get(name)) for name in COUNTS}
    read |= {name: _number(values.get(name)) for name in NUMBERS}
    read |= {name: _numbers(values.get(name), names) for name in GROUPS}
    return EpochRecord(
        phase=stage[0],
        stage=stage[1],
        epoch=epoch,
        valid_loss=math.nan if loss is None else loss,
        averaging=values.get("averaging") is True,
        triggered=values.get("triggered") is True,
        seconds=max(_number(values.get("seconds")) or 0.0, 0.0),
        warnings=_warnings(values.get("warnings")),
        **read,
    )


def _number(value: Any) -> float | None:
    if type(value) is int and abs(value) <= LARGEST_COUNT:
        return float(value)
    return value if type(value) is float and math.isfinite(value) else None


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value <= LARGEST_COUNT else 0


def _numbers(values: Any, names: Sequence[str]) -> dict[str, float]:
    """The numbers of the groups that there are."""
    if not isinstance(values, dict):
        return {}
    found = ((name, _number(values.get(name))) for name in names)
    return {name: number for name, number in found if number is not None}


def _warnings(values: Any) -> tuple[Sign, ...]:
    """The warnings that are some; kinds are those that a run knows."""
    if not isinstance(values, list):
        return ()
    signs = []
    for value in values[:MOST_WARNINGS]:
        try:
            signs.append(Sign(value["kind"], value["text"][:LONGEST_WARNING]))
        except (KeyError, TypeError, ValueError):
            continue
    return tuple(signs)
