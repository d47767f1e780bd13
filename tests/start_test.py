"""From its first line on, a command answers Ctrl-C, and bears closed streams."""

import configparser
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from glrnn.console import start

DOORS = ("train", "evaluate", "check", "runs", "score", "generate", "study", "report")
INTERRUPT = "import os, signal; os.kill(os.getpid(), signal.SIGINT)\n"
# Some libraries ignore every exception where they try to import another.
SWALLOW = f"try:\n    {INTERRUPT}except BaseException: pass\n"


def run(folder, program, *redirections, jax="", **how):
    """Runs a program that finds another `jax` and a module `door` in a folder."""
    (folder / "jax.py").write_text(jax)
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    command = ["sh", "-c", f'exec "$0" "$@" {" ".join(redirections)}']
    return subprocess.run(
        [*command, sys.executable, *program],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
        timeout=60,
        **how,
    )


def started(folder, body, *redirections):
    """Runs a door whose `main` has this body."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (folder / "door.py").write_text(f"def main():\n{lines}")
    program = "from glrnn.console.start import start; start('door')"
    return run(folder, ["-c", program], *redirections)


@pytest.mark.parametrize("door", DOORS)
def test_ctrl_c_in_an_import_is_one_line(tmp_path, door):
    done = run(tmp_path, ["-m", f"glrnn.{door}"], jax=SWALLOW)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


@pytest.mark.parametrize("door", DOORS)
def test_console_scripts_start_alike(door, monkeypatch):
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[1] / "setup.cfg")
    scripts = setup["options.entry_points"]["console_scripts"].split("\n")
    assert f"glrnn-{door} = glrnn.console.start:{door}" in scripts
    called = []
    monkeypatch.setattr(start, "start", called.append)
    getattr(start, door)()
    assert called == [f"glrnn.{door}"]


def test_ctrl_c_unwinds_the_work(tmp_path):
    body = f"try:\n    {INTERRUPT}    __import__('time').sleep(9)\nfinally: print('x')"
    done = started(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (130, "x\n", "stopped\n")


def test_ctrl_c_in_a_callback_is_not_swallowed(tmp_path):
    """Python ignores exceptions there; JAX has one for the garbage collector."""
    body = f"""import gc
def callback(phase, info):
    {INTERRUPT}    sum(range(9))
gc.callbacks.append(callback)
gc.collect()
print('went on')"""
    done = started(tmp_path, body)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "stopped\n")


def test_ctrl_c_that_is_ignored_stays_ignored(tmp_path):
    """As in a shell script's background jobs."""
    previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = started(tmp_path, f"{INTERRUPT}print('x')")
    finally:
        signal.signal(signal.SIGINT, previous)
    assert (done.returncode, done.stdout, done.stderr) == (0, "x\n", "")


@pytest.mark.parametrize("redirections", [[">&-"], [">&-", "<&-"]])
def test_a_closed_output_is_refused(tmp_path, redirections):
    done = started(tmp_path, "print('x')", *redirections)
    assert done.returncode == 2
    assert done.stderr == (
        "error: standard output is closed; send it to a file, or to /dev/null\n"
    )
    assert started(tmp_path, "", *redirections, "2>&-").returncode == 2


def test_no_file_takes_the_place_of_a_closed_stream(tmp_path):
    """Or what a library writes to standard error would land in it."""
    body = f"""import os, sys
with open({str(tmp_path / "a.txt")!r}, "w") as file:
    file.write("text")
    file.flush()
    os.write(2, b"a library's message")
print(repr(sys.stdin.read()), file=sys.stderr)
print("done")"""
    done = started(tmp_path, body, "2>&-", "<&-")
    assert (done.returncode, done.stdout) == (0, "done\n")
    assert (tmp_path / "a.txt").read_text() == "text"


@pytest.mark.parametrize(
    ("columns", "taken"),
    [("0", None), ("1", "20"), ("19", "20"), ("99", "99"), ("²", "²")],
)
def test_no_terminal_is_too_narrow(columns, taken, monkeypatch):
    """For help, which never came in 5 columns, or a table, which was empty in 0."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((80, 24)))
    start._widen()
    assert os.environ.get("COLUMNS") == taken
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((3, 24)))
    start._widen()
    assert os.environ["COLUMNS"] == "20"


def test_an_environment_that_jax_refuses_is_one_line(tmp_path):
    done = run(
        tmp_path,
        ["-m", "glrnn.runs"],
        jax="raise ValueError('Invalid value x\\nfor flag')",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(
        "error: JAX cannot be imported: Invalid value x for flag; the environment has "
        "JAX_COMPILATION_CACHE_DIR="
    )
    assert done.stderr.count("\n") == 1
