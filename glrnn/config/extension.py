"""Extending a run at its end: more epochs, a finetuning stage, another phase."""

import math
from dataclasses import asdict, replace

from glrnn.config.config import Config
from glrnn.config.gradual import Phase, Stage


def extends(config: Config, earlier: Config) -> bool:
    """Whether a run with earlier settings is the beginning of one with these.

    Its end can have more: epochs or patience of its last stage, or minutes if it has
    any; a finetuning stage, where the last phase has none; further phases, with their
    layers. The rest is equal, so that an extended run is the run that would have been
    trained with the longer settings from the start.

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
        # 0 is never. Without minutes, rules that a timed stage ignores would end it.
        patience=max(
            stage.patience, earlier.patience, key=lambda each: each or math.inf
        ),
        minutes=earlier.minutes and max(stage.minutes, earlier.minutes),
    )
