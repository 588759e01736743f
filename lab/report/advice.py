"""The numbers in a recipe's advice, each held against the evidence that it was written from.

A recipe's docstring gives its advice in *Answer*, *In practice* and *Open*. `Experiment.numbers` says of each
number in them, as it is written with the words around it, what it is:

    {"5.8 points": "test_accuracy: augmentation - none",    a difference of two variants' means
     "49.0 %": "test_accuracy: augmentation",               a variant's mean
     "43.5 %": "test_accuracy: none beside augmentation",   the same over the seeds that another variant has as well
     "1.4 times": "images_per_second: b / a",               the ratio of two means
     "0.73 times": "log_time: bfloat16 / float32",          where the metric is a logarithm, of what it is one of
     "1.09 times": "log_time: b / a, seeds 11 to 40",       any of these, of some of the seeds
     "rate of 0.018": "RATES: muon",                        a setting that was tuned
     "0.64 decades": "good_decades: sgd",                   the width of the range of good rates, from the sweep
     "30 epochs": ""}                                       nothing that was measured, but a setting of the recipe

A difference is written so that it is positive: a number whose sign is another one now is wrong.
"""

import math
import re
import statistics
from decimal import Decimal

from lab.evidence.records import levels_of, values_of
from lab.report.report import Report

ENTRIES = ("Answer", "In practice", "Open")
NUMBER = re.compile(r"(?<![\w.,-])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


def entry(docstring: str, label: str) -> str:
    """What a docstring says under a label, on one line; empty where it has none."""
    found, inside = [], False
    for line in docstring.splitlines():
        if line.startswith(label + "  "):
            inside, line = True, line[len(label) :]
        elif inside and not line.startswith("   "):
            break
        if inside:
            found.append(line.strip())
    return " ".join(found)


def complaints(report: Report) -> list[str]:
    """A sentence for each number of the advice that evidence does not have, or that nothing says what it is of."""
    experiment = report.experiment
    text = " ".join(entry(experiment.docstring, label) for label in ENTRIES).strip()
    wrong, known = [], [False] * len(text)
    for written, source in experiment.numbers.items():
        places = [match.start() for match in re.finditer(re.escape(written), text)]
        if not places:
            wrong.append(f"{written!r} does not stand in the advice any more.")
        for place in places:
            known[place : place + len(written)] = [True] * len(written)
        if source and (problem := _held_against(report, written, source)):
            wrong.append(problem)
    for match in NUMBER.finditer(text):
        if not known[match.start()]:
            wrong.append(f"Nothing says what {text[max(0, match.start() - 20) : match.end() + 20]!r} is measured by.")
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
    if abs(Decimal(value) - digits) <= half * Decimal("1.001"):
        return ""
    return f"{written!r} should be {value:.4g} ({source})."


def _value(report: Report, source: str) -> float:
    metric, _, what = (part.strip() for part in source.partition(":"))
    what, _, chosen = what.partition(", seeds ")
    if metric in report.experiment.tuned:
        return float(report.experiment.settings(what)[metric])
    unit = report.experiment.unit(metric)
    records = report.records
    if chosen:
        first, last = map(int, chosen.split(" to "))
        records = [record for record in records if first <= record["seed"] <= last]
    values = report.good_decades() if metric == "good_decades" else values_of(records, metric)
    sign = next((sign for sign in (" - ", " / ", " beside ") if sign in what), "")
    variant, _, other = what.partition(sign) if sign else (what, "", "")
    if not sign:  # As the table shows it.
        shown = levels_of(records, metric, unit.timed) if metric != "good_decades" else values
        return statistics.mean(shown[variant].values()) * unit.scale
    shared = sorted(set(values[variant]) & set(values[other]))  # As claims compare: seed by seed.
    mean, than = (statistics.mean(values[name][seed] for seed in shared) for name in (variant, other))
    if sign == " beside ":
        return mean * unit.scale
    if sign == " - ":
        return (mean - than) * unit.scale
    return math.exp(mean - than) if "log" in metric else mean / than
