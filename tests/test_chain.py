"""From logits to README: what is published of numbers worked out by hand. A sign flipped on the way is noticed."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from lab import Claim
from lab.core import scoring
from lab.report import front_page, publish
from lab.report.report import Report
from pipelines import sources
from tests.test_measures import Table, part
from tests.toys import dice, made_up

SEEDS = range(1, 11)
IMAGES = 20
# How many of twenty test images each variant gets right at each seed; of the training images, all.
RIGHT = {"clear": [14 + seed % 3 for seed in SEEDS], "fair": [8 + seed % 2 for seed in SEEDS]}


def metrics(right: int) -> dict[str, float]:
    """Two classes, images 0 to 19 of class 0: the first `right` of them have the larger logit for it."""
    test = part([0] * IMAGES)
    logits = [[1.0, 0.0] if number < right else [0.0, 1.0] for number in range(IMAGES)]
    train = dataclasses.replace(test, labels=np.array([0] * right + [1] * (IMAGES - right), np.int32))
    data = sources.Data(train, test, test, ("a", "b"), "0")
    return scoring.score(Table(logits), data, test).metrics


@pytest.fixture(scope="module")
def summary():
    claims = [
        Claim("C1", "Clear is above fair", "us", "test_accuracy", higher="clear", than="fair"),
        Claim("C2", "Clear is below fair", "us", "test_accuracy", lower="clear", than="fair"),
        Claim("C3", "Clear has the smaller gap", "us", "generalization_gap", lower="clear", than="fair"),
        Claim("C4", "Clear is no worse", "us", "test_accuracy", equal=("clear", "fair"), side="below"),
        Claim("C5", "Clear is no better", "us", "test_accuracy", equal=("clear", "fair"), side="above"),
    ]
    experiment = dataclasses.replace(dice.EXPERIMENT, claims=claims)
    records = [
        made_up.record(name, seed, metrics=metrics(right))
        for name, of_seeds in RIGHT.items()
        for seed, right in zip(SEEDS, of_seeds, strict=True)
    ]
    return publish.summary_of(Report(experiment, made_up.evidence(records), None))


def interval() -> tuple[float, float, float]:
    """Mean and ends of the differences' interval, in points, by scipy: five claims, four looks."""
    differences = (np.array(RIGHT["clear"]) - np.array(RIGHT["fair"])) / IMAGES * 100
    assert differences[:3].tolist() == [30.0, 40.0, 25.0]  # (15 - 9) / 20, (16 - 8) / 20, (14 - 9) / 20.
    low, high = stats.t.interval(1 - 0.05 / 20, 9, differences.mean(), stats.sem(differences))
    return differences.mean(), low, high


def test_the_ledger_says_what_was_worked_out_by_hand(summary):
    mean, low, high = interval()
    assert mean == 32.5
    shown = f"clear minus fair: +32.50 [{low:+.2f}, {high:+.2f}] points"
    text = front_page.ledger({"dice": summary}).replace("\\", "")
    for number, (words, verdict) in enumerate(
        [
            ("above fair", "supported"),
            ("below fair", "contradicted"),
            ("", ""),
            ("no worse", "supported"),
            ("no better", "contradicted"),
        ],
        1,
    ):
        if words:
            (row,) = [row for row in text.splitlines() if row.startswith(f"| C{number} |")]
            assert f"{words} (us). | **{verdict}** | test accuracy, {shown} |" in row
    (row,) = [row for row in text.splitlines() if row.startswith("| C3 |")]
    shown = f"clear minus fair: -32.50 [{-high:+.2f}, {-low:+.2f}] points"
    assert f"**supported** | train minus test accuracy, {shown} |" in row


def test_the_picture_is_turned_in_the_claims_direction(summary):
    mean, low, high = interval()  # In points, which are what matters.
    effects = {claim.id: [getattr(claim.effects[0], k) for k in ("mean", "low", "high")] for claim in summary.claims}
    for name in ("C1", "C3"):
        assert effects[name] == pytest.approx([mean, low, high])
    assert effects["C2"] == pytest.approx([-mean, -high, -low])


def test_readme_counts_and_lists_them(summary):
    assert front_page.totals({"dice": summary}).startswith(
        "1 recipe measures 5 claims: 3 are supported, 2 are contradicted."
    )
    first, second = front_page.surprises({"dice": summary}).replace("\\", "").splitlines()
    assert "“Clear is below fair” (us): **contradicted**, test accuracy, clear minus fair: +32.50" in first + second
    assert "32.5× the smallest effect that matters" in first


@pytest.mark.parametrize(("elapsed", "seconds"), [(30.0, 9), (None, 3), (5.0, 3)])
def test_how_long_a_plain_run_takes_is_worked_out_by_hand(elapsed, seconds):
    """Of ten seeds of two variants, a second each, it is three: 6 s of 20 in 30 s, or 6 s on two cores.

    That all twenty took 5 s can't be: the command went on from others' runs.
    """
    records = [made_up.record(name, seed, seconds={"total": 1.0}) for name in RIGHT for seed in SEEDS]
    found = made_up.evidence(records, elapsed_seconds=elapsed)
    assert Report(dice.EXPERIMENT, found, None).quick_seconds() == seconds
