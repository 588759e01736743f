"""From logs to `results/NAME/` and README: all that is published is generated, and a test compares it anew.

Files are written one by one, each whole, the evidence first. Where a command is killed on the way, the next `publish`
makes what is missing.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from lab.evidence.provenance import ROOT, without_folder
from lab.evidence.records import EvidenceError, read, write_json, write_whole
from lab.evidence.schemas import ClaimSummary, Effect, Summary
from lab.evidence.staleness import changed_parts
from lab.experiment import Experiment
from lab.report import advice, forest, front_page, published
from lab.report.card import markdown
from lab.report.publishable import KINDS, objections
from lab.report.published import STALE, Published, floors_of
from lab.report.report import Report, kind_of, supports_least, weakest
from lab.statistics import Comparison, Judgement, expected_false_verdicts

README = ROOT / "README.md"
CARD = "README.md"  # So that GitHub shows it with the folder.
SUMMARY = "summary.json"
MOST_CHANGED = 10
RESTORE = "restore it from git, or measure again"

Pages = dict[str, Any]  # By the name of the file: the card's text, and the `Summary`.


def publish(experiment: Experiment, paths: Sequence[Path], results: Path | None = None) -> str:
    """Copy evidence to `results`/NAME and generate the card, the figures and the summary beside it; say what was done.

    Published evidence that has become stale is labelled.

    Raises:
        EvidenceError: evidence that may not be published, or none at all. Nothing was written.
    """
    folder = (results or published.RESULTS) / experiment.name
    before = Published.read(experiment, results)
    new: dict[Path, Any] = {}
    for path in paths:
        if reasons := objections(experiment, path):
            raise EvidenceError(f"{path} can't be published. {' '.join(reasons)}")
        found = read(path, KINDS[path.name])
        home = folder / "full" if found.budget == "full" else folder
        new[home / path.name] = structs.replace(found, command=without_folder(found.command))
    evidence = new.get(folder / "evidence.json") or (None if before.stale else before.evidence)
    tuning = new.get(folder / "tuning.json", before.tuning)
    if evidence is not None and (wrong := advice.complaints(Report(experiment, evidence, tuning))):
        raise EvidenceError(f"The advice of {experiment.name} is not what its evidence says. {' '.join(wrong)}")
    nothing = evidence is None and before.evidence is None
    if nothing and tuning is None:
        raise EvidenceError(f"There is no evidence of {experiment.name} to publish: run `{experiment.measure_again}`.")
    for place, content in new.items():
        write_json(place, content)
    if nothing:
        return "the sweep is published; the evidence comes next"
    pages, report = generate(experiment, folder)
    if report is not None:
        report.write_figures(folder)
    write_whole(folder / CARD, pages[CARD].encode())
    write_json(folder / SUMMARY, pages[SUMMARY])
    return "generated from its evidence" if report else f"labelled as {STALE}, since {before.stale}"


def generate(experiment: Experiment, folder: Path) -> tuple[Pages, Report | None]:
    """The pages about the evidence in a folder, and what its figures are drawn from, unless it is stale."""
    quick, full = (Published.read(experiment, folder.parent, budget) for budget in ("quick", "full"))
    assert quick.evidence is not None
    if quick.stale:
        card, summary = _read_text(folder / CARD), read(folder / SUMMARY, Summary, RESTORE)
        unlabelled = card.split("\n\n", 1)[1] if card.startswith("> **This was ") else card
        return {CARD: label(experiment) + unlabelled, SUMMARY: structs.replace(summary, stale=True)}, None
    report, at_full = Report(experiment, quick.evidence, quick.tuning), None
    notes = [f"The sweep was {STALE}."] if quick.stale_tuning else []
    if full.evidence is not None and full.stale:
        notes.append(f"What was measured at full is left out: it was {STALE}.")
    elif full.evidence is not None:
        at_full = Report(experiment, full.evidence, full.tuning)
    summary = summary_of(report, at_full)
    return {CARD: markdown(report, note=" ".join(notes), full=at_full), SUMMARY: summary}, report


def label(experiment: Experiment) -> str:
    """What a card of stale evidence begins with."""
    again = f"`{experiment.measure_again}` measures it again."
    return f"> **This was {STALE}**, whose code has changed since. {again}\n\n"


def summary_of(report: Report, full: Report | None = None) -> Summary:
    """What README's table and the list of recipes show, so that neither needs TensorFlow."""
    at_full = {judgement.claim.id: judgement for judgement in full.judgements} if full else {}
    return Summary(
        question=report.experiment.question,
        answer=advice.entries(report.experiment.docstring)[0].get("Answer", ""),
        seeds=len(report.found.seeds),
        quick_seconds=report.quick_seconds(),
        stale=False,
        false_verdicts=expected_false_verdicts([one.claim for one in report.judgements])
        + expected_false_verdicts([one.claim for one in at_full.values()]),
        claims=[_claim_summary(report, one, full, at_full.get(one.claim.id)) for one in report.judgements],
    )


def _claim_summary(
    report: Report, judgement: Judgement, full: Report | None, at_full: Judgement | None
) -> ClaimSummary:
    claim, shown = judgement.claim, weakest(judgement)
    numbers = [report.words(judgement, comparison, brief=True) for comparison in shown]
    if more := len(judgement.comparisons) - len(shown):
        numbers.append(f"and {more} more, no less clear")
    both = None
    if full and at_full and at_full.comparisons:
        least = supports_least(at_full)
        before = judgement.comparisons[at_full.comparisons.index(least)]
        both = report.words(judgement, before, brief=True), full.words(at_full, least, brief=True)
    return ClaimSummary(
        id=claim.id,
        text=claim.text,
        source=claim.source,
        said=claim.said,
        verdict=judgement.verdict,
        numbers=numbers or ["arithmetic"],
        effects=_effects(judgement, shown),
        drawn=_effects(judgement, [supports_least(judgement)] if judgement.comparisons else []),
        check=claim.check,
        machine=kind_of(report.found.machine) if claim.metric in report.experiment.timed else None,
        at_full=at_full.verdict if at_full else None,
        at_quick_and_full=both,
    )


def _effects(judgement: Judgement, comparisons: Sequence[Comparison]) -> list[Effect]:
    """Comparisons in multiples of the smallest effect that matters."""
    rows = forest.rows([dataclasses.replace(judgement, comparisons=tuple(comparisons))])
    return [Effect(mean=row.mean, low=row.low, high=row.high, word=row.word) for row in rows]


def _read_text(path: Path) -> str:
    if not path.exists():
        raise EvidenceError(f"There is no {path}: {RESTORE}.")
    return path.read_text(encoding="utf-8")


def publish_front(results: Path | None = None, page: Path | None = None) -> None:
    """Make anew what is generated from all recipes' summaries: the ledger, the gallery, the picture of all claims, and
    README.

    Raises:
        EvidenceError: README has no place for it.
    """
    results = results or published.RESULTS
    found = front_page.summaries(results)
    pages = front_pages(found, results, page or README)
    front_page.write_picture(found, results / "claims.png")
    for path, text in pages.items():
        write_whole(path, text.encode())


def front_pages(found: front_page.Summaries, results: Path, page: Path) -> dict[Path, str]:
    """The pages that are made from all summaries, by their place."""
    return {
        page: front_page.readme(_read_text(page), found),
        results / "README.md": front_page.ledger(found),
        results / "gallery.md": front_page.gallery(found),
    }


def status_of(experiment: Experiment, results: Path | None = None) -> list[str]:
    """What of a recipe is current, stale or missing, a line each. Below stale evidence also what mends it."""
    quick, full = (Published.read(experiment, results, budget) for budget in ("quick", "full"))
    parts: list[tuple[str, Any, str]] = [("evidence", quick.evidence, quick.stale)]
    if experiment.sweep:
        parts.append(("table" if experiment.table else "tuning", quick.tuning, quick.stale_tuning))
    if experiment.at_full:
        parts.append(("at full", full.evidence, full.stale))
    lines = []
    for part, found, why in parts:
        lines.append(f"{part:<9} {'not measured' if found is None else f'stale: {why}' if why else 'current'}")
        if part == "table" and why:
            lines.append(f"{'':<9} `python -m {experiment.command} tune` measures it again, before all else.")
        if part == "evidence" and found is not None and why:
            lines += [f"{'':<9} {line}" for line in _remedy(Report(experiment, found, None))]
    if experiment.floor:
        lines.append(f"{'floors':<9} {'measured' if floors_of(experiment, results) else 'not measured'}")
    return lines


def _remedy(report: Report) -> list[str]:
    """What has changed since evidence was measured, what mends it, and how many minutes that takes."""
    experiment, lines = report.experiment, []
    changed = changed_parts(experiment, report.found)
    for file, names in itertools.groupby(changed[:MOST_CHANGED], key=lambda part: part.partition(": ")[0]):
        lines.append(f"changed in {file}: {', '.join(part.partition(': ')[2] or 'statements' for part in names)}")
    if more := len(changed[MOST_CHANGED:]):
        lines.append(f"and {more} more")
    minutes = (report.elapsed or report.seconds(report.records)) / 60
    share = max(1, 2 / max(1, len(report.found.seeds)) * minutes)
    return [
        *lines,
        f"`{experiment.measure_again}` measures it again (about {minutes:.0f} minutes).",
        f"If no number changes, `python -m lab attest {experiment.name}` carries it over (about {share:.0f} on the "
        "machine that measured it, twice as long on another).",
    ]
