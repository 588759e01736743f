"""From logits to README: what is published of numbers worked out by hand. A sign flipped on the way is noticed."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from lab import Claim
from lab.core import scoring
from lab.report import front_page, ledger
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
    return Report(experiment, made_up.evidence(records), None).summary()


def interval() -> tuple[float, float, float]:
    """Mean and ends of the differences' interval, in points, by scipy: five claims, four looks."""
    differences = (np.array(RIGHT["clear"]) - np.array(RIGHT["fair"])) / IMAGES * 100
    assert differences[:3].tolist() == [30.0, 40.0, 25.0]  # (15 - 9) / 20, (16 - 8) / 20, (14 - 9) / 20.
    low, high = stats.t.interval(1 - 0.05 / 20, 9, differences.mean(), stats.sem(differences))
    return differences.mean(), low, high


def test_the_ledger_says_what_was_worked_out_by_hand(summary):
    mean, low, high = interval()
    assert mean == 32.5
    text = ledger.page({"dice": summary}).replace("\\", "")
    words = ("above fair", "below fair", "has the smaller gap", "is no worse", "is no better")
    verdicts = ("supported", "contradicted", "supported", "supported", "contradicted")
    for number, (said, verdict) in enumerate(zip(words, verdicts, strict=True), 1):
        (row,) = [row for row in text.splitlines() if row.startswith(f'| <a id="c{number}"></a>C{number} |')]
        shown = f"test accuracy: +32.5 points [+{low:.1f}, +{high:.1f}]"
        if number == 3:
            shown = f"train minus test accuracy: −32.5 points [−{high:.1f}, −{low:.1f}]"
        assert f"{said} (us). | **{verdict}** | {shown} |" in row


def test_programs_are_told_the_same_numbers(summary):
    mean, low, high = interval()
    rows = {row["id"]: [row[name] for name in ("effect", "low", "high")] for row in ledger.entries({"dice": summary})}
    assert rows["C1"] == rows["C2"] == pytest.approx([mean, low, high], rel=5e-5)  # To five digits.
    assert rows["C3"] == pytest.approx([-mean, -high, -low], rel=5e-5)


def test_readme_counts_and_lists_them(summary):
    assert ledger.totals({"dice": summary}).verdicts["contradicted"] == 2
    lines = front_page.surprises({"dice": summary}).replace("\\", "").splitlines()
    assert f"**contradicted**, test accuracy, clear minus fair: +32.5 points [+{interval()[1]:.1f}, " in lines[0]


@pytest.mark.parametrize(("elapsed", "seconds"), [(30.0, 9), (None, 3), (5.0, 3)])
def test_how_long_a_plain_run_takes_is_worked_out_by_hand(elapsed, seconds):
    """Of ten seeds of two variants, a second each, it is three: 6 s of 20 in 30 s, or 6 s on two cores.

    That all twenty took 5 s can't be: the command went on from others' runs.
    """
    records = [made_up.record(name, seed, seconds={"total": 1.0}) for name in RIGHT for seed in SEEDS]
    found = made_up.evidence(records, elapsed_seconds=elapsed)
    assert Report(dice.EXPERIMENT, found, None).quick_seconds() == seconds
