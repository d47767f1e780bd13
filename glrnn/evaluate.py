"""The perplexity of a language model on a text; `python -m glrnn.evaluate RUN`."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import jax
import numpy as np
from jax import Array, lax

from glrnn import data, run_folder
from glrnn.checkpoint import StageCheckpoints
from glrnn.compilation import keep_programs, return_memory
from glrnn.errors import UsageError, told_plainly
from glrnn.losses import to_perplexity
from glrnn.model import Model, Params, language_model
from glrnn.vocabulary import Ids, read_tokens
from glrnn.windows import Window, columns, fixed_lengths, windows


class Score(NamedTuple):
    """How well a model predicts a text.

    Attributes:
        nats_per_token: Mean negative log-likelihood.
        perplexity: Its exponential.
        num_tokens: Tokens scored; the first of each column has nothing before it and is
            not among them.
    """

    nats_per_token: float
    perplexity: float
    num_tokens: int


class LanguageModel(Protocol):
    """What `perplexity` asks of a model, any model; hashable."""

    @property
    def initial_carry(self) -> Any:
        """`batch_size -> carry`: what a window begins with."""

    @property
    def apply(self) -> Any:
        """`(params, carry, window) -> outcome` with `nll`, mean nats, and `carry`."""


def perplexity(
    model: LanguageModel,
    params: Any,
    tokens: Any,
    *,
    batch_size: int = 1,
    window_length: int = 70,
) -> Score:
    """Scores a token stream, the state carried from its beginning to its end.

    One compiled loop over the whole stream, without noise, in float32 throughout. The
    mean is exact: over all tokens scored, each once. With more than one column every
    column starts cold, and the tail that does not fill a row is left out.

    Args:
        model: A `glrnn.model.Model`, or anything with the same two functions.
        params: Its parameters.
        tokens: The stream, integers `[N]`.
        batch_size: Columns that the stream is cut into, B.
        window_length: Time steps at a time, T; it does not change the result.

    Returns:
        The score; N - 1 tokens of it with one column.

    Raises:
        UsageError: if the stream is shorter than two rows.

    Example:
        A model of one's own: here one that finds each of 8 words equally likely.

        >>> import collections, jax.numpy as jnp
        >>> Model = collections.namedtuple("Model", "initial_carry apply")
        >>> Outcome = collections.namedtuple("Outcome", "nll carry")
        >>> uniform = Model(
        ...     lambda batch_size: (),
        ...     lambda params, carry, window: Outcome(jnp.log(params), carry),
        ... )
        >>> score = perplexity(uniform, 8.0, jnp.arange(100) % 8)
        >>> print(f"{score.nats_per_token:.4f} {score.perplexity:.3f}")
        2.0794 8.000
        >>> score.num_tokens
        99
    """
    stream = columns(tokens, batch_size, min_rows=2)
    lengths = fixed_lengths(len(stream), window_length)
    stacked = jax.tree.map(
        lambda *leaves: np.stack(leaves), *windows(stream, lengths, (lengths[0],))
    )
    means = np.asarray(_window_means(model, params, stacked), np.float64)
    mean = float(np.average(means, weights=lengths))
    return Score(mean, to_perplexity(mean), sum(lengths) * batch_size)


@partial(jax.jit, static_argnums=0)
@jax.default_matmul_precision("float32")
def _window_means(model: LanguageModel, params: Any, stream: Window) -> Array:
    """Mean nats per token of each window; inputs and targets are `[N, T, B]`."""

    def score(carry, window):
        outcome = model.apply(params, carry, window)
        return outcome.carry, outcome.nll

    carry = model.initial_carry(stream.inputs.shape[2])
    return lax.scan(score, carry, stream)[1]


def best_params(run: run_folder.Run, phase: int) -> Params:
    """The best parameters of a phase, from its last stage that has any.

    Args:
        run: The run.
        phase: Its number, from 1.

    Raises:
        UsageError: if the phase has no checkpoint yet.
    """
    params = _best_params(run, phase)
    if params is None:
        raise UsageError(f"no checkpoint of phase {phase} in {run.folder} yet")
    return params


def _best_params(run: run_folder.Run, phase: int) -> Params | None:
    like = jax.eval_shape(_phase_model(run, phase).init, jax.random.key(0))
    for stage in reversed(run_folder.STAGES):
        folder = run.stage_folder(phase, stage)
        with StageCheckpoints(folder, read_only=True) as checkpoints:
            if checkpoints.best_epoch is not None:
                return checkpoints.restore_best(like)[0]
    return None


def _phase_model(run: run_folder.Run, phase: int) -> Model:
    num_layers = run.config.phases[phase - 1].num_layers
    return language_model(run.config, len(run.vocabulary), num_layers)


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
            json: One JSON object instead of a line to read.
        """

        run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
        split: Literal["valid", "test", "train"] = "test"
        text: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
        data: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
        manual_dir: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
        json: bool = False

    with told_plainly():
        command = tyro.cli(
            Command,
            prog="python -m glrnn.evaluate",
            args=sys.argv[1:] if arguments is None else arguments,
        )
        keep_programs()
        return_memory()
        run = run_folder.read(command.run)
        phase, params = _newest(run)
        if command.text is not None and (command.data or command.manual_dir):
            raise UsageError("--text is scored alone: --data and --manual-dir are not")
        if command.text is not None:
            what, tokens, unknown = _own_text(run, command.text)
        else:
            where = run.origin.data if command.data is None else command.data
            corpus = data.load(where, run.vocabulary, command.manual_dir)
            if command.data is None and data.fingerprint(corpus) != run.origin.sha256:
                print(
                    f"note: {where} is no longer what {run.folder} was trained on",
                    file=sys.stderr,
                )
            what, tokens, unknown = _split(corpus, command.split)
        score = perplexity(
            _phase_model(run, phase),
            params,
            tokens,
            batch_size=run.config.test_batch_size
            if command.text or command.split == "test"
            else run.config.valid_batch_size,
        )
        if command.json:
            record = {"text": what, "phase": phase, **score._asdict()}
            print(json.dumps(record | {"unknown": unknown}))
        else:
            print(
                f"{what}, model of phase {phase}: {score.nats_per_token:.4f} nats per "
                f"token, perplexity {score.perplexity:.2f}, "
                f"{score.num_tokens:,} tokens scored, {unknown:,} unknown words"
            )


def _newest(run: run_folder.Run) -> tuple[int, Params]:
    """The deepest phase that has a checkpoint, and its best parameters."""
    for phase in range(len(run.config.phases), 0, -1):
        params = _best_params(run, phase)
        if params is not None:
            return phase, params
    raise UsageError(f"no checkpoint in {run.folder} yet")


def _own_text(run: run_folder.Run, path: Path) -> tuple[str, Ids, int]:
    """Its name, its ids, and how many of its words are unknown."""
    ids, unknown = run.vocabulary.encode(read_tokens(path), str(path))
    return str(path), ids, unknown


def _split(corpus: data.Corpus, name: str) -> tuple[str, Ids, int]:
    return f"{name} split of {corpus.name}", getattr(corpus, name), corpus.unknown[name]


if __name__ == "__main__":
    main()
