"""Runs and phases as rows of a table, losses as perplexities."""

import os
from collections.abc import Sequence
from pathlib import Path

from glrnn.console.epoch_line import clock
from glrnn.data import CORPORA
from glrnn.ground.losses import to_perplexity
from glrnn.reports.epochs import Epochs, best_perplexity, columns
from glrnn.storage.metrics_log import read_epochs
from glrnn.storage.run_folder import STAGES, Run, Summary

# What a run has reached at its end.
FINISHED = "finished"


def run_row(run: Run) -> dict[str, object]:
    """A run as a row of the table, its losses as perplexities.

    `reached` is the phase, the stage and its epoch, each of how many; `best valid` is
    the best of that phase, and `test` that of the last finished one.

    Raises:
        UsageError: if its metrics or the summary of a phase are damaged.
    """
    return row_of(run, columns(read_epochs(run)), summaries(run))


def summaries(run: Run) -> list[Summary]:
    """The outcomes of the phases that are finished.

    Raises:
        UsageError: One is damaged.
    """
    found = map(run.read_summary, range(1, len(run.config.phases) + 1))
    return [summary for summary in found if summary is not None]


def row_of(run: Run, epochs: Epochs, summaries: Sequence[Summary]) -> dict[str, object]:
    """As `run_row`, of a run that was read."""
    phases = run.config.phases
    reached, best = f"0/{len(phases)}", None
    if len(epochs):
        number, name = int(epochs.phases[-1]), STAGES[epochs.stages[-1]]
        stage = getattr(phases[number - 1], name)
        reached = f"{number}/{len(phases)} {name} {epochs.numbers[-1]}/{stage.epochs}"
        best = best_perplexity(epochs.valid_loss[epochs.phases == number])
    return {
        "run": str(run.folder),
        "experiment": Path(run.origin.experiment).stem or "quickstart",
        "data": _data(run.origin.data),
        "reached": FINISHED if len(summaries) == len(phases) else reached,
        "best valid": best,
        "test": to_perplexity(summaries[-1].test_loss) if summaries else None,
    }


def _data(place: str) -> str:
    """The name of a corpus, or of the folder of texts; a corpus's name is no folder's.

    Example:
        >>> _data("ptb"), _data("/home/me/ptb"), _data("/home/me/mine")
        ('ptb', './ptb', 'mine')
    """
    name = os.path.basename(place)
    return f"./{name}" if name != place and name in CORPORA else name


def phase_row(summary: Summary) -> dict[str, object]:
    """A phase's summary as a person reads it; perplexities, the time as m:ss."""
    averaged = summary.averaged_valid_loss
    return {
        "phase": summary.phase,
        "layers": summary.layers,
        "parameters": summary.parameters,
        "epochs": summary.epochs,
        "valid, raw": to_perplexity(summary.raw_valid_loss),
        "valid, averaged": None if averaged is None else to_perplexity(averaged),
        "test": to_perplexity(summary.test_loss),
        "time": clock(summary.seconds),
    }


def phase_rows(
    run: Run, epochs: Epochs, summaries: Sequence[Summary]
) -> list[dict[str, object]]:
    """The phases that have begun, as rows; of unfinished ones what is known."""
    rows = {summary.phase: phase_row(summary) for summary in summaries}
    for number in sorted({int(phase) for phase in epochs.phases} - rows.keys()):
        own = epochs.phases == number
        rows[number] = {
            "phase": number,
            "layers": run.config.phases[number - 1].num_layers,
            "epochs": int(own.sum()),
            "valid, raw": best_perplexity(epochs.raw_valid_loss[own]),
            "valid, averaged": best_perplexity(
                epochs.valid_loss[own & epochs.averaging]
            ),
            "time": clock(float(epochs.seconds[own].sum())),
        }
    return [rows[number] for number in sorted(rows)]
