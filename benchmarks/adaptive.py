"""The adaptive softmax against the full one: `python -m benchmarks.adaptive`.

Both train the same LSTM on the same text with the step of a run: masks, loss, gradient,
clipping, update. They take their updates in turn, one of each, and the ratio is the
median over these pairs. With `--epochs` both are also trained, at a smaller size, and
their validation perplexities are told.

    python -m benchmarks.adaptive --data DIR
    python -m benchmarks.adaptive --data DIR --pairs 0 --epochs 2
"""

import contextlib
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from benchmarks.results import RESULTS, write
from glrnn import data
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.config.settled import settled
from glrnn.console.compilation import return_memory
from glrnn.data.windows import Window, columns
from glrnn.ground.losses import to_perplexity
from glrnn.storage.run_folder import StageId
from glrnn.training.context import temporary
from glrnn.training.programs import first_state, program
from glrnn.training.stages import train_stage
from glrnn.training.starting_params import starting_params

STAGE = StageId(1, "main")
HEADS = "softmax", "adaptive"
WARM_UP = 3
RATES = Dropout(embedding=0.1, input=0.4, output=0.4, recurrent=0.5)
# Fewer epochs than the size could use: little is dropped.
SMALL_RATES = Dropout(input=0.1, output=0.1)


@dataclass(frozen=True)
class Command:
    """Time an update with an adaptive softmax and with the full one.

    Attributes:
        data: A folder with train.txt, valid.txt and test.txt, or a corpus by name.
        size: The embedding size and the hidden size.
        layers: The number of LSTM layers.
        batch: The number of sequences in a batch.
        window: The number of tokens in a window.
        cutoffs: Cut-offs instead of those that are chosen.
        pairs: The number of updates of each.
        epochs: The number of epochs to train each for, to compare what they learn.
        small_size: The size of what is trained so.
        output: A folder for the results.
    """

    data: str
    size: int = 512
    layers: int = 1
    batch: int = 20
    window: int = 70
    cutoffs: tuple[int, ...] = ()
    pairs: int = 20
    epochs: int = 0
    small_size: int = 128
    output: Path = RESULTS


def make_config(command: Command, head: str, size: int, rates: Dropout) -> Config:
    """The settings of one phase that trains all layers."""
    rates = replace(rates, hidden=(rates.input,) * (command.layers - 1))
    stage = Stage(max(1, command.epochs), learning_rate=20.0, max_norms=(0.25,))
    return Config(
        embedding_size=size,
        layers=(Layer(hidden_size=size),) * command.layers,
        head=head,
        cutoffs=command.cutoffs if head == "adaptive" else (),
        phases=(Phase(command.layers, rates, main=stage),),
        batch_size=command.batch,
        window_length=command.window,
        vocabulary_order="frequency",
    )


@contextlib.contextmanager
def updates(config: Config, corpus: data.Corpus) -> Iterator[Callable[[], float]]:
    """A function that takes one update of a run and returns its seconds."""
    rows = columns(corpus.train, config.batch_size)
    starts = range(0, len(rows) - config.window_length, config.window_length)
    with temporary(config, corpus) as context:
        state = first_state(context, STAGE, starting_params(context, STAGE))
        step, key = program(context, STAGE).step, context.phase_key(STAGE)
        places = itertools.cycle(starts)

        def take() -> float:
            nonlocal state
            text = rows[(start := next(places)) : start + config.window_length + 1]
            window = Window(text[:-1], text[1:], np.int32(config.window_length))
            started = time.perf_counter()
            state, _ = jax.block_until_ready(step(state, window, key))
            return time.perf_counter() - started

        for _ in range(WARM_UP):
            take()
        yield take


def speed(command: Command, corpus: data.Corpus) -> dict[str, Any]:
    """The seconds of an update with each head, and the median ratio of the pairs."""
    configs = [make_config(command, head, command.size, RATES) for head in HEADS]
    with contextlib.ExitStack() as stack:
        full, adaptive = (
            stack.enter_context(updates(config, corpus)) for config in configs
        )
        pairs = [(full(), adaptive()) for _ in range(command.pairs)]
    ratio = statistics.median(slow / fast for slow, fast in pairs)
    seconds = [statistics.median(side) for side in zip(*pairs, strict=True)]
    tokens = command.batch * command.window
    print(
        f"an update of {tokens} tokens: {1e3 * seconds[0]:.0f} ms with the full "
        f"softmax, {1e3 * seconds[1]:.0f} ms with the adaptive one, {ratio:.2f} times "
        f"as fast"
    )
    return {
        "heads": HEADS,
        "pairs": pairs,
        "seconds": seconds,
        "tokens_per_second": [tokens / each for each in seconds],
        "ratio": ratio,
    }


def learn(command: Command, corpus: data.Corpus) -> dict[str, Any]:
    """The validation perplexity after every epoch, and the time, with each head."""
    found = {}
    for head in HEADS:
        config = make_config(command, head, command.small_size, SMALL_RATES)
        with temporary(config, corpus) as context:
            (history,) = train_stage(context, STAGE)
        perplexities = [to_perplexity(loss) for loss in history.raw_losses]
        found[head] = {"valid": perplexities, "seconds": history.seconds}
        told = ", ".join(f"{each:.1f}" for each in perplexities)
        print(f"{head}: validation perplexities {told} in {history.seconds:.0f} s")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.adaptive", args=arguments)
    return_memory()
    corpus = data.load(command.data, order="frequency")
    config = settled(make_config(command, "adaptive", command.size, RATES), corpus)
    print(f"{len(corpus.vocabulary):,} words, cut-offs {config.cutoffs}")
    result: dict[str, Any] = {
        "corpus": Path(command.data).name,
        "words": len(corpus.vocabulary),
        "cutoffs": config.cutoffs,
        "size": command.size,
        "layers": command.layers,
        "batch": command.batch,
        "window": command.window,
    }
    if command.pairs:
        result["speed"] = speed(command, corpus)
    if command.epochs:
        result["small_size"] = command.small_size
        result["learned"] = learn(command, corpus)
    write(command.output, f"adaptive-{result['corpus']}", result)


if __name__ == "__main__":
    main()
