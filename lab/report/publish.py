"""From logs to `results/NAME/` and README's table: what is published is generated, and a test compares it anew."""

import dataclasses
import math
import re
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import structs

from lab.evidence.provenance import ROOT, without_folder
from lab.evidence.records import EvidenceError, read, values_of, write_json
from lab.evidence.schemas import (
    ClaimSummary,
    Effect,
    Evidence,
    Floor,
    Floors,
    MachineSummary,
    Record,
    Summary,
    TuningSweep,
    check_recipe,
)
from lab.experiment import BUDGETS, Experiment
from lab.report import advice, forest, front_page, in_place
from lab.report.card import kind_of, markdown
from lab.report.publishable import objections
from lab.report.published import (
    RESULTS,
    STALE,
    Published,
    all_settings,
    changed_parts,
    floors_of,
)
from lab.report.report import Report, runs_time, speaks_least, weakest, whole_time
from lab.statistics import Comparison, Judgement
from lab.tensorboard import comparison

README = ROOT / "README.md"
CARD = "README.md"  # So that a folder shows it.
LEAST_SEEDS = 10  # Of floors.
FLOOR_DEVIATIONS, LEAST_DEVIATIONS = 5, 3
FLOOR_OVER_CHANCE = 1.5


def publish(experiment: Experiment, paths: list[Path], results: Path = RESULTS) -> str:
    """Copy evidence to `results`/NAME and generate the card, the figure and the summary beside it; say what was done.

    All of it is made aside first and then put in place. Published evidence that has become stale is labelled.

    Raises:
        EvidenceError: evidence that may not be published, or none at all.
    """
    folder = results / experiment.name
    for path in paths:
        if reasons := objections(experiment, path):
            raise EvidenceError(f"{path} can't be published. " + " ".join(reasons))
    with in_place.aside(results) as scratch:
        new = scratch / experiment.name
        if folder.exists():
            shutil.copytree(folder, new)
        new.mkdir(exist_ok=True)
        for path in paths:
            kind: type[Evidence | TuningSweep] = TuningSweep if path.name == "tuning.json" else Evidence
            found = read(path, kind)
            place = new / "full" if found.budget == "full" else new
            write_json(place / path.name, structs.replace(found, command=without_folder(found.command)))
        done = _generate(experiment, new)
        in_place.put(new, folder)
    _write_reference(experiment, results, reference_of(experiment, results))
    return done


def reference_of(experiment: Experiment, results: Path = RESULTS) -> Path:
    """Where the published curves are as TensorBoard's files."""
    return results.parent / "logs" / "reference" / experiment.name


def _write_reference(experiment: Experiment, results: Path, folder: Path) -> None:
    published = Published.read(experiment, results)
    if published.evidence is None or published.stale:
        shutil.rmtree(folder, ignore_errors=True)  # Curves of other code are nothing to expect.
        return
    with in_place.aside(folder.parent) as scratch:
        comparison.write_reference(scratch / folder.name, Report(experiment, published.evidence, published.tuning))
        in_place.put(scratch / folder.name, folder)


def _generate(experiment: Experiment, folder: Path) -> str:
    published = Published.read(experiment, folder.parent)
    if published.evidence is None and published.tuning is not None:
        return "the sweep is published; the evidence comes next"
    if published.evidence is None:
        raise EvidenceError(f"There is no evidence of {experiment.name} to publish: run `{experiment.measure_again}`.")
    if published.stale:
        text = _without_label((folder / CARD).read_text(encoding="utf-8"))
        (folder / CARD).write_text(label(experiment) + text, encoding="utf-8")
        summary = read(folder / "summary.json", Summary, "measure again, or restore it from git")
        write_json(folder / "summary.json", structs.replace(summary, stale=True))
        return f"labelled as {STALE}, since {published.stale}"
    report = Report(experiment, published.evidence, published.tuning)
    if wrong := advice.complaints(report):
        raise EvidenceError(f"The advice of {experiment.name} is not what its evidence says. " + " ".join(wrong))
    report.write_figure(folder / "figure.png")
    report.write_forest(folder / "forest.png")
    note = f"The sweep was {STALE}." if published.stale_tuning else ""
    others = machines(folder, report) if experiment.by_machine else []
    at_full = Published.read(experiment, folder.parent, "full")
    full = None
    if at_full.evidence is not None and not at_full.stale:
        full = Report(experiment, at_full.evidence, at_full.tuning)
    elif at_full.evidence is not None:
        note = " ".join(filter(None, [note, f"What was measured at full is left out: it was {STALE}."]))
    (folder / CARD).write_text(markdown(report, note=note, others=others, full=full), encoding="utf-8")
    write_json(folder / "summary.json", summary_of(report, full))
    return "generated from its evidence"


def machines(folder: Path, report: Report) -> list[MachineSummary]:
    """Keep the verdicts of this kind of machine in a file of its own, and return those of all others.

    What was measured there with an earlier version of the recipe is left out: its verdicts are not of this code.
    """
    own = folder / f"machine-{re.sub('[^a-z0-9]+', '-', kind_of(report.found.machine).lower()).strip('-')}.json"
    machine, commit, code = report.found.machine, report.found.commit, report.found.code
    summary = structs.asdict(summary_of(report))
    write_json(own, MachineSummary(**summary, machine=machine, commit=commit, code=code))
    others = [
        read(path, MachineSummary, "delete it, or restore it from git")
        for path in sorted(folder.glob("machine-*.json"))
        if path != own
    ]
    return [other for other in others if other.code == code]


def label(experiment: Experiment) -> str:
    """What a card of stale evidence begins with."""
    again = f"`{experiment.measure_again}` measures it again."
    return f"> **This was {STALE}**, whose code has changed since. {again}\n\n"


def _without_label(text: str) -> str:
    return text.split("\n\n", 1)[1] if text.startswith("> **This was ") else text


def summary_of(report: Report, full: Report | None = None) -> Summary:
    """What README's table and `python -m recipes` show of a recipe, so that neither needs TensorFlow."""
    found = report.found
    at_full = {judgement.claim.id: judgement for judgement in full.judgements()} if full else {}
    return Summary(
        question=report.experiment.question,
        answer=advice.entry(report.experiment.docstring, "Answer"),
        seeds=len(found.seeds),
        quick_seconds=_quick_seconds(found, report.experiment),
        stale=False,
        claims=[
            ClaimSummary(
                id=judgement.claim.id,
                text=judgement.claim.text,
                source=judgement.claim.source,
                said=judgement.claim.said,
                verdict=judgement.verdict,
                machine=kind_of(found.machine) if report.experiment.by_machine and judgement.claim.metric else None,
                numbers=_numbers(report, judgement),
                effects=_effects(judgement, weakest(judgement)),
                drawn=_effects(judgement, [speaks_least(judgement)] if judgement.comparisons else []),
                **(
                    _beside(report, judgement, full, at_full[judgement.claim.id])
                    if full and judgement.claim.id in at_full
                    else {}
                ),
            )
            for judgement in report.judgements()
        ],
    )


def _beside(quick: Report, at_quick: Judgement, full: Report, at_full: Judgement) -> dict[str, Any]:
    """A claim's verdict at full, and the comparison that speaks least for it there: at quick, and at full."""
    said: dict[str, Any] = {"at_full": at_full.verdict}
    if at_full.comparisons:
        least = speaks_least(at_full)
        before = at_quick.comparisons[at_full.comparisons.index(least)]
        said["at_quick_and_full"] = (
            quick.words(at_quick, before, brief=True),
            full.words(at_full, least, brief=True),
        )
    return said


def _effects(judgement: Judgement, comparisons: Sequence[Comparison]) -> list[Effect]:
    """Comparisons in multiples of what matters."""
    rows = forest.rows([dataclasses.replace(judgement, comparisons=tuple(comparisons))])
    return [Effect(mean=row.mean, low=row.low, high=row.high, word=row.word) for row in rows]


def _numbers(report: Report, judgement: Judgement) -> list[str]:
    shown = weakest(judgement)
    numbers = [report.words(judgement, comparison, brief=True) for comparison in shown]
    more = len(judgement.comparisons) - len(shown)
    return [*numbers, *([f"and {more} more, no less clear"] if more else [])] or ["arithmetic"]


def _quick_seconds(found: Evidence, experiment: Experiment) -> int:
    """About how long a plain run takes: the share of its variants and seeds in the time that all of them took.

    Where the evidence was measured in several goes, its runs' own seconds say it.
    """
    first, usual = found.seeds[: BUDGETS["quick"].seeds], experiment.usual("quick")
    mine = [record for record in found.records if record.seed in first and record.variant in usual]
    plain = runs_time(found, mine, experiment)
    if elapsed := whole_time(found, experiment):
        return round(elapsed * plain / runs_time(found, found.records, experiment))
    return round(plain)


def drift(experiment: Experiment, results: Path = RESULTS) -> list[str]:
    """Which published files disagree with the evidence beside them, or lack the label that they should have."""
    folder = results / experiment.name
    with tempfile.TemporaryDirectory() as scratch:
        anew = Path(scratch) / experiment.name
        shutil.copytree(folder, anew)
        _generate(experiment, anew)
        wrong = [name for name in (CARD, "summary.json") if _text(folder / name) != _text(anew / name)]
        pictures = [name for name in ("figure.png", "forest.png") if (anew / name).exists()]
        wrong += [name for name in pictures if not _same_picture(folder / name, anew / name)]
        _write_reference(experiment, results, Path(scratch) / "reference")
        if _bytes(reference_of(experiment, results)) != _bytes(Path(scratch) / "reference"):
            wrong.append("the reference curves")
    return wrong


def _bytes(folder: Path) -> dict[str, bytes]:
    """All that lies below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def publish_front(results: Path = RESULTS, page: Path | None = None) -> None:
    """Make anew what is generated from all recipes' summaries: the ledger, the picture of all claims, and README.

    Raises:
        EvidenceError: README has no place for it.
    """
    import matplotlib

    page = page or README
    found = front_page.summaries(results)
    text = front_page.readme(page.read_text(encoding="utf-8"), results)
    software = f"Matplotlib {matplotlib.__version__}"
    with in_place.aside(results) as scratch:
        front_page.picture(found, scratch / "claims.png", software, front_page.fingerprint(found))
        (scratch / "README.md").write_text(front_page.ledger(found), encoding="utf-8")
        (scratch / "gallery.md").write_text(front_page.gallery(found), encoding="utf-8")
        for path in sorted(scratch.iterdir()):
            in_place.put(path, results / path.name)
    with in_place.aside(page.parent) as scratch:
        (scratch / page.name).write_text(text, encoding="utf-8")
        in_place.put(scratch / page.name, page)


def front_drift(results: Path = RESULTS, page: Path | None = None) -> list[str]:
    """Which of these disagree with the summaries."""
    with tempfile.TemporaryDirectory() as scratch:
        anew, page = Path(scratch), page or README
        for summary in results.glob("*/summary.json"):
            (anew / "results" / summary.parent.name).mkdir(parents=True)
            shutil.copyfile(summary, anew / "results" / summary.parent.name / summary.name)
        shutil.copyfile(page, anew / "page.md")
        (anew / "results").mkdir(exist_ok=True)
        publish_front(anew / "results", anew / "page.md")
        wrong = ["README.md"] if _text(anew / "page.md") != _text(page) else []
        for name, what in (("README.md", "the ledger"), ("gallery.md", "the gallery")):
            wrong += [what] if _text(anew / "results" / name) != _text(results / name) else []
        drawn = (anew / "results" / "claims.png").exists()
        if drawn and not _same_picture(results / "claims.png", anew / "results" / "claims.png"):
            wrong.append("claims.png")
    return wrong


def status_of(experiment: Experiment, results: Path = RESULTS) -> list[str]:
    """What of a recipe is current, stale or missing: a line each for its evidence, its tuning and its floors.

    Of stale evidence also what has changed, what mends it, and how many minutes that takes.
    """
    published = Published.read(experiment, results)
    parts: dict[str, tuple[Any, str]] = {"evidence": (published.evidence, published.stale)}
    if experiment.sweep:
        parts["table" if experiment.table else "tuning"] = published.tuning, published.stale_tuning
    if experiment.floor:
        parts["floors"] = floors_of(experiment, results)
    if experiment.at_full:
        full = Published.read(experiment, results, "full")
        parts["at full"] = full.evidence, full.stale
    lines = []
    for part, (found, why) in parts.items():
        state = "not measured" if found is None else f"stale: {why}" if why else "current"
        lines.append(f"{part:<9} {state}")
        if part != "evidence" or found is None or not why:
            continue
        if changed := changed_parts(experiment, found):
            lines.append(f"{'':<9} changed: {', '.join(changed)}")
        minutes = (whole_time(found, experiment) or runs_time(found, found.records, experiment)) / 60
        lines.append(f"{'':<9} `{experiment.measure_again}` measures again (about {minutes:.0f} minutes);")
        share = 2 / max(1, len(found.seeds))
        lines.append(
            f"{'':<9} if no number changes, `python -m lab attest {experiment.name}` carries it over (about "
            f"{max(1, share * minutes):.0f} on the machine that measured it, twice as long on another)."
        )
    return lines


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _same_picture(a: Path, b: Path) -> bool:
    """Whether two figures were drawn from the same evidence and look alike, to the rounding of text rendering.

    Another version of Matplotlib may draw them otherwise: then the evidence alone is compared.
    """
    import numpy as np
    from PIL import Image

    if not a.exists():
        return False
    with Image.open(a) as left, Image.open(b) as right:
        if left.info.get("Evidence") != right.info.get("Evidence"):
            return False
        if left.info.get("Software") != right.info.get("Software"):
            return True
        if left.size != right.size:
            return False
        difference = np.abs(np.asarray(left.convert("RGB"), float) - np.asarray(right.convert("RGB"), float))
    return bool(difference.mean() < 0.5)


def floors(
    records: list[Record], metric: str, fails: tuple[str, ...], chance: float, test_images: int
) -> dict[str, Floor]:
    """variant -> its recorded values of the metric, and the floor below which a test fails, or for variants whose point
    is that they fail, the ceiling above which it does: the mean minus, or plus, five standard deviations.

    A floor is never below 1.5 times chance, and that must lie at least three deviations below the mean. A ceiling's
    deviation is at least that of a draw of the test images: of runs that all ended at chance their own says nothing.

    Raises:
        EvidenceError: seeds scatter a variant so widely that no floor would mean anything.
    """
    found: dict[str, Floor] = {}
    least = FLOOR_OVER_CHANCE * chance
    for variant, by_seed in values_of(records, metric).items():
        values = list(by_seed.values())
        mean, deviation = statistics.mean(values), statistics.stdev(values)
        bound: dict[str, float]
        if variant in fails:
            bound = {"ceiling": mean + FLOOR_DEVIATIONS * max(deviation, of_a_draw(mean, test_images))}
        elif mean - LEAST_DEVIATIONS * deviation < least:
            raise EvidenceError(
                f"A floor of {variant} would lie below {FLOOR_OVER_CHANCE} times chance and mean nothing: give the "
                "recipe a longer training at smoke, or name the variant in `fails` if its point is that it fails."
            )
        else:
            bound = {"floor": max(mean - FLOOR_DEVIATIONS * deviation, least)}
        found[variant] = Floor(values=values, mean=mean, standard_deviation=deviation, **bound)
    return found


def of_a_draw(accuracy: float, test_images: int) -> float:
    """The standard deviation of an accuracy over draws of so many test images."""
    return math.sqrt(accuracy * (1 - accuracy) / test_images)


def write_floors(experiment: Experiment, path: Path, results: Path = RESULTS) -> Path:
    """Compute floors from a smoke invocation's evidence and store them with the distribution that they come from.

    Raises:
        EvidenceError: another budget, too few seeds, runs that ended as they should not, or floors that mean nothing.
    """
    found = read(path, Evidence)
    if problem := check_recipe(found, experiment.name, experiment.names):
        raise EvidenceError(f"{path} can't be used: {problem}.")
    clean = all(
        record.status == "finished" or (record.status == "diverged" and record.variant in experiment.fails)
        for record in found.records
    )
    if found.budget != "smoke" or len(found.seeds) < LEAST_SEEDS or not clean:
        raise EvidenceError(
            f"{path} gives no floors: they need a whole invocation of budget smoke with at least {LEAST_SEEDS} seeds."
        )
    target = results / experiment.name / "floors.json"
    content = Floors(
        command=without_folder(found.command),
        commit=found.commit,
        machine=found.machine,
        versions=found.versions,
        config=found.config,
        data=found.data,
        data_digest=found.data_digest,
        settings=all_settings(experiment),
        floors=floors(found.records, experiment.floor, tuple(experiment.fails), 1 / found.classes, found.test_images),
    )
    write_json(target, content)
    return target
