"""The card: a recipe's page in Markdown, generated from evidence."""

import html
import re
from collections.abc import Sequence
from typing import Any

from recipes.harness.evidence.records import printable, values_of
from recipes.harness.reporting.report import ASSERTED, Report

LABELS = ("In practice", "Use it when", "It hurts when", "Sources")


def markdown(
    report: Report, with_figure: bool = True, sweep_note: str = "", others: Sequence[dict[str, Any]] = ()
) -> str:
    """The card. What evidence holds as text is escaped: it may come from elsewhere.

    `others` are summaries of what was measured on other kinds of machine.
    """
    found, recipe = report.found, report.recipe
    seeds = len(found["seeds"])
    header, rows = report.table()
    judgements = report.judgements()
    parts = [
        f"# {recipe.name}: {recipe.question}",
        prose(recipe.docstring),
        f"{code(found['command'])}: budget {code(found['budget'])}, {seeds} seed{'s' if seeds > 1 else ''}, "
        f"{_duration(found)}on {escaped(_machine(found['machine']))}.",
    ]
    if with_figure:
        parts.append(f"![{recipe.name}](figure.png)")
    parts += ["## Measured", markdown_table(header, rows), "Mean ± standard deviation over seeds. " + _notes(report)]
    parts.append("## Claims")
    summary = [[j.claim.id, j.claim.text, j.claim.source, f"**{j.verdict}**"] for j in judgements]
    parts.append(markdown_table(["", "claim", "source", "verdict"], summary))
    on = f" on {escaped(kind_of(found['machine']))}" if recipe.by_machine else ""
    for judgement in judgements:
        lines = [report.words(judgement, comparison) for comparison in judgement.comparisons]
        if judgement.claim.asserted is not None:
            lines.append(ASSERTED)
        if judgement.claim.from_tuning:
            lines.append("From the tuning sweep.")
        where = on if judgement.claim.asserted is None else ""
        parts.append(f"**{judgement.claim.id}**: {judgement.verdict}{where}.\n\n" + "\n".join(f"- {x}" for x in lines))
    if recipe.by_machine:
        parts += ["## On each kind of machine", _machines(report, others)]
    if margins := report.test_set_lines():
        parts.append("## What the finite test set adds")
        parts.append(
            "The verdicts speak of training noise on these test images. Another draw of as many images would move "
            "a difference, 95 % of the time, by up to about\n\n" + "\n".join(f"- {line}" for line in margins)
        )
    if report.tuning:
        parts += ["## The table", _table(report)] if recipe.table else ["## Tuning", _tuning(report)]
        parts.append(sweep_note)
    parts += ["## Where it was measured", _provenance(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _machines(report: Report, others: Sequence[dict[str, Any]]) -> str:
    ids = [judgement.claim.id for judgement in report.judgements()]
    own = {judgement.claim.id: judgement.verdict for judgement in report.judgements()}
    rows = [[escaped(kind_of(report.found["machine"])), str(len(report.found["seeds"])), *(own[i] for i in ids)]]
    for other in others:
        verdicts = {claim["id"]: claim["verdict"] for claim in other["claims"]}
        named = escaped(kind_of(other["machine"]))
        rows.append([named, str(other["seeds"]), *(escaped(verdicts.get(i, "")) for i in ids)])
    return "The verdicts above are of the first.\n\n" + markdown_table(["machine", "seeds", *ids], rows)


def kind_of(machine: dict[str, Any]) -> str:
    """A kind of machine in words: its processor, or its GPUs, and what it can do."""
    able = ", ".join(map(str, machine.get("abilities") or [])) or "abilities unknown"
    return f"{', '.join(map(str, machine.get('gpus') or [])) or machine.get('cpu')} ({able})"


def _notes(report: Report) -> str:
    text = _ALONE if report.recipe.compare and not report.found.get("together") else _BESIDE
    if values_of(report.records, "epochs_to_target"):
        text += " A target that was missed counts as all the epochs that were allowed."
    return text


def _table(report: Report) -> str:
    assert report.tuning is not None
    assert report.recipe.table is not None
    fields = report.recipe.table.fields
    sizes = " × ".join(f"{len(values)} of {name}" for name, values in fields.items())
    return (
        f"{code(report.tuning['command'])}: {sizes}, {len(report.recipe.table.seeds)} seeds each, in "
        f"{report.tuning['worker_seconds'] / 60:,.0f} minutes of workers' time.\n\n"
    ) + markdown_table(
        ["field", "values"],
        [[name, ", ".join(f"{value:g}" for value in values)] for name, values in fields.items()],
    )


def _tuning(report: Report) -> str:
    assert report.tuning is not None
    rows = []
    for variant, winner in report.tuning["winners"].items():
        trials = sum(1 for record in report.tuning["search"] if record["variant"] == variant)
        shown = ", ".join(f"{name} {value:g}" for name, value in winner.items() if value is not None)
        rows.append([escaped(variant), str(trials), escaped(shown)])
    curve = ", the sensitivity curve on other seeds" if report.tuning["curve"] else ""
    return (
        f"{code(report.tuning['command'])}: settings by validation on seed 0{curve}; "
        f"{report.tuning['worker_seconds'] / 60:,.0f} minutes of workers' time.\n\n"
    ) + markdown_table(["variant", "trials", "best"], rows)


_ALONE = "All variants of a seed were measured in one process, one after the other in turn, with nothing beside it."
_BESIDE = (
    "Speed and memory come from runs side by side and are information, not evidence for a claim. Memory is the growth "
    "of a worker's peak during a run, the largest of the variant's; a worker keeps what was freed, so it is whole only "
    "where a run was its worker's first, and small numbers mean memory used again."
)


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "| " + " | ".join("---" for _ in header) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def escaped(text: object) -> str:
    """Text that Markdown shows as it is: no HTML, no link, no table cell of its own."""
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", html.escape(printable(str(text)), quote=False))


def code(text: object) -> str:
    """Text as a code span."""
    plain = printable(str(text)).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`"


def prose(docstring: str) -> str:
    """A docstring below its first line: what to do in practice, the paragraphs, and its other entries as a list."""
    practice: list[str] = []
    rest: list[str] = []
    entry = rest
    for line in docstring.strip().splitlines()[2:]:
        label = next((label for label in LABELS if line.startswith(label + "  ")), None)
        if label:
            entry = practice if label == "In practice" else rest
            entry.append(f"{'' if entry is practice else '- '}**{label}** {line[len(label) :].strip()}")
        elif line.startswith("   "):
            entry.append(("" if entry is practice else "  ") + line.strip())
        else:
            rest.append(line)
    return "\n".join([*practice, *([""] if practice else []), *rest])


def _duration(found: dict[str, Any]) -> str:
    return f"{found['elapsed_seconds']:,.0f} s " if found.get("elapsed_seconds") else ""


def _machine(machine: dict[str, Any]) -> str:
    gpus = ", ".join(map(str, machine.get("gpus") or [])) or "no GPU"
    return f"{machine.get('cpu')}, {machine.get('cores')} cores, {gpus}"


def _provenance(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    data, machine = found["data"], found["machine"]
    images = f"{data['train_images']:,}" if data["train_images"] else "all"
    rows = [
        ["machine", f"{_machine(machine)}, {machine.get('memory_gib')} GiB, {machine.get('system')}"],
        ["versions", versions],
        ["commit", str(found["commit"])],
        ["code", f"{found['code']} (hash of the recipe, and of what it uses of the pipelines and the harness)"],
        *([["table", f"{found['table']} (hash of the results that were looked up)"]] if "table" in found else []),
        ["data", f"{data['source']}, {images} training images, split seed {data['split_seed']}"],
        ["images", f"{found['data_digest']} (hash)"],
        ["config", ", ".join(f"{k} {v}" for k, v in found["config"].items() if v is not None)],
    ]
    return markdown_table(["", ""], [[name, escaped(value)] for name, value in rows])
