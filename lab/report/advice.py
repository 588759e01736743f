"""The numbers in a recipe's advice, each held against the evidence that it was written from.

A recipe's docstring gives its advice in *Answer*, *In practice* and *Open*. `Experiment.numbers` says of each number in
them, quoted with the words around it, what it is:

    {"5.8 points": "test_accuracy: augmentation - none",    a difference of two variants' means
     "49.0 %": "test_accuracy: augmentation",               a variant's mean
     "43.5 %": "test_accuracy: none beside augmentation",   the same over the seeds that both variants have
     "1.4 times": "images_per_second: b / a",               the ratio of two means
     "0.73 times": "log_time: bfloat16 / float32",          the ratio of what a logarithmic metric is the logarithm of
     "1.09 times": "log_time: b / a, seeds 11 to 40",       any of these, at some of the seeds
     "rate of 0.018": "RATES: muon",                        a setting that was tuned
     "0.64 decades": "good_decades: sgd",                   the width of the range of good rates, from the sweep
     "30 epochs": ""}                                       a setting of the recipe, not measured

A difference is written so that it is positive; a changed sign is an error.
"""

import math
import re
import statistics
from decimal import Decimal

from lab.evidence.records import levels_of, values_of
from lab.report.report import Report

LABELS = ("Answer", "In practice", "Open", "Use it when", "It hurts when", "Sources")
ENTRY = re.compile(rf"^({'|'.join(LABELS)})  (.*(?:\n   .*)*)\n?", re.MULTILINE)
NUMBER = re.compile(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def entries(docstring: str) -> tuple[dict[str, str], str]:
    """A docstring below its first line: what it says under each label, on one line, and all that is under none."""
    body = docstring.strip().partition("\n")[2]
    found = {label: " ".join(text.split()) for label, text in ENTRY.findall(body)}
    return found, ENTRY.sub("", body).strip()


def complaints(report: Report) -> list[str]:
    """A sentence for each number in the advice that the evidence does not have, or that has no entry in `numbers`."""
    experiment = report.experiment
    found, _ = entries(experiment.docstring)
    text = " ".join(found.get(label, "") for label in ("Answer", "In practice", "Open"))
    wrong, known = [], set()
    for written, source in experiment.numbers.items():
        places = [match.span() for match in re.finditer(re.escape(written), text)]
        known |= {place for span in places for place in range(*span)}
        if not places:
            wrong.append(f"{written!r} is no longer in the advice.")
        if source and (problem := _held_against(report, written, source)):
            wrong.append(problem)
    for match in NUMBER.finditer(text):
        if match.start() not in known:
            around = text[max(0, match.start() - 20) : match.end() + 20]
            wrong.append(f"`numbers` has no entry for the number in {around!r}.")
    return wrong


def _held_against(report: Report, written: str, source: str) -> str:
    number = NUMBER.search(written)
    if number is None:
        return f"{written!r} holds no number."
    try:
        value = _value(report, source)
    except (KeyError, ValueError, statistics.StatisticsError):
        return f"{written!r}: there is no {source!r}."
    digits = Decimal(number.group().replace(",", ""))
    half = Decimal(5).scaleb(digits.as_tuple().exponent - 1)  # type: ignore[operator]
    return (
        ""
        if abs(Decimal(value) - digits) <= half * Decimal("1.001")
        else f"{written!r} should be {value:.4g} ({source})."
    )


def _value(report: Report, source: str) -> float:
    metric, _, what = (part.strip() for part in source.partition(":"))
    what, _, chosen = what.partition(", seeds ")
    if metric in report.experiment.tuned:
        return float(report.experiment.settings(what)[metric])
    unit, records, of_sweep = report.experiment.unit(metric), report.records, metric == "good_decades"
    if chosen:
        first, last = map(int, chosen.split(" to "))
        records = [record for record in records if first <= record.seed <= last]
    variant, sign, other = [*re.split(r" (-|/|beside) ", what), "", ""][:3]
    if not sign:  # As the table shows it.
        shown = report.good_decades() if of_sweep else levels_of(records, metric, unit.timed)
        return statistics.mean(shown[variant].values()) * unit.scale
    values = report.good_decades() if of_sweep else values_of(records, metric)
    shared = sorted(set(values[variant]) & set(values[other]))  # As claims compare: seed by seed.
    mean, than = (statistics.mean(values[name][seed] for seed in shared) for name in (variant, other))
    if sign == "/":
        return math.exp(mean - than) if "log" in metric else mean / than
    return (mean - than if sign == "-" else mean) * unit.scale
