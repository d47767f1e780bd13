"""Compiled programs are found again by the next process, and never stand in the way."""

import os
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from glrnn.console import compilation

CACHE = "jax_compilation_cache_dir", "jax_enable_compilation_cache"
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


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, capsys):
    """JAX would warn in two lines for every program, and compile each again."""
    (tmp_path / "file").write_text("in the way")
    before = {name: jax.config.values[name] for name in CACHE}
    try:
        jax.config.update(CACHE[0], str(tmp_path / "file" / "programs"))
        compilation.keep_programs()
        assert not jax.config.values[CACHE[1]]
        compilation.keep_programs()  # once is enough
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert capsys.readouterr().err == (
        f"note: compiled programs are not stored: cannot write {tmp_path}/file/programs"
        f": Not a directory; JAX_COMPILATION_CACHE_DIR names another folder\n"
    )


def test_a_cache_on_another_machine_is_left_to_jax():
    assert not compilation._unwritable("gs://bucket/programs")
    assert not compilation._unwritable("")


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


def compile_for(seconds):
    """Compiles a program that takes about so long to trace."""
    jax.jit(lambda x: (time.sleep(seconds), x)[1])(jnp.ones(3))


def test_compiling_is_shown_while_it_lasts_and_no_longer(monkeypatch):
    monkeypatch.setattr(compilation, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(compilation, "REFRESH_SECONDS", 0.05)
    shown = []
    with compilation.compilation_shown(shown.append):
        time.sleep(0.3)
        assert shown == []
        compile_for(0.6)
        time.sleep(0.3)
        *during, after = shown
        assert after == 0
        assert len(during) >= 3
        assert during == sorted(during)
        assert 0.1 < during[0] < during[-1] < 2
        time.sleep(0.2)
        assert shown[-1] is after
    compile_for(0.3)
    assert shown[-1] is after


def test_what_is_compiled_soon_is_not_shown(monkeypatch):
    monkeypatch.setattr(compilation, "REFRESH_SECONDS", 0.01)
    shown = []
    with compilation.compilation_shown(shown.append):
        for _ in range(20):
            compile_for(0.01)
    assert shown == []


def test_an_error_while_tracing_ends_what_is_shown(monkeypatch):
    monkeypatch.setattr(compilation, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(compilation, "REFRESH_SECONDS", 0.05)

    def fail(x):
        time.sleep(0.3)
        raise KeyError

    shown = []
    with compilation.compilation_shown(shown.append):
        with pytest.raises(KeyError):
            jax.jit(fail)(jnp.ones(3))
        time.sleep(0.2)
    assert shown[0] > 0
    assert shown[-1] == 0
