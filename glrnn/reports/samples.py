"""What a trained model writes, and how it is surprised by a sentence."""

import io
import math
from typing import NamedTuple

import numpy as np

from glrnn import data
from glrnn.data.tokens import EOS
from glrnn.errors import UsageError
from glrnn.reports.drawing import shortened
from glrnn.scoring.generation import Sampling, sample
from glrnn.scoring.sentences import read_sentences, score_sentences
from glrnn.scoring.trained import Trained, load_run
from glrnn.storage.run_folder import Run, StageId

# The number of samples, and the largest number of words in one.
SAMPLES, LENGTH = 3, 40
# A sentence from the texts has at least so many words: headings tell little.
SHORTEST = 5
# The number of words that are read of a sentence, and of letters shown of a word.
LONGEST, LONGEST_WORD = 200, 100


class Word(NamedTuple):
    """A word of a sentence.

    Attributes:
        word: The word as it was written.
        bits: Its surprisal; `None` if that is not finite.
        unknown: Whether it was read as the symbol for unknown words.
    """

    word: str
    bits: float | None
    unknown: bool


class Writing(NamedTuple):
    """Samples of a model, and a sentence that it has read.

    Attributes:
        stage: The stage whose best model it is.
        samples: The samples.
        sentence: The words of the sentence, `<eos>` the last.
        source: Where the sentence is from.
    """

    stage: StageId
    samples: tuple[str, ...]
    sentence: tuple[Word, ...]
    source: str

    @property
    def perplexity(self) -> float | None:
        """The perplexity of the sentence; `None` if it is not finite."""
        bits = [word.bits for word in self.sentence]
        if not bits or None in bits:
            return None
        mean = sum(each for each in bits if each is not None) / len(bits)
        return 2.0**mean if mean < 1000 else None


def write(run: Run, sentence: str | None = None) -> Writing:
    """Has the best model of a run write, and read a sentence.

    Args:
        run: The run.
        sentence: The sentence; by default the first line of the validation set that has
            five words or more, if the texts are at hand, else the first sample.

    Raises:
        UsageError: There is no checkpoint yet, it is damaged, or the sentence has no
            words, or unknown ones for which the vocabulary has no symbol.
    """
    trained = load_run(run)
    unknown = trained.vocabulary.unknown_symbol is not None
    sampling = Sampling(bans_unknown=unknown and len(trained.vocabulary) > 2)
    drawn = sample(trained, num_samples=SAMPLES, length=LENGTH, sampling=sampling)
    samples = tuple(
        " ".join(
            shortened(word, LONGEST_WORD) for word in trained.vocabulary.decode(ids)
        )
        for ids in drawn
    )
    text, source = sentence, "the sentence that was given"
    if text is None:
        text, source = _line_of_validation(run), "the first line of the validation set"
    if text is None:
        text, source = samples[0], "the first sample, for the texts are not at hand"
    return Writing(trained.stage, samples, _read(trained, text), source)


def check_sentence(sentence: str | None) -> None:
    """Refuses a sentence that has no words.

    Raises:
        UsageError: It has none.

    Example:
        >>> check_sentence(" ")
        Traceback (most recent call last):
        ...
        glrnn.errors.UsageError: --sentence has no words
    """
    if sentence is not None and not sentence.split():
        raise UsageError("--sentence has no words")


def _line_of_validation(run: Run) -> str | None:
    """A line of the validation set; `None` unless the run's own text is at hand."""
    place = run.origin.data
    if place in data.CORPORA and place != "python-docs":  # nothing is downloaded here
        return None
    try:
        corpus = data.load(place, run.vocabulary, splits=["valid"])
    except (UsageError, OSError):
        return None
    # A folder of that name may hold somebody's letters by now.
    if data.split_fingerprints(corpus).get("valid") != run.origin.splits_sha256.get(
        "valid"
    ):
        return None
    line: list[str] = []
    for word in run.vocabulary.decode(corpus.valid[: LONGEST * LONGEST]):
        if word != EOS:
            line.append(word)
        elif len(line) >= SHORTEST:
            break
        else:
            line = []
    return " ".join(line[:LENGTH]) or None


def _read(trained: Trained, text: str) -> tuple[Word, ...]:
    words = " ".join(text.split()[:LONGEST])
    stream = io.BytesIO(words.encode("utf-8", "replace") + b"\n")
    lines = read_sentences(stream, trained.vocabulary, "the sentence", trained.eos)
    (score,) = score_sentences(trained, lines)
    bits = -score.log_likelihoods.astype(np.float64) / math.log(2)
    shown = (*score.sentence.words, EOS)
    return tuple(
        Word(
            shortened(word, LONGEST_WORD),
            float(each) if np.isfinite(each) else None,
            bool(unknown),
        )
        for word, each, unknown in zip(shown, bits, score.sentence.unknown, strict=True)
    )
