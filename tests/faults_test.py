"""Every fault of the table in docs/resuming.md, made, with what it says of the run."""

import shutil
import subprocess
import sys

import pytest
from faults import (
    BEGIN,
    END,
    FAULTS,
    TABLE,
    NotPossibleError,
    mounted,
    outcome,
    row,
    scene,
)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A stopped run, its corpus, and what it would have learned."""
    folder = tmp_path_factory.mktemp("faults")
    return folder / "stopped", *scene(folder)


@pytest.mark.thorough
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_becomes_of_a_run(stopped, tmp_path, fault):
    folder, corpus, whole = stopped
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    try:
        told = outcome(fault, run, corpus, whole)
    except NotPossibleError as error:
        pytest.skip(str(error))
    table = TABLE.read_text().split(BEGIN)[1].split(END)[0]
    assert row(fault, told) in table


@pytest.mark.thorough
@pytest.mark.parametrize("kilobytes", [60, 150, 400])
def test_a_full_disk_takes_one_line(texts, kilobytes):
    """Whatever is being written when there is no more room."""
    run = texts / "run"
    run.mkdir()
    try:
        with mounted(run, f"size={kilobytes}k"):
            given = ["small.py", "--data", ".", "--workdir", "run"]
            endless = ["--phases.0.main.epochs", "1000"]
            done = subprocess.run(
                [sys.executable, "-m", "glrnn.train", *given, *endless],
                cwd=texts,
                capture_output=True,
                text=True,
            )
    except NotPossibleError as error:
        pytest.skip(str(error))
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot ")
    assert "No space left on device" in line
    assert done.returncode == 2


def test_nothing_else_is_in_the_table():
    table = TABLE.read_text().split(BEGIN)[1].split(END)[0]
    rows = table.splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [
        fault.name for fault in FAULTS
    ]
