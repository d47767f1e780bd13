"""The programs of training and evaluation, lowered for devices of any kind.

Each program comes from the function that a run uses. The arguments are only shapes, so
that nothing is computed and no device is needed.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from benchmarks.absent import on_devices, platform_of
from benchmarks.ours import make_update
from benchmarks.presets import PRESETS, make_config
from glrnn.cells import CELLS
from glrnn.config import Config, Layer, experiment
from glrnn.data.windows import Window
from glrnn.evaluation import dynamic, gradient_statistics, perplexity
from glrnn.evaluation.dynamic import DynamicRule
from glrnn.ground.devices import PRECISIONS, platform
from glrnn.model import Model, language_model
from glrnn.training.train_state import TrainState

# The windows of evaluation. No other loop has as many trips, which identifies this one.
NUM_WINDOWS = 101
SHARED_BATCH = 16
# The softmaxes of the head `mixture` at the size of `small`, which has one itself.
NUM_SOFTMAXES = 5
# Those of the head `adaptive`.
CUTOFFS = (500, 3300)
# The experiments with large vocabularies, and the number of their words.
EXPERIMENTS = {"wikitext103": 267_735, "lm1b": 793_471}
FOLDER = Path(__file__).parents[1] / "experiments"


def network_of(name: str, num_devices: int = 1) -> tuple[Config, int]:
    """The settings of a network by name, and the size of its vocabulary.

    Args:
        name: A preset, an experiment in `EXPERIMENTS`, or a cell or a head for one
            layer of the size of `small`.
        num_devices: With several, the batch size is one that 8 or 16 divide.
    """
    if name in EXPERIMENTS:
        return experiment.load(FOLDER / f"{name}.py"), EXPERIMENTS[name]
    preset = PRESETS.get(name, PRESETS["small"]._replace(layers=1))
    if num_devices > 1:
        preset = preset._replace(batch=SHARED_BATCH)
    config = make_config(preset)
    (phase,) = config.phases
    if name in CELLS:
        config = replace(config, layers=(Layer(name, preset.hidden),))
    elif name == "mixture":
        config = replace(config, num_softmaxes=NUM_SOFTMAXES)
    elif name == "adaptive":
        config = replace(config, head=name, cutoffs=CUTOFFS)
    elif name == "projected":
        config = replace(config, head=name)
    elif name == "softmax":
        # This head is as wide as the embedding and has no parameters, so no limit.
        main = replace(phase.main, max_norms=phase.main.max_norms[:-1])
        phase = replace(phase, main=main, dropout=replace(phase.dropout, latent=0.0))
        layers = (Layer("lstm", preset.embedding),)
        config = replace(config, head=name, layers=layers, phases=(phase,))
    return config, preset.vocabulary


def lowered(workload: str, config: Config, vocabulary_size: int, mesh: Mesh) -> Any:
    """Lowers a program for devices without compiling it.

    Several devices shard the batch in training, and replicate everything else.

    Args:
        workload: A name in `WORKLOADS`.
        config: The settings, of one phase.
        vocabulary_size: V.
        mesh: From `benchmarks.absent`.

    Returns:
        A `jax.stages.Lowered`.
    """
    model = language_model(config, vocabulary_size, config.phases[0].num_layers)
    with jax.default_device(platform_of(mesh)):
        return WORKLOADS[workload](config, model, mesh)


def _train(config: Config, model: Model, mesh: Mesh) -> Any:
    """Lowers an update with matrix products in TF32 on a GPU, in float32 on a TPU."""
    optimizer, step = make_update(
        config,
        model,
        mesh if mesh.size > 1 else None,
        PRECISIONS["tensorfloat32" if platform() == "gpu" else "float32"],
    )

    def start(key: jax.Array) -> TrainState:
        params = model.init(key)
        carry = model.initial_carry(config.batch_size)
        return TrainState(params, optimizer.init(params), carry, jnp.zeros((), int))

    state = on_devices(mesh, jax.eval_shape(start, _key()))
    rows = on_devices(mesh, state.carry, mesh.axis_names)
    window = _windows(mesh, config.window_length, config.batch_size, shared=True)
    return step.lower(state.replace(carry=rows), window, on_devices(mesh, _key()))


def _evaluate(config: Config, model: Model, mesh: Mesh) -> Any:
    stream = _windows(mesh, NUM_WINDOWS, config.window_length, config.batch_size)
    return perplexity._window_means.lower(model, _params(model, mesh), stream)


def _adapt(config: Config, model: Model, mesh: Mesh) -> Any:
    rule = DynamicRule()
    params = _params(model, mesh)
    rates = rule.learning_rate, rule.decay_rate, rule.epsilon
    start = params, on_devices(mesh, jax.eval_shape(lambda: model.initial_carry(1)))
    stream = _windows(mesh, NUM_WINDOWS, rule.window_length, 1)
    return dynamic._adapt.lower(model, params, params, rates, start, stream)


def _measure(config: Config, model: Model, mesh: Mesh) -> Any:
    rule = DynamicRule()
    params, batch_size = _params(model, mesh), rule.statistics_batch_size
    carry = on_devices(mesh, jax.eval_shape(lambda: model.initial_carry(batch_size)))
    stream = _windows(mesh, NUM_WINDOWS, rule.window_length, batch_size)
    start = params, carry
    return gradient_statistics._add_squares.lower(model, params, start, stream, 1.0)


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


def _params(model: Model, mesh: Mesh) -> Any:
    return on_devices(mesh, jax.eval_shape(model.init, _key()))


def _windows(mesh: Mesh, *sizes: int, shared: bool = False) -> Window:
    """Windows of the sizes `[..., T, B]`, with B sharded or everything replicated."""
    axes = (None,) * (len(sizes) - 1) + (mesh.axis_names,)
    tokens = on_devices(
        mesh, jax.ShapeDtypeStruct(sizes, np.int32), *(axes if shared else ())
    )
    lengths = on_devices(mesh, jax.ShapeDtypeStruct(sizes[:-2], np.int32))
    return Window(tokens, tokens, lengths)


WORKLOADS: dict[str, Callable[[Config, Model, Mesh], Any]] = {
    "train": _train,
    "evaluate": _evaluate,
    "dynamic": _adapt,
    "statistics": _measure,
}
