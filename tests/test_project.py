"""What holds for the project as a whole: style, types, who imports whom, README and CI alike."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lab.experiments import NAMES, load

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("recipes", "lab", "pipelines", "benchmarks")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for folder in FOLDERS
    for path in sorted((ROOT / folder).rglob("*.py"))
}
IN_LAB = [name for name in MODULES if name.startswith("lab.")]
# What a module may import stands in its own layer or in one before it. Names of folders, or of modules.
LAYERS = [
    "pipelines",
    # What is declared and recorded. `lab.experiments` itself only loads a declaration by its name.
    "lab.evidence lab.claims lab.experiment lab.panels lab.settings lab.smallest_effects lab.statistics lab.table "
    "lab.tuning lab.variants lab.experiments",
    "lab.core",
    "lab.tensorboard lab.report",
    "lab.execute lab.search",
    "lab.measurement lab.stopping_rule lab.evidence.carry_over",
    "lab.cli lab.__main__",
]
NAMED_AS_TYPED = ("lab.cli.", "lab.experiments.")
# Clipping and noise are tried on a network that is stuck: functional_skip's without its additions.
OF_STRONG = {"recipes.mixed_precision", "recipes.optimizers", "recipes.regularization", "recipes.schedules"}
OF_SPEEDRUN = {f"recipes.{name}" for name in ("mixed_precision", "regularization", "schedules", "strong_baseline")}
BUILDS_ON: dict[str, set[str]] = {
    "lab.experiments.gradients": {"recipes.functional_skip"},
    "lab.experiments.speedrun": {"recipes.input_pipeline"},
    "lab.experiments.strong_baseline": {"recipes.schedules"},
    "recipes.speedrun": OF_SPEEDRUN,
    "recipes.strong_baseline": OF_STRONG,
}
# Still the wrong way round.
UPWARDS = {
    "lab.execute.cluster": {"lab.cli.exits", "lab.cli.flags"},
}


@pytest.mark.parametrize("check", [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]], ids=" ".join)
def test_tools_have_no_complaint(check):
    done = subprocess.run([sys.executable, "-m", *check], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def imports(path: Path, within_functions: bool = True) -> set[str]:
    """The modules that a file imports, as far as they can be told from names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = [node for node in ast.walk(tree) if isinstance(node, FUNCTIONS) or is_for_types(node)]
    inner = {id(node) for whole in late for node in ast.walk(whole)}
    names = set()
    for node in ast.walk(tree):
        if id(node) in inner and not within_functions:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in whole}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def layer_of(name: str) -> int:
    """The number of a module's layer: that of the longest name in LAYERS which it begins with."""
    entries = {entry: number for number, layer in enumerate(LAYERS) for entry in layer.split()}
    above = [entry for entry in entries if name == entry or name.startswith(f"{entry}.")]
    assert above, f"{name} stands in no layer of LAYERS"
    return entries[max(above, key=len)]


@pytest.mark.parametrize("name", [name for name in IN_LAB if not name.startswith("lab.experiments.")])
def test_a_module_of_the_lab_imports_from_its_own_layer_or_one_before_it(name):
    found = imports(MODULES[name])
    ours = {other for other in found if other.split(".")[0] in FOLDERS}
    assert (
        not {other for other in ours if other.split(".")[0] in ("recipes", "benchmarks")} or name == "lab.cli.cookbook"
    )
    assert "lab" not in ours, "what it needs stands in a module"
    too_high = {
        other for other in ours if other.split(".")[0] in ("lab", "pipelines") and layer_of(other) > layer_of(name)
    }
    assert too_high == UPWARDS.get(name, set())


def test_pipelines_import_neither_recipes_nor_the_lab_and_no_recipe_imports_another():
    for name, path in MODULES.items():
        ours = {other.split(".")[0] for other in imports(path)} & set(FOLDERS)
        if name.startswith("pipelines"):
            assert ours <= {"pipelines"}, name
        if name.startswith("recipes."):
            assert "benchmarks" not in ours, name
            others = {other for other in imports(path) if other.startswith("recipes.")}
            assert others <= BUILDS_ON.get(name, set()), name
        if name.startswith("lab.experiments."):
            mine = {other for other in imports(path) if other.startswith("recipes")}
            own = name.replace("lab.experiments", "recipes")
            assert mine <= {own, "recipes", *BUILDS_ON.get(name, set())}, name


def test_no_two_public_functions_of_the_lab_have_one_name():
    """`carry_out` had five meanings once. Methods are told apart by their classes, and the command line's functions are
    called as what a user types."""
    where: dict[str, list[str]] = {}
    for name in IN_LAB:
        for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body:
            if isinstance(node, FUNCTIONS) and not node.name.startswith("_") and not name.startswith(NAMED_AS_TYPED):
                where.setdefault(node.name, []).append(name)
    several = {
        name: places for name, places in where.items() if len(places) > 1 and name not in ("__getattr__", "main")
    }
    assert several == {}


def test_every_recipe_has_an_experiment_and_both_are_where_others_look():
    recipes = {path.stem for path in (ROOT / "recipes").glob("*.py")} - {"__init__", "__main__"}
    assert recipes == set(NAMES)
    assert all(load(name).name == name for name in NAMES)


def test_no_module_imports_in_a_circle():
    graph = {name: imports(MODULES[name], within_functions=False) & set(MODULES) for name in MODULES}
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join([*above, name])
        if name not in done:
            for other in graph[name] - {"lab", "recipes", "pipelines"}:  # These import nothing of ours by themselves.
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.processes
def test_only_searches_import_keras_tuner():
    searching = {"recipes.search", "lab.experiments.search"}
    for name, path in MODULES.items():
        if any(other.split(".")[0] == "keras_tuner" for other in imports(path)):
            assert name in searching or name.startswith("lab.search."), name
    code = "import sys, lab.experiments.optimizers; print('keras_tuner' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_ci_runs_the_readmes_own_commands():
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert "python -m recipes.optimizers" in blocks[0]
    assert "python -m pytest" in blocks[1]
    assert "-m pytest -n 2\n" in blocks[1]  # What it leaves out is said in pyproject.toml alone.
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (read,) = re.findall(r"^awk .* README.md > commands.sh$", script, re.MULTILINE)
    done = subprocess.run(["bash", "-c", read.removesuffix("> commands.sh")], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == blocks[1]


def test_ci_runs_everything_that_the_default_leaves_out(pytestconfig):
    left_out = re.fullmatch(r"not \((.*)\)", pytestconfig.getini("addopts")[-1])[1]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (slow,) = re.findall(r'^slow=.* -m "(.*)"\)$', script, re.MULTILINE)
    marks = {line.split(":")[0] for line in pytestconfig.getini("markers")}
    assert set(slow.split(" or ")) == set(left_out.split(" or ")) <= marks


def test_the_constraints_pin_what_is_installed_and_name_no_address():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert "://" not in text
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[^ ]+( ; .+)?", line) for line in lines)


@pytest.mark.processes
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


@pytest.mark.processes
def test_with_two_processes_the_tests_of_a_file_stay_in_one(tmp_path, pytestconfig):
    """Else what they share is made twice. (pytest 9.2 takes no notice of xdist's groups, and nothing says so.)"""
    test = "import os, pathlib, pytest\n\n\n@pytest.mark.parametrize('number', range(8))\ndef test_it(number):\n"
    test += "    with pathlib.Path(__file__).with_suffix('.seen').open('a') as seen:\n"
    test += "        seen.write(os.environ['PYTEST_XDIST_WORKER'] + '\\n')\n"
    for name in ("test_a.py", "test_b.py", "test_c.py"):
        (tmp_path / name).write_text(test)
    ours = [option for option in pytestconfig.getini("addopts") if "dist" in option or "loadscope" in option]
    options = [*ours, "-n", "2", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, *options, str(tmp_path)]
    variables = {**os.environ, "PYTEST_ADDOPTS": ""}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for path in tmp_path.glob("test_*.seen"):
        seen = path.read_text().split()
        assert len(seen) == 8
        assert len(set(seen)) == 1
