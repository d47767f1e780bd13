"""Compiled programs are found again by the next process, and never stand in the way."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import jax, jax.numpy as jnp
from glrnn.console import compilation

compilation.SHORTEST_COMPILATION_SECONDS = 0.0
compilation.keep_programs()
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))
print(jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3)))[0, 0])
print("/jax/compilation_cache/cache_hits" in events)
"""


def run(**environment):
    """What two lines the program prints: its result, and whether it was found."""
    inherited = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere caches are elsewhere")
def test_a_program_is_compiled_once_for_all_processes(tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    result, found = run(**cache)
    assert found == "False"
    assert list((tmp_path / "glrnn" / "programs").iterdir())
    assert run(**cache) == [result, "True"]


@pytest.mark.thorough
def test_a_folder_of_the_users_stands(tmp_path):
    ours, theirs = tmp_path / "a", tmp_path / "b"
    run(XDG_CACHE_HOME=str(ours), JAX_COMPILATION_CACHE_DIR=str(theirs))
    assert not ours.exists()
    assert theirs.exists()


@pytest.mark.thorough
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "glrnn").write_text("in the way")
    assert run(XDG_CACHE_HOME=str(tmp_path))[1] == "False"


@pytest.mark.thorough
def test_damaged_programs_are_compiled_anew(tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    result, _ = run(**cache)
    for path in (tmp_path / "glrnn" / "programs").glob("*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    assert run(**cache)[0] == result
