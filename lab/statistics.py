"""Verdicts on claims: paired differences by seed, an interval, and what the interval says.

A comparison becomes one number a seed, a difference between two variants or a slope over several, positive
in the claim's direction. Student's t-interval of these numbers gives the verdict. It is read at looks of 10, 20, 40 and
80 seeds, and a comparison stops at the first look that decides it. For m claims the interval's level is 1 - 0.05/(4 m):
Bonferroni over claims and looks. A claim of several comparisons holds if all of them do, which costs no error. Where
they disagree, each is read at its share of the level.
"""

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import special

from lab.claims import Claim
from lab.evidence.schemas import LOOKS

Word = Literal[
    "holds",
    "no practical difference",
    "holds in direction",
    "refuted",
    "refuted in direction",
    "differs",
    "mixed",
    "open",
]
FAMILY_ERROR = 0.05
POWER = 0.9  # `seeds_needed` decides with this probability.
LIKELY = special.ndtri((np.arange(100) + 0.5) / 100)  # The percentiles of a standard normal variable.
MOST_SEEDS_NAMED = 1000  # `seeds_needed` gives up beyond this.

Values = Mapping[str, Mapping[int, float]]  # variant -> seed -> value of one metric


@dataclass(frozen=True)
class Comparison:
    """One comparison's numbers at the look that decided it, or at the latest one, in the metric's unit.

    They are positive in the claim's direction. `n` is the look's number of seeds; below the first look, all there are.
    """

    between: tuple[str, str]
    n: int
    mean: float
    low: float
    high: float
    cohen_d: float
    word: Word
    note: str  # "slightly as claimed" and the like, or empty.
    seeds_needed: int | None  # Only where open; None: too many to name, or not to be told from one seed.


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict, the comparisons that it was read from, and the level of their intervals."""

    claim: Claim
    level: float
    verdict: Word
    comparisons: tuple[Comparison, ...]


def judge(claim: Claim, values: Values, claims_in_recipe: int, looks: Sequence[int] = LOOKS) -> Judgement:
    """Read the verdict on `claim` from `values` of its metric; seeds that lack a needed variant are left out.

    The looks are as many as were planned, whether or not there are seeds for all of them.
    """
    if claim.asserted is not None:
        return Judgement(claim, 1.0, "holds" if claim.asserted else "refuted", ())
    differences = {pair: _differences(claim, pair, values) for pair in claim.pairs}
    error = FAMILY_ERROR / len(looks) / claims_in_recipe

    def decided(error: float) -> tuple[Comparison, ...]:
        return tuple(_decide(claim, pair, numbers, error, looks) for pair, numbers in differences.items())

    comparisons = decided(error)
    if not {comparison.word for comparison in comparisons} <= {"holds", "holds in direction"}:
        error /= len(differences)
        comparisons = decided(error)
    return Judgement(claim, 1 - error, _verdict_of(comparisons), comparisons)


def _verdict_of(comparisons: Sequence[Comparison]) -> Word:
    words = {comparison.word for comparison in comparisons}
    if "open" in words:
        return "open"
    if len(words) == 1:
        return comparisons[0].word
    if words == {"holds", "holds in direction"}:
        return "holds in direction"
    return "refuted in direction" if words == {"refuted", "refuted in direction"} else "mixed"


def undecided(judgement: Judgement) -> tuple[Comparison, ...]:
    """The comparisons for which more seeds are needed."""
    is_open = judgement.verdict == "open"
    return tuple(comparison for comparison in judgement.comparisons if is_open and comparison.word == "open")


def _differences(claim: Claim, pair: tuple[str, str], values: Values) -> np.ndarray:
    """One number a seed, positive in the claim's direction; for `equal`, A minus B."""
    sign = -1.0 if claim.lower or claim.falling else 1.0
    if trend := claim.rising or claim.falling:
        seeds = sorted(set.intersection(*(set(values.get(name, {})) for name in trend)))
        x = np.array(list(trend.values()), dtype=float)
        y = np.array([[values[name][seed] for name in trend] for seed in seeds], dtype=float).reshape(-1, len(x))
        return sign * (y - y.mean(axis=1, keepdims=True)) @ (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    a, b = (values.get(name, {}) for name in pair)
    return sign * np.array([a[seed] - b[seed] for seed in sorted(set(a) & set(b))], dtype=float)


def _decide(
    claim: Claim, pair: tuple[str, str], differences: np.ndarray, error: float, looks: Sequence[int]
) -> Comparison:
    """Look after look, until one decides or there are no more seeds."""
    reached = [look for look in looks if look <= len(differences)]
    for n in reached or [len(differences)]:
        found = _compare(claim, pair, differences[:n], error, is_look=bool(reached))
        if found.word != "open":
            break
    return found


def _compare(claim: Claim, pair: tuple[str, str], differences: np.ndarray, error: float, is_look: bool) -> Comparison:
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    if n < 2:
        return Comparison(pair, n, mean, -math.inf, math.inf, math.nan, "open", "", None)
    deviation = float(differences.std(ddof=1))
    # Equal numbers leave a rounding error behind, which must not pass for a very small spread.
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        word, note = _read(claim, mean, mean) if claim.exact else ("open", "")
        return Comparison(pair, n, mean, mean, mean, math.nan, word, note, None)
    half = deviation * _half_width(error, n)
    low, high = mean - half, mean + half
    word, note = _read(claim, low, high) if is_look else ("open", "")
    needed = _seeds_needed(claim, mean, deviation, error) if word == "open" else None
    return Comparison(pair, n, mean, low, high, mean / deviation, word, note, needed)


def _read(claim: Claim, low: float, high: float) -> tuple[Word, str]:
    """The word of an interval, in the protocol's order, and a note. While the interval covers the truth, it is true."""
    by = claim.by
    if claim.equal and claim.side == "both":
        if -by < low and high < by:
            return "holds", ""
        if low > by or high < -by:
            return "refuted", ""
        return ("differs", "") if low > 0 or high < 0 else ("open", "")
    if claim.equal:  # "No worse than": turned so that worse is negative.
        low, high = (low, high) if claim.side == "below" else (-high, -low)
        if low > -by:
            return "holds", f"and even {'higher' if claim.side == 'below' else 'lower'}" if low > 0 else ""
    elif low > by:
        return "holds", ""
    elif -by < low and high < by:
        note = "slightly as claimed" if low > 0 else "slightly against it" if high < 0 else ""
        return "no practical difference", note
    elif low > 0:
        return "holds in direction", ""
    if high < -by:
        return "refuted", ""
    return ("refuted in direction", "") if high < 0 else ("open", "")


def _seeds_needed(claim: Claim, mean: float, deviation: float, error: float) -> int | None:
    """The smallest number of seeds that would decide with 90 % power, if mean and deviation are what they seem."""

    def decides(n: int) -> bool:
        half = deviation * _half_width(error, n)
        centres = mean + deviation / math.sqrt(n) * LIKELY  # Where the mean of n seeds may lie, each as likely.
        decided = [_read(claim, centre - half, centre + half)[0] != "open" for centre in centres]
        return sum(decided) >= POWER * len(decided)

    numbers = range(2, MOST_SEEDS_NAMED + 1)
    # More seeds have narrower intervals and stray less: once enough, always enough.
    first = bisect.bisect_left(numbers, True, key=decides)
    return numbers[first] if first < len(numbers) else None


def _half_width(error: float, n: int) -> float:
    """Half the width of Student's t-interval of n seeds, in standard deviations."""
    return float(special.stdtrit(n - 1, 1 - error / 2) / math.sqrt(n))
