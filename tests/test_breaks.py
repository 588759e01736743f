"""Tests that can fail: small breaks of the source, eight of the table drawn at random, must each be noticed."""

import random
from collections import Counter

import pytest

from lab.experiments import NAMES
from tests.breaks.__main__ import check
from tests.breaks.table import BREAKS
from tests.conftest import ROOT

DRAWN = 8


@pytest.mark.parametrize("number", range(len(BREAKS)))
def test_what_a_break_replaces_stands_where_it_says(number):
    row = BREAKS[number]
    assert (ROOT / row.file).read_text(encoding="utf-8").count(row.stands) == 1, row.stands
    file, _, name = row.noticed_by.partition("::")
    assert f"def {name}" in (ROOT / file).read_text(encoding="utf-8"), row.noticed_by
    assert row.stands != row.instead


def test_every_recipe_has_five_breaks_and_harness_and_pipelines_have_twenty():
    count = Counter(row.file for row in BREAKS)
    assert all(count[f"recipes/{name}.py"] >= 5 for name in NAMES)
    assert sum(n for file, n in count.items() if file.startswith(("lab", "pipelines"))) >= 20


@pytest.mark.breaks
def test_eight_breaks_drawn_at_random_are_noticed():
    assert check(random.sample(BREAKS, DRAWN), at_once=2) == []
