"""What Markdown points to is there: files, headings within them, and commands that the code at hand understands."""

import functools
import importlib
import importlib.util
import re
import shlex
import subprocess
import urllib.parse
from pathlib import Path

import pytest

from lab.cli import commands as command_line
from lab.cli import cookbook as everything
from tests.conftest import ROOT

TRACKED = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")[:-1]
PAGES = sorted(name for name in TRACKED if name.endswith(".md"))
NOTEBOOKS = sorted(name for name in TRACKED if name.endswith(".ipynb"))
OF_OTHERS = {"pip", "venv", "pytest", "ruff", "mypy"}  # Their flags are theirs to check.
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
    """What GitHub calls the headings of a page in addresses: the second of the same words gets "-1", and so on."""
    found: set[str] = set()
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
    assert len({target for page in PAGES for target in links(page)}) > 80


def commands(page: str) -> list[list[str]]:
    """The words after each `python -m` of a page, in blocks of code and in the text."""
    whole = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    found = [line for block in re.findall(r"(?ms)^```\w*\n(.*?)^```", whole) for line in block.splitlines()]
    found += [span.replace("\n", " ") for span in re.findall(r"`([^`]+)`", re.sub(r"(?ms)^```.*?^```", "", whole))]
    for line in found:
        for after in re.split(r"\bpython3? -m ", line)[1:]:
            ended = re.split(r" (?:&&|&|\||;|#)|[;&]$", re.sub(r" \[[^]]*\.\.\.\]", "", after))[0]
            ended = ended.replace(".NAME", ".optimizers")
            if ended.count("'") % 2:  # Of a command within quotes, the second one.
                ended = ended.rstrip("'")
            yield [MEANT.get(word, word) for word in shlex.split(ended, comments=True)]


ALL = sorted({tuple(words) for page in PAGES for words in commands(page)})


def test_there_are_commands():
    assert len(ALL) > 60
    assert {words[0] for words in ALL} >= {"recipes", "recipes.optimizers", "pip", "pytest"}


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_is_understood(words, monkeypatch, tmp_path):
    module, *arguments = words
    assert importlib.util.find_spec(module) is not None
    if module == "recipes":
        for name in ("board", "carry_out", "run_all"):  # All that comes after the flags have been understood.
            monkeypatch.setattr(everything, name, lambda *_: 0)
        monkeypatch.setattr("benchmarks.throughput.main", lambda *_: 0)
        assert everything.main(arguments) == 0
    elif module.startswith("recipes.") and module.count(".") == 1:
        (tmp_path / "cats").mkdir()  # What is the reader's own.
        (tmp_path / "mine.py").write_text("def my_model(variant, data): ...\n")
        own = {"folder:digits": f"folder:{tmp_path}", "mine.py:my_model": f"{tmp_path}/mine.py:my_model"}
        given = [own.get(argument, argument) for argument in arguments]
        if given == ["--help"]:
            with pytest.raises(SystemExit, match="0"):
                command_line.parse(importlib.import_module(module).EXPERIMENT, given)
            return
        command_line.parse(importlib.import_module(module).EXPERIMENT, given)
    elif module not in OF_OTHERS:
        ours = ("pipelines.subset", "lab.search.supervise", "tests.breaks")
        assert module in (*ours, "tests.faults.kills", "tests.faults.load")
        source = Path(importlib.util.find_spec(module).origin)
        source = source.with_name("__main__.py") if source.stem == "__init__" else source
        for flag in (argument for argument in arguments if argument.startswith("--")):
            assert f'"{flag}"' in source.read_text(encoding="utf-8")
