"""A first run is told the published answer, and whether its own numbers agree with it."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from msgspec import structs
from scipy import stats

from lab.cli import commands
from lab.evidence.records import read_json, write_json
from lab.experiments import sequential as sequential_experiment
from lab.report import published, replication
from lab.report.report import Report
from tests.toys import dice, made_up

MACHINE = structs.replace(made_up.MACHINE, cpu="abacus")


def report(values: dict[str, list[float]], *, experiment=dice.EXPERIMENT, machine=MACHINE) -> Report:
    return Report(experiment, made_up.of_values(values, machine=machine), None)


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
    assert "by chance so far apart once in " in second


def test_what_depends_on_the_machine_is_compared_on_one_kind_only():
    experiment = dataclasses.replace(
        dice.EXPERIMENT, by_machine=True, claims=[dataclasses.replace(dice.CLAIMS[0], metric="log_time")]
    )

    def timed(machine):
        found = report({"fair": [0.5, 0.6], "clear": [0.5, 0.6]}, experiment=experiment, machine=machine)
        for record in found.records:
            record["metrics"]["log_time"] = record["metrics"]["test_accuracy"]
        return found

    other = structs.replace(MACHINE, cpu="slide rule")
    assert {a.metric for a in replication.agreement(timed(MACHINE), timed(MACHINE))} == {"test_accuracy", "log_time"}
    assert {a.metric for a in replication.agreement(timed(other), timed(MACHINE))} == {"test_accuracy"}


@pytest.fixture
def ten(monkeypatch, tmp_path, started, capsys):
    """Ten seeds of the toy, published."""
    folder = tmp_path / "results"
    monkeypatch.setattr(published, "RESULTS", folder)
    assert commands.run(dice.EXPERIMENT, ["--no-log", "--logdir", str(tmp_path / "ten"), "--seeds", "10"]) == 0
    (path,) = (tmp_path / "ten").rglob("evidence.json")
    write_json(folder / "dice" / "evidence.json", read_json(path))
    capsys.readouterr()
    return folder


def said(capsys, tmp_path, *flags) -> str:
    assert commands.run(dice.EXPERIMENT, ["--no-log", "--logdir", str(tmp_path / "here"), *flags]) == 0
    return capsys.readouterr().out


def test_a_plain_run_ends_with_the_published_answer_and_that_it_agrees(ten, tmp_path, capsys):
    text = said(capsys, tmp_path)
    answer, agrees, table = (
        text.index(words) for words in ("HOLDS: A loaded die wins", "Your runs agree", "Your runs, 3")
    )
    assert answer < agrees < table
    assert "OPEN: A slightly loaded die wins" in text
    assert text.count("A loaded die wins") == 1  # Three seeds have no verdict of their own.


def test_runs_that_differ_are_said_to(ten, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(dice.VARIANTS, "clear", 0.3)
    text = said(capsys, tmp_path)
    assert "Your runs differ from them:" in text
    assert "clear, test accuracy:" in text


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--budget", "smoke"], "it is of budget quick, and this is smoke"),
        (["--noise", "0.03"], "you changed --noise"),
        (["--train-images", "1000"], "it is of other images, or of another number or split of them"),
    ],
)
def test_where_published_numbers_do_not_apply_it_says_why_and_has_verdicts_of_its_own(
    ten, tmp_path, capsys, flags, why
):
    text = said(capsys, tmp_path, *flags)
    assert f"What is published does not apply: {why}." in text
    assert "D1  A loaded die wins [us]: OPEN" in text


def test_without_anything_published_it_says_so(ten, tmp_path, capsys):
    (ten / "dice" / "evidence.json").unlink()
    assert "does not apply: nothing of dice is published yet" in said(capsys, tmp_path)


def test_ten_seeds_have_verdicts_of_their_own_as_well(ten, tmp_path, capsys):
    text = said(capsys, tmp_path, "--seeds", "10")
    assert "D1  A loaded die wins [us]: HOLDS" in text
    assert json.dumps(text)


@pytest.mark.parametrize(("times", "words"), [(1, "Your runs agree with them"), (3, "Your runs differ from them:")])
def test_of_a_real_recipe_a_rate_times_three_differs(started, tmp_path, capsys, monkeypatch, times, words):
    """At other seeds than the published ones; no setting and no line of the recipe says that the rate was changed."""
    decay = keras.optimizers.schedules.CosineDecay
    monkeypatch.setattr(keras.optimizers.schedules, "CosineDecay", lambda rate, steps: decay(times * rate, steps))
    flags = ["--variants", "convnet", "--seeds", "3", "--first-seed", "501", "--no-log", "--logdir", str(tmp_path)]
    assert commands.run(sequential_experiment.EXPERIMENT, flags) == 0
    text = capsys.readouterr().out
    assert words in text, text
