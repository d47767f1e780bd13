"""Devices that share a batch: how many, and that a run on several is the same run."""

import json
import os
import subprocess
import sys

import jax
import pytest

from glrnn.errors import UsageError
from glrnn.ground.devices import PRECISIONS, share_batch

DEVICES = 3


@pytest.fixture
def several(monkeypatch):
    """This process seems to have several devices."""
    monkeypatch.setattr(jax, "local_devices", lambda: list(range(DEVICES)))
    monkeypatch.setattr(
        jax, "make_mesh", lambda shape, names, kinds, devices: (shape, devices)
    )


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(
    ("batch_size", "num_devices", "count"),
    [(6, 0, 3), (4, 0, 2), (4, 2, 2), (5, 0, None), (6, 1, None), (2, 0, 2)],
)
def test_as_many_devices_as_divide_the_batch(batch_size, num_devices, count):
    mesh = share_batch(batch_size, num_devices)
    assert mesh == (count and ((count,), list(range(count))))


@pytest.mark.usefixtures("several")
def test_devices_that_are_not_there_or_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="there are 3 devices here, not 4"):
        share_batch(12, 4)
    with pytest.raises(UsageError, match="3 devices do not share 4 sequences equally"):
        share_batch(4, 3)


@pytest.mark.parametrize("precision", PRECISIONS.values())
def test_jax_knows_the_precisions(precision):
    with jax.default_matmul_precision(precision):
        pass


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["raw_valid_loss"] for line in lines]


@pytest.mark.thorough
def test_a_run_on_several_devices_is_the_run_on_one(trained, tmp_path):
    one, texts, _ = trained
    # Of 25 sequences 5 devices take 5 each; a sixth stays idle.
    flags = "--xla_force_host_platform_device_count=6"
    arguments = ["--data", str(texts), "--workdir", str(tmp_path / "run")]
    command = [sys.executable, "-m", "glrnn.train", str(texts / "small.py"), *arguments]
    ran = subprocess.run(
        command,
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "on 5 devices" in ran.stdout
    assert ran.stderr == ""
    assert losses(tmp_path / "run") == pytest.approx(losses(one), rel=1e-5)
    # And one device goes on with what several have saved.
    (tmp_path / "run" / "phase_1" / "summary.json").unlink()
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert again.stderr == ""
    assert losses(tmp_path / "run") == pytest.approx(losses(one), rel=1e-5)
