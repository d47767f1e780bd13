"""Checkpoints come back bit for bit, the right ones are kept, and nothing is silent."""

import gc
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from glrnn.checkpoint import StageCheckpoints
from glrnn.errors import UsageError


@flax.struct.dataclass
class Params:
    embedding: Any
    layers: Any
    head: Any


class Averaging(NamedTuple):
    active: jax.Array
    count: jax.Array
    average: Any


def make_params(seed: int = 0) -> Params:
    keys = jax.random.split(jax.random.key(seed), 3)
    return Params(
        embedding={"table": jax.random.normal(keys[0], (5, 3)), "bias": None},
        layers=({"recurrent": jax.random.normal(keys[1], (3, 12))},),
        # Values that a detour over text, or over another dtype, would lose.
        head=jnp.array([0.1, -0.0, 1e-42, jnp.inf, jnp.nan], jnp.float32),
    )


def make_progress(seed: int = 0) -> dict[str, Any]:
    params = make_params(seed)
    averaging = Averaging(
        jnp.array(True), jnp.int32(7), jax.tree.map(jnp.zeros_like, params)
    )
    return {
        "params": params,
        "opt_state": (optax.EmptyState(), averaging),
        "carry": ({"hidden": jnp.ones((2, 3)), "cell": None},),
        "step": jnp.int32(2**31 - 1),
        "half": jnp.array([1.5, 2.25], jnp.bfloat16),
    }


def abstract(tree: Any) -> Any:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)


def assert_identical(got: Any, expected: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert isinstance(a, jax.Array)
        assert a.shape == b.shape and a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def save_tiny(checkpoints: StageCheckpoints, epoch: int, loss: float) -> None:
    value = {"epoch": jnp.int32(epoch)}
    checkpoints.save(epoch, loss, value, value, {"epoch": epoch})


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [folder, *sorted(folder.rglob("*"))]
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage with a best epoch 1 and a newest epoch 2; not to be written to."""
    folder = tmp_path_factory.mktemp("run") / "phase_1" / "main"
    with StageCheckpoints(folder) as checkpoints:
        history = {"losses": [4.25, 0.1], "averaging": False, "lr": None, "epoch": 1}
        checkpoints.save(1, 4.25, make_params(1), make_progress(1), history)
        checkpoints.save(2, 4.5, make_params(2), make_progress(2), {"epoch": 2})
    return folder


@pytest.mark.parametrize("as_like", [abstract, lambda tree: tree])
def test_best_params_and_newest_progress_come_back_bit_for_bit(saved, as_like):
    with StageCheckpoints(saved, read_only=True) as checkpoints:
        params, history = checkpoints.restore_best(as_like(make_params()))
        progress, newest_history = checkpoints.restore_newest(as_like(make_progress()))
    assert_identical(params, make_params(1))
    assert history == {
        "losses": [4.25, 0.1],
        "averaging": False,
        "lr": None,
        "epoch": 1,
    }
    assert_identical(progress, make_progress(2))
    assert newest_history == {"epoch": 2}


def test_leaf_is_restored_to_the_sharding_of_like(saved):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    like = jax.device_put(make_params(), sharding)
    with StageCheckpoints(saved, read_only=True) as checkpoints:
        params, _ = checkpoints.restore_best(like)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(params))


def test_restored_while_still_being_written(tmp_path):
    with StageCheckpoints(tmp_path) as checkpoints:
        checkpoints.save(1, 1.0, make_params(), make_progress(), {})
        assert_identical(
            checkpoints.restore_newest(make_progress())[0], make_progress()
        )


@hypothesis.settings(max_examples=6, deadline=None)
@hypothesis.given(
    losses=st.lists(st.sampled_from([1.0, 2.0, 3.0, 0.5]), min_size=1, max_size=5),
    reopen_at=st.integers(0, 4),
)
def test_newest_and_best_are_kept(tmp_path_factory, losses, reopen_at):
    folder = tmp_path_factory.mktemp("losses")
    checkpoints = StageCheckpoints(folder)
    try:
        for index, loss in enumerate(losses):
            save_tiny(checkpoints, index + 1, loss)
            if index == reopen_at:
                checkpoints.__exit__(None, None, None)
                checkpoints = StageCheckpoints(folder)
    finally:
        checkpoints.__exit__(None, None, None)
    newest = len(losses)
    best = max(i + 1 for i, loss in enumerate(losses) if loss == min(losses))
    assert {path.name for path in folder.iterdir()} == {str(newest), str(best)}
    with StageCheckpoints(folder, read_only=True) as fresh:
        assert (fresh.newest_epoch, fresh.best_epoch) == (newest, best)
        like = {"epoch": jnp.int32(0)}
        assert fresh.restore_best(like)[0]["epoch"] == best
        assert fresh.restore_newest(like)[0]["epoch"] == newest


def test_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: -x, tree), donate_argnums=0)
    expected = np.arange(1, 2**20 + 1, dtype=np.float32)
    like = {"w": jax.ShapeDtypeStruct(expected.shape, expected.dtype)}
    state = {"w": jnp.arange(1.0, 2**20 + 1)}
    step({"w": jnp.ones(2**20)})  # Compiled beforehand, so that it follows at once.
    with StageCheckpoints(tmp_path) as checkpoints:
        checkpoints.save(1, 1.0, state, state, {})
        donated, state = state, step(state)
        assert donated["w"].is_deleted()
        for _ in range(5):
            state = step(state)
        jax.block_until_ready(state)
        np.testing.assert_array_equal(checkpoints.restore_best(like)[0]["w"], expected)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_is_refused_before_anything_is_written(tmp_path, loss):
    with StageCheckpoints(tmp_path) as checkpoints:
        save_tiny(checkpoints, 1, 3.0)
        with pytest.raises(ValueError, match=f"epoch 2 is {loss}"):
            save_tiny(checkpoints, 2, loss)
        with pytest.raises(ValueError, match="not JSON compliant"):
            checkpoints.save(2, 2.0, {"w": jnp.ones(1)}, {}, {"loss": loss})
    with StageCheckpoints(tmp_path) as checkpoints:
        assert (checkpoints.newest_epoch, checkpoints.best_epoch) == (1, 1)


def test_epoch_saved_before_is_refused(tmp_path):
    with StageCheckpoints(tmp_path) as checkpoints:
        save_tiny(checkpoints, 2, 3.0)
        for epoch in (1, 2):
            with pytest.raises(RuntimeError, match="newest epoch is 2"):
                save_tiny(checkpoints, epoch, 1.0)


def test_read_only_writes_nothing(saved):
    before = listing(saved)
    with StageCheckpoints(saved, read_only=True) as checkpoints:
        checkpoints.restore_best(make_params())
        with pytest.raises(RuntimeError, match="was not saved"):
            save_tiny(checkpoints, 3, 1.0)
    assert listing(saved) == before


@pytest.mark.parametrize("made", [True, False])
def test_no_checkpoint_names_the_folder(tmp_path, made):
    folder = tmp_path / "phase_1"
    if made:
        folder.mkdir()
    with StageCheckpoints(folder, read_only=True) as checkpoints:
        assert checkpoints.newest_epoch is None and checkpoints.best_epoch is None
        with pytest.raises(UsageError, match=f"no checkpoint in {folder}"):
            checkpoints.restore_best({})
        with pytest.raises(UsageError, match=f"no checkpoint in {folder}"):
            checkpoints.restore_newest({})
    assert folder.exists() == made


@pytest.mark.parametrize(
    "change, message",
    [
        (
            lambda p: p.replace(layers=({"recurrent": jnp.ones((4, 12))},)),
            r"layers/0/recurrent is float32\[3, 12\], expected float32\[4, 12\]",
        ),
        (
            lambda p: p.replace(head=jnp.ones(5, jnp.int32)),
            r"head is float32\[5\], expected int32\[5\]",
        ),
        (
            lambda p: p.replace(layers=(*p.layers, {"recurrent": jnp.ones((3, 12))})),
            r"has no layers/1/recurrent, expected float32\[3, 12\]",
        ),
        (
            lambda p: p.replace(layers=()),
            r"has layers/0/recurrent, float32\[3, 12\], which was not expected",
        ),
    ],
)
def test_other_tree_names_leaf_folder_and_both_types(saved, change, message):
    with (
        StageCheckpoints(saved, read_only=True) as checkpoints,
        pytest.raises(UsageError, match=message) as caught,
    ):
        checkpoints.restore_best(change(make_params()))
    assert str(saved) in str(caught.value)


def test_strays_are_not_checkpoints(saved, tmp_path):
    folder = tmp_path / "main"
    shutil.copytree(saved, folder)
    (folder / "3").mkdir()
    (folder / "9").mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "12").write_text("mine")
    with StageCheckpoints(folder) as checkpoints:
        assert (checkpoints.newest_epoch, checkpoints.best_epoch) == (2, 1)
        save_tiny(checkpoints, 3, 1.0)
    with StageCheckpoints(folder, read_only=True) as checkpoints:
        assert (checkpoints.newest_epoch, checkpoints.best_epoch) == (3, 3)
        checkpoints.restore_newest({"epoch": jnp.int32(0)})
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "9").is_dir()


KILLED = """
import os, sys
from pathlib import Path
import jax.numpy as jnp
from glrnn.checkpoint import StageCheckpoints

with StageCheckpoints(Path(sys.argv[1])) as checkpoints:
    checkpoints.save(1, 2.0, {"w": jnp.ones(2)}, {"w": jnp.ones(2)}, {})
    checkpoints._manager.wait_until_finished()
    checkpoints.save(2, 1.0, {"w": jnp.zeros(2**22)}, {"w": jnp.zeros(2**22)}, {})
    os._exit(9)
"""


def test_checkpoint_cut_short_by_a_kill_is_ignored_and_cleared_away(tmp_path):
    script = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(script, capture_output=True).returncode == 9
    left = {path.name for path in tmp_path.iterdir()}
    assert "1" in left and "2" not in left and len(left) == 2
    with StageCheckpoints(tmp_path, read_only=True) as checkpoints:
        assert (checkpoints.newest_epoch, checkpoints.best_epoch) == (1, 1)
    with StageCheckpoints(tmp_path) as checkpoints:
        save_tiny(checkpoints, 3, 1.0)
    assert {path.name for path in tmp_path.iterdir()} == {"3"}


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


# Orbax leaves the other tasks of a failed read behind; collected, they complain.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("damage", [flip_bit, cut_short])
def test_damage_to_any_file_is_found_or_harmless(saved, tmp_path, damage):
    names = [
        path.relative_to(saved)
        for item in ("params", "history", "manifest")
        for path in (saved / "1" / item).rglob("*")
        if path.is_file() and path.stat().st_size
    ]
    found = set()
    for index, name in enumerate(names):
        folder = tmp_path / str(index)
        shutil.copytree(saved, folder)
        damage(folder / name)
        with StageCheckpoints(folder, read_only=True) as checkpoints:
            try:
                params, history = checkpoints.restore_best(make_params())
            except UsageError as error:
                assert "damaged on disk" in str(error)
                found.add(name)
            else:
                assert_identical(params, make_params(1))
                assert history["losses"] == [4.25, 0.1]
    gc.collect()
    assert Path("1/history/metadata") in found
    assert any("params" in name.parts for name in found)


def test_flipped_bit_that_orbax_restores_in_silence_is_found(tmp_path):
    # Noise cannot be compressed, so nothing in the file notices a changed byte.
    params = {"head": {"table": jax.random.normal(jax.random.key(0), (100, 1000))}}
    with StageCheckpoints(tmp_path) as checkpoints:
        checkpoints.save(1, 1.0, params, params, {})
    files = [path for path in (tmp_path / "1/params").rglob("*") if path.is_file()]
    flip_bit(max(files, key=lambda path: path.stat().st_size))
    with (
        StageCheckpoints(tmp_path, read_only=True) as checkpoints,
        pytest.raises(UsageError, match=r"head/table not as written \(checksums"),
    ):
        checkpoints.restore_best(params)


def test_altered_history_is_found(saved, tmp_path):
    folder = tmp_path / "main"
    shutil.copytree(saved, folder)
    path = folder / "1" / "history" / "metadata"
    history = json.loads(path.read_text())
    path.write_text(json.dumps(history | {"epoch": 3}))
    with (
        StageCheckpoints(folder, read_only=True) as checkpoints,
        pytest.raises(UsageError, match="damaged on disk: history"),
    ):
        checkpoints.restore_best(make_params())


def test_losses_that_cannot_be_read_name_the_folder(saved, tmp_path):
    folder = tmp_path / "main"
    shutil.copytree(saved, folder)
    cut_short(folder / "1" / "metrics" / "metrics")
    with pytest.raises(UsageError, match=f"checkpoints in {folder}: damaged"):
        StageCheckpoints(folder, read_only=True)


QUIET = """
import logging
import sys
from pathlib import Path
import jax.numpy as jnp
from glrnn.checkpoint import StageCheckpoints

assert "orbax" not in sys.modules
folder = Path(sys.argv[1])
(folder / "7").mkdir()
tree = {"w": jnp.ones(2)}
with StageCheckpoints(folder) as checkpoints:
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, 1.0 + epoch, tree, tree, {})
    checkpoints.restore_best(tree)
with StageCheckpoints(folder, read_only=True) as checkpoints:
    checkpoints.restore_newest(tree)
for error in (KeyboardInterrupt, OSError):
    record = logging.LogRecord(
        "absl", logging.ERROR, "/orbax/x.py", 1, error.__name__, (), (error, None, None)
    )
    logging.getLogger("absl").handle(record)
from absl import logging
logging.warning("not ours to silence")
"""


def test_orbax_is_silent_and_imported_late_and_others_are_heard(tmp_path):
    script = [sys.executable, "-W", "default", "-c", QUIET, str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if "absl" in line]
    assert said == ["ERROR:absl:OSError", "WARNING:absl:not ours to silence"]
