"""Draws a card's figure: the panels that an experiment chose, from its evidence."""

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import special

from lab.evidence.records import finished, write_whole
from lab.panels import Bars, Lines, Panel, Points, Sweep
from lab.report.pages import from_to, is_ratio

if TYPE_CHECKING:
    from lab.report.report import Report

# Okabe and Ito 2008, without the yellow that white swallows, then Tol's muted ones (personal.sron.nl/~pault).
COLORS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#999933", "#332288",
    "#44AA99",
)  # fmt: skip
OTHER = "#888888"
ALL = "#4b5563"  # Of more rows than there are colors.
MOST_LINES = 6
GAP = 0.07  # Between two names, as a share of the axes' height.
MOST_MARKED = 20  # Points of a curve that are marked.
WIDTH = 9.2  # Inches. At README's width, 830 pixels, text of 9 points is 9 pixels high.


def colors(report: "Report", panels: Sequence[Panel]) -> dict[str, str]:
    """Variant -> its color in each panel. Those that are drawn as lines or points come first; the last share a gray."""
    first = [name for panel in panels for name in _lines_of(panel, report)]
    names = dict.fromkeys([*first, *report.experiment.names])
    return {name: COLORS[place] if place < len(COLORS) else OTHER for place, name in enumerate(names)}


def _lines_of(panel: Panel, report: "Report") -> list[str]:
    """The variants that a panel of lines draws, from top to bottom; none for other panels."""
    if not isinstance(panel, Lines):
        return []
    ends = {name: _last(curves(report, name, panel.y)) for name in panel.variants or report.experiment.names}
    ranked = sorted((name for name in ends if not math.isnan(ends[name])), key=lambda name: -ends[name])
    return ranked[:MOST_LINES]


def _last(y: np.ndarray) -> float:
    return float(np.nanmean(y, axis=0)[-1]) if y.size else math.nan


def curves(report: "Report", variant: str, name: str) -> np.ndarray:
    """A curve of the variant's finished runs, in its unit: float (runs, points), NaN past a run's own end.

    Runs are those of the seeds that all variants have.
    """
    mine = [r for r in report.records if r.variant == variant and r.status == "finished" and r.seed in report.shared]
    return padded([r.curves[name] for r in mine if r.curves.get(name)]) * report.experiment.unit(name).scale


def values(report: "Report", metric: str, over: str = "") -> dict[str, np.ndarray]:
    """Variant -> a metric as pages show it, a number a seed.

    What is logarithmic is turned into ratios to the baseline, and all else, if `over` names a variant, into gains over
    that variant.
    """
    levels, scale = report.levels(metric), report.experiment.unit(metric).scale
    than = levels.get(report.baseline(metric) if is_ratio(metric) else over, {})
    found = {}
    for name in (name for name in report.experiment.names if name in levels):
        if is_ratio(metric) or over:
            pairs = np.array([levels[name][seed] - than[seed] for seed in levels[name] if seed in than])
        else:
            pairs = np.array(list(levels[name].values()))
        if len(pairs) and name != over:
            found[name] = np.exp(pairs) if is_ratio(metric) else pairs * scale
    return found


def padded(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Rows of unequal length as float (rows, longest), NaN where a row has nothing."""
    longest = max(map(len, rows), default=0)
    return np.array([[*row, *[None] * (longest - len(row))] for row in rows], dtype=float).reshape(len(rows), longest)


def band_of(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ends of the mean's 95 % interval, (points,) each, of curves (runs, points); of one run its own values."""
    if len(y) < 2:
        return y.mean(axis=0), y.mean(axis=0)
    freedom = np.maximum(1, (~np.isnan(y)).sum(axis=0) - 1)
    half = special.stdtrit(freedom, 0.975) * np.nanstd(y, axis=0) / np.sqrt(freedom)
    return np.nanmean(y, axis=0) - half, np.nanmean(y, axis=0) + half


def _draw_curve(axes: Any, x: Any, y: np.ndarray, variant: str, color: str, *, log: bool = False) -> None:
    """The mean over runs of `y`, (runs, points), within its interval; of its logarithm if the axis is logarithmic."""
    turned, back = (np.log, np.exp) if log and np.nanmin(y) > 0 else (np.asarray, np.asarray)
    marker = "o" if len(x) <= MOST_MARKED else ""
    axes.plot(x, back(np.nanmean(turned(y), axis=0)), marker=marker, markersize=3, label=variant, color=color)
    axes.fill_between(x, *map(back, band_of(turned(y))), color=color, alpha=0.15, linewidth=0)


def _label_ends(axes: Any) -> None:
    """Write each line's name beside its end, in the order of the ends, so that their strokes do not cross.

    Where all lines end at one height, as distributions do, each name stands above its line's peak.
    """
    axes.figure.draw_without_rendering()  # So that limits and scales are final.
    axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
    heights_of_ends = [float(np.asarray(line.get_ydata(), float)[-1]) for line in axes.lines]
    if len(heights_of_ends) > 1 and np.ptp(heights_of_ends) < 0.01 * np.ptp(axes.get_ylim()):
        peaks = {line: int(np.nanargmax(line.get_ydata())) for line in axes.lines}
        points = {str(line.get_label()): (line.get_xdata()[at], line.get_ydata()[at]) for line, at in peaks.items()}
        names = {str(line.get_label()): str(line.get_color()) for line in axes.lines}
        _label_points(axes, points, names, first=((-5, 3, "right"), (5, 3, "left")))
        return
    ends = []
    for line in axes.lines:
        end = [np.asarray(data, float)[-1] for data in (line.get_xdata(), line.get_ydata())]
        ends.append((*axes.transAxes.inverted().transform(axes.transData.transform(end)), line))
    ends.sort(key=lambda end: end[1])
    heights = [end[1] for end in ends]
    for number in range(1, len(ends)):
        heights[number] = max(heights[number], heights[number - 1] + GAP)
    for number in reversed(range(len(ends))):
        heights[number] = min(heights[number], [*heights, 0.97 + GAP][number + 1] - GAP)
    for (x, y, line), height in zip(ends, heights, strict=True):
        stroke = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.6, "relpos": (0, 0.5), "shrinkA": 0}
        look = {"color": line.get_color(), "fontsize": 9, "va": "center", "annotation_clip": False}
        axes.annotate(
            str(line.get_label()).replace("_", " "), (x, y), (1.03, height),
            xycoords="axes fraction", textcoords="axes fraction", arrowprops=stroke, **look,
        )  # fmt: skip


def draw_lines(panel: Lines, axes: Any, report: "Report", color: Mapping[str, str]) -> None:
    runs, names = [], _lines_of(panel, report)
    for variant in names:
        y = curves(report, variant, panel.y)
        x = (
            np.nanmean(curves(report, variant, panel.x), axis=0)
            if panel.x
            else np.arange(1, y.shape[1] + 1) * panel.every
        )
        _draw_curve(axes, x, y, variant, color[variant], log="y" in panel.log)
        runs.append(len(y))
    _scale(axes, panel.log)
    if not panel.x and "x" not in panel.log:
        axes.xaxis.get_major_locator().set_params(integer=True)
    of = sum(bool(curves(report, name, panel.y).size) for name in panel.variants or report.experiment.names)
    best = f"The {MOST_LINES} highest of {of}: mean" if of > len(names) else "Mean"
    title = panel.title or f"{best} and 95 % interval, {from_to(runs)} seeds"
    axes.set(title=title, xlabel=report.heading(panel.x) if panel.x else panel.x_label, ylabel=report.heading(panel.y))
    _label_ends(axes)


def draw_sweep(panel: Sweep, axes: Any, report: "Report", color: Mapping[str, str]) -> None:
    assert report.tuning
    assert report.experiment.tuning
    swept, trials = report.experiment.tuning.swept, finished(report.tuning.curve)
    seeds = []
    for variant in report.tuning.variants:
        mine = [trial for trial in trials if trial.variant == variant and swept in trial.config]
        by_value: dict[float, list[float]] = {}
        for trial in mine:
            by_value.setdefault(trial.config[swept], []).append(100 * trial.metrics["test_accuracy"])
        if x := sorted(by_value):
            y = padded([by_value[value] for value in x]).T
            _draw_curve(axes, x, y, variant, color.get(variant, OTHER))
            seeds.append(len({trial.seed for trial in mine}))
    _scale(axes, "x")
    title = f"Sensitivity: mean and 95 % interval, {from_to(seeds)} seeds"
    axes.set(title=title, xlabel={"rate": "learning rate"}.get(swept, swept), ylabel="test accuracy (%)")
    _label_ends(axes)


def draw_points(panel: Points, axes: Any, report: "Report", color: Mapping[str, str]) -> None:
    x, y = values(report, panel.x), values(report, panel.y)
    names = [name for name in x if name in y and name in (panel.variants or x)]
    for name in names:
        (x_mean, x_half), (y_mean, y_half) = _spread(x[name]), _spread(y[name])
        axes.errorbar(x_mean, y_mean, xerr=x_half, yerr=y_half, fmt="o", markersize=5, color=color[name])
    _scale(axes, panel.log)
    axes.margins(x=0.2)
    _label_points(axes, {name: (x[name].mean(), y[name].mean()) for name in names}, color)
    title = panel.title or f"Mean and 95 % interval, {from_to([len(y[name]) for name in names])} seeds"
    axes.set(title=title, xlabel=report.heading(panel.x), ylabel=report.heading(panel.y))


BESIDE = ((6, 5, "left"), (6, -12, "left"), (-6, 5, "right"), (-6, -12, "right"), (6, 16, "left"))


def _label_points(
    axes: Any, points: Mapping[str, tuple[float, float]], color: Mapping[str, str], first: tuple[Any, ...] = ()
) -> None:
    """Write each point's name beside it, away from points and other names.

    `first` are places that are tried before the usual ones: points to the right, points up, and the alignment.
    """
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()
    centers = [axes.transData.transform(point) for point in points.values()]
    taken = [Bbox.from_extents(x - 5, y - 5, x + 5, y + 5) for x, y in centers]
    for name, point in points.items():
        text = axes.annotate(name.replace("_", " "), point, (0, 0), textcoords="offset points")
        text.set(fontsize=8, color=color[name])
        for x, y, align in (*first, *BESIDE):
            text.set(position=(x, y), ha=align)
            if not any(text.get_window_extent().overlaps(other) for other in taken):
                break
        taken.append(text.get_window_extent())


def draw_bars(panel: Bars, axes: Any, report: "Report", color: Mapping[str, str]) -> None:
    found = values(report, panel.metric, panel.over)
    found = {name: mine for name, mine in found.items() if name in (panel.variants or found)}
    if panel.over:  # The largest gain on top.
        found = dict(sorted(found.items(), key=lambda item: -item[1].mean()))
    one_color = len(found) > len(COLORS)  # Else some would have a color of their own and others not.
    for place, (name, mine) in enumerate(found.items()):
        mean, half = _spread(mine)
        its = ALL if one_color else color[name]
        axes.errorbar(mean, place, xerr=half, fmt="o", markersize=6, elinewidth=2.5, color=its)
    axes.set_yticks(range(len(found)), [name.replace("_", " ") for name in found], fontsize=9)
    if found:  # An empty axis can't be logarithmic.
        axes.set_ylim(len(found) - 0.5, -0.5)
        _scale(axes, panel.log)
    if panel.over:
        axes.axvline(0, color="gray", linewidth=1)
    title = panel.title or f"Mean and 95 % interval, {from_to([len(mine) for mine in found.values()])} seeds"
    unit = report.experiment.unit(panel.metric)
    gain = f"{unit.words}, gain over {panel.over.replace('_', ' ')} ({unit.name})"
    axes.set(title=title, xlabel=gain if panel.over else report.heading(panel.metric))


def _spread(mine: np.ndarray) -> tuple[float, float]:
    """The mean, and half of its 95 % interval."""
    low, high = band_of(mine[:, None])
    return float(mine.mean()), float((high - low)[0] / 2)


DRAWING: dict[type, Any] = {Lines: draw_lines, Points: draw_points, Bars: draw_bars, Sweep: draw_sweep}


def draw(panels: Sequence[Panel], report: "Report") -> Any:
    """A matplotlib figure of those of `panels` that have something to show, two in a row; of all if none has."""
    from matplotlib.figure import Figure

    def shows(panel: Panel) -> bool:
        axes = Figure().subplots()
        DRAWING[type(panel)](panel, axes, report, colors(report, panels))
        return bool(axes.has_data())

    panels = [panel for panel in panels if shows(panel)] or panels
    columns, color = min(2, len(panels)), colors(report, panels)
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH if columns > 1 else 0.7 * WIDTH, 3.6 * rows), dpi=180, layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(places, panels, strict=False):
        DRAWING[type(panel)](panel, axes, report, color)
        if not axes.has_data():
            axes.set_title("not measured")
        axes.title.set_fontsize(9.5)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    return figure


def write_png(figure: Any, path: Path, evidence: str) -> None:
    """Draw a figure into a PNG that holds the hash of the evidence that it was drawn from."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Evidence": evidence})
    write_whole(path, content.getvalue())


def drawn_from(path: Path) -> str:
    """The hash of the evidence that a PNG was drawn from; empty where there is none."""
    if not path.exists():
        return ""
    with Image.open(path) as picture:
        return str(picture.info.get("Evidence", ""))


def _scale(axes: Any, log: str) -> None:
    """Make the axes in `log`, "x", "y" or "xy", logarithmic, with plain numbers beside their ticks."""
    from matplotlib.ticker import LogLocator

    for name in log:
        getattr(axes, f"set_{name}scale")("log")
        axis = getattr(axes, f"{name}axis")
        low, high = axis.get_view_interval()
        subs = (1, 2, 5) if high < 50 * low else (1, 3) if high < 1000 * low else (1,)
        axis.set_major_locator(LogLocator(base=100 if high > 1e5 * low else 10, subs=subs))
        axis.set_major_formatter(lambda value, _: _short(value))
        axis.set_minor_formatter("")


def _short(value: float) -> str:
    """A number on an axis: "0.01", "5,000", "20k", "1M"."""
    if value >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if value >= 1e4 else f"{value:,g}"
