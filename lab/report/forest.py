"""A forest plot: every comparison and its interval, in multiples of the smallest effect that matters."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.statistics import Comparison, Judgement

EDGE = 8.0  # Multiples; what lies beyond is drawn at the edge, with its number.
MANY = 5
COLORS = {
    "holds": "#009E73",
    "holds in direction": "#56B4E9",
    "no practical difference": "#999999",
    "open": "#E69F00",
    "mixed": "#0072B2",
    "differs": "#CC79A7",
    "refuted in direction": "#CC79A7",
    "refuted": "#D55E00",
}


@dataclass(frozen=True)
class Row:
    """A comparison as drawn: what stands left of it, its interval in multiples of `by`, and its word."""

    label: str
    mean: float
    low: float
    high: float
    word: str


def rows(judgements: Sequence[Judgement]) -> list[Row]:
    """One for each comparison that was measured; right of zero is the claim's direction, or for equality A above B.

    Where many variants are equal to one another, one row holds the intervals of all pairs.
    """
    found = []
    for judgement in judgements:
        measured = [c for c in judgement.comparisons if c.n > 1 and judgement.claim.by > 0]
        mine = [_row(judgement, comparison) for comparison in measured]
        if mine and all_alike(judgement):
            low, high = min(row.low for row in mine), max(row.high for row in mine)
            mine = [Row(f"{judgement.claim.id}   all {len(mine)} pairs", (low + high) / 2, low, high, "holds")]
        found += mine
    return found


def all_alike(judgement: Judgement) -> bool:
    """Whether a claim says of many pairs that they are equal, and all of them are: one line is enough for these."""
    words = {comparison.word for comparison in judgement.comparisons}
    return bool(judgement.claim.equal) and len(judgement.comparisons) >= MANY and words == {"holds"}


def _row(judgement: Judgement, comparison: Comparison) -> Row:
    by = judgement.claim.by
    first, second = comparison.between
    between = f"{first} − {second}" if not judgement.claim.lower else f"{second} − {first}"
    return Row(
        f"{judgement.claim.id}   {between.replace('_', ' ')}",
        comparison.mean / by,
        comparison.low / by,
        comparison.high / by,
        comparison.word,
    )


def draw(found: Sequence[Row], row_height: float = 0.28, columns: int = 1) -> Any:
    """A matplotlib figure of the rows, from top to bottom; the zone of no practical difference is shaded.

    `row_height` is in inches. In several columns there is no room for words beside the rows: a legend has them.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    longest = math.ceil(len(found) / columns)
    size = (9 if columns == 1 else 5.6 * columns, 1.1 + 0.4 * (columns > 1) + row_height * longest)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    for number, axes in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
        _draw_column(axes, found[number * longest : (number + 1) * longest], longest, words=columns == 1)
    if columns > 1:
        shown = [word for word in COLORS if any(row.word == word for row in found)]
        figure.legend(
            handles=[Line2D([], [], color=COLORS[word], marker="o", markersize=5, linewidth=2) for word in shown],
            labels=shown, loc="outside upper center", ncols=math.ceil(len(shown) / 2), fontsize=9, frameon=False,
        )  # fmt: skip
    label = "difference, in multiples of the smallest effect that matters"
    if columns > 1:
        figure.supxlabel(label, fontsize=10)
    else:
        figure.axes[0].set_xlabel(label)
    return figure


def _draw_column(axes: Any, found: Sequence[Row], places: int, *, words: bool) -> None:
    axes.axvspan(-1, 1, color="gray", alpha=0.15, linewidth=0)
    axes.axvline(0, color="gray", linewidth=0.8)
    for place, row in enumerate(found):
        color = COLORS[row.word]
        low, high, mean = (min(max(value, -EDGE), EDGE) for value in (row.low, row.high, row.mean))
        axes.plot([low, high], [place, place], color=color, linewidth=2)
        if abs(row.mean) <= EDGE:
            axes.plot([mean], [place], marker="o", color=color, markersize=5)
        else:
            side = 1 if row.mean > 0 else -1
            axes.plot([side * EDGE], [place], marker=">" if side > 0 else "<", color=color, markersize=7)
            axes.annotate(
                f"{row.mean:+.0f}", (side * EDGE, place), (-10 * side, 4), textcoords="offset points",
                ha="right" if side > 0 else "left", va="center", fontsize=7,
            )  # fmt: skip
        if words:
            where = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": 8}
            axes.annotate(row.word, (1.01, place), color=color, **where)
    axes.set_yticks(range(len(found)), [row.label for row in found], fontsize=8)
    axes.set_ylim(places - 0.4, -0.6)
    axes.set_xlim(-EDGE - 0.5, EDGE + 0.5)
    axes.grid(axis="x", alpha=0.3)


def write(
    found: Sequence[Row], path: Path, software: str, evidence: str, *, row_height: float = 0.28, columns: int = 1
) -> None:
    """Draw the rows into a PNG that names what it was drawn from; nothing where there is none."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if found:
        drawn = draw(found, row_height, columns)
        FigureCanvasAgg(drawn).print_png(path, metadata={"Software": software, "Evidence": evidence})
