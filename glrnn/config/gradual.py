"""The settings of gradual learning: phases, training stages, averaging."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from glrnn.config.network import Dropout
from glrnn.errors import UsageError
from glrnn.ground.validation import above, at_least, check, choice
from glrnn.optim.learning_rate import Schedule
from glrnn.optim.trigger import TRIGGERS


@dataclass(frozen=True)
class Averaging:
    """When averaging begins in the main stages, and when finetuning ends.

    Attributes:
        trigger: The criterion by which averaging begins in a main stage: non_monotonic
            (the validation loss is above an earlier one), plateau (no lower validation
            loss for `window` epochs) or never.
        window: The number of epochs that the trigger looks back: the non-monotonic
            criterion leaves aside this many epochs before the current one, and a
            plateau is this many epochs long. It is also what ends finetuning: a
            finetuning stage ends by the non-monotonic criterion with this window,
            whatever the trigger is.
        latest: Averaging begins after this many epochs in any case; 0 for never.
    """

    trigger: str = field(default="non_monotonic", metadata=choice(TRIGGERS))
    window: int = field(default=5, metadata=at_least(0))
    latest: int = field(default=0, metadata=at_least(0))

    def __post_init__(self):
        check(self)
        if self.trigger == "plateau" and self.window == 0:
            raise UsageError(
                "Averaging.window is 0; with the trigger plateau it must be at least 1"
            )


@dataclass(frozen=True)
class Stage:
    """A part of a phase that is trained with one update rule.

    Attributes:
        epochs: The largest number of epochs; of finetuning 0 is allowed, for none.
        learning_rate: The learning rate of a window of the usual length. It is scaled
            by each window's own length unless losses are summed over time.
        max_norms: The largest gradient norms: one number for the whole gradient, or one
            for the embedding, one for each layer, and one for the head if it has
            parameters.
        patience: The stage ends after this many epochs without a lower validation loss;
            0 for never.
        minutes: The stage ends with the epoch in which this many minutes are over, and
            no other rule but the number of epochs ends it; 0 for no time limit. Timed
            runs are not reproducible across machines.
        schedule: The learning-rate schedule.
    """

    epochs: int = field(default=0, metadata=at_least(0))
    learning_rate: float = field(default=20.0, metadata=above(0))
    max_norms: tuple[float, ...] = field(default=(0.25,), metadata=above(0))
    patience: int = field(default=0, metadata=at_least(0))
    minutes: float = field(default=0.0, metadata=at_least(0))
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self):
        check(self)
        if not self.max_norms:
            raise UsageError("Stage.max_norms is empty; give at least one number")


@dataclass(frozen=True)
class Phase:
    """The training of one depth of the network.

    Attributes:
        num_layers: The number of layers: the first so many of `Config.layers`.
        dropout: The dropout rates of both stages.
        main: The main stage: plain updates until the trigger, averaged ones after it.
        finetune: The finetuning stage: it starts from the best parameters of `main`,
            and is averaged from the first update on.
    """

    num_layers: int = field(default=1, metadata=at_least(1))
    dropout: Dropout = field(default_factory=Dropout)
    main: Stage = Stage(epochs=1)
    finetune: Stage = Stage()

    def __post_init__(self):
        check(self)
        if self.main.epochs == 0:
            raise UsageError("Phase.main.epochs is 0; it must be at least 1")
        if len(self.dropout.hidden) != self.num_layers - 1:
            raise UsageError(
                f"Dropout.hidden has {len(self.dropout.hidden)} rates; a phase of "
                f"{self.num_layers} layers takes {self.num_layers - 1}, one for each "
                f"layer but the last"
            )


def group_names(max_norms: Sequence[float], num_layers: int) -> tuple[str, ...]:
    """The name of each group with a largest norm.

    Example:
        >>> group_names((0.05, 0.15, 0.15), num_layers=1)
        ('embedding', 'layer 1', 'head')
        >>> group_names((0.25,), num_layers=1)
        ('all',)
    """
    if len(max_norms) == 1:
        return ("all",)
    layers = (f"layer {number}" for number in range(1, num_layers + 1))
    return ("embedding", *layers, "head")[: len(max_norms)]
