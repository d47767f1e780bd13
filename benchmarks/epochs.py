"""Whole epochs without a run's folder: how long one takes, and the training of a model.

The original AWD-LSTM-MoS (Yang, Dai, Salakhutdinov and Cohen 2018) is one phase of
three layers here, the last one narrower.
"""

import contextlib
import itertools
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glrnn import data
from glrnn.beginning import begin
from glrnn.config import Config, Dropout, Layer, Phase, Stage
from glrnn.epoch import epoch_metrics, train_epoch
from glrnn.job import Job
from glrnn.progress import Progress
from glrnn.run_folder import Origin, Run
from glrnn.scoring import perplexity
from glrnn.step import Step, TrainState
from glrnn.vocabulary import Vocabulary
from glrnn.windows import Window, columns, draw_lengths, paddings, windows

WARM_UP = 2
TIMED = 10

# The settings that its authors' README gives for Penn Treebank, one limit for the whole
# gradient.
ORIGINAL = Config(
    embedding_size=280,
    layers=(Layer("lstm", 960), Layer("lstm", 960), Layer("lstm", 620)),
    head="mixture",
    num_softmaxes=15,
    phases=(
        Phase(
            num_layers=3,
            dropout=Dropout(
                embedding=0.1,
                input=0.4,
                hidden=(0.225, 0.225),
                output=0.4,
                latent=0.29,
                recurrent=0.5,
            ),
            main=Stage(1000, learning_rate=20.0, max_norms=(0.25,)),
        ),
    ),
    batch_size=12,
    window_length=70,
    activation_regularization=2.0,
    temporal_activation_regularization=1.0,
    weight_decay=1.2e-6,
    valid_batch_size=10,
    seed=28,
)
ORIGINAL_PARAMETERS = 21_500_620

# Validation perplexity after some epochs, from the log in issue 12 of zihangdai/mos.
# That run began to average too early and ended at 65, so only its start is a guide.
PUBLIC_LOG = {1: 267.8, 2: 183.9, 9: 94.7}


def shrunk(config: Config) -> Config:
    """The same with a very small network, to try things out."""
    return replace(
        config,
        embedding_size=8,
        layers=tuple(replace(layer, hidden_size=16) for layer in config.layers),
        num_softmaxes=2,
    )


def random_corpus(vocabulary_size: int, train: int, valid: int) -> data.Corpus:
    """Streams of random tokens, of so many tokens."""
    rng = np.random.default_rng(0)
    streams = [
        rng.integers(vocabulary_size, size=size, dtype=np.int32)
        for size in (train, valid, valid)
    ]
    words = tuple(map(str, range(vocabulary_size)))
    return data.Corpus("random", Vocabulary(words), *streams, unknown={})


@contextlib.contextmanager
def job(config: Config, corpus: data.Corpus, number: int = 1) -> Iterator[Job]:
    """The main stage of a phase, in a folder that is thrown away."""
    origin = Origin(corpus.name, data.fingerprint(corpus))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), config, corpus.vocabulary, origin)
        with Progress(Path(folder) / "metrics.jsonl") as progress:
            yield Job(run, corpus, progress, number)


def epoch_seconds(config: Config, corpus: data.Corpus) -> Iterator[dict[str, Any]]:
    """What an epoch of each phase would take, without validation, one row a phase.

    The lengths are those of a real epoch. A few windows of each padded length are
    timed, and count as often as the length occurs.
    """
    stream = columns(corpus.train, config.batch_size, min_rows=3)
    lengths = draw_lengths(
        np.random.default_rng(config.seed), len(stream), config.window_length
    )
    padded = paddings(config.window_length, len(stream))
    by_length: dict[int, list[Window]] = defaultdict(list)
    for window in windows(stream, lengths, padded):
        by_length[len(window.inputs)].append(window)
    tokens = sum(lengths) * config.batch_size
    for number in range(1, len(config.phases) + 1):
        with job(config, corpus, number) as phase_job:
            params = phase_job.model.init(phase_job.phase_key)
            state, step = begin(phase_job, params)
            first, seconds = 0.0, 0.0
            for group in by_length.values():
                some = list(itertools.islice(itertools.cycle(group), TIMED))
                state, taken = _timed(step, state, some[:WARM_UP], phase_job.phase_key)
                first += taken
                state, taken = _timed(step, state, some, phase_job.phase_key)
                seconds += taken / len(some) * len(group)
        yield {
            "phase": number,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
            "updates": len(lengths),
            "tokens": tokens,
            "ms an update": 1e3 * seconds / len(lengths),
            "tokens/s": round(tokens / seconds),
            "s an epoch": seconds,
            "s to compile": first,
        }


def _timed(
    step: Step, state: TrainState, some: Iterable[Window], key: jax.Array
) -> tuple[TrainState, float]:
    """The state after some windows, and the seconds that they took together."""
    started = time.perf_counter()
    for window in some:
        state, _ = step(state, window, key)
    jax.block_until_ready(state)
    return state, time.perf_counter() - started


def train(
    config: Config, corpus: data.Corpus, minutes: float
) -> Iterator[dict[str, Any]]:
    """Trains the first phase by plain SGD while there is time, one row an epoch.

    Args:
        config: The settings.
        corpus: The token streams.
        minutes: No epoch is begun that would end later, but for the first.
    """
    with job(config, corpus) as first:
        params = first.model.init(first.phase_key)
        size = sum(leaf.size for leaf in jax.tree.leaves(params))
        if config == ORIGINAL and len(corpus.vocabulary) == 10_000:
            assert size == ORIGINAL_PARAMETERS, size
        state, step = begin(first, params)
        started = time.perf_counter()
        seconds = 0.0
        for epoch in range(1, first.stage.epochs + 1):
            begun = time.perf_counter()
            if epoch > 1 and begun - started + seconds > 60 * minutes:
                return
            state, tally = train_epoch(first, step, state, epoch)
            record = epoch_metrics(first, epoch, tally)
            score = perplexity(
                first.model,
                state.params,
                corpus.valid,
                batch_size=config.valid_batch_size,
            )
            seconds = time.perf_counter() - begun
            first.progress.say(
                f"epoch {epoch}: train {record['train_perplexity']:.2f}, valid "
                f"{score.perplexity:.2f}, {seconds:.0f} s"
            )
            yield {
                "epoch": epoch,
                "seconds": seconds,
                "tokens/s": round(record["tokens_per_second"]),
                "train": record["train_perplexity"],
                "valid": score.perplexity,
                "valid, public log": PUBLIC_LOG.get(epoch),
            }
