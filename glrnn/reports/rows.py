"""Runs and phases as rows of a table, losses as perplexities."""

import os
from pathlib import Path

from glrnn.console.epoch_line import clock
from glrnn.data import CORPORA
from glrnn.losses import to_perplexity
from glrnn.storage.metrics_log import read_epochs
from glrnn.storage.run_folder import Run, Summary

# What a run has reached at its end.
FINISHED = "finished"


def run_row(run: Run) -> dict[str, object]:
    """A run as a row of the table, its losses as perplexities.

    `reached` is the phase, the stage and its epoch, each of how many; `best valid` is
    the best of that phase, and `test` that of the last finished one.

    Raises:
        UsageError: if its metrics or the summary of a phase are damaged.
    """
    phases = run.config.phases
    numbers = range(1, len(phases) + 1)
    summaries = [s for s in map(run.read_summary, numbers) if s is not None]
    epochs = read_epochs(run)
    reached, best = f"0/{len(phases)}", None
    if epochs:
        last = epochs[-1]
        stage = getattr(phases[last.phase - 1], last.stage)
        reached = f"{last.phase}/{len(phases)} {last.stage} {last.epoch}/{stage.epochs}"
        best = min(e.valid_loss for e in epochs if e.phase == last.phase)
    return {
        "run": str(run.folder),
        "experiment": Path(run.origin.experiment).stem or "quickstart",
        "data": _data(run.origin.data),
        "reached": FINISHED if len(summaries) == len(phases) else reached,
        "best valid": None if best is None else to_perplexity(best),
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
