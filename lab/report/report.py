"""`Report`: what evidence says, in numbers, tables and words."""

import functools
import hashlib
import math
import re
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from msgspec import structs

from lab.claims import Claim, families
from lab.evidence import occasions
from lab.evidence.records import finished, values_of
from lab.evidence.schemas import LOOKS, ClaimSummary, Effect, Evidence, Finding, Record, Summary, TuningSweep, recall_of
from lab.evidence.schemas import unpack_bits as unpacked
from lab.experiment import BUDGETS, Experiment
from lab.panels import Sweep
from lab.report import figure
from lab.report.pages import MOST_SHOWN, class_name, effect_text, is_ratio, smallest_text, times
from lab.statistics import OCCASIONS, Comparison, Judgement, expected_false_verdicts, judge
from lab.tuning import good_decades

TABLE = (
    "test_accuracy",
    "balanced_accuracy",
    "generalization_gap",
    "epochs_to_target",
    "seconds_to_target",
    "images_per_second",
)
TEST = ("test_accuracy", "strong_accuracy")  # The same number: on the strong baseline smaller effects matter.
ACCURACIES = (*TEST, "train_accuracy")
NOT_MEASURED = "not measured"


class Report:
    """What evidence says, in numbers and words.

    Variants that the experiment does not have any more, as older evidence may, are left out.
    """

    def __init__(self, experiment: Experiment, found: Evidence, tuning: TuningSweep | None = None) -> None:
        self.experiment, self.tuning = experiment, tuning
        known = [name for name in found.variants if name in experiment.names]
        if known != found.variants:
            kept = [record for record in found.records if record.variant in known]
            found = structs.replace(found, variants=known, records=kept)
        self.found, self.records = found, found.records

    @functools.cached_property
    def judgements(self) -> list[Judgement]:
        """One for each claim."""
        # More searches of a table would tell nothing new about the table.
        looks = (len(self.found.seeds),) if self.experiment.table else LOOKS
        claims = self.experiment.claims
        sizes = {key: len(family) for key, family in families(claims).items()}
        return [
            judge(
                claim,
                self.good_decades() if claim.from_tuning else values_of(self.records, claim.metric),
                sizes.get((claim.check, claim.family), 0),
                looks,
                correct=self.correct if claim.metric in TEST else None,
                chance=self.guess if claim.metric in ACCURACIES else 0.0,
                occasions=occasions.occasions_of(self.records) if self._is_timing(claim) else None,
            )
            for claim in claims
        ]

    @functools.cached_property
    def correct(self) -> dict[str, dict[int, np.ndarray]]:
        """variant -> seed -> which test images were classified correctly; runs that diverged are not there."""
        found: dict[str, dict[int, np.ndarray]] = {}
        for record in self.records:
            if record.correct is not None:
                found.setdefault(record.variant, {})[record.seed] = unpacked(record.correct, self.found.test_images)
        return found

    @property
    def largest_class(self) -> tuple[str, float] | None:
        """The name of the class that most test images are of, and their share; None for CIFAR-10."""
        if self.found.own is None:
            return None
        counts = np.bincount(self.found.own.truth)
        return self.found.own.names[counts.argmax()], float(counts.max() / counts.sum())

    @property
    def guess(self) -> float:
        """The test accuracy of the best guess: always the largest class."""
        return self.largest_class[1] if self.largest_class else 1 / self.found.classes

    @functools.cached_property
    def recalls(self) -> dict[str, np.ndarray]:
        """variant -> the recall of each class of the reader's own, mean over the seeds that all variants have."""
        own = self.found.own
        if own is None:
            return {}
        found = {
            name: [
                recall_of(right, own.truth, self.found.classes)
                for seed, right in by_seed.items()
                if seed in self.shared
            ]
            for name, by_seed in self.correct.items()
        }
        return {name: np.mean(of_seeds, axis=0) for name, of_seeds in found.items() if of_seeds}

    def lowest_recall(self, variant: str) -> str:
        """Which class of the reader's a variant knows least, such as "'cat' 62.0 %", or "'cat' and 2 more 0.0 %"."""
        assert self.found.own is not None
        recalls = self.recalls[variant]
        lowest = np.flatnonzero(recalls == np.nanmin(recalls))
        more = f" and {len(lowest) - 1:,} more" if len(lowest) > 1 else ""
        return f"{class_name(self.found.own.names[lowest[0]])}{more} {100 * recalls[lowest[0]]:.1f} %"

    def _is_timing(self, claim: Claim) -> bool:
        return claim.metric in occasions.timings(self.experiment.timed)

    def good_decades(self) -> dict[str, dict[int, float]]:
        """variant -> seed -> width of the good range in the published sweep's curve, if there is one."""
        if self.tuning is None or self.experiment.tuning is None:
            return {}
        return good_decades(self.tuning.curve, self.experiment.tuning.swept)

    # Numbers of variants

    @functools.cached_property
    def shared(self) -> set[int]:
        """The seeds that all variants have, which tables, figures and levels are of; if there are none, all seeds."""
        of_variants = [{r.seed for r in finished(self.records) if r.variant == name} for name in self.found.variants]
        return (set.intersection(*of_variants) if of_variants else set()) or {r.seed for r in self.records}

    def levels(self, metric: str) -> dict[str, dict[int, float]]:
        """variant -> seed -> value of a metric, over the seeds that all variants have."""
        if metric == "good_decades":
            return self.good_decades()
        found = values_of([record for record in self.records if record.seed in self.shared], metric)
        return {name: dict(sorted(values.items())) for name, values in found.items()}

    def difference(self, metric: str, a: str, b: str) -> float:
        """A minus B, paired by seed: as a claim that compares the two prints it, else over the seeds that all have.

        Raises:
            KeyError: they were not both measured.
        """
        for judgement in self.judgements:
            for comparison in judgement.comparisons if judgement.claim.metric == metric else ():
                if comparison.n and not judgement.claim.trend and set(comparison.between) == {a, b}:
                    return _sign(judgement) * comparison.mean * (1 if comparison.between == (a, b) else -1)
        levels = self.levels(metric)
        if pairs := set(levels.get(a, {})) & set(levels.get(b, {})):
            return statistics.mean(levels[a][seed] - levels[b][seed] for seed in sorted(pairs))
        raise KeyError(f"the evidence has no {metric} of both {a} and {b}")

    def shown(self) -> list[str]:
        """The metrics that tables show, those that any run has."""
        claimed = (claim.metric for claim in self.experiment.claims if claim.metric and not claim.from_tuning)
        wanted = dict.fromkeys((*TABLE, *self.experiment.units, *claimed))
        if "strong_accuracy" in wanted:
            wanted.pop("test_accuracy")
        if self.experiment.timed & set(self.experiment.units):  # It times steps with nothing else running.
            wanted.pop("images_per_second")
        return [name for name in wanted if values_of(self.records, name)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: each variant's mean ± standard deviation over the seeds that all variants have."""
        shown = self.shown()
        columns = {name: self._column(name) for name in shown}
        rows = []
        for variant in self.found.variants:
            mine = [record for record in self.records if record.variant == variant and record.seed in self.shared]
            cells = [columns[name].get(variant, "–") for name in shown]
            missed = sum(record.metrics.get("target_reached") == 0 for record in mine)
            if missed and "epochs_to_target" in shown:
                cells[shown.index("epochs_to_target")] += f" ({missed} missed)"
            rows.append([variant, *cells, _count(mine)])
        return ["variant", *map(self.heading, shown), "runs"], rows

    def _column(self, metric: str) -> dict[str, str]:
        unit, levels = self.experiment.unit(metric), self.levels(metric)
        means = {name: statistics.mean(values.values()) for name, values in levels.items()}
        if is_ratio(metric):
            first = means.get(self.baseline(metric), 0.0)
            return {name: times(math.exp(mean - first)) for name, mean in means.items()}
        spread = {name: list(values.values()) for name, values in levels.items()}
        return {  # A value that is the same in all runs was counted and not measured.
            name: unit.show(mean)
            + (f" ± {unit.show(statistics.stdev(spread[name]))}" if len(set(spread[name])) > 1 else "")
            for name, mean in means.items()
        }

    def baseline(self, metric: str) -> str:
        """The variant that a ratio is relative to: the first of the experiment that has the metric."""
        levels = self.levels(metric)
        return next((name for name in self.experiment.names if name in levels), "")

    def heading(self, metric: str) -> str:
        """A metric or a curve with its unit, as a column or an axis is headed."""
        unit = self.experiment.unit(metric)
        if is_ratio(metric):
            return f"{self.measure(metric)}, relative to {self.baseline(metric).replace('_', ' ')}"
        shown = {"points": "%"}.get(unit.name, unit.name)
        return f"{unit.words} ({shown})" if shown and shown not in unit.words else unit.words

    def measure(self, metric: str) -> str:
        """What a metric measures, in words: of what it is the logarithm of, if it is one."""
        words = self.experiment.unit(metric).words
        return re.sub(r" \((natural )?log[^)]*\)", "", words) if is_ratio(metric) else words

    # Claims

    def finding(
        self, judgement: Judgement, stale: bool = False, budget: Literal["quick", "strong"] = "quick"
    ) -> Finding:
        """A verdict with the effects that it was read from, as pages show them."""
        claim, first = judgement.claim, weakest(judgement)
        ordered = dict.fromkeys([*first, *judgement.comparisons])
        least = OCCASIONS if self._is_timing(claim) else LOOKS[0]
        notes = {row.note: None for row in judgement.comparisons if row.note and row.word == judgement.verdict}
        smallest = None if claim.asserted is not None else self._shown(claim, claim.delta)
        lacking = any(comparison.n == 0 for comparison in judgement.comparisons)
        return Finding(
            budget=budget,
            verdict=NOT_MEASURED if lacking else judgement.verdict,
            note="" if lacking else ", ".join(notes).replace("δ", smallest_text(smallest, self.unit_of(claim))),
            few=any(0 < comparison.n < least for comparison in judgement.comparisons),
            over="occasion" if self._is_timing(claim) else "seed",
            stale=stale,
            machine=self.found.machine.kind if claim.metric in self.experiment.timed else None,
            level=judgement.level,
            smallest=smallest,
            effects=[] if lacking else [self._effect(judgement, comparison) for comparison in ordered],
        )

    def _effect(self, judgement: Judgement, comparison: Comparison) -> Effect:
        (a, b), sign = comparison.between, _sign(judgement)
        low, high = sorted((sign * comparison.low, sign * comparison.high))  # Infinite where one seed has no interval.
        shown = [self._shown(judgement.claim, value) for value in (sign * comparison.mean, low, high)]
        values = dict(zip(("mean", "low", "high"), shown, strict=True))
        if comparison.spread is not None and not is_ratio(judgement.claim.metric):
            values["spread"] = self._shown(judgement.claim, comparison.spread)
        return Effect(a=a, b=b, **values, seeds=comparison.n, verdict=comparison.word)

    def _shown(self, claim: Claim, value: float) -> float | None:
        """A difference in the unit that pages show: a ratio of what is logarithmic."""
        if not math.isfinite(value):
            return None
        scale = self.experiment.unit(claim.metric).scale
        return math.exp(min(value, 80.0)) if is_ratio(claim.metric) else value * scale

    def unit_of(self, claim: Claim) -> str:
        """The unit that pages show a claim's effects in; a times sign for a ratio."""
        if claim.asserted is not None:
            return ""
        return "×" if is_ratio(claim.metric) else self.experiment.unit(claim.metric).name

    def claim_summary(self, judgement: Judgement, findings: Sequence[Finding]) -> ClaimSummary:
        """A claim with its findings."""
        claim, arithmetic = judgement.claim, judgement.claim.asserted is not None
        ratio, unit = is_ratio(claim.metric), self.experiment.unit(claim.metric)
        return ClaimSummary(
            id=claim.id,
            text=claim.text,
            source=claim.source,
            said=claim.said,
            about=[name for name, claims in self.experiment.about.items() if claim.id in claims],
            check=claim.check,
            measure="" if arithmetic else ("slope of " if claim.trend else "") + self.measure(claim.metric),
            unit=self.unit_of(claim),
            digits=2 if ratio else 1 if unit.name == "points" else unit.digits,
            findings=list(findings),
        )

    def summary(
        self, answer: str = "", strong: "Report | None" = None, stale: bool = False, stale_strong: bool = False
    ) -> Summary:
        """What the card, the front page and the list of recipes show, so that none of them needs TensorFlow.

        `strong` is what was measured on the strong baseline, where some of the claims have a counterpart.
        """
        there = {judgement.claim.id: judgement for judgement in strong.judgements} if strong else {}
        claims = []
        for judgement in self.judgements:
            findings = [self.finding(judgement, stale)]
            other = there.get(judgement.claim.strong)
            if strong and other and all(comparison.n for comparison in other.comparisons):
                findings.append(strong.finding(other, stale_strong, budget="strong"))
            claims.append(self.claim_summary(judgement, findings))
        return Summary(
            question=self.experiment.question,
            answer=answer,
            seeds=len(self.found.seeds),
            images=self.found.config.get("images"),
            quick_seconds=self.quick_seconds(),
            stale=stale,
            rests_on=list(self.experiment.rests_on),
            expected_false=expected_false_verdicts(one.claim for one in self.judgements),
            claims=claims,
        )

    def verdict_lines(self) -> list[str]:
        """Each measured claim's verdict with its numbers, for a terminal."""
        lines = []
        claims = [claim for claim in self.summary().claims if not claim.check]
        by_tuning = {claim.id for claim in self.experiment.claims if claim.from_tuning}
        for claim in (claim for claim in claims if claim.strongest.effects):
            found = claim.strongest
            note = f" ({found.note})" if found.note else ""
            where = ", from the published tuning" if claim.id in by_tuning else ""
            lines.append(f"  {found.verdict.upper()}{note}: {claim.text} [{claim.source}]{where}")
            shown = found.effects[: MOST_SHOWN if len(found.effects) <= MOST_SHOWN else 1]
            lines += [f"      {claim.measure}, {effect_text(claim, effect, named=True)}" for effect in shown]
        if others := [claim.id for claim in claims if not claim.strongest.effects]:
            of_the_book = self.experiment.command.startswith("recipes.")
            where = " (results/README.md has their sentences)" if of_the_book else ""
            lines.append(f"  Not measured here{where}: {', '.join(others)}.")
        return lines

    # Times and figures

    @property
    def elapsed(self) -> float | None:
        """Seconds that all runs took; None where the command that wrote the evidence did only a part of them."""
        elapsed = self.found.elapsed_seconds
        return elapsed if elapsed and self.seconds(self.records) <= 1.05 * elapsed else None

    def seconds(self, records: Iterable[Record]) -> float:
        """Seconds that some of the runs need by their own account."""
        # Runs beside one another are as many as cores, and variants compared in one process share its seconds.
        apart = {variant: self.experiment.runs_apart(variant) for variant in self.found.variants}
        together = sum(not is_apart for is_apart in apart.values())
        return sum(
            record.seconds.get("total", 0.0) / (self.found.machine.cores if apart[record.variant] else together)
            for record in records
        )

    def quick_seconds(self) -> int:
        """About how many seconds a plain run takes: its share of all runs, in the time that all of them took."""
        first, usual = self.found.seeds[: BUDGETS["quick"].seeds], self.experiment.usual("quick")
        plain = self.seconds(r for r in self.records if r.seed in first and r.variant in usual)
        return round(self.elapsed * plain / self.seconds(self.records) if self.elapsed else plain)

    def figure(self) -> Any:
        """The experiment's panels, and if there is a sensitivity curve that too, as a matplotlib figure."""
        return figure.draw([*self.experiment.panels, *([Sweep()] if self.tuning and self.tuning.curve else [])], self)

    def write_figure(self, folder: Path) -> None:
        """Draw `figure.png`."""
        figure.write_png(self.figure(), folder / "figure.png", self.fingerprint())

    def fingerprint(self) -> str:
        """A hash of what the figure is drawn from; it is stored in it."""
        return hashlib.sha256(msgspec.json.encode([self.records, self.tuning])).hexdigest()


def weakest(judgement: Judgement) -> Sequence[Comparison]:
    """A claim's comparisons where room is short: all of a few, and of many the one that supports it least."""
    if len(judgement.comparisons) <= MOST_SHOWN or not all(comparison.n > 1 for comparison in judgement.comparisons):
        return judgement.comparisons[:MOST_SHOWN]
    claim = judgement.claim
    above, below = claim.equal and claim.side != "below", not claim.equal or claim.side != "above"
    wrong = lambda row: max(row.high if above else -np.inf, -row.low if below else -np.inf)  # noqa: E731
    return (max(judgement.comparisons, key=wrong),)


def _sign(judgement: Judgement) -> int:
    """What turns a comparison's numbers, which are positive in the claim's direction, into A minus B."""
    return -1 if judgement.claim.lower or judgement.claim.falling else 1


def _count(records: Sequence[Record]) -> str:
    counts = {status: sum(record.status == status for record in records) for status in ("diverged", "failed")}
    return ", ".join([str(len(records)), *(f"{n} {status}" for status, n in counts.items() if n)])
