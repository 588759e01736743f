"""`Report`: what evidence says, in numbers, tables and words."""

import hashlib
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lab.evidence.records import levels_of, values_of
from lab.evidence.schemas import LOOKS, Evidence, Record, TuningSweep, unpack_bits
from lab.experiment import Experiment
from lab.panels import Sweep
from lab.report import figure, forest
from lab.statistics import Comparison, Judgement, judge, test_set_margin
from lab.tuning import good_decades

TABLE = ("test_accuracy", "generalization_gap", "epochs_to_target", "seconds_to_target", "images_per_second")
MOST_SHOWN = 4
ASSERTED = "Arithmetic, not statistics: asserted each time that the recipe is loaded."


class Report:
    """What evidence says, in numbers and words."""

    def __init__(self, experiment: Experiment, found: Evidence, tuning: TuningSweep | None) -> None:
        self.experiment, self.found, self.tuning = experiment, found, tuning
        self.records = found["records"]

    def judgements(self) -> list[Judgement]:
        """One for each claim of the recipe."""
        at_full = self.found.get("budget") == "full"
        # At full no more seeds are planned; and more searches of a table would tell nothing new of the table.
        looks = (len(self.found["seeds"]),) if self.experiment.table or at_full else LOOKS
        claims = list(self.experiment.claims)
        if at_full:
            claims = [claim for claim in claims if claim.variants and claim.variants <= set(self.found["variants"])]
            claims = [claim for claim in claims if not claim.from_tuning]
        measured = sum(claim.asserted is None for claim in claims)
        return [judge(claim, self._values(claim), measured, looks) for claim in claims]

    def _values(self, claim: Any) -> dict[str, dict[int, float]]:
        return self.good_decades() if claim.from_tuning else values_of(self.records, claim.metric)

    def good_decades(self) -> dict[str, dict[int, float]]:
        """variant -> seed -> width of the good range in the published sweep's curve, if there is one."""
        if self.tuning is None or self.experiment.tuning is None:
            return {}
        return good_decades(self.tuning["curve"], self.experiment.tuning.swept)

    def shown(self) -> list[str]:
        """The metrics that tables show, those that any run has."""
        claimed = (claim.metric for claim in self.experiment.claims if claim.metric and not claim.from_tuning)
        wanted = dict.fromkeys((*TABLE, *self.experiment.units, *claimed))
        if self.experiment.timed & set(self.experiment.units):  # Timed for itself, and not beside other runs.
            wanted.pop("images_per_second")
        return [name for name in wanted if values_of(self.records, name)]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: each variant's mean ± standard deviation over seeds."""
        shown = self.shown()
        levels = {name: levels_of(self.records, name, name in self.experiment.timed) for name in shown}
        header = ["variant", *(self._heading(name) for name in shown), "runs"]
        rows = []
        for variant in self.found["variants"]:
            mine = [record for record in self.records if record["variant"] == variant]
            row = [variant]
            for name in shown:
                row.append(self._spread(name, list(levels[name].get(variant, {}).values())))
            missed = sum(1 for record in mine if record["metrics"].get("target_reached") == 0)
            if missed and "epochs_to_target" in shown:
                row[1 + shown.index("epochs_to_target")] += f" ({missed} missed)"
            row.append(_count(mine))
            rows.append(row)
        return header, rows

    def _heading(self, metric: str) -> str:
        unit = self.experiment.unit(metric)
        shown = {"points": "%"}.get(unit.name, unit.name)
        return f"{unit.words} ({shown})" if shown and shown not in unit.words else unit.words

    def _spread(self, metric: str, values: list[float]) -> str:
        unit = self.experiment.unit(metric)
        if not values:
            return "–"
        # What is the same in all runs has been counted, not measured.
        spread = f" ± {unit.show(statistics.stdev(values))}" if len(set(values)) > 1 else ""
        return unit.show(statistics.mean(values)) + spread

    def verdict_lines(self) -> list[str]:
        """Each claim's verdict in words with its numbers."""
        lines = []
        for judgement in self.judgements():
            claim = judgement.claim
            lines.append(f"\n{claim.id}  {claim.text} [{claim.source}]: {judgement.verdict.upper()}")
            lines += [f"    {self.words(judgement, comparison)}" for comparison in weakest(judgement)]
            if more := len(judgement.comparisons) - len(weakest(judgement)):
                lines.append(f"    (The card has {more} comparisons more.)")
            if claim.asserted is not None:
                lines.append(f"    {ASSERTED}")
            elif claim.from_tuning:
                lines.append("    (from the published tuning sweep)")
        return lines

    def brief_lines(self) -> list[str]:
        """Each claim's verdict with its numbers, in a line or two."""
        lines = []
        for judgement in self.judgements():
            lines.append(f"  {judgement.verdict.upper()}: {judgement.claim.text} [{judgement.claim.source}]")
            lines += [f"      {self.words(judgement, comparison, brief=True)}" for comparison in weakest(judgement)]
        return lines

    def words(self, judgement: Judgement, comparison: Comparison, brief: bool = False) -> str:
        """One comparison in words: the difference with its interval, and unless `brief` what it is held against."""
        claim, unit = judgement.claim, self.experiment.unit(judgement.claim.metric)
        a, b = comparison.between
        if comparison.n == 0:
            return f"{a} against {b}: not measured."
        sign = -1 if claim.lower or claim.falling else 1
        low, high = sorted((sign * comparison.low, sign * comparison.high))
        what = f"slope of {unit.words}, {a} to {b}" if claim.rising or claim.falling else f"{unit.words}, {a} minus {b}"
        named = f" {unit.name}" if unit.name else ""
        if "log" in claim.metric:  # Of what it is the logarithm of, the ratio.
            named += f", {np.exp(sign * comparison.mean):.2f} times"
        text = f"{what}: {unit.show(sign * comparison.mean, sign=True)}"
        if brief and comparison.n > 1:
            return f"{text} [{unit.show(low, True)}, {unit.show(high, True)}]{named}"
        text += named
        if comparison.n == 1:
            return f"{text} at one seed, which can settle nothing."
        text += f", {judgement.level:.2%} interval {unit.show(low, sign=True)} to {unit.show(high, sign=True)}"
        effect = "" if np.isnan(comparison.cohen_d) else f", d = {sign * comparison.cohen_d:+.1f}"
        text += f" (n = {comparison.n}{effect}; what matters: {unit.show(claim.by)})"
        if len(judgement.comparisons) > 1 or comparison.note:
            text += ": " + ", ".join(filter(None, [comparison.word, comparison.note]))
        if comparison.word == "open":
            text += f"; {self._what_it_takes(comparison.seeds_needed)}"
        return text + "."

    def _what_it_takes(self, seeds: int | None) -> str:
        """How many seeds would settle a comparison: verdicts are read at looks, and not in between."""
        if seeds is None:
            return "no practicable number of seeds would settle it"
        look = seeds if self.experiment.table else next((look for look in LOOKS if look >= seeds), None)
        if look is None:
            return f"some {seeds} seeds would settle it, more than the last look's {LOOKS[-1]}"
        return f"{look} seeds would settle it nine times in ten"

    def test_set_margins(self) -> dict[frozenset[str], float]:
        """Pair of variants that claims compare by test accuracy -> how far another draw of as many test images would
        move their difference, 95 % of the time, in points."""
        correct: dict[str, dict[int, np.ndarray]] = {}
        for record in self.records:
            if record["correct"]:
                bits = unpack_bits(record["correct"], self.found["test_images"])
                correct.setdefault(record["variant"], {})[record["seed"]] = bits
        margins = {}
        for claim in self.experiment.claims:
            for a, b in claim.pairs if claim.metric == "test_accuracy" and not (claim.rising or claim.falling) else ():
                seeds = sorted(set(correct.get(a, {})) & set(correct.get(b, {})))
                if seeds:
                    margin = test_set_margin(*(np.array([correct[v][s] for s in seeds]) for v in (a, b)))
                    margins[frozenset((a, b))] = 100 * margin
        return margins

    def again(self) -> int:
        """How many timed blocks were disturbed, and so timed again."""
        return sum(block["again"] for record in self.records for block in record["blocks"])

    def write_figure(self, path: Path) -> None:
        """The recipe's panels, and if there is a sensitivity curve, that."""
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(self.figure())
        software = f"Matplotlib {matplotlib.__version__}"
        canvas.print_png(path, metadata={"Software": software, "Evidence": self.fingerprint()})

    def write_forest(self, path: Path) -> None:
        """Every comparison and its interval."""
        import matplotlib

        found = forest.rows(self.judgements())
        forest.write(found, path, f"Matplotlib {matplotlib.__version__}", self.fingerprint())

    def figure(self) -> Any:
        """The same as a matplotlib figure."""
        panels = [*self.experiment.panels, *([Sweep()] if self.tuning and self.tuning["curve"] else [])]
        swept = self.experiment.tuning.swept if self.experiment.tuning else ""
        picture = figure.Picture(self.records, self.experiment.names, self.experiment.unit, self.tuning, swept)
        return figure.draw(panels, picture)

    def fingerprint(self) -> str:
        """A hash of what the figure is drawn from; it is stored in the figure."""
        content = msgspec.json.encode([self.records, self.tuning], order="sorted")
        return hashlib.sha256(content).hexdigest()


def whole_time(found: Evidence, experiment: Experiment) -> float | None:
    """Seconds that all runs took; None where the command that wrote the evidence did only a part of them."""
    elapsed: float | None = found.get("elapsed_seconds")
    return elapsed if elapsed and runs_time(found, found["records"], experiment) <= 1.05 * elapsed else None


def runs_time(found: Evidence, records: Iterable[Record], experiment: Experiment) -> float:
    """Seconds that runs of some evidence need by their own account."""
    # Runs beside one another are as many as cores, and variants that are compared in one process share its seconds.
    shares = len(found["variants"]) if experiment.compare else found["machine"]["cores"]
    return float(sum(record["seconds"].get("total", 0.0) for record in records) / shares)


def weakest(judgement: Judgement) -> tuple[Comparison, ...]:
    """A claim's comparisons where room is short: all of a few, and of many the one that speaks least for it."""
    if len(judgement.comparisons) <= MOST_SHOWN or not all(comparison.n > 1 for comparison in judgement.comparisons):
        return judgement.comparisons[:MOST_SHOWN]
    return (speaks_least(judgement),)


def speaks_least(judgement: Judgement) -> Comparison:
    """Of a claim's comparisons the one whose interval reaches farthest to where the claim would be wrong."""
    claim = judgement.claim
    above, below = claim.equal and claim.side != "below", not claim.equal or claim.side != "above"
    wrong = lambda row: max(row.high if above else -np.inf, -row.low if below else -np.inf)  # noqa: E731
    return max(judgement.comparisons, key=wrong)


def _count(records: list[Record]) -> str:
    text = str(len(records))
    for status in ("diverged", "failed"):
        if n := sum(1 for record in records if record["status"] == status):
            text += f", {n} {status}"
    return text
