"""The parts of a report: one section a run, and what compares several."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from glrnn.console.epoch_line import clock
from glrnn.console.sentence import shell_word
from glrnn.console.table import cell
from glrnn.errors import UsageError
from glrnn.reports import comparison, gradients, learning
from glrnn.reports.drawing import Drawing
from glrnn.reports.epochs import Epochs, read
from glrnn.reports.page import Table, table
from glrnn.reports.repeat import Recipe, recipe
from glrnn.reports.rows import FINISHED, phase_rows, row_of
from glrnn.reports.samples import Writing, write
from glrnn.storage.run_folder import Run, Summary

# The height of the bar of the most surprising word, in rem.
TALLEST = 4.0
# A surprisal that a bar shows in full at least, so that small ones stay small.
LEAST_BITS = 8.0
# A curve of more epochs is thinned.
MOST_EPOCHS = 1000


class Material(NamedTuple):
    """What was read of a run.

    Attributes:
        run: The run.
        epochs: Its epochs.
        summaries: The outcomes of its finished phases.
        notes: What could not be read.
    """

    run: Run
    epochs: Epochs
    summaries: list[Summary]
    notes: list[str]

    @property
    def row(self) -> dict[str, object]:
        """The run as a row of a table."""
        return row_of(self.run, self.epochs, self.summaries)


class Shown(NamedTuple):
    """A figure as the page takes it; both drawings are `Markup`."""

    title: str
    caption: str
    wide: str
    narrow: str


class Section(NamedTuple):
    """What the page shows of a run; the template says where."""

    name: str
    warnings: Sequence[str]
    notes: Sequence[str]
    cards: Sequence[tuple[str, str]]
    figures: Sequence[Shown]
    phases: Table
    writing: Writing | None
    heights: Sequence[float]
    recipe: Recipe
    resume: str


class Comparison(NamedTuple):
    """What the page shows of several runs."""

    notes: Sequence[str]
    figure: Shown | None
    table: Table


def material(run: Run) -> Material:
    """Reads what a report shows of a run, but for its parameters.

    Raises:
        UsageError: The metrics cannot be read at all.
    """
    epochs, summaries = read(run), []
    notes = list(epochs.damages)
    for number in range(1, len(run.config.phases) + 1):
        try:
            summary = run.read_summary(number)
        except UsageError as error:
            notes.append(str(error))
            continue
        if summary is not None:
            summaries.append(summary)
    return Material(run, epochs, summaries, notes)


def drawings(found: Material) -> dict[str, Drawing]:
    """The figures of a run by their titles; none of what it has no numbers for."""
    epochs, config = found.epochs, found.run.config
    thinned = (
        ""
        if len(epochs) <= MOST_EPOCHS
        else f" Of {len(epochs):,} epochs the curves keep the lowest and the highest "
        f"of each piece."
    )
    figures = {}
    if learning.learning_limits(epochs) is not None:
        caption = (
            "Perplexity after each epoch, on a logarithmic scale. Validation is that "
            "of the averaged parameters once averaging has begun. A vertical line is "
            f"where the network grows.{thinned}"
        )
        draw = partial(learning.draw_learning, epochs=epochs, config=config)
        figures["Learning curves"] = Drawing("learning", caption, draw, 440, 500)
    names = gradients.groups(epochs)
    if names:
        caption = (
            "Each group's gradient norm before clipping, the mean of an epoch, and "
            "the part of its updates in which it was above the limit and clipped: at "
            "most that of the title in any epoch."
            f"{thinned}"
        )
        if len(names) > gradients.MOST_PANELS:
            caption += (
                f" The first {gradients.MOST_PANELS} of {len(names)} groups are shown."
            )
        figures["Gradient norms"] = Drawing(
            "gradients",
            caption,
            partial(gradients.draw_gradients, epochs=epochs, config=config),
            *(gradients.height(names, wide) for wide in (True, False)),
        )
    return figures


def section(found: Material, prefix: str, sentence: str | None) -> Section:
    """The section of a run.

    Args:
        found: What was read of it.
        prefix: What begins the ids of its figures.
        sentence: The sentence that its model reads; the default's by default.
    """
    run, notes, writing = found.run, list(found.notes), None
    try:
        writing = write(run, sentence)
    except UsageError as error:
        notes.append(f"no samples: {error}")
    figures = drawings(found)
    if len(found.epochs) and "Learning curves" not in figures:
        notes.append("no learning curves: no loss is finite and small enough to draw")
    finished = found.row["reached"] == FINISHED
    return Section(
        name=str(run.folder),
        warnings=[f"warning: {warning}" for warning in found.epochs.warnings],
        notes=[f"note: {note}" for note in notes],
        cards=_cards(found),
        figures=[
            shown(title, drawing, f"{prefix}-{drawing.name}")
            for title, drawing in figures.items()
        ],
        phases=table(phase_rows(run, found.epochs, found.summaries)),
        writing=writing,
        heights=[] if writing is None else _heights(writing),
        recipe=recipe(run),
        resume=""
        if finished
        else f"python -m glrnn.train {shell_word(str(run.folder))}",
    )


def shown(title: str, drawing: Drawing, prefix: str) -> Shown:
    """A figure as the page takes it."""
    from markupsafe import Markup

    wide, narrow = drawing.svgs(prefix)
    # The text in them is escaped by `drawing.as_svg`.
    return Shown(title, drawing.caption, Markup(wide), Markup(narrow))


def _cards(found: Material) -> list[tuple[str, str]]:
    """The figures that a reader looks for first."""
    row, epochs = found.row, found.epochs
    parameters = found.summaries[-1].parameters if found.summaries else None
    cards: Mapping[str, object] = {
        "test perplexity": row["test"],
        "best validation perplexity": row["best valid"],
        "of word frequencies alone": epochs.unigram if epochs.unigram > 0 else None,
        "parameters": parameters,
        "epochs": len(epochs),
        "training and validation": clock(float(epochs.seconds.sum())),
    }
    return [(name, cell(value)) for name, value in cards.items() if value is not None]


def _heights(writing: Writing) -> list[float]:
    """The height of each word's bar in rem."""
    bits = [LEAST_BITS if w.bits is None else w.bits for w in writing.sentence]
    most = max(LEAST_BITS, *bits)
    return [TALLEST * max(each, 0.0) / most for each in bits]


def compared_drawing(names: Sequence[str], found: Sequence[Material]) -> Drawing | None:
    """The figure that compares runs; `None` if there is nothing to draw."""
    runs = [each.epochs for each in found]
    if comparison.comparison_limits(runs) is None:
        return None
    at = comparison.equal(runs)
    caption = (
        "Validation perplexity by epoch, and by the time of training and validation. "
        f"The dotted lines are {at.epochs:,} epochs and {clock(at.seconds)}, as far "
        "as every run has come."
    )
    draw = partial(comparison.draw_comparison, names=names, runs=runs)
    return Drawing("comparison", caption, draw, 420, 720 + 20 * len(runs))


def compared(names: Sequence[str], found: Sequence[Material]) -> Comparison:
    """Several runs, some with epochs, at equal epochs and at equal time."""
    at = comparison.equal([each.epochs for each in found])
    drawing = compared_drawing(names, found)
    rows = []
    for name, each in zip(names, found, strict=True):
        by_epochs, by_time = comparison.at_equal(each.epochs, at)
        rows.append(
            {
                "run": name,
                f"valid after {at.epochs:,} epochs": by_epochs,
                f"valid after {clock(at.seconds)}": by_time,
                "epochs": len(each.epochs),
                "time": clock(float(each.epochs.seconds.sum())),
            }
        )
    figure = None if drawing is None else shown("Compared", drawing, "all")
    return Comparison(_cautions(found), figure, table(rows))


def _cautions(found: Sequence[Material]) -> list[str]:
    """Why runs may not be comparable."""
    cautions = []
    if len({each.run.origin.sha256 for each in found}) > 1:
        cautions.append(
            "note: the runs have different texts or vocabularies; their perplexities "
            "cannot be compared"
        )
    sizes = {
        (each.run.config.updates_per_epoch, each.run.config.batch_size)
        for each in found
    }
    if len(sizes) > 1:
        cautions.append("note: an epoch is not as many updates in every run")
    known = [each.run.origin.machine for each in found if each.run.origin.machine]
    machines = {tuple(sorted(machine.items())) for machine in known}
    if len(machines) > 1:
        cautions.append(
            "note: the runs began on different machines or with different versions; "
            "times cannot be compared"
        )
    return cautions
