"""Every fault of the README's table, made; what becomes of the run is what it says."""

import shutil

import pytest
from faults import BEGIN, END, FAULTS, README, NotPossibleError, outcome, row, scene


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A stopped run, its corpus, and what it would have learned."""
    folder = tmp_path_factory.mktemp("faults")
    return folder / "stopped", *scene(folder)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_becomes_of_a_run(stopped, tmp_path, fault):
    folder, corpus, whole = stopped
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    try:
        told = outcome(fault, run, corpus, whole)
    except NotPossibleError as error:
        pytest.skip(str(error))
    table = README.read_text().split(BEGIN)[1].split(END)[0]
    assert row(fault, told) in table


def test_nothing_else_is_in_the_table():
    table = README.read_text().split(BEGIN)[1].split(END)[0]
    rows = table.splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in rows] == [
        fault.name for fault in FAULTS
    ]
