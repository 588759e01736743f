"""The card: a recipe's page in Markdown, generated from evidence."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from lab.evidence.provenance import commands_of
from lab.evidence.schemas import LOOKS, ClaimSummary, Evidence, Finding, Machine, Summary
from lab.report.pages import (
    class_name,
    code,
    counted,
    duration,
    effects_text,
    escaped,
    from_to,
    has_interval,
    prose,
    render,
    shown,
    smallest_text,
    verdict_text,
    with_seeds,
)
from lab.report.report import Report

NONE = (None, "no", 0)
MOST_CLASSES = 50  # With a row of their own.
ASKING = {"what", "which", "how", "does", "do", "can", "is", "are", "why", "when", "where", "who", "should", "will"}


def markdown(
    report: Report,
    summary: Summary | None = None,
    advice: Sequence[str] = (),
    with_figure: bool = True,
    stale_tuning: bool = False,
) -> str:
    """The card. `summary` has its answer and its claims, with what the strong baseline says of them."""
    summary = summary or report.summary()
    claims = [claim for claim in summary.claims if not claim.check]
    page = render(
        "card",
        experiment=report.experiment,
        title=title(report.experiment.name, summary.question),
        report=report,
        found=report.found,
        commands=commands_of(report.found.command),
        summary=summary,
        advice=advice,
        claims=_table(report, claims),
        strong=any(len(claim.findings) > 1 for claim in claims),
        closing=_closing(report, claims),
        checks=[claim for claim in summary.claims if claim.check],
        said=[claim for claim in claims if claim.said],
        with_figure=with_figure,
        stale_tuning=stale_tuning,
        named=_named,
        elsewhere=_elsewhere,
        notes=notes(report),
        trained=trained(report),
        settings=_settings(report),
        repeated=_repeated(report),
        recalls=_recalls(report),
        takes=duration(summary.quick_seconds),
    )
    return f"{page}\n"


def title(name: str, question: str) -> str:
    """ "Regularization: what helps with few images?" """
    first, _, rest = question.partition(" ")
    first = first.lower() if first.lower() in ASKING else first
    return f"{name.replace('_', ' ').capitalize()}: {first} {rest}".strip()


def _table(report: Report, claims: Sequence[ClaimSummary]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: what is advised and by whom, the verdict, and the numbers that it was read from."""
    strong = [finding for claim in claims for finding in claim.findings[1:]]
    earlier = " (earlier version)" if any(finding.stale for finding in strong) else ""
    images = report.found.config.get("images") or report.found.data.train_images or 8_000
    rows = []
    for claim in claims:
        first, *others = [_numbers(claims, claim, finding) for finding in claim.findings]
        with_verdict = ", ".join(filter(None, [verdict_text(claim.findings[0]), first]))
        numbers = [*(others or ["–"]), with_verdict] if strong else [first]
        rows.append([f"{prose(claim.text)} ({escaped(claim.source)})", verdict_text(claim.strongest), *numbers])
    if not strong:
        return ["advice", "verdict", "effect"], rows
    return ["advice", "verdict", f"strong baseline{earlier}", f"{images:,} images"], rows


def _numbers(claims: Sequence[ClaimSummary], claim: ClaimSummary, finding: Finding) -> str:
    """Effects of a claim, in words where they are not of the measure that most claims of the card are about."""
    is_usual = (claim.measure, claim.unit) == _usual(claims)
    text = effects_text(claim, finding, unit=not is_usual)
    return text if is_usual or not text else f"{escaped(claim.measure)}: {text}"


def _usual(claims: Sequence[ClaimSummary]) -> tuple[str, str]:
    """The measure that most of the claims are about, and its unit."""
    measured = [claim for claim in claims if claim.findings[0].effects] or claims
    return Counter((claim.measure, claim.unit) for claim in measured).most_common(1)[0][0]


def _closing(report: Report, claims: Sequence[ClaimSummary]) -> str:
    """The unit, the interval, the number of seeds and the smallest effect that counts, in two sentences."""
    claims = [claim for claim in claims if claim.findings[0].effects]
    if not claims:
        return ""
    measure, unit = _usual(claims)
    usual = [claim for claim in claims if (claim.measure, claim.unit) == (measure, unit)]
    counts = [effect.seeds for claim in usual for finding in claim.findings for effect in finding.effects]
    over = f"{from_to(counts)} {usual[0].strongest.over}{'' if set(counts) == {1} else 's'}"
    least = smallest_text(usual[0].findings[0].smallest, unit)
    what = {"points": "Percentage points of", "×": "Ratios of"}.get(unit, f"{unit.capitalize()} of" if unit else "Of")
    less = f"ratio within {least} of 1" if unit == "×" else f"difference below {least}"
    there = {smallest_text(other.smallest, unit) for claim in usual for other in claim.findings[1:]} - {least}
    there_too = f" (strong baseline: {', '.join(sorted(there))})" if there else ""
    known = any(has_interval(claim, effect) for claim in usual for found in claim.findings for effect in found.effects)
    shown = "mean and deciding interval" if known else "mean"
    return f"{what} {measure}: {shown} over {over}. A {less} counts as none{there_too}."


def _named(machine: Machine) -> str:
    return f"{', '.join(machine.gpus) or counted(machine.cores, 'CPU core')} ({machine.cpu})"


def _elsewhere(found: Evidence) -> str:
    """Where the seeds come from that another machine measured."""
    return "".join(f"; of seeds {', '.join(map(str, seeds))}: {kind}" for kind, seeds in found.elsewhere.items())


def trained(report: Report) -> str:
    """On what, how long and in what batches most variants were trained; empty where no run noted its epochs."""
    lengths = Counter(
        len(record.curves["val_accuracy"]) for record in report.records if "val_accuracy" in record.curves
    )
    if not lengths:
        return ""
    found = report.found
    differ = len(lengths) > 1 or any(name in report.experiment.own_flags for name in report.found.variants)
    which = "Most" if differ else "All"
    ours = {"subset": 8_000, "full": 45_000}.get(found.data.source)  # Of a reader's own images nobody knows here.
    images = found.config.get("images") or found.data.train_images or ours
    on = f" on {images:,} images{' of CIFAR-10' if ours else ''}" if images else ""
    batch = f", in batches of {found.config['batch_size']}" if found.config.get("batch_size") else ""
    changed = [
        word for word, flag in (("mirrored", "flip"), ("shifted", "shift")) if found.config.get(flag) not in NONE
    ]
    how = f", {' and '.join(changed)}," if changed else ""
    return f"{which} variants train{on}{how} for {counted(lengths.most_common(1)[0][0], 'epoch')}{batch}."


def notes(report: Report) -> str:
    """What a reader should know about the numbers in the table."""
    experiment, text = report.experiment, []
    if experiment.compare:
        which = "The timed variants" if experiment.apart else "All variants"
        text.append(f"{which} of a seed took turns in one process, alone on the machine.")
    elif "images_per_second" in report.shown():
        text.append("Speeds come from runs side by side and decide no claim.")
    if report.levels("epochs_to_target"):
        text.append("A run that missed the target counts as all its epochs.")
    if blocks := [block for record in report.records for block in record.blocks]:
        again = sum(block.again for block in blocks)
        text.append(f"{again} of {len(blocks)} timed blocks were repeated because other processes disturbed them.")
    return " ".join(text)


def _repeated(report: Report) -> str:
    """How to repeat runs on images or with a model of the reader's own, as Markdown; empty for the published ones."""
    found = report.found
    if found.own is None and not found.model:
        return ""
    in_time = f" in {duration(report.elapsed)}" if report.elapsed else ""
    same = f"{code(found.command)} repeats it{in_time}"
    if len(found.seeds) >= LOOKS[0]:
        return f"{same}."
    try:
        ten = code(with_seeds(found.command, LOOKS[0]))
    except ValueError:  # It is a call of `measure`.
        return f"{same}, and with `seeds={LOOKS[0]}` it takes the ten seeds that a verdict needs."
    return f"{same}, and {ten} takes the ten seeds that a verdict needs."


def _recalls(report: Report) -> tuple[list[str], list[list[str]]] | None:
    """Header and rows: each class of the reader's own with its recall by each variant; of many classes the lowest."""
    own, recalls = report.found.own, report.recalls
    if own is None or not recalls:
        return None
    counts = np.bincount(own.truth, minlength=len(own.names))
    table = np.array(list(recalls.values()))
    order = np.argsort(np.nanmin(table, axis=0), kind="stable")
    kept, rest = np.sort(order[:MOST_CLASSES]), order[MOST_CLASSES:]
    rows = [
        [escaped(class_name(own.names[c])[1:-1]), f"{counts[c]:,}", *(_percent(of[c]) for of in table)] for c in kept
    ]
    if len(rest):
        ranges = [f"{_percent(np.nanmin(of[rest]))} to {_percent(np.nanmax(of[rest]))}" for of in table]
        rows.append([f"and {len(rest):,} more classes", f"{counts[rest].sum():,}", *ranges])
    return ["class", "test images", *map(escaped, recalls)], rows


def _percent(share: float) -> str:
    return f"{100 * share:.1f}" if share == share else "–"


def _setting(name: str, value: float) -> str:
    """ "rate 0.0057", "validation accuracy 55.9 %"."""
    words = name.replace("_", " ")
    return f"{words} {100 * value:.1f} %" if name.endswith("accuracy") else f"{words} {shown(value)}"


def _settings(report: Report) -> list[list[str]]:
    """Rows of a table's fields and values, or of each variant's best settings in a sweep."""
    if report.tuning is None:
        return []
    if report.experiment.table:
        fields = report.experiment.table.fields
        return [[name, ", ".join(map(shown, values))] for name, values in fields.items()]
    rows = []
    for variant, winner in report.tuning.winners.items():
        mine = [trial for trial in report.tuning.search if trial.variant == variant]
        best = ", ".join(_setting(name, value) for name, value in winner.items() if value is not None)
        rows.append([escaped(variant), str(len(mine)), escaped(best)])
    return rows
