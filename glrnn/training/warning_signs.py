"""Signs that a network does not learn, looked for at the end of every epoch.

A program that computes wrong numbers, or too high a learning rate, may leave every
number finite and the network with nothing but word frequencies.
"""

import math
from collections.abc import Sequence

from glrnn.ground.losses import to_perplexity
from glrnn.storage.metrics_log import Sign

# The number of updates after which a stage is expected to have learned something, if a
# pass over the training set has more.
ENOUGH_UPDATES = 1000
# The fraction by which the perplexity of a network that has learned something is below
# that of word frequencies. An averaged network trained on shuffled text ends up to 0.03
# percent below it.
LEAST_GAIN = 0.01
# The factor by which perplexity rises in one epoch when training is unstable.
RISE = 3.0


def nothing_learned(valid_loss: float, unigram_loss: float) -> Sign | None:
    """The sign of a network that predicts no better than word frequencies alone.

    Args:
        valid_loss: The network's loss on the validation set, nats per token.
        unigram_loss: The loss of word frequencies there, from `unigram_score`.

    Returns:
        The sign, or `None` if the network's perplexity is lower by 1 percent or more.

    Example:
        >>> nothing_learned(6.49, 6.51)
        >>> print(nothing_learned(6.52, 6.51).text)
        validation perplexity 678.58 is not below 671.83, that of word frequencies \
alone: the network has learned nothing yet
    """
    if valid_loss <= unigram_loss + math.log1p(-LEAST_GAIN):
        return None
    below = "hardly below" if valid_loss < unigram_loss else "not below"
    return Sign(
        "nothing_learned",
        f"validation perplexity {to_perplexity(valid_loss):.2f} is {below} "
        f"{to_perplexity(unigram_loss):.2f}, that of word frequencies alone: the "
        f"network has learned nothing yet",
    )


def unstable(raw_losses: Sequence[float]) -> Sign | None:
    """The sign of training that has lost, in one epoch, much of what was learned.

    Perplexities are compared, for a loss in nats seldom triples: that of a network that
    falls back to word frequencies grows by a half. The validation set is the same in
    every epoch, however short epochs are; the training loss is a mean over an epoch in
    which the network changes, and moves in two steps. And the parameters are the raw
    ones, for their average hides for many epochs what has become of them.

    Args:
        raw_losses: Of the epochs so far, nats per token of the raw parameters on the
            validation set.

    Returns:
        The sign, or `None` if the last perplexity is less than three times that before.

    Example:
        >>> unstable([4.4])
        >>> unstable([4.4, 5.4])
        >>> print(unstable([4.4, 6.5]).text)
        validation perplexity of the raw parameters rose from 81.45 to 665.14 in one \
epoch: training is unstable
    """
    if len(raw_losses) < 2 or raw_losses[-1] - raw_losses[-2] < math.log(RISE):
        return None
    before, after = map(to_perplexity, raw_losses[-2:])
    return Sign(
        "unstable",
        f"validation perplexity of the raw parameters rose from {before:.2f} to "
        f"{after:.2f} in one epoch: training is unstable",
    )
