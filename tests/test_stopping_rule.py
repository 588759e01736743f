"""`extend`: seeds are added where a comparison is undecided, and nowhere else."""

import dataclasses
from collections import Counter

import pytest
from msgspec import structs

from lab.cli import commands
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence
from lab.report import published
from lab.report.report import Report
from lab.statistics import undecided
from tests.toys import dice


@pytest.fixture
def results(monkeypatch, tmp_path):
    """An empty folder of what is published. Nothing is drawn, which takes longest."""
    monkeypatch.setattr(Report, "write_figures", lambda *_: None)
    folder = tmp_path / "results"
    monkeypatch.setattr(published, "RESULTS", folder)
    return folder


def measured(logs, *arguments, experiment=dice.EXPERIMENT) -> Evidence:
    """The evidence of a command."""
    assert commands.run(experiment, [*arguments, "--no-log", "--logdir", str(logs)]) == 0
    (path,) = logs.rglob("evidence.json")
    return read(path, Evidence)


def counts(found: Evidence) -> Counter:
    return Counter(record.variant for record in found.records)


def judged(found: Evidence) -> dict:
    return {judgement.claim.id: judgement for judgement in Report(dice.EXPERIMENT, found, None).judgements}


@pytest.fixture
def ten(results, tmp_path, started) -> Evidence:
    """Ten seeds of all variants, published."""
    found = measured(tmp_path / "ten", "--seeds", "10")
    write_json(results / "dice" / "evidence.json", found)
    started.clear()
    return found


def test_seeds_are_added_to_the_variants_of_open_comparisons_alone(ten, tmp_path, started):
    assert [id_ for id_, judgement in judged(ten).items() if undecided(judgement)] == ["D2"]
    found = measured(tmp_path / "until", "extend", "--to", "80")
    last = judged(found)["D2"].comparisons[0].n
    assert last in (20, 40, 80)
    assert judged(found)["D1"].comparisons[0].n == 10
    assert counts(found) == {"fair": last, "faint": last, "clear": 10, "unclaimed": 10}
    assert {job.seed for job in started} == set(range(11, last + 1))


def test_it_stops_at_the_most_that_was_asked_for(ten, tmp_path, started):
    found = measured(tmp_path / "until", "extend", "--to", "10")
    assert not started
    by_run = {(record.variant, record.seed): record.metrics for record in ten.records}
    assert {(record.variant, record.seed): record.metrics for record in found.records} == by_run


def test_what_a_plain_run_leaves_out_is_measured_from_the_first_seed_on(results, tmp_path, started, capsys):
    experiment = dataclasses.replace(dice.EXPERIMENT, left_out=("unclaimed",))
    found = measured(tmp_path / "until", "extend", "--to", "10", experiment=experiment)
    assert counts(found) == dict.fromkeys(dice.VARIANTS, 10)
    assert found.variants == list(dice.VARIANTS)
    assert "Nothing is published yet" in capsys.readouterr().out


def test_what_was_measured_elsewhere_is_not_gone_on_with(ten, results, tmp_path, capsys):
    elsewhere = structs.replace(ten, machine=structs.replace(ten.machine, cpu="abacus"))
    write_json(results / "dice" / "evidence.json", elsewhere)
    assert commands.run(dice.EXPERIMENT, ["extend", "--no-log", "--logdir", str(tmp_path / "x")]) == 2
    assert "another machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--to", "30"], "10, 20, 40, 80"),
        (["--seeds", "10"], "--seeds"),
        (["--variants", "fair"], "--variants"),
        (["--budget", "smoke"], "--budget"),
    ],
)
def test_what_it_has_no_use_for_is_refused(results, tmp_path, capsys, flags, named):
    assert commands.run(dice.EXPERIMENT, ["extend", "--logdir", str(tmp_path), *flags]) == 2
    assert named in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", [("clear", 3), ("faint", 15)])
def test_evidence_that_lacks_a_seed_is_not_whole(ten, tmp_path, missing):
    found = measured(tmp_path / "until", "extend", "--to", "20")
    without = [record for record in found.records if (record.variant, record.seed) != missing]
    write_json(tmp_path / "evidence.json", {**structs.asdict(found), "records": without})
    with pytest.raises(EvidenceError, match=missing[0]):
        read(tmp_path / "evidence.json", Evidence)
