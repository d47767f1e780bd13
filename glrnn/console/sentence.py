"""Lines of text, which a terminal breaks between words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glrnn.console.output import output_console, raise_lost

if TYPE_CHECKING:
    from rich.console import Console


def print_sentence(text: str, console: Console | None = None) -> None:
    """Prints a line; a terminal too narrow for it breaks it between words.

    Args:
        text: The line, printed as it is: brackets and colons are no markup.
        console: Where to print; standard output by default.

    Example:
        >>> print_sentence("warning: [a] is :smile:")
        warning: [a] is :smile:
    """
    where = console if console is not None else output_console(raise_lost)
    if where.is_terminal:
        where.print(text, markup=False, emoji=False, highlight=False)
    elif console is not None:
        console.out(text, highlight=False)
    else:
        print(text)
