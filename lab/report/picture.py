"""README's picture: some sentences of advice, each with its effect, its interval and its verdict in words."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.evidence.schemas import ClaimSummary, Effect
from lab.report.figure import write_png
from lab.report.front_page import STRONG, Summaries, fingerprint, size
from lab.report.pages import effect_text

MOST = 10
NOT_SO = 3  # So many of them did not hold, where there are as many: the picture is no list of successes.
ON_STRONG = 8  # Rows for what was measured on the strong baseline, where it was. Then the others have BESIDE.
BESIDE = 4
LONGEST = 110  # Characters of a sentence: two lines.
# What reaches farther would flatten all others: an arrow points there.
FARTHEST = {"strong": 5.0, "points": 15.0, "×": 5.0}
AXES = {
    "strong": "percentage points of test accuracy, in a strong training on all of CIFAR-10",
    "points": "percentage points of test accuracy",
    "×": "time or memory, as a ratio (logarithmic axis)",
}
COLORS = {"supported": "#00795c", "contradicted": "#c2410c", "no real difference": "#6b7280"}

Row = tuple[ClaimSummary, Effect]


def chosen(found: Summaries) -> list[Row]:
    """The claims that are shown: decided ones about accuracy, time or memory.

    Current ones come first, then those that a recipe's answer rests on, then the largest effects. No recipe has a
    second one before every recipe had one. The last rows are kept for what did not hold, at most one of a recipe.
    What the strong baseline shows is not shown twice.
    """
    rated, refuted, strong = [], [], bool(strong_rows(found))
    most, not_so = (BESIDE, 1) if strong else (MOST, NOT_SO)
    for name, summary in found.items():
        mine = [
            (claim.strongest.stale, claim.id not in summary.resting, -size(claim, effect), claim, effect)
            for claim in summary.claims
            if not (strong and (name == STRONG or len(claim.findings) > 1))
            if (effect := _least(claim)) is not None
        ]
        mine.sort(key=lambda row: row[:3])
        rated += [(row[0], place, *row[1:]) for place, row in enumerate(mine)]
        refuted += sorted(
            (
                (one.strongest.verdict != "contradicted", large, one, effect)
                for stale, _, large, one, effect in mine
                if not stale and one.strongest.verdict != "supported"
            ),
            key=lambda row: row[:2],
        )[:1]
    rated.sort(key=lambda row: row[:4])
    refuted.sort(key=lambda row: row[:2])
    kept = [(claim, effect) for *_, claim, effect in refuted[:not_so]]
    others = [(claim, effect) for *_, claim, effect in rated if (claim, effect) not in kept]
    return others[: most - len(kept)] + kept


def strong_rows(found: Summaries) -> list[Row]:
    """The strong baseline's decided claims, those with the largest effects, some that did not hold among them.

    There are none while its numbers are of earlier code.
    """
    claims = found[STRONG].claims if STRONG in found else []
    rows = [(claim, effect) for claim in claims if (effect := _least(claim)) and not claim.strongest.stale]
    rows.sort(key=lambda row: -size(*row))
    refuted = [row for row in rows if row[0].strongest.verdict != "supported"][:NOT_SO]
    return [row for row in rows if row[0].strongest.verdict == "supported"][: ON_STRONG - len(refuted)] + refuted


def _least(claim: ClaimSummary) -> Effect | None:
    """The smallest effect that has the claim's verdict, if the picture can show it."""
    cost = claim.unit == "×" and any(word in claim.measure for word in ("time", "memory"))
    shown = cost or (claim.unit == "points" and claim.measure == "test accuracy")
    if not shown or claim.check or "control" in claim.source or len(claim.text) > LONGEST:
        return None
    mine = [one for one in claim.strongest.effects if one.verdict == claim.strongest.verdict in COLORS]
    return min(mine, key=lambda one: size(claim, one), default=None)


def _far(part: str, effect: Effect) -> float:
    """How far out an interval reaches, as a share of the farthest that is drawn."""
    ends = [math.inf if end is None else end for end in (effect.low, effect.high)]
    if part == "×":
        return max(abs(math.log(max(end, 1e-9)) / math.log(FARTHEST[part])) for end in ends)
    return max(abs(end) / FARTHEST[part] for end in ends)


def _clipped(part: str, end: float | None) -> float:
    """An end of an interval, or where it lies farther out than is drawn, the edge."""
    edge = FARTHEST[part]
    low, high = (1 / edge, edge) if part == "×" else (-edge, edge)
    return high if end is None else min(max(end, low), high)


def figure_of(rows: Sequence[Row], strong: Sequence[Row] = ()) -> Any:
    """A matplotlib figure: first accuracy on the strong baseline, then elsewhere, then time and memory."""
    from matplotlib.figure import Figure

    parts = {part: [row for row in rows if row[0].unit == part] for part in FARTHEST} | {"strong": list(strong)}
    parts = {part: mine for part, mine in parts.items() if mine}
    heights = [len(mine) + 1.0 for mine in parts.values()] or [2.0]
    stale = any(claim.strongest.stale for claim, _ in rows)
    tall = 0.42 * sum(heights) + (0.4 if stale else 0.1)
    figure = Figure(figsize=(8.3, tall), dpi=200)
    grid = {
        "height_ratios": heights,
        "left": 0.475,
        "right": 0.7,
        "top": 0.99,
        "bottom": (0.75 if stale else 0.45) / tall,
        "hspace": 0.3,
    }
    all_axes = figure.subplots(max(1, len(parts)), 1, squeeze=False, gridspec_kw=grid)[:, 0]
    for axes, (part, mine) in zip(all_axes, parts.items(), strict=False):
        _draw_part(axes, part, sorted(mine, key=lambda row: -(row[1].mean or 0)))
    if not parts:
        all_axes[0].set_axis_off()
        all_axes[0].text(0.5, 0.5, "No claim is decided yet.", ha="center")
    if stale:
        figure.text(0.01, 0.008, "○ measured with an earlier version of the recipe", fontsize=7.5, color="#555555")
    return figure


def _draw_part(axes: Any, part: str, rows: Sequence[Row]) -> None:
    from matplotlib.transforms import blended_transform_factory

    beside = blended_transform_factory(axes.figure.transFigure, axes.transData)
    for place, (claim, effect) in enumerate(rows):
        verdict, stale = claim.strongest.verdict, claim.strongest.stale
        color = COLORS[verdict]
        ends = [_clipped(part, end) for end in (effect.low, effect.high, effect.mean)]
        axes.plot(ends[:2], [place, place], color=color, linewidth=2, solid_capstyle="butt")
        mark = "o" if ends[2] == effect.mean else ">" if (effect.mean or 0) > ends[2] else "<"
        axes.plot(ends[2], place, mark, color=color, markerfacecolor="white" if stale else color, markersize=6)
        sentence = "\n".join(textwrap.wrap(claim.text, 56))
        axes.text(0.01, place, sentence, transform=beside, fontsize=8, va="center", linespacing=1.1)
        word = f"{verdict} ({claim.strongest.note})" if claim.strongest.note else verdict
        said = f"{effect_text(claim, effect)}\n{f'{claim.measure}: ' if part == '×' else ''}{word}"
        axes.text(0.72, place, said, transform=beside, fontsize=8, va="center", color=color, linespacing=1.1)
    axes.axvline(1 if part == "×" else 0, color="#9ca3af", linewidth=1, zorder=0)
    if part == "×":
        axes.set_xscale("log")
        axes.set_xticks([0.25, 0.5, 1, 2, 4])
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:g}×")
    widest = 1.1 * min(1, max([0.1, *(_far(part, effect) for _, effect in rows)]))
    edge = FARTHEST[part] ** widest if part == "×" else FARTHEST[part] * widest
    low, high = 1 / edge if part == "×" else -edge, edge
    axes.set(xlim=(low, high), ylim=(len(rows) - 0.5, -0.5), yticks=[])
    axes.set_xlabel(AXES[part], fontsize=8)
    axes.tick_params(axis="x", labelsize=7.5)
    axes.spines[["top", "left", "right"]].set_visible(False)


def write(found: Summaries, path: Path) -> None:
    """Draw it into a PNG that holds the hash of the summaries that it was drawn from."""
    write_png(figure_of(chosen(found), strong_rows(found)), path, fingerprint(found))
