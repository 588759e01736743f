"""Whether runs made here agree with the published ones."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from lab.evidence.records import values_of
from lab.report.card import kind_of
from lab.report.report import Report

ERROR = 0.01  # The chance that runs which do agree are said to differ, over all of a recipe's variants and metrics.


@dataclass(frozen=True)
class Agreement:
    """A variant's mean of a metric here and as published, and how likely so large a difference is by chance."""

    variant: str
    metric: str
    here: float
    published: float
    spread: float  # The published standard deviation.
    chance: float


def agreement(ours: Report, theirs: Report) -> list[Agreement]:
    """One for each variant, and each metric that claims are about and that varies from seed to seed.

    A mean of k new runs lies within Student's prediction interval from n published ones, whose width is the published
    standard deviation times the root of 1/n + 1/k. That is for new seeds: of runs at published ones, which a plain run
    has, less is to be expected between machines, so that these are said to differ more seldom than they might be.
    """
    metrics = dict.fromkeys(
        ["test_accuracy", *(claim.metric for claim in theirs.experiment.claims if not claim.from_tuning)]
    )
    if theirs.experiment.by_machine and kind_of(ours.found["machine"]) != kind_of(theirs.found["machine"]):
        metrics = dict.fromkeys(["test_accuracy"])  # Times and memory are those of one kind of machine.
    found = []
    for metric in filter(None, metrics):
        new, old = values_of(ours.records, metric), values_of(theirs.records, metric)
        for variant in theirs.experiment.names:
            here, there = (list(values.get(variant, {}).values()) for values in (new, old))
            if not here or len(there) < 2 or (spread := statistics.stdev(there)) == 0:
                continue
            means = statistics.mean(here), statistics.mean(there)
            t = abs(means[0] - means[1]) / (spread * math.sqrt(1 / len(here) + 1 / len(there)))
            chance = 2 * float(special.stdtr(len(there) - 1, -t))
            found.append(Agreement(variant, metric, *means, spread, chance))
    return found


def differing(found: Sequence[Agreement]) -> list[Agreement]:
    """Those that chance does not explain, the least likely first; the level is shared among all."""
    return sorted((a for a in found if a.chance < ERROR / len(found)), key=lambda a: a.chance)


def words(found: Sequence[Agreement], report: Report) -> list[str]:
    """What to tell a reader of it."""
    if not found:
        return []
    odd = differing(found)
    if not odd:
        variants, metrics = len({a.variant for a in found}), len({a.metric for a in found})
        return [
            f"Your runs agree with them: of {variants} variants and {metrics} metric{'s' if metrics > 1 else ''}, each "
            "mean lies where new seeds were to be expected."
        ]
    lines = ["Your runs differ from them:"]
    for a in odd:
        unit = report.experiment.unit(a.metric)
        lines.append(
            f"    {a.variant}, {unit.words}: {unit.show(a.here)} here, {unit.show(a.published)} ± "
            f"{unit.show(a.spread)} published; by chance so far apart once in {_times(a.chance)}."
        )
    return lines


def _times(chance: float) -> str:
    times = 1 / max(chance, 1e-12)
    return f"{times:,.0f}" if times < 1e6 else f"10^{math.floor(math.log10(times))}"
