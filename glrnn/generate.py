"""Generates text with a trained model: `python -m glrnn.generate RUN`."""

if __name__ == "__main__":
    from glrnn.console.start import start

    start("glrnn.generate")  # before the imports that follow, which take a second

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from glrnn.console.compilation import keep_programs, return_memory
from glrnn.console.options import words
from glrnn.console.output import in_utf8
from glrnn.errors import printable, told_plainly
from glrnn.ground.devices import require_devices
from glrnn.scoring.generation import Sampling, sample
from glrnn.scoring.trained import encode, load


@dataclass(frozen=True)
class Command:
    """Generate sentences with the best model of a run, one a line.

    Attributes:
        run: The run's folder.
        prompt: The words that each sentence begins with.
        phase: The phase whose model to use, from 1; by default the deepest one that has
            a checkpoint.
        stage: The stage whose best model to use; by default the last one of the phase.
        samples: The number of sentences.
        length: The largest number of words after the prompt.
        min_length: The number of words after the prompt before which a sentence does
            not end.
        temperature: A number that logits are divided by: less is more certain, 0 takes
            the most likely word.
        top_k: Draw only from the k most likely words; 0 for all.
        top_p: Draw only from the most likely words that have the probability p
            together; 1 for all.
        no_unknown: Never draw the symbol for unknown words.
        seed: The same seed gives the same text.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    prompt: Annotated[str, tyro.conf.arg(metavar="WORDS")] = ""
    phase: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    stage: Literal["main", "finetune"] | None = None
    samples: int = 1
    length: int = 50
    min_length: int = 0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    no_unknown: bool = False
    seed: int = 0


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    Args:
        arguments: The words of the command; `sys.argv` by default.
    """
    with told_plainly():
        command = tyro.cli(
            Command, prog="python -m glrnn.generate", args=words(arguments)
        )
        sampling = Sampling(
            command.temperature,
            command.top_k,
            command.top_p,
            command.min_length,
            command.no_unknown,
        )
        require_devices()
        keep_programs()
        return_memory()
        trained = load(command.run, command.phase, command.stage)
        prompt = encode(trained, command.prompt)
        unknown = trained.vocabulary.unknown_words(command.prompt.split())
        if unknown:
            told = printable(", ".join(unknown))
            print(f"note: the model does not know: {told}", file=sys.stderr, flush=True)
        in_utf8()
        for ids in sample(
            trained,
            prompt,
            length=command.length,
            num_samples=command.samples,
            seed=command.seed,
            sampling=sampling,
        ):
            print(" ".join(trained.vocabulary.decode(ids)))
