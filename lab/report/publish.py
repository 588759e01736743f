"""From logs to `results/NAME/` and README: all that is published is generated, and a test generates it again.

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
from lab.experiments import NAMES, load
from lab.report import front_page, ledger, picture, published
from lab.report.advice import docstring_with, filled
from lab.report.card import markdown
from lab.report.publishable import KINDS, objections
from lab.report.published import STALE, Published, floors_of
from lab.report.report import Report
from lab.statistics import OCCASIONS

README = ROOT / "README.md"
CARD = "README.md"  # So that GitHub shows it with the folder.
SUMMARY = "summary.json"
PICTURE = "advice.png"
MOST_CHANGED = 10
RESTORE = "restore it from git, or measure again"

Pages = dict[Path, Any]  # By the place of the file: text, or the `Summary`.


def publish(experiment: Experiment, paths: Sequence[Path], results: Path | None = None) -> str:
    """Copy evidence to `results`/NAME and generate what is made from it; say what was done.

    That is the card, the figure, the summary and the answer in the recipe's docstring.

    Raises:
        EvidenceError: evidence that may not be published, an answer that it does not support, or no evidence at all.
            Nothing was written.
    """
    folder = (results or published.RESULTS) / experiment.name
    new: dict[Path, Any] = {}
    for path in paths:
        if reasons := objections(experiment, path):
            raise EvidenceError(f"{path} can't be published. {' '.join(reasons)}")
        found = read(path, KINDS[path.name])
        new[folder / path.name] = structs.replace(found, command=without_folder(found.command))
    quick = _with(Published.read(experiment, results), new, folder)
    if quick.evidence is None and quick.tuning is None:
        raise EvidenceError(f"There is no evidence of {experiment.name} to publish: run `{experiment.measure_again}`.")
    pages, report = (
        pages_of(experiment, quick, strong_of(experiment, results), folder) if quick.evidence else ({}, None)
    )
    for place, content in new.items():
        write_json(place, content)
    if report is None:
        return "the sweep is published; the evidence comes next"
    report.write_figure(folder)
    for place, content in pages.items():
        if isinstance(content, str):
            write_whole(place, content.encode())
        else:
            write_json(place, content)
    return f"labeled as {STALE}, since {quick.stale}" if quick.stale else "generated from its evidence"


def _with(before: Published, new: dict[Path, Any], folder: Path) -> Published:
    """What is published with new files in the place of old ones. Those may be published, so they are not stale."""
    changed: dict[str, Any] = {}
    if evidence := new.get(folder / "evidence.json"):
        changed |= {"evidence": evidence, "stale": ""}
    if tuning := new.get(folder / "tuning.json"):
        changed |= {"tuning": tuning, "stale_tuning": ""}
    return dataclasses.replace(before, **changed)


def in_order(names: Sequence[str]) -> list[str]:
    """The recipes to publish: the strong baseline first, and then all whose cards show what was measured on it."""
    if front_page.STRONG not in names:
        return list(names)
    showing = [name for name in NAMES if any(claim.strong for claim in load(name).claims)]
    showing = [name for name in showing if (published.RESULTS / name / "evidence.json").exists()]
    return list(dict.fromkeys([front_page.STRONG, *names, *showing]))


def generate(experiment: Experiment, folder: Path) -> tuple[Pages, Report]:
    """The pages about the published evidence in a folder, and what its figure is drawn from."""
    quick = Published.read(experiment, folder.parent)
    return pages_of(experiment, quick, strong_of(experiment, folder.parent), folder)


def strong_of(experiment: Experiment, results: Path | None = None) -> tuple[Report, bool] | None:
    """What was measured on the strong baseline, and whether it is stale; None where no claim is tested there."""
    if not any(claim.strong for claim in experiment.claims):
        return None
    strong = load(front_page.STRONG)
    published = Published.read(strong, results)
    return (Report(strong, published.evidence, None), bool(published.stale)) if published.evidence else None


def pages_of(
    experiment: Experiment, quick: Published, strong: tuple[Report, bool] | None, folder: Path
) -> tuple[Pages, Report]:
    """What is generated from a recipe's evidence.

    Raises:
        EvidenceError: the answer or the advice does not fit the evidence.
    """
    assert quick.evidence is not None
    report = Report(experiment, quick.evidence, quick.tuning)
    on_strong, stale_strong = strong or (None, False)
    answer, bullets = "", []
    try:
        answer = filled(experiment.answer, report, on_strong)
        bullets = [filled(bullet, report, on_strong) for bullet in experiment.advice]
        summary = report.summary(answer, on_strong, bool(quick.stale), stale_strong)
        if wrong := unsupported(summary):
            raise EvidenceError(wrong)
        if reason := not_decided(summary):
            answer = reason
            summary = structs.replace(summary, answer=answer)
    except EvidenceError:
        if not quick.stale:
            raise
        summary = report.summary("", on_strong, stale=True, stale_strong=stale_strong)  # Of what it says nothing fits.
        bullets = []
    card = markdown(report, summary, bullets, stale_tuning=bool(quick.stale_tuning))
    pages: Pages = {folder / CARD: card, folder / SUMMARY: summary}
    if experiment.answer and not quick.stale:
        source = Path(str(experiment.recipe.__file__))
        pages[source] = docstring_with(source.read_text(encoding="utf-8"), answer, source.name)
    return pages, report


def not_decided(summary: Summary) -> str:
    """What stands in the answer's place while a claim that it rests on is undecided; empty if none is.

    Where all that lacks is more occasions of a timing, it is the answer with their number.
    """
    resting = [claim for claim in summary.claims if claim.id in summary.resting]
    waiting = [claim for claim in resting if claim.strongest.verdict == "undecided"]
    if waiting and all(claim.strongest.few and claim.strongest.over == "occasion" for claim in waiting):
        occasions = min(effect.seeds for claim in waiting for effect in claim.strongest.effects)
        return f"Provisional (timed on {occasions} of {OCCASIONS} occasions). {summary.answer}"
    return f"No answer yet. Undecided: {'; '.join(claim.text for claim in waiting)}." if waiting else ""


def unsupported(summary: Summary) -> str:
    """Why the answer must not stand: a claim that it rests on does not hold, or turns at the strongest setting."""
    if unknown := set(summary.resting) - {claim.id for claim in summary.claims}:
        return f"The answer rests on {', '.join(sorted(unknown))}: there is no such claim."
    for claim in summary.claims:
        first, last = claim.findings[0], claim.findings[-1]
        if claim.id not in summary.resting:
            continue
        against = ("contradicted", "no real difference") if summary.resting[claim.id] else ("supported",)
        if claim.strongest.verdict in against:
            which = claim.id if summary.resting[claim.id] else f"the contrary of {claim.id}"
            return f"The answer rests on {which}, and it reads {claim.strongest.verdict}. Write another answer."
        # Counterparts compare other variants, and each is to say the same.
        both = itertools.product(first.effects, last.effects) if first is not last else ()
        turned = any(_turned(claim, a, b) for a, b in both)
        if turned or (not last.few and first.verdict not in (last.verdict, "undecided")):
            what = "has the opposite sign" if turned else f"is {last.verdict}"
            return (
                f"The answer rests on {claim.id}, which is {first.verdict} here and {what} on the strong baseline. "
                "Write an answer that holds there too."
            )
    return ""


def _turned(claim: ClaimSummary, a: Effect, b: Effect) -> bool:
    """Whether an effect has another sign than the same one elsewhere, and both are surely not nothing."""
    none = 1.0 if claim.unit == "×" else 0.0
    sides = []
    for effect in (a, b):
        low, high = effect.low, effect.high
        sides.append(0 if low is None or high is None else (low > none) - (high < none))
    return sides[0] * sides[1] < 0


def _read_text(path: Path) -> str:
    if not path.exists():
        raise EvidenceError(f"There is no {path}: {RESTORE}.")
    return path.read_text(encoding="utf-8")


def publish_front(results: Path | None = None, page: Path | None = None) -> None:
    """Generate what comes from all recipes' summaries: the front page and its picture, the ledger and the gallery.

    Raises:
        EvidenceError: README has no place for it.
    """
    results = results or published.RESULTS
    found = front_page.summaries(results)
    pages = front_pages(found, results, page or README)
    picture.write(found, results / PICTURE)
    for path, text in pages.items():
        write_whole(path, text.encode())


def front_pages(found: front_page.Summaries, results: Path, page: Path) -> dict[Path, str]:
    """The pages that are made from all summaries, by their place."""
    return {
        page: front_page.readme(_read_text(page), found),
        results / "README.md": ledger.page(found),
        results / "claims.csv": ledger.as_csv(found),
        results / "claims.json": ledger.as_json(found),
        results / "gallery.md": front_page.gallery(found),
    }


def status_of(experiment: Experiment, results: Path | None = None) -> list[str]:
    """A line for each part of a recipe's evidence: current, stale or missing; below what is stale how to renew it."""
    quick = Published.read(experiment, results)
    parts: list[tuple[str, Any, str]] = [("evidence", quick.evidence, quick.stale)]
    if experiment.sweep:
        parts.append(("table" if experiment.table else "tuning", quick.tuning, quick.stale_tuning))
    lines = []
    for part, found, why in parts:
        lines.append(f"{part:<9} {'not measured' if found is None else f'stale: {why}' if why else 'current'}")
        if part in ("table", "tuning") and (why or found is None):
            lines.append(f"{'':<9} `python -m {experiment.command} tune` measures it again, before the evidence.")
        if part == "evidence" and found is None:
            lines.append(f"{'':<9} `{experiment.measure_again}` measures it.")
        if part == "evidence" and found is not None and why:
            lines += [f"{'':<9} {line}" for line in _remedy(Report(experiment, found, None))]
    if experiment.floor:
        there = floors_of(experiment, results)
        lines.append(f"{'floors':<9} {'measured' if there else 'not measured'}")
        if not there:
            lines.append(f"{'':<9} `python -m lab floors {experiment.name}` measures them.")
    return lines


def _remedy(report: Report) -> list[str]:
    """What has changed since evidence was measured, how to renew it, and how many minutes that takes."""
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
