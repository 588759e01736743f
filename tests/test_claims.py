"""Verdicts against scipy and by hand, and by simulation with a known truth."""

import dataclasses
import itertools
import math
import subprocess
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from lab import statistics
from lab.claims import Claim, families
from lab.evidence.provenance import ROOT
from lab.evidence.schemas import pack_bits
from lab.experiment import Unit
from lab.experiments import NAMES, load
from lab.report.published import Published
from lab.report.report import Report, weakest
from lab.smallest_effects import SMALLEST
from lab.statistics import judge
from tests.toys import dice, made_up


def values(**variants: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(numbers, start=1)) for name, numbers in variants.items()}


def claim(**kind: object) -> Claim:
    return Claim("C", "…", "…", "metric", **{"delta": 0.5, **kind})  # type: ignore[arg-type]


HIGHER = {"higher": "a", "than": "b"}
EQUAL = {"equal": ("a", "b")}


def differences(mean: float, n: int = 10, spread: float = 0.1) -> list[float]:
    """n numbers with exactly this mean and this standard deviation."""
    z = np.linspace(-1, 1, n)
    return list(mean + spread * z / z.std(ddof=1))


# What an interval says, at its edges too. δ is 0.5, and t is 2.
BEATS = [
    (1.0, 2.0, "supported", ""),
    (0.5, 1.0, "supported", ""),
    (0.499, 1.0, "supported", "may be small"),
    (0.1, 0.5, "supported", "may be small"),
    (0.1, 0.499, "no real difference", ""),
    (0.0, 1.0, "undecided", ""),
    (-0.4, 0.5, "undecided", ""),
    (-0.4, 0.499, "no real difference", ""),
    (-0.5, 0.4, "undecided", ""),
    (-0.4, -0.1, "no real difference", ""),
    (-1.0, 0.0, "undecided", ""),
    (-1.0, -0.001, "contradicted", ""),
    (-2.0, -1.0, "contradicted", ""),
]
NO_WORSE = [
    (-0.499, 1.0, "supported", ""),
    (0.1, 1.0, "supported", ""),
    (-0.4, -0.1, "supported", ""),
    (-0.5, 1.0, "undecided", ""),
    (-1.0, 0.0, "undecided", ""),
    (-1.0, -0.001, "undecided", "worse, perhaps by less than δ"),
    (-1.0, -0.5, "undecided", "worse, perhaps by less than δ"),
    (-1.0, -0.501, "contradicted", ""),
]
ALIKE = [
    (-0.499, 0.499, "supported", ""),
    (0.1, 0.4, "supported", ""),
    (-0.5, 0.4, "undecided", ""),
    (-0.4, 0.5, "undecided", ""),
    (0.5, 1.0, "undecided", ""),
    (0.501, 1.0, "contradicted", ""),
    (-1.0, -0.5, "undecided", ""),
    (-1.0, -0.501, "contradicted", ""),
]
AT_LEAST = [
    (2.0, 3.0, "supported", ""),
    (1.999, 3.0, "undecided", ""),
    (1.0, 2.0, "undecided", ""),
    (1.0, 1.999, "contradicted", ""),
    (0.1, 0.2, "contradicted", ""),
    (-0.1, 0.1, "contradicted", ""),  # There is no "no real difference" from a threshold.
]
KINDS = [
    (HIGHER, BEATS),
    ({"lower": "a", "than": "b"}, BEATS),
    ({"rising": {"a": 1.0, "b": 2.0}}, BEATS),
    ({**EQUAL, "side": "below"}, NO_WORSE),
    (
        {**EQUAL, "side": "above"},
        [(-high, -low, word, note.replace("worse", "higher")) for low, high, word, note in NO_WORSE],
    ),
    (EQUAL, ALIKE),
    ({**HIGHER, "at_least": 2.0}, AT_LEAST),
    ({"falling": {"a": 1.0, "b": 2.0}, "at_least": 2.0}, AT_LEAST),
]


@pytest.mark.parametrize(
    ("kind", "low", "high", "word", "note"), [(kind, *row) for kind, rows in KINDS for row in rows]
)
def test_what_an_interval_says_of_each_kind_of_claim_at_its_edges_too(kind, low, high, word, note):
    assert statistics._read(claim(**kind), low, high) == (word, note)


def test_a_count_that_is_just_as_large_as_claimed_is_at_least_that():
    assert math.log(700) - math.log(100) < math.log(7)  # By a rounding error.
    counts = values(a=[math.log(700)] * 10, b=[math.log(100)] * 10)
    seventh = claim(lower="b", than="a", at_least=math.log(7), exact=True)
    assert judge(seventh, counts, 1).verdict == "supported"
    assert judge(dataclasses.replace(seventh, at_least=math.log(7.001)), counts, 1).verdict == "contradicted"


def test_the_interval_is_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 10), rng.normal(0, 1, 10)
    found = judge(claim(**HIGHER), values(a=list(a), b=list(b)), 6)
    expected = stats.ttest_rel(a, b).confidence_interval(1 - 0.05 / 4 / 6)
    (comparison,) = found.comparisons
    assert (comparison.low, comparison.high) == pytest.approx((expected.low, expected.high))
    assert comparison.mean == pytest.approx((a - b).mean())
    assert found.level == pytest.approx(1 - 0.05 / 4 / 6)


def test_a_comparison_has_the_standard_deviation_of_its_differences():
    kinds = values(a=differences(1.0, spread=0.3), b=[0.0] * 10)
    assert judge(claim(**HIGHER), kinds, 1).comparisons[0].spread == pytest.approx(0.3)
    assert judge(claim(**HIGHER), values(a=[0.0, 2.0], b=[0.0, 0.0]), 1).comparisons[0].spread == pytest.approx(2**0.5)
    assert judge(claim(**HIGHER), values(a=[0.0], b=[0.0]), 1).comparisons[0].spread is None


def test_lower_is_the_mirror_image_of_higher():
    a, b = differences(-2.0), [0.0] * 10
    assert judge(claim(lower="a", than="b"), values(a=a, b=b), 1).verdict == "supported"
    assert judge(claim(**HIGHER), values(a=a, b=b), 1).verdict == "contradicted"


@pytest.mark.parametrize(("side", "verdict"), [("below", "supported"), ("above", "contradicted")])
def test_no_worse_is_about_the_side_that_is_named(side, verdict):
    found = judge(claim(**EQUAL, side=side), values(a=differences(2.0), b=[0.0] * 10), 1)
    assert (found.verdict, found.comparisons[0].mean) == (verdict, pytest.approx(2.0))


def test_an_interval_that_covers_both_zero_and_what_matters_is_undecided():
    found = judge(claim(**HIGHER), values(a=differences(0.4, spread=1.0), b=[0.0] * 10), 6)
    assert (found.verdict, found.comparisons[0].n) == ("undecided", 10)
    assert statistics.undecided(found) == found.comparisons


@pytest.mark.parametrize(("direction", "verdict"), [("rising", "supported"), ("falling", "contradicted")])
def test_trend_tests_the_paired_slope(direction, verdict):
    x = {"a": 1.0, "b": 2.0, "c": 4.0}
    rng = np.random.default_rng(1)
    levels = rng.normal(0, 5, 10)  # A level of its own for each seed is no trend.
    noise = rng.normal(0, 0.05, (10, 3))
    y = values(**{name: list(levels + 2 * at + noise[:, i]) for i, (name, at) in enumerate(x.items())})
    found = judge(claim(**{direction: x}), y, 1)
    slopes = [stats.linregress(list(x.values()), [y[name][seed] for name in x]).slope for seed in range(1, 11)]
    sign = 1 if direction == "rising" else -1
    assert found.comparisons[0].mean == pytest.approx(sign * np.mean(slopes))
    assert found.verdict == verdict


# Before the table.


def test_fewer_than_ten_seeds_are_no_verdict_however_clear_they_look():
    found = judge(claim(**HIGHER), values(a=differences(5.0, 9), b=[0.0] * 9), 1)
    (comparison,) = found.comparisons
    assert (found.verdict, comparison.n, comparison.note) == ("undecided", 9, "9 of 10 seeds")
    assert comparison.low > 0.5
    exact = judge(claim(**HIGHER, exact=True), values(a=[100.0] * 9, b=[0.0] * 9), 1)
    assert (exact.verdict, exact.comparisons[0].note) == ("undecided", "9 of 10 seeds")
    table = judge(claim(**HIGHER), values(a=differences(5.0, 9), b=[0.0] * 9), 1, looks=(9,))
    assert (table.verdict, table.comparisons[0].note) == ("undecided", "9 of 10 seeds")


@pytest.mark.parametrize(("n", "note"), [(0, "0 of 10 seeds"), (1, "1 of 10 seeds")])
def test_one_seed_and_none_say_how_many_there_are(n, note):
    (comparison,) = judge(claim(**HIGHER, exact=True), values(a=[100.0] * n, b=[0.0] * n), 1).comparisons
    assert (comparison.word, comparison.n, comparison.note) == ("undecided", n, note)


def test_differences_that_are_all_equal_are_undecided_unless_exact():
    data = values(a=[0.1 + 3.0] * 10, b=[0.1] * 10)
    found = judge(claim(**HIGHER), data, 1)
    assert (found.verdict, found.comparisons[0].note) == ("undecided", "the same difference at every seed")
    assert not statistics.undecided(found)  # More seeds would not help.
    assert judge(claim(**HIGHER, exact=True), data, 1).verdict == "supported"
    assert judge(claim(**EQUAL, exact=True), data, 1).verdict == "contradicted"


GUESS = [0.1, 0.1, 0.11, 0.1, 0.12, 0.1, 0.6, 0.6, 0.6, 0.6]  # Six of ten at chance.
HALF = [0.1, 0.1, 0.11, 0.1, 0.12, 0.5, 0.6, 0.6, 0.6, 0.6]
BETTER = [0.15 + x / 1000 for x in range(10)]  # 1.5 times chance is none.


@pytest.mark.parametrize(
    ("a", "b", "chance", "note"),
    [
        (GUESS, GUESS[::-1], 0.1, "both mostly at chance accuracy"),
        (GUESS, HALF, 0.1, ""),
        (HALF, GUESS, 0.1, ""),
        (GUESS, BETTER, 0.1, ""),
        (GUESS, GUESS[::-1], 0.0, ""),  # No accuracy.
        ([0.56, 0.58] * 5, [0.7, 0.71] * 5, 0.5, ""),  # Of two classes 75 % would be much.
        ([0.54, 0.53] * 5, [0.54, 0.55] * 5, 0.5, ""),
        ([0.54, 0.53] * 5, [0.52, 0.51, 0.52] * 3 + [0.5], 0.5, "both mostly at chance accuracy"),
    ],
)
def test_where_both_arms_are_mostly_at_chance_nothing_can_be_told(a, b, chance, note):
    (comparison,) = judge(claim(**HIGHER, delta=0.001), values(a=a, b=b), 1, chance=chance).comparisons
    assert comparison.note == note or (not note and comparison.note == "may be small")


def test_arms_at_chance_have_no_verdict_though_they_differ_clearly():
    a, b = [0.14, 0.141] * 5, [0.1, 0.102, 0.1, 0.101, 0.1] * 2
    sure = judge(claim(**HIGHER, delta=0.01), values(a=a, b=b), 1)
    assert sure.verdict == "supported"
    found = judge(claim(**HIGHER, delta=0.01), values(a=a, b=b), 1, chance=0.1)
    assert found.verdict == "undecided"
    assert not statistics.undecided(found)


def test_a_diverged_run_counts_and_unpaired_seeds_do_not():
    a = values(a=[*differences(0.65, 10, 0.01), 0.1])["a"]  # The eleventh seed diverged: chance.
    b = values(b=[*differences(0.60, 10, 0.01), 0.6])["b"]
    del a[1]
    with_it = judge(claim(**HIGHER, delta=0.01), {"a": a, "b": b}, 1)
    assert (with_it.verdict, with_it.comparisons[0].n) == ("undecided", 10)
    assert with_it.comparisons[0].mean == pytest.approx(np.mean([a[seed] - b[seed] for seed in a]))


# Looks.


def noisy(mean: float, n: int, spread: float = 1.0) -> list[float]:
    """Numbers whose first ten, twenty and so on have about this mean and spread."""
    return [mean + spread * (1 if seed % 2 else -1) for seed in range(n)]


def test_a_comparison_keeps_the_word_of_the_look_that_decided_it():
    decided = [*differences(2.0), *[-50.0] * 30]  # What comes after the first look is not looked at.
    found = judge(claim(**HIGHER), values(a=decided, b=[0.0] * 40), 1)
    assert (found.verdict, found.comparisons[0].n, found.comparisons[0].mean) == ("supported", 10, pytest.approx(2.0))


def test_what_is_undecided_at_one_look_may_be_decided_at_the_next_and_not_in_between():
    a = noisy(0.9, 40)
    for n, word, look in ((10, "undecided", 10), (19, "undecided", 10), (20, "supported", 20), (40, "supported", 20)):
        found = judge(claim(**HIGHER, delta=0.8), values(a=a[:n], b=[0.0] * n), 1)
        assert (found.verdict, found.comparisons[0].n) == (word, look), n


def test_looks_of_a_table_are_one_and_its_level_is_not_shared():
    data = values(a=differences(2.0, 50), b=[0.0] * 50)
    found = judge(claim(**HIGHER), data, 3, looks=(50,))
    assert (found.comparisons[0].n, found.level) == (50, pytest.approx(1 - 0.05 / 3))


# Several comparisons, several claims.


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ("supported supported", "supported"),
        ("supported contradicted", "contradicted"),
        ("undecided contradicted", "contradicted"),
        ("no real difference,contradicted", "contradicted"),
        ("supported undecided", "undecided"),
        ("no real difference,undecided", "undecided"),
        ("no real difference,supported", "no real difference"),
        ("no real difference,no real difference", "no real difference"),
    ],
)
def test_a_claim_of_several_comparisons(parts, verdict):
    words = parts.split("," if "," in parts else " ")
    far = {"supported": -2.0, "contradicted": 2.0, "no real difference": 0.0, "undecided": 0.5}
    b, c = (differences(far[word], spread=1.0 if word == "undecided" else 0.1) for word in words)
    found = judge(claim(higher="a", than=("b", "c")), values(a=[0.0] * 10, b=b, c=c), 6)
    assert [comparison.word for comparison in found.comparisons] == words
    assert (found.verdict, found.level) == (verdict, pytest.approx(1 - 0.05 / 4 / 6))  # Each at the claim's level.
    assert statistics.verdict_of(reversed(words)) == verdict


def test_more_seeds_are_for_comparisons_that_the_verdict_hangs_on():
    zero, unclear = [0.0] * 10, differences(0.5, spread=1.0)
    several = claim(higher="a", than=("b", "c"))
    found = judge(several, values(a=zero, b=differences(-2.0), c=unclear), 1)
    assert [comparison.between for comparison in statistics.undecided(found)] == [("a", "c")]
    assert not statistics.undecided(judge(several, values(a=zero, b=differences(2.0), c=unclear), 1))


def test_of_many_comparisons_the_weakest_is_shown_where_room_is_short():
    names = ("a", "b", "c", "d", "e")
    found = {name: [i * 0.1] * 10 for i, name in enumerate(names)}
    alike = judge(claim(equal=names, exact=True, delta=1.0), values(**found), 1)
    assert [comparison.between for comparison in weakest(alike)] == [("a", "e")]
    beyond = judge(claim(higher=names[1:], than="a", exact=True, delta=0.01), values(**found), 1)
    assert weakest(beyond) == beyond.comparisons  # Four are few.
    five = judge(
        claim(higher=("b", "c", "d", "e", "f"), than="a", exact=True, delta=0.01), values(**found, f=[0.05] * 10), 1
    )
    assert [comparison.between for comparison in weakest(five)] == [("f", "a")]


MANY = [
    claim(**HIGHER),
    claim(**EQUAL),
    claim(higher="a", than=("b", "c")),
    claim(**HIGHER, check=True),
    Claim("P", "2 + 2 = 4", "us", asserted=True),
    claim(**HIGHER, family="later"),
]


def test_checks_and_claims_that_were_added_later_are_families_of_their_own():
    found = families(MANY)
    assert {key: len(claims) for key, claims in found.items()} == {(False, ""): 3, (True, ""): 1, (False, "later"): 1}
    experiment = dataclasses.replace(dice.EXPERIMENT, variants=("a", "b", "c"), claims=MANY)
    evidence = made_up.of_values({"a": differences(5.0), "b": [0.0] * 10, "c": [1.0] * 10}, "metric")
    levels = [judgement.level for judgement in Report(experiment, evidence, None).judgements]
    assert levels == pytest.approx([*[1 - 0.05 / 12] * 3, 1 - 0.05 / 4, 1.0, 1 - 0.05 / 4])


def test_what_is_asserted_is_a_check_that_needs_no_run():
    assert MANY[4].check
    assert judge(MANY[4], {}, 0).verdict == "supported"
    assert judge(Claim("P", "2 + 2 = 5", "us", asserted=False), {}, 0).verdict == "contradicted"


def test_what_is_asserted_may_be_a_function_that_is_asked_when_the_verdict_is_read():
    asked = []
    claim = Claim("P", "2 + 2 = 4", "us", asserted=lambda: bool(asked.append(1)))
    assert not asked
    assert judge(claim, {}, 0).verdict == "contradicted"
    assert judge(dataclasses.replace(claim, asserted=lambda: True), {}, 0).verdict == "supported"


def test_the_expected_number_of_false_verdicts_is_worked_out_by_hand():
    # Three claims share 5 %, one of them with two parts: 1.5 times its share. The one that came later has 5 %.
    assert statistics.expected_false_verdicts(MANY) == pytest.approx(0.05 / 3 * (1 + 1 + 1.5) + 0.05)
    assert statistics.expected_false_verdicts([MANY[3], MANY[4]]) == 0.0


@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"higher": "a"},
        {"higher": "a", "than": "b", "equal": ("a", "b")},
        {"equal": ("a",)},
        {"equal": ("a", "b", "c"), "side": "below"},
        {**EQUAL, "at_least": 0.1},
        {**HIGHER, "at_least": math.nan},
        {**HIGHER, "delta": -1},
        {**HIGHER, "delta": 0.0},
        {**HIGHER, "delta": math.nan},
        {**HIGHER, "metric": "test_accuracy"},  # It has another delta in the table.
    ],
)
def test_a_claim_must_make_one_comparison_with_the_metrics_own_delta(kind):
    with pytest.raises(ValueError, match="Claim C"):
        Claim("C", "…", "…", **{"metric": "metric", "delta": 0.5, **kind})


def test_a_metric_of_the_table_has_the_tables_delta():
    found = Claim("C", "…", "…", "test_accuracy", **HIGHER)
    assert found.delta == SMALLEST["test_accuracy"][0] == 0.01
    assert dataclasses.replace(found, text="Other words").delta == 0.01


def deltas_at(commit: str) -> dict[str, float]:
    """Metric -> the smallest effect that matters, as it was at a commit; empty where the table stood elsewhere."""
    asked = ["git", "show", f"{commit}:lab/smallest_effects.py"]
    found = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)
    rows: dict[str, Any] = {"SMALLEST": {}}
    exec(found.stdout, rows)
    return {metric: delta for metric, (delta, _) in rows["SMALLEST"].items()}


def newer(claims: Iterable[Claim], then: dict[str, float]) -> list[str]:
    """The metrics that claims are about whose smallest effect was not what it is now."""
    return sorted({one.metric for one in claims if one.metric in SMALLEST and then.get(one.metric) != one.delta})


def test_no_delta_is_newer_than_the_evidence_that_it_is_applied_to():
    wrong = {}
    for name in NAMES:
        if (ROOT / "results" / name / "evidence.json").exists():
            found = Published.read(experiment := load(name))
            if found.evidence and not found.stale and (then := deltas_at(str(found.evidence.commit))):
                wrong[name] = newer(experiment.claims, then)
    assert not {name: metrics for name, metrics in wrong.items() if metrics}, "measure again, at fresh seeds"


def test_a_delta_that_was_changed_or_added_is_noticed():
    now = Claim("C", "…", "…", "test_accuracy", **HIGHER)
    assert newer([now, claim(**HIGHER)], {"test_accuracy": 0.01}) == []
    assert newer([now], {"test_accuracy": 0.02}) == newer([now], {"log_time": 0.05}) == ["test_accuracy"]
    if (ROOT / ".git").exists():
        assert newer([now], deltas_at("")) == []  # As it stands in git's index: a fresh clone may have no commit.


# Test images.


def bits(a: np.ndarray, b: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
    return {name: dict(enumerate(found, start=1)) for name, found in {"a": a, "b": b}.items()}


def shares(correct) -> dict[str, dict[int, float]]:
    return {name: {seed: float(of.mean()) for seed, of in found.items()} for name, found in correct.items()}


def test_the_test_sets_part_of_the_variance_is_worked_out_by_hand():
    a = np.array([[1, 1, 0, 0], [1, 1, 1, 0]], bool)
    correct = bits(a, np.zeros((2, 4), bool))
    (found,) = judge(claim(**HIGHER), shares(correct), 1, correct=correct).comparisons
    # Seeds: 1/2 and 3/4, so s² = 1/32 and s²/n = 1/64. Images: 1, 1, 1/2 and 0 about 5/8, so v = 11/48. What is left
    # after seed and image is 1/8 six times, 3/8 twice: 3/8 with 1 · 3 degrees of freedom, so w = 1/8, w/(nN) = 1/64.
    terms = {1 / 64: 1, 11 / 48 / 4: 3, -1 / 64: 3}
    variance = sum(terms)
    freedom = variance**2 / (1 / 64**2 / 1 + (11 / 192) ** 2 / 3 + 1 / 64**2 / 3)
    half = stats.t.ppf(1 - 0.05 / 4 / 2, freedom) * variance**0.5
    assert (found.low, found.mean, found.high) == pytest.approx((5 / 8 - half, 5 / 8, 5 / 8 + half))


def crossed(rng, seeds: int, images: int, of_images: float, run: float = 0.2):
    """bool (2, seeds, images) with random effects of seeds and images, and the true difference of the shares.

    An image is as hard for both variants, and harder for one of them by `of_images`, at every seed.
    """
    means, shared = np.array([0.9, 0.6]), rng.normal(0, 1, images)
    own = rng.normal(0, of_images, (2, 1, images))
    rest = rng.normal(0, run, (2, seeds, 1)) + rng.normal(0, 1, (2, seeds, images))
    score = means[:, None, None] + shared + own + rest
    truth = special.ndtr(means / math.sqrt(1 + of_images**2 + run**2 + 1))
    return score > 0, float(truth[0] - truth[1])


@pytest.mark.parametrize(("of_images", "naive_misses"), [(1.0, 0.15), (0.0, 0.03)])
def test_intervals_cover_the_truth_over_seeds_and_images_and_those_of_seeds_alone_do_not(of_images, naive_misses):
    rng, repeats, missed, naive, wider = np.random.default_rng(2), 1500, 0, 0, 0
    for _ in range(repeats):
        found, truth = crossed(rng, 10, 500, of_images, run=0.05)
        correct = bits(*found)
        with_images, without = (
            judge(claim(**HIGHER), shares(correct), 1, looks=(10,), correct=given).comparisons[0]
            for given in (correct, None)
        )
        missed += not with_images.low <= truth <= with_images.high
        naive += not without.low <= truth <= without.high
        wider += with_images.high - with_images.low > without.high - without.low
    assert missed / repeats == pytest.approx(0.05, abs=0.02)
    assert naive / repeats > naive_misses
    assert wider / repeats > (0.99 if of_images else 0.3)


def test_a_run_without_bits_leaves_the_images_part_to_the_other_seeds():
    found, _ = crossed(np.random.default_rng(3), 10, 500, 1.0)
    correct = bits(*found)
    accuracy = shares(correct)
    accuracy["a"][4] = 0.1  # It diverged.
    del correct["a"][4]
    (some,) = judge(claim(**HIGHER), accuracy, 1, correct=correct).comparisons
    (none,) = judge(claim(**HIGHER), accuracy, 1).comparisons
    assert some.n == 10
    assert some.high - some.low > none.high - none.low
    assert judge(claim(**HIGHER), accuracy, 1, correct={"b": correct["b"]}).comparisons == (none,)


def test_a_slope_of_two_points_has_the_interval_of_their_difference():
    found, _ = crossed(np.random.default_rng(4), 10, 200, 1.0)
    correct = bits(*found)
    (slope,) = judge(claim(rising={"b": 3.0, "a": 5.0}), shares(correct), 1, correct=correct).comparisons
    (apart,) = judge(claim(**HIGHER), shares(correct), 1, correct=correct).comparisons
    assert (2 * slope.low, 2 * slope.high) == pytest.approx((apart.low, apart.high))


def test_a_report_takes_the_bits_of_test_accuracy_and_of_nothing_else():
    found, _ = crossed(np.random.default_rng(5), 10, 200, 1.0)
    correct = bits(*found)
    records = [
        made_up.record(name, seed, correct=pack_bits(of), metrics={"test_accuracy": of.mean(), "metric": of.mean()})
        for name, of_seeds in correct.items()
        for seed, of in of_seeds.items()
    ]
    claims = [Claim("T", "…", "…", "test_accuracy", **HIGHER), claim(**HIGHER)]
    experiment = dataclasses.replace(dice.EXPERIMENT, variants=("a", "b"), claims=claims)
    report = Report(experiment, made_up.evidence(records, test_images=200), None)
    (accuracy,), (other,) = (judgement.comparisons for judgement in report.judgements)
    (expected,) = judge(claims[0], shares(correct), 2, correct=correct).comparisons
    assert accuracy == expected
    assert other.high - other.low < accuracy.high - accuracy.low


# Timings.

TIMED = {"lower": "a", "than": "b", "delta": 0.05}


def timed(*of_occasions: list[float], pause: float = 0.0):
    """Logarithms of times whose ratios, b against a, are these in each occasion; and seed -> occasion."""
    ratios = list(itertools.chain(*of_occasions))
    numbers = [when for when, of_it in enumerate(of_occasions) for _ in of_it]
    return values(a=[0.0] * len(ratios), b=ratios), dict(enumerate(numbers, start=1))


MEANS = (0.2, 0.3, 0.25, 0.35)
WITHIN = [-0.01, 0.02, -0.01, 0.0, 0.01, -0.02, 0.01, 0.0, 0.01, -0.01]


def test_of_timings_the_interval_is_over_the_means_of_four_occasions():
    data, occasions = timed(*([mean + x for x in WITHIN] for mean in MEANS))
    found = judge(claim(**TIMED), data, 3, occasions=occasions)
    low, high = stats.t.interval(1 - 0.05 / 3, 3, np.mean(MEANS), stats.sem(MEANS))
    (comparison,) = found.comparisons
    assert (comparison.low, comparison.high) == pytest.approx((low, high))
    assert (found.verdict, comparison.n, found.level) == ("supported", 4, pytest.approx(1 - 0.05 / 3))


def test_a_fifth_occasion_is_not_looked_at():
    of = [[mean + x for x in WITHIN] for mean in MEANS]
    (four,), (five,) = (
        judge(claim(**TIMED), data, 1, occasions=occasions).comparisons
        for data, occasions in (timed(*of), timed(*of, [9.0] * 10))
    )
    assert four == five


@pytest.mark.parametrize("n", [0, 1, 3])
def test_fewer_than_four_occasions_decide_nothing_whatever_the_number_of_repeats(n):
    data, occasions = timed(*([mean + x for x in WITHIN * 4] for mean in MEANS[:n]))
    found = judge(claim(**TIMED), data, 1, occasions=occasions)
    assert (found.verdict, found.comparisons[0].n) == ("undecided", n)
    assert found.comparisons[0].note == f"{n} of 4 occasions"


@pytest.mark.parametrize(
    ("drifts", "word"),
    [
        ((0.06, 0.06, 0.06, 0.06), "undecided"),
        ((-0.06, -0.06, -0.06, -0.06), "undecided"),
        ((0.04, 0.04, 0.04, 0.04), "supported"),
        ((0.2, 0.05, 0.0, 0.0), "undecided"),
        ((0.06, -0.06, 0.06, -0.06), "supported"),  # It has no direction.
    ],
)
def test_a_drift_within_occasions_larger_than_delta_is_said_and_decides_nothing(drifts, word):
    # Five repeats, one in the middle that is left out, and five more.
    of = [
        [mean - drift / 2 + x for x in WITHIN[:5]] + [mean + 1.0] + [mean + drift / 2 + x for x in WITHIN[:5]]
        for mean, drift in zip(MEANS, drifts, strict=True)
    ]
    data, occasions = timed(*of)
    found = judge(claim(**TIMED), data, 1, occasions=occasions)
    assert found.verdict == word
    assert found.comparisons[0].note == ("drifted within occasions by more than δ" if word == "undecided" else "")


def test_what_occasions_have_in_common_is_covered():
    """Occasions differ by as much as the repeats of one do: the interval over repeats would miss the truth often."""
    rng, missed, by_repeats, repeats = np.random.default_rng(6), 0, 0, 1000
    for _ in range(repeats):
        data, occasions = timed(*(list(rng.normal(rng.normal(0, 0.02), 0.02, 10)) for _ in range(4)))
        of_occasions, of_seeds = (
            judge(claim(**TIMED), data, 1, looks=(40,), occasions=given).comparisons[0] for given in (occasions, None)
        )
        missed += not of_occasions.low <= 0 <= of_occasions.high
        by_repeats += not of_seeds.low <= 0 <= of_seeds.high
    assert missed / repeats == pytest.approx(0.05, abs=0.02)
    assert by_repeats / repeats > 0.3


def test_a_report_judges_times_by_occasions_and_memory_by_seeds():
    units = {"log_time": Unit("time", timed=True), "log_memory": Unit("memory", timed=True)}
    claims = [Claim(name, "…", "us", name, lower="a", than="b") for name in units]
    experiment = dataclasses.replace(dice.EXPERIMENT, variants=("a", "b"), claims=claims, units=units)
    records = [
        made_up.record(
            name, seed, began=f"2026-11-{seed % 4 + 1:02}T12:00", metrics=dict.fromkeys(units, far + seed / 1000)
        )
        for name, far in {"a": 0.0, "b": 1.0}.items()
        for seed in range(1, 13)
    ]
    for record, noise in zip(records, np.random.default_rng(8).normal(0, 0.01, 24), strict=True):
        record.metrics.update({name: value + noise for name, value in record.metrics.items()})
    time, memory = Report(experiment, made_up.evidence(records), None).judgements
    assert (time.level, time.comparisons[0].n, time.verdict) == (pytest.approx(1 - 0.05 / 2), 4, "supported")
    assert (memory.level, memory.comparisons[0].n) == (pytest.approx(1 - 0.05 / 8), 10)
    for record in records:
        record.metrics["log_time"] += 0.1 * (record.variant == "b") * (record.seed > 6)
    time, _ = Report(experiment, made_up.evidence(records), None).judgements
    assert time.comparisons[0].note == "drifted within occasions by more than δ"


# How often a verdict is false, and how often there is one.


@pytest.mark.variants
@pytest.mark.parametrize("effect", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_a_recipe_has_a_false_verdict_in_at_most_5_percent_all_looks_included(effect, noise):
    """A recipe of seven claims, whose true effect is none, or just what matters; noise is in multiples of that."""
    sides = [claim(**EQUAL, side=side, delta=1.0) for side in ("both", "below", "above")]
    tests = [*[claim(**HIGHER, delta=1.0)] * 2, claim(higher="a", than=("b", "c"), delta=1.0), *sides]
    tests.append(claim(**HIGHER, at_least=1.5, delta=1.0))
    rng, false, repeats = np.random.default_rng(7), 0, 1500
    for _ in range(repeats):
        wrong = False
        for asked in tests:
            a = list(rng.normal(effect, noise, 80))
            found = judge(asked, values(a=a, b=[0.0] * 80, c=list(rng.normal(0, noise, 80))), len(tests))
            wrong |= found.verdict in false_words(asked, effect)
        false += wrong
    assert false / repeats <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5


def false_words(asked: Claim, effect: float) -> set[str]:
    """What would be untrue of an effect of 0, or of exactly what matters: at an edge, neither side of it is known."""
    if asked.kind == "at least":
        return {"supported"}
    if asked.kind == "beats":
        return {
            0.0: {"supported", "contradicted"},
            1.0: {"no real difference", "contradicted"},
            -1.0: {"no real difference", "supported"},
        }[effect]
    effect = -effect if asked.side == "above" else effect
    if asked.kind == "no worse":
        return {0.0: {"contradicted"}, 1.0: {"contradicted"}, -1.0: {"supported"}}[effect]
    return {"contradicted"} if effect == 0 else {"supported"}


def test_an_effect_of_twice_what_matters_gets_a_word_within_20_seeds():
    """Where what matters is at least 0.6 standard deviations of the paired difference, in a recipe of six claims."""
    rng, found = np.random.default_rng(11), 0
    for _ in range(1000):
        a = list(rng.normal(2.0, 1 / 0.6, 20))
        found += judge(claim(**HIGHER, delta=1.0), values(a=a, b=[0.0] * 20), 6).verdict == "supported"
    assert found / 1000 >= 0.8
