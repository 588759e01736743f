"""Fills the numbers of evidence into an experiment's answer and advice.

    {test_accuracy.muon}                              a mean: "64.5 %"
    {test_accuracy.muon - test_accuracy.adam}         a paired difference: "3.0 points"
    {change test_accuracy.both - test_accuracy.one}   the same with its sign, whichever it is: "−0.2 points"
    {log_time.eager / log_time.graph}                 a ratio, of what a log_ metric is the logarithm of: "4.3×"
    {faster log_time.bfloat16 / log_time.float32}     the first is quicker: "43 % faster"
    {saved log_memory.bfloat16 / log_memory.float32}  the first needs less: "50 %"
    {argument.rate.muon}                              an argument that the variant is trained with: "0.01"
    {strong: strong_accuracy.baseline}                any of these, measured on the strong baseline

A difference without `change` is written so that it is positive. If new evidence turns its sign, the sentence around it
is wrong, and `publish` stops.
"""

import ast
import inspect
import math
import re
import statistics
import textwrap

from lab.evidence.records import EvidenceError
from lab.report.pages import is_ratio, times
from lab.report.report import Report

TERM = r"(\w+)\.([^\s{}]+)"
PLACEHOLDER = re.compile(rf"(strong: )?(?:(change|faster|saved) )?{TERM}(?: ([-/]) {TERM})?")
BLOCK = re.compile(r"(Run|Copy|Careful|Numbers|Papers)  +\S")  # A line of the docstring's last part begins so.
WIDTH = 100


def filled(template: str, report: Report, strong: Report | None = None) -> str:
    """`template` with a number and its unit in place of each {placeholder}.

    Raises:
        EvidenceError: the evidence lacks what a placeholder names, or has turned its sign.
    """
    return re.sub(r"\{([^{}]*)\}", lambda match: _number(match[1], report, strong), template)


def _number(asked: str, report: Report, strong: Report | None) -> str:
    try:
        if not (match := PLACEHOLDER.fullmatch(asked)):
            raise KeyError("it is not of a form that lab/report/advice.py describes")
        on_strong, way, metric, variant, sign, other_metric, other = match.groups()
        found = strong if on_strong else report
        if found is None:
            raise KeyError("nothing was measured on the strong baseline")
        if sign and other_metric != metric:
            raise KeyError("it compares two metrics")
        if way and sign != ("-" if way == "change" else "/"):
            raise KeyError(f"{way} needs a {'difference' if way == 'change' else 'ratio'}")
        if not sign:
            return _level(found, metric, variant)
        return (_difference if sign == "-" else _ratio)(found, way, metric, variant, other)
    except KeyError as error:
        raise EvidenceError(
            f"The advice of {report.experiment.name} can't be filled in: {{{asked}}} has no number, because "
            f"{error.args[0]}. Change the placeholder in lab/experiments, or measure what it names."
        ) from error


def _level(report: Report, metric: str, variant: str) -> str:
    if metric == "argument":
        return f"{_argument(report, variant):g}"
    unit, value = report.experiment.unit(metric), _mean(report, metric, variant) * report.experiment.unit(metric).scale
    if unit.name == "points":
        return f"{value:.1f} %"
    return f"{value:,.{unit.digits}f}{f' {unit.name}' if unit.name else ''}"


def _difference(report: Report, way: str | None, metric: str, variant: str, other: str) -> str:
    unit = report.experiment.unit(metric)
    value = report.difference(metric, variant, other) * unit.scale
    shown = f"{value:{'+' if way else ''},.{1 if unit.name == 'points' else unit.digits}f}"
    if way:
        shown = shown.replace("-", "−")
    if shown.startswith("-"):
        raise KeyError(f"it is {shown} now: the sentence around it says the opposite of the evidence")
    return f"{shown}{f' {unit.name}' if unit.name else ''}"


def _ratio(report: Report, way: str | None, metric: str, variant: str, other: str) -> str:
    if metric == "argument":
        ratio = _argument(report, variant) / _argument(report, other)
    elif is_ratio(metric):
        ratio = math.exp(report.difference(metric, variant, other))
    else:
        ratio = _mean(report, metric, variant) / _mean(report, metric, other)
    if way is None:
        return times(ratio)
    gain = 100 * (1 / ratio - 1 if way == "faster" else 1 - ratio)
    if round(gain) <= 0:
        raise KeyError(f"{variant} takes {ratio:.2f} times as much as {other}: name the one that takes less first")
    return f"{gain:.0f} %{' faster' if way == 'faster' else ''}"


def _mean(report: Report, metric: str, variant: str) -> float:
    values = report.levels(metric).get(variant)
    if not values:
        raise KeyError(f"the evidence has no {metric} of {variant}")
    return statistics.mean(values.values())


def _argument(report: Report, asked: str) -> float:
    """An argument of a variant, such as "rate.muon": bound, or the default, or from the recipe's table RATES."""
    name, _, variant = asked.partition(".")
    call = report.experiment.partials.get(variant)
    if call is None:
        raise KeyError(f"{variant or asked} is no variant with arguments")
    parameters = inspect.signature(call).parameters
    value = parameters[name].default if name in parameters else None
    if value is None:
        value = report.experiment.settings(variant).get(f"{name.upper()}S")
    if not isinstance(value, (int, float)):
        raise KeyError(f"{variant} has no number {name}")
    return value


def docstring_with(source: str, answer: str, path: object = "the recipe") -> str:
    """A recipe's `source` with `answer` in its docstring, between the question and the lines from "Run" on.

    Raises:
        EvidenceError: the docstring has no such place.
    """
    node = ast.parse(source).body[0]
    lines = source.splitlines(keepends=True)
    inside = range(node.lineno, node.end_lineno or node.lineno)
    last = next((number for number in inside if BLOCK.match(lines[number])), None)
    if not isinstance(node, ast.Expr) or last is None:
        raise EvidenceError(
            f"{path} has no place for its answer: its docstring needs a line that begins with Run, Copy, Careful, "
            "Numbers or Papers."
        )
    wrapped = textwrap.wrap(answer, WIDTH, break_long_words=False, break_on_hyphens=False)
    return "".join([*lines[: node.lineno], "\n", *(f"{line}\n" for line in wrapped), "\n", *lines[last:]])
