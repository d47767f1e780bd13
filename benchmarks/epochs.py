"""The time of an epoch, in the training loop and by bare steps."""

import itertools
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from glrnn import data
from glrnn.config import Config
from glrnn.data.vocabulary import Vocabulary
from glrnn.data.windows import Window, columns, draw_lengths, paddings, windows
from glrnn.ground import devices
from glrnn.storage.run_folder import StageId
from glrnn.training.context import Context, temporary
from glrnn.training.epoch import first_window, train_epoch
from glrnn.training.execution import Execution
from glrnn.training.programs import first_state, program
from glrnn.training.step import Step
from glrnn.training.train_state import TrainState

WARM_UP = 2
TIMED = 20
# The number of updates of the timed training loop, and of the comparison of bits.
IN_THE_LOOP = 100
TWICE = 4


def shrunk(config: Config) -> Config:
    """The same experiment with a very small network, for rehearsals."""
    return replace(
        config,
        embedding_size=8,
        layers=tuple(replace(layer, hidden_size=16) for layer in config.layers),
        num_softmaxes=2,
    )


def random_corpus(vocabulary_size: int, train: int, valid: int) -> data.Corpus:
    """A corpus of random tokens with the given sizes."""
    rng = np.random.default_rng(0)
    streams = [
        rng.integers(vocabulary_size, size=size, dtype=np.int32)
        for size in (train, valid, valid)
    ]
    words = tuple(map(str, range(vocabulary_size)))
    return data.Corpus("random", Vocabulary(words), *streams, unknown={})


def same_bits(context: Context, stage: StageId) -> bool:
    """Whether the first updates of a stage, taken twice, give the same parameters."""
    window = first_window(context, stage)
    params = context.model(stage).init(context.phase_key(stage))
    step = program(context, stage).step
    found = []
    for _ in range(2):
        state = first_state(context, stage, params)
        for _ in range(TWICE):
            state, _ = step(state, window, context.stage_key(stage))
        found.append(jax.tree.leaves(jax.device_get(state.params)))
    return all(a.tobytes() == b.tobytes() for a, b in zip(*found, strict=True))


def epoch_seconds(
    config: Config, corpus: data.Corpus, precision: str | None = None
) -> Iterator[dict[str, Any]]:
    """The time of an epoch of each phase without validation, the last phase first.

    The window lengths are those of a real epoch. A few windows of each padded length
    are timed, and each length counts as often as it occurs. For comparison with these
    bare steps, the training loop is timed on the first windows of the text.
    """
    stream = columns(corpus.train, config.batch_size, min_rows=3)
    lengths = draw_lengths(
        np.random.default_rng(config.seed), len(stream), config.window_length
    )
    padded = paddings(config.window_length, len(stream), platform=devices.platform())
    by_length: dict[int, list[Window]] = defaultdict(list)
    for window in windows(stream, lengths, padded):
        by_length[len(window.inputs)].append(window)
    tokens = sum(lengths) * config.batch_size
    beginning = corpus.train[: IN_THE_LOOP * config.window_length * config.batch_size]
    for number in range(len(config.phases), 0, -1):
        stage = StageId(number, "main")
        with temporary(config, corpus, Execution(precision=precision)) as context:
            key = context.phase_key(stage)
            params = context.model(stage).init(key)
            state = first_state(context, stage, params)
            step = program(context, stage).step
            first, seconds = 0.0, 0.0
            for group in by_length.values():
                some = list(itertools.islice(itertools.cycle(group), TIMED))
                state, taken = _timed(step, state, some[:WARM_UP], key)
                first += taken
                state, taken = _timed(step, state, some, key)
                seconds += taken / len(some) * len(group)
            short = context._replace(corpus=corpus._replace(train=beginning))
            _, tally = train_epoch(short, stage, step, state, epoch=1)
        yield {
            "phase": number,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "updates": len(lengths),
            "tokens": tokens,
            "ms an update": 1e3 * seconds / len(lengths),
            "s an epoch": seconds,
            "tokens/s": round(tokens / seconds),
            "in the loop, tokens/s": round(tally.tokens / tally.seconds),
            "s to compile": first,
        }


def _timed(
    step: Step, state: TrainState, some: Iterable[Window], key: jax.Array
) -> tuple[TrainState, float]:
    """Trains on some windows; returns the state and the total seconds."""
    started = time.perf_counter()
    for window in some:
        state, _ = step(state, window, key)
    jax.block_until_ready(state)
    return state, time.perf_counter() - started
