"""The size at which two CPU cores train the compared systems in twelve minutes.

The experiments whose names end in `_12min` import this file.
"""

from dataclasses import replace

from glrnn.config import Config, Dropout, Stage
from glrnn.config.variants import resized

# More epochs than twelve minutes allow.
FOREVER = 10**6


def twelve_minutes(config: Config) -> Config:
    """The same experiment at 100 units a layer and for twelve minutes in all.

    At most 3 softmaxes, an eighth of the dropout that the full size needs, and an equal
    share of the minutes for each stage, whatever number of epochs that is. Averaging
    begins as early as its trigger allows, since there are few epochs.
    """
    stages = [stage for p in config.phases for stage in (p.main, p.finetune)]
    minutes = 12 / sum(stage.epochs > 0 for stage in stages)

    def timed(stage: Stage) -> Stage:
        return (
            replace(stage, epochs=FOREVER, minutes=minutes) if stage.epochs else stage
        )

    def lighter(dropout: Dropout) -> Dropout:
        rates = {**vars(dropout)}
        hidden = tuple(rate / 8 for rate in rates.pop("hidden"))
        return Dropout(hidden=hidden, **{name: rates[name] / 8 for name in rates})

    small = resized(config, embedding_size=100, hidden_size=100, epochs=FOREVER)
    return replace(
        small,
        num_softmaxes=min(3, small.num_softmaxes),
        phases=tuple(
            replace(
                phase,
                dropout=lighter(phase.dropout),
                main=timed(phase.main),
                finetune=timed(phase.finetune),
            )
            for phase in small.phases
        ),
        averaging=replace(small.averaging, window=1),
    )
