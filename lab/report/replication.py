"""Whether runs made here agree with the published ones."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import special

from lab.evidence.records import values_of
from lab.report.report import Report

ERROR = 0.01  # How likely it is that runs of the same code are said to differ, over all variants and metrics.


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
    standard deviation times the root of 1/n + 1/k. Published seeds, which a plain run has, agree more often than that.
    """
    claimed = (claim.metric for claim in theirs.experiment.claims if claim.metric and not claim.from_tuning)
    elsewhere = ours.found.machine.kind != theirs.found.machine.kind
    apart = theirs.experiment.timed if elsewhere else set()  # Times and memory are those of one kind of machine.
    found = []
    for metric in (name for name in dict.fromkeys(["test_accuracy", *claimed]) if name not in apart):
        new, old = values_of(ours.records, metric), values_of(theirs.records, metric)
        for variant in theirs.experiment.names:
            here, there = (list(values.get(variant, {}).values()) for values in (new, old))
            if here and len(there) > 1 and (spread := statistics.stdev(there)):
                means = statistics.mean(here), statistics.mean(there)
                t = abs(means[0] - means[1]) / (spread * math.sqrt(1 / len(here) + 1 / len(there)))
                chance = 2 * float(special.stdtr(len(there) - 1, -t))
                found.append(Agreement(variant, metric, *means, spread, chance))
    return found


def differing(found: Sequence[Agreement]) -> list[Agreement]:
    """Those that chance does not explain, the least likely first; the level is shared among all."""
    return sorted((a for a in found if a.chance < ERROR / len(found)), key=lambda a: a.chance)


def words(found: Sequence[Agreement], report: Report) -> list[str]:
    """What to tell a reader about it."""
    if not found:
        return []
    if not (odd := differing(found)):
        variants, metrics = len({a.variant for a in found}), len({a.metric for a in found})
        of_them = f"{variants} variants and {metrics} metric{'s' if metrics > 1 else ''}"
        return [f"Your runs agree with them: for {of_them}, each mean lies where new seeds were expected."]
    lines = ["Your runs differ from them:"]
    for a in odd:
        unit = report.experiment.unit(a.metric)
        here, there, spread = (unit.show(value) for value in (a.here, a.published, a.spread))
        once = f"{1 / max(a.chance, 1e-6):,.0f}"
        lines.append(
            f"    {a.variant}, {unit.words}: {here} here, {there} ± {spread} published. Chance alone moves them that "
            f"far apart once in {once} times{' or less' if a.chance < 1e-6 else ''}."
        )
    return lines
