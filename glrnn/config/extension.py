"""Extending a run at its end: more epochs, a finetuning stage, another phase."""

import math
from dataclasses import asdict, replace
from typing import TypeVar

from glrnn.config.config import Config
from glrnn.config.gradual import Phase, Stage

Limit = TypeVar("Limit", int, float)


def extends(config: Config, earlier: Config) -> bool:
    """Whether a run with earlier settings is the beginning of one with these.

    Its end can have more: epochs, patience or minutes of its last stage; a finetuning
    stage, where the last phase has none; further phases, with their layers. The rest is
    equal, so that an extended run is the run that would have been trained with the
    longer settings from the start.

    Args:
        config: The new settings.
        earlier: The settings of the run.

    Example:
        >>> short = Config(layers=Config().layers[:2], phases=Config().phases[:2])
        >>> extends(Config(), short), extends(short, Config())
        (True, False)
    """
    *beginning, last = earlier.phases
    phases = config.phases[: len(beginning)]
    further = config.phases[len(beginning) :]
    return (
        _without_depth(config) == _without_depth(earlier)
        and config.layers[: len(earlier.layers)] == earlier.layers
        and phases == tuple(beginning)
        and bool(further)
        and _phase_extends(further[0], last)
    )


def _without_depth(config: Config) -> dict[str, object]:
    return {**asdict(config), "layers": None, "phases": None}


def _phase_extends(phase: Phase, earlier: Phase) -> bool:
    if earlier.finetune.epochs:
        finetune = _allowing_more(phase.finetune, earlier.finetune)
        return replace(earlier, finetune=finetune) == phase
    main = _allowing_more(phase.main, earlier.main)
    return replace(earlier, main=main, finetune=phase.finetune) == phase


def _allowing_more(stage: Stage, earlier: Stage) -> Stage:
    """The earlier stage, with as much more time as a stage allows it."""
    return replace(
        earlier,
        epochs=max(stage.epochs, earlier.epochs),
        patience=_longer(stage.patience, earlier.patience),
        minutes=_longer(stage.minutes, earlier.minutes),
    )


def _longer(limit: Limit, earlier: Limit) -> Limit:
    """The later of two limits, of which 0 is none."""
    return max(limit, earlier, key=lambda each: each or math.inf)
