"""`extend`: seeds are added where a comparison is undecided and nowhere else, and occasions where times count."""

import dataclasses
from collections import Counter
from datetime import datetime, timedelta

import pytest
from msgspec import structs

from lab import stopping_rule
from lab.cli import commands
from lab.evidence import occasions
from lab.evidence.records import EvidenceError, read, write_json
from lab.evidence.schemas import Evidence
from lab.experiment import Unit
from lab.report import published
from lab.report.report import Report
from lab.statistics import undecided
from tests.toys import dice, made_up

FIRST = dice.EXPERIMENT.first_seed


@pytest.fixture
def results(monkeypatch, tmp_path):
    """An empty folder of what is published. Nothing is drawn, which takes longest."""
    monkeypatch.setattr(Report, "write_figure", lambda *_: None)
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


@pytest.mark.processes
def test_seeds_are_added_to_the_variants_of_open_comparisons_alone(ten, tmp_path, started):
    assert [id_ for id_, judgement in judged(ten).items() if undecided(judgement)] == ["D2"]
    found = measured(tmp_path / "until", "extend", "--to", "80")
    last = judged(found)["D2"].comparisons[0].n
    assert last in (20, 40, 80)
    assert judged(found)["D1"].comparisons[0].n == 10
    assert counts(found) == {"fair": last, "faint": last, "clear": 10, "unclaimed": 10}
    assert {job.seed for job in started} == set(range(FIRST + 10, FIRST + last))


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


@pytest.mark.processes
def test_seeds_from_another_machine_are_gone_on_with_and_noted(ten, results, tmp_path):
    elsewhere = structs.replace(ten, machine=structs.replace(ten.machine, cpu="abacus", abilities=["beads"]))
    write_json(results / "dice" / "evidence.json", elsewhere)
    found = measured(tmp_path / "until", "extend", "--to", "80")
    assert len(found.seeds) > 10
    assert found.elsewhere == {"abacus (beads)": ten.seeds}
    assert found.machine == ten.machine


@pytest.mark.parametrize("other", ["machine", "versions"])
def test_what_can_not_be_compared_is_not_gone_on_with(ten, results, tmp_path, capsys, monkeypatch, other):
    """Times of another machine, and anything of other versions."""
    changed = {"machine": structs.replace(ten.machine, cpu="abacus"), "versions": {**ten.versions, "keras": "2"}}
    write_json(results / "dice" / "evidence.json", structs.replace(ten, **{other: changed[other]}))
    monkeypatch.setattr(stopping_rule, "times_count", lambda _: other == "machine")
    assert commands.run(dice.EXPERIMENT, ["extend", "--no-log", "--logdir", str(tmp_path / "x")]) == 2
    assert ("on another machine" in capsys.readouterr().err) == (other == "machine")


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


@pytest.mark.parametrize("missing", [("clear", FIRST + 2), ("faint", FIRST + 14)])
def test_evidence_that_lacks_a_seed_is_not_whole(ten, tmp_path, missing):
    found = measured(tmp_path / "until", "extend", "--to", "20")
    without = [record for record in found.records if (record.variant, record.seed) != missing]
    write_json(tmp_path / "evidence.json", {**structs.asdict(found), "records": without})
    with pytest.raises(EvidenceError, match=missing[0]):
        read(tmp_path / "evidence.json", Evidence)


def test_where_both_arms_are_at_chance_no_seeds_are_added(results, tmp_path, started, monkeypatch, capsys):
    for name in dice.VARIANTS:
        monkeypatch.setitem(dice.VARIANTS, name, 0.08)
    found = measured(tmp_path / "until", "extend", "--to", "80")
    assert counts(found) == dict.fromkeys(dice.VARIANTS, 10)
    assert "10 seeds: undecided are D1, D2." in capsys.readouterr().out


# Occasions


TIMED = dataclasses.replace(dice.EXPERIMENT, units={"test_accuracy": Unit("time", timed=True)})


@pytest.fixture
def at(monkeypatch):
    """Set the clock that records are dated by, and the machine's name."""

    def set_to(when: str, name: str = "a") -> None:
        monkeypatch.setattr(occasions, "in_utc", lambda: datetime.fromisoformat(when))
        monkeypatch.setattr(stopping_rule, "in_utc", lambda: datetime.fromisoformat(when))
        monkeypatch.setattr(occasions.platform, "node", lambda: name)

    return set_to


def extended(results, logs) -> Evidence:
    """What `extend` finds, published."""
    found = measured(logs, "extend", experiment=TIMED)
    write_json(results / "dice" / "evidence.json", found)
    return found


@pytest.mark.variants
def test_each_extension_adds_an_occasion_of_all_variants_until_there_are_four(results, tmp_path, started, at, capsys):
    for number, when in enumerate(("2026-11-01T08:00", "2026-11-01T12:00", "2026-11-02T08:00", "2026-11-03T08:00"), 1):
        at(when)
        found = extended(results, tmp_path / str(number))
        assert found.seeds == list(range(FIRST, FIRST + 10 * number))
        assert counts(found) == dict.fromkeys(dice.VARIANTS, 10 * number)
        assert {job.seed for job in started} == set(found.seeds[-10:])
        assert {record.began for record in found.records if record.seed in found.seeds[-10:]} == {when}
        assert f"Occasion {number} of 4" in capsys.readouterr().out
        (first, _) = Report(TIMED, found, None).judgements
        assert first.comparisons[0].n == number
        assert (first.verdict == "undecided") == (number < 4)
        started.clear()
    at("2026-11-04T08:00")
    assert extended(results, tmp_path / "5").records == found.records
    assert "nothing is added" in capsys.readouterr().out
    assert not started


@pytest.mark.variants
def test_variants_that_only_train_belong_to_the_first_occasion(results, tmp_path, started, at, monkeypatch):
    monkeypatch.setitem(globals(), "TIMED", dataclasses.replace(TIMED, apart=("unclaimed",)))
    at("2026-11-01T08:00")
    first = extended(results, tmp_path / "first")
    assert counts(first) == dict.fromkeys(dice.VARIANTS, 10)
    started.clear()
    at("2026-11-01T12:00")
    second = extended(results, tmp_path / "second")
    assert counts(second) == dict.fromkeys(dice.VARIANTS, 20) | {"unclaimed": 10}
    assert {name for job in started for name in job.variants} == {*dice.VARIANTS} - {"unclaimed"}


@pytest.mark.variants
@pytest.mark.parametrize(
    ("when", "name", "code"), [("2026-11-01T09:59", "a", 2), ("2026-11-01T10:01", "a", 0), ("2026-11-01T08:30", "b", 0)]
)
def test_within_two_hours_on_the_same_machine_it_is_the_same_occasion(
    results, tmp_path, started, at, capsys, when, name, code
):
    at("2026-11-01T08:00")
    extended(results, tmp_path / "first")
    at(when, name)
    assert commands.run(TIMED, ["extend", "--no-log", "--logdir", str(tmp_path / "then")]) == code
    assert ("come back at 10:00 UTC" in capsys.readouterr().err) == bool(code)


def minutes(*of_seeds: int, host: str = "", first: int = 1, total: float = 60.0) -> list:
    """A record for each seed, begun so many minutes after noon."""
    noon = datetime(2026, 11, 1, 12)
    return [
        made_up.record(
            "a", seed, began=f"{noon + timedelta(minutes=after):%Y-%m-%dT%H:%M}", host=host, seconds={"total": total}
        )
        for seed, after in enumerate(of_seeds, start=first)
    ]


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (minutes(0, 1, 2), {1: 0, 2: 0, 3: 0}),
        (minutes(0, 120), {1: 0, 2: 0}),  # The first one ended a minute after noon.
        (minutes(0, 121), {1: 0, 2: 1}),
        (minutes(0, 121, total=3600.0), {1: 0, 2: 0}),
        (minutes(0, 30, 200, total=7200.0), {1: 0, 2: 0, 3: 0}),  # The second one ended 50 minutes before the third.
        (minutes(300, 0), {1: 1, 2: 0}),  # They are numbered as they began.
        (minutes(0, 100, 200, 300), dict.fromkeys((1, 2, 3, 4), 0)),  # No pause of two hours.
        ([*minutes(1, 3, host="x"), *minutes(0, 2, host="y", first=3)], {1: 1, 2: 1, 3: 0, 4: 0}),
        ([made_up.record("a", 1), made_up.record("a", 2)], {1: 0, 2: 0}),  # Older records do not say when.
        ([made_up.record("a", 1), *minutes(0, first=2)], {1: 0, 2: 1}),
        ([*minutes(0, 1), *minutes(150, first=1)], {1: 0, 2: 0}),  # Another variant of seed 1 came later.
        ([], {}),
    ],
)
def test_an_occasion_is_a_machine_and_a_stretch_without_a_pause_of_two_hours(records, expected):
    assert occasions.occasions_of(records) == expected
