"""Verdicts against scipy and by hand, and by simulation."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from lab import statistics
from lab.claims import Claim
from lab.report.report import Report, weakest
from lab.statistics import judge
from tests.toys import dice, made_up


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
    a, b = rng.normal(1, 1, 10), rng.normal(0, 1, 10)
    found = judge(claim(**HIGHER), values(a=list(a), b=list(b)), 6).comparisons[0]
    expected = stats.ttest_rel(a, b).confidence_interval(1 - 0.05 / 4 / 6)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.mean == pytest.approx((a - b).mean())
    assert found.cohen_d == pytest.approx((a - b).mean() / (a - b).std(ddof=1))


@pytest.mark.parametrize(
    ("mean", "word", "note"),
    [
        (2.0, "holds", ""),
        (0.1, "no practical difference", ""),
        (0.3, "no practical difference", "slightly as claimed"),
        (-0.3, "no practical difference", "slightly against it"),
        (0.5, "holds in direction", ""),
        (-0.5, "refuted in direction", ""),
        (-2.0, "refuted", ""),
    ],
)
def test_the_words_of_a_difference_and_their_order(mean, word, note):
    found = judge(claim(**HIGHER), values(a=differences(mean), b=[0.0] * 10), 6)
    assert (found.verdict, found.comparisons[0].note, found.comparisons[0].n) == (word, note, 10)


def test_an_interval_that_covers_both_zero_and_what_matters_is_open():
    found = judge(claim(**HIGHER), values(a=differences(0.4, spread=1.0), b=[0.0] * 10), 6)
    assert (found.verdict, found.comparisons[0].n) == ("open", 10)
    assert statistics.undecided(found) == found.comparisons


def test_lower_is_the_mirror_image_of_higher():
    a, b = differences(-2.0), [0.0] * 10
    assert judge(claim(lower="a", than="b"), values(a=a, b=b), 1).verdict == "holds"
    assert judge(claim(**HIGHER), values(a=a, b=b), 1).verdict == "refuted"


@pytest.mark.parametrize(
    ("side", "mean", "word", "note"),
    [
        ("both", 0.1, "holds", ""),
        ("both", 0.3, "holds", ""),
        ("both", 0.5, "differs", ""),
        ("both", -0.5, "differs", ""),
        ("both", 2.0, "refuted", ""),
        ("both", -2.0, "refuted", ""),
        ("above", -2.0, "holds", "and even lower"),  # "No better": worse is fine.
        ("above", 0.3, "holds", ""),
        ("above", 0.5, "refuted in direction", ""),
        ("above", 2.0, "refuted", ""),
        ("below", 2.0, "holds", "and even higher"),  # "Keeps": better is fine.
        ("below", -0.3, "holds", ""),
        ("below", -0.5, "refuted in direction", ""),
        ("below", -2.0, "refuted", ""),
    ],
)
def test_equality_on_its_sides(side, mean, word, note):
    found = judge(claim(equal=("a", "b"), side=side), values(a=differences(mean), b=[0.0] * 10), 3)
    assert (found.verdict, found.comparisons[0].note) == (word, note)


@pytest.mark.parametrize(("direction", "verdict"), [("rising", "holds"), ("falling", "refuted")])
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


def test_one_seed_is_never_a_verdict():
    found = judge(claim(**HIGHER, exact=True), values(a=[100.0], b=[0.0]), 1)
    assert (found.verdict, found.comparisons[0].n) == ("open", 1)
    assert judge(claim(**HIGHER), values(a=[]), 1).comparisons[0].n == 0


def test_less_seeds_than_the_first_look_settle_nothing():
    found = judge(claim(**HIGHER), values(a=differences(5.0, 9), b=[0.0] * 9), 1)
    assert (found.verdict, found.comparisons[0].n) == ("open", 9)
    assert found.comparisons[0].low > 0.5  # However clear it looks.


def test_zero_variance_is_open_unless_exact():
    data = values(a=[0.1 + 3.0] * 10, b=[0.1] * 10)
    assert judge(claim(**HIGHER), data, 1).verdict == "open"
    assert judge(claim(**HIGHER, exact=True), data, 1).verdict == "holds"
    assert judge(claim(equal=("a", "b"), exact=True), data, 1).verdict == "refuted"
    few = {name: {seed: found[seed] for seed in (1, 2)} for name, found in data.items()}
    assert judge(claim(**HIGHER, exact=True), few, 1).verdict == "holds"  # There is no noise to average.


def test_a_diverged_run_counts_and_unpaired_seeds_do_not():
    a = values(a=[*differences(0.65, 10, 0.01), 0.1])["a"]  # The eleventh seed diverged: chance.
    b = values(b=[*differences(0.60, 10, 0.01), 0.6])["b"]
    del a[1]
    with_it = judge(claim(**HIGHER, by=0.01), {"a": a, "b": b}, 1)
    assert (with_it.verdict, with_it.comparisons[0].n) == ("open", 10)
    assert with_it.comparisons[0].mean == pytest.approx(np.mean([a[seed] - b[seed] for seed in a]))


def noisy(mean: float, n: int, spread: float = 1.0) -> list[float]:
    """Numbers whose first ten, twenty and so on have about this mean and spread."""
    return [mean + spread * (1 if seed % 2 else -1) for seed in range(n)]


def test_a_comparison_keeps_the_word_of_the_look_that_decided_it():
    decided = [*differences(2.0), *[-50.0] * 30]  # What comes after the first look is not looked at.
    found = judge(claim(**HIGHER), values(a=decided, b=[0.0] * 40), 1)
    assert (found.verdict, found.comparisons[0].n, found.comparisons[0].mean) == ("holds", 10, pytest.approx(2.0))


def test_what_is_open_at_one_look_may_be_decided_at_the_next_and_not_in_between():
    a = noisy(0.9, 40)
    for n, word, look in (
        (10, "open", 10),
        (19, "open", 10),
        (20, "holds in direction", 20),
        (40, "holds in direction", 20),
    ):
        found = judge(claim(**HIGHER, by=0.8), values(a=a[:n], b=[0.0] * n), 1)
        assert (found.verdict, found.comparisons[0].n) == (word, look), n


def test_looks_of_a_table_are_one_and_its_level_is_not_shared():
    data = values(a=differences(2.0, 50), b=[0.0] * 50)
    found = judge(claim(**HIGHER), data, 3, looks=(50,))
    assert (found.comparisons[0].n, found.level) == (50, pytest.approx(1 - 0.05 / 3))


def test_a_claim_of_several_comparisons_holds_if_all_do_and_is_mixed_where_they_disagree():
    several = claim(higher="a", than=("b", "c"))
    far, near, beyond = differences(-2.0), differences(0.0), differences(2.0)
    zero = [0.0] * 10

    def verdict(b, c):
        return judge(several, values(a=zero, b=b, c=c), 1).verdict

    assert verdict(far, far) == "holds"
    assert verdict(far, differences(-0.5)) == "holds in direction"
    assert verdict(near, near) == "no practical difference"
    assert verdict(beyond, beyond) == "refuted"
    assert verdict(beyond, differences(0.5)) == "refuted in direction"
    assert verdict(far, near) == "mixed"
    assert verdict(far, beyond) == "mixed"
    assert verdict(far, differences(0.0, spread=3.0)) == "open"


def test_holding_together_costs_no_level_and_disagreeing_does():
    several = claim(higher="a", than=("b", "c"))
    zero, far, beyond = [0.0] * 10, differences(-2.0), differences(2.0)
    assert judge(several, values(a=zero, b=far, c=far), 6).level == pytest.approx(1 - 0.05 / 4 / 6)
    assert judge(several, values(a=zero, b=far, c=beyond), 6).level == pytest.approx(1 - 0.05 / 4 / 6 / 2)


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


@pytest.mark.parametrize(("mean", "by"), [(0.9, 0.2), (0.9, 0.8), (0.0, 0.8)])
def test_seeds_needed_decide_nine_times_in_ten(mean, by):
    asked = claim(**HIGHER, by=by)
    found = judge(asked, values(a=noisy(mean, 10, 2.0), b=[0.0] * 10), 3)
    needed = found.comparisons[0].seeds_needed
    assert found.verdict == "open"
    spread = float(np.std(noisy(mean, 10, 2.0), ddof=1))
    rng, decided = np.random.default_rng(5), {needed: 0, needed // 2: 0}
    for n in decided:
        for _ in range(1000):
            a = list(rng.normal(mean, spread, n))
            decided[n] += judge(asked, values(a=a, b=[0.0] * n), 3, looks=(n, n, n, n)).verdict != "open"
    assert 0.85 < decided[needed] / 1000 < 0.97
    assert decided[needed // 2] / 1000 < 0.75


@pytest.mark.parametrize(
    ("seeds", "says"),
    [
        (3, "10 seeds would settle it nine times in ten"),  # Before the first look no verdict is read.
        (10, "10 seeds would settle it nine times in ten"),
        (11, "20 seeds would settle it nine times in ten"),
        (80, "80 seeds would settle it nine times in ten"),
        (81, "more seeds than the last look's 80 would be needed to settle it"),
        (None, "no practicable number of seeds would settle it"),
    ],
)
def test_what_it_takes_is_named_by_the_look_that_would_read_it(seeds, says):
    experiment = dataclasses.replace(dice.EXPERIMENT, claims=[claim(higher="clear", than="fair")])
    found = judge(experiment.claims[0], values(clear=noisy(0.9, 10, 2.0), fair=[0.0] * 10), 1)
    (comparison,) = found.comparisons
    assert comparison.word == "open"
    text = Report(experiment, made_up.evidence([]), None).words(
        found, dataclasses.replace(comparison, seeds_needed=seeds)
    )
    assert text.endswith(f"; {says}.")


def test_no_number_of_seeds_settles_what_lies_on_the_edge():
    tiny = claim(**HIGHER, by=1e-9)
    assert judge(tiny, values(a=noisy(0.0, 10), b=[0.0] * 10), 6).comparisons[0].seeds_needed is None


@pytest.mark.parametrize(
    "kind",
    [{}, {"higher": "a"}, {"higher": "a", "than": "b", "equal": ("a", "b")}, {"equal": ("a",)}, {**HIGHER, "by": -1}],
)
def test_a_claim_must_make_one_comparison(kind):
    with pytest.raises(ValueError, match="Claim C"):
        claim(**kind)


@pytest.mark.parametrize("effect", [0.0, 1.0, -1.0])
@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_a_recipe_has_a_false_verdict_in_at_most_5_percent_all_looks_included(monkeypatch, effect, noise):
    """A recipe of six claims, whose true effect is none, or just what matters; noise is in multiples of that."""
    monkeypatch.setattr(statistics, "_seeds_needed", lambda *_: None)  # No word depends on it, and it takes most time.
    sides = [claim(equal=("a", "b"), side=side, by=1.0) for side in ("both", "below", "above")]
    tests = [*[claim(**HIGHER, by=1.0)] * 2, claim(higher="a", than=("b", "c"), by=1.0), *sides]
    rng, false, repeats = np.random.default_rng(7), 0, 1500
    for _ in range(repeats):
        wrong = False
        for asked in tests:
            a = list(rng.normal(effect, noise, 80))
            found = judge(asked, values(a=a, b=[0.0] * 80, c=list(rng.normal(0, noise, 80))), len(tests))
            words = {c.word for c in found.comparisons} if found.verdict == "mixed" else {found.verdict}
            wrong |= bool(words & false_words(asked, effect))
        false += wrong
    assert false / repeats <= 0.05 + 2 * (0.05 * 0.95 / repeats) ** 0.5


def false_words(asked: Claim, effect: float) -> set[str]:
    """What would be untrue of an effect of 0, or of exactly what matters: at an edge, neither side of it is known."""
    if not asked.equal:
        return {
            0.0: {"holds", "holds in direction", "refuted", "refuted in direction"},
            1.0: {"holds", "no practical difference", "refuted", "refuted in direction"},
            -1.0: {"holds", "no practical difference", "holds in direction", "refuted"},
        }[effect]
    if asked.side != "both":
        effect = effect if asked.side == "below" else -effect
        return {
            0.0: {"refuted", "refuted in direction"},
            1.0: {"refuted", "refuted in direction"},
            -1.0: {"holds", "refuted"},
        }[effect]
    return {"refuted", "differs"} if effect == 0 else {"holds", "refuted"}


def test_an_effect_of_twice_what_matters_gets_a_word_within_20_seeds():
    """Where what matters is at least 0.6 standard deviations of the paired difference, in a recipe of six claims."""
    rng, found = np.random.default_rng(11), 0
    for _ in range(1000):
        a = list(rng.normal(2.0, 1 / 0.6, 20))
        found += judge(claim(**HIGHER, by=1.0), values(a=a, b=[0.0] * 20), 6).verdict != "open"
    assert found / 1000 >= 0.8
