"""Lines of text, which a terminal breaks between words."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from glrnn.console.output import output_console, raise_lost
from glrnn.errors import printable

if TYPE_CHECKING:
    from rich.console import Console


def print_sentence(text: str, console: Console | None = None) -> None:
    """Prints a line; a terminal too narrow for it breaks it between words.

    Args:
        text: The line. Brackets and colons in it are no markup, and control characters
            are printed as escapes.
        console: Where to print; standard output by default.

    Example:
        >>> print_sentence("warning: [a] is :smile:")
        warning: [a] is :smile:
    """
    text = printable(text)
    where = console if console is not None else output_console(raise_lost)
    if where.is_terminal:
        where.print(text, markup=False, emoji=False, highlight=False)
    elif console is not None:
        console.out(text, highlight=False)
    else:
        print(text)


def shell_word(text: str) -> str:
    r"""A word of a command line to copy; control characters as a shell spells them.

    Example:
        >>> print(shell_word("runs/mine"), shell_word("my run"), shell_word("a\x1bb"))
        runs/mine 'my run' $'a\x1bb'
    """
    if printable(text) == text:
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"$'{printable(escaped)}'"
