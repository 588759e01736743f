"""Verdicts on claims: paired differences by seed, an interval, and what the interval says.

A comparison becomes one number a seed, a difference between two variants or a slope over several, positive in the
claim's direction. Their mean gets a t-interval, and the verdict is read from the interval alone (`_read`). It is looked
at after 10, 20, 40 and 80 seeds, and a comparison keeps the first look that decides it. For m claims the interval has
the level 1 - 0.05/(4 m): Bonferroni over claims and looks.

A claim about test accuracy is also about images: other test images would have given another difference. Where the
records say which images were classified correctly, that part of the variance is in the interval (`_images_part`).

Timings of one day have something in common, so seeds are no repetitions there. They are averaged within each occasion,
and the interval is over the means of four occasions, looked at once at the level 1 - 0.05/m.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from lab.claims import Claim, families
from lab.evidence.schemas import LOOKS

Word = Literal["supported", "no real difference", "contradicted", "undecided"]
WORDS: tuple[Word, ...] = ("supported", "no real difference", "contradicted", "undecided")
FAMILY_ERROR = 0.05
OCCASIONS = 4  # A timing is looked at once it has so many.
SMALL = "may be small"
WORSE = "worse, perhaps by less than δ"
HIGHER = "higher, perhaps by less than δ"  # The same of a claim that A lies no higher than B.
AT_CHANCE = "both mostly at chance accuracy"
ALL_EQUAL = "the same difference at every seed"
DRIFTED = "drifted within occasions by more than δ"
PAST_HELP = (AT_CHANCE, ALL_EQUAL)  # More seeds would change nothing.
ROUNDING = 1e-12  # Relative error that sums of floats leave behind.

Values = Mapping[str, Mapping[int, float]]  # variant -> seed -> value of one metric
Correct = Mapping[str, Mapping[int, np.ndarray]]  # variant -> seed -> bool (images,): which images were correct


@dataclass(frozen=True)
class Comparison:
    """One comparison's numbers at the look that decided it, or at the latest one, in the metric's unit.

    They are positive in the claim's direction. `n` is the look's number of seeds, or of occasions of a timing; below
    the first look, all there are. `note` says what the word leaves open, or why there is no other: it may be empty.
    `spread` is the standard deviation of the n differences.
    """

    between: tuple[str, str]
    n: int
    mean: float
    low: float
    high: float
    word: Word
    note: str
    spread: float | None = None


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict, the comparisons that it was read from, and the level of their intervals."""

    claim: Claim
    level: float
    verdict: Word
    comparisons: tuple[Comparison, ...]


def judge(
    claim: Claim,
    values: Values,
    in_family: int,
    looks: Sequence[int] = LOOKS,
    *,
    correct: Correct | None = None,
    chance: float = 0.0,
    occasions: Mapping[int, int] | None = None,
) -> Judgement:
    """Read the verdict on `claim` from `values` of its metric; seeds that lack a needed variant are left out.

    Args:
        in_family: how many claims share an error of 5 % (`families`).
        looks: as many as were planned, whether or not there are seeds for all of them.
        correct: of a metric that is the share of these images: which were classified correctly.
        chance: of a metric that is an accuracy: that of a guess.
        occasions: of a timing: seed -> the number of its occasion.
    """
    if claim.asserted is not None:
        return Judgement(claim, 1.0, "supported" if claim.holds else "contradicted", ())
    error = FAMILY_ERROR / in_family / (len(looks) if occasions is None else 1)
    found = []
    for pair in claim.pairs:
        contrast = claim.contrast(pair)
        seeds = sorted(set.intersection(*(set(values.get(name, {})) for name in contrast)))
        if occasions is None:
            found.append(_by_seeds(claim, pair, seeds, values, error, looks, correct or {}, chance))
        else:
            found.append(_by_occasions(claim, pair, _differences(contrast, seeds, values), seeds, error, occasions))
    return Judgement(claim, 1 - error, verdict_of([comparison.word for comparison in found]), tuple(found))


def verdict_of(words: Iterable[Word]) -> Word:
    """The verdict on a claim of several comparisons.

    It is contradicted if one of them is, and supported if all are. Otherwise it is undecided as long as one of them
    is. If none is, some make no real difference: the sentence says more than there is, and so does it as a whole.
    """
    words = set(words)
    return next(word for word in ("contradicted", "undecided", "no real difference", "supported") if word in words)


def undecided(judgement: Judgement) -> tuple[Comparison, ...]:
    """The comparisons that more seeds may decide, as long as the claim's verdict hangs on them."""
    is_open = judgement.verdict == "undecided"
    rows = judgement.comparisons if is_open else ()
    return tuple(row for row in rows if row.word == "undecided" and row.note not in PAST_HELP)


def expected_false_verdicts(claims: Iterable[Claim]) -> float:
    """How many false verdicts an experiment's claims have at most, on average, where nothing they say is true.

    Each family shares 5 % among its claims. The parts of a claim are read at the claim's own level, and one of k that
    is wrongly contradicted is enough: that makes (k + 1)/2 times the claim's share. Checks are not counted.
    """
    shares = (
        FAMILY_ERROR / len(family) * (len(claim.pairs) + 1) / 2
        for (is_check, _), family in families(claims).items()
        for claim in family
        if not is_check
    )
    return sum(shares)


def _differences(contrast: Mapping[str, float], seeds: Sequence[int], values: Values) -> np.ndarray:
    """One number a seed, float (seeds,)."""
    table = [[values[name][seed] for name in contrast] for seed in seeds]
    return np.array(table, dtype=float).reshape(len(seeds), len(contrast)) @ np.array(list(contrast.values()))


def _by_seeds(
    claim: Claim,
    pair: tuple[str, str],
    seeds: Sequence[int],
    values: Values,
    error: float,
    looks: Sequence[int],
    correct: Correct,
    chance: float,
) -> Comparison:
    """Look after look, until one decides or there are no more seeds."""
    contrast = claim.contrast(pair)
    reached = [look for look in looks if LOOKS[0] <= look <= len(seeds)]
    for n in reached or [len(seeds)]:
        numbers = _differences(contrast, seeds[:n], values)
        missing = "" if reached else f"{n} of {LOOKS[0]} seeds"
        if chance and _at_chance([[values[name][seed] for seed in seeds[:n]] for name in contrast], chance):
            missing = missing or AT_CHANCE
        images = _images_part(contrast, seeds[:n], correct)
        found = _compare(claim, pair, numbers, error, images, missing)
        if found.word != "undecided":
            break
    return found


def _by_occasions(
    claim: Claim,
    pair: tuple[str, str],
    numbers: np.ndarray,
    seeds: Sequence[int],
    error: float,
    occasions: Mapping[int, int],
) -> Comparison:
    """The one look at a timing's first four occasions."""
    by_occasion: dict[int, list[float]] = {}
    for seed, number in zip(seeds, numbers, strict=True):
        by_occasion.setdefault(occasions[seed], []).append(number)
    first = [by_occasion[when] for when in sorted(by_occasion)[:OCCASIONS]]
    missing = "" if len(first) == OCCASIONS else f"{len(first)} of {OCCASIONS} occasions"
    if not missing and abs(np.mean([_drift(repeats) for repeats in first])) > claim.delta:
        missing = DRIFTED
    return _compare(claim, pair, np.array([np.mean(repeats) for repeats in first]), error, None, missing)


def _drift(repeats: Sequence[float]) -> float:
    """The mean of the second half of an occasion's repeats less that of the first; one in the middle is left out."""
    half = len(repeats) // 2
    return float(np.mean(repeats[-half:]) - np.mean(repeats[:half])) if half else 0.0


def _at_chance(arms: Iterable[Sequence[float]], chance: float) -> bool:
    """Whether each arm is below 1.5 times chance at most of its seeds.

    With few classes that would be much of what can be learned, so that it is at most five points above chance.
    """
    limit = min(1.5 * chance, chance + 0.05)
    return all(np.mean(np.array(arm) < limit) > 0.5 for arm in arms if len(arm)) and all(map(len, arms))


@dataclass(frozen=True)
class _Part:
    """A part of the variance of a mean, and the terms it is a sum of: each with its degrees of freedom."""

    variance: float
    terms: tuple[tuple[float, float], ...]


def _images_part(contrast: Mapping[str, float], seeds: Sequence[int], correct: Correct) -> _Part | None:
    """The test images' part of the variance of the mean difference, where the records have the images.

    A difference on one image at one seed is the sum of the mean difference, something of the seed, something of the
    image, and the rest. The mean over n seeds of the seeds' differences varies by s²/n, which has the seed and the rest
    in it, and lacks the image. v, the variance over N images of the mean difference on each, has the image and 1/n of
    the rest. So v/N - w/(n N), where w is the variance of the rest, is what is missing.

    Seeds at which a run diverged have no bits. The others say how much the images vary.
    """
    whole = [seed for seed in seeds if all(seed in correct.get(name, {}) for name in contrast)]
    n = len(whole)
    if n < 2:
        return None
    weights = contrast.values()
    on_each = np.array(
        [sum(weight * correct[name][seed] for name, weight in zip(contrast, weights, strict=True)) for seed in whole]
    )
    images = on_each.shape[1]
    by_image, by_seed = on_each.mean(axis=0), on_each.mean(axis=1, keepdims=True)
    rest = on_each - by_seed - by_image + by_image.mean()
    v, w = float(by_image.var(ddof=1)), float((rest**2).sum()) / ((n - 1) * (images - 1))
    more, less = v / images, w / (n * images)
    return _Part(more - less, ((more, images - 1), (less, (n - 1) * (images - 1)))) if more > less else None


def _compare(
    claim: Claim, pair: tuple[str, str], numbers: np.ndarray, error: float, images: _Part | None, missing: str
) -> Comparison:
    """The interval of some numbers' mean, and its word. `missing` says why there can't be a word yet, if so."""
    n = len(numbers)
    mean = float(numbers.mean()) if n else math.nan
    if n < 2:
        return Comparison(pair, n, mean, -math.inf, math.inf, "undecided", missing)
    deviation = float(numbers.std(ddof=1))
    # Equal numbers leave a rounding error behind, which must not pass for a very small spread.
    equal = deviation <= ROUNDING * max(1.0, abs(mean))
    half = 0.0 if equal else _half_width(deviation**2 / n, n - 1, images, error)
    low, high = mean - half, mean + half
    if equal and not claim.exact:
        missing = missing or ALL_EQUAL
    if missing:
        return Comparison(pair, n, mean, low, high, "undecided", missing, deviation)
    return Comparison(pair, n, mean, low, high, *_read(claim, low, high), deviation)


def _half_width(variance: float, freedom: int, images: _Part | None, error: float) -> float:
    """Half the width of the t-interval of a mean of that variance; degrees of freedom by Satterthwaite."""
    terms = ((variance, float(freedom)), *(images.terms if images else ()))
    variance += images.variance if images else 0.0
    effective = variance**2 / sum(term**2 / of for term, of in terms)
    return float(special.stdtrit(effective, 1 - error / 2) * math.sqrt(variance))


def _read(claim: Claim, low: float, high: float) -> tuple[Word, str]:
    """The word of an interval and a note: the first line that fits. While the interval covers the truth, it is true."""
    delta, kind, note = claim.delta, claim.kind, HIGHER if claim.side == "above" else WORSE
    if claim.side == "above":  # "No higher than": turned so that worse is negative.
        low, high = -high, -low
    within = -delta < low and high < delta
    if kind == "beats":
        if within:
            return "no real difference", ""
        if low > 0:
            return "supported", SMALL if low < delta else ""
        return ("contradicted" if high < 0 else "undecided"), ""
    if kind == "no worse":
        if low > -delta:
            return "supported", ""
        return ("contradicted", "") if high < -delta else ("undecided", note if high < 0 else "")
    if kind == "equal":
        apart = low > delta or high < -delta
        return ("supported" if within else "contradicted" if apart else "undecided"), ""
    assert claim.at_least is not None
    least = claim.at_least - ROUNDING * max(1.0, abs(claim.at_least))
    return ("supported" if low >= least else "contradicted" if high < least else "undecided"), ""
