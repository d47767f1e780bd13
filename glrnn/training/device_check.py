"""The check of a device: one update by the device and by the CPU, compared.

A device can compute wrong numbers silently: the one GPU on which this project was first
tried read each window transposed, and a network of 26 million parameters learned
nothing in 13 epochs. So the first update of a stage is taken twice before anything is
trained: by the very step that training will use, at full size, and by the same step
traced for the host's CPU, in float32. Both get the same parameters, the same window and
the same key, hence the same dropout masks.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from glrnn.config.gradual import group_names
from glrnn.data.windows import Window
from glrnn.errors import DeviceError, UsageError
from glrnn.ground import devices
from glrnn.ground.devices import PRECISIONS
from glrnn.ground.files import write_text
from glrnn.model import Params
from glrnn.storage.run_folder import STAGES, StageId
from glrnn.training.agreement import Row, Update, compare_updates, tolerance
from glrnn.training.context import Context
from glrnn.training.epoch import first_window
from glrnn.training.optimizer import set_hyperparams
from glrnn.training.programs import first_state, program, state_like
from glrnn.training.train_state import replicate

ADD_A_CPU = "add `,cpu` to JAX_PLATFORMS, or leave it unset"
# The environment variables that change how XLA compiles a program.
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")

# The learning rate of the update that is compared. It is data in the optimizer's state,
# as is all else that is chosen here, so the program is the one that trains.
UPDATE_RATE = 1e3


def require(context: Context, stages: Sequence[StageId]) -> None:
    """Refuses a device that computes other numbers than the CPU.

    To be called before a phase is trained. A CPU is not checked, and no device twice:
    what passed is remembered in the user's cache folder, by program, kind of device and
    versions.

    Args:
        context: The run, with its devices and their precision.
        stages: The stages to be trained; each program is checked once.

    Raises:
        DeviceError: The device computed other numbers.
    """
    if not context.execution.check_device or devices.platform() == "cpu":
        return
    if devices.host_cpu() is None:
        context.progress.say(
            f"the device is not checked, for JAX has no CPU to compare it with: "
            f"{ADD_A_CPU}"
        )
        return
    for stage in {program(context, stage): stage for stage in stages}.values():
        _require(context, stage)


def _require(context: Context, stage: StageId) -> None:
    kind = device_kind(context)
    key = _key(context, stage)
    passed = _folder() / f"{sha256(json.dumps(key).encode()).hexdigest()}.json"
    if context.processes.lead(passed.exists):
        context.progress.say(f"{kind} has passed the check of this program before")
        return
    started = time.perf_counter()
    rows = compare(context, stage)
    worst = refuse(kind, rows)
    with suppress(OSError, UsageError):  # then it costs seconds again
        passed.parent.mkdir(parents=True, exist_ok=True)
        write_text(passed, json.dumps(key, indent=1))
    context.progress.say(
        f"{kind} computes the first update as the CPU does: of {len(rows)} figures "
        f"{worst.name} differs most, by {worst.difference:.1e} where "
        f"{worst.tolerance:.1e} is allowed ({time.perf_counter() - started:.0f} s)"
    )


def refuse(kind: str, rows: Sequence[Row]) -> Row:
    """Refuses a device whose figures differ by more than rounding explains.

    Args:
        kind: The name of the device.
        rows: The figures that were compared.

    Returns:
        The row that comes closest to its tolerance.

    Raises:
        DeviceError: A figure exceeds its tolerance.

    Example:
        >>> refuse("TPU v9", [Row("gradient norm of layer 2", 0.55, 0.5, 0.1, 0.001)])
        Traceback (most recent call last):
        ...
        glrnn.errors.DeviceError: TPU v9 computes wrong numbers: gradient norm of \
layer 2 is 0.55 there and 0.5 on the CPU, a difference of 0.1 where rounding explains \
0.001 (1 of 1 figures differ); `python -m glrnn.check` shows all of them, and \
--no-check trains all the same
    """
    worst = max(rows, key=lambda row: row.excess)
    if worst.excess > 1:
        wrong = sum(row.excess > 1 for row in rows)
        raise DeviceError(
            f"{kind} computes wrong numbers: {worst.name} is {worst.found:.6g} there "
            f"and {worst.expected:.6g} on the CPU, a difference of "
            f"{worst.difference:.2g} where rounding explains {worst.tolerance:.2g} "
            f"({wrong} of {len(rows)} figures differ); `python -m glrnn.check` shows "
            f"all of them, and --no-check trains all the same"
        )
    return worst


def compare(context: Context, stage: StageId) -> list[Row]:
    """Takes the first update of a stage on the device and on the CPU.

    It starts from random parameters, whatever phase it is of: the program is the same.

    Args:
        context: The run, with its devices and their precision. Nothing is read from its
            folder or written to it.
        stage: The stage.

    Returns:
        A row for each figure compared, as `agreement.compare_updates` yields them.

    Raises:
        UsageError: JAX has no CPU to compare with.
    """
    cpu = devices.host_cpu()
    if cpu is None:
        raise UsageError(f"JAX has no CPU to compare with: {ADD_A_CPU}")
    window, phase = first_window(context, stage), context.phase(stage)
    with jax.default_device(cpu):
        init_key = jax.random.fold_in(context.phase_key(stage), len(STAGES))
        params = jax.device_get(context.model(stage).init(init_key))
        in_float32 = context.execution._replace(
            mesh=None, precision=PRECISIONS["float32"]
        )
        on_cpu = context._replace(execution=in_float32)
        expected = _first_update(on_cpu, stage, params, window)
    found = _first_update(context, stage, params, window)
    groups = group_names(context.stage(stage).max_norms, phase.num_layers)
    cells = [layer.cell for layer in context.config.layers[: phase.num_layers]]
    allowed = tolerance(context.execution.precision, cells)
    return list(compare_updates(params, found, expected, groups, allowed))


def _first_update(
    context: Context, stage: StageId, params: Params, window: Window
) -> Update:
    """The result of a step on a stage's first window, in the host's memory."""
    state = first_state(context, stage, params)
    state = replace(state, opt_state=_sensitive(context, stage, state.opt_state))
    state = replicate(state, context.execution.mesh)
    step = program(context, stage).step
    state, metrics = step(state, window, context.stage_key(stage))
    found = context.processes.whole((replace(state, opt_state=()), metrics))
    return jax.device_get(found)


def _sensitive(
    context: Context, stage: StageId, opt_state: optax.OptState
) -> optax.OptState:
    """A state of the optimizer whose first update shows errors of the gradient.

    An update of the usual size is lost in the rounding of the parameters, and the first
    one in units of the root mean square is the gradient's signs, which rounding flips.
    """
    max_norms = context.stage(stage).max_norms
    opt_state = set_hyperparams(opt_state, UPDATE_RATE, max_norms)
    squares = optax.tree.get(opt_state, "nu")
    if squares is None:
        return opt_state
    return optax.tree.set(opt_state, nu=jax.tree.map(jnp.ones_like, squares))


def device_kind(context: Context) -> str:
    """The name of the device's model, such as `NVIDIA H100 80GB HBM3`."""
    return _device(context).device_kind


def _device(context: Context) -> Any:
    mesh = context.execution.mesh
    return jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]


def _key(context: Context, stage: StageId) -> dict[str, Any]:
    """All that the result of a check depends on."""
    lowered = program(context, stage).step.lower(
        state_like(context, stage),
        first_window(context, stage),
        context.stage_key(stage),
    )
    device, mesh = _device(context), context.execution.mesh
    return {
        "device": device.device_kind,
        "devices": 1 if mesh is None else mesh.size,
        "precision": context.execution.precision,
        "program": sha256(lowered.as_text().encode()).hexdigest(),
        "platform": device.client.platform_version,
        "flags": {name: os.environ.get(name, "") for name in FLAGS},
        **{name: version(name) for name in ("glrnn", "jax", "jaxlib")},
    }


def _folder() -> Path:
    """The folder in which passed checks are recorded."""
    import platformdirs

    return platformdirs.user_cache_path("glrnn") / "checks"
