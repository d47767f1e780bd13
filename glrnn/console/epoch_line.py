"""The line that a terminal keeps of a finished epoch."""

from glrnn.ground.losses import to_perplexity


def epoch_line(
    title: str, train_loss: float, valid_loss: float, averaged: bool, seconds: float
) -> str:
    """An epoch in one line, short enough for a terminal of 80 columns.

    Args:
        title: The phase, stage and epoch.
        train_loss: Mean over the epoch, nats per token.
        valid_loss: Nats per token, of the averaged parameters if `averaged`.
        averaged: Whether the parameters are averaged.
        seconds: What the epoch took, validation included.

    Returns:
        The line, with perplexities in place of losses and the time as m:ss or h:mm:ss.

    Example:
        >>> epoch_line("phase 2/3 · finetune · epoch 3/40", 4.25, 4.12, True, 67.2)
        'phase 2/3 · finetune · epoch 3/40 · train 70.11 · valid 61.56 avg · 1:07'
    """
    return (
        f"{title} · train {to_perplexity(train_loss):,.2f} · "
        f"valid {to_perplexity(valid_loss):,.2f}{' avg' if averaged else ''} · "
        f"{clock(seconds)}"
    )


def clock(seconds: float) -> str:
    """A duration as a clock shows it.

    Example:
        >>> clock(7), clock(67.2), clock(3725)
        ('0:07', '1:07', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
