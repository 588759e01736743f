"""A first run is told the published answer, and whether its own numbers agree with it."""

import dataclasses
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from msgspec import structs
from scipy import stats

from lab.cli import commands
from lab.evidence.records import read, write_json
from lab.evidence.schemas import Evidence
from lab.experiment import Unit
from lab.experiments import sequential as sequential_experiment
from lab.report import published, replication
from lab.report.publishable import SUBSET_DIGEST
from lab.report.report import Report
from tests.toys import dice, made_up


def report(values: dict[str, list[float]], *, experiment=dice.EXPERIMENT, machine=made_up.MACHINE) -> Report:
    records = [
        made_up.record(name, seed, metrics={"test_accuracy": value, "log_time": value})
        for name, of_it in values.items()
        for seed, value in enumerate(of_it, start=1)
    ]
    return Report(experiment, made_up.evidence(records, machine=machine), None)


def test_the_chance_is_that_of_the_prediction_interval():
    old, new = [0.50, 0.52, 0.49, 0.51, 0.50, 0.48, 0.51, 0.52, 0.50, 0.49], [0.53, 0.55]
    (found,) = replication.agreement(report({"fair": new}), report({"fair": old}))
    spread = np.std(old, ddof=1)
    for error in (found.chance * 0.99, found.chance * 1.01):
        half = stats.t.ppf(1 - error / 2, 9) * spread * (1 / 10 + 1 / 2) ** 0.5
        inside = abs(np.mean(new) - np.mean(old)) <= half
        assert inside == (error < found.chance)


def test_new_seeds_agree_and_are_rarely_said_to_differ():
    rng, said = np.random.default_rng(3), 0
    for _ in range(1000):
        old = {name: list(rng.normal(0.5, 0.01, 10)) for name in dice.VARIANTS}
        new = {name: list(rng.normal(0.5, 0.01, 3)) for name in dice.VARIANTS}
        said += bool(replication.differing(replication.agreement(report(new), report(old))))
    assert said / 1000 <= 0.02


def test_a_difference_of_five_deviations_is_said_to_be_one():
    rng = np.random.default_rng(4)
    old = {name: list(rng.normal(0.5, 0.01, 10)) for name in dice.VARIANTS}
    new = {name: [0.5, 0.51, 0.49] for name in dice.VARIANTS} | {"clear": [0.44, 0.45, 0.46]}
    found = replication.agreement(report(new), report(old))
    assert [a.variant for a in replication.differing(found)] == ["clear"]
    first, second = replication.words(found, report(old))
    assert first == "Your runs differ from them:"
    assert "clear, test accuracy: 45.00 here" in second


def test_what_depends_on_the_machine_is_compared_on_one_kind_only():
    experiment = dataclasses.replace(
        dice.EXPERIMENT,
        claims=[dataclasses.replace(dice.CLAIMS[0], metric="log_time", delta=math.nan)],
        units={"log_time": Unit("time", timed=True)},
    )

    def timed(machine):
        return report({"fair": [0.5, 0.6], "clear": [0.5, 0.6]}, experiment=experiment, machine=machine)

    other = structs.replace(made_up.MACHINE, cpu="slide rule")
    both = {"test_accuracy", "log_time"}
    assert {a.metric for a in replication.agreement(timed(made_up.MACHINE), timed(made_up.MACHINE))} == both
    assert {a.metric for a in replication.agreement(timed(other), timed(made_up.MACHINE))} == {"test_accuracy"}


@pytest.fixture
def ten(monkeypatch, tmp_path, started):
    """Ten seeds of the toy, published."""
    experiment, config = dice.EXPERIMENT, dice.Config()
    records = [
        made_up.record(name, seed, metrics=dice.train(name, config, SimpleNamespace(seed=seed)))
        for seed in range(1, 11)
        for name in dice.VARIANTS
    ]
    origin = {"recipe": "dice", "code": experiment.code, "config": vars(config), "data_digest": SUBSET_DIGEST}
    monkeypatch.setattr(published, "RESULTS", tmp_path / "results")
    write_json(tmp_path / "results" / "dice" / "evidence.json", made_up.evidence(records, **origin))


def said(capsys, tmp_path, *flags) -> str:
    assert commands.run(dice.EXPERIMENT, ["--no-log", "--logdir", str(tmp_path / "here"), *flags]) == 0
    return capsys.readouterr().out


def test_a_plain_run_ends_with_the_published_answer_and_that_it_agrees(ten, tmp_path, capsys):
    text = said(capsys, tmp_path)
    answer, agrees, table = (
        text.index(words) for words in ("SUPPORTED: A loaded die", "Your runs agree", "Your runs, mean")
    )
    assert answer < agrees < table
    assert "UNDECIDED: A slightly loaded die wins" in text
    assert text.count("A loaded die wins") == 1  # Three seeds have no verdict of their own.


def test_a_plain_run_ends_with_the_answer_that_is_published_in_the_docstring(ten, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(dice, "__doc__", "Do loaded dice win?\n\nClear ones do,\nby 9 points.\n\nRun       it\n")
    monkeypatch.setattr(dice, "EXPERIMENT", dataclasses.replace(dice.EXPERIMENT, answer="By {test_accuracy.clear}."))
    assert "Clear ones do, by 9 points.\n" in said(capsys, tmp_path)


def test_claims_about_variants_that_were_not_run_are_named(ten, tmp_path, capsys):
    text = said(capsys, tmp_path, "--noise", "0.03", "--variants", "fair", "clear")
    assert "of 10 seeds): A loaded die wins" in text
    assert "  Not measured here: D2." in text


def test_ten_runs_that_differ_are_said_to_and_have_verdicts_of_their_own(ten, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(dice.VARIANTS, "clear", 0.3)
    text = said(capsys, tmp_path, "--seeds", "10")
    assert "Your runs differ from them:" in text
    assert "clear, test accuracy:" in text
    assert "CONTRADICTED: A loaded die wins [us]" in text


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--budget", "smoke"], "budget quick"),
        (["--noise", "0.03"], "you changed --noise"),
        (["--train-images", "1000"], "other images"),
    ],
)
def test_where_published_numbers_do_not_apply_it_says_why_and_has_verdicts_of_its_own(
    ten, tmp_path, capsys, flags, why
):
    text = said(capsys, tmp_path, *flags)
    assert why in text
    assert "of 10 seeds): A loaded die wins [us]" in text


def test_without_anything_published_it_says_so(started, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(published, "RESULTS", tmp_path)
    assert "nothing of dice is published yet" in said(capsys, tmp_path)


@pytest.mark.variants
@pytest.mark.parametrize("times", [1, 3])
def test_of_a_real_recipe_a_rate_times_three_differs(started, tmp_path, monkeypatch, times):
    """At other seeds than the published ones; no setting and no line of the recipe says that the rate was changed."""
    decay, experiment = keras.optimizers.schedules.CosineDecay, sequential_experiment.EXPERIMENT
    monkeypatch.setattr(keras.optimizers.schedules, "CosineDecay", lambda rate, **how: decay(times * rate, **how))
    flags = ["--variants", "convnet", "--seeds", "3", "--first-seed", "501", "--no-log", "--logdir", str(tmp_path)]
    assert commands.run(experiment, flags) == 0
    (path,) = tmp_path.rglob("evidence.json")
    ours, theirs = read(path, Evidence), published.Published.read(experiment).evidence
    found = replication.agreement(Report(experiment, ours, None), Report(experiment, theirs, None))
    assert bool(replication.differing(found)) == (times == 3), found
