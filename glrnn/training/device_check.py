"""Whether a device computes what the CPU does: one update, by both, compared.

A device can compute wrong numbers without a word: the one GPU on which this project was
first tried read each window transposed, and a network of 26 million parameters learned
nothing in 13 epochs. So the first update of a stage is taken twice before anything is
trained: by the very step that training will use, at the very sizes, and by the same
step traced for the host's CPU, in float32. Both get the same parameters, the same
window and the same key, so the same dropout masks.
"""

import json
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from glrnn import devices
from glrnn.data.windows import Window
from glrnn.devices import PRECISIONS
from glrnn.errors import DeviceError, UsageError
from glrnn.files import write_text
from glrnn.model import Params
from glrnn.optim.learning_rate import set_rate_factor
from glrnn.storage.run_folder import STAGES
from glrnn.training.agreement import Row, Update, compare_updates, tolerance
from glrnn.training.context import Job
from glrnn.training.epoch import first_window
from glrnn.training.optimizer import group_names
from glrnn.training.programs import first_state, params_like, update_rule
from glrnn.training.step import place

ADD_A_CPU = "add `,cpu` to JAX_PLATFORMS, or leave it unset"
# They change what XLA makes of a program.
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")

# The learning rate of the update that is compared. The rate in force is a part of the
# state, as is all else that is chosen here, so the program stays the same.
UPDATE_RATE = 1e3


def require(job: Job, stages: Sequence[str]) -> None:
    """Refuses a device that does not compute what the CPU does.

    To be called before a phase is trained. A CPU is not checked, and no device twice:
    what passed is remembered in the user's cache folder, by program, kind of device and
    versions.

    Args:
        job: Which phase of which run, on which devices, in which precision.
        stages: The names of the stages to be trained; each program is checked once.

    Raises:
        DeviceError: if the device computed something else.
    """
    if not job.check or devices.platform() == "cpu":
        return
    if devices.host_cpu() is None:
        job.progress.say(
            f"the device is not checked, for JAX has no CPU to compare it with: "
            f"{ADD_A_CPU}"
        )
        return
    stage_jobs = [job._replace(stage_name=name) for name in stages]
    for stage_job in {update_rule(each)[1]: each for each in stage_jobs}.values():
        _require(stage_job)


def _require(job: Job) -> None:
    kind = device_kind(job)
    key = _key(job)
    passed = _folder() / f"{sha256(json.dumps(key).encode()).hexdigest()}.json"
    if passed.exists():
        job.progress.say(f"{kind} has passed the check of this program before")
        return
    started = time.perf_counter()
    rows = compare(job)
    worst = refuse(kind, rows)
    with suppress(OSError, UsageError):  # then it costs seconds again
        passed.parent.mkdir(parents=True, exist_ok=True)
        write_text(passed, json.dumps(key, indent=1))
    job.progress.say(
        f"{kind} computes the first update as the CPU does: of {len(rows)} figures "
        f"{worst.name} differs most, by {worst.difference:.1e} where "
        f"{worst.tolerance:.1e} is allowed ({time.perf_counter() - started:.0f} s)"
    )


def refuse(kind: str, rows: Sequence[Row]) -> Row:
    """Refuses a device whose figures differ by more than rounding explains.

    Args:
        kind: The name of the device.
        rows: What was compared.

    Returns:
        The row that comes closest to its tolerance.

    Raises:
        DeviceError: if any exceeds it.

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


def compare(job: Job) -> list[Row]:
    """Takes the first update of a stage on the device and on the CPU.

    It starts from random parameters, whatever phase it is of: the program is the same.

    Args:
        job: Which stage of which run, on which devices, in which precision. Nothing is
            read or written on disk.

    Returns:
        A row for each thing compared, as `agreement.compare_updates` yields them.

    Raises:
        UsageError: JAX has no CPU to compare with.
    """
    cpu = devices.host_cpu()
    if cpu is None:
        raise UsageError(f"JAX has no CPU to compare with: {ADD_A_CPU}")
    window = first_window(job)
    with jax.default_device(cpu):
        init_key = jax.random.fold_in(job.phase_key, len(STAGES))
        params = jax.device_get(job.model.init(init_key))
        on_cpu = job._replace(mesh=None, precision=PRECISIONS["float32"])
        expected = _first_update(on_cpu, params, window)
    found = _first_update(job, params, window)
    groups = group_names(job.stage.max_norms, job.phase.num_layers)
    cells = [layer.cell for layer in job.config.layers[: job.phase.num_layers]]
    allowed = tolerance(job.precision, cells)
    return list(compare_updates(params, found, expected, groups, allowed))


def _first_update(job: Job, params: Params, window: Window) -> Update:
    """What a step makes of a stage's first window, in the host's memory."""
    optimizer, step = update_rule(job)
    state = first_state(job, optimizer, params)
    state = replace(state, opt_state=_telling(job, state.opt_state))
    state, metrics = step(place(state, job.mesh), window, job.stage_key())
    return jax.device_get((replace(state, opt_state=()), metrics))


def _telling(job: Job, opt_state: optax.OptState) -> optax.OptState:
    """A state of the optimizer from which an update tells of its gradient.

    An update as small as usual is lost in the rounding of the parameters, and the first
    one in units of the root mean square is the gradient's signs, which rounding flips.
    """
    factor = UPDATE_RATE / job.stage.learning_rate
    opt_state = set_rate_factor(opt_state, factor)
    squares = optax.tree.get(opt_state, "nu")
    if squares is None:
        return opt_state
    return optax.tree.set(opt_state, nu=jax.tree.map(jnp.ones_like, squares))


def device_kind(job: Job) -> str:
    """What the device calls itself, such as `NVIDIA H100 80GB HBM3`."""
    return _device(job).device_kind


def _device(job: Job) -> Any:
    return jax.local_devices()[0] if job.mesh is None else job.mesh.devices.flat[0]


def _key(job: Job) -> dict[str, Any]:
    """All that a result depends on: a check that passed holds as long as this does."""
    optimizer, step = update_rule(job)
    state = jax.eval_shape(partial(first_state, job, optimizer), params_like(job))
    program = step.lower(state, first_window(job), job.stage_key()).as_text()
    device = _device(job)
    return {
        "device": device.device_kind,
        "devices": 1 if job.mesh is None else job.mesh.size,
        "precision": job.precision,
        "program": sha256(program.encode()).hexdigest(),
        "platform": device.client.platform_version,
        "flags": {name: os.environ.get(name, "") for name in FLAGS},
        **{name: version(name) for name in ("glrnn", "jax", "jaxlib")},
    }


def _folder() -> Path:
    """Where checks that were passed are remembered."""
    import platformdirs

    return platformdirs.user_cache_path("glrnn") / "checks"
