"""A list of candidates made from a text, in the form of Kaldi's n-best lists.

A recogniser is unsure of a few places of an utterance, and its candidates combine what
it may have heard there. So a sentence gets a few possible errors, each with a cost: a
word replaced by one drawn by frequency, dropped, or exchanged with the next one. The
candidates are the sets of errors of the lowest cost, the sentence itself first.

    python -m benchmarks.candidates DIR/valid.txt > list.txt
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro

UTTERANCES, CANDIDATES, ERRORS = 1000, 10, 4


@dataclass(frozen=True)
class Command:
    """Print a list of candidates, `utterance-n words`.

    Attributes:
        text: Sentences, one a line.
        utterances: The number of sentences to draw.
        seed: The same seed gives the same list.
    """

    text: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    utterances: int = UTTERANCES
    seed: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.candidates", args=arguments)
    text = command.text.read_text(encoding="utf-8")
    for key, words in candidates(text, command.utterances, command.seed):
        print(key, *words)


class Error(NamedTuple):
    """A possible error of a recogniser.

    Attributes:
        place: The place of the word that it concerns.
        kind: `replace`, `drop` or `exchange`.
        word: The word that replaces it.
        cost: What the recogniser adds to a candidate's cost.
    """

    place: int
    kind: str
    word: str
    cost: float


def candidates(
    text: str, utterances: int = UTTERANCES, seed: int = 0
) -> Iterator[tuple[str, list[str]]]:
    """Yields the key `utterance-n` and the words of each candidate.

    Args:
        text: Sentences, one a line; those with fewer words than `ERRORS` are left out.
        utterances: The number of sentences to draw.
        seed: The same seed gives the same list.

    Example:
        >>> lines = [
        ...     f"{key} {' '.join(words)}" for key, words in candidates("a b c d", 1)
        ... ]
        >>> len(lines), lines[0]
        (10, '1-1 a b c d')
    """
    rng = random.Random(seed)
    sentences = [line.split() for line in text.splitlines()]
    words = list(itertools.chain.from_iterable(sentences))
    long_enough = [sentence for sentence in sentences if len(sentence) >= ERRORS]
    for number, sentence in enumerate(rng.sample(long_enough, utterances), 1):
        errors = [
            Error(
                place,
                rng.choice(("replace", "drop", "exchange")),
                rng.choice(words),
                rng.expovariate(1),
            )
            for place in sorted(rng.sample(range(len(sentence)), ERRORS))
        ]
        sets = itertools.chain.from_iterable(
            itertools.combinations(errors, count) for count in range(ERRORS + 1)
        )
        cheapest = sorted(sets, key=lambda chosen: sum(each.cost for each in chosen))
        for rank, chosen in enumerate(cheapest[:CANDIDATES], 1):
            yield f"{number}-{rank}", heard(sentence, chosen)


def heard(sentence: Sequence[str], errors: Sequence[Error]) -> list[str]:
    """The words of a sentence with some errors, in ascending places.

    Example:
        >>> heard(
        ...     "a b c".split(), [Error(0, "exchange", "", 1), Error(2, "drop", "", 1)]
        ... )
        ['b', 'a']
    """
    words = list(sentence)
    for error in reversed(errors):
        here = slice(error.place, error.place + 2)
        match error.kind:
            case "replace":
                words[error.place] = error.word
            case "drop":
                del words[error.place]
            case _:
                words[here] = words[here][::-1]
    return words


if __name__ == "__main__":
    main()
