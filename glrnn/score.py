"""Scores sentences word by word with a trained model: `python -m glrnn.score RUN`."""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.score")  # before the imports that follow, which take a second

import itertools
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TextIO

import numpy as np
import tyro

from glrnn.console.bar import Bar
from glrnn.console.compilation import keep_programs, return_memory
from glrnn.console.options import words
from glrnn.console.output import in_utf8
from glrnn.errors import DivergedError, UsageError, printable, told_plainly
from glrnn.evaluation.dynamic import DynamicRule, statistics
from glrnn.ground.devices import require_devices
from glrnn.ground.files import whole_file
from glrnn.ground.losses import to_perplexity
from glrnn.scoring import layouts
from glrnn.scoring.adaptive import score_adaptively
from glrnn.scoring.interpolated import with_others
from glrnn.scoring.run_corpus import corpus_of
from glrnn.scoring.sentences import SentenceScore, score_sentences, score_stream
from glrnn.scoring.texts import sentences_of
from glrnn.scoring.trained import Trained, load_run
from glrnn.storage import run_folder

# Layouts and columns that need whole distributions.
DETAILED = {"complexity", "entropy", "rank"}


@dataclass(frozen=True)
class Command:
    """Score sentences, one a line, with the best model of a run.

    Each sentence is read from a fresh state after <eos> and ends in <eos>. Words are
    separated by ASCII whitespace.

    Attributes:
        run: The run's folder.
        file: The texts, in UTF-8; - or none for standard input. Several are read as
            one.
        phase: The phase whose model to use, from 1; by default the deepest one that has
            a checkpoint.
        stage: The stage whose best model to use; by default the last one of the phase.
        words: Print a row a token instead of a row a sentence: sentence_id, token_id,
            token and surprisal, separated by tabs. Short for --format words.
        format: The layout: a row a sentence with its log-probability, the tokens that
            this is the sum of, the unknown words and the perplexity (sentences), a row
            a token (words), an object a sentence (json), or what neural-complexity
            (complexity), ngram -ppl (srilm) or query (kenlm) print.
        columns: Further columns of --words, separated by commas: surface, unknown,
            entropy, rank, line.
        base: The base of logarithms: 2 for bits, e for nats, or 10. The layouts of
            other tools have their own.
        unknown: Whether unknown words are scored as <unk>, or left out of sums and
            rows. They are read in either case.
        context: Where the state comes from: a fresh one for each sentence, or the line
            before, of a file that is one text. Blank lines are then scored, as <eos>,
            but in the layouts of other tools, which skip them.
        dynamic: Use dynamic evaluation, with --context file: the model learns from each
            few words once they are scored.
        rule: The settings of dynamic evaluation.
        data: Where the run's data is now, if it has moved: a folder or a name. Dynamic
            evaluation reads its training set.
        manual_dir: A folder with the files of a corpus, instead of a download.
        debug: How much --format srilm prints, 0 to 2, as -debug of ngram.
        nbest: Read a list of candidates, as Kaldi writes it: a key, utterance-n, and
            words. Print each key with the cost of its words and <eos>, minus the
            natural log-probability; lower is better.
        per_word: With --nbest, print the cost of each word and of <eos>, not their sum.
        interpolate: Further runs and their weights, RUN WEIGHT ...: the mean of the
            probabilities of all runs, of which the first has the weight that is left.
        output: A file to write instead of standard output, once all is scored.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    file: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FILE")
    ] = ()
    phase: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    stage: Literal["main", "finetune"] | None = None
    words: bool = False
    format: Literal["sentences", "words", "json", "complexity", "srilm", "kenlm"] = (
        "sentences"
    )
    columns: Annotated[str, tyro.conf.arg(metavar="NAMES")] = ""
    base: Literal["2", "e", "10"] = "2"
    unknown: Literal["score", "skip"] = "score"
    context: Literal["sentence", "file"] = "sentence"
    dynamic: bool = False
    rule: Annotated[DynamicRule, tyro.conf.arg(name="dynamic")] = field(
        default_factory=DynamicRule
    )
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    debug: Literal[0, 1, 2] = 0
    nbest: bool = False
    per_word: bool = False
    interpolate: Annotated[
        tuple[tuple[Path, float], ...], tyro.conf.arg(metavar="RUN WEIGHT")
    ] = ()
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None

    @property
    def layout(self) -> str:
        """The name of the layout."""
        if self.nbest:
            return "nbest"
        return "words" if self.words else self.format

    @property
    def chosen_columns(self) -> tuple[str, ...]:
        """The further columns."""
        return tuple(self.columns.split(",")) if self.columns else ()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly():
        command = tyro.cli(Command, prog="python -m glrnn.score", args=words(arguments))
        _check(command)
        require_devices()
        keep_programs()
        return_memory()
        run = run_folder.read(command.run)
        first = load_run(run, command.phase, command.stage)
        trained = with_others(first, command.interpolate)
        scores = _scores(command, trained, _scorer(command, run, trained))
        # The first block is scored before a header is printed.
        begun = itertools.chain([next(scores)], scores)
        lines = layouts.LAYOUTS[command.layout](begun, _options(command))
        if command.output is None:
            in_utf8()
            for line in lines:
                print(line)
            return
        with _written(command.output) as file:
            file.writelines(line + "\n" for line in lines)


def _check(command: Command) -> None:
    """Refuses options that would have no effect."""
    layout = command.layout
    given = [
        name
        for name, value, usual in (
            ("--words", command.words, False),
            ("--format", command.format, "sentences"),
            ("--unknown", command.unknown, "score"),
            ("--context", command.context, "sentence"),
            ("--dynamic", command.dynamic, False),
        )
        if value != usual
    ]
    if command.nbest and given:
        raise UsageError(f"{given[0]} is of no use to --nbest; drop one of them")
    if command.per_word and not command.nbest:
        raise UsageError("--per-word needs --nbest")
    if command.words and command.format not in ("sentences", "words"):
        raise UsageError(f"--words is --format words; drop it, or --format {layout}")
    unknown = [name for name in command.chosen_columns if name not in layouts.COLUMNS]
    if unknown:
        raise UsageError(
            f"unknown column {unknown[0]!r}; choose from: {', '.join(layouts.COLUMNS)}"
        )
    _check_dynamic(command)
    if command.columns and layout != "words":
        raise UsageError("--columns needs --words")
    own = ("sentences", "words", "json")
    if command.base != "2" and layout not in own:
        raise UsageError(f"--base is of no use to --format {layout}, which has its own")
    if command.debug and layout != "srilm":
        raise UsageError("--debug needs --format srilm")
    if command.unknown == "skip" and layout == "kenlm":
        raise UsageError(
            "--unknown skip is of no use to --format kenlm, which scores unknown words "
            "and has both perplexities"
        )


def _check_dynamic(command: Command) -> None:
    if not command.dynamic:
        if command.rule != DynamicRule():
            raise UsageError("the options --dynamic.* need --dynamic")
        if command.data is not None or command.manual_dir is not None:
            raise UsageError("--data and --manual-dir need --dynamic")
        return
    if command.interpolate:
        raise UsageError(
            "--interpolate is of no use to --dynamic, which updates one model; drop "
            "one of them"
        )
    if command.context != "file":
        raise UsageError(
            "--dynamic needs --context file, for the model learns from one sentence to "
            "the next"
        )


def _written(path: Path) -> AbstractContextManager[TextIO]:
    """The output file: whole or not there; a device or a pipe is written as it is."""
    for outer in (*path.absolute().parents, *path.resolve().parents):
        if run_folder.exists(outer):
            raise UsageError(f"{path} is inside the run {outer}; choose another")
    if path.is_dir() or not path.name:
        raise UsageError(f"cannot write {path}: Is a directory")
    if path.exists() and not path.is_file():
        return open(path, "w", encoding="utf-8", newline="")
    # Of a link, what it points to.
    return whole_file(path.resolve() if path.is_symlink() else path)


def _options(command: Command) -> layouts.Options:
    return layouts.Options(
        base=command.base,
        skips_unknown=command.unknown == "skip",
        columns=command.chosen_columns,
        scores_blank=command.context == "file",
        debug=command.debug,
        name=" ".join(command.file) or "-",
        per_word=command.per_word,
    )


def _scorer(
    command: Command, run: run_folder.Run, trained: Trained
) -> Callable[..., Iterator[SentenceScore]]:
    """The function that scores sentences."""
    if not command.dynamic:
        return score_stream if command.context == "file" else score_sentences
    rule = command.rule
    corpus = corpus_of(run, command.data, command.manual_dir, ["train"], _say)
    with Bar() as bar:
        bar.begin("gradient statistics", len(corpus.train))
        rms = statistics(trained.model, trained.params, corpus.train, rule, bar.advance)
    return partial(score_adaptively, rms=rms, rule=rule)


def _scores(
    command: Command, trained: Trained, score: Callable[..., Iterator[SentenceScore]]
) -> Iterator[SentenceScore]:
    details = bool(DETAILED & {command.layout, *command.chosen_columns})
    details = details or command.layout == "json"
    sentences = sentences_of(command.file, trained, command.nbest, _say)
    for found in score(trained, sentences, details):
        perplexity = to_perplexity(-float(np.mean(found.log_likelihoods)))
        if command.dynamic and not math.isfinite(perplexity):
            raise DivergedError(
                f"the perplexity of line {found.sentence.line:,} is not finite; try a "
                f"lower learning rate"
            )
        if math.isnan(perplexity):
            raise DivergedError(
                f"a probability of line {found.sentence.line:,} is not a number"
            )
        yield found


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
