"""A table in the terminal, or as plain text where the output is a file or a pipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def print_table(
    rows: Sequence[Mapping[str, object]], console: Console | None = None
) -> None:
    """Shows a table with one column a key.

    Args:
        rows: Cells by column; None for an empty one. A row may lack some columns.
        console: Where; standard output if not given.

    Example:
        >>> print_table([{"phase": 1, "test": 81.044}, {"phase": 2}])
        phase    test
        ─────────────
            1   81.04
            2
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = console if console is not None else Console()
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    names = list(dict.fromkeys(name for row in rows for name in row))
    for name in names:
        numeric = all(isinstance(row.get(name) or 0, int | float) for row in rows)
        justify = "right" if numeric else "left"
        table.add_column(Text(name), justify=justify, overflow="fold")
    for row in rows:
        # As text: brackets and colons in a name are no markup.
        table.add_row(*(Text(_cell(row.get(name))) for name in names))
    if console.is_terminal:
        console.print(table)
        return
    # A file has no width; rich would fold the table into 80 columns. Nor does it need
    # the spaces that fill a line.
    wide = Console(width=10_000, force_terminal=False)
    with wide.capture() as capture:
        wide.print(table)
    for line in capture.get().splitlines():
        console.out(line.rstrip(), highlight=False)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
