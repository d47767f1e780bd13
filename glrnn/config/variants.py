"""Variants of an experiment, as functions from `Config` to `Config`.

Each changes only the settings that its name says. Aharoni, Rattner and Permuter (2017)
compare with them in Table 1 (reference model, two layers) and Table 3 (without
finetuning, LWGC, GL); section 4.2 leaves one open (a random softmax).
"""

import math
from collections.abc import Callable
from dataclasses import replace

from glrnn.cells import CELLS
from glrnn.config import Config, Layer, Phase, Stage
from glrnn.errors import UsageError

REFERENCE_NORM = 0.25


def two_layers(config: Config) -> Config:
    """Ends after the phase of two layers.

    Example:
        >>> len(two_layers(Config()).phases)
        2
    """
    phases = tuple(phase for phase in config.phases if phase.num_layers <= 2)
    return replace(config, layers=config.layers[:2], phases=phases)


def without_finetuning(config: Config) -> Config:
    """Leaves out the finetuning of the last phase, but not of the phases before it.

    Example:
        >>> [phase.finetune.epochs for phase in without_finetuning(Config()).phases]
        [1, 1, 0]
    """
    last = config.phases[-1]
    last = replace(last, finetune=replace(last.finetune, epochs=0))
    return replace(config, phases=(*config.phases[:-1], last))


def without_lwgc(config: Config) -> Config:
    """Clips the whole gradient to one norm instead of each group to its own.

    The limit is the norm of a gradient whose groups all have their largest norms:
    mu = sqrt(mu_1^2 + ... + mu_N^2), phase by phase.

    Example:
        >>> round(without_lwgc(Config()).phases[0].main.max_norms[0], 4)
        0.3202
    """
    return _with_stages(
        config,
        lambda stage: replace(stage, max_norms=(math.hypot(*stage.max_norms),)),
    )


def without_gl(config: Config) -> Config:
    """Trains all layers at once, with the last phase's settings for all epochs.

    Example:
        >>> (phase,) = without_gl(Config()).phases
        >>> phase.num_layers, phase.main.epochs, phase.finetune.epochs
        (3, 6, 3)
    """
    last, phases = config.phases[-1], config.phases
    main = replace(last.main, epochs=sum(p.main.epochs for p in phases))
    finetune = replace(last.finetune, epochs=sum(p.finetune.epochs for p in phases))
    return replace(config, phases=(replace(last, main=main, finetune=finetune),))


def random_softmax(config: Config) -> Config:
    """Starts each phase with a random head instead of the trained one.

    Raises:
        UsageError: if the head has no weights of its own.

    Example:
        >>> random_softmax(Config())
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: a softmax head has no weights of its own to be random
    """
    if config.head == "softmax":
        raise UsageError("a softmax head has no weights of its own to be random")
    return replace(config, inherit_head=False)


def reference(config: Config) -> Config:
    """The reference model: all layers at once, one norm, no finetuning.

    The main stage has all the epochs.

    Example:
        >>> (phase,) = reference(Config()).phases
        >>> phase.main.max_norms, phase.main.epochs, phase.finetune.epochs
        ((0.25,), 9, 0)
    """
    (phase,) = without_gl(config).phases
    epochs = phase.main.epochs + phase.finetune.epochs
    main = replace(phase.main, epochs=epochs, max_norms=(REFERENCE_NORM,))
    return replace(config, phases=(replace(phase, main=main, finetune=Stage()),))


def with_cell(cell: str) -> Callable[[Config], Config]:
    """Replaces the cell of all layers; their widths stay.

    A layer of a highway network gets three micro-steps, so that three layers are about
    as deep as the published single layer of ten.

    Args:
        cell: A name in `CELLS`.

    Example:
        >>> with_cell("gru")(Config()).layers[2]
        Layer(cell='gru', hidden_size=128, depth=None, rank=None)
    """
    depth = 3 if cell == "rhn" else None

    def change(config: Config) -> Config:
        layers = tuple(Layer(cell, each.hidden_size, depth) for each in config.layers)
        return replace(config, layers=layers)

    return change


VARIANTS: dict[str, Callable[[Config], Config]] = {
    **{cell: with_cell(cell) for cell in CELLS},
    "as_it_is": lambda config: config,
    "random_softmax": random_softmax,
    "reference": reference,
    "two_layers": two_layers,
    "without_finetuning": without_finetuning,
    "without_gl": without_gl,
    "without_lwgc": without_lwgc,
}


def resized(
    config: Config, embedding_size: int, hidden_size: int, epochs: int
) -> Config:
    """The same experiment with other sizes and fewer epochs, to try it out.

    Args:
        config: The experiment.
        embedding_size: E.
        hidden_size: The hidden size of every layer, H.
        epochs: The largest number of epochs in each stage.

    Example:
        >>> small = resized(Config(), embedding_size=8, hidden_size=8, epochs=1)
        >>> small.layers[2].hidden_size, small.phases[0].main.epochs
        (8, 1)
    """
    config = _with_stages(
        config, lambda stage: replace(stage, epochs=min(epochs, stage.epochs))
    )
    layers = tuple(replace(layer, hidden_size=hidden_size) for layer in config.layers)
    return replace(config, embedding_size=embedding_size, layers=layers)


def first_epochs(config: Config, count: int) -> Config:
    """The first epochs of an experiment.

    Args:
        config: The experiment.
        count: The number of epochs in all, at least 1.

    Example:
        >>> [phase.main.epochs for phase in first_epochs(Config(), 6).phases]
        [4, 1]
        >>> [phase.finetune.epochs for phase in first_epochs(Config(), 6).phases]
        [1, 0]
    """
    phases: list[Phase] = []
    for phase in config.phases:
        if count == 0:
            break
        main = min(count, phase.main.epochs)
        finetune = min(count - main, phase.finetune.epochs)
        count -= main + finetune
        phases.append(
            replace(
                phase,
                main=replace(phase.main, epochs=main),
                finetune=replace(phase.finetune, epochs=finetune),
            )
        )
    layers = config.layers[: phases[-1].num_layers]
    return replace(config, layers=layers, phases=tuple(phases))


def with_learning_rate(config: Config, learning_rate: float) -> Config:
    """Sets the learning rate of the first stage and scales all others in proportion.

    Args:
        config: The experiment.
        learning_rate: The learning rate of the first phase's main stage.

    Example:
        >>> with_learning_rate(Config(), 15.0).phases[2].finetune.learning_rate
        15.0
    """
    factor = learning_rate / config.phases[0].main.learning_rate
    return _with_stages(
        config,
        lambda stage: replace(stage, learning_rate=factor * stage.learning_rate),
    )


def _with_stages(config: Config, change: Callable[[Stage], Stage]) -> Config:
    phases = (
        replace(phase, main=change(phase.main), finetune=change(phase.finetune))
        for phase in config.phases
    )
    return replace(config, phases=tuple(phases))
