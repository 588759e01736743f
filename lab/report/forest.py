"""A forest plot: every comparison and its interval, in multiples of the smallest effect that matters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.statistics import Comparison, Judgement

EDGE = 8.0  # Multiples. A mean beyond it is written as a number at the edge.
MANY = 5
COLORS = {
    "supported": "#009E73",
    "no real difference": "#999999",
    "undecided": "#E69F00",
    "contradicted": "#D55E00",
}
OLD = "#56B4E9"  # Of a word that older evidence has.


@dataclass(frozen=True)
class Row:
    """A comparison as drawn: its label, its interval in multiples of `delta`, its verdict, whether it is stale."""

    label: str
    mean: float
    low: float
    high: float
    word: str
    stale: bool = False


def rows(judgements: Sequence[Judgement]) -> list[Row]:
    """One row for each measured comparison; right of zero is the claim's direction, or for equality A above B.

    Where many variants are equal to one another, one row holds the intervals of all pairs.
    """
    found = []
    for judgement in judgements:
        mine = [_row(judgement, c) for c in judgement.comparisons if c.n > 1]
        if mine and all_alike(judgement):
            low, high = min(row.low for row in mine), max(row.high for row in mine)
            mine = [Row(f"{judgement.claim.id}   all {len(mine)} pairs", (low + high) / 2, low, high, "supported")]
        found += mine
    return found


def all_alike(judgement: Judgement) -> bool:
    """Whether a claim says that many pairs are equal, and all of them are: one line is enough for these."""
    words = {comparison.word for comparison in judgement.comparisons}
    return bool(judgement.claim.equal) and len(judgement.comparisons) >= MANY and words == {"supported"}


def _row(judgement: Judgement, comparison: Comparison) -> Row:
    claim = judgement.claim
    first, second = reversed(comparison.between) if claim.lower else comparison.between
    label = f"{claim.id}   {first} − {second}".replace("_", " ")
    mean, low, high = (value / claim.delta for value in (comparison.mean, comparison.low, comparison.high))
    return Row(label, mean, low, high, comparison.word)


def draw_forest(found: Sequence[Row], row_height: float = 0.28, columns: int = 1) -> Any:
    """A matplotlib figure of the rows, from top to bottom; the zone of no real difference is shaded.

    `row_height` is in inches. One column has each verdict beside its row, several share a legend.
    """
    from matplotlib.figure import Figure

    longest = math.ceil(len(found) / columns)
    size = (9 if columns == 1 else 5.6 * columns, 1.1 + 0.4 * (columns > 1) + row_height * longest)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    for number, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        _draw_column(axes, found[number * longest : (number + 1) * longest], longest, words=columns == 1)
    if columns > 1:
        _draw_legend(figure, found)
    figure.supxlabel("difference, in multiples of the smallest effect that matters", fontsize=10)
    return figure


def _draw_column(axes: Any, found: Sequence[Row], places: int, *, words: bool) -> None:
    axes.axvspan(-1, 1, color="gray", alpha=0.15, linewidth=0)
    axes.axvline(0, color="gray", linewidth=0.8)
    for place, row in enumerate(found):
        color = COLORS.get(row.word, OLD)
        interval = [[max(0.0, row.mean - row.low)], [max(0.0, row.high - row.mean)]]
        look = {"color": color, "markersize": 5, "elinewidth": 2, "markerfacecolor": "white" if row.stale else color}
        axes.errorbar(row.mean, place, xerr=interval, fmt="o", **look)
        if abs(row.mean) > EDGE:  # The axis ends before it.
            side, text = ("right", f"{row.mean:+.0f} ▶") if row.mean > 0 else ("left", f"◀ {row.mean:+.0f}")
            box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}
            where = math.copysign(EDGE + 0.4, row.mean)
            axes.text(where, place, text, ha=side, va="center", fontsize=7, color=color, bbox=box)
        if words:
            beside = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8, "color": color}
            axes.annotate(row.word, (1.01, place), **beside)
    axes.set_yticks(range(len(found)), [row.label for row in found], fontsize=8)
    axes.set_ylim(places - 0.4, -0.6)
    axes.set_xlim(-EDGE - 0.5, EDGE + 0.5)
    axes.grid(axis="x", alpha=0.3)


def _draw_legend(figure: Any, found: Sequence[Row]) -> None:
    from matplotlib.lines import Line2D

    words = {row.word for row in found}
    entries = {word: Line2D([], [], color=color, marker="o") for word, color in COLORS.items() if word in words}
    if any(row.stale for row in found):
        entries["measured with an earlier version"] = Line2D([], [], color="gray", marker="o", markerfacecolor="white")
    columns = math.ceil(len(entries) / 2)
    figure.legend(entries.values(), entries, loc="outside upper center", ncols=columns, fontsize=9, frameon=False)
