"""`--until-decided`: seeds are added where a comparison is open, and nowhere else."""

import dataclasses
from collections import Counter

import pytest
from msgspec.structs import replace

from lab.cli import commands
from lab.evidence.records import read, write_json
from lab.evidence.schemas import Evidence
from lab.report import published
from lab.report.report import Report
from tests.toys import dice, guess

FLAGS = ["--no-log"]


@pytest.fixture
def results(monkeypatch, tmp_path):
    """An empty folder of what is published."""
    folder = tmp_path / "results"
    monkeypatch.setattr(published, "RESULTS", folder)
    return folder


def measured(tmp_path, name, *flags, experiment=dice.EXPERIMENT):
    """The evidence of a run."""
    logs = tmp_path / name
    assert commands.run(experiment, [*FLAGS, "--logdir", str(logs), *flags]) == 0
    (path,) = logs.rglob("evidence.json")
    return read(path, Evidence)


def counts(found) -> Counter:
    return Counter(record.variant for record in found.records)


@pytest.fixture
def ten(results, tmp_path, started):
    """Ten seeds of all variants, published."""
    found = measured(tmp_path, "ten", "--seeds", "10")
    write_json(results / "dice" / "evidence.json", found)
    return found


def test_seeds_are_added_to_the_variants_of_open_comparisons_alone(ten, tmp_path, started):
    found = measured(tmp_path, "until", "--until-decided", "80")
    first = {judgement.claim.id: judgement.verdict for judgement in Report(dice.EXPERIMENT, ten, None).judgements()}
    assert first == {"D1": "holds", "D2": "open"}
    judgements = {judgement.claim.id: judgement for judgement in Report(dice.EXPERIMENT, found, None).judgements()}
    assert judgements["D1"].comparisons[0].n == 10
    last = judgements["D2"].comparisons[0].n
    assert last in (20, 40, 80)
    assert counts(found) == {"fair": last, "faint": last, "clear": 10, "unclaimed": 10}
    assert {(job.variants, job.seed) for job in started if job.seed <= 10 and "until" in job.folder} == set()


def test_what_a_plain_run_leaves_out_is_measured_and_listed(results, tmp_path, started):
    experiment = dataclasses.replace(dice.EXPERIMENT, left_out=("unclaimed",))
    found = measured(tmp_path, "until", "--until-decided", "10", experiment=experiment)
    assert counts(found) == dict.fromkeys(dice.VARIANTS, 10)
    assert found.variants == list(dice.VARIANTS)


def test_it_stops_at_the_most_that_was_said(ten, tmp_path):
    found = measured(tmp_path, "until", "--until-decided", "10")
    assert counts(found) == dict.fromkeys(dice.VARIANTS, 10)
    by_run = {(record.variant, record.seed): record.metrics for record in ten.records}
    assert {(record.variant, record.seed): record.metrics for record in found.records} == by_run


def test_without_anything_published_it_begins_with_the_first_seed(results, tmp_path, capsys):
    found = measured(tmp_path, "until", "--until-decided", "20")
    assert counts(found)["clear"] == 10
    assert "Begins with the first seed" in capsys.readouterr().out


def test_what_was_measured_elsewhere_is_not_gone_on_with(ten, results, tmp_path, capsys):
    write_json(results / "dice" / "evidence.json", replace(ten, machine=replace(ten.machine, cpu="abacus")))
    assert commands.run(dice.EXPERIMENT, [*FLAGS, "--logdir", str(tmp_path / "x"), "--until-decided", "20"]) == 2
    assert "measured on another machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--until-decided", "30"], "is one of the looks, 10, 20, 40, 80, and not 30"),
        (["--until-decided", "20", "--seeds", "10"], "chooses seeds and variants itself"),
        (["--until-decided", "20", "--variants", "fair"], "chooses seeds and variants itself"),
        (["--until-decided", "20", "--budget", "smoke"], "goes on from what is published"),
    ],
)
def test_what_it_has_no_use_for_is_refused(results, tmp_path, capsys, flags, sentence):
    assert commands.run(dice.EXPERIMENT, [*FLAGS, "--logdir", str(tmp_path), *flags]) == 2
    assert sentence in capsys.readouterr().err


def test_a_tuning_does_not_go_until_decided(results, tmp_path, capsys):
    flags = ["--tune", "--until-decided", "20", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, [*FLAGS, *flags]) == 2
    assert "leave --tune and --search out" in capsys.readouterr().err


@pytest.mark.parametrize("missing", [("clear", 3), ("faint", 15)])
def test_evidence_that_lacks_a_seed_is_not_whole(ten, tmp_path, missing):
    found = measured(tmp_path, "until", "--until-decided", "20")
    with pytest.raises(ValueError, match=f"seeds of {missing[0]}, from 1 on"):
        replace(found, records=[r for r in found.records if (r.variant, r.seed) != missing])
