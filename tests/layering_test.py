"""Imports run downwards only, as drawn in WORKSPACE.md; functions are short."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "glrnn"

# Rooms from the top: each may import itself and what stands on the lines below.
ROOMS = """
train study runs evaluate check score generate report
training
reports
scoring
evaluation console
storage
model
config
heads
cells optim
data
ground
errors
"""
# Files of one room, likewise; the other rooms have no order inside.
GROUND = """
dropout
validation losses
files devices arrays machine processes
"""
TRAINING = """
fitting
phases
stages
device_check
epoch
programs starting_params agreement
step context
gradient optimizer checkpoint warning_signs requests
history train_state execution
"""
INSIDE = {"training": TRAINING, "ground": GROUND}
MODULES = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]


def levels(drawing: str) -> list[list[str]]:
    return [line.split() for line in drawing.splitlines()]


def open_to(name: str, drawing: str) -> set[str]:
    """What a room may import, in the drawing; itself among it."""
    below: set[str] = set()
    for level in reversed(levels(drawing)):
        if name in level:
            return {name, *below}
        below |= {*level}
    pytest.fail(f"{name!r} is not in the drawing: give it a level")


def imported(source: str) -> set[tuple[str, ...]]:
    """The modules of glrnn that a source imports, such as `("data", "windows")`."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {tuple(name.split(".")[1:]) for name in names if name.startswith("glrnn.")}


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m != Path("__init__.py")], ids=str
)
def test_module_imports_only_downwards(module):
    room, *inside = module.with_suffix("").parts
    names = imported((PACKAGE / module).read_text())
    upwards = {name[0] for name in names} - open_to(room, ROOMS)
    if room in INSIDE and inside != ["__init__"]:
        own = {name[1] for name in names if name[0] == room}
        upwards |= own - open_to(inside[0], INSIDE[room])
    assert not upwards, f"glrnn/{module} may not import {sorted(upwards)}"


def test_nothing_but_doors_and_benchmarks_imports_training():
    # The first are the public names.
    above = "__init__.py", "training", *(f"{door}.py" for door in levels(ROOMS)[1])
    for module in MODULES:
        if module.parts[0] not in above:
            names = imported((PACKAGE / module).read_text())
            assert "training" not in {name[0] for name in names}, module


def code_lines(function: ast.FunctionDef) -> int:
    """The lines of a function, its docstring aside."""
    count = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is not None:
        docstring = function.body[0]
        count -= docstring.end_lineno - docstring.lineno + 1
    return count


def test_no_function_is_longer_than_a_page():
    for module in MODULES:
        for node in ast.walk(ast.parse((PACKAGE / module).read_text())):
            if isinstance(node, ast.FunctionDef):
                assert code_lines(node) <= 60, f"{module}: {node.name}"
