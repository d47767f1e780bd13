"""A table in the terminal, or as plain text where the output is a file or a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from glrnn.console.output import output_console, raise_lost
from glrnn.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# The characters that a column of texts is given at least.
NARROWEST = 4


def print_table(
    rows: Sequence[Mapping[str, object]], console: Console | None = None
) -> None:
    """Shows a table with one column for each key.

    On a terminal too narrow for it, headers break at their spaces and long texts fold;
    numbers stay whole. Control characters are printed as escapes.

    Args:
        rows: The cells by column; None for an empty one. A row may lack some columns.
        console: Where to print; standard output by default.

    Example:
        >>> print_table([{"phase": 1, "test": 81.044}, {"phase": 2}])
        phase   test
        ────────────
            1  81.04
            2
    """
    from rich.measure import Measurement

    console = console if console is not None else output_console(raise_lost)
    names = list(dict.fromkeys(name for row in rows for name in row))
    if console.is_terminal and console.width >= _least_width(rows, names):
        table = _table(rows, names, names)
        needed = Measurement.get(console, console.options.update(width=10_000), table)
        if needed.maximum > console.width:
            table = _table(rows, names, [name.replace(" ", "\n") for name in names])
        console.print(table)
        return
    # Too narrow a terminal breaks the lines, where rich would leave out columns; a file
    # has no width, where rich assumes 80 columns, and needs no spaces that fill
    # a line.
    wide = output_console(raise_lost, width=10_000, force_terminal=False)
    with wide.capture() as capture:
        wide.print(_table(rows, names, names))
    for line in capture.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _least_width(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> int:
    """The columns of a terminal in which no column of a table is left out."""
    widths = [
        max(len(cell(row.get(name))) for row in rows)
        if is_numeric(rows, name)
        else NARROWEST
        for name in names
    ]
    return sum(widths) + 2 * (len(widths) - 1)


def is_numeric(rows: Sequence[Mapping[str, object]], name: str) -> bool:
    """Whether a column holds numbers alone, which stand at the right."""
    return all(isinstance(row.get(name) or 0, int | float) for row in rows)


def _table(
    rows: Sequence[Mapping[str, object]], names: Sequence[str], headers: Sequence[str]
) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=box.SIMPLE, show_edge=False, pad_edge=False, collapse_padding=True
    )
    for name, header in zip(names, headers, strict=True):
        numeric = is_numeric(rows, name)
        table.add_column(
            Text(header),
            justify="right" if numeric else "left",
            overflow="fold",
            no_wrap=numeric,
        )
    for row in rows:
        # As text: brackets and colons in a name are no markup.
        table.add_row(*(Text(cell(row.get(name))) for name in names))
    return table


def cell(value: object) -> str:
    """A value as the table shows it: one safe line, empty for None.

    Example:
        >>> cell(1234.567), cell(True), cell(None)
        ('1,234.57', 'yes', '')
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
