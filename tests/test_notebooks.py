"""The walkthroughs are stored executed, run from top to bottom, import the recipes and copy nothing from them."""

import ast
import base64
import io
import re
import subprocess
import sys
import time
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image
from tensorboard import manager

from lab.report.front_page import CHAPTERS
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def test_there_is_a_walkthrough_for_each_chapter_and_a_first_one():
    assert len(NOTEBOOKS) == 1 + len(CHAPTERS)
    titles = [re.match("# (.*)", read(path).cells[0].source)[1] for path in NOTEBOOKS]
    assert titles[1:] == list(CHAPTERS)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_it_uses_or_links_each_recipe_of_its_chapter(chapter):
    cells, names = read(NOTEBOOKS[1 + list(CHAPTERS).index(chapter)]).cells, CHAPTERS[chapter]
    whole = "\n".join(cell.source for cell in cells)
    imported = " ".join(re.findall("from recipes import (.*)", whole))
    for name in names:
        shown = name in re.findall(r"\w+", imported) or f'advice("{name}")' in whole
        assert shown or f"](../recipes/{name}.py)" in whole, name


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
def test_it_ends_with_three_exercises_whose_answers_are_folded(path):
    cells = read(path).cells
    begin = next(place for place, cell in enumerate(cells) if "## Exercises" in cell.source)
    asked = [re.search(r"(?m)^(\d)\. \*\*", cell.source)[1] for cell in cells[begin:] if cell.cell_type == "markdown"]
    answers = [cell for cell in cells[begin:] if cell.cell_type == "code"]
    assert asked == ["1", "2", "3"]
    assert len(answers) == 3
    assert all(cell.metadata["jupyter"] == {"source_hidden": True, "outputs_hidden": True} for cell in answers)
    assert all(cell.outputs for cell in answers)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_pictures_bring_their_own_background(path):
    """What is drawn in black on nothing can't be read on a dark page."""
    encoded = [
        output.data["image/png"]
        for cell in read(path).cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")) for png in encoded]
    assert len(pictures) >= 4
    assert all((picture[..., 3] == 255).all() for picture in pictures)


def first_cell(path: Path) -> str:
    return sources(read(path))[0]


def test_all_begin_with_the_same_short_cell():
    (cell,) = {first_cell(path) for path in NOTEBOOKS}
    assert len(cell.splitlines()) <= 10


def executed(code: str, folder: Path, *flags: str) -> subprocess.CompletedProcess:
    plain = re.sub(r"(?m)^%.*$", "", code)
    return subprocess.run([sys.executable, *flags, "-c", plain], cwd=folder, capture_output=True, text=True)


def test_the_first_cell_finds_the_checkout_or_says_how_to_get_it(tmp_path):
    say = "\nprint(os.getcwd(), recipes.__file__)"
    code = first_cell(NOTEBOOKS[0])
    for folder in (ROOT, ROOT / "notebooks"):
        done = executed(code + "\nimport recipes" + say, folder)
        assert done.stdout.split() == [str(ROOT), str(ROOT / "recipes" / "__init__.py")], done.stderr
    done = executed(code, tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "Run this inside the repository" in done.stderr
    done = executed(code, ROOT, "-S")  # A Python without what is installed.
    assert done.returncode == 1
    assert "with the environment that its README installs" in done.stderr


@pytest.mark.notebooks
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path):
    notebook = read(path)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    streams = [
        output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"
    ]
    assert [stream.text for stream in streams if stream.name == "stderr"] == []
    served = lambda: [server.logdir for server in manager.get_all() if "walkthrough" in server.logdir]  # noqa: E731
    deadline = time.monotonic() + 20
    while served() and time.monotonic() < deadline:  # What a notebook has started ends with its kernel.
        time.sleep(0.2)
    assert served() == []
