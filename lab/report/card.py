"""The card: a recipe's page in Markdown, generated from evidence."""

import html
import re
from collections.abc import Mapping, Sequence

from lab.evidence.records import levels_of, printable, values_of
from lab.evidence.schemas import Evidence, Machine, MachineSummary
from lab.report import forest
from lab.report.report import ASSERTED, Report, speaks_least, weakest, whole_time
from lab.statistics import Judgement

ADVICE = ("Answer", "In practice")
LABELS = ("Answer", "In practice", "Open", "Use it when", "It hurts when", "Sources")


def markdown(
    report: Report,
    with_figure: bool = True,
    note: str = "",
    others: Sequence[MachineSummary] = (),
    full: Report | None = None,
) -> str:
    """The card. What evidence holds as text is escaped: it may come from elsewhere.

    `others` are summaries of what was measured on other kinds of machine, `full` is what is published at that budget.
    """
    found, experiment = report.found, report.experiment
    seeds = len(found["seeds"])
    header, rows = report.table()
    judgements = report.judgements()
    advice, rest = split_docstring(experiment.docstring)
    parts = [
        f"# {experiment.name}: {experiment.question}",
        advice,
        f"{code(found['command'])}: budget {code(found['budget'])}, {seeds} seed{'s' if seeds > 1 else ''}, "
        f"{_duration(report)}on {escaped(_machine(found['machine']))}. "
        f"To measure it again: {code(experiment.measure_again)}.",
        "## Claims",
    ]
    if with_figure and any(comparison.n > 1 for judgement in judgements for comparison in judgement.comparisons):
        parts += ["![every comparison and its interval](forest.png)", _FOREST]
    on = f" on {escaped(kind_of(found['machine']))}" if experiment.by_machine else ""
    margins = report.test_set_margins()
    if margins:
        parts.append(_TEST_SET)
    parts += [_claim(report, judgement, on, margins) for judgement in judgements]
    if experiment.by_machine:
        parts += ["## On each kind of machine", _machines(report, others)]
    parts += ["## Measured", markdown_table(header, rows), "Mean ± standard deviation over seeds. " + notes(report)]
    if with_figure:
        parts.append(f"![{experiment.name}](figure.png)")
    if full:
        parts += ["## At full", _full(judgements, full)]
    if report.tuning:
        parts += ["## The table", _table(report)] if experiment.table else ["## Tuning", _tuning(report)]
    parts += [note, "## What it does", rest]
    parts += ["## Where it was measured", _provenance(found)]
    return "\n\n".join(part for part in parts if part) + "\n"


_FOREST = (
    "In multiples of the smallest effect that matters: right is the claim's direction, or where two things are said to "
    "be the same, the first one higher; shaded is what makes no practical difference. [How to read a "
    "verdict](../../docs/verdicts.md)."
)


_TEST_SET = (
    "Intervals are about these test images. *Another draw* of as many would move a difference, 95 % of the time, by up "
    "to what is said beside it."
)


def _claim(report: Report, judgement: Judgement, on: str, margins: Mapping[frozenset[str], float]) -> str:
    claim = judgement.claim
    lines = []
    alike = forest.all_alike(judgement)
    for comparison in (speaks_least(judgement),) if alike else judgement.comparisons:
        margin = margins.get(frozenset(comparison.between)) if claim.metric == "test_accuracy" else None
        drawn = f" Another draw: ±{margin:.2f} points." if margin is not None else ""
        which = f"Of {len(judgement.comparisons)} pairs the one that is farthest apart: " if alike else ""
        lines.append(which + report.words(judgement, comparison) + drawn)
    if claim.asserted is not None:
        lines.append(ASSERTED)
    if claim.from_tuning:
        lines.append("From the tuning sweep.")
    if claim.said:
        lines.append(f"In the source's words: “{escaped(claim.said)}”.")
    where = on if claim.asserted is None else ""
    head = f"**{claim.id}** {escaped(claim.text)} ({escaped(claim.source)}): **{judgement.verdict}**{where}."
    return head + "\n\n" + "\n".join(f"- {line}" for line in lines)


def _full(judgements: Sequence[Judgement], full: Report) -> str:
    found, verdicts = full.found, {judgement.claim.id: judgement.verdict for judgement in judgements}
    rows = []
    for judgement in full.judgements():
        name = judgement.claim.id
        numbers = "; ".join(full.words(judgement, comparison, brief=True) for comparison in weakest(judgement))
        rows.append([name, verdicts[name], f"**{judgement.verdict}**", numbers])
    header, table = full.table()
    epochs = f"{found['config']['epochs']} epochs, " if "epochs" in found["config"] else ""
    return (
        f"All of CIFAR-10, {epochs}{len(found['seeds'])} seeds, settings tuned there about those of quick: "
        f"{code(found['command'])}, on {escaped(_machine(found['machine']))}.\n\n"
        + markdown_table(["", "verdict above", "at full", "measured at full"], rows)
        + "\n\n"
        + markdown_table(header, table)
    )


def _machines(report: Report, others: Sequence[MachineSummary]) -> str:
    ids = [judgement.claim.id for judgement in report.judgements()]
    own = {judgement.claim.id: judgement.verdict for judgement in report.judgements()}
    rows = [[escaped(kind_of(report.found["machine"])), str(len(report.found["seeds"])), *(own[i] for i in ids)]]
    for other in others:
        verdicts = {claim["id"]: claim["verdict"] for claim in other["claims"]}
        named = escaped(kind_of(other["machine"]))
        rows.append([named, str(other["seeds"]), *(escaped(verdicts.get(i, "")) for i in ids)])
    return "The verdicts above are of the first.\n\n" + markdown_table(["machine", "seeds", *ids], rows)


def kind_of(machine: Machine) -> str:
    """A kind of machine in words: its processor, or its GPUs, and what it can do."""
    able = ", ".join(machine.abilities) or "abilities unknown"
    return f"{', '.join(machine.gpus) or machine.cpu} ({able})"


def notes(report: Report) -> str:
    """What a reader should know of the numbers in the table."""
    text = _ALONE if report.experiment.compare and not report.found.get("together") else _BESIDE
    if report.experiment.timed & set(report.experiment.units) and not report.experiment.compare:
        text = ""
    if values_of(report.records, "epochs_to_target"):
        text += " A target that was missed counts as all the epochs that were allowed."
    if over := _fewer_times(report):
        text += f" Times and memory are those of the {over} seeds that all variants have."
    if blocks := sum(len(record["blocks"]) for record in report.records):
        text += f" Of {blocks} timed blocks {report.again()} were timed again, since other processes disturbed them."
    return text


def _fewer_times(report: Report) -> int:
    """Over how many seeds times are shown, where that is not over all that a variant has; else 0."""
    for metric in sorted(report.experiment.timed):
        values, shown = values_of(report.records, metric), levels_of(report.records, metric, timed=True)
        if values != shown:
            return min(len(by_seed) for by_seed in shown.values())
    return 0


def _table(report: Report) -> str:
    assert report.tuning is not None
    assert report.experiment.table is not None
    fields = report.experiment.table.fields
    sizes = " × ".join(f"{len(values)} of {name}" for name, values in fields.items())
    return (
        f"{code(report.tuning['command'])}: {sizes}, {len(report.experiment.table.seeds)} seeds each, in "
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
    curve = ", the sensitivity curve at others" if report.tuning["curve"] else ""
    return (
        f"{code(report.tuning['command'])}: settings by validation, a grid at seed 0, the best three at five{curve}; "
        f"{report.tuning['worker_seconds'] / 60:,.0f} minutes of workers' time.\n\n"
    ) + markdown_table(["variant", "trials", "best"], rows)


_ALONE = "All variants of a seed were measured in one process, one after the other in turn, with nothing beside it."
_BESIDE = "Speed comes from runs side by side and is information, not evidence for a claim."


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


def split_docstring(docstring: str) -> tuple[str, str]:
    """A docstring below its first line, as Markdown: its answer and what to do in practice; and everything else."""
    advice: list[str] = []
    rest: list[str] = []
    entry = rest
    for line in docstring.strip().splitlines()[2:]:
        label = next((label for label in LABELS if line.startswith(label + "  ")), None)
        if label:
            entry = advice if label in ADVICE else rest
            words = line[len(label) :].strip()
            entry += ["", f"**{label}** {words}"] if entry is advice else [f"- **{label}** {words}"]
        elif line.startswith("   "):
            entry.append(("" if entry is advice else "  ") + line.strip())
        else:
            rest.append(line)
    return "\n".join(advice).strip(), "\n".join(rest).strip()


def _duration(report: Report) -> str:
    elapsed = whole_time(report.found, report.experiment)
    return f"{elapsed:,.0f} s " if elapsed else ""


def _split(seed: int | None) -> str:
    return "each seed with a split of its own" if seed is None else f"split seed {seed}"


def _machine(machine: Machine) -> str:
    return f"{machine.cpu}, {machine.cores} cores, {', '.join(machine.gpus) or 'no GPU'}"


def _provenance(found: Evidence) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    data, machine = found["data"], found["machine"]
    images = f"{data['train_images']:,}" if data["train_images"] else "all"
    rows = [
        ["machine", f"{_machine(machine)}, {machine.get('memory_gib')} GiB, {machine.get('system')}"],
        ["versions", versions],
        ["commit", str(found["commit"])],
        *(
            [["carried to", f"{found['carried']} (commit), since runs of both were the same to the bit"]]
            if "carried" in found
            else []
        ),
        ["code", f"{found['code']} (hash of the recipe, and of what it uses of the pipelines and the harness)"],
        *([["table", f"{found['table']} (hash of the results that were looked up)"]] if "table" in found else []),
        ["data", f"{data['source']}, {images} training images, {_split(data['split_seed'])}"],
        ["images", f"{found['data_digest']} (hash)"],
        ["config", ", ".join(f"{k} {v}" for k, v in found["config"].items() if v is not None)],
    ]
    return markdown_table(["", ""], [[name, escaped(value)] for name, value in rows])
