"""The card: a recipe's page in Markdown, generated from evidence."""

from lab.evidence.records import levels_of, values_of
from lab.evidence.schemas import Machine
from lab.report import advice, forest
from lab.report.pages import escaped, render, shown
from lab.report.report import Report, kind_of, origin_of, supports_least, weakest
from lab.statistics import Judgement


def markdown(report: Report, with_figure: bool = True, note: str = "", full: Report | None = None) -> str:
    """The card. `full` is what is published at that budget."""
    entries, explanation = advice.entries(report.experiment.docstring)
    page = render(
        "card",
        experiment=report.experiment,
        found=report.found,
        report=report,
        entries=entries,
        explanation=explanation,
        note=note,
        with_figure=with_figure,
        named=_named,
        kind=kind_of(report.found.machine),
        claims=[(judgement, _lines(report, judgement)) for judgement in report.judgements],
        notes=notes(report),
        full=full,
        turned=_turned(report, full) if full else [],
        settings=_settings(report),
    )
    return f"{page}\n"


def _named(machine: Machine) -> str:
    return f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.gpus) or 'no GPU'}"


def _lines(report: Report, judgement: Judgement) -> list[str]:
    """What stands below a claim: its comparisons, where they come from, and the source's own words."""
    claim, comparisons, which = judgement.claim, judgement.comparisons, ""
    if forest.all_alike(judgement):
        which = f"Of {len(comparisons)} pairs, the one that is farthest apart: "
        comparisons = (supports_least(judgement),)
    lines = [which + report.words(judgement, comparison) for comparison in comparisons]
    said = f"In the source's words: “{escaped(claim.said)}”." if claim.said else ""
    return [line for line in (*lines, origin_of(claim), said) if line]


def _turned(report: Report, full: Report) -> list[list[str]]:
    """A row for each claim that was measured at full as well."""
    before = {judgement.claim.id: judgement.verdict for judgement in report.judgements}
    rows = []
    for judgement in full.judgements:
        numbers = "; ".join(full.words(judgement, comparison, brief=True) for comparison in weakest(judgement))
        rows.append([judgement.claim.id, before[judgement.claim.id], f"**{judgement.verdict}**", numbers])
    return rows


def notes(report: Report) -> str:
    """What a reader should know about the numbers in the table."""
    experiment, text = report.experiment, []
    if experiment.compare:
        text.append("All variants of a seed took turns in one process, with nothing beside it.")
    elif not experiment.timed & set(experiment.units):
        text.append("Speeds are those of runs side by side: information, and no evidence for a claim.")
    if values_of(report.records, "epochs_to_target"):
        text.append("A target that was missed counts as all the epochs that were allowed.")
    for metric in sorted(experiment.timed):
        values, level = values_of(report.records, metric), levels_of(report.records, metric, timed=True)
        if values != level:
            over = min(len(by_seed) for by_seed in level.values())
            text.append(f"Times and memory are those of the {over} seeds that all variants have.")
            break
    if blocks := [block for record in report.records for block in record.blocks]:
        again = sum(block.again for block in blocks)
        text.append(f"Of {len(blocks)} timed blocks, {again} were timed again because other processes disturbed them.")
    return " ".join(text)


def _settings(report: Report) -> list[list[str]]:
    """Rows of a table's fields and values, or of each variant's best settings in a sweep."""
    if report.tuning is None:
        return []
    if report.experiment.table:
        fields = report.experiment.table.fields
        return [[name, ", ".join(map(shown, values))] for name, values in fields.items()]
    rows = []
    for variant, winner in report.tuning.winners.items():
        trials = sum(trial.variant == variant for trial in report.tuning.search)
        best = ", ".join(f"{name} {shown(value)}" for name, value in winner.items() if value is not None)
        rows.append([escaped(variant), str(trials), escaped(best)])
    return rows
