"""A search for the rates of dynamic evaluation on a validation set.

The search begins with a grid, that of Krause et al. (2018) in the convention of
`dynamic`. It then changes one rate at a time, starting from the best of the grid, until
that lowers the loss no further: a network that is small or briefly trained needs rates
beyond the grid. Each trial is stored as soon as it is over and never repeated.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from glrnn.data.vocabulary import Ids
from glrnn.errors import DivergedError, UsageError
from glrnn.evaluation.dynamic import DynamicRule
from glrnn.ground.files import parse_json, read_text_of_run, write_text
from glrnn.ground.losses import to_perplexity
from glrnn.ground.validation import at_least, check, from_values

# For windows of 5 tokens; scaled in proportion to others.
LEARNING_RATES = (3e-5, 4e-5, 5e-5, 6e-5, 7e-5, 1e-4)
DECAY_RATES = (1e-3, 2e-3, 3e-3, 5e-3)
USUAL_WINDOW = 5
# The factors between neighbouring rates beyond the grid.
LEARNING_STEP, DECAY_STEP = 1.5, 2.0
# All rates are tried on the beginning of the text, the best few on all of it.
SEARCH_TOKENS = 30_000
FINALISTS = 3


@dataclass(frozen=True)
class Trial:
    """The score of a rule on a text.

    Attributes:
        model: Fingerprint of what the loss depends on beside the text and the rule.
        text: Fingerprint of the text.
        rule: The rule.
        nats_per_token: The loss; `None` if it was not finite.
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
    tell: Callable[[int, int, int], None] = lambda number, at_least, num_tokens: None,
) -> DynamicRule:
    """The rule with the best score of all that were tried.

    Args:
        score: Returns the nats per token of a rule on a text.
        params: What `score` depends on beside the rule and the text, a tree of arrays:
            the parameters, and the training set of the gradient statistics.
        tokens: The validation set.
        rule: All settings but the two rates.
        path: The file that trials are stored in, and found in again.
        say: Called with one line about each new trial.
        tell: Called before each new trial with its number, how many there will be at
            least, and how many tokens these have yet to score.

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
    search = _Search(score, _fingerprint(*jax.tree.leaves(params)), path, say, tell)
    scale = rule.window_length / USUAL_WINDOW
    grid = [
        replace(rule, learning_rate=scale * learning, decay_rate=scale * decay)
        for learning, decay in product(LEARNING_RATES, DECAY_RATES)
    ]
    beginning = tokens[:SEARCH_TOKENS]
    if len(beginning) < len(tokens):
        search.finals = [len(tokens)] * FINALISTS
    best = search.best(grid, beginning)
    if search.nats(best, beginning) == math.inf:
        raise DivergedError("no rates of dynamic evaluation keep the loss finite")
    tried = list(grid)
    while True:
        tried += _neighbours(best)
        better = search.best([best, *tried], beginning)
        if better == best:
            break
        best = better
    ranked = sorted(dict.fromkeys(tried), key=lambda rule: search.nats(rule, beginning))
    search.finals = []
    return search.best(ranked[:FINALISTS], tokens)


class _Search:
    """The trials of one model, each made once.

    Attributes:
        finals: The lengths of texts for trials whose rules are not known yet.
    """

    def __init__(
        self,
        score: Callable[[DynamicRule, Ids], float],
        model: str,
        path: Path,
        say: Callable[[str], None],
        tell: Callable[[int, int, int], None],
    ) -> None:
        self._score, self._model, self._path = score, model, path
        self._say, self._tell = say, tell
        self._trials = read_trials(path)
        self.finals: list[int] = []
        # The lengths of texts, and the losses, by fingerprint of the text and rule.
        self._planned: dict[tuple[str, DynamicRule], int] = {}
        self._done = {
            (trial.text, trial.rule): _loss(trial)
            for trial in reversed(self._trials)
            if trial.model == model
        }

    def best(self, rules: Sequence[DynamicRule], text: Ids) -> DynamicRule:
        """The first rule with the lowest loss on a text."""
        key = _fingerprint(text)
        self._planned |= {(key, rule): len(text) for rule in rules}
        return min(rules, key=lambda rule: self.nats(rule, text))

    def nats(self, rule: DynamicRule, text: Ids) -> float:
        """The loss on a text, infinite if it is not finite."""
        key = _fingerprint(text), rule
        if key not in self._done:
            self._done[key] = self._try(rule, text, key[0])
        return self._done[key]

    def _try(self, rule: DynamicRule, text: Ids, fingerprint: str) -> float:
        left = [n for key, n in self._planned.items() if key not in self._done]
        number = len(self._planned) - len(left) + 1
        at_least = len(self._planned) + len(self.finals)
        self._tell(number, at_least, sum(left) + sum(self.finals))
        found = self._score(rule, text)
        finite = math.isfinite(to_perplexity(found))
        trial = Trial(self._model, fingerprint, rule, found if finite else None)
        self._trials.append(trial)
        values = [asdict(trial) for trial in self._trials]
        write_text(self._path, json.dumps(values, indent=1))
        self._say(
            f"learning rate {rule.learning_rate:.3g}, decay rate {rule.decay_rate:.3g}:"
            f" perplexity {to_perplexity(found):.2f} on {len(text):,} tokens"
        )
        return _loss(trial)


def _neighbours(rule: DynamicRule) -> list[DynamicRule]:
    """The rules with one rate a step higher or lower.

    Rates are rounded to three digits, so that a step up and one down cancel.
    """

    def stepped(rate: float, step: float) -> list[float]:
        return [float(f"{each:.3g}") for each in (rate * step, rate / step)]

    learning = stepped(rule.learning_rate, LEARNING_STEP)
    decay = stepped(rule.decay_rate, DECAY_STEP)
    return [
        *(replace(rule, learning_rate=rate) for rate in learning),
        *(replace(rule, decay_rate=rate) for rate in decay),
    ]


def read_trials(path: Path) -> list[Trial]:
    """Reads the trials of earlier searches; none if there is no such file.

    Raises:
        UsageError: if it is damaged.

    Example:
        >>> read_trials(Path("nowhere.json"))
        []
    """
    if not os.path.lexists(path):
        return []
    try:
        values = parse_json(read_text_of_run(path), "a list of trials")
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
        if jnp.issubdtype(jnp.asarray(array).dtype, jax.dtypes.prng_key):
            array = jax.random.key_data(array)
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
