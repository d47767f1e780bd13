"""Figures as SVG for a page, whose colours are those of the page, and as PNG.

A figure is drawn in the colours of a light page. In its SVG each of them becomes a
variable of the page's style sheet, so that one drawing suits light and dark pages and
print. matplotlib is imported where a figure is drawn.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.figure import Figure

Kept = TypeVar("Kept", str, bytes)

# The colours of a light page, by the name of their variable; style.css has them too,
# and those of a dark page.
INK, MUTED, GRID = "#1c2024", "#5d6670", "#d5dae0"
SERIES = ("#1459a8", "#c2410c", "#157347", "#7a3a9a", "#8a6100", "#0f7285")
COLORS = {
    INK: "ink",
    MUTED: "muted",
    GRID: "grid",
    **{color: f"series-{number}" for number, color in enumerate(SERIES, 1)},
}
# Besides their colour, lines differ in dashes and markers: in print, and for those who
# see no colours.
DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P")
# Pixels of the figures on a wide page and on a narrow one, of which matplotlib's points
# are 3/4.
WIDE, NARROW = 960, 380
PIXELS_PER_INCH = 96
# Markers are drawn on curves of at most so many points.
MOST_MARKERS = 60
FONT = "DejaVu Sans"
SETTINGS: dict[Any, Any] = {
    "font.family": [FONT],
    "axes.titlesize": "medium",
    "axes.labelsize": "medium",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.5,
    # Names come from anyone: a dollar is no formula.
    "text.parse_math": False,
    # Text stays text: it can be searched, and takes the page's font.
    "svg.fonttype": "none",
    "svg.hashsalt": "glrnn",
}
_XLINK = "{http://www.w3.org/1999/xlink}href"


class Drawing(NamedTuple):
    """A figure that can be drawn wide and narrow.

    Attributes:
        name: Its name: lower-case letters and hyphens.
        caption: What a reader must know of it, in a sentence or two.
        draw: Draws it on a figure of either size.
        wide_height: Its height in pixels on a wide page.
        narrow_height: On a narrow one.
    """

    name: str
    caption: str
    draw: Callable[[Figure], None]
    wide_height: int
    narrow_height: int

    def svgs(self, prefix: str) -> tuple[str, str]:
        """The figure for a wide and for a narrow page, as SVG.

        Args:
            prefix: What begins all ids, as in `as_svg`.
        """
        wide, narrow = (
            self._drawn(width, height, partial(as_svg, name=f"{prefix}-{width}"))
            for width, height in (
                (WIDE, self.wide_height),
                (NARROW, self.narrow_height),
            )
        )
        return wide, narrow

    def png(self) -> bytes:
        """The figure for a wide page, as PNG."""
        return self._drawn(WIDE, self.wide_height, as_png)

    def _drawn(self, width: int, height: int, kept: Callable[[Figure], Kept]) -> Kept:
        with new_figure(width, height) as figure:
            self.draw(figure)
            return kept(figure)


@contextmanager
def new_figure(width: int, height: int) -> Iterator[Figure]:
    """A figure to draw on, in the style of the page.

    Args:
        width: Its width in pixels.
        height: Its height in pixels.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # and not what a user has set for other figures
        matplotlib.rcParams.update(SETTINGS)
        # A wide figure is narrower in print.
        matplotlib.rcParams["font.size"] = 10.0 if width > NARROW else 9.0
        # The page's font has signs that matplotlib's lacks, by which it measures.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        size = width / PIXELS_PER_INCH, height / PIXELS_PER_INCH
        yield Figure(figsize=size, dpi=PIXELS_PER_INCH, layout="constrained")


def as_svg(figure: Figure, name: str) -> str:
    """A figure as an SVG element to stand in a page.

    Args:
        figure: The figure.
        name: A name of its own on the page: letters, digits and hyphens. Ids begin with
            it.

    Returns:
        The element, without a prologue; text in it is escaped.

    Example:
        >>> with new_figure(200, 100) as figure:
        ...     _ = figure.text(0.5, 0.5, "<b> & $x$")
        ...     svg = as_svg(figure, "a")
        >>> svg[:5], "&lt;b&gt; &amp; $x$" in svg
        ('<svg ', True)
    """
    file = io.StringIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(file, format="svg", transparent=True, metadata=metadata)
    root = ElementTree.fromstring(file.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            # The first has nothing left in it, the second styles the whole page.
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        element.attrib = {
            _local(key): _of_page(_local(key), value, name)
            for key, value in element.attrib.items()
        }
        element.tail = (element.tail or "").strip() or None
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "img")
    root.set("aria-label", "figure; its caption says what it shows")
    return ElementTree.tostring(root, encoding="unicode")


def _local(name: str) -> str:
    """A name without its namespace, which HTML's parser knows by itself."""
    return name.partition("}")[2] or name


def _of_page(key: str, value: str, name: str) -> str:
    """An attribute with ids of its own, and the page's colours and font."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return f"#{name}-{value.removeprefix('#')}"
    value = value.replace("url(#", f"url(#{name}-")
    if key in ("style", "fill", "stroke"):
        value = value.replace(f"'{FONT}'", "var(--font)")
        for color, variable in COLORS.items():
            value = re.sub(color, f"var(--{variable})", value, flags=re.IGNORECASE)
    return value


def as_png(figure: Figure) -> bytes:
    """A figure as the content of a PNG file, at twice its size in pixels, on white."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=2 * PIXELS_PER_INCH, facecolor="white")
    return file.getvalue()


def is_wide(figure: Figure) -> bool:
    """Whether a figure is for a wide page."""
    return figure.get_figwidth() * PIXELS_PER_INCH > (WIDE + NARROW) / 2


def legend_below(
    figure: Figure, handles: Sequence[Artist], labels: Sequence[str], columns: int
) -> None:
    """Puts a legend below everything, in so many columns."""
    # Given as labels, names that begin with an underscore would be left out.
    blanks = [f"{number}" for number in range(len(labels))]
    legend = figure.legend(handles, blanks, loc="outside lower center", ncols=columns)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)


def shortened(name: str, most: int = 32) -> str:
    """A name with an ellipsis in its middle where it is too long for a legend.

    Example:
        >>> shortened("runs/a/very/long/name", 11)
        'runs/…/name'
    """
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[: most - 1 - half]}…{name[-half:]}"
