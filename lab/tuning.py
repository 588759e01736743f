"""`tune`: find each variant's settings by validation, then draw how sensitive it is to them.

Every variant gets the same number of trials. On one seed they are the grid of the swept setting, then two more about
its winner: the grid's finer neighbors or, where the variant has one, two values of a second setting. A winner at the
edge of its grid gets more, and so does one with the highest value of the second setting, or with another value of it
than the grid had. The best three are then tried at four more seeds, and win by their means, since one seed says little
of neighboring values. Means within a standard error of the best are level. Of those the one in the middle wins, as far
as possible from where it gets bad. No winner lies at the edge of what was tried, unless nothing beyond it can be tried.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lab.evidence.records import finished
from lab.evidence.schemas import Config, Record, Trial

# Neither published runs, which begin at 301, nor pilots use these.
SEED = 801
FINAL_SEEDS = (802, 803, 804, 805)
FIRST_OF_CURVE = 811
GOOD = 0.02  # A rate is good within 2 points of the variant's own best.
WIDENINGS = 4
HALF_DECADE = math.sqrt(10)

Trials = Callable[[list[tuple[str, int, Config]]], list[Record]]  # Does trials: a variant, a seed, and settings each.
Wanted = Callable[[str, Sequence[Trial]], list[Config]]  # The settings to try next of a variant, after these trials.


def half_decades(first: float, last: float) -> tuple[float, ...]:
    """Rates from `first` to `last` in steps of half a decade, rounded to two digits."""
    steps = round(2 * math.log10(last / first))
    return tuple(_rounded(first * HALF_DECADE**step) for step in range(steps + 1))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


@dataclass(frozen=True)
class Range:
    """What a search may choose: any number from `low`, above 0, to `high`, evenly along its logarithm.

    A grid search has the values of `grid`.
    """

    low: float
    high: float
    grid: tuple[float, ...] = ()


Space = Mapping[str, Range | tuple[Any, ...]]  # A field of a recipe's Config -> a range, or the values to choose from.


@dataclass(frozen=True)
class Objective:
    """A metric that settings are tuned for; `lower` says which way is better."""

    metric: str
    lower: bool = False

    @property
    def sign(self) -> int:
        return -1 if self.lower else 1

    def ranked(self, trials: Iterable[Trial]) -> list[Trial]:
        """The trials that have a value, the best first; a diverged one has none."""
        usable = [trial for trial in trials if trial.status == "finished" and self.metric in trial.metrics]
        return sorted(usable, key=lambda trial: -self.sign * trial.metrics[self.metric])


@dataclass(frozen=True)
class Tuning:
    """What `tune` tries.

    Args:
        swept: a field of the recipe's Config.
        grids: the field's values for each variant.
        objective: what wins, for all variants or for each.
        fixed: fields that all other trials have the same values of. One that is the `second` of some variants is theirs
            alone.
        second: for some variants another field, and two values of it to try where the swept field was best.
        found: the names in the recipe's module that hold what was found. They are no part of the code's hash.
        curve: at how many seeds a variant's sensitivity to the swept field is measured.
        limits: the lowest and highest value that a variant's field can have.
        finalists, final_seeds: how many settings are tried at more than one seed, and at which.
        widenings: how often a winner at an edge gets more trials. 0: all variants have exactly the same trials.
        finer: whether the winner's finer neighbors are tried.
        own_fixed: what `fixed` is to all variants, for single ones.
    """

    swept: str
    grids: Mapping[str, tuple[float, ...]]
    objective: Objective | Mapping[str, Objective]
    fixed: Config = field(default_factory=dict)
    second: Mapping[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)
    found: tuple[str, ...] = ("RATES",)
    curve: Mapping[str, int] = field(default_factory=dict)
    limits: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    finalists: int = 3
    final_seeds: tuple[int, ...] = FINAL_SEEDS
    finer: bool = True
    widenings: int = WIDENINGS
    own_fixed: Mapping[str, Config] = field(default_factory=dict)

    @property
    def chosen(self) -> set[str]:
        """The fields of Config that the sweep sets."""
        return {self.swept, *(name for name, _ in self.second.values())}

    def objective_of(self, variant: str) -> Objective:
        return self.objective if isinstance(self.objective, Objective) else self.objective[variant]

    def sweep(self, variants: Iterable[str], do: Trials, with_curve: bool = True) -> tuple[list[Record], list[Record]]:
        """Do the trials of the search, then those of the curve unless it is left out; return the records of both."""
        variants, search = list(variants), list[Record]()

        def extend(wanted: Wanted, seeds: Sequence[int] = (SEED,), times: int = 1) -> None:
            """Do what a variant wants in view of its trials so far, again and again while there is anything."""
            for _ in range(times):
                mine = {variant: [trial for trial in search if trial.variant == variant] for variant in variants}
                settings = [(variant, config) for variant in variants for config in wanted(variant, mine[variant])]
                if not settings:
                    return
                search.extend(do([(variant, seed, config) for seed in seeds for variant, config in settings]))

        more = self.widenings
        extend(lambda variant, _: [self._config(variant, value) for value in self.grids[variant]])
        extend(lambda variant, trials: self._wider(variant, trials, self._leaders(variant, trials)), times=more)
        points = sorted({(trial.variant, trial.config[self.swept]) for trial in search})
        extend(self._second_look)
        extend(lambda variant, trials: self._beyond_second(variant, trials, self._leaders(variant, trials)), times=more)
        extend(self._beside_second, times=min(1, more))
        extend(lambda variant, trials: self._leaders(variant, trials)[: self.finalists], self.final_seeds)
        # By its mean a winner may lie at an edge that was none by one seed.
        all_seeds = (SEED, *self.final_seeds)

        def won(variant: str, trials: Sequence[Trial]) -> list[Config]:
            return [best for best, _ in self._winner(variant, trials)]

        extend(lambda variant, trials: self._wider(variant, trials, won(variant, trials)), all_seeds, more)
        extend(lambda variant, trials: self._beyond_second(variant, trials, won(variant, trials)), all_seeds, more)
        curve = [
            (variant, seed, self._config(variant, value))
            for variant, value in points
            for seed in range(FIRST_OF_CURVE, FIRST_OF_CURVE + self.curve.get(variant, 0))
        ]
        return search, do(curve) if curve and with_curve else []

    def winners(self, search: Sequence[Trial]) -> dict[str, dict[str, Any]]:
        """variant -> the winning settings and the mean that they reached."""
        found = {}
        for variant in dict.fromkeys(trial.variant for trial in search):
            for settings, mean in self._winner(variant, [trial for trial in search if trial.variant == variant]):
                found[variant] = {**settings, self.objective_of(variant).metric: mean}
        return found

    def _config(self, variant: str, value: float) -> Config:
        return {self.swept: value, **self.fixed_of(variant)}

    def fixed_of(self, variant: str) -> Config:
        """The fields that all trials of a variant have, but for those that try another value of its second one."""
        of_others = {name for other, (name, _) in self.second.items() if other != variant}
        own = self.second.get(variant, ("",))[0]
        shared = {name: value for name, value in self.fixed.items() if name == own or name not in of_others}
        return {**shared, **self.own_fixed.get(variant, {})}

    def _settings(self, variant: str, trial: Trial) -> tuple[tuple[str, Any], ...]:
        """What a trial tried: the name and the value of the swept field and of the variant's second one."""
        names = [self.swept, *self.second.get(variant, ())[:1]]
        return tuple((name, trial.config[name]) for name in names)

    def _leaders(self, variant: str, trials: Sequence[Trial]) -> list[Config]:
        """The settings that were tried of a variant, in the order of their best trials."""
        ranked = self.objective_of(variant).ranked(trials)
        return [
            {**self.fixed_of(variant), **dict(of)}
            for of in dict.fromkeys(self._settings(variant, trial) for trial in ranked)
        ]

    def _winner(self, variant: str, trials: Sequence[Trial]) -> list[tuple[Config, float]]:
        """Of the settings that were tried at all seeds the winner, with the objective's mean; empty without any."""
        objective, means = self.objective_of(variant), []
        by_settings: dict[tuple[Any, ...], list[Trial]] = {}
        for trial in trials:
            by_settings.setdefault(self._settings(variant, trial), []).append(trial)
        for settings, mine in by_settings.items():
            if len(mine) == 1 + len(self.final_seeds) and all(trial.status == "finished" for trial in mine):
                values = [trial.metrics[objective.metric] * objective.sign for trial in mine]
                error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0
                means.append((statistics.mean(values), settings, error))
        if not means:
            return []
        best, _, error = max(means)
        level = sorted((settings, mean) for mean, settings, _ in means if mean >= best - error)
        middle = level[(len(level) - 1) // 2 : len(level) // 2 + 1]  # An even number has two in the middle.
        settings, mean = max(middle, key=lambda entry: entry[1])
        return [(dict(settings), mean * objective.sign)]

    def _wider(self, variant: str, trials: Sequence[Trial], best: Sequence[Config]) -> list[Config]:
        """The best settings with the next value beyond the edge that they lie at, as far as there can be one."""
        low, high = self.limits.get(variant, (-math.inf, math.inf))
        tried = sorted(trial.config[self.swept] for trial in trials)
        below, above = max(low, _rounded(tried[0] / HALF_DECADE)), min(high, _rounded(tried[-1] * HALF_DECADE))
        return [
            {**self.fixed_of(variant), **settings, self.swept: wider}
            for settings in best[:1]
            for edge, wider in ((tried[0], below), (tried[-1], above))
            if edge == settings[self.swept] != wider
        ]

    def _second_look(self, variant: str, trials: Sequence[Trial]) -> list[Config]:
        """The two values of the second setting or, of a variant without one, the best value's finer neighbors."""
        leader = self._leaders(variant, trials)[:1]
        if variant in self.second:
            name, values = self.second[variant]
            return [{**best, name: value} for best in leader for value in values]
        low, high = self.limits.get(variant, (-math.inf, math.inf))
        finer = [
            _rounded(best[self.swept] * HALF_DECADE**half) for best in leader for half in (-0.5, 0.5) if self.finer
        ]
        # What the grid has already is not tried again: it would count twice in its mean.
        tried = {trial.config[self.swept] for trial in trials}
        return [self._config(variant, value) for value in finer if low <= value <= high and value not in tried]

    def _beyond_second(self, variant: str, trials: Sequence[Trial], best: Sequence[Config]) -> list[Config]:
        """The next value of the second setting, where the highest one that was tried has won, unless that is zero."""
        if variant not in self.second:
            return []
        name = self.second[variant][0]
        highest = max(trial.config[name] for trial in trials)
        return [{**one, name: _rounded(10 * highest)} for one in best[:1] if one[name] == highest != 0]

    def _beside_second(self, variant: str, trials: Sequence[Trial]) -> list[Config]:
        """The neighbors of the best swept value, where the second setting is best at another value than the grid's."""
        name = self.second.get(variant, ("",))[0]
        low, high = self.limits.get(variant, (-math.inf, math.inf))
        return [
            {**best, self.swept: value}
            for best in self._leaders(variant, trials)[:1]
            if name and best[name] != self.fixed_of(variant)[name]
            for value in (_rounded(best[self.swept] / HALF_DECADE), _rounded(best[self.swept] * HALF_DECADE))
            if low <= value <= high
        ]


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
