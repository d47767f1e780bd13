"""The perplexity of a run's model on a text: `python -m glrnn.evaluate RUN`."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from glrnn import data
from glrnn.console.compilation import keep_programs, return_memory
from glrnn.data.vocabulary import Ids, read_tokens
from glrnn.errors import DivergedError, UsageError, told_plainly
from glrnn.evaluation.dynamic import DynamicRule, dynamic_perplexity, gradient_rms
from glrnn.evaluation.perplexity import Score, perplexity
from glrnn.evaluation.temperature import FIRST_TOKENS, best_temperature, tempered
from glrnn.evaluation.tuning import tune
from glrnn.model import Model, Params
from glrnn.storage import run_folder
from glrnn.storage.best_params import best_params, find_best_params, phase_model


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line.

    Args:
        arguments: As typed; `sys.argv` by default.
    """
    import tyro

    @dataclass(frozen=True)
    class Command:
        """Score a text with the best model of a run.

        Attributes:
            run: The run's folder.
            split: Of the data the run was trained on.
            text: A text of your own instead, UTF-8, tokens separated by whitespace.
            data: Where the splits are now, if they have moved; a folder or a name.
            manual_dir: A folder with the texts of ptb or wikitext-2, instead of a
                download.
            phase: The model of which phase, from 1; the deepest there is by default.
            stage: The best of which stage; of the last there is by default.
            dynamic: Have the model learn from the text, window by window, once each is
                scored.
            tune: Search the rates of that on the validation set first.
            rule: How it learns.
            temperature: By which all logits are divided; 1 if not given.
            tune_temperature: Choose it on the first 50,000 tokens of the validation
                set.
            json: One JSON object instead of a line to read.
        """

        run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
        split: Literal["valid", "test", "train"] = "test"
        text: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
        data: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
        manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
        phase: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
        stage: Literal["main", "finetune"] | None = None
        dynamic: bool = False
        tune: bool = False
        rule: Annotated[DynamicRule, tyro.conf.arg(name="dynamic")] = field(
            default_factory=DynamicRule
        )
        temperature: Annotated[float | None, tyro.conf.arg(metavar="FLOAT")] = None
        tune_temperature: bool = False
        json: bool = False

    with told_plainly():
        command = tyro.cli(
            Command,
            prog="python -m glrnn.evaluate",
            args=sys.argv[1:] if arguments is None else arguments,
        )
        dynamic = command.dynamic or command.tune
        _check_rule(command.rule, dynamic, command.tune)
        _check_temperature(command.temperature, command.tune_temperature)
        moved = command.data is not None or command.manual_dir is not None
        needs_corpus = dynamic or command.tune_temperature
        if command.text is not None and moved and not needs_corpus:
            raise UsageError("--text is scored alone: --data and --manual-dir are not")
        keep_programs()
        return_memory()
        run = run_folder.read(command.run)
        phase, params = _chosen(run, command.phase, command.stage)
        # Of a text of one's own the corpus is needed only if the model is to learn.
        corpus = cache(lambda: _corpus(run, command.data, command.manual_dir))
        what, tokens, unknown = (
            _own_text(run, command.text)
            if command.text is not None
            else _split(corpus(), command.split)
        )
        model, rule, temperature = phase_model(run, phase), None, command.temperature
        if command.tune_temperature:
            temperature = _tune_temperature(run, model, params, corpus())
        if temperature is not None:
            model = tempered(model, temperature)
        if dynamic:
            # What a model's trials are known again by.
            which = params if temperature is None else (params, temperature)
            score, rule = _follow(
                run, model, params, which, corpus(), tokens, command.rule, command.tune
            )
        else:
            score = perplexity(
                model,
                params,
                tokens,
                batch_size=run.config.test_batch_size
                if command.text or command.split == "test"
                else run.config.valid_batch_size,
            )
        _tell(what, phase, score, unknown, rule, temperature, command.json)


def _check_rule(rule: DynamicRule, dynamic: bool, tuned: bool) -> None:
    """Refuses what would have no effect."""
    usual = DynamicRule()
    if rule != usual and not dynamic:
        raise UsageError("the options of --dynamic are of no use without it")
    rates = replace(
        rule, learning_rate=usual.learning_rate, decay_rate=usual.decay_rate
    )
    if tuned and rates != rule:
        raise UsageError(
            "--tune searches the learning and the decay rate: give neither"
        )


def _check_temperature(temperature: float | None, tuned: bool) -> None:
    if temperature is not None and not 0 < temperature < math.inf:
        raise UsageError(f"--temperature is {temperature}; it must be above 0")
    if tuned and temperature is not None:
        raise UsageError("--tune-temperature chooses the temperature: give none")


def _tune_temperature(
    run: run_folder.Run, model: Model, params: Params, corpus: data.Corpus
) -> float:
    def score(temperature: float) -> float:
        return perplexity(
            tempered(model, temperature),
            params,
            corpus.valid[:FIRST_TOKENS],
            batch_size=run.config.valid_batch_size,
        ).nats_per_token

    return best_temperature(score, _say)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _chosen(
    run: run_folder.Run, phase: int | None, stage: str | None
) -> tuple[int, Params]:
    """A phase, by default the deepest that has a checkpoint, and its parameters."""
    count = len(run.config.phases)
    if phase is not None and not 1 <= phase <= count:
        raise UsageError(f"there is no phase {phase} in {run.folder}: it has {count}")
    if phase is not None:
        return phase, best_params(run, phase, stage)
    for number in range(count, 0, -1):
        params = find_best_params(run, number, stage)
        if params is not None:
            return number, params
    raise UsageError(f"no checkpoint in {run.folder} yet")


def _corpus(
    run: run_folder.Run, moved_to: str | None, manual_dir: Path | None
) -> data.Corpus:
    where = run.origin.data if moved_to is None else moved_to
    corpus = data.load(where, run.vocabulary, manual_dir)
    if moved_to is None and data.fingerprint(corpus) != run.origin.sha256:
        print(
            f"note: {where} is no longer what {run.folder} was trained on",
            file=sys.stderr,
        )
    return corpus


def _follow(
    run: run_folder.Run,
    model: Model,
    params: Params,
    which: Any,
    corpus: data.Corpus,
    tokens: Ids,
    rule: DynamicRule,
    tuned: bool,
) -> tuple[Score, DynamicRule]:
    """The dynamic score of a text, and the rule that it was scored by."""
    rms = gradient_rms(
        model,
        params,
        corpus.train,
        batch_size=rule.statistics_batch_size,
        window_length=rule.window_length,
    )
    if tuned:
        rule = tune(
            lambda rule, text: (
                dynamic_perplexity(model, params, rms, text, rule).nats_per_token
            ),
            which,
            corpus.valid,
            rule,
            run.folder / "dynamic.json",
            say=_say,
        )
    score = dynamic_perplexity(model, params, rms, tokens, rule)
    if not math.isfinite(score.perplexity):
        raise DivergedError(
            f"the perplexity is not finite at a learning rate of "
            f"{rule.learning_rate:.3g} and a decay rate of {rule.decay_rate:.3g}; try "
            f"a lower learning rate, or --tune"
        )
    return score, rule


def _tell(
    what: str,
    phase: int,
    score: Score,
    unknown: int,
    rule: DynamicRule | None,
    temperature: float | None,
    as_json: bool,
) -> None:
    if as_json:
        record: dict[str, Any] = {"text": what, "phase": phase, **score._asdict()}
        record["unknown"] = unknown
        if rule is not None:
            record["dynamic"] = asdict(rule)
        if temperature is not None:
            record["temperature"] = temperature
        print(json.dumps(record))
        return
    how = ""
    if rule is not None:
        how = (
            f", dynamic (learning rate {rule.learning_rate:.3g}, decay rate "
            f"{rule.decay_rate:.3g})"
        )
    if temperature is not None:
        how += f", temperature {temperature:.3f}"
    print(
        f"{what}, model of phase {phase}{how}: {score.nats_per_token:.4f} nats per "
        f"token, perplexity {score.perplexity:.2f}, "
        f"{score.num_tokens:,} tokens scored, {unknown:,} unknown words"
    )


def _own_text(run: run_folder.Run, path: Path) -> tuple[str, Ids, int]:
    """Its name, its ids, and how many of its words are unknown."""
    ids, unknown = run.vocabulary.encode(read_tokens(path), str(path))
    return str(path), ids, unknown


def _split(corpus: data.Corpus, name: str) -> tuple[str, Ids, int]:
    return f"{name} split of {corpus.name}", getattr(corpus, name), corpus.unknown[name]


if __name__ == "__main__":
    main()
