"""Tables, figures and Markdown, all of them generated from evidence."""

import hashlib
import json
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.harness import evidence, figure
from recipes.harness.claims import Comparison, Judgement, judge, test_set_margin
from recipes.harness.recipe import Recipe
from recipes.harness.tuning import good_decades

RESULTS = evidence.ROOT / "results"
TABLE = ("test_accuracy", "generalization_gap", "epochs_to_target", "seconds_to_target", "images_per_second")


@dataclass(frozen=True)
class Published:
    """A recipe's committed evidence, and its tuning sweep if it has one."""

    evidence: dict[str, Any]
    tuning: dict[str, Any] | None

    @classmethod
    def read(cls, recipe: Recipe, results: Path | None = None) -> "Published | None":
        """What is in `results`/NAME; None where nothing has been published."""
        folder = (results or RESULTS) / recipe.name
        if not (folder / "evidence.json").exists():
            tuning_only = folder / "tuning.json"
            return cls({}, evidence.read_json(tuning_only)) if tuning_only.exists() else None
        tuning = folder / "tuning.json"
        return cls(
            evidence.read_json(folder / "evidence.json"), evidence.read_json(tuning) if tuning.exists() else None
        )


class Report:
    """What evidence says, in numbers and words."""

    def __init__(self, recipe: Recipe, found: dict[str, Any], tuning: dict[str, Any] | None) -> None:
        self.recipe, self.found, self.tuning = recipe, found, tuning
        self.records = found["records"]

    def judgements(self) -> list[Judgement]:
        """One for each claim of the recipe."""
        measured = sum(claim.asserted is None for claim in self.recipe.claims)
        return [judge(claim, self._values(claim), measured) for claim in self.recipe.claims]

    def _values(self, claim: Any) -> dict[str, dict[int, float]]:
        if not claim.from_tuning:
            return evidence.values_of(self.records, claim.metric)
        if self.tuning is None or self.recipe.tuning is None:
            return {}
        return good_decades(self.tuning["curve"], self.recipe.tuning.swept)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows: each variant's mean ± standard deviation over seeds."""
        wanted = dict.fromkeys((*TABLE, *self.recipe.units))
        shown = [name for name in wanted if evidence.values_of(self.records, name)]
        peaks_known = any(record["peak_memory_mib"] is not None for record in self.records)
        header = ["variant", *(self._heading(name) for name in shown), *["memory (MiB)"] * peaks_known, "runs"]
        rows = []
        for variant in self.found["variants"]:
            mine = [record for record in self.records if record["variant"] == variant]
            row = [variant]
            for name in shown:
                values = list(evidence.values_of(mine, name).get(variant, {}).values())
                row.append(self._spread(name, values))
            missed = sum(1 for record in mine if record["metrics"].get("target_reached") == 0)
            if missed and "epochs_to_target" in shown:
                row[1 + shown.index("epochs_to_target")] += f" ({missed} missed)"
            peaks = [record["peak_memory_mib"] for record in mine if record["peak_memory_mib"] is not None]
            if peaks_known:
                row.append(f"{max(peaks):,.0f}" if peaks else "")
            row.append(_count(mine))
            rows.append(row)
        return header, rows

    def _notes(self) -> str:
        text = _ALONE if self.recipe.compare and not self.found.get("together") else _BESIDE
        if evidence.values_of(self.records, "epochs_to_target"):
            text += " A target that was missed counts as all the epochs that were allowed."
        return text

    def _heading(self, metric: str) -> str:
        unit = self.recipe.unit(metric)
        shown = {"points": "%"}.get(unit.name, "")
        return f"{unit.words} ({shown})" if shown else unit.words

    def _spread(self, metric: str, values: list[float]) -> str:
        unit = self.recipe.unit(metric)
        if not values:
            return "–"
        # What is the same in all runs has been counted, not measured.
        spread = f" ± {unit.show(statistics.stdev(values))}" if len(set(values)) > 1 else ""
        return unit.show(statistics.mean(values)) + spread

    def verdict_lines(self, published: Published | None) -> list[str]:
        """Each claim's verdict in words with its numbers, and whether the published one agrees."""
        theirs = {}
        if published and published.evidence:
            theirs = {j.claim.id: j for j in Report(self.recipe, published.evidence, published.tuning).judgements()}
        lines = []
        for judgement in self.judgements():
            claim = judgement.claim
            lines.append(f"\n{claim.id}  {claim.text} [{claim.source}]: {judgement.verdict.upper()}")
            lines += [f"    {self.words(judgement, comparison)}" for comparison in judgement.comparisons]
            if claim.asserted is not None:
                lines.append(f"    {ASSERTED}")
            elif claim.from_tuning:
                lines.append("    (from the published tuning sweep)")
            elif claim.id in theirs:
                verdict = theirs[claim.id].verdict
                same = "agrees" if verdict == judgement.verdict else "differs"
                lines.append(f"    Published, {theirs[claim.id].comparisons[0].n} seeds: {verdict} ({same}).")
        return lines

    def words(self, judgement: Judgement, comparison: Comparison, brief: bool = False) -> str:
        """One comparison in words: the difference with its interval, and unless `brief` what it is held against."""
        claim, unit = judgement.claim, self.recipe.unit(judgement.claim.metric)
        a, b = comparison.between
        if comparison.n == 0:
            return f"{a} against {b}: not measured here."
        sign = -1 if claim.lower or claim.falling else 1
        low, high = sorted((sign * comparison.low, sign * comparison.high))
        what = f"slope of {unit.words}, {a} to {b}" if claim.rising or claim.falling else f"{unit.words}, {a} minus {b}"
        text = f"{what}: {unit.show(sign * comparison.mean, sign=True)} {unit.name}"
        if comparison.n == 1:
            return f"{text} at one seed, which can settle nothing."
        if brief:
            return (
                f"{what}: {unit.show(sign * comparison.mean, True)} [{unit.show(low, True)}, {unit.show(high, True)}]"
            )
        text += f", {judgement.level:.2%} interval {unit.show(low, sign=True)} to {unit.show(high, sign=True)}"
        effect = "" if np.isnan(comparison.cohen_d) else f", d = {sign * comparison.cohen_d:+.1f}"
        text += f" (n = {comparison.n}{effect}; what matters: {unit.show(claim.by)})"
        if len(judgement.comparisons) > 1:
            text += f": {comparison.verdict}"
        if comparison.verdict == "unresolved" and comparison.seeds_needed:
            text += f"; about {comparison.seeds_needed} seeds would likely settle it"
        elif comparison.verdict == "unresolved":
            text += "; no practicable number of seeds would settle it"
        return text + "."

    def test_set_lines(self) -> list[str]:
        """For claims about test accuracy: how far another test set of the same size might move the difference."""
        correct: dict[str, dict[int, np.ndarray]] = {}
        size = {"subset": 4000, "full": 10000}[self.found["data"]["source"]]
        for record in self.records:
            if record["correct"]:
                bits = evidence.unpack_bits(record["correct"], size)
                correct.setdefault(record["variant"], {})[record["seed"]] = bits
        lines = []
        for claim in self.recipe.claims:
            for a, b in claim.pairs if claim.metric == "test_accuracy" and not (claim.rising or claim.falling) else ():
                seeds = sorted(set(correct.get(a, {})) & set(correct.get(b, {})))
                if seeds:
                    margin = test_set_margin(*(np.array([correct[v][s] for s in seeds]) for v in (a, b)))
                    lines.append(f"{claim.id}, {a} against {b}: ±{margin * 100:.2f} points")
        return lines

    def markdown(self, with_figure: bool = True) -> str:
        """The card."""
        found, recipe = self.found, self.recipe
        seeds = len(found["seeds"])
        header, rows = self.table()
        judgements = self.judgements()
        parts = [
            f"# {recipe.name}: {recipe.question}",
            _prose(recipe.docstring),
            f"`{found['command']}`: budget `{found['budget']}`, {seeds} seed{'s' if seeds > 1 else ''}, "
            f"{_duration(found)}on {_machine(found['machine'])}.",
        ]
        if with_figure:
            parts.append(f"![{recipe.name}](figure.png)")
        parts += ["## Measured", markdown_table(header, rows), "Mean ± standard deviation over seeds. " + self._notes()]
        parts.append("## Claims")
        summary = [[j.claim.id, j.claim.text, j.claim.source, f"**{j.verdict}**"] for j in judgements]
        parts.append(markdown_table(["", "claim", "source", "verdict"], summary))
        for judgement in judgements:
            lines = [self.words(judgement, comparison) for comparison in judgement.comparisons]
            if judgement.claim.asserted is not None:
                lines.append(ASSERTED)
            if judgement.claim.from_tuning:
                lines.append("From the tuning sweep.")
            parts.append(f"**{judgement.claim.id}**: {judgement.verdict}.\n\n" + "\n".join(f"- {x}" for x in lines))
        if margins := self.test_set_lines():
            parts.append("## What the finite test set adds")
            parts.append(
                "The verdicts speak of training noise on these test images. Another draw of as many images would move "
                "a difference, 95 % of the time, by up to about\n\n" + "\n".join(f"- {line}" for line in margins)
            )
        if self.tuning:
            parts += ["## The table", self._table()] if self.recipe.table else ["## Tuning", self._tuning()]
        parts += ["## Where it was measured", _provenance(found)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def _table(self) -> str:
        assert self.tuning is not None
        assert self.recipe.table is not None
        fields = self.recipe.table.fields
        sizes = " × ".join(f"{len(values)} of {name}" for name, values in fields.items())
        return (
            f"`{self.tuning['command']}`: {sizes}, {len(self.recipe.table.seeds)} seeds each, in "
            f"{self.tuning['worker_seconds'] / 60:,.0f} minutes of workers' time.\n\n"
        ) + markdown_table(
            ["field", "values"],
            [[name, ", ".join(f"{value:g}" for value in values)] for name, values in fields.items()],
        )

    def _tuning(self) -> str:
        assert self.tuning is not None
        assert self.recipe.tuning is not None
        objectives = self.recipe.tuning.objectives
        rows = []
        for variant, winners in self.tuning["winners"].items():
            trials = sum(1 for record in self.tuning["search"] if record["variant"] == variant)
            row = [variant, str(trials)]
            for name in objectives:
                settings = winners.get(name, {})
                row.append(", ".join(f"{k} {v:g}" for k, v in settings.items() if v is not None))
            rows.append(row)
        curve = ", the sensitivity curve on other seeds" if self.tuning["curve"] else ""
        text = (
            f"`{self.tuning['command']}`: settings by validation on seed 0{curve}; "
            f"{self.tuning['worker_seconds'] / 60:,.0f} minutes of workers' time.\n\n"
        )
        return text + markdown_table(["variant", "trials", *(f"best for the {name}" for name in objectives)], rows)

    def write_figure(self, path: Path) -> None:
        """The recipe's panels, and if there is a sensitivity curve, that."""
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        panels = [*self.recipe.panels, *([figure.Sweep()] if self.tuning and self.tuning["curve"] else [])]
        swept = self.recipe.tuning.swept if self.recipe.tuning else ""
        picture = figure.Picture(self.records, self.recipe.names, self.recipe.unit, self.tuning, swept)
        canvas = FigureCanvasAgg(figure.draw(panels, picture))
        software = f"Matplotlib {matplotlib.__version__}"
        canvas.print_png(path, metadata={"Software": software, "Evidence": self.fingerprint()})

    def fingerprint(self) -> str:
        """A hash of what the figure is drawn from; it is stored in the figure."""
        content = json.dumps([self.records, self.tuning], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


ASSERTED = "Arithmetic, not statistics: asserted each time that the recipe is loaded."
_ALONE = "All variants of a seed were measured in one process, one after the other in turn, with nothing beside it."
_BESIDE = (
    "Speed and memory come from runs side by side and are information, not evidence for a claim. Memory is the growth "
    "of a worker's peak during a run, the largest of the variant's; a worker keeps what was freed, so it is whole only "
    "where a run was its worker's first, and small numbers mean memory used again."
)


def _count(records: list[evidence.Record]) -> str:
    text = str(len(records))
    for status in ("diverged", "failed"):
        if n := sum(1 for record in records if record["status"] == status):
            text += f", {n} {status}"
    return text


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def _prose(docstring: str) -> str:
    """A docstring below its first line, with its three labelled entries as a list."""
    labels = ("Use it when", "It hurts when", "Sources")
    out: list[str] = []
    for line in docstring.strip().splitlines()[2:]:
        label = next((label for label in labels if line.startswith(label + "  ")), None)
        if label:
            out.append(f"- **{label}** {line[len(label) :].strip()}")
        elif line.startswith("   "):
            out.append("  " + line.strip())
        else:
            out.append(line)
    return "\n".join(out)


def _duration(found: dict[str, Any]) -> str:
    return f"{found['elapsed_seconds']:,.0f} s " if found["elapsed_seconds"] else ""


def _machine(machine: dict[str, Any]) -> str:
    gpus = ", ".join(machine["gpus"]) or "no GPU"
    return f"{machine['cpu']}, {machine['cores']} cores, {gpus}"


def _provenance(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    data = found["data"]
    images = f"{data['train_images']:,}" if data["train_images"] else "all"
    rows = [
        [
            "machine",
            f"{_machine(found['machine'])}, {found['machine']['memory_gib']} GiB, {found['machine']['system']}",
        ],
        ["versions", versions],
        ["commit", str(found["commit"])],
        ["code", f"`{found['code']}` (hash of the recipe and the pipelines it uses)"],
        *([["table", f"`{found['table']}` (hash of the results that were looked up)"]] if "table" in found else []),
        ["data", f"{data['source']}, {images} training images, split seed {data['split_seed']}"],
        ["config", ", ".join(f"{k} {v}" for k, v in found["config"].items() if v is not None)],
    ]
    return markdown_table(["", ""], rows)
