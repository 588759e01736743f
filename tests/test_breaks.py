"""Tests that can fail: small bugs, planted in copies of the source, must each be noticed."""

import re
from collections import Counter

import pytest

from lab.experiments import NAMES
from tests.breaks.planting import NOT_BY, complaint_about
from tests.breaks.row import Break
from tests.breaks.table import AREAS, BREAKS
from tests.conftest import DRAWN, DRAWS, ROOT, drawn_out


def named(rows: list[Break]) -> list:
    """Each row with a name that says its file, and how many of that file come before it."""
    seen: Counter[str] = Counter()
    found = []
    for row in rows:
        seen[row.file] += 1
        found.append(pytest.param(row, id=f"{row.file}:{seen[row.file]}"))
    return found


@pytest.mark.parametrize("row", named(BREAKS))
def test_what_a_break_replaces_stands_once_where_it_says(row):
    places = (ROOT / row.file).read_text(encoding="utf-8").count(row.stands)
    assert places == 1, row.stands
    file, _, name = row.noticed_by.partition("::")
    tests = re.findall(rf"def ({name.partition('[')[0]}\w*)", (ROOT / file).read_text(encoding="utf-8"))
    assert tests, row.noticed_by
    assert not all(any(word in test for word in NOT_BY) for test in tests), "a test of that name is never asked"
    assert row.stands != row.instead


def test_every_recipe_has_five_breaks_and_lab_and_pipelines_have_twenty_each():
    count = Counter(row.file for row in BREAKS)
    for name in NAMES:
        assert count[f"recipes/{name}.py"] + count[f"lab/experiments/{name}.py"] >= 5, name
    for folder in ("lab/", "pipelines/"):
        assert sum(number for file, number in count.items() if file.startswith(folder)) >= 20, folder


def test_the_rows_of_a_module_are_of_its_own_area():
    for module in AREAS:
        area = module.__name__.rpartition(".")[2]
        folders = {
            "recipes": ("recipes/", "lab/experiments/"),
            "pipelines": ("pipelines/",),
            "cli": ("lab/cli/", "benchmarks/"),
            "top": ("lab/",),
            "variants": ("lab/",),
        }
        for row in module.ROWS:
            assert row.file.startswith(folders.get(area, (f"lab/{area}/",))), row.file


@pytest.mark.breaks
@pytest.mark.parametrize("row", named(BREAKS))
def test_a_break_is_noticed(row):
    assert complaint_about(row) == ""


@pytest.mark.breaks
@pytest.mark.parametrize("row", named(BREAKS[::40]))
def test_a_copy_without_a_break_passes(row):
    assert "passed unseen" in complaint_about(row._replace(instead=row.stands))


def test_the_draws_share_out_what_is_slow_and_one_commit_draws_the_same_again():
    tests = [(f"{kind}[{number}]", kind) for kind in (*DRAWN, "") for number in range(5 * DRAWS)]
    kept = [{name for name, _ in tests} - set(drawn_out(tests, f"abc+{number}")) for number in range(DRAWS)]
    always = {name for name, kind in tests if not kind}
    assert set.union(*kept) == {name for name, _ in tests}
    assert sum(len(some - always) for some in kept) == len(tests) - len(always)
    assert all(always <= some for some in kept)
    for kind in DRAWN:
        assert {sum(name.startswith(kind) for name in some) for some in kept} == {5}
    assert drawn_out(tests, "abc") == drawn_out(tests, "abc+0") == drawn_out(tests, "abc")
    assert set(drawn_out(tests, "abc")) != set(drawn_out(tests, "def"))
