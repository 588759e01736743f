"""`Claim`: a sentence of advice, its source, and the comparison that would contradict it."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from lab.smallest_effects import SMALLEST

Names = str | tuple[str, ...]
Kind = Literal["beats", "no worse", "equal", "at least"]


@dataclass(frozen=True)
class Claim:
    """A sentence of advice, its source, and the comparison that would contradict it.

    Say one of
        higher=A or lower=A, than=B     A's metric lies above (below) B's. Tuples: each A against each B.
        equal=(A, B, ...)               no two of them differ by the smallest effect that matters.
        equal=(A, B), side="below"      A lies below B by less than the smallest effect that matters ("keeps").
        equal=(A, B), side="above"      A lies above B by less than that ("costs nothing").
        rising={A: x, B: y, ...}        the metric rises with x; `falling` is its mirror image.
        asserted=(2 + 2 == 4)           arithmetic: a check that needs no run. What needs TensorFlow is a function that
                                        tells, since nothing may start it while an experiment is imported.

    Args:
        at_least: with `higher`, `lower`, `rising` or `falling`: how far A lies above (below) B at least, in the
            metric's unit. It is the sentence's own number, such as 0.1 for "ten points" or log(2) for "twice"; below
            zero it is how far A lies on the other side at most, such as -0.03 for "costs at most three points".
        check: the comparison can't come out otherwise unless the code is wrong, so it is counted apart from claims.
        family: empty for the claims that an experiment began with, and a name for those added after its numbers had
            been seen: each family shares out 5 % of its own.
        exact: the metric has no noise, so that differences that are all equal are a result.
        from_tuning: the metric comes from the tuning sweep instead of the runs.
        said: the advice itself, where `text` says how it is tested.
        strong: the id of the claim that tests the same on the strong baseline.
        delta: the smallest effect that matters of a metric of your own, which `smallest_effects.py` lacks. All other
            metrics have theirs there, and no claim can change it.

    Raises:
        ValueError: not exactly one comparison, or a smallest effect that is missing, given twice or not positive.
    """

    id: str
    text: str
    source: str
    metric: str = ""
    higher: Names = ()
    lower: Names = ()
    than: Names = ()
    equal: tuple[str, ...] = ()
    side: Literal["both", "above", "below"] = "both"
    rising: Mapping[str, float] = field(default_factory=dict)
    falling: Mapping[str, float] = field(default_factory=dict)
    at_least: float | None = None
    check: bool = False
    family: str = ""
    exact: bool = False
    from_tuning: bool = False
    asserted: bool | Callable[[], bool] | None = None
    said: str = ""
    strong: str = ""
    delta: float = math.nan

    def __post_init__(self) -> None:
        kinds = sum(map(bool, (self.higher, self.lower, self.equal, self.rising, self.falling)))
        if self.asserted is not None:
            if kinds or self.metric:
                raise ValueError(f"Claim {self.id}: what is asserted compares no runs.")
            object.__setattr__(self, "check", True)
            return
        if not self.metric or kinds != 1 or bool(self.than) != bool(self.higher or self.lower):
            raise ValueError(f"Claim {self.id}: give a metric and one comparison (higher/lower with than).")
        if self.equal and (len(self.equal) == 1 or (self.side != "both" and len(self.equal) != 2)):
            raise ValueError(f"Claim {self.id}: `equal` needs two names or more, and with a side just two.")
        if self.at_least is not None and (self.equal or not math.isfinite(self.at_least)):
            raise ValueError(f"Claim {self.id}: give `at_least` as a number, with higher, lower, rising or falling.")
        self._set_delta()

    def _set_delta(self) -> None:
        if self.metric in SMALLEST:
            if not math.isnan(self.delta) and self.delta != SMALLEST[self.metric][0]:  # As `replace` gives it again.
                raise ValueError(
                    f"Claim {self.id}: leave `delta` out: {self.metric} has its own in smallest_effects.py."
                )
            object.__setattr__(self, "delta", SMALLEST[self.metric][0])
        elif math.isnan(self.delta):
            raise ValueError(
                f"Claim {self.id}: smallest_effects.py lacks {self.metric!r}: add it there, or give `delta`."
            )
        if not 0 < self.delta < math.inf:
            raise ValueError(f"Claim {self.id}: `delta` must be above 0, not {self.delta:g}.")

    @property
    def holds(self) -> bool:
        """Whether what is asserted is so."""
        return bool(self.asserted() if callable(self.asserted) else self.asserted)

    @property
    def kind(self) -> Kind:
        """Which of the four kinds of claim it is; a trend is one of the slope."""
        if self.equal:
            return "equal" if self.side == "both" else "no worse"
        return "beats" if self.at_least is None else "at least"

    @property
    def trend(self) -> Mapping[str, float]:
        """Variant -> x of a claim about a slope; empty for others."""
        return self.rising or self.falling

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The (A, B) of each comparison; for a trend one pair of its first and last variant."""
        if self.higher or self.lower:
            return list(itertools.product(_names(self.higher or self.lower), _names(self.than)))
        if self.equal:
            return list(itertools.combinations(self.equal, 2))
        if self.asserted is not None:
            return []
        ordered = sorted(self.trend, key=self.trend.__getitem__)
        return [(ordered[0], ordered[-1])]

    def contrast(self, pair: tuple[str, str]) -> dict[str, float]:
        """Variant -> its weight in the sum that a comparison is about, which is positive in the claim's direction."""
        sign = -1.0 if self.lower or self.falling else 1.0
        if not self.trend:
            return {pair[0]: sign, pair[1]: -sign}
        middle = sum(self.trend.values()) / len(self.trend)
        squares = sum((x - middle) ** 2 for x in self.trend.values())
        return {name: sign * (x - middle) / squares for name, x in self.trend.items()}

    @property
    def variants(self) -> set[str]:
        """Every variant that the claim speaks of."""
        return {name for pair in self.pairs for name in pair} | set(self.trend)


def families(claims: Iterable[Claim]) -> dict[tuple[bool, str], list[Claim]]:
    """(whether they are checks, family) -> the claims that share an error of 5 %, without what is asserted."""
    found: dict[tuple[bool, str], list[Claim]] = {}
    for claim in claims:
        if claim.asserted is None:
            found.setdefault((claim.check, claim.family), []).append(claim)
    return found


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
