"""Imports run downwards only, as drawn in WORKSPACE.md."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "glrnn"

# Levels from the top. A room may import itself and what stands on the lines below.
DRAWING = """
train runs study check
phases
stages
device_check
epoch
beginning
job
evaluate
tuning
dynamic temperature agreement
checkpoints metrics_log
scoring step run_folder
warning_signs
checkpoint data progress experiment
datasets
optimizer
model
variants
config
heads
cells losses clipping rules windows
averaging noise scatter settings table vocabulary compilation
devices
checksums interruption
files
errors
"""
LEVELS = [line.split() for line in DRAWING.splitlines()]
MODULES = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))]


def rooms_open_to(name: str) -> set[str]:
    for height, level in enumerate(LEVELS):
        if name in level:
            return {name}.union(*LEVELS[height + 1 :])
    pytest.fail(f"{name!r} is not in the drawing: give it a level")


def imported_rooms(source: str) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("glrnn.")}


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m != Path("__init__.py")], ids=str
)
def test_module_imports_only_downwards(module):
    upwards = imported_rooms((PACKAGE / module).read_text())
    upwards -= rooms_open_to(module.parts[0].removesuffix(".py"))
    assert not upwards, f"glrnn/{module} may not import {sorted(upwards)}"
