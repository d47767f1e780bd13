"""Draws the phases of gradual learning: `python docs/figures/phases.py`.

The picture is an SVG with a background of its own, and a style for dark pages, so that
it is legible on both.
"""

from collections.abc import Iterator
from pathlib import Path

PATH = Path(__file__).with_suffix(".svg")
NUM_PHASES = 3

WIDTH, HEIGHT = 840, 376
# The lower edge of the lowest box, the boxes and the columns.
BOTTOM, BOX_WIDTH, BOX_HEIGHT, GAP = 286, 150, 36, 10
LEFT, COLUMN = 60, 270

STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328; text-anchor: middle }
  .page { fill: #ffffff; stroke: #d1d9e0 }
  .title { font-weight: 600 }
  .small { font-size: 12px; fill: #59636e }
  .index { font-size: 9px }
  .start { text-anchor: start }
  .inherited { fill: #ddf4ff; stroke: #0969da }
  .random { fill: #fff1e5; stroke: #bc4c00; stroke-dasharray: 5 3 }
  .arrow { stroke: #59636e; stroke-width: 1.5; fill: none }
  .head { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc }
    .page { fill: #0d1117; stroke: #3d444d }
    .small { fill: #9198a1 }
    .inherited { fill: #0c2d6b; stroke: #4493f8 }
    .random { fill: #4d2b14; stroke: #db6d28 }
    .arrow { stroke: #9198a1 }
    .head { fill: #9198a1 }
  }
"""


def text(x: float, y: float, words: str, style: str = "") -> str:
    """A line of text."""
    return f'<text x="{x}" y="{y}" class="{style}">{words}</text>'


def box(x: float, y: float, name: str, style: str) -> str:
    """A part of the network."""
    shape = f'width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" class="{style}"'
    return f'<rect x="{x}" y="{y}" {shape}/>' + text(x + BOX_WIDTH / 2, y + 23, name)


def arrow(x: float, y: float, to_x: float) -> str:
    """A horizontal arrow."""
    return (
        f'<path class="arrow" d="M{x} {y} H{to_x - 6}"/>'
        f'<path class="head" d="M{to_x} {y} l-9 -5 v10 z"/>'
    )


def limit(index: str) -> str:
    """The symbol of a clip limit."""
    return f'c<tspan dy="4" class="index">{index}</tspan>'


def phase(number: int) -> Iterator[str]:
    """The network of one phase: what is random in it, and the limit of each part."""
    left = LEFT + (number - 1) * COLUMN
    center = left + BOX_WIDTH / 2
    yield text(center, 34, f"Phase {number}", "title")
    layers = [(f"layer {each}", str(each)) for each in range(1, number + 1)]
    y = BOTTOM
    for name, index in [("embedding", "e"), *layers, ("softmax", "s")]:
        y -= BOX_HEIGHT
        is_random = number == 1 or name == f"layer {number}"
        yield box(left, y, name, "random" if is_random else "inherited")
        yield text(left + BOX_WIDTH + 8, y + 22, limit(index), "small start")
        y -= GAP
    yield text(center, BOTTOM + 22, "train, average, finetune", "small")
    if number < NUM_PHASES:
        start, end = left + BOX_WIDTH + 36, left + COLUMN - 12
        y = BOTTOM - BOX_HEIGHT / 2
        yield arrow(start, y, end)
        yield text((start + end) / 2, y - 22, "best", "small")
        yield text((start + end) / 2, y - 8, "weights", "small")


def legend() -> Iterator[str]:
    """What the colours and the letters stand for."""
    y = HEIGHT - 36
    entries = {
        "inherited": "inherited from the phase before",
        "random": "random at the start",
    }
    x = LEFT
    for style, words in entries.items():
        yield f'<rect x="{x}" y="{y}" width="22" height="16" rx="3" class="{style}"/>'
        yield text(x + 30, y + 12, words, "small start")
        x += COLUMN
    meaning = '<tspan dy="-4">: limit of the gradient norm</tspan>'
    yield text(x, y + 12, limit("k") + meaning, "small start")


def draw() -> str:
    """The picture as SVG."""
    label = "Each phase adds a random layer to the best weights of the phase before."
    phases = [line for number in range(1, NUM_PHASES + 1) for line in phase(number)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{label}">',
            f"<style>{STYLE}</style>",
            f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" '
            'class="page"/>',
            *phases,
            *legend(),
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    PATH.write_text(draw())
