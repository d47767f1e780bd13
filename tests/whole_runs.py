"""All that a run has learned and recorded, to be compared with another run."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glrnn import data
from glrnn.storage import run_folder
from glrnn.storage.best_params import best_params
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.storage.run_folder import StageId
from glrnn.training import programs
from glrnn.training.checkpoint import restore_newest
from glrnn.training.context import new_context

TIMES = ("seconds", "tokens_per_second")
ITS_OWN = re.compile(
    r"\.lock|config\.json|origin\.json|vocabulary\.json|metrics\.jsonl"
    r"|phase_\d/summary\.json|phase_\d/(main|finetune)/\d+/.*"
)


def records(run: run_folder.Run) -> list[dict[str, Any]]:
    """The lines of the metrics, but for how long something took."""
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    return [
        {key: value for key, value in json.loads(line).items() if key not in TIMES}
        for line in lines
    ]


def everything(run: run_folder.Run, corpus: data.Corpus) -> list[Any]:
    """Parameters, averages, decisions and metrics of a finished run."""
    found: list[Any] = [records(run)]
    context = new_context(run, corpus, None)
    for number in range(1, len(run.config.phases) + 1):
        for name in run_folder.STAGES:
            params = best_params(run, number, name)
            stage = StageId(number, name)
            like = programs.state_like(context, stage)
            folder = run.stage_folder(stage)
            with CheckpointFolder(folder, read_only=True) as checkpoints:
                newest = restore_newest(checkpoints, like)
                found += [params, newest.state, checkpoints.newest, checkpoints.best]
            stages = (*newest.earlier, newest.history)
            found += [asdict(replace(each, seconds=0.0)) for each in stages]
    return found


def strays(folder: Path) -> list[str]:
    """The files in a run's folder that do not belong there."""
    files = (path for path in folder.rglob("*") if path.is_file())
    names = (path.relative_to(folder).as_posix() for path in files)
    return [name for name in names if not ITS_OWN.fullmatch(name)]


def same(one: Any, other: Any) -> bool:
    """Whether two trees are the same bit for bit."""
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    return jax.tree.structure(one) == jax.tree.structure(other) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes()
        for a, b in zip(leaves, others, strict=True)
    )
