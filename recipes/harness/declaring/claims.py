"""Claims and their verdicts: paired differences by seed, an interval, and what the interval says.

Every claim is reduced to one number a seed for each of its comparisons (a difference between two variants, or a slope
over several), oriented so that the claim's own direction is positive. The verdict is read from Student's t-interval of
those numbers, at the level 1 - 0.05/m for a recipe of m claims (Bonferroni), split further among the comparisons of a
claim that makes several. Nothing else enters it.
"""

import bisect
import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from scipy import special

Verdict = Literal["holds", "no practical difference", "refuted", "unresolved"]
FAMILY_ERROR = 0.05
MOST_SEEDS_NAMED = 1000  # Past this many, `seeds_needed` gives up.

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
    percentage). `exact` says that the metric has no noise, so that equal numbers are a result and not an accident.
    `from_tuning` takes the metric from the recipe's tuning sweep instead of its runs.

    Raises:
        ValueError: not exactly one comparison, or a negative `by`.
    """

    id: str
    text: str
    source: str
    metric: str = ""
    by: float = 0.0
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

    def __post_init__(self) -> None:
        kinds = [bool(self.higher), bool(self.lower), bool(self.equal), bool(self.rising), bool(self.falling)]
        if self.asserted is not None:
            if any(kinds) or self.metric:
                raise ValueError(f"Claim {self.id}: what is asserted compares no runs.")
            return
        if not self.metric:
            raise ValueError(f"Claim {self.id}: name the metric.")
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
    """One comparison's numbers, in the metric's unit, positive in the claim's direction."""

    between: tuple[str, str]
    n: int
    mean: float
    low: float
    high: float
    cohen_d: float
    verdict: Verdict
    seeds_needed: int | None  # Only where unresolved; None: too many to name, or not to be told from one seed.


@dataclass(frozen=True)
class Judgement:
    """A claim's verdict, and the comparisons that it was read from."""

    claim: Claim
    level: float
    verdict: Verdict
    comparisons: tuple[Comparison, ...]


def judge(claim: Claim, values: Values, claims_in_recipe: int) -> Judgement:
    """Read the verdict on `claim` from `values` of its metric; seeds that lack a needed variant are left out.

    A claim of several comparisons holds if all of them hold, and is refuted if any of them is.
    """
    if claim.asserted is not None:
        return Judgement(claim, 1.0, "holds" if claim.asserted else "refuted", ())
    pairs = claim.pairs
    error = FAMILY_ERROR / claims_in_recipe / len(pairs)
    comparisons = tuple(_compare(claim, pair, _differences(claim, pair, values), error) for pair in pairs)
    found = {comparison.verdict for comparison in comparisons}
    verdict: Verdict = "no practical difference"
    if "refuted" in found:
        verdict = "refuted"
    elif found == {"holds"}:
        verdict = "holds"
    elif "unresolved" in found:
        verdict = "unresolved"
    return Judgement(claim, 1 - error, verdict, comparisons)


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


def _compare(claim: Claim, pair: tuple[str, str], differences: np.ndarray, error: float) -> Comparison:
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    deviation = float(differences.std(ddof=1)) if n > 1 else math.nan
    if n < 2:
        return Comparison(pair, n, mean, -math.inf, math.inf, math.nan, "unresolved", None)
    # Equal numbers leave a rounding error behind, which must not pass for a very small spread.
    if deviation <= 1e-12 * max(1.0, abs(mean)):
        verdict = _read(claim, mean, mean) if claim.exact else "unresolved"
        return Comparison(pair, n, mean, mean, mean, math.nan, verdict, None)
    half = deviation * _half_width(error, n)
    low, high = mean - half, mean + half
    verdict = _read(claim, low, high)
    needed = _seeds_needed(claim, mean, deviation, error) if verdict == "unresolved" else None
    return Comparison(pair, n, mean, low, high, mean / deviation, verdict, needed)


def _read(claim: Claim, low: float, high: float) -> Verdict:
    """The verdict of an interval, in the protocol's order."""
    by = claim.by
    if claim.equal:
        above, below = claim.side in ("both", "above"), claim.side in ("both", "below")
        if (not above or high < by) and (not below or low > -by):
            return "holds"
        if (above and low > by) or (below and high < -by):
            return "refuted"
        return "unresolved"
    if low > by:
        return "holds"
    if -by < low and high < by:
        return "no practical difference"
    if high < 0:
        return "refuted"
    return "unresolved"


def _seeds_needed(claim: Claim, mean: float, deviation: float, error: float) -> int | None:
    """The smallest number of seeds at which the same mean and deviation would be resolved."""
    numbers, half_widths = _half_widths(error)

    def settled(position: int) -> bool:
        half = deviation * half_widths[position]
        return _read(claim, mean - half, mean + half) != "unresolved"

    # Intervals of more seeds lie within those of fewer: once settled, always settled.
    first = bisect.bisect_left(range(len(numbers)), True, key=settled)
    return int(numbers[first]) if first < len(numbers) else None


@functools.lru_cache(maxsize=1024)
def _half_width(error: float, n: int) -> float:
    """Half the width of Student's t-interval of n seeds, in standard deviations."""
    return float(special.stdtrit(n - 1, 1 - error / 2) / math.sqrt(n))


@functools.lru_cache(maxsize=64)
def _half_widths(error: float) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of seeds from 2 on, and the half width of each one's interval in standard deviations."""
    n = np.arange(2, MOST_SEEDS_NAMED + 1)
    return n, special.stdtrit(n - 1, 1 - error / 2) / np.sqrt(n)


def test_set_margin(a: np.ndarray, b: np.ndarray) -> float:
    """How far the finite test set alone may move an accuracy difference: 1.96 standard errors, as a fraction.

    `a` and `b` are per-image correctness, bool (seeds, images), of two variants on the same images; the standard error
    is that of the mean over images of the difference between the two variants' shares of correct seeds.
    """
    by_image = a.mean(axis=0) - b.mean(axis=0)
    return float(1.96 * by_image.std(ddof=1) / math.sqrt(len(by_image)))
