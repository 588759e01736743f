"""What Markdown points to is there: files, headings within them, and commands that the code at hand understands."""

import ast
import functools
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

from lab.cli import commands as command_line
from lab.cli import cookbook, laboratory
from lab.experiments import load
from tests.conftest import ROOT

TRACKED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")[:-1]
PAGES = sorted(name for name in TRACKED if name.endswith(".md"))
NOTEBOOKS = sorted(name for name in TRACKED if name.endswith(".ipynb"))
OF_OTHERS = {"pip", "venv", "pytest", "ruff", "mypy"}  # Their flags are theirs to check.
QUICK = {("recipes",), ("lab", "status")}
MEANT = {"NAME": "optimizers", "RECIPE": "optimizers"}  # What stands for any recipe.


def text_of(page: str) -> str:
    """A page without its fenced blocks, in which nothing is a link."""
    return re.sub(r"(?ms)^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"))


def links(page: str) -> list[str]:
    """The targets of a page's links and pictures, those elsewhere on the net left out."""
    found = re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`\n]*`", "", text_of(page)))
    return [target for target in found if not re.match(r"[a-z]+://|mailto:", target)]


@functools.cache
def anchors(page: str) -> set[str]:
    """What GitHub calls the headings of a page in addresses: the second of the same words gets "-1", and so on.

    Other places have the names that the page gives them.
    """
    found = set(re.findall(r'<a id="([^"]+)"></a>', text_of(page)))
    for heading in re.findall(r"(?m)^#+ (.*)$", text_of(page)):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        number, name = 0, slug
        while name in found:
            number += 1
            name = f"{slug}-{number}"
        found.add(name)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(page):
    for target in links(page):
        name, _, anchor = urllib.parse.unquote(target).partition("#")
        path = (ROOT / page).parent.joinpath(name).resolve() if name else ROOT / page
        assert path.is_relative_to(ROOT), target
        found = str(path.relative_to(ROOT))
        assert found in TRACKED or any(other.startswith(f"{found}/") for other in TRACKED), target
        if anchor:
            assert anchor in anchors(found), target


def test_the_checks_find_what_is_wrong():
    assert anchors("README.md") >= {"recipes", "what-surprised-us"}
    assert anchors("results/README.md") >= {"by-keras-name", "o6b"}
    assert len({target for page in PAGES for target in links(page)}) > 80


def blocks(page: str, language: str = r"\w*") -> list[str]:
    """The fenced blocks of a page."""
    whole = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", whole)


def text_of_notebook(page: str) -> str:
    """What a notebook's text cells hold, and the lines of its code cells that are commands."""
    cells = json.loads((ROOT / page).read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
    code = [line for cell in cells if cell["cell_type"] == "code" for line in cell["source"]]
    return "\n".join([*texts, *(f"`{line[1:].strip()}`" for line in code if line.startswith("!"))])


def commands(page: str) -> list[list[str]]:
    """The words after each `python -m` of a page, in blocks of code and in the text."""
    is_notebook = page.endswith(".ipynb")
    whole = text_of_notebook(page) if is_notebook else (ROOT / page).read_text(encoding="utf-8")
    whole = whole.replace("\\\n", " ")
    found = [line for block in re.findall(r"(?ms)^```\w*\n(.*?)^```", whole) for line in block.splitlines()]
    found += [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", re.sub(r"(?ms)^```.*?^```", "", whole))]
    for line in found:
        for after in re.split(r"\bpython3? -m ", line)[1:]:
            ended = re.split(r" (?:&&|&|\||;|#)|[;&]$", re.sub(r" \[[^]]*\.\.\.\]", "", after))[0]
            ended = ended.replace(".NAME", ".optimizers")
            if ended.count("'") % 2:  # The second command within quotes.
                ended = ended.rstrip("'")
            yield [MEANT.get(word, word) for word in shlex.split(ended, comments=True)]


ALL = sorted(
    {tuple(words) for page in [*PAGES, *NOTEBOOKS] if not page.startswith("results/") for words in commands(page)}
)


def test_there_are_commands():
    assert len(ALL) > 40
    assert {words[0] for words in ALL} >= {"recipes", "recipes.optimizers", "lab", "pip", "pytest"}
    assert ("recipes.optimizers", "search", "bayesian", "--variants", "adam", "--trials", "12") in ALL  # Of a notebook.


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_is_understood(words, monkeypatch, tmp_path):
    module, *arguments = words
    assert importlib.util.find_spec(module) is not None
    if module in ("recipes", "lab"):
        called = []  # All that comes after the flags have been understood.
        for name in ("run_all", "show", "board", "benchmark", "status", "publish", "attest", "floors", "join"):
            for front in (cookbook, laboratory):
                if hasattr(front, name):
                    monkeypatch.setattr(front, name, stand_in(getattr(front, name), called))
        assert (laboratory if module == "lab" else cookbook).main(arguments) == 0
        assert len(called) == 1
    elif module.startswith("recipes.") and module.count(".") == 1:
        (tmp_path / "cats").mkdir()  # What is the reader's own.
        (tmp_path / "mine.py").write_text("def my_model(shape, classes): ...\n")
        own = {"folder:digits": f"folder:{tmp_path}", "mine.py:my_model": f"{tmp_path}/mine.py:my_model"}
        given = [own.get(argument, argument) for argument in arguments]
        experiment = load(module.rpartition(".")[2])
        if "--help" in given:
            with pytest.raises(SystemExit, match="0"):
                command_line.parse(experiment, given)
        else:
            command_line.parse(experiment, given)
    elif module not in OF_OTHERS:
        ours = ("pipelines.subset", "tests.browser", "tests.breaks", "tests.faults.kills")
        assert module in ours
        source = Path(importlib.util.find_spec(module).origin)
        source = source.with_name("__main__.py") if source.stem == "__init__" else source
        for flag in (argument for argument in arguments if argument.startswith("--")):
            assert re.search(rf"\b{flag[2:].replace('-', '_')}\b|{flag}", source.read_text(encoding="utf-8"))


def stand_in(function, called: list):
    """A function with the same signature, for tyro to read, which only notes that it was called."""

    @functools.wraps(function)
    def noted(*_, **__):
        called.append(function)
        return 0

    return noted


@pytest.mark.parametrize(
    "words", [("recipes", "run", "--no-such-flag=3"), ("lab", "publish", "--all"), ("recipes", "x")]
)
def test_a_command_that_is_wrong_is_found(words, capsys):
    assert (laboratory if words[0] == "lab" else cookbook).main(list(words[1:])) == 2


PYTHON = [(page, number) for page in PAGES for number in range(len(blocks(page, "python")))]


@pytest.mark.parametrize(("page", "number"), PYTHON)
def test_python_in_the_text_compiles_and_imports_what_there_is(page, number):
    tree = ast.parse(blocks(page, "python")[number])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert all(importlib.util.find_spec(name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), name.name


@functools.cache
def of_the_docs() -> dict[str, str]:
    """The examples of docs/your-data.md as files, by name."""
    names = ["write_digits.py", "mine.py", "predict.py", "example.py", "own.py", "by_keras.py"]
    return dict(zip(names, blocks("docs/your-data.md", "python"), strict=True))


@pytest.mark.processes
def test_the_example_of_measure_runs_as_a_script(tmp_path):
    """It has no main guard, and workers do not import it again."""
    (tmp_path / "example.py").write_text(of_the_docs()["example.py"])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count("optimizers at smoke: 2 seeds of adam, muon") == 1


@pytest.mark.processes
def test_the_digits_and_the_model_of_the_docs_are_measured(tmp_path):
    for name in ("write_digits.py", "mine.py"):
        (tmp_path / name).write_text(of_the_docs()[name])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run([sys.executable, "write_digits.py"]).returncode == 0
    (line,) = (line for line in blocks("docs/your-data.md", "console")[0].splitlines() if "recipes.optimizers" in line)
    few = ["--variants", "adam", "--seeds", "1", "--epochs", "1"]
    done = run([sys.executable, *line.removeprefix("$ python ").split(), *few])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "folder:digits" in (next_tune := re.search(r"python -m recipes.optimizers tune .*", done.stdout)[0])
    assert "mine.py:my_model" in next_tune
    saving = "\nmodel.save('models/muon-seed-301.keras')\nprint(model.evaluate(validation_set)[1])\n"
    (tmp_path / "own.py").write_text(of_the_docs()["own.py"] + saving)
    (tmp_path / "predict.py").write_text(of_the_docs()["predict.py"])
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "classes.json").write_text(json.dumps([str(digit) for digit in range(10)]))
    (tmp_path / "by_keras.py").write_text(of_the_docs()["by_keras.py"] + "\nprint(model.count_params())\n")
    done = run([sys.executable, "by_keras.py"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split()[-1]) > 1000
    done = run([sys.executable, "own.py"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert float(done.stdout.split()[-1]) > 0.9
    done = run([sys.executable, "predict.py"])
    assert done.returncode == 0, done.stdout + done.stderr
    digit, sure = done.stdout.split()[-2:]
    assert (digit, float(sure) > 0.5) == ("7", True)


@pytest.mark.processes
@pytest.mark.parametrize("words", [words for words in ALL if words in QUICK or "--help" in words], ids=" ".join)
def test_what_takes_seconds_is_run(words):
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout
    assert done.stderr == ""
