"""The history of a stage, as its checkpoints hold it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from glrnn.config import Stage
from glrnn.errors import UsageError
from glrnn.ground.validation import at_least, check, from_values, measured
from glrnn.optim.trigger import epochs_since_best, non_monotonic_trigger
from glrnn.storage.run_folder import STAGES


@dataclass(frozen=True)
class Tally:
    """The sums over the windows of an epoch so far.

    Attributes:
        windows: The number of windows trained on or skipped.
        total: The number of windows in the epoch; 0 before it begins.
        tokens: The number of tokens trained on.
        loss_sum: The sum of their losses, in nats.
        norm_sums: The sums over the windows of each group's gradient norm.
        clipped: The number of windows in which each group was clipped.
        skipped: The number of windows whose loss or gradient was not finite.
        skipped_in_a_row: The number of such windows since the last good one.
        seconds: The time spent in training.
    """

    windows: int = field(default=0, metadata=at_least(0))
    total: int = field(default=0, metadata=at_least(0))
    tokens: int = field(default=0, metadata=at_least(0))
    loss_sum: float = field(default=0.0, metadata=measured(0))
    norm_sums: tuple[float, ...] = field(default=(), metadata=measured(0))
    clipped: tuple[float, ...] = field(default=(), metadata=measured(0))
    skipped: int = field(default=0, metadata=at_least(0))
    skipped_in_a_row: int = field(default=0, metadata=at_least(0))
    seconds: float = field(default=0.0, metadata=measured(0))

    @property
    def is_whole(self) -> bool:
        """Whether the epoch is over."""
        return 0 < self.total == self.windows

    @property
    def updates(self) -> int:
        """The number of updates made."""
        return self.windows - self.skipped

    def add(
        self, tokens: int, nll: float, norms: Sequence[float], limits: Sequence[float]
    ) -> "Tally":
        """The tally with one more window.

        Args:
            tokens: The number of its tokens.
            nll: Their mean loss, in nats.
            norms: Each group's gradient norm.
            limits: Each group's largest norm.

        Example:
            >>> Tally().add(10, 2.0, [1.0, 3.0], [2.0, 2.0]).clipped
            (0.0, 1.0)
        """
        zeros = (0.0,) * len(norms)
        sums, clipped = self.norm_sums or zeros, self.clipped or zeros
        return replace(
            self,
            windows=self.windows + 1,
            tokens=self.tokens + tokens,
            loss_sum=self.loss_sum + tokens * nll,
            norm_sums=tuple(map(float.__add__, sums, norms)),
            clipped=tuple(
                count + (norm > limit)
                for count, norm, limit in zip(clipped, norms, limits, strict=True)
            ),
            skipped_in_a_row=0,
        )

    def skip(self) -> "Tally":
        """The tally with one more window that was skipped.

        Example:
            >>> Tally(windows=3).skip().updates
            3
        """
        return replace(
            self,
            windows=self.windows + 1,
            skipped=self.skipped + 1,
            skipped_in_a_row=self.skipped_in_a_row + 1,
        )


@dataclass(frozen=True)
class StageHistory:
    """What a stage has come to so far.

    Attributes:
        raw_losses: The validation loss of the raw parameters after each epoch, nats per
            token.
        averaged_losses: That of the averaged parameters, after each epoch that
            averaged them: the last epochs of `raw_losses`.
        seconds: The time of training and validation, in whole epochs.
        rewinds: How often the stage was rewound to a checkpoint.
        tally: The epoch that is being trained.
    """

    raw_losses: tuple[float, ...] = field(default=(), metadata=measured(0))
    averaged_losses: tuple[float, ...] = field(default=(), metadata=measured(0))
    seconds: float = field(default=0.0, metadata=measured(0))
    rewinds: int = field(default=0, metadata=at_least(0))
    tally: Tally = Tally()

    @property
    def epochs(self) -> int:
        """The number of whole epochs."""
        return len(self.raw_losses)

    @property
    def losses(self) -> tuple[float, ...]:
        """The validation loss of each epoch: averaged once averaging has begun."""
        raw = len(self.raw_losses) - len(self.averaged_losses)
        return self.raw_losses[:raw] + self.averaged_losses

    def is_finished(self, stage: Stage, name: str, window: int) -> bool:
        """Whether the stage is at its end.

        Args:
            stage: The settings of the stage.
            name: `main` or `finetune`; the non-monotonic criterion can end `finetune`.
            window: The window of that criterion.

        Example:
            >>> StageHistory((5.0, 4.0)).is_finished(Stage(2), "main", window=5)
            True
        """
        if self.epochs >= stage.epochs:
            return True
        if stage.minutes:
            return self.epochs > 0 and self.seconds >= 60 * stage.minutes
        if 0 < stage.patience <= epochs_since_best(self.losses):
            return True
        return name == "finetune" and non_monotonic_trigger(self.losses, window)


def read_histories(values: Mapping[str, Any], groups: int) -> tuple[StageHistory, ...]:
    """The histories of a phase's stages, as a checkpoint of the last one holds them.

    Args:
        values: What the checkpoint holds, of JSON's types.
        groups: The number of groups whose gradients are clipped.

    Raises:
        UsageError: They are no histories, or do not fit together.
    """
    stages = values.get("stages")
    if not isinstance(stages, list) or not 0 < len(stages) <= len(STAGES):
        raise UsageError(f"the history has no list of 1 to {len(STAGES)} stages")
    histories = tuple(from_values(StageHistory, each, "a history") for each in stages)
    for history in histories:
        # Here and not as they are made, which is at every window.
        check(history)
        check(history.tally)
        _check_fit(history, groups)
    return histories


def _check_fit(history: StageHistory, groups: int) -> None:
    tally = history.tally
    if len(history.averaged_losses) > len(history.raw_losses):
        raise UsageError("the history has more averaged_losses than raw_losses")
    begun = tally.windows or tally.total
    if begun and not tally.skipped <= tally.windows < tally.total:
        raise UsageError(
            f"the history has a tally of {tally.windows} windows, {tally.skipped} of "
            f"them skipped, out of {tally.total}"
        )
    for name in ("norm_sums", "clipped"):
        count = len(getattr(tally, name))
        if count not in (0, groups):
            raise UsageError(f"the history has {count} {name}, not {groups}")
