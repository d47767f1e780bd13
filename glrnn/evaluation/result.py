"""The score of a text and how it was scored, as a sentence and as JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from glrnn.data.vocabulary import UNK
from glrnn.evaluation.dynamic import DynamicRule
from glrnn.evaluation.perplexity import Score
from glrnn.evaluation.scored_text import Text
from glrnn.storage.run_folder import StageId


class Result(NamedTuple):
    """The score of a text, and how it was scored.

    Attributes:
        text: The text.
        stage: The stage whose model was used.
        score: The score.
        rule: The rule of dynamic evaluation; `None` for static evaluation.
        temperature: The temperature; `None` for the model as it is.
        others: The other runs of an ensemble, and their weights.
        dropout: The number of samples of dropout masks and the scale of their rates;
            `None` without dropout.
    """

    text: Text
    stage: StageId
    score: Score
    rule: DynamicRule | None
    temperature: float | None
    others: tuple[tuple[Path, float], ...] = ()
    dropout: tuple[int, float] | None = None


def as_json(result: Result) -> str:
    """The result as one JSON object."""
    text = result.text
    phase, stage = result.stage
    record: dict[str, Any] = {"text": text.name, "phase": phase, "stage": stage}
    record |= result.score._asdict() | {"unknown": text.num_unknown}
    record["num_read"] = len(text.ids)
    if result.dropout is not None:
        record["dropout_samples"], record["dropout_scale"] = result.dropout
    if result.others:
        record["interpolate"] = {str(run): weight for run, weight in result.others}
    if text.unknown_words is not None:
        record["unknown_words"] = text.unknown_words
    if result.rule is not None:
        record["dynamic"] = asdict(result.rule)
    if result.temperature is not None:
        record["temperature"] = result.temperature
    return json.dumps(record, allow_nan=False)


def as_sentence(result: Result) -> str:
    """The result as a sentence."""
    text, score, rule = result.text, result.score, result.rule
    phase, stage = result.stage
    how = ""
    if rule is not None:
        how = (
            f", dynamic (learning rate {rule.learning_rate:.3g}, decay rate "
            f"{rule.decay_rate:.3g})"
        )
    if result.dropout is not None:
        how += f", mean of {result.dropout[0]} dropout masks"
    for run, weight in result.others:
        how += f", with {weight:g} of {run}"
    if result.temperature is not None:
        how += f", temperature {result.temperature:.4g}"
    # Of a number with hundreds of digits a few are enough.
    perplexity_shown = format(
        score.perplexity, ".2f" if score.perplexity < 1e9 else ".4g"
    )
    read_as = f" (read as {text.symbol})" if text.symbol not in (None, UNK) else ""
    return (
        f"{text.name}, model of phase {phase} ({stage}){how}: "
        f"{score.nats_per_token:.4f} nats per token, perplexity "
        f"{perplexity_shown}, {score.num_tokens:,} tokens scored, "
        f"{text.num_unknown:,} unknown words{read_as} among {len(text.ids):,} read"
    )
