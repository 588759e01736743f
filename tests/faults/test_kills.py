"""A few kills at random moments, the same each time; `python -m tests.faults.kills` does any number of them.

Those of searches are in test_search.py and test_searching.py, and those of a cluster in test_distributed.py.
"""

import random
from pathlib import Path

import pytest
from msgspec import structs

from lab.cli import commands
from lab.evidence.carry_over import differences
from tests.faults import kills
from tests.faults.kills import Kind, broken_files, finished_runs, killed, outcome, wrong_of
from tests.toys import guess, made_up, runner

SLOWLY = ("--jobs", "2", "--seconds")
TOYS = {
    "run": (guess.EXPERIMENT, Kind("tests.toys.guess", ("--seeds", "4", "--no-log", *SLOWLY, "0.2"), "evidence.json")),
    "tuning": (guess.EXPERIMENT, Kind("tests.toys.guess", ("tune", *SLOWLY, "0.1"), "tuning.json")),
    "trials": (
        runner.EXPERIMENT,
        Kind(
            "tests.toys.runner",
            ("search", "bayesian", "--variants", "fair", "--trials", "8", *SLOWLY, "0.2"),
            "search.json",
        ),
    ),
}


@pytest.mark.processes
@pytest.mark.parametrize("name", TOYS)
def test_what_is_killed_goes_on_to_the_same_end(name, tmp_path):
    experiment, kind = TOYS[name]
    chance = random.Random(name)
    assert commands.run(experiment, [*kind.flags, "--logdir", str(tmp_path / "whole")]) == 0
    whole, logs = outcome(kind, tmp_path / "whole"), tmp_path / "cut"
    runs = len(finished_runs(tmp_path / "whole"))
    first = chance.randrange(1, runs // 2)
    was_there, wrong = killed(
        kind.command(logs), chance.uniform(0, 0.2), begun=lambda: len(finished_runs(logs)) >= first
    )
    before = finished_runs(logs)
    assert was_there
    assert first <= len(before) < runs
    assert wrong + broken_files(logs) == []
    assert commands.run(experiment, [*kind.flags, "--logdir", str(logs), "--resume"]) == 0
    assert {path: finished_runs(logs)[path] for path in before} == before
    if kind.written == "evidence.json":
        assert differences(whole, outcome(kind, logs), experiment.timed) == []
    else:
        assert outcome(kind, logs) == whole


def test_what_is_wrong_after_a_kill_is_noticed(monkeypatch, tmp_path):
    """A run that was done twice, another number, a half file."""
    kind = Kind("recipes.sequential", (), "evidence.json")
    (tmp_path / "half.json").write_text('{"a": ')
    assert broken_files(tmp_path)
    one = made_up.record("linear", metrics={"test_accuracy": 0.4}, weights="1")
    for other in (
        made_up.record("linear", metrics={"test_accuracy": 0.5}, weights="1"),
        structs.replace(one, weights="2"),
    ):
        assert wrong_of(kind, [one], [other])
    assert not wrong_of(kind, [one], [one])
    monkeypatch.setattr(kills, "CHILDREN_END", 2.0)
    was_there, left = killed(["bash", "-c", "sleep 60 & sleep 60"], 0.5, Path("/"))
    assert was_there
    assert "is still there after" in left[0]
