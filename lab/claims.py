"""`Claim`: a sentence of advice, its source, and the comparison that would refute it."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lab.smallest_effects import SMALLEST

OF_THE_METRIC = math.nan
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
    percentage): the metric's in `smallest_effects.py`, unless the sentence names another. `said` are the source's words
    where `text` has others, because what they say can't be measured here. `exact` says that the metric has no noise, so
    that equal numbers are a result. `from_tuning` takes the metric from the tuning sweep instead of the runs.

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
    at_least: float | None = None
    check: bool = False

    def __post_init__(self) -> None:
        kinds = sum(map(bool, (self.higher, self.lower, self.equal, self.rising, self.falling)))
        if self.asserted is not None:
            if kinds or self.metric:
                raise ValueError(f"Claim {self.id}: what is asserted compares no runs.")
            return
        if math.isnan(self.by):
            if self.metric not in SMALLEST:
                raise ValueError(
                    f"Claim {self.id}: smallest_effects.py lacks {self.metric!r}: use another metric or give `by`."
                )
            object.__setattr__(self, "by", SMALLEST[self.metric][0])
        if not self.metric or kinds != 1 or bool(self.than) != bool(self.higher or self.lower):
            raise ValueError(f"Claim {self.id}: give a metric and one comparison (higher/lower with than).")
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


def _names(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names
