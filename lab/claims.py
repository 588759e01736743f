"""Claims and their verdicts: paired differences by seed, an interval, and what the interval says.

Every claim is reduced to one number a seed for each of its comparisons (a difference between two variants, or a slope
over several), oriented so that the claim's own direction is positive. The verdict is read from Student's t-interval of
those numbers, at looks of 10, 20, 40 and 80 seeds: each comparison stops at the first look that decides it, and keeps
that look's word. For a recipe of m claims the interval's level is 1 - 0.05/(4 m): Bonferroni over claims and looks. A
claim of several comparisons holds if all of them do, which costs no error; where they disagree, each is read at its
share of the level.
"""

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import special

from lab.evidence.records import LOOKS
from lab.smallest_effects import SMALLEST

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
POWER = 0.9  # With which `seeds_needed` would decide.
LIKELY = special.ndtri((np.arange(100) + 0.5) / 100)  # A standard normal variable's percentiles.
OF_THE_METRIC = math.nan
MOST_SEEDS_NAMED = 1000  # Past this many, it gives up.

Values = Mapping[str, Mapping[int, float]]  # variant -> seed -> value of one metric
Names = str | tuple[str, ...]


@dataclass(frozen=True)
class Claim:
    """A sentence of advice, its source, and the comparison that would refute it.

    Say one of
        higher=A or lower=A, than=B     A's metric lies beyond B's by more than `by`; tuples: each A against each B.
        equal=(A, B, ...)               all pairs lie within `by` of each other.
        equal=(A, B), side="above"      A lies no more than `by` above B ("no better", where more is better).
        equal=(A, B), side="below"      A lies no more than `by` below B ("keeps").
        rising={A: x, B: y, ...}        the metric's slope against x is above `by`; `falling` is its mirror image.
        asserted=(2 + 2 == 4)           arithmetic: it holds or not, without any run, and is not counted among claims
                                        that statistics decide.

    `by` is the smallest effect that matters, in the metric's own unit (a share of images is a fraction, not a
    percentage): the metric's in `smallest.py`, unless the sentence names another. `said` are the source's words where
    `text` has others, because what they say can't be measured, or not here. `exact` says that the metric has no noise,
    so that equal numbers are a result and not an accident. `from_tuning` takes the metric from the recipe's tuning
    sweep instead of its runs.

    Raises:
        ValueError: not exactly one comparison, or a negative `by`.
    """

    id: str
    text: str
    source: str
    metric: str = ""
    by: float = OF_THE_METRIC
    higher: Names = ()
    lower: Names = ()
    than: Names = ()
    equal: tuple[str, ...] = ()
    side: Literal["both", "above", "below"] = "both"
    rising: Mapping[str, float] = field(default_factory=dict)
    falling: Mapping[str, float] = field(default_factory=dict)
    exact: bool = False
    from_tuning: bool = False
    asserted: bool | None = None
    said: str = ""

    def __post_init__(self) -> None:
        kinds = [bool(self.higher), bool(self.lower), bool(self.equal), bool(self.rising), bool(self.falling)]
        if self.asserted is not None:
            if any(kinds) or self.metric:
                raise ValueError(f"Claim {self.id}: what is asserted compares no runs.")
            return
        if not self.metric:
            raise ValueError(f"Claim {self.id}: name the metric.")
        if math.isnan(self.by):
            if self.metric not in SMALLEST:
                raise ValueError(f"Claim {self.id}: how much of {self.metric} matters? Say `by`, or in smallest.py.")
            object.__setattr__(self, "by", SMALLEST[self.metric][0])
        if sum(kinds) != 1 or bool(self.than) != bool(self.higher or self.lower):
            raise ValueError(
                f"Claim {self.id}: give one of higher/lower with than, equal, rising, falling or asserted."
            )
        if self.by < 0 or len(self.equal) == 1 or (self.side != "both" and len(self.equal) != 2):
            raise ValueError(f"Claim {self.id}: `by` must not be negative, and `equal` needs two names for a side.")

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The (A, B) of each comparison; for a trend one pair of its first and last variant."""
        if self.higher or self.lower:
            return list(itertools.product(_names(self.higher or self.lower), _names(self.than)))
        if self.equal:
            return list(itertools.combinations(self.equal, 2))
        if self.asserted is not None:
            return []
        ordered = sorted(self.rising or self.falling, key=(self.rising or self.falling).__getitem__)
        return [(ordered[0], ordered[-1])]

    @property
    def variants(self) -> set[str]:
        """Every variant that the claim speaks of."""
        return {name for pair in self.pairs for name in pair} | set(self.rising) | set(self.falling)


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
    whole = tuple(_decide(claim, pair, numbers, error, looks) for pair, numbers in differences.items())
    if together := _all_hold(whole):
        return Judgement(claim, 1 - error, together, whole)
    error /= len(differences)
    each = tuple(_decide(claim, pair, numbers, error, looks) for pair, numbers in differences.items())
    words = {comparison.word for comparison in each}
    verdict: Word
    if "open" in words:
        verdict = "open"
    elif len(words) == 1:
        (verdict,) = words
    elif words == {"refuted", "refuted in direction"}:
        verdict = "refuted in direction"
    else:
        verdict = "mixed"
    return Judgement(claim, 1 - error, verdict, each)


def undecided(judgement: Judgement) -> tuple[Comparison, ...]:
    """The comparisons for which more seeds are needed."""
    if judgement.verdict != "open":
        return ()
    return tuple(comparison for comparison in judgement.comparisons if comparison.word == "open")


def _all_hold(comparisons: Sequence[Comparison]) -> Literal["holds", "holds in direction"] | None:
    words = {comparison.word for comparison in comparisons}
    if words == {"holds"}:
        return "holds"
    return "holds in direction" if words <= {"holds", "holds in direction"} else None


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


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
    found = _compare(claim, pair, differences[: reached[0] if reached else len(differences)], error, bool(reached))
    for look in reached[1:]:
        if found.word != "open":
            break
        found = _compare(claim, pair, differences[:look], error, True)
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
        return _read_equality(low, high, by)
    if claim.equal:  # "No worse than": turned so that worse is negative.
        low, high = (low, high) if claim.side == "below" else (-high, -low)
        if low > -by:
            return "holds", f"and even {'higher' if claim.side == 'below' else 'lower'}" if low > 0 else ""
    elif low > by:
        return "holds", ""
    elif -by < low and high < by:
        return (
            "no practical difference",
            "slightly as claimed" if low > 0 else "slightly against it" if high < 0 else "",
        )
    elif low > 0:
        return "holds in direction", ""
    if high < -by:
        return "refuted", ""
    return ("refuted in direction", "") if high < 0 else ("open", "")


def _read_equality(low: float, high: float, by: float) -> tuple[Word, str]:
    if -by < low and high < by:
        return "holds", ""
    if low > by or high < -by:
        return "refuted", ""
    return ("differs", "") if low > 0 or high < 0 else ("open", "")


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


def test_set_margin(a: np.ndarray, b: np.ndarray) -> float:
    """How far the finite test set alone may move an accuracy difference: 1.96 standard errors, as a fraction.

    `a` and `b` are per-image correctness, bool (seeds, images), of two variants on the same images; the standard error
    is that of the mean over images of the difference between the two variants' shares of correct seeds.
    """
    by_image = a.mean(axis=0) - b.mean(axis=0)
    return float(1.96 * by_image.std(ddof=1) / math.sqrt(len(by_image)))
