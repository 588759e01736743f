"""`Report`: what evidence says, in numbers, tables and words."""

import functools
import hashlib
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lab.claims import Claim, families
from lab.evidence import occasions
from lab.evidence.records import levels_of, values_of
from lab.evidence.schemas import LOOKS, Evidence, Machine, Record, TuningSweep, unpack_bits
from lab.experiment import BUDGETS, Experiment
from lab.panels import Sweep
from lab.report import figure, forest
from lab.statistics import Comparison, Judgement, judge
from lab.tuning import good_decades

TABLE = ("test_accuracy", "generalization_gap", "epochs_to_target", "seconds_to_target", "images_per_second")
ACCURACIES = ("test_accuracy", "train_accuracy")
MOST_SHOWN = 4


class Report:
    """What evidence says, in numbers and words."""

    def __init__(self, experiment: Experiment, found: Evidence, tuning: TuningSweep | None) -> None:
        self.experiment, self.found, self.tuning = experiment, found, tuning
        self.records = found.records

    @functools.cached_property
    def judgements(self) -> list[Judgement]:
        """One for each claim; at full, for each claim whose variants were all measured there."""
        at_full = self.found.budget == "full"
        # More searches of a table would tell nothing new about the table.
        looks = (len(self.found.seeds),) if self.experiment.table else LOOKS
        there = set(self.found.variants)
        whole = [claim for claim in self.experiment.claims if claim.variants and claim.variants <= there]
        claims = [claim for claim in whole if not claim.from_tuning] if at_full else self.experiment.claims
        sizes = {key: len(family) for key, family in families(claims).items()}
        timings = occasions.timings(self.experiment.timed)
        return [
            judge(
                claim,
                self._values(claim),
                sizes.get((claim.check, claim.family), 0),
                looks,
                correct=self.correct if claim.metric == "test_accuracy" else None,
                chance=1 / self.found.classes if claim.metric in ACCURACIES else 0.0,
                occasions=occasions.occasions_of(self.records) if claim.metric in timings else None,
            )
            for claim in claims
        ]

    @functools.cached_property
    def correct(self) -> dict[str, dict[int, np.ndarray]]:
        """variant -> seed -> which test images were classified correctly; runs that diverged are not there."""
        found: dict[str, dict[int, np.ndarray]] = {}
        for record in self.records:
            if record.correct is not None:
                bits = unpack_bits(record.correct, self.found.test_images)
                found.setdefault(record.variant, {})[record.seed] = bits
        return found

    @property
    def has_intervals(self) -> bool:
        """Whether any comparison has an interval, so that there is a forest plot."""
        return any(comparison.n > 1 for judgement in self.judgements for comparison in judgement.comparisons)

    def _values(self, claim: Claim) -> dict[str, dict[int, float]]:
        return self.good_decades() if claim.from_tuning else values_of(self.records, claim.metric)

    def good_decades(self) -> dict[str, dict[int, float]]:
        """variant -> seed -> width of the good range in the published sweep's curve, if there is one."""
        if self.tuning is None or self.experiment.tuning is None:
            return {}
        return good_decades(self.tuning.curve, self.experiment.tuning.swept)

    def shown(self) -> list[str]:
        """The metrics that tables show, those that any run has."""
        claimed = (claim.metric for claim in self.experiment.claims if claim.metric and not claim.from_tuning)
        wanted = dict.fromkeys((*TABLE, *self.experiment.units, *claimed))
        if self.experiment.timed & set(self.experiment.units):  # It times steps with nothing beside them.
            wanted.pop("images_per_second")
        return [name for name in wanted if values_of(self.records, name)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: each variant's mean ± standard deviation over seeds."""
        shown = self.shown()
        levels = {name: self.levels(name) for name in shown}
        rows = []
        for variant in self.found.variants:
            mine = [record for record in self.records if record.variant == variant]
            cells = [self._spread(name, list(levels[name].get(variant, {}).values())) for name in shown]
            missed = sum(record.metrics.get("target_reached") == 0 for record in mine)
            if missed and "epochs_to_target" in shown:
                cells[shown.index("epochs_to_target")] += f" ({missed} missed)"
            rows.append([variant, *cells, _count(mine)])
        return ["variant", *map(self.heading, shown), "runs"], rows

    def levels(self, metric: str) -> dict[str, dict[int, float]]:
        """variant -> seed -> value of a metric, as tables and figures show it."""
        return levels_of(self.records, metric, self.experiment.unit(metric).timed)

    def heading(self, metric: str) -> str:
        """A metric or a curve with its unit, as a column or an axis is headed."""
        unit = self.experiment.unit(metric)
        shown = {"points": "%"}.get(unit.name, unit.name)
        return f"{unit.words} ({shown})" if shown and shown not in unit.words else unit.words

    def _spread(self, metric: str, values: list[float]) -> str:
        unit = self.experiment.unit(metric)
        if not values:
            return "–"
        # A value that is the same in all runs was counted and not measured.
        spread = f" ± {unit.show(statistics.stdev(values))}" if len(set(values)) > 1 else ""
        return unit.show(statistics.mean(values)) + spread

    def verdict_lines(self, brief: bool = False) -> list[str]:
        """Each claim's verdict in words with its numbers; in `brief` a line or two each."""
        lines = []
        for judgement in self.judgements:
            claim, shown = judgement.claim, weakest(judgement)
            said, verdict = f"{claim.text} [{claim.source}]", judgement.verdict.upper()
            lines.append(f"  {verdict}: {said}" if brief else f"\n{claim.id}  {said}: {verdict}")
            lines += [f"      {self.words(judgement, comparison, brief)}" for comparison in shown]
            if more := len(judgement.comparisons) - len(shown):
                lines.append(f"      (The card has {more} more comparisons.)")
            if not brief and origin_of(claim):
                lines.append(f"      {origin_of(claim)}")
        return lines

    def words(self, judgement: Judgement, comparison: Comparison, brief: bool = False) -> str:
        """One comparison in words: the difference with its interval, and unless `brief` what it rests on."""
        claim, unit = judgement.claim, self.experiment.unit(judgement.claim.metric)
        a, b = comparison.between
        if comparison.n == 0:
            return f"{a} and {b} were not both measured."
        sign = -1 if claim.lower or claim.falling else 1
        low, high = sorted((sign * comparison.low, sign * comparison.high))
        trend = claim.rising or claim.falling
        text = f"slope of {unit.words}, {a} to {b}" if trend else f"{unit.words}, {a} minus {b}"
        text += f": {unit.show(sign * comparison.mean, sign=True)}"
        if comparison.n > 1:
            text += f" [{unit.show(low, sign=True)}, {unit.show(high, sign=True)}]"
        text += f" {unit.name}" if unit.name else ""
        if "log" in claim.metric:
            text += f", {np.exp(sign * comparison.mean):.2f} times"
        if comparison.n == 1:
            return f"{text} ({comparison.note})."
        return text if brief else text + self._what_it_rests_on(judgement, comparison)

    def _what_it_rests_on(self, judgement: Judgement, comparison: Comparison) -> str:
        unit = self.experiment.unit(judgement.claim.metric)
        delta = f"{unit.show(judgement.claim.delta)} {unit.name}".strip()
        text = f" ({judgement.level:.2%} interval, n = {comparison.n}; smallest effect that matters: {delta})"
        if len(judgement.comparisons) > 1:
            text += f": {comparison.word}"
        note = f" ({comparison.note.replace('δ', delta)})" if comparison.note else ""
        return f"{text}{note}."

    @property
    def elapsed(self) -> float | None:
        """Seconds that all runs took; None where the command that wrote the evidence did only a part of them."""
        elapsed = self.found.elapsed_seconds
        return elapsed if elapsed and self.seconds(self.records) <= 1.05 * elapsed else None

    def seconds(self, records: Iterable[Record]) -> float:
        """Seconds that some of the runs need by their own account."""
        # Runs beside one another are as many as cores, and variants compared in one process share its seconds.
        shares = len(self.found.variants) if self.experiment.compare else self.found.machine.cores
        return sum(record.seconds.get("total", 0.0) for record in records) / shares

    def quick_seconds(self) -> int:
        """About how many seconds a plain run takes: its share of all runs, in the time that all of them took."""
        first, usual = self.found.seeds[: BUDGETS["quick"].seeds], self.experiment.usual("quick")
        plain = self.seconds(r for r in self.records if r.seed in first and r.variant in usual)
        return round(self.elapsed * plain / self.seconds(self.records) if self.elapsed else plain)

    def figure(self) -> Any:
        """The experiment's panels, and if there is a sensitivity curve that too, as a matplotlib figure."""
        return figure.draw([*self.experiment.panels, *([Sweep()] if self.tuning and self.tuning.curve else [])], self)

    def write_figures(self, folder: Path) -> None:
        """Draw `figure.png`, and `forest.png` with every comparison and its interval, if any has one."""
        figure.write_png(self.figure(), folder / "figure.png", self.fingerprint())
        if self.has_intervals:
            drawn = forest.draw_forest(forest.rows(self.judgements))
            figure.write_png(drawn, folder / "forest.png", self.fingerprint())

    def fingerprint(self) -> str:
        """A hash of what the figures are drawn from; it is stored in them."""
        return hashlib.sha256(msgspec.json.encode([self.records, self.tuning])).hexdigest()


def kind_of(machine: Machine) -> str:
    """A kind of machine in words: its processor, or its GPUs, and what it can do."""
    return f"{', '.join(machine.gpus) or machine.cpu} ({', '.join(machine.abilities) or 'abilities unknown'})"


def origin_of(claim: Claim) -> str:
    """Where a claim's verdict comes from, if not from runs; else empty."""
    if claim.asserted is not None:
        return "Arithmetic, asserted each time that the recipe is loaded."
    return "From the published tuning sweep." if claim.from_tuning else ""


def weakest(judgement: Judgement) -> Sequence[Comparison]:
    """A claim's comparisons where room is short: all of a few, and of many the one that supports it least."""
    if len(judgement.comparisons) <= MOST_SHOWN or not all(comparison.n > 1 for comparison in judgement.comparisons):
        return judgement.comparisons[:MOST_SHOWN]
    return (supports_least(judgement),)


def supports_least(judgement: Judgement) -> Comparison:
    """Of a claim's comparisons the one whose interval reaches farthest to where the claim would be wrong."""
    claim = judgement.claim
    above, below = claim.equal and claim.side != "below", not claim.equal or claim.side != "above"
    wrong = lambda row: max(row.high if above else -np.inf, -row.low if below else -np.inf)  # noqa: E731
    return max(judgement.comparisons, key=wrong)


def _count(records: Sequence[Record]) -> str:
    counts = {status: sum(record.status == status for record in records) for status in ("diverged", "failed")}
    return ", ".join([str(len(records)), *(f"{n} {status}" for status, n in counts.items() if n)])
