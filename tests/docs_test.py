"""The documents: their examples run, their links exist, their figure is up to date."""

import doctest
import re
import runpy
from pathlib import Path

import pytest

import glrnn

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "docs" / "library.md"
PAGES = [
    *ROOT.glob("*.md"),
    *(
        page
        for name in ("docs", "benchmarks", "experiments")
        for page in ROOT.glob(f"{name}/*.md")
    ),
]


@pytest.mark.thorough
def test_the_examples_of_the_library_page_are_true():
    found = doctest.testfile(str(LIBRARY), module_relative=False)
    assert found.attempted > 20
    assert found.failed == 0


def test_the_library_page_has_every_public_name():
    named = set(re.findall(r"`(\w+)`", LIBRARY.read_text()))
    assert set(glrnn.__all__) <= named


def test_the_examples_of_the_readme_run():
    blocks = re.findall(
        r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 2
    for block in blocks:
        exec(block, {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+)", text):
        if not target.startswith("https:"):
            assert (page.parent / target).exists(), target


def test_the_figure_is_what_its_script_draws():
    script = ROOT / "docs" / "figures" / "phases.py"
    assert (
        runpy.run_path(str(script))["draw"]() == script.with_suffix(".svg").read_text()
    )


def test_the_index_of_the_benchmarks_is_complete():
    index = (ROOT / "benchmarks" / "README.md").read_text()
    for file in (ROOT / "benchmarks").glob("[!_]*.py"):
        named = f"`{file.name}`" in index or f"benchmarks.{file.stem} " in index
        assert named or f"benchmarks.{file.stem}`" in index, file.name
