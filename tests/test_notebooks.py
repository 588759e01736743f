"""The walkthroughs are stored executed, run from top to bottom, import the recipes and copy nothing from them."""

import ast
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_walkthroughs():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_executed_and_without_errors(path):
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert any(output.output_type == "stream" for output in outputs)
    assert not any(output.output_type == "error" for output in outputs)
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
    assert str(ROOT) not in path.read_text(encoding="utf-8")
    assert "site-packages" not in path.read_text(encoding="utf-8")  # As in a warning: a path, and nothing to read.


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_copies_nothing_from_the_recipes(path):
    code = "\n".join(re.sub(r"(?m)^%.*$", "", source) for source in sources(read(path)))
    tree = ast.parse(code)
    assert any(isinstance(node, ast.ImportFrom) and (node.module or "").startswith("recipes") for node in tree.body)
    ours = {name for module in (ROOT / "recipes").glob("*.py") for name in defined(module)}
    assert not {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))} & ours


def defined(module: Path) -> set[str]:
    tree = ast.parse(module.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path):
    notebook = read(path)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
