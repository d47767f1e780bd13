"""The rates of dynamic evaluation, searched for on a validation set.

First a grid, that of Krause et al. (2018) in the convention of `dynamic`; then from the
best of it on, one rate at a time, as long as that is better, for a network
that is small or briefly trained is best at rates beyond the grid. Every trial is
written down as soon as it is over, and never made again.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glrnn.data.vocabulary import Ids
from glrnn.errors import DivergedError, UsageError
from glrnn.evaluation.dynamic import DynamicRule
from glrnn.files import parse_json, read_text, write_text
from glrnn.losses import to_perplexity
from glrnn.validation import at_least, check, from_values

# For windows of 5; in proportion for others.
LEARNING_RATES = (3e-5, 4e-5, 5e-5, 6e-5, 7e-5, 1e-4)
DECAY_RATES = (1e-3, 2e-3, 3e-3, 5e-3)
USUAL_WINDOW = 5
# From a rate to the next one beyond the grid.
LEARNING_STEP, DECAY_STEP = 1.5, 2.0
# All rates are tried on the beginning of the text, the best few on all of it.
FIRST_TOKENS = 30_000
FINALISTS = 3


@dataclass(frozen=True)
class Trial:
    """What came of a rule.

    Attributes:
        model: Fingerprint of the parameters.
        text: Fingerprint of the text.
        rule: The rule.
        nats_per_token: On this text; `None` if the parameters grew beyond bounds.
    """

    model: str
    text: str
    rule: DynamicRule
    nats_per_token: float | None = field(metadata=at_least(0))

    def __post_init__(self):
        check(self)


def tune(
    score: Callable[[DynamicRule, Ids], float],
    params: Any,
    tokens: Ids,
    rule: DynamicRule,
    path: Path,
    say: Callable[[str], None],
) -> DynamicRule:
    """The rule that scores a text best, of all whose two rates were tried.

    Args:
        score: Nats per token by a rule on a text.
        params: Of the model that it scores; to know its trials again.
        tokens: The validation set.
        rule: What a rule has beside its rates.
        path: Where trials are kept, and found again.
        say: Told of each trial, in one line.

    Raises:
        DivergedError: if no rule gives a finite score.
        UsageError: if the file at `path` is damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as run:
        ...     best = tune(
        ...         lambda rule, tokens: 4 + abs(rule.learning_rate - 6e-5),
        ...         params=(),
        ...         tokens=np.zeros(9, np.int32),
        ...         rule=DynamicRule(),
        ...         path=Path(run) / "dynamic.json",
        ...         say=lambda line: None,
        ...     )
        >>> best.learning_rate
        6e-05
    """
    trials = read_trials(path)
    model = _fingerprint(*jax.tree.leaves(params))

    def nats(rule: DynamicRule, text: Ids) -> float:
        key = model, _fingerprint(text), rule
        for trial in trials:
            if (trial.model, trial.text, trial.rule) == key:
                return _loss(trial)
        found = score(rule, text)
        finite = math.isfinite(to_perplexity(found))
        trials.append(Trial(*key, found if finite else None))
        write_text(path, json.dumps([asdict(trial) for trial in trials], indent=1))
        say(
            f"learning rate {rule.learning_rate:.3g}, decay rate {rule.decay_rate:.3g}:"
            f" perplexity {to_perplexity(found):.2f} on {len(text):,} tokens"
        )
        return _loss(trials[-1])

    scale = rule.window_length / USUAL_WINDOW
    grid = [
        replace(rule, learning_rate=scale * learning, decay_rate=scale * decay)
        for learning, decay in product(LEARNING_RATES, DECAY_RATES)
    ]
    beginning = tokens[:FIRST_TOKENS]
    best = min(grid, key=lambda rule: nats(rule, beginning))
    if nats(best, beginning) == math.inf:
        raise DivergedError("no rates of dynamic evaluation keep the loss finite")
    tried = list(grid)
    while True:
        tried += _neighbours(best)
        better = min([best, *tried], key=lambda rule: nats(rule, beginning))
        if better == best:
            break
        best = better
    ranked = sorted(dict.fromkeys(tried), key=lambda rule: nats(rule, beginning))
    return min(ranked[:FINALISTS], key=lambda rule: nats(rule, tokens))


def _neighbours(rule: DynamicRule) -> list[DynamicRule]:
    """One rate higher or lower, to three digits, so that there and back is the same."""

    def stepped(rate: float, step: float) -> list[float]:
        return [float(f"{each:.3g}") for each in (rate * step, rate / step)]

    learning = stepped(rule.learning_rate, LEARNING_STEP)
    decay = stepped(rule.decay_rate, DECAY_STEP)
    return [
        *(replace(rule, learning_rate=rate) for rate in learning),
        *(replace(rule, decay_rate=rate) for rate in decay),
    ]


def read_trials(path: Path) -> list[Trial]:
    """What was tried before; nothing if there is no such file.

    Raises:
        UsageError: if it is damaged.

    Example:
        >>> read_trials(Path("nowhere.json"))
        []
    """
    if not os.path.lexists(path):
        return []
    try:
        values = parse_json(read_text(path), "a list of trials")
        if not isinstance(values, list):
            raise UsageError("not a list of trials")
        return [from_values(Trial, value, "a trial") for value in values]
    except UsageError as error:
        raise UsageError(f"{path}: {error}; delete it to try anew") from None


def _loss(trial: Trial) -> float:
    return math.inf if trial.nats_per_token is None else trial.nats_per_token


def _fingerprint(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
