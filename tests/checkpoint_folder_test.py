"""Checkpoints come back bit for bit, the right ones are kept, and nothing is silent."""

import contextlib
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

from glrnn.errors import DamagedError, UsageError
from glrnn.storage import orbax_io
from glrnn.storage.checkpoint_folder import CheckpointFolder
from glrnn.storage.checksums import SUMS, write_checksums


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


def save_tiny(checkpoints: CheckpointFolder, number: int, loss: float | None) -> None:
    value = {"number": jnp.int32(number)}
    params = None if loss is None else value
    checkpoints.save(number, value, {"number": number}, params, loss)


TINY = {"number": jnp.int32(0)}


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in [folder, *sorted(folder.rglob("*"))]
    }


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stage whose best checkpoint is 1 and the newest 2; not to be written to."""
    folder = tmp_path_factory.mktemp("run") / "phase_1" / "main"
    with CheckpointFolder(folder) as checkpoints:
        history = {"losses": [4.25, 0.1], "averaging": False, "lr": None, "epoch": 1}
        checkpoints.save(1, make_progress(1), history, make_params(1), 4.25)
        checkpoints.save(2, make_progress(2), {"epoch": 2}, make_params(2), 4.5)
    return folder


@pytest.mark.parametrize("as_like", [abstract, lambda tree: tree])
def test_best_params_and_newest_progress_come_back_bit_for_bit(saved, as_like):
    with CheckpointFolder(saved, read_only=True) as checkpoints:
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
    with CheckpointFolder(saved, read_only=True) as checkpoints:
        params, _ = checkpoints.restore_best(like)
    assert all(leaf.sharding == sharding for leaf in jax.tree.leaves(params))


def test_restored_while_still_being_written(tmp_path):
    with CheckpointFolder(tmp_path) as checkpoints:
        checkpoints.save(1, make_progress(), {})
        assert_identical(
            checkpoints.restore_newest(make_progress())[0], make_progress()
        )


@hypothesis.settings(max_examples=6, deadline=None)
@hypothesis.given(
    losses=st.lists(
        st.sampled_from([1.0, 2.0, 3.0, 0.5, None]), min_size=1, max_size=5
    ),
    reopen_at=st.integers(0, 4),
)
def test_the_two_newest_and_the_best_are_kept(tmp_path_factory, losses, reopen_at):
    folder = tmp_path_factory.mktemp("losses")
    checkpoints = CheckpointFolder(folder)
    try:
        for index, loss in enumerate(losses):
            save_tiny(checkpoints, index + 1, loss)
            if index == reopen_at:
                checkpoints.__exit__(None, None, None)
                checkpoints = CheckpointFolder(folder)
    finally:
        checkpoints.__exit__(None, None, None)
    newest = len(losses)
    validated = [loss for loss in losses if loss is not None]
    best = None
    if validated:
        best = losses.index(min(validated)) + 1
    kept = {newest, max(newest - 1, 1), best} - {None}
    assert {path.name for path in folder.iterdir()} == set(map(str, kept))
    with CheckpointFolder(folder, read_only=True) as fresh:
        assert (fresh.newest, fresh.best) == (newest, best)
        assert fresh.restore_newest(TINY)[0]["number"] == newest
        if best is not None:
            assert fresh.restore_best(TINY)[0]["number"] == best


def test_state_may_be_donated_as_soon_as_save_returns(tmp_path):
    step = jax.jit(lambda tree: jax.tree.map(lambda x: -x, tree), donate_argnums=0)
    expected = np.arange(1, 2**20 + 1, dtype=np.float32)
    like = {"w": jax.ShapeDtypeStruct(expected.shape, expected.dtype)}
    state = {"w": jnp.arange(1.0, 2**20 + 1)}
    step({"w": jnp.ones(2**20)})  # Compiled beforehand, so that it follows at once.
    with CheckpointFolder(tmp_path) as checkpoints:
        checkpoints.save(1, state, {}, state, 1.0)
        donated, state = state, step(state)
        assert donated["w"].is_deleted()
        for _ in range(5):
            state = step(state)
        jax.block_until_ready(state)
        np.testing.assert_array_equal(checkpoints.restore_best(like)[0]["w"], expected)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_is_refused_before_anything_is_written(tmp_path, loss):
    with CheckpointFolder(tmp_path) as checkpoints:
        save_tiny(checkpoints, 1, 3.0)
        with pytest.raises(ValueError, match=f"validation loss is {loss}"):
            save_tiny(checkpoints, 2, loss)
        with pytest.raises(ValueError, match="not JSON compliant"):
            checkpoints.save(2, {"w": jnp.ones(1)}, {"loss": loss})
    with CheckpointFolder(tmp_path) as checkpoints:
        assert (checkpoints.newest, checkpoints.best) == (1, 1)


def test_a_number_that_is_not_the_highest_is_refused(tmp_path):
    with CheckpointFolder(tmp_path) as checkpoints:
        save_tiny(checkpoints, 2, 3.0)
        for number in (1, 2):
            with pytest.raises(ValueError, match=f"{number} is not above 2"):
                save_tiny(checkpoints, number, 1.0)


def test_read_only_writes_nothing(saved):
    before = listing(saved)
    with CheckpointFolder(saved, read_only=True) as checkpoints:
        checkpoints.restore_best(make_params())
    assert listing(saved) == before


@pytest.mark.parametrize("made", [True, False])
def test_no_checkpoint_names_the_folder(tmp_path, made):
    folder = tmp_path / "phase_1"
    if made:
        folder.mkdir()
    with CheckpointFolder(folder, read_only=True) as checkpoints:
        assert checkpoints.newest is None and checkpoints.best is None
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
        CheckpointFolder(saved, read_only=True) as checkpoints,
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
    (folder / "4").write_text("mine")
    (folder / "007").mkdir()
    (folder / "007" / "mine").touch()
    said = []
    with CheckpointFolder(folder, said.append) as checkpoints:
        assert (checkpoints.newest, checkpoints.best) == (2, 1)
        save_tiny(checkpoints, 3, 2.0)
        save_tiny(checkpoints, 4, 1.0)
    with CheckpointFolder(folder, read_only=True) as checkpoints:
        assert (checkpoints.newest, checkpoints.best) == (4, 4)
        assert checkpoints.restore_newest(TINY)[0]["number"] == 4
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "4.damaged").read_text() == "mine"
    assert (folder / "9").is_dir()
    assert not said


KILLED = """
import os, sys
from pathlib import Path
import jax.numpy as jnp
from glrnn.storage import orbax_io, checkpoint_folder

def kill(*args):
    os._exit(9)

folder = Path(sys.argv[1])
with checkpoint_folder.CheckpointFolder(folder) as stage:
    for number in (1, 2, 3):
        tree = {"w": jnp.ones(2)}
        stage.save(number, tree, {}, tree, 1.0 / number)
    stage.wait()
    exec(sys.argv[2])
    stage.save(4, tree, {}, tree, 0.0)
    stage.wait()
"""
MOMENTS = {
    "before a file is written": "orbax_io.write = kill",
    "before the checksums": "orbax_io.write_checksums = kill",
    "before it has its name": "os.replace = kill",
    "before its name is on the disk": (
        "checkpoint_folder.sync_folder = lambda name: name == stage.folder and kill()"
    ),
    "before an old one is gone": "checkpoint_folder.shutil.rmtree = kill",
}


@pytest.mark.thorough
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_a_save(tmp_path, moment):
    """Whatever is there is whole, and what was cut short is cleared away."""
    script = [sys.executable, "-c", KILLED, str(tmp_path), MOMENTS[moment]]
    assert subprocess.run(script, capture_output=True).returncode == 9
    done = moment.endswith(("on the disk", "is gone"))
    expected = 4 if done else 3
    before = listing(tmp_path)
    said = []
    with CheckpointFolder(tmp_path, said.append, read_only=True) as checkpoints:
        assert (checkpoints.newest, checkpoints.best) == (expected, expected)
        checkpoints.restore_best({"w": jnp.ones(2)})
    assert listing(tmp_path) == before
    with CheckpointFolder(tmp_path, said.append) as checkpoints:
        assert checkpoints.newest == expected
        save_tiny(checkpoints, 5, 1.0)
    assert {path.name for path in tmp_path.iterdir()} == {"5", str(expected)}
    assert not said


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


DAMAGES = [
    flip_bit,
    *(
        pytest.param(damage, marks=pytest.mark.thorough)
        for damage in (cut_short, zero, Path.unlink)
    ),
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damage_to_any_file_of_the_newest_falls_back_to_the_one_before(
    saved, tmp_path, damage
):
    names = [
        path.relative_to(saved)
        for path in (saved / "2").rglob("*")
        if path.is_file() and path.stat().st_size
    ]
    assert len(names) > 10
    for index, name in enumerate(names):
        folder = tmp_path / str(index)
        shutil.copytree(saved, folder)
        damage(folder / name)
        before, said = listing(folder), []
        with CheckpointFolder(folder, said.append, read_only=True) as checkpoints:
            progress, _ = checkpoints.restore_newest(make_progress())
        assert listing(folder) == before
        with CheckpointFolder(folder, said.append) as checkpoints:
            assert checkpoints.newest == 1
        assert_identical(progress, make_progress(1))
        (line, again) = said
        assert line == again
        assert f"checkpoint {folder / '2'} is damaged and left out" in line
        # A digit of a checksum that was flipped is found at the file it is of.
        assert name.name in line or name.name == SUMS
        assert (folder / "2.damaged").is_dir()


ARRAY = "progress/params.embedding.table"


def with_json(name, **fields):
    """Changes fields of a JSON file of a checkpoint."""

    def forge(checkpoint):
        values = json.loads((checkpoint / name).read_text())
        (checkpoint / name).write_text(json.dumps(values | fields))

    return forge


def with_text(name, text):
    return lambda checkpoint: (checkpoint / name).write_text(text)


def with_link(name):
    def forge(checkpoint):
        aside = checkpoint.parents[1] / "aside"
        os.rename(checkpoint / name, aside)
        (checkpoint / name).symlink_to(aside)

    return forge


def with_pipe(checkpoint):
    (checkpoint / ARRAY / "0.0").unlink()
    os.mkfifo(checkpoint / ARRAY / "0.0")


def with_size(name, size):
    return lambda checkpoint: os.truncate(checkpoint / name, size)


def with_bomb(checkpoint):
    """A frame of Zstandard that becomes 30 MB: blocks of 128 KiB of one byte each."""
    block = (2**17 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    frame = b"\x28\xb5\x2f\xfd" + b"\x00\x38" + 250 * block
    (checkpoint / ARRAY / "0.0").write_bytes(frame)


def with_key(checkpoint):
    """Orbax's description of the tree has a step of a path that is no text."""
    name = checkpoint / "progress" / "_METADATA"
    name.write_text(name.read_text().replace('"key": "table"', '"key": ["table"]', 1))


def with_file(path):
    """One that Orbax would read beside the arrays, and put in their place."""
    (path / "progress" / "checkpoint").write_bytes(b"\x80")


def with_folder(checkpoint):
    (checkpoint / "progress" / "array_metadatas").mkdir()


FORGERIES = {
    "chunks of 40 GB": (
        with_json(f"{ARRAY}/.zarray", chunks=[100_000, 100_000]),
        "chunks is [100000, 100000], not [5, 3]",
    ),
    "another shape": (
        with_json(f"{ARRAY}/.zarray", shape=[3, 5], chunks=[3, 5]),
        "chunks is [3, 5], not [5, 3]",
    ),
    "another type": (with_json(f"{ARRAY}/.zarray", dtype="<f8"), "dtype is '<f8'"),
    "another codec": (
        with_json(f"{ARRAY}/.zarray", compressor={"id": "blosc"}),
        "compressor is {'id': 'blosc'}, not zstd",
    ),
    "a large chunk": (with_size(f"{ARRAY}/0.0", 2_000), "2000 bytes, at most 1084 are"),
    "a bomb": (with_bomb, "an array in progress cannot be read"),
    "no array": (with_text(f"{ARRAY}/0.0", "x"), "an array in progress cannot be read"),
    "a terabyte": (with_size(f"{ARRAY}/0.0", 10**12), "at most 1000000 are right"),
    "brackets": (with_text("progress/_METADATA", "[" * 100_000), "recursion depth"),
    "brackets about": (with_text("about/metadata", "[" * 100_000), "recursion depth"),
    "no object": (with_text("_CHECKPOINT_METADATA", "[]"), "METADATA is no JSON"),
    "handlers": (
        with_json("_CHECKPOINT_METADATA", item_handlers=[1]),
        "item_handlers is no JSON object",
    ),
    "no tree": (with_json("progress/_METADATA", tree_metadata={}), "another tree"),
    "a key": (with_key, "is of another form"),
    "another format": (with_json("progress/_METADATA", use_zarr3=True), "use_zarr3 is"),
    "a folder": (with_folder, "array_metadatas is no part of this tree"),
    "a file of an older form": (with_file, "checkpoint is no part of this tree"),
    "a loss of many digits": (
        with_json("about/metadata", valid_loss=10**400),
        "; it must be at least 0",
    ),
    "a loss below 0": (with_json("about/metadata", valid_loss=-1.0), "its valid_loss"),
    "arrays": (with_json("about/metadata", arrays={"progress": 3}), "arrays.progress"),
    "no item": (with_json("about/metadata", arrays={}), "progress is missing"),
    "history": (with_json("about/metadata", history=[]), "its history is []"),
    "loss": (with_json("about/metadata", valid_loss="x"), "its valid_loss is 'x'"),
    "a link": (with_link(f"{ARRAY}/0.0"), "table/0.0 is a symbolic link"),
    "a linked tree": (with_link("progress"), "progress is a symbolic link"),
    "a linked file of sums": (with_link(SUMS), f"{SUMS} is a symbolic link"),
    "a pipe": (with_pipe, "table/0.0 is not a regular file"),
}


def with_right_checksums(checkpoint: Path) -> None:
    """Rewrites the checksums of what has been forged; no one hashes a terabyte."""
    with contextlib.suppress(DamagedError):
        files = [path for path in checkpoint.rglob("*") if path.is_file()]
        if sum(path.stat().st_size for path in files) < 10**6:
            write_checksums(checkpoint)


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.thorough if number % 4 else ())
        for number, kind in enumerate(FORGERIES)
    ],
)
def test_forged_with_right_checksums_it_is_damaged(saved, tmp_path, kind, monkeypatch):
    folder, (forge, message) = tmp_path / "main", FORGERIES[kind]
    shutil.copytree(saved, folder)
    forge(folder / "2")
    with_right_checksums(folder / "2")
    said, late = [], []
    monkeypatch.setattr(sys, "unraisablehook", late.append)
    with CheckpointFolder(folder, said.append, True, largest=10**6) as checkpoints:
        progress, _ = checkpoints.restore_newest(make_progress())
    gc.collect()
    assert_identical(progress, make_progress(1))
    (line,) = said
    assert line.startswith(f"checkpoint {folder / '2'} is damaged and left out: ")
    assert message in line
    assert "\n" not in line and len(line) < 600
    assert not late


def test_damage_done_after_it_was_opened_is_found_at_the_restore(saved, tmp_path):
    folder, said = tmp_path / "main", []
    shutil.copytree(saved, folder)
    with CheckpointFolder(folder, said.append) as checkpoints:
        cut_short(folder / "1" / SUMS)
        params, _ = checkpoints.restore_best(make_params())
    assert_identical(params, make_params(2))
    assert "1 is damaged" in said[0]


def test_one_that_a_training_process_lets_go_of_is_not_damaged(saved, tmp_path):
    """Read while others take its place."""
    folder, said = tmp_path / "main", []
    shutil.copytree(saved, folder)
    with CheckpointFolder(folder, said.append, read_only=True) as checkpoints:
        shutil.rmtree(folder / "2")
        progress, _ = checkpoints.restore_newest(make_progress())
    assert_identical(progress, make_progress(1))
    assert not said


def test_what_must_not_be_read_is_not_damaged(saved, tmp_path):
    folder = tmp_path / "main"
    shutil.copytree(saved, folder)
    (folder / "2" / SUMS).unlink()
    (folder / "2" / SUMS).mkdir()  # which fails for root as well
    before = listing(folder)
    with pytest.raises(UsageError, match=f"^cannot read {folder / '2' / SUMS}: Is a"):
        CheckpointFolder(folder)
    assert listing(folder) == before


def test_the_only_checkpoints_there_are_stay_where_they_are(saved, tmp_path):
    folder = tmp_path / "main"
    shutil.copytree(saved, folder)
    (folder / "1" / SUMS).unlink()
    shutil.rmtree(folder / "2" / "params")
    before = listing(folder)
    for read_only in (True, False):
        with pytest.raises(UsageError) as caught:
            CheckpointFolder(folder, read_only=read_only)
        said = str(caught.value)
        assert said.startswith(f"every checkpoint in {folder} is damaged (1: {SUMS} is")
        assert "2: params/" in said and said.endswith("to train the stage anew")
    assert listing(folder) == before


def test_a_second_damaged_one_of_a_name_is_kept_too(saved, tmp_path):
    folder = tmp_path / "main"
    for _ in range(2):
        shutil.copytree(saved, folder, dirs_exist_ok=True)
        flip_bit(folder / "2" / SUMS)
        with CheckpointFolder(folder, str) as checkpoints:
            assert checkpoints.newest == 1
    names = {path.name for path in folder.iterdir()}
    assert names == {"1", "2.damaged", "2.damaged2"}


def test_arrays_that_were_not_written_as_they_were_are_found(tmp_path, monkeypatch):
    """What checksums of files cannot find."""
    params = {"head": {"table": jax.random.normal(jax.random.key(0), (10, 10))}}

    def write(path, trees, about):
        with monkeypatch.context() as patch:
            describe = orbax_io._describe
            patch.setattr(orbax_io, "_describe", lambda leaf: describe(leaf + 1))
            whole(path, trees, about)

    whole = orbax_io.write
    said = []
    with CheckpointFolder(tmp_path, said.append) as checkpoints:
        checkpoints.save(1, params, {})
        checkpoints.wait()
        monkeypatch.setattr(orbax_io, "write", write)
        checkpoints.save(2, params, {})
        assert checkpoints.restore_newest(params)[0].keys() == {"head"}
        assert checkpoints.newest == 1
    assert "progress/head/table is not what was to be written" in said[0]


@pytest.mark.parametrize("save", ["save", "wait", "check", "__exit__"])
def test_a_save_that_fails_is_told_and_costs_nothing(tmp_path, monkeypatch, save):
    def write(path, trees, about):
        path.mkdir()
        (path / "half").write_text("half")
        raise OSError(28, "No space left on device")

    message = f"cannot save {tmp_path / '2'}: No space left on device; what was saved"
    with (
        pytest.raises(UsageError, match=message),
        CheckpointFolder(tmp_path) as checkpoints,
    ):
        save_tiny(checkpoints, 1, 3.0)
        checkpoints.wait()
        monkeypatch.setattr(orbax_io, "write", write)
        save_tiny(checkpoints, 2, 1.0)
        while not checkpoints._saving.done():
            pass
        if save == "save":
            save_tiny(checkpoints, 3, 1.0)
        elif save != "__exit__":
            getattr(checkpoints, save)()
    monkeypatch.undo()
    with CheckpointFolder(tmp_path) as checkpoints:
        assert (checkpoints.newest, checkpoints.best) == (1, 1)
        save_tiny(checkpoints, 2, 1.0)
    assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}


def test_a_save_that_fails_does_not_hide_what_has_happened(tmp_path, monkeypatch):
    def write(path, trees, about):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(orbax_io, "write", write)
    said = []
    with (
        pytest.raises(KeyError, match="defect"),
        CheckpointFolder(tmp_path, said.append) as checkpoints,
    ):
        save_tiny(checkpoints, 1, 3.0)
        raise KeyError("defect")
    assert "No space left on device" in said[0]


QUIET = """
import sys
from pathlib import Path
import jax.numpy as jnp
from glrnn.storage.checkpoint_folder import CheckpointFolder

assert "orbax" not in sys.modules
folder = Path(sys.argv[1])
(folder / "7").mkdir()
tree = {"w": jnp.ones(2)}
with CheckpointFolder(folder) as checkpoints:
    for number in (1, 2, 3):
        checkpoints.save(number, tree, {}, tree, 1.0 + number)
    checkpoints.restore_best(tree)
with CheckpointFolder(folder, read_only=True) as checkpoints:
    checkpoints.restore_newest(tree)
from absl import logging
logging.warning("not ours to silence")
"""


def test_orbax_is_silent_and_imported_late_and_others_are_heard(tmp_path):
    script = [sys.executable, "-W", "default", "-c", QUIET, str(tmp_path)]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if "absl" in line]
    assert said == ["WARNING:absl:not ours to silence"]
