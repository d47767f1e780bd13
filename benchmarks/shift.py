"""How far activations move while a deep network begins: `python -m benchmarks.shift`.

Figure 2 of Aharoni, Rattner and Permuter (2017) shows histograms of the third layer's
activations over the first 500 updates, of joint training and of GL-LWGC. Here both are
trained as a run would be: the first updates of the last phase of each run, from the
best parameters of the phase before, and those of its reference model, all layers at
once with one norm. After every few updates the network reads one fixed text, so that
histograms differ by the parameters alone, and the distance between successive ones is
summed up: the Wasserstein distance between the distributions of a unit, the mean over
units. It is measured of the last layer's outputs and of its inputs, whose change is
what covariate shift means. The gradient's norms in the same updates show whether the
new layer's is larger than that of the layers that were trained before (section 5.1).

    python -m glrnn.train --seed 1 --workdir runs/seed1
    python -m benchmarks.shift runs/seed1
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import Array

from benchmarks.results import RESULTS, write
from glrnn import data
from glrnn.config.gradual import group_names
from glrnn.config.variants import reference
from glrnn.console.progress import Progress
from glrnn.data.windows import Window, columns
from glrnn.ground.validation import at_least, check
from glrnn.model import language_model
from glrnn.storage import run_folder
from glrnn.storage.run_folder import Run, StageId
from glrnn.training.context import Context, new_context, temporary
from glrnn.training.epoch import train_epoch
from glrnn.training.programs import first_state, program
from glrnn.training.starting_params import starting_params

# The fixed text, in columns, from the beginning of the validation set.
NUM_COLUMNS, NUM_ROWS = 20, 100
EDGES = np.linspace(-1, 1, 81)
WAYS = ("joint", "gradual")
TITLES = {"joint": "joint", "gradual": "GL-LWGC"}
STYLES = {"joint": ("--", "tab:orange"), "gradual": ("-", "tab:blue")}


@dataclass(frozen=True)
class Command:
    """Measure how far the activations of the last layer move in its first updates.

    Attributes:
        runs: Folders of gradual runs that have finished all phases but the last.
        updates: The number of updates.
        every: The updates from one histogram to the next.
        output: A folder for the results.
    """

    runs: Annotated[
        tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN...")
    ]
    updates: int = field(default=500, metadata=at_least(1))
    every: int = field(default=10, metadata=at_least(1))
    output: Path = RESULTS

    def __post_init__(self):
        check(self)


class Beginning(NamedTuple):
    """The first updates of the last layer.

    Attributes:
        histograms: The share of each unit's activations in each bin, `[M, H, bins]`,
            of the last layer's inputs and of its outputs: before the first update, and
            after every few.
        norms: The gradient's norm of each group in each update, `[N, groups]`.
        names: The names of the groups.
    """

    histograms: dict[str, Any]
    norms: Any
    names: tuple[str, ...]


def beginning(context: Context, stage: StageId, updates: int, every: int) -> Beginning:
    """Trains the first updates of a stage, as a run does; its folder is not written.

    Args:
        context: The run, or a new one.
        stage: The stage.
        updates: The number of updates, N.
        every: The updates from one histogram to the next.
    """
    step, deep = program(context, stage).step, context.model(stage)
    num_layers = context.phase(stage).num_layers
    shallow = language_model(context.config, deep.vocabulary_size, num_layers - 1)
    text = jnp.asarray(columns(context.corpus.valid, NUM_COLUMNS)[: NUM_ROWS + 1])
    norms, inputs, outputs = [], [], []

    def look(params):
        below = params.replace(layers=params.layers[:-1])
        inputs.append(unit_histograms(shallow, below, text))
        outputs.append(unit_histograms(deep, params, text))

    def observed(state, window, key):
        if len(norms) % every == 0:
            look(state.params)
        state, metrics = step(state, window, key)
        norms.append(jnp.stack(jax.tree.leaves(metrics["norms"])))
        return state, metrics

    state = first_state(context, stage, starting_params(context, stage))
    for epoch in itertools.count(1):
        state, _ = train_epoch(
            *(context, stage, observed, state, epoch),
            pause=lambda: len(norms) >= updates,
        )
        if len(norms) >= updates:
            break
    look(state.params)
    names = group_names(context.stage(stage).max_norms, len(state.params.layers))
    histograms = {"inputs": np.stack(inputs), "outputs": np.stack(outputs)}
    return Beginning(histograms, np.stack(norms), names)


@partial(jax.jit, static_argnums=0)
def unit_histograms(model: Any, params: Any, text: Array) -> Array:
    """The share of each last-layer unit's activations in each bin, `[H, bins]`.

    Args:
        model: The network.
        params: Its parameters.
        text: The columns that it reads, `[rows, B]`.
    """
    window = Window(text[:-1], text[1:], jnp.int32(len(text) - 1))
    outputs = model.apply(params, model.initial_carry(text.shape[1]), window).outputs
    units = outputs.reshape(-1, outputs.shape[-1]).T
    count = jax.vmap(lambda unit: jnp.histogram(unit, bins=jnp.asarray(EDGES))[0])
    return count(jnp.clip(units, EDGES[0], EDGES[-1])) / units.shape[1]


def distances(histograms: Any) -> Any:
    """The Wasserstein distances of successive histograms, the mean over units.

    Args:
        histograms: `[M, H, bins]`.

    Returns:
        `[M - 1]`, in units of the activation.

    Example:
        Everything moves by one bin, a fortieth.

        >>> moved = np.eye(80)[[[3]], [[4]], [[4]]]
        >>> distances(moved).round(3).tolist()
        [0.025, 0.0]
    """
    distributions = np.cumsum(histograms, axis=-1)
    width = EDGES[1] - EDGES[0]
    return np.abs(np.diff(distributions, axis=0)).sum(-1).mean(-1) * width


def both_ways(run: Run, command: Command) -> Iterator[Beginning]:
    """The last layer's first updates: of the reference model, and of the run."""
    corpus = data.load(run.origin.data, run.vocabulary)
    how = command.updates, command.every
    with temporary(reference(run.config), corpus) as context:
        yield beginning(context, StageId(1, "main"), *how)
    last = StageId(len(run.config.phases), "main")
    with Progress() as progress:
        yield beginning(new_context(run, corpus, progress), last, *how)


def row_of(seed: int, way: str, found: Beginning) -> dict[str, Any]:
    """What is written of a beginning."""
    moved = {what: distances(each) for what, each in found.histograms.items()}
    return {
        "seed": seed,
        "training": way,
        "moved": {what: float(each.sum()) for what, each in moved.items()},
        "distances": {what: each.round(6).tolist() for what, each in moved.items()},
        # Of the first fifty updates: a new layer's is largest then.
        "first_norms": dict(
            zip(found.names, np.float64(found.norms[:50]).mean(0).tolist(), strict=True)
        ),
    }


def draw(pair: Sequence[Beginning], rows: Any, command: Command, path: Path) -> None:
    """Draws the outputs' histograms of one seed, and the distances of all seeds."""
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.5), layout="constrained")
    panels = figure.subplots(2, 2)
    for panel, way, found in zip(panels[0], WAYS, pair, strict=True):
        density = found.histograms["outputs"].mean(1).T / (EDGES[1] - EDGES[0])
        image = panel.imshow(
            density,
            origin="lower",
            aspect="auto",
            extent=(0, command.updates, EDGES[0], EDGES[-1]),
            cmap="Greys",
            norm=LogNorm(vmin=0.1, vmax=40, clip=True),
        )
        panel.set_ylim(-0.5, 0.5)
        panel.set_title(f"{TITLES[way]}: the last layer's outputs")
        panel.set_ylabel("activation")
    figure.colorbar(image, ax=panels[0], label="density")
    for panel, what in zip(panels[1], ("inputs", "outputs"), strict=True):
        for row in rows:
            moved = np.cumsum([0, *row["distances"][what]])
            way = row["training"]
            panel.plot(
                np.linspace(0, command.updates, len(moved)),
                moved,
                linestyle=STYLES[way][0],
                color=STYLES[way][1],
                label=TITLES[way] if row["seed"] == rows[0]["seed"] else None,
            )
        panel.set_title(f"how far the last layer's {what} have moved")
        panel.set_ylabel("Wasserstein distance")
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels.ravel():
        panel.set_xlabel("update")
        panel.set_xlim(0, command.updates)
    figure.savefig(path, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    command = tyro.cli(Command, prog="python -m benchmarks.shift", args=arguments)
    rows, first = [], []
    for folder in command.runs:
        run = run_folder.read(folder)
        for way, found in zip(WAYS, both_ways(run, command), strict=True):
            first = [*first, found][: len(WAYS)]
            rows.append(row_of(run.config.seed, way, found))
            moved = rows[-1]["moved"]
            norms = ", ".join(
                f"{name} {norm:.3f}" for name, norm in rows[-1]["first_norms"].items()
            )
            print(
                f"seed {run.config.seed}, {way}: inputs moved by "
                f"{moved['inputs']:.3f}, outputs by {moved['outputs']:.3f}; gradient "
                f"norms at first: {norms}",
                flush=True,
            )
    how = {"updates": command.updates, "every": command.every}
    write(command.output, "shift", how | {"rows": rows})
    draw(first, rows, command, command.output / "shift.png")


if __name__ == "__main__":
    main()
