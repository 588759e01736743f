"""`tune`: find each variant's settings by validation, then draw how sensitive it is to them.

Every variant gets the same number of trials. On seed 0 they are the grid of the swept setting, then two more about its
winner: the grid's finer neighbours or, where the variant has one, two values of a second setting. A winner at the edge
of its grid, or with the highest value of the second setting, gets more. The best three are then tried at four more
seeds, and win by their means, since one seed says little of neighbouring values. Means within a standard error of the
best are level. Of those the one in the middle wins, as far as possible from where it gets bad. No winner lies at the
edge of what was tried, unless nothing beyond it can be tried.

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
from lab.evidence.schemas import Config, Record, Trial

SEED = 0
FINAL_SEEDS = (1001, 1002, 1003, 1004)  # Neither published runs nor the curve use these.
FIRST_OF_CURVE = 4  # Results at the seeds before it have led to changes of claims.
GOOD = 0.02  # A rate is good within 2 points of the variant's own best.
MOST_WIDENINGS = 4
HALF_DECADE = math.sqrt(10)

Trials = Callable[[list[tuple[str, int, Config]]], list[Record]]  # Does trials: a variant, a seed, and settings each.


def half_decades(first: float, last: float) -> tuple[float, ...]:
    """Rates from `first` to `last` in steps of half a decade, rounded to two digits."""
    steps = round(2 * math.log10(last / first))
    return tuple(_rounded(first * HALF_DECADE**step) for step in range(steps + 1))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


@dataclass(frozen=True)
class Range:
    """What a search may choose: any number from `low` to `high`, evenly along its logarithm.

    A grid search has the values of `grid`.
    """

    low: float
    high: float
    grid: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high:
            raise ValueError(f"A range along logarithms goes from above 0 upwards, not from {self.low} to {self.high}.")


Space = Mapping[str, Range | tuple[Any, ...]]  # A field of a recipe's Config -> a range, or the values to choose from.


@dataclass(frozen=True)
class Objective:
    """A metric that settings are tuned for; `lower` says which way is better."""

    metric: str
    lower: bool = False

    def best(self, trials: Iterable[Trial]) -> Trial | None:
        """The trial with the best value; a diverged run has none."""
        usable = [trial for trial in trials if trial.status == "finished" and self.metric in trial.metrics]
        return min(usable, key=lambda trial: trial.metrics[self.metric] * (1 if self.lower else -1), default=None)


@dataclass(frozen=True)
class Tuning:
    """What `tune` tries.

    Args:
        swept: a field of the recipe's Config.
        grids: the field's values for each variant.
        objective: what wins, for all variants or for each.
        fixed: fields that all other trials have the same values of.
        second: for some variants another field, and two values of it to try where the swept field was best.
        found: the names in the recipe's module that hold what was found. They are no part of the code's hash.
        curve: at how many seeds, from 4 on, a variant's sensitivity to the swept field is measured.
        limits: the lowest and highest value that a variant's field can have.
        won: what won at budget quick: a sweep at full looks about it.
        finalists, final_seeds: how many settings are tried at more than one seed, and at which.
        finer: whether the winner's finer neighbours are tried.
    """

    swept: str
    grids: Mapping[str, tuple[float, ...]]
    objective: Objective | Mapping[str, Objective]
    fixed: Config = field(default_factory=dict)
    second: Mapping[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)
    found: tuple[str, ...] = ("RATES",)
    curve: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    won: Mapping[str, float] = field(default_factory=dict)
    finalists: int = 3
    final_seeds: tuple[int, ...] = FINAL_SEEDS
    finer: bool = True

    @property
    def chosen(self) -> set[str]:
        """The fields of Config that the sweep sets."""
        return {self.swept, *(name for name, _ in self.second.values())}

    def at(self, budget: str) -> "Tuning":
        """The sweep at a budget: at full a narrow one, about what won at quick."""
        if budget != "full" or not self.won:
            return self
        near = {variant: _neighbours(self.grids[variant], best) for variant, best in self.won.items()}
        return replace(self, grids=near, curve={}, finalists=2, final_seeds=FINAL_SEEDS[:1], finer=False)

    def objective_of(self, variant: str) -> Objective:
        """What wins among the trials of a variant."""
        return self.objective if isinstance(self.objective, Objective) else self.objective[variant]

    def sweep(self, variants: Iterable[str], do: Trials) -> tuple[list[Record], list[Record]]:
        """Do the trials of the search, then those of the curve; return the records of both."""
        variants, search = list(variants), []

        def extend(wanted: Callable[[str], list[Config]], seeds: Sequence[int] = (SEED,), times: int = 1) -> None:
            """Do what a variant wants in view of the trials so far, again and again while there is anything."""
            for _ in range(times):
                settings = [(variant, config) for variant in variants for config in wanted(variant)]
                if not settings:
                    return
                search.extend(do([(variant, seed, config) for seed in seeds for variant, config in settings]))

        extend(lambda variant: [self._config(value) for value in self.grids[variant]])
        extend(lambda variant: self._beyond_leader(search, variant), times=MOST_WIDENINGS)
        grids = {variant: self._tried(search, variant, self.swept) for variant in variants}
        extend(lambda variant: self._second_look(search, variant))
        extend(lambda variant: self._beyond_second(search, variant), times=MOST_WIDENINGS)
        extend(lambda variant: self._finalists(search, variant), self.final_seeds)
        # By its mean a winner may lie at an edge that was none by one seed.
        extend(lambda variant: self._beyond_winner(search, variant), (SEED, *self.final_seeds), MOST_WIDENINGS)
        curve = [
            (variant, seed, self._config(value))
            for variant in variants
            for seed in range(FIRST_OF_CURVE, FIRST_OF_CURVE + self.curve.get(variant, 0))
            for value in grids[variant]
        ]
        return search, do(curve) if curve else []

    def winners(self, search: Iterable[Trial]) -> dict[str, dict[str, Any]]:
        """variant -> the winning settings and the mean that they reached."""
        search, found = list(search), {}
        for variant in dict.fromkeys(trial.variant for trial in search):
            metric, means = self.objective_of(variant).metric, []
            for settings, trials in self._by_settings(search, variant).items():
                if len(trials) == 1 + len(self.final_seeds) and all(trial.status == "finished" for trial in trials):
                    values = [trial.metrics[metric] for trial in trials]
                    means.append((settings, statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))))
            if means:
                settings, mean = _middle_of_the_best(means, self.objective_of(variant).lower)
                found[variant] = {**dict(zip(self._names(variant), settings, strict=True)), metric: mean}
        return found

    def _config(self, value: float) -> Config:
        return {self.swept: value, **self.fixed}

    def _names(self, variant: str) -> list[str]:
        return [self.swept, *([self.second[variant][0]] if variant in self.second else [])]

    def _by_settings(self, search: Iterable[Trial], variant: str) -> dict[tuple[Any, ...], list[Trial]]:
        found: dict[tuple[Any, ...], list[Trial]] = {}
        for trial in search:
            if trial.variant == variant:
                found.setdefault(tuple(trial.config[name] for name in self._names(variant)), []).append(trial)
        return found

    def _tried(self, search: Iterable[Trial], variant: str, name: str) -> list[float]:
        return sorted({trial.config[name] for trial in search if trial.variant == variant})

    def _leader(self, search: Iterable[Trial], variant: str) -> Config | None:
        """The settings of the best trial so far."""
        best = self.objective_of(variant).best(trial for trial in search if trial.variant == variant)
        return {name: best.config[name] for name in self._names(variant)} if best else None

    def _finalists(self, search: Sequence[Trial], variant: str) -> list[Config]:
        found: list[Config] = []
        rest = [trial for trial in search if trial.variant == variant]
        while len(found) < self.finalists and (leader := self._leader(rest, variant)):
            found.append({**self.fixed, **leader})
            rest = [trial for trial in rest if any(trial.config[name] != value for name, value in leader.items())]
        return found

    def _beyond_leader(self, search: Sequence[Trial], variant: str) -> list[Config]:
        """The next value beyond the edge that the best trial lies at, as far as there can be one."""
        leader = self._leader(search, variant)
        return [self._config(value) for value in self._beyond(search, variant, leader)] if leader else []

    def _beyond_winner(self, search: Sequence[Trial], variant: str) -> list[Config]:
        """The winner's settings, with the next value beyond the edge of all that was tried, if it lies there."""
        winner = self.winners(trial for trial in search if trial.variant == variant).get(variant)
        if winner is None:
            return []
        settings = {**self.fixed, **{name: winner[name] for name in self._names(variant)}}
        return [{**settings, self.swept: value} for value in self._beyond(search, variant, settings)]

    def _beyond(self, search: Sequence[Trial], variant: str, settings: Config) -> list[float]:
        tried = self._tried(search, variant, self.swept)
        low, high = self.limits.get(variant, (-math.inf, math.inf))
        below, above = max(low, _rounded(tried[0] / HALF_DECADE)), min(high, _rounded(tried[-1] * HALF_DECADE))
        edges, best = ((tried[0], below), (tried[-1], above)), settings[self.swept]
        return [wider for edge, wider in edges if edge == best != wider]

    def _beyond_second(self, search: Sequence[Trial], variant: str) -> list[Config]:
        """The next value of the second setting, where the highest one that was tried has won, unless that is zero."""
        leader = self._leader(search, variant)
        if leader is None or variant not in self.second:
            return []
        name = self.second[variant][0]
        highest = self._tried(search, variant, name)[-1]
        if leader[name] < highest or highest == 0:
            return []
        return [{**self._config(leader[self.swept]), name: _rounded(10 * highest)}]

    def _second_look(self, search: Sequence[Trial], variant: str) -> list[Config]:
        leader = self._leader(search, variant)
        if leader is None:
            return []
        best = leader[self.swept]
        if variant in self.second:
            name, values = self.second[variant]
            return [{**self._config(best), name: value} for value in values]
        low, high = self.limits.get(variant, (-math.inf, math.inf))
        finer = [_rounded(best * math.sqrt(HALF_DECADE) ** side) for side in (-1, 1)] if self.finer else []
        # What the grid has already is not tried again: it would count twice in its mean.
        tried = self._tried(search, variant, self.swept)
        return [self._config(value) for value in finer if low <= value <= high and value not in tried]


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
    middle = level[(len(level) - 1) // 2 : len(level) // 2 + 1]  # An even number has two in the middle.
    settings, mean, _ = max(middle, key=worth)
    return settings, mean


def good_decades(curve: Iterable[Trial], swept: str) -> dict[str, dict[int, float]]:
    """variant -> seed -> width, in decades, of the rates whose test accuracy is within `GOOD` of the variant's best.

    Accuracy is interpolated between the swept rates along their logarithm.
    """
    by_run: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for trial in finished(curve):
        point = (math.log10(trial.config[swept]), trial.metrics["test_accuracy"])
        by_run.setdefault((trial.variant, trial.seed), []).append(point)
    widths: dict[str, dict[int, float]] = {}
    for (variant, seed), points in by_run.items():
        x, y = np.array(sorted(points)).T
        fine = np.linspace(x[0], x[-1], 1000 * len(x))
        good = np.interp(fine, x, y) >= y.max() - GOOD
        widths.setdefault(variant, {})[seed] = float(good.mean() * (x[-1] - x[0]))
    return widths
