"""What holds for the project as a whole: style, types, who imports whom, README and CI alike."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted([*(ROOT / "recipes").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")])
HARNESS = sorted(path for path in (ROOT / "recipes" / "harness").rglob("*.py") if path.stem != "__init__")


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
    harness = {name for name in inside if name.startswith("lab")}
    if "pipelines" in path.parts:
        assert not inside
    else:  # Neither the harness nor a recipe imports a recipe.
        capstone = {"benchmarks.throughput"} if path.stem == "__main__" else set()
        capstone |= {"recipes.optimizers"} if path.stem == "_benchmark" else set()
        assert inside <= harness | {"recipes"} | capstone


LEVELS = ["evidence", "declaring", "reporting", "running", "kerastuner"]


@pytest.mark.parametrize("path", HARNESS, ids=lambda path: str(path.relative_to(ROOT / "recipes" / "harness")))
def test_each_folder_of_the_harness_imports_only_from_those_below_it(path):
    level = LEVELS.index(path.parent.name) if path.parent.name in LEVELS else len(LEVELS)
    for name in imports(path):
        parts = name.split(".")
        if parts[:2] != ["recipes", "harness"]:
            continue
        assert len(parts) > 2 or level == len(LEVELS), f"{name}: the package itself stands above its folders"
        if len(parts) > 2 and parts[2] in LEVELS:
            assert LEVELS.index(parts[2]) <= level, name
        elif len(parts) > 2:
            assert level == len(LEVELS), name
        if "kerastuner" in parts:  # The command line imports it when a search is asked for.
            assert path.parent.name == "kerastuner" or path.stem == "cli"


def test_no_module_imports_in_a_circle():
    graph = {}
    for path in HARNESS:
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        graph[name] = {other for other in imports(path) if other.startswith("lab.")}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name in graph and name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_only_searches_import_keras_tuner():
    for path in MODULES:
        if any(name.split(".")[0] == "keras_tuner" for name in imports(path)):
            assert path.parent.name == "kerastuner" or path.stem in ("search", "search_replayed"), path
    code = "import sys, recipes.optimizers; print('keras_tuner' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


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
        "import sys; from lab.cli.cookbook import listing; listing(['optimizers']); print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_with_two_processes_the_tests_of_a_file_stay_in_one(tmp_path, pytestconfig):
    """Else what they share is made twice. (pytest 9.2 takes no notice of xdist's groups, and nothing says so.)"""
    test = "import os, pathlib, pytest\n\n\n@pytest.mark.parametrize('number', range(8))\ndef test_it(number):\n"
    test += "    with pathlib.Path(__file__).with_suffix('.seen').open('a') as seen:\n"
    test += "        seen.write(os.environ['PYTEST_XDIST_WORKER'] + '\\n')\n"
    for name in ("test_a.py", "test_b.py", "test_c.py"):
        (tmp_path / name).write_text(test)
    options = [*pytestconfig.getini("addopts"), "-n", "2", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, *options, str(tmp_path)]
    variables = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in tmp_path.glob("test_*.seen"):
        seen = path.read_text().split()
        assert len(seen) == 8
        assert len(set(seen)) == 1
