"""The bar of an evaluation: on a terminal while it runs, in a file now and then."""

import io
import re
import sys

from rich.console import Console

from glrnn.console.bar import Bar


class Clock:
    """Time that passes when told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def make_console(**options):
    file, clock = io.StringIO(), Clock()
    return Console(file=file, get_time=clock, _environ={}, **options), file, clock


def advance(bar, clock, seconds):
    """Ten units a second."""
    for _ in range(seconds):
        clock.now += 1
        bar.advance(10)


def test_a_file_gets_a_line_every_half_minute():
    console, file, clock = make_console()
    with Bar(console) as bar:
        bar.begin("gradient statistics", 1000)
        advance(bar, clock, 100)
        bar.begin("dynamic evaluation", 300)
        advance(bar, clock, 29)
    assert file.getvalue().splitlines() == [
        "gradient statistics: 30%, 1:10 left",
        "gradient statistics: 60%, 0:40 left",
        "gradient statistics: 90%, 0:10 left",
    ]


def test_what_is_left_may_grow():
    console, file, clock = make_console()
    with Bar(console) as bar:
        bar.begin("tuning", 1)
        for number, left in ((1, 500), (2, 900)):
            bar.expect(f"trial {number} of at least 2", left)
            advance(bar, clock, 30)
    assert file.getvalue().splitlines() == [
        "trial 1 of at least 2: 60%, 0:20 left",
        "trial 2 of at least 2: 50%, 1:00 left",
    ]


def test_a_terminal_shows_a_bar_and_leaves_standard_output_alone():
    console, file, clock = make_console(force_terminal=True, width=80, height=30)
    stdout = sys.stdout
    with Bar(console) as bar:
        bar.begin("tuning: trial 12 of at least 27", 1000)
        advance(bar, clock, 50)
        bar.expect("tuning: trial 13 of at least 27", 500)
        assert sys.stdout is stdout
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert re.search(r"tuning: trial 13 of at least 27 [━╺]+ +50% 0:00:50 left", shown)
    assert max(map(len, re.split(r"[\r\n]", shown))) <= 80
    # Erased at the end.
    assert file.getvalue().rsplit("━", 1)[1].count("\x1b[2K") == 1
