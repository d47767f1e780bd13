"""Scores a text with the best model of a run: `python -m glrnn.evaluate RUN`."""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.evaluate")  # before the imports that follow, which take a second

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from glrnn import data
from glrnn.console.bar import Bar
from glrnn.console.compilation import keep_programs, return_memory
from glrnn.console.options import words
from glrnn.console.sentence import print_sentence
from glrnn.data.vocabulary import Ids
from glrnn.errors import DivergedError, UsageError, printable, told_plainly
from glrnn.evaluation.dynamic import (
    DynamicRule,
    dynamic_perplexity,
    statistics,
)
from glrnn.evaluation.perplexity import Score, perplexity
from glrnn.evaluation.result import Result, as_json, as_sentence
from glrnn.evaluation.scored_text import Text, read_text, split_of
from glrnn.evaluation.temperature import TEMPERATURE_TOKENS, best_temperature, tempered
from glrnn.evaluation.tuning import tune
from glrnn.ground.devices import require_devices
from glrnn.model import Model, Params
from glrnn.scoring.interpolated import with_others
from glrnn.scoring.mask_samples import over_masks
from glrnn.scoring.run_corpus import corpus_of
from glrnn.scoring.trained import load_run
from glrnn.storage import run_folder

# Beyond these the logits of float32 lose the differences between words.
TEMPERATURES = 0.01, 100.0


@dataclass(frozen=True)
class Command:
    """Score a text with the best model of a run.

    Attributes:
        run: The run's folder.
        split: The split of the run's data to score; test by default.
        text: A text of your own to score instead: UTF-8, words separated by whitespace;
            - for standard input.
        data: Where the run's data is now, if it has moved: a folder or a name. Only the
            splits that are needed must be there.
        manual_dir: A folder with the files of a corpus, instead of a download.
        phase: The phase whose model to use, from 1; by default the deepest one that has
            a checkpoint.
        stage: The stage whose best model to use; by default the last one of the phase.
        dynamic: Use dynamic evaluation: the model learns from each window once it is
            scored.
        tune: Use dynamic evaluation with the rates that are best on the validation set.
        rule: The settings of dynamic evaluation.
        batch_size: The number of columns that the text is cut into, each of which is
            read without what is before it; tokens that do not fill a row are left out.
            By default the run's own for that split, and that of the test set for a
            text of your own.
        temperature: A number that all logits are divided by, from 0.01 to 100; 1 by
            default.
        tune_temperature: Use the temperature that is best on the first 50,000 tokens of
            the validation set.
        interpolate: Further runs and their weights, RUN WEIGHT ...: score with the mean
            of the probabilities of all runs, of which the first has the weight that is
            left.
        dropout_samples: Score with the mean of the probabilities of so many samples of
            dropout masks, instead of without dropout.
        dropout_scale: What the dropout rates of the phase are multiplied by for that.
        list_unknown: List the words of --text that the model does not know, with their
            counts.
        json: Print one JSON object instead of text.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    split: Literal["valid", "test", "train"] | None = None
    text: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    phase: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    stage: Literal["main", "finetune"] | None = None
    dynamic: bool = False
    tune: bool = False
    rule: Annotated[DynamicRule, tyro.conf.arg(name="dynamic")] = field(
        default_factory=DynamicRule
    )
    batch_size: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    temperature: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
    tune_temperature: bool = False
    interpolate: Annotated[
        tuple[tuple[Path, float], ...], tyro.conf.arg(metavar="RUN WEIGHT")
    ] = ()
    dropout_samples: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    dropout_scale: float = 1.0
    list_unknown: bool = False
    json: bool = False

    @property
    def is_dynamic(self) -> bool:
        """Whether the model learns from the text."""
        return self.dynamic or self.tune

    @property
    def scored_split(self) -> str | None:
        """The split to score; `None` for a text of one's own."""
        return (self.split or "test") if self.text is None else None


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly():
        command = tyro.cli(
            Command,
            prog="python -m glrnn.evaluate",
            args=words(arguments),
        )
        _check(command)
        require_devices()
        keep_programs()
        return_memory()
        result = _evaluate(command)
        if command.json:
            print(as_json(result))
            return
        print_sentence(as_sentence(result))
        for word, count in (result.text.unknown_words or {}).items():
            print(f"{count:>8,}  {printable(word)}")


def _check(command: Command) -> None:
    """Refuses options that would have no effect."""
    usual = DynamicRule()
    if command.rule != usual and not command.is_dynamic:
        raise UsageError("the options --dynamic.* need --dynamic or --tune")
    rates = replace(
        command.rule, learning_rate=usual.learning_rate, decay_rate=usual.decay_rate
    )
    if command.tune and rates != command.rule:
        raise UsageError(
            "--tune searches for the rates; drop --dynamic.learning-rate and "
            "--dynamic.decay-rate, or replace --tune by --dynamic"
        )
    batch_size = command.batch_size
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"--batch-size is {batch_size}; it must be at least 1")
    if batch_size is not None and command.is_dynamic:
        raise UsageError(
            "--batch-size is of no use to dynamic evaluation, which reads a text in "
            "one column"
        )
    if command.interpolate and command.is_dynamic:
        raise UsageError(
            "--interpolate is of no use to dynamic evaluation, which updates one "
            "model; drop one of them"
        )
    samples = command.dropout_samples
    if samples is not None and (command.is_dynamic or command.interpolate):
        raise UsageError(
            "--dropout-samples is of no use to dynamic evaluation or --interpolate; "
            "drop one of them"
        )
    if command.dropout_scale != 1 and samples is None:
        raise UsageError("--dropout-scale needs --dropout-samples")
    temperature = command.temperature
    least, most = TEMPERATURES
    if temperature is not None and not least <= temperature <= most:
        raise UsageError(
            f"--temperature is {temperature}; it must be between {least:g} and {most:g}"
        )
    if command.tune_temperature and temperature is not None:
        raise UsageError(
            "--tune-temperature searches for the temperature; drop --temperature"
        )
    has_data = command.data is not None or command.manual_dir is not None
    needs_data = command.is_dynamic or command.tune_temperature
    if command.text is not None and has_data and not needs_data:
        raise UsageError(
            "--text needs no corpus; drop --data and --manual-dir, or add --dynamic, "
            "--tune or --tune-temperature"
        )
    if command.text is not None and command.split is not None:
        raise UsageError("--split is of no use to --text; drop one of them")
    if command.list_unknown and command.text is None:
        raise UsageError("--list-unknown needs --text")


def _evaluate(command: Command) -> Result:
    run = run_folder.read(command.run)
    trained = with_others(
        load_run(run, command.phase, command.stage), command.interpolate
    )
    model, params, stage = trained.model, trained.params, trained.stage
    # A text of one's own needs the corpus only for what is learned or tuned.
    corpus = cache(
        lambda: corpus_of(
            run, command.data, command.manual_dir, _needed_splits(command), _say
        )
    )
    text = (
        read_text(command.text, run.vocabulary, command.list_unknown, _say)
        if command.text is not None
        else split_of(corpus(), command.split or "test")
    )
    if command.dropout_samples is not None:
        scale = command.dropout_scale
        model = over_masks(trained, command.dropout_samples, scale).model
    temperature = command.temperature
    if command.tune_temperature:
        temperature = _tune_temperature(run, model, params, corpus())
    if temperature is not None:
        model = tempered(model, temperature)
    if command.is_dynamic:
        # Trials are known by the parameters, the training set whose gradients scale the
        # updates, and the temperature where it matters.
        fingerprint = params, corpus().train
        if temperature is not None:
            fingerprint = *fingerprint, temperature
        score, rule = _dynamic(
            *(run, model, params, fingerprint),
            *(corpus(), text.ids, command.rule, command.tune),
        )
        return Result(text, stage, score, rule, temperature)
    batch_size = command.batch_size
    if batch_size is None:
        batch_size = (
            run.config.test_batch_size
            if command.scored_split in (None, "test")
            else run.config.valid_batch_size
        )
    score = perplexity(model, params, text.ids, batch_size=batch_size)
    if not math.isfinite(score.perplexity):
        at = "" if temperature is None else f" at a temperature of {temperature:.4g}"
        raise DivergedError(
            f"the perplexity is not finite{at}: {score.nats_per_token:.4g} nats per "
            f"token"
        )
    read = _read_part(text, batch_size)
    samples, scale = command.dropout_samples, command.dropout_scale
    dropout = None if samples is None else (samples, scale)
    return Result(read, stage, score, None, temperature, command.interpolate, dropout)


def _read_part(text: Text, batch_size: int) -> Text:
    """The text without the tail that `perplexity` leaves out, which is said."""
    left_out = len(text.ids) % batch_size
    if left_out:
        _say(
            f"note: the last {left_out:,} of {len(text.ids):,} tokens were left out: "
            f"they do not fill a row of {batch_size:,} columns"
        )
    return text.beginning(len(text.ids) - left_out)


def _tune_temperature(
    run: run_folder.Run, model: Model, params: Params, corpus: data.Corpus
) -> float:
    def score(temperature: float) -> float:
        return perplexity(
            tempered(model, temperature),
            params,
            corpus.valid[:TEMPERATURE_TOKENS],
            batch_size=run.config.valid_batch_size,
        ).nats_per_token

    return best_temperature(score, _say)


def _say(line: str) -> None:
    with suppress(OSError):  # the result is worth having, though nobody sees this
        print(printable(line), file=sys.stderr, flush=True)


def _needed_splits(command: Command) -> list[str]:
    needed = {
        (command.scored_split, True),
        ("train", command.is_dynamic),
        ("valid", command.tune or command.tune_temperature),
    }
    return [split for split in data.SPLITS if (split, True) in needed]


def _dynamic(
    run: run_folder.Run,
    model: Model,
    params: Params,
    fingerprint: Any,
    corpus: data.Corpus,
    tokens: Ids,
    rule: DynamicRule,
    tuned: bool,
) -> tuple[Score, DynamicRule]:
    """The dynamic score of a text, and the rule that it was scored by."""
    with Bar() as bar:
        bar.begin("gradient statistics", len(corpus.train))
        rms = statistics(model, params, corpus.train, rule, bar.advance)
        score = partial(dynamic_perplexity, model, params, rms, advance=bar.advance)
        if tuned:
            bar.begin("tuning", 1)
            rule = tune(
                lambda rule, text: score(text, rule).nats_per_token,
                fingerprint,
                corpus.valid,
                rule,
                run.folder / "dynamic.json",
                say=_say,
                tell=lambda number, at_least, num_tokens: bar.expect(
                    f"tuning: trial {number} of at least {at_least}", num_tokens
                ),
            )
        bar.begin("dynamic evaluation", len(tokens))
        found = score(tokens, rule)
    if not math.isfinite(found.perplexity):
        raise DivergedError(
            f"the perplexity is not finite at a learning rate of "
            f"{rule.learning_rate:.3g} and a decay rate of {rule.decay_rate:.3g}; try "
            f"a lower learning rate, or --tune"
        )
    return found, rule
