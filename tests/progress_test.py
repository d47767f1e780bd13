"""A person sees how far a run is; its metrics stand once each, in strict JSON."""

import io
import math
import re
import subprocess
import sys
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from rich.console import Console

from glrnn.console.progress import Progress

TITLE = "phase 2/3 · finetune · epoch 3/40"
NORMS = {
    "embedding": (0.12, 0.05),
    "layer 1": (0.25, 0.3),
    "head": (1234.5, math.inf),
}


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def make_console(**options: Any) -> tuple[Console, io.StringIO, Clock]:
    file, clock = io.StringIO(), Clock()
    console = Console(file=file, get_time=clock, _environ={}, **options)
    return console, file, clock


def terminal(width: int = 100) -> tuple[Console, io.StringIO, Clock]:
    return make_console(force_terminal=True, width=width, height=30)


def run_epoch(progress: Progress, clock: Clock, minutes: float = 2) -> None:
    """An epoch of 1,200 tokens, at 10 tokens a second, reported every second."""
    progress.begin_epoch(TITLE, total_tokens=1200)
    for second in range(1, int(minutes * 60) + 1):
        clock.now += 1
        progress.update(second * 10, {"loss": 4.25, "lr": 30.0}, NORMS, second > 60)


def test_file_gets_a_line_every_half_minute_and_one_an_epoch():
    console, file, clock = make_console()
    with Progress(console=console) as progress:
        progress.say("[bold]corpus[/bold]: 1,200 tokens :smile:")
        run_epoch(progress, clock)
        progress.end_epoch(f"{TITLE}: valid loss 4.3")
    lines = file.getvalue().splitlines()
    norms = "embedding 0.12/0.05 · layer 1 0.25/0.3 · head 1.23e+03/inf"
    assert lines == [
        "[bold]corpus[/bold]: 1,200 tokens :smile:",
        *[
            f"{TITLE} · {done}% · loss 4.25 · perplexity 70.11 · lr 30 · 10 tokens/s · "
            f"averaging {averaging} · gradient norm/limit: {norms} · {left} left"
            for done, averaging, left in [
                (25, "off", "0:01:30"),
                (50, "off", "0:01:00"),
                (75, "on", "0:00:30"),
                (100, "on", "0:00:00"),
            ]
        ],
        f"{TITLE}: valid loss 4.3",
    ]


def test_terminal_shows_all_of_it_while_the_epoch_runs():
    console, file, clock = terminal()
    with Progress(console=console) as progress:
        run_epoch(progress, clock, minutes=1)
        shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
        for piece in [
            TITLE,
            "━━━━",
            "50%",
            "600/1,200 tokens",
            "0:01:00 left",
            "loss 4.25 · perplexity 70.11 · lr 30 · 10 tokens/s · averaging off",
            "embedding 0.12/0.05 · layer 1 0.25/0.3 · head 1.23e+03/inf",
        ]:
            assert piece in shown
        before = len(file.getvalue())
        progress.end_epoch("epoch 3/40 done")
        after = file.getvalue()[before:]
        assert "epoch 3/40 done" in after
        assert "tokens/s" not in after.split("epoch 3/40 done")[1]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_terminal_is_restored_whatever_happens(error):
    console, file, clock = terminal()
    stdout = sys.stdout
    with (
        pytest.raises(error),
        Progress(console=console) as progress,
    ):
        run_epoch(progress, clock)
        assert sys.stdout is not stdout
        raise error
    assert sys.stdout is stdout
    hidden, shown = "\x1b[?25l", "\x1b[?25h"
    assert file.getvalue().rfind(shown) > file.getvalue().rfind(hidden) >= 0


def test_the_rest_of_an_epoch_is_shown_at_its_own_speed():
    console, file, clock = make_console()
    with Progress(console=console) as progress:
        progress.begin_epoch(TITLE, total_tokens=1200, tokens=600)
        for second in range(1, 31):
            clock.now += 1
            progress.update(600 + second * 10, {}, NORMS, averaging=False)
    (line,) = file.getvalue().splitlines()
    assert "75%" in line
    assert " 10 tokens/s" in line
    assert line.endswith("0:00:30 left")


@hypothesis.given(loss=st.floats(0, 2000))
@hypothesis.settings(max_examples=20, deadline=None)
def test_perplexity_is_exp_of_loss(loss):
    console, file, clock = make_console()
    progress = Progress(console=console)
    progress.begin_epoch(TITLE, total_tokens=10)
    clock.now = 30
    progress.update(5, {"loss": loss}, {}, averaging=False)
    (shown,) = re.findall(r"perplexity ([^ ]+)", file.getvalue())
    with np.errstate(over="ignore"):
        expected = float(np.exp(np.float64(loss)))
    assert float(shown.replace(",", "")) == pytest.approx(
        expected, rel=1e-12, abs=0.005
    )


ROWS = [
    {"phase": 1, "perplexity": 77.123, "note": "a note " * 20 + "to its end"},
    {"phase": 2, "perplexity": 1067.1, "averaged": True},
]


def test_piped_table_is_whole_and_readable():
    console, file, _ = make_console()
    Progress(console=console).table(ROWS)
    header, rule, first, second = file.getvalue().splitlines()
    assert header.split() == ["phase", "perplexity", "note", "averaged"]
    assert set(rule.strip()) == {"─"}
    assert ROWS[0]["note"] in first
    assert first.split()[:2] == ["1", "77.12"]
    assert second.split() == ["2", "1,067.10", "yes"]
    assert header.index("perplexity") + len("perplexity") == first.index("77.12") + 5


def test_terminal_table_fits():
    console, file, _ = terminal(width=60)
    Progress(console=console).table(ROWS)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert max(len(line) for line in plain.splitlines()) <= 60
    assert "1,067.10" in plain


def test_rich_is_imported_late():
    script = "import glrnn.console.progress, sys; assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
