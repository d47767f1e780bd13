"""A person sees how far a run is; its metrics stand once each, in strict JSON."""

import io
import math
import re
import subprocess
import sys
import time
from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from glrnn.console import compilation
from glrnn.console.progress import Progress
from glrnn.console.table import print_table

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


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(compilation, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(compilation, "REFRESH_SECONDS", 0.05)


def compile_for_a_while(look=lambda: None):
    jax.jit(lambda x: (time.sleep(0.5), look(), x)[2])(jnp.ones(3))


def test_a_file_is_told_of_compiling_once_a_phase(impatient):
    console, file, _ = make_console()
    seen = []
    with Progress(console=console) as progress:
        for phase in (1, 2):
            for epoch in (1, 2):
                progress.begin_epoch(f"phase {phase}/2 · main · epoch {epoch}/2", 10)
                compile_for_a_while(lambda: seen.append(file.getvalue()))
    first, second = (f"phase {phase}/2 · compiling\n" for phase in (1, 2))
    # While it compiles, not after.
    assert seen == [first, first, first + second, first + second]
    assert file.getvalue() == first + second


def test_a_terminal_shows_how_long_compiling_takes(impatient):
    console, file, _ = terminal()
    with Progress(console=console) as progress:
        progress.begin_epoch(TITLE, total_tokens=1200)
        seen = []
        compile_for_a_while(lambda: seen.append(file.getvalue()))
        assert "compiling · 0:00" in seen[0]
        time.sleep(0.2)
        # The display is drawn without it when it is over.
        assert "compiling" not in file.getvalue().rsplit(TITLE, 1)[1]


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


def test_a_table_in_a_narrow_terminal_has_all_its_columns():
    console, file, _ = terminal(width=12)
    print_table([{"run": "runs/mine", "valid": 1067.1, "test": 98.7}], console)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    for cell in ("runs/mine", "1,067.10", "98.70"):
        assert cell in plain.replace("\n", "")


# Tables of the command lines at their widest, on 80 columns.
WIDE = {
    "phases": {
        "phase": 3, "layers": 3, "parameters": 26_123_456, "epochs": 500,
        "valid, raw": 1067.1, "valid, averaged": 1064.3, "test": 98.7, "time": "123:01",
    },
    "study": {
        "experiment": "ptb_small", "variant": "reference", "seed": 28, "rate": 30.0,
        "parameters": 26_123_456, "epochs": 500, "valid": 61.2, "test": 58.8,
        "time": "1:02:05",
    },
    "runs": {
        "run": "runs/quickstart", "experiment": "quickstart", "data": "python-docs",
        "reached": "3/3 finetune 100/500", "best valid": 61.2, "test": 58.8,
    },
    "check": {
        "figure": "update of layer 3, recurrent", "NVIDIA H100 80GB HBM3": "0.123456",
        "CPU": "0.123456", "difference": "1.1e-05", "tolerance": "1.2e-02", "": "wrong",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", WIDE)
def test_tables_of_the_command_lines_fit_80_columns_with_their_cells_whole(name):
    console, file, _ = terminal(width=80)
    print_table([WIDE[name]], console)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()
    assert max(map(len, lines)) <= 80
    piped, whole, _ = make_console()
    print_table([WIDE[name]], piped)
    assert lines[-1].split() == whole.getvalue().splitlines()[-1].split()


def test_a_long_name_folds_and_numbers_stay_whole():
    console, file, _ = terminal(width=80)
    name = "runs/study/ptb_small/without_finetuning/seed_28/rate_30"
    print_table([WIDE["runs"] | {"run": name}], console)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue()).splitlines()
    body = lines[-3:]
    assert "".join(line.split()[0] for line in body) == name
    assert body[0].split()[-2:] == ["61.20", "58.80"]


def test_a_sentence_breaks_between_words_on_a_terminal():
    console, file, _ = terminal(width=40)
    Progress(console).say("[a] " + "word " * 19 + "end")
    lines = file.getvalue().splitlines()
    assert " ".join(" ".join(lines).split()) == "[a] " + "word " * 19 + "end"
    assert all(len(line.rstrip()) <= 40 for line in lines)


def test_rich_is_imported_late():
    script = "import glrnn.console.progress, sys; assert 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True)
