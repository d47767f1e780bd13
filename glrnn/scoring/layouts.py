"""How scores are written: tables of our own, and the layouts of other tools.

Sources: the outputs of lm-zoo, neural-complexity (`--words`), SRILM (`ngram -ppl`) and
KenLM (`query`). Each treats blank lines and unknown words in its own way.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from glrnn.data.tokens import EOS
from glrnn.data.vocabulary import UNK
from glrnn.ground.losses import to_perplexity
from glrnn.scoring.sentences import SentenceScore

Scores = Iterable[SentenceScore]

# The nats of one unit, and its name.
BASES = {
    "2": (math.log(2), "bits"),
    "e": (1.0, "nats"),
    "10": (math.log(10), "log10"),
}
# Further columns of the table of words.
COLUMNS = ("surface", "unknown", "entropy", "rank", "line")


class Options(NamedTuple):
    """What the layouts have in common.

    Attributes:
        base: The unit of log-probabilities, a key of `BASES`.
        skips_unknown: Whether unknown words are left out of sums and rows.
        columns: Further columns of the table of words, of `COLUMNS`.
        scores_blank: Whether a blank line is scored, as the `<eos>` that it is in a
            text that is read as a whole.
        debug: How much SRILM tells, 0 to 2.
        name: The name of the text, for SRILM's summary.
        per_word: Whether a candidate has a cost for each word instead of their sum.
    """

    base: str = "2"
    skips_unknown: bool = False
    columns: tuple[str, ...] = ()
    scores_blank: bool = False
    debug: int = 0
    name: str = "-"
    per_word: bool = False


class Row(NamedTuple):
    """A token in a table.

    Attributes:
        number: Its number in its sentence, from 1.
        token: The word, `<unk>` or `<eos>`.
        surface: The word as it was written.
        unknown: Whether it is an unknown word.
        nats: Its surprisal; never below 0, and 0 has no sign.
        index: Its place in the arrays of the score.
    """

    number: int
    token: str
    surface: str
    unknown: bool
    nats: float
    index: int


def rows_of(score: SentenceScore) -> Iterator[Row]:
    """The tokens of a sentence, `<eos>` as the last."""
    surfaces = *score.sentence.words, EOS
    for index, surface in enumerate(surfaces):
        unknown = bool(score.sentence.unknown[index])
        nats = max(0.0, -float(score.log_likelihoods[index]))
        token = UNK if unknown else surface
        yield Row(index + 1, token, surface, unknown, nats, index)


def _shown(
    scores: Scores, options: Options
) -> Iterator[tuple[SentenceScore, list[Row]]]:
    """The sentences that have rows, and these."""
    for score in scores:
        if score.sentence.words or options.scores_blank:
            rows = rows_of(score)
            kept = (row for row in rows if not (row.unknown and options.skips_unknown))
            yield score, list(kept)


def sentences(scores: Scores, options: Options) -> Iterator[str]:
    """A row a sentence: log-probability, tokens, unknown words, perplexity."""
    nats, unit = BASES[options.base]
    yield f"sentence_id\tlog_prob_{unit}\ttokens\tunknown\tperplexity"
    for score, rows in _shown(scores, options):
        total = math.fsum(row.nats for row in rows)
        unknown = int(score.sentence.unknown.sum())
        perplexity = to_perplexity(total / len(rows)) if rows else math.nan
        yield (
            f"{score.sentence.line}\t{0.0 - total / nats:.6f}\t{len(rows)}\t{unknown}\t"
            f"{perplexity:.6g}"
        )


def words(scores: Scores, options: Options) -> Iterator[str]:
    """A row a token: the table of lm-zoo, and further columns."""
    nats, unit = BASES[options.base]
    surprisal = "surprisal" if options.base == "2" else f"surprisal_{unit}"
    header = ("sentence_id", "token_id", "token", surprisal, *options.columns)
    yield "\t".join(header)
    for score, rows in _shown(scores, options):
        for row in rows:
            cells = (
                str(score.sentence.line),
                str(row.number),
                row.token,
                f"{row.nats / nats:.6f}",
                *(_cell(name, score, row, nats) for name in options.columns),
            )
            yield "\t".join(cells)


def _cell(name: str, score: SentenceScore, row: Row, nats: float) -> str:
    match name:
        case "surface":
            return row.surface
        case "unknown":
            return str(int(row.unknown))
        case "entropy":
            assert score.entropies is not None
            return f"{max(0.0, float(score.entropies[row.index])) / nats:.6f}"
        case "rank":
            assert score.ranks is not None
            return str(int(score.ranks[row.index]))
        case _:
            return str(score.sentence.line)


def objects(scores: Scores, options: Options) -> Iterator[str]:
    """A JSON object a sentence, with a list of its tokens."""
    nats, unit = BASES[options.base]
    for score, rows in _shown(scores, options):
        tokens = []
        for row in rows:
            surprisal = row.nats / nats if math.isfinite(row.nats) else None
            token: dict[str, Any] = {"token": row.token, "surprisal": surprisal}
            if row.unknown:
                token |= {"surface": row.surface, "unknown": True}
            if score.entropies is not None and score.ranks is not None:
                token["entropy"] = float(score.entropies[row.index]) / nats
                token["rank"] = int(score.ranks[row.index])
            tokens.append(token)
        record = {"sentence_id": score.sentence.line, "unit": unit, "tokens": tokens}
        yield json.dumps(record, ensure_ascii=False, allow_nan=False)


def complexity(scores: Scores, options: Options) -> Iterator[str]:
    """The rows of neural-complexity: in bits, counted from 0, without `<eos>`.

    Blank lines have no number.
    """
    yield "word sentid sentpos wlen surp entropy entred"
    bits = math.log(2)
    number = -1
    for score, rows in _shown(scores, options._replace(scores_blank=False)):
        number += 1
        assert score.entropies is not None
        entropies = [float(each) / bits for each in score.entropies]
        for row in rows:
            if row.surface != EOS or row.index < len(score.sentence.words):
                now = entropies[row.index]
                reduction = max(0, entropies[max(row.index - 1, 0)] - now)
                yield (
                    f"{row.token} {number} {row.index} {len(row.token)} "
                    f"{row.nats / bits} {now} {reduction}"
                )


def srilm(scores: Scores, options: Options) -> Iterator[str]:
    """What `ngram -ppl` prints with `-debug 0`, 1 or 2.

    Blank lines are skipped. Unknown words are scored as `<unk>` and are then no OOVs,
    or are left out of the sums and counted.
    """
    total, num_sentences, num_words, num_oovs = 0.0, 0, 0, 0
    for score, _ in _shown(scores, options._replace(scores_blank=False)):
        log10s, oovs, history = [], 0, "<s>"
        if options.debug:
            yield " ".join(score.sentence.words)
        for row in rows_of(score):
            is_end = row.index == len(score.sentence.words)
            word = "</s>" if is_end else row.token
            context = f"{history} " if row.index == 0 else f"{history} ..."
            if row.unknown and options.skips_unknown:
                told, oovs = "[OOV] 0 [ -inf ]", oovs + 1
            else:
                log10 = 0.0 - row.nats / math.log(10)
                log10s.append(log10)
                told = f"[rnn] {10**log10:g} [ {log10:.7g} ]"
            if options.debug > 1:
                yield f"\tp( {word} | {context}) \t= {told}"
            history = word
        logprob, count = math.fsum(log10s), len(score.sentence.words)
        if options.debug:
            yield f"1 sentences, {count} words, {oovs} OOVs"
            yield _srilm_line(logprob, 1, count, oovs)
            yield ""
        total, num_sentences = total + logprob, num_sentences + 1
        num_words, num_oovs = num_words + count, num_oovs + oovs
    yield (
        f"file {options.name}: {num_sentences} sentences, {num_words} words, "
        f"{num_oovs} OOVs"
    )
    yield _srilm_line(total, num_sentences, num_words, num_oovs)


def _srilm_line(logprob: float, num_sentences: int, num_words: int, oovs: int) -> str:
    def per(count: int) -> str:
        return f"{10 ** (-logprob / count):.7g}" if count > 0 else "undefined"

    known = num_words - oovs
    return (
        f"0 zeroprobs, logprob= {logprob:.7g} ppl= {per(known + num_sentences)} "
        f"ppl1= {per(known)}"
    )


def kenlm(scores: Scores, options: Options) -> Iterator[str]:
    """What `query` prints: a line a sentence, and four lines of summary.

    A blank line is scored as its `</s>`. Unknown words are scored, keep their spelling
    and have the id 0; known ones have their id plus 1. The number beside an id is that
    of the words that the probability depends on, the word itself included.
    """
    del options
    total, unknown_total, num_tokens, num_unknown = 0.0, 0.0, 0, 0
    for score in scores:
        cells, sum32, oovs = [], np.float32(0), 0
        for row in rows_of(score):
            log10 = np.float32(0.0 - row.nats / math.log(10))
            is_end = row.index == len(score.sentence.words)
            word = "</s>" if is_end else row.surface
            number = 0 if row.unknown else 1 + int(score.sentence.ids[row.index])
            cells.append(f"{word}={number} {row.number + 1} {log10!s}")
            sum32 += log10
            if row.unknown:
                oovs, unknown_total = oovs + 1, unknown_total + float(log10)
        cells.append(f"Total: {sum32!s} OOV: {oovs}")
        yield "\t".join(cells)
        total += float(sum32)
        num_tokens += len(score.sentence.ids)
        num_unknown += oovs
    yield f"Perplexity including OOVs:\t{_power(-total, num_tokens)}"
    known = num_tokens - num_unknown
    yield f"Perplexity excluding OOVs:\t{_power(unknown_total - total, known)}"
    yield f"OOVs:\t{num_unknown}"
    yield f"Tokens:\t{num_tokens}"


def candidates(scores: Scores, options: Options) -> Iterator[str]:
    """A line a candidate: its key and its cost, minus the natural log-probability.

    Kaldi's scripts join such files line by line, so every line has one.
    """
    for score in scores:
        nats = [row.nats for row in rows_of(score)]
        costs = nats if options.per_word else [math.fsum(nats)]
        yield " ".join([score.sentence.key, *(f"{cost:.4f}" for cost in costs)])


def _power(log10: float, count: int) -> float:
    return to_perplexity(log10 * math.log(10) / count) if count else math.nan


LAYOUTS: dict[str, Callable[[Scores, Options], Iterator[str]]] = {
    "sentences": sentences,
    "words": words,
    "complexity": complexity,
    "srilm": srilm,
    "kenlm": kenlm,
    "json": objects,
    "nbest": candidates,
}
