"""What an import costs: the heavy libraries are loaded where they are used."""

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import glrnn

PACKAGE = Path(glrnn.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
NEVER = {"tensorflow", "torch"}
OPTIONAL = {"jinja2", "markupsafe", "matplotlib", "tensorboardX"}
WHERE_USED = NEVER | OPTIONAL | {"cattrs", "tensorflow_datasets", "tyro"}


def modules_loaded_by(statement: str) -> set[str]:
    """The names of the modules that a fresh interpreter holds after the statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-c", program]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return set(json.loads(output))


def test_package_itself_loads_nothing():
    third_party = {"jax", "numpy", "flax", "optax", "orbax", "rich"} | WHERE_USED
    assert not modules_loaded_by("import glrnn") & third_party


def test_clip_transform_costs_no_more_than_optax():
    loaded = modules_loaded_by("from glrnn import layerwise_clip_by_norm")
    extra = loaded - modules_loaded_by("import optax")
    assert {name.split(".")[0] for name in extra} == {"glrnn"}


def test_heavy_libraries_are_loaded_where_they_are_used():
    # The builders in `corpora` are classes of tensorflow-datasets, and the options of
    # these command lines are annotated for tyro.
    names_of_doors = "train evaluate study check score generate report".split()
    doors = [f"glrnn.{name}" for name in names_of_doors]
    names = [
        module.name
        for module in pkgutil.walk_packages([str(PACKAGE)], "glrnn.")
        if not module.name.startswith(("glrnn.data.corpora", *doors))
    ]
    assert "glrnn.optim.clipping" in names
    assert not modules_loaded_by(f"import {', '.join(names)}") & WHERE_USED


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_nothing_that_was_only_data_is_executed(path):
    """Neither by unpickling nor by Python's own means, an experiment's file aside."""
    names = {
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name | ast.Attribute)
    }
    executing = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    executing |= {"eval", "exec", "allow_pickle", "unpack_archive", "extractall"}
    executing |= {"exec_module", "run_path"}
    if path.stem == "experiment":
        executing.remove("run_path")
    assert not names & executing


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_tensorflow_and_torch_are_never_imported(path):
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & NEVER


def test_lazy_names_are_those_the_type_checker_sees():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    checked = {
        (node.module, alias.asname)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert checked == {(f"glrnn.{home}", name) for name, home in glrnn._HOMES.items()}


@pytest.mark.parametrize("name", [*glrnn.__all__, "__version__"])
def test_public_name_is_found_and_listed(name):
    assert getattr(glrnn, name) is not None
    assert name in dir(glrnn)


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'lstn'"):
        _ = glrnn.lstn
