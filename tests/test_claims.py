"""Verdicts against scipy and by hand, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from recipes.harness.declaring import claims
from recipes.harness.declaring.claims import Claim, judge
from recipes.harness.reporting.report import weakest
from recipes.optimizers import CLAIMS


def values(**variants: list[float]) -> dict[str, dict[int, float]]:
    return {name: dict(enumerate(numbers, start=1)) for name, numbers in variants.items()}


def claim(**kind: object) -> Claim:
    return Claim("C", "…", "…", "metric", **{"by": 0.5, **kind})  # type: ignore[arg-type]


HIGHER = {"higher": "a", "than": "b"}


def differences(mean: float, n: int = 10, spread: float = 0.1) -> list[float]:
    """n numbers with exactly this mean and this standard deviation."""
    z = np.linspace(-1, 1, n)
    return list(mean + spread * z / z.std(ddof=1))


def test_interval_and_effect_size_are_scipys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 8), rng.normal(0, 1, 8)
    found = judge(claim(**HIGHER), values(a=list(a), b=list(b)), 6).comparisons[0]
    expected = stats.ttest_rel(a, b).confidence_interval(1 - 0.05 / 6)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((a - b).mean())
    assert found.cohen_d == pytest.approx((a - b).mean() / (a - b).std(ddof=1))


@pytest.mark.parametrize(
    ("mean", "verdict"),
    [
        (2.0, "holds"),
        (0.2, "no practical difference"),
        (-0.2, "no practical difference"),  # Wholly below zero too, but the order says: too small to matter first.
        (-2.0, "refuted"),
        (-0.5, "refuted"),  # Beyond zero the other way need not be beyond -by.
        (0.5, "unresolved"),
    ],
)
def test_the_four_verdicts_and_their_order(mean, verdict):
    found = judge(claim(**HIGHER), values(a=differences(mean), b=[0.0] * 10), 6)
    assert found.verdict == verdict


def test_lower_is_the_mirror_image_of_higher():
    a, b = differences(-2.0), [0.0] * 10
    assert judge(claim(lower="a", than="b"), values(a=a, b=b), 1).verdict == "holds"
    assert judge(claim(**HIGHER), values(a=a, b=b), 1).verdict == "refuted"


@pytest.mark.parametrize(
    ("side", "mean", "verdict"),
    [
        ("both", 0.1, "holds"),
        ("both", 2.0, "refuted"),
        ("both", -2.0, "refuted"),
        ("both", 0.5, "unresolved"),
        ("above", -2.0, "holds"),  # "No better": worse is fine.
        ("above", 2.0, "refuted"),
        ("below", 2.0, "holds"),  # "Keeps": better is fine.
        ("below", -2.0, "refuted"),
        ("below", -0.5, "unresolved"),
    ],
)
def test_equality_on_its_sides(side, mean, verdict):
    found = judge(claim(equal=("a", "b"), side=side), values(a=differences(mean), b=[0.0] * 10), 3)
    assert found.verdict == verdict


@pytest.mark.parametrize(("direction", "verdict"), [("rising", "holds"), ("falling", "refuted")])
def test_trend_tests_the_paired_slope(direction, verdict):
    x = {"a": 1.0, "b": 2.0, "c": 4.0}
    rng = np.random.default_rng(1)
    levels = rng.normal(0, 5, 6)  # A level of its own for each seed is no trend.
    noise = rng.normal(0, 0.05, (6, 3))
    y = values(**{name: list(levels + 2 * at + noise[:, i]) for i, (name, at) in enumerate(x.items())})
    found = judge(claim(**{direction: x}), y, 1)
    slopes = [stats.linregress(list(x.values()), [y[name][seed] for name in x]).slope for seed in range(1, 7)]
    sign = 1 if direction == "rising" else -1
    assert found.comparisons[0].mean == pytest.approx(sign * np.mean(slopes))
    assert found.verdict == verdict


def test_one_seed_is_never_a_verdict():
    found = judge(claim(**HIGHER, exact=True), values(a=[100.0], b=[0.0]), 1)
    assert (found.verdict, found.comparisons[0].n) == ("unresolved", 1)
    assert judge(claim(**HIGHER), values(a=[]), 1).comparisons[0].n == 0


def test_zero_variance_is_unresolved_unless_exact():
    data = values(a=[0.1 + 3.0] * 5, b=[0.1] * 5)
    assert judge(claim(**HIGHER), data, 1).verdict == "unresolved"
    assert judge(claim(**HIGHER, exact=True), data, 1).verdict == "holds"
    assert judge(claim(equal=("a", "b"), exact=True), data, 1).verdict == "refuted"


def test_a_diverged_run_counts_and_unpaired_seeds_do_not():
    a = values(a=[*differences(0.65, 9, 0.01), 0.1])["a"]  # The tenth seed diverged: chance.
    b = values(b=differences(0.60, 10, 0.01))["b"]
    with_it = judge(claim(**HIGHER, by=0.01), {"a": a, "b": b}, 1)
    assert (with_it.verdict, with_it.comparisons[0].n) == ("unresolved", 10)
    without = judge(claim(**HIGHER, by=0.01), {"a": {s: v for s, v in a.items() if s != 10}, "b": b}, 1)
    assert (without.verdict, without.comparisons[0].n) == ("holds", 9)


def test_a_claim_of_several_comparisons_holds_only_if_all_do():
    several = claim(higher="a", than=("b", "c"))
    far, near, beyond = differences(-2.0), differences(0.0), differences(2.0)
    zero = [0.0] * 10
    assert judge(several, values(a=zero, b=far, c=far), 1).verdict == "holds"
    assert judge(several, values(a=zero, b=far, c=near), 1).verdict == "no practical difference"
    assert judge(several, values(a=zero, b=far, c=beyond), 1).verdict == "refuted"
    assert judge(several, values(a=zero, b=far, c=differences(-0.5)), 1).verdict == "unresolved"
    assert judge(several, values(a=zero, b=far, c=far), 6).level == pytest.approx(1 - 0.05 / 6 / 2)


def test_of_many_comparisons_the_weakest_is_shown_where_room_is_short():
    names = ("a", "b", "c", "d", "e")
    found = {name: [i * 0.1] * 10 for i, name in enumerate(names)}
    alike = judge(claim(equal=names, exact=True, by=1.0), values(**found), 1)
    assert [comparison.between for comparison in weakest(alike)] == [("a", "e")]
    beyond = judge(claim(higher=names[1:], than="a", exact=True, by=0.01), values(**found), 1)
    assert weakest(beyond) == beyond.comparisons  # Four are few.
    five = judge(
        claim(higher=("b", "c", "d", "e", "f"), than="a", exact=True, by=0.01), values(**found, f=[0.05] * 10), 1
    )
    assert [comparison.between for comparison in weakest(five)] == [("f", "a")]


def test_seeds_needed_would_indeed_settle_it():
    found = judge(claim(**HIGHER), values(a=differences(0.8, 4, 0.5), b=[0.0] * 4), 6)
    needed = found.comparisons[0].seeds_needed
    assert found.verdict == "unresolved"
    for n, verdict in ((needed, "holds"), (needed - 1, "unresolved")):
        assert judge(claim(**HIGHER), values(a=differences(0.8, n, 0.5), b=[0.0] * n), 6).verdict == verdict
    hopeless = judge(claim(**HIGHER), values(a=differences(0.5), b=[0.0] * 10), 6)
    assert hopeless.comparisons[0].seeds_needed is None


@pytest.mark.parametrize(
    "kind",
    [{}, {"higher": "a"}, {"higher": "a", "than": "b", "equal": ("a", "b")}, {"equal": ("a",)}, {**HIGHER, "by": -1}],
)
def test_a_claim_must_make_one_comparison(kind):
    with pytest.raises(ValueError, match="Claim C"):
        claim(**kind)


@pytest.mark.parametrize("by", [None, 0.0])
def test_no_true_effect_gives_a_false_verdict_in_at_most_5_percent(by):
    """The recipe's own six claims, and again with nothing too small to matter: the hardest case for the level."""
    directional = [c for c in CLAIMS if not c.equal]
    equal = [c for c in CLAIMS if c.equal]
    assert len(CLAIMS) == 6
    rng = np.random.default_rng(7)
    false = 0
    for _ in range(2000):
        wrong = False
        for c in CLAIMS:
            scale = 0.5 if c.metric.startswith("epochs") else 0.005 if "decades" not in c.metric else 0.1
            shared = rng.normal(0, 3 * scale, 10)  # A pair shares its seed's luck.
            data = {v: dict(enumerate(shared + rng.normal(0, scale, 10))) for v in c.variants}
            tested = c if by is None or c in equal else Claim(**{**vars(c), "by": by})
            verdict = judge(tested, data, len(CLAIMS)).verdict
            # That things are equal is true here; that it is refuted, or that anything else holds, is not.
            wrong |= verdict == "refuted" or (verdict == "holds" and c in directional)
        false += wrong
    assert false / 2000 <= 0.05


def test_the_test_sets_share_of_the_uncertainty():
    rng = np.random.default_rng(3)
    a = rng.random((1, 4000)) < 0.6
    b = rng.random((1, 4000)) < 0.6
    expected = 1.96 * math.sqrt(2 * 0.6 * 0.4 / 4000)
    assert claims.test_set_margin(a, b) == pytest.approx(expected, rel=0.05)
    assert claims.test_set_margin(a, a) == 0.0
