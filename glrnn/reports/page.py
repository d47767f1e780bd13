"""HTML pages, one file each: templates, tables, and the library that they need.

Everything that comes from a run may come from a stranger. Templates escape all that is
put into them, control characters are shown as escapes, and the pages forbid scripts.
jinja2 is imported where a page is made.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from glrnn.console.table import cell, is_numeric
from glrnn.errors import UsageError, printable
from glrnn.storage import run_folder

TEMPLATES = Path(__file__).parent / "templates"
# The name of a run's own page, in its folder.
REPORT = "report.html"


def require(*libraries: str) -> None:
    """Refuses to begin where a library is not installed.

    Raises:
        UsageError: One is not.

    Example:
        >>> require("no_such_library")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: a page needs no_such_library, which is not installed: \
pip install 'glrnn[report]'
    """
    missing = [name for name in libraries if not is_installed(name)]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise UsageError(
            f"a page needs {' and '.join(missing)}, which {are} not installed: pip "
            f"install 'glrnn[report]'"
        )


def is_installed(library: str) -> bool:
    """Whether a library can be imported, which is not done.

    Example:
        >>> is_installed("numpy"), is_installed("no_such_library")
        (True, False)
    """
    return importlib.util.find_spec(library) is not None


class Table(NamedTuple):
    """A table of texts.

    Attributes:
        names: The names of the columns.
        numeric: Whether each column holds numbers.
        rows: The cells.
        links: What the first cell of each row links to, if anything.
    """

    names: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]
    links: tuple[str, ...]


def table(
    rows: Sequence[Mapping[str, object]], links: Sequence[str] | None = None
) -> Table:
    """A table with a column for each key, its cells as a terminal shows them.

    Args:
        rows: The values by column.
        links: What the first cell of each row links to; nothing where it is empty.

    Example:
        >>> table([{"run": "a", "test": 81.044}, {"run": "b", "test": None}]).rows
        (('a', '81.04'), ('b', ''))
    """
    names = tuple(dict.fromkeys(name for row in rows for name in row))
    return Table(
        names,
        tuple(is_numeric(rows, name) for name in names),
        tuple(tuple(cell(row.get(name)) for name in names) for row in rows),
        tuple(links if links is not None else [""] * len(rows)),
    )


def link(page: Path, target: Path) -> str:
    """The address of a file for a page that stands elsewhere on the disk.

    Example:
        >>> link(Path("pages/all.html"), Path("runs/a b/report.html"))
        '../runs/a%20b/report.html'
    """
    relative = os.path.relpath(target.absolute(), page.absolute().parent)
    return quote(relative.encode("utf-8", "surrogateescape"))


def render(template: str, **values: Any) -> str:
    """A page.

    Args:
        template: The name of a file in `templates`.
        **values: What the template shows. A `Markup` is put in as it is.

    Example:
        >>> "&lt;script&gt;" in render(
        ...     "runs.html", title="<script>", runs=table([]), notes=[], resume=[]
        ... )
        True
    """
    import jinja2
    from markupsafe import Markup

    def safe(value: Any) -> Any:
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        # Half of a surrogate pair is no character of UTF-8.
        return printable(value.encode("utf-8", "replace").decode())

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)


def check_place(path: Path) -> None:
    """Refuses to put a page where it would destroy something.

    Inside of a run a page may stand beside the run's own files, by a name that ends in
    .html; elsewhere it replaces a page or nothing.

    Raises:
        UsageError: It is a folder, or stands where it should not.

    Example:
        >>> check_place(Path("page.txt"))
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: page.txt is no name of a page; give one in .html
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder; give a file in .html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path} is no name of a page; give one in .html")
    for outer in (*path.absolute().parents, *path.resolve().parents):
        if run_folder.exists(outer) and outer.resolve() != path.parent.resolve():
            raise UsageError(f"{path} is inside the run {outer}; choose another")


def check_outside(path: Path, option: str) -> None:
    """Refuses a file, and a folder inside of a run.

    Args:
        path: The folder.
        option: The option that it was given by.

    Raises:
        UsageError: It is a file, or inside of a run.
    """
    if path.exists() and not path.is_dir():
        raise UsageError(f"{option} {path} is no folder")
    for outer in (path, *path.absolute().parents, *path.resolve().parents):
        if run_folder.exists(outer):
            raise UsageError(
                f"{option} {path} is inside the run {outer}; choose another"
            )
