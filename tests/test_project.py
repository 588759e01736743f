"""What holds for the project as a whole: style, types, who imports whom, README and CI alike."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted([*(ROOT / "recipes").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
RECIPES = [path for path in (ROOT / "recipes").glob("*.py") if not path.stem.startswith("_")]


@pytest.mark.parametrize("check", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_tools_have_no_complaint(check):
    done = subprocess.run([sys.executable, "-m", *check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_who_may_import_whom(path):
    inside = {name for name in imports(path) if name.split(".")[0] == "recipes"}
    harness = {name for name in inside if name.startswith("recipes.harness")}
    if "pipelines" in path.parts:
        assert not inside
    else:  # Neither the harness nor a recipe imports a recipe.
        assert inside <= harness | {"recipes"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_read_in_two_minutes(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert 60 <= len(lines) <= 160
    docstring = ast.get_docstring(ast.parse("\n".join(lines))) or ""
    assert docstring.splitlines()[0].endswith("?")
    for entry in ("Use it when", "It hurts when", "Sources"):
        assert f"\n{entry}  " in docstring


def test_ci_runs_the_readmes_own_commands():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert "python -m recipes.optimizers" in blocks[0]
    assert "python -m pytest" in blocks[1]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script  # It reads the second block from there, so the two cannot drift.


def test_the_constraints_pin_what_is_installed_and_name_no_address():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^ ]+( ; .+)?", line) for line in lines)


def test_importing_tensorflow_is_silent():
    done = subprocess.run(
        [sys.executable, "-c", "import recipes, keras, tensorflow; print('done')"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_listing_the_recipes_needs_no_tensorflow():
    code = (
        "import sys; from recipes.__main__ import listing; listing(['optimizers']); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr
