"""`tune`: find each variant's settings by validation, then draw how sensitive it is to them.

Every variant gets the same number of trials. On seed 0 they are the grid of the swept field, then two more about its
winner, the grid's finer neighbours or, where the variant has one, two values of a second field. Where a winner lies at
the edge of its grid, or has the highest value of the second field, there are more. The best three are then tried at
four more seeds, and win by their means: what one seed says of neighbouring values is mostly noise. Means within a
standard error of the best are level, and of those the one in the middle is taken, far from where it gets bad. No winner
lies at the edge of what was tried, unless beyond it there is nothing to try.

At budget full, where a trial takes a hundred times as long, the grid is what won at quick and its two neighbours, and
the best two are tried at one more seed.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lab.evidence.records import finished
from lab.evidence.schemas import Record, Trial

SEED = 0
FINAL_SEEDS = (1001, 1002, 1003, 1004)  # Of no run that is published, nor of the curve.
FIRST_OF_CURVE = 4  # What was seen at the seeds before it has led to changes of claims' experiments.
GOOD = 0.02  # A rate is good within 2 points of the variant's own best.
MOST_WIDENINGS = 4
HALF_DECADE = math.sqrt(10)

Trials = Callable[[list[tuple[str, int, dict[str, Any]]]], list[Record]]


def half_decades(first: float, last: float) -> tuple[float, ...]:
    """Rates from `first` to `last` in steps of half a decade, rounded to two digits."""
    steps = round(2 * math.log10(last / first))
    return tuple(_rounded(first * HALF_DECADE**step) for step in range(steps + 1))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


@dataclass(frozen=True)
class Objective:
    """A metric that settings are tuned for; `lower` says which way is better."""

    metric: str
    lower: bool = False

    def best(self, records: Iterable[Trial]) -> Trial | None:
        """The record with the best value; a diverged run has none."""
        usable = [record for record in records if record["status"] == "finished" and self.metric in record["metrics"]]
        key = lambda record: record["metrics"][self.metric] * (1 if self.lower else -1)  # noqa: E731
        return min(usable, key=key, default=None)


@dataclass(frozen=True)
class Tuning:
    """What `tune` tries: `swept` is a field of the recipe's Config, `grids` its values for each variant.

    `objective` says what wins, for all variants or for each. `second` gives some variants another field and two values
    of it to try where the swept field was best; all other trials have its value of `fixed`. `found` are the names in
    the recipe's module that hold what was found: they are no part of the code that the sweep depends on. `curve` says
    of variants at how many seeds, from 4 on, their sensitivity to the swept field is measured. `limits` are the lowest
    and highest value that a variant's field can have: what would lie beyond is not tried. `won` is what won at budget
    quick, about which a sweep at full looks; `finalists` and `final_seeds` say what is tried at more than one seed, and
    `finer` whether the winner's finer neighbours are.
    """

    swept: str
    grids: Mapping[str, tuple[float, ...]]
    objective: Objective | Mapping[str, Objective]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    second: Mapping[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)
    found: tuple[str, ...] = ("RATES",)
    curve: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    won: Mapping[str, float] = field(default_factory=dict)
    finalists: int = 3
    final_seeds: tuple[int, ...] = FINAL_SEEDS
    finer: bool = True

    def at(self, budget: str) -> "Tuning":
        """The sweep at a budget: at full a narrow one, about what won at quick."""
        if budget != "full" or not self.won:
            return self
        near = {variant: _neighbours(self.grids[variant], best) for variant, best in self.won.items()}
        return replace(self, grids=near, curve={}, finalists=2, final_seeds=FINAL_SEEDS[:1], finer=False)

    def objective_of(self, variant: str) -> Objective:
        """What wins among the trials of a variant."""
        return self.objective if isinstance(self.objective, Objective) else self.objective[variant]

    def carry_out(self, variants: Iterable[str], trials: Trials) -> tuple[list[Record], list[Record]]:
        """Do the search, then the curve, by calling `trials` with (variant, seed, config fields) triples."""
        variants = list(variants)
        grids = {variant: list(self.grids[variant]) for variant in variants}
        search: list[Record] = trials([(v, SEED, self._fields(rate)) for v in variants for rate in grids[v]])
        for _ in range(MOST_WIDENINGS):
            wider = [(v, rate) for v in variants for rate in self._beyond_edges(search, v, grids[v])]
            if not wider:
                break
            for variant, rate in wider:
                grids[variant] = sorted([*grids[variant], rate])
            search += trials([(v, SEED, self._fields(rate)) for v, rate in wider])
        search += trials([(v, SEED, fields) for v in variants for fields in self._second_look(search, v)])
        for _ in range(MOST_WIDENINGS):
            further = [(v, SEED, fields) for v in variants for fields in self._beyond_second(search, v)]
            if not further:
                break
            search += trials(further)
        best = {v: self._finalists(search, v) for v in variants}
        seeds = self.final_seeds
        search += trials([(v, seed, fields) for seed in seeds for v in variants for fields in best[v]])
        for _ in range(MOST_WIDENINGS):  # By their means a winner may lie at an edge that was none by one seed.
            beyond = [(v, fields) for v in variants for fields in self._beyond_winner(search, v)]
            if not beyond:
                break
            search += trials([(v, seed, fields) for seed in (SEED, *seeds) for v, fields in beyond])
        swept = [
            (v, seed, self._fields(rate))
            for v in variants
            for seed in range(FIRST_OF_CURVE, FIRST_OF_CURVE + self.curve.get(v, 0))
            for rate in grids[v]
        ]
        return search, trials(swept) if swept else []

    def winners(self, search: Iterable[Trial]) -> dict[str, dict[str, Any]]:
        """variant -> the winning fields and the mean that they reached."""
        search = list(search)
        found: dict[str, dict[str, Any]] = {}
        for variant in dict.fromkeys(record["variant"] for record in search):
            objective = self.objective_of(variant)
            means: list[tuple[tuple[Any, ...], float, float]] = []  # Settings, mean, standard error.
            for settings, records in self._by_settings(search, variant).items():
                values = [record["metrics"].get(objective.metric) for record in records]
                if len(values) == 1 + len(self.final_seeds) and all(
                    record["status"] == "finished" for record in records
                ):
                    error = statistics.stdev(values) / math.sqrt(len(values))
                    means.append((settings, statistics.mean(values), error))
            if means:
                settings, mean = _middle_of_the_best(means, objective.lower)
                found[variant] = {**dict(zip(self._names(variant), settings, strict=True)), objective.metric: mean}
        return found

    def _names(self, variant: str) -> list[str]:
        return [self.swept, *([self.second[variant][0]] if variant in self.second else [])]

    def _by_settings(self, search: Iterable[Trial], variant: str) -> dict[tuple[Any, ...], list[Trial]]:
        found: dict[tuple[Any, ...], list[Trial]] = {}
        for record in search:
            if record["variant"] == variant:
                found.setdefault(tuple(record["config"][name] for name in self._names(variant)), []).append(record)
        return found

    def _leader(self, search: Iterable[Trial], variant: str) -> dict[str, Any] | None:
        """The fields of the best trial so far."""
        best = self.objective_of(variant).best(record for record in search if record["variant"] == variant)
        return {name: best["config"][name] for name in self._names(variant)} if best else None

    def _finalists(self, search: Sequence[Trial], variant: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        rest = [record for record in search if record["variant"] == variant]
        while len(found) < self.finalists and (leader := self._leader(rest, variant)):
            found.append({**self.fixed, **leader})
            rest = [r for r in rest if any(r["config"][name] != value for name, value in leader.items())]
        return found

    def _fields(self, swept: float) -> dict[str, Any]:
        return {self.swept: swept, **self.fixed}

    def _beyond_edges(self, search: Sequence[Trial], variant: str, grid: list[float]) -> list[float]:
        """The next value beyond the edge that the leader lies at, as far as there can be one."""
        return self._beyond(variant, (self._leader(search, variant) or {}).get(self.swept), grid)

    def _beyond_winner(self, search: Sequence[Trial], variant: str) -> list[dict[str, Any]]:
        """The fields of the winner, with the next value beyond the edge of all that was tried, if it lies there."""
        winner = self.winners(record for record in search if record["variant"] == variant).get(variant)
        if winner is None:
            return []
        tried = sorted({record["config"][self.swept] for record in search if record["variant"] == variant})
        fields = {name: winner[name] for name in self._names(variant)}
        wider = self._beyond(variant, winner[self.swept], tried)
        return [{**self.fixed, **fields, self.swept: value} for value in wider]

    def _beyond(self, variant: str, value: float | None, grid: list[float]) -> list[float]:
        low, high = self.limits.get(variant, (-math.inf, math.inf))
        below, above = max(low, _rounded(grid[0] / HALF_DECADE)), min(high, _rounded(grid[-1] * HALF_DECADE))
        return [wider for edge, wider in ((grid[0], below), (grid[-1], above)) if edge == value != wider]

    def _can_be(self, variant: str, value: float) -> bool:
        low, high = self.limits.get(variant, (-math.inf, math.inf))
        return low <= value <= high

    def _beyond_second(self, search: Sequence[Trial], variant: str) -> list[dict[str, Any]]:
        """The next value of the second field, where the highest one that was tried has won; zero needs no next one."""
        winner = self._leader(search, variant)
        if winner is None or variant not in self.second:
            return []
        name = self.second[variant][0]
        tried = sorted({record["config"][name] for record in search if record["variant"] == variant})
        if winner[name] < tried[-1] or tried[-1] == 0:
            return []
        return [{**self._fields(winner[self.swept]), name: _rounded(10 * tried[-1])}]

    def _second_look(self, search: Sequence[Trial], variant: str) -> list[dict[str, Any]]:
        winner = self._leader(search, variant)
        if winner is None:
            return []
        rate = winner[self.swept]
        if variant in self.second:
            field_name, values = self.second[variant]
            return [{**self._fields(rate), field_name: value} for value in values]
        if not self.finer:
            return []
        tried = {record["config"][self.swept] for record in search if record["variant"] == variant}
        finer = [_rounded(rate * math.sqrt(HALF_DECADE) ** side) for side in (-1, 1)]
        # What the grid has already is not tried twice: it would count twice in its mean.
        return [self._fields(value) for value in finer if self._can_be(variant, value) and value not in tried]


def _neighbours(grid: Iterable[float], best: float) -> tuple[float, ...]:
    """A value and the grid's next ones below and above it; where it is an edge, only one."""
    below, above = [value for value in grid if value < best], [value for value in grid if value > best]
    return (*sorted(below)[-1:], best, *sorted(above)[:1])


def _middle_of_the_best(
    means: list[tuple[tuple[Any, ...], float, float]], lower: bool
) -> tuple[tuple[Any, ...], float]:
    """Of settings, their means and standard errors: the middle one of those that are level with the best."""
    worth = lambda entry: -entry[1] if lower else entry[1]  # noqa: E731
    best = max(means, key=worth)
    level = sorted(entry for entry in means if worth(entry) >= worth(best) - best[2])
    middle = level[(len(level) - 1) // 2 : len(level) // 2 + 1]  # Of an even number, two.
    settings, mean, _ = max(middle, key=worth)
    return settings, mean


def good_decades(curve: Iterable[Trial], swept: str) -> dict[str, dict[int, float]]:
    """variant -> seed -> width, in decades, of the rates whose test accuracy is within `GOOD` of the variant's best.

    Accuracy is interpolated between the swept rates along their logarithm.
    """
    by_run: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for record in finished(curve):
        point = (math.log10(record["config"][swept]), record["metrics"]["test_accuracy"])
        by_run.setdefault((record["variant"], record["seed"]), []).append(point)
    widths: dict[str, dict[int, float]] = {}
    for (variant, seed), points in by_run.items():
        x, y = np.array(sorted(points)).T
        fine = np.linspace(x[0], x[-1], 1000 * len(x))
        good = np.interp(fine, x, y) >= y.max() - GOOD
        widths.setdefault(variant, {})[seed] = float(good.mean() * (x[-1] - x[0]))
    return widths
