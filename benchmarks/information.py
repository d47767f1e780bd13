"""What each layer knows of the next word: `python -m benchmarks.information RUN`.

A run on `hmm`, whose source is known. Of Y, the next word, and X, all words before it,

    I(Y; X) = H(Y) - h,

and no layer's state T_l can tell more of Y than X does (the data-processing
inequality): I(Y; T_l) <= I(Y; X). A probe q(y | T_l), fitted on one text, gives a lower
bound on another: I(Y; T_l) >= H(Y) + E log q(Y | T_l). It is measured word by word
against the forward algorithm, whose mean loss is h: the bound is I(Y; X) less the mean
of what the probe loses more. One bar for each layer of each
phase, and of a network with random parameters.

    python -m glrnn.train experiments/hmm.py --data hmm
    python -m benchmarks.information runs/hmm
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jax import Array, lax

import glrnn
from benchmarks.results import RESULTS, write
from glrnn import data
from glrnn.data.corpora import hmm
from glrnn.data.windows import Window, columns
from glrnn.scoring.trained import untrained
from glrnn.storage import run_folder

NUM_COLUMNS = 50
# A probe: a hidden layer, and how it is trained.
PROBE_UNITS, PROBE_UPDATES, PROBE_BATCH, PROBE_RATE = 64, 4_000, 512, 3e-3
# Words of one column in a row whose mean losses count as independent.
BLOCK = 100


@dataclass(frozen=True)
class Command:
    """Measure what the layers of a run on hmm know of the next word.

    Attributes:
        run: The run's folder.
        output: A folder for the results.
    """

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    output: Path = RESULTS


class Bound(NamedTuple):
    """A lower bound on I(Y; T_l).

    Attributes:
        phase: The phase whose model it is; 0 for random parameters.
        layer: The layer, from 1.
        nats: The bound.
        error: Its standard error.
    """

    phase: int
    layer: int
    nats: float
    error: float


@partial(jax.jit, static_argnums=0)
def layer_states(model: Any, params: Any, stream: Array) -> list[Array]:
    """The state of each layer after each word.

    Args:
        model: The network.
        params: Its parameters.
        stream: The columns of a text, `[rows, B]`.

    Returns:
        For each layer `[rows - 1, B, F]`, the arrays of its state side by side; the
        word that follows the state i is `stream[i + 1]`.
    """

    def read(carry, pair):
        inputs, targets = pair
        window = Window(inputs[None], targets[None], jnp.int32(1))
        carry = model.apply(params, carry, window).carry
        return carry, [jnp.concatenate(jax.tree.leaves(each), -1) for each in carry]

    pairs = stream[:-1], stream[1:]
    return lax.scan(read, model.initial_carry(stream.shape[1]), pairs)[1]


def fit_probe(states: Array, targets: Array, num_words: int) -> Any:
    """A probe fitted to states `[N, F]` and the words that follow them, `[N]`."""
    init_key, batch_key = jax.random.split(jax.random.key(0))
    keys = jax.random.split(init_key)
    mean = states.mean(0, keepdims=True)
    scale = states.std(0, keepdims=True) + 1e-6
    initializer = jax.nn.initializers.glorot_normal()
    weights = {
        "in": initializer(keys[0], (states.shape[1], PROBE_UNITS)),
        "hidden": jnp.zeros(PROBE_UNITS),
        "out": initializer(keys[1], (PROBE_UNITS, num_words)),
        "bias": jnp.zeros(num_words),
    }
    optimizer = optax.adam(optax.cosine_decay_schedule(PROBE_RATE, PROBE_UPDATES))

    def update(now, key):
        weights, opt_state = now
        chosen = jax.random.randint(key, (PROBE_BATCH,), 0, len(states))
        grads = jax.grad(
            lambda w: probe_losses(
                (w, mean, scale), states[chosen], targets[chosen]
            ).mean()
        )(weights)
        updates, opt_state = optimizer.update(grads, opt_state)
        return (optax.apply_updates(weights, updates), opt_state), None

    begun = weights, optimizer.init(weights)
    (weights, _), _ = lax.scan(
        update, begun, jax.random.split(batch_key, PROBE_UPDATES)
    )
    return weights, mean, scale


def probe_losses(probe: Any, states: Array, targets: Array) -> Array:
    """-log q(y | T) of each word `[N]` after the states `[N, F]`, in nats."""
    weights, mean, scale = probe
    hidden = (states - mean) / scale @ weights["in"] + weights["hidden"][None]
    logits = jnp.tanh(hidden) @ weights["out"] + weights["bias"][None]
    return optax.softmax_cross_entropy_with_integer_labels(logits, targets)


def bounds(run: run_folder.Run, corpus: data.Corpus) -> Iterator[Bound]:
    """The bounds of all layers of all phases of a run."""
    source, words = hmm.source(), corpus.vocabulary.words
    places = np.array([source.words.index(word) for word in words])
    fitting, scored = (
        columns(each, NUM_COLUMNS) for each in (corpus.train, corpus.test)
    )
    # In columns as the texts are.
    ideal = hmm.losses(source, places[scored.T.ravel()]).reshape(NUM_COLUMNS, -1).T
    information = hmm.entropy(source) - hmm.entropy_rate(source)
    following = jnp.asarray(fitting[1:].ravel())
    fit = jax.jit(fit_probe, static_argnums=2)
    phases = range(1, len(run.config.phases) + 1)
    random = untrained(corpus.vocabulary, run.config)
    models = {0: random, **{phase: glrnn.load(run.folder, phase) for phase in phases}}
    for phase, trained in models.items():
        before, after = (
            layer_states(trained.model, trained.params, jnp.asarray(each))
            for each in (fitting, scored)
        )
        for layer, (fitted, states) in enumerate(zip(before, after, strict=True)):
            probe = fit(fitted.reshape(-1, fitted.shape[-1]), following, len(words))
            flat, targets = states.reshape(-1, states.shape[-1]), scored[1:].ravel()
            losses = probe_losses(probe, flat, jnp.asarray(targets))
            more = np.asarray(losses).reshape(-1, NUM_COLUMNS) - ideal[1:]
            lost, error = mean_and_error(more)
            yield Bound(phase, layer + 1, information - lost, error)


def mean_and_error(losses: Any) -> tuple[float, float]:
    """The mean of `[rows, B]` but for the first rows, and its standard error.

    Example:
        >>> mean_and_error(np.ones((400, 5)))
        (1.0, 0.0)
    """
    rows = (len(losses) // BLOCK - 1) * BLOCK
    blocks = np.float64(losses[-rows:]).reshape(-1, BLOCK, losses.shape[1]).mean(1)
    return float(blocks.mean()), float(blocks.std(ddof=1) / blocks.size**0.5)


def draw(found: Sequence[Bound], path: Path) -> None:
    """Draws a bar for each layer of each phase, and lines for what there is to know."""
    from matplotlib.figure import Figure

    source = hmm.source()
    entropy = hmm.entropy(source)
    figure = Figure(figsize=(7, 4), layout="constrained")
    panel = figure.subplots()
    places = [index + bound.phase for index, bound in enumerate(found)]
    names = [str(bound.layer) for bound in found]
    panel.bar(
        *(places, [bound.nats for bound in found]),
        yerr=[2 * bound.error for bound in found],
        color="tab:blue",
        capsize=3,
    )
    for nats, style, name in (
        (entropy - hmm.entropy_rate(source), "-", "I(Y; X), X all words before"),
        (entropy - hmm.entropy_after_a_word(source), "--", "I(Y; X), X the last word"),
    ):
        panel.axhline(nats, color="black", linestyle=style, linewidth=1, label=name)
    panel.set_xticks(places, names, fontsize=9)
    for phase in sorted({bound.phase for bound in found}):
        its = [
            x for x, bound in zip(places, found, strict=True) if bound.phase == phase
        ]
        panel.text(
            np.mean(its),
            -0.15,
            f"phase {phase}" if phase else "random",
            ha="center",
            transform=panel.get_xaxis_transform(),
        )
    panel.set_ylabel("information about the next word, nats")
    panel.set_xlabel("layer", labelpad=0)
    panel.set_ylim(0, 0.8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(frameon=False, loc="upper left", ncols=2, fontsize=9)
    figure.savefig(path, dpi=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.information", args=arguments)
    run = run_folder.read(command.run)
    source = hmm.source()
    known = {
        "entropy": hmm.entropy(source),
        "entropy_after_a_word": hmm.entropy_after_a_word(source),
        "entropy_rate": hmm.entropy_rate(source),
    }
    found = []
    for bound in bounds(run, data.load("hmm", run.vocabulary)):
        found.append(bound)
        told = f"{bound.nats:.4f} nats, standard error {bound.error:.4f}"
        print(f"phase {bound.phase}, layer {bound.layer}: at least {told}", flush=True)
    rows = [bound._asdict() for bound in found]
    write(command.output, "information", {"nats": known, "bounds": rows})
    draw(found, command.output / "information.png")


if __name__ == "__main__":
    main()
