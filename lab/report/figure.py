"""Draws a card's figure: the panels that an experiment chose, from its evidence."""

import io
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from scipy import special

from lab.evidence.records import finished, write_whole
from lab.panels import Bars, Lines, Panel, Points, Sweep

if TYPE_CHECKING:
    from lab.report.report import Report

# Okabe and Ito 2008, without the yellow that white swallows, then Tol's muted ones (personal.sron.nl/~pault).
COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#882255", "#999933", "#332288",
    "#44AA99", "#888888",
)  # fmt: skip
STYLES = ("-", "--", ":")


def style(report: "Report", variant: str) -> dict[str, Any]:
    """A variant's color and line style, the same in each panel."""
    number = report.experiment.names.index(variant)
    return {"color": COLORS[number % len(COLORS)], "linestyle": STYLES[number // len(COLORS) % len(STYLES)]}


def curves(report: "Report", variant: str, name: str) -> np.ndarray:
    """A curve of the variant's finished runs, in its unit: float (runs, points), NaN past a run's own end."""
    mine = [r for r in report.records if r.variant == variant and r.status == "finished"]
    return padded([r.curves[name] for r in mine if r.curves.get(name)]) * report.experiment.unit(name).scale


def spreads(report: "Report", metric: str) -> tuple[dict[str, tuple[float, float]], str]:
    """Variant -> a metric's mean and standard deviation over seeds, and how to say so in a title."""
    scale = report.experiment.unit(metric).scale
    levels = {name: [scale * v for v in by_seed.values()] for name, by_seed in report.levels(metric).items()}
    found = {
        name: (statistics.mean(levels[name]), statistics.stdev(levels[name]) if len(levels[name]) > 1 else 0.0)
        for name in report.experiment.names
        if levels.get(name)
    }
    return found, f"Mean and standard deviation over {from_to([len(levels[name]) for name in found])} seeds"


def padded(rows: Sequence[Sequence[float | None]]) -> np.ndarray:
    """Rows of unequal length as float (rows, longest), NaN where a row has nothing."""
    longest = max(map(len, rows), default=0)
    return np.array([[*row, *[None] * (longest - len(row))] for row in rows], dtype=float).reshape(len(rows), longest)


def from_to(counts: Sequence[int]) -> str:
    """ "10", or where they are not all the same "10 to 40"."""
    return " to ".join(str(count) for count in sorted({min(counts, default=0), max(counts, default=0)}))


def band_of(y: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper edge, (points,) each, of curves (runs, points): their range or the mean's 95 % interval."""
    if kind == "range" or len(y) < 2:
        return np.nanmin(y, axis=0), np.nanmax(y, axis=0)
    freedom = np.maximum(1, (~np.isnan(y)).sum(axis=0) - 1)
    half = special.stdtrit(freedom, 0.975) * np.nanstd(y, axis=0) / np.sqrt(freedom)
    return np.nanmean(y, axis=0) - half, np.nanmean(y, axis=0) + half


def _draw_curve(axes: Any, x: Any, y: np.ndarray, band: str, variant: str, style: Mapping[str, Any]) -> None:
    """The mean over runs of `y`, (runs, points), within its band."""
    axes.plot(x, np.nanmean(y, axis=0), marker="o", markersize=3, label=variant, **style)
    axes.fill_between(x, *band_of(y, band), color=style["color"], alpha=0.15, linewidth=0)


def draw_lines(panel: Lines, axes: Any, report: "Report") -> None:
    runs = []
    for variant in panel.variants or report.experiment.names:
        y = curves(report, variant, panel.y)
        if y.size:
            x = np.nanmean(curves(report, variant, panel.x), axis=0) if panel.x else np.arange(1, y.shape[1] + 1)
            _draw_curve(axes, x, y, panel.band, variant, style(report, variant))
            runs.append(len(y))
    _scale(axes, panel.log)
    if not panel.x and "x" not in panel.log:
        axes.xaxis.get_major_locator().set_params(integer=True)
    band = {"range": "range", "interval": "95 % interval"}[panel.band]
    title = panel.title or f"Mean and {band} over {from_to(runs)} seeds"
    axes.set(title=title, xlabel=report.heading(panel.x) if panel.x else panel.x_label, ylabel=report.heading(panel.y))
    if axes.lines:  # Named in the order in which the lines end from top to bottom.
        handles = sorted(axes.lines, key=lambda line: -np.asarray(line.get_ydata(), float)[-1])
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def draw_sweep(panel: Sweep, axes: Any, report: "Report") -> None:
    assert report.tuning
    assert report.experiment.tuning
    swept, curve = report.experiment.tuning.swept, report.tuning.curve
    seeds = {name: len({trial.seed for trial in curve if trial.variant == name}) for name in report.tuning.variants}
    for variant in (name for name in seeds if seeds[name]):
        by_value: dict[float, list[float]] = {}
        for trial in finished(curve):
            if trial.variant == variant:
                by_value.setdefault(trial.config[swept], []).append(100 * trial.metrics["test_accuracy"])
        if x := sorted(by_value):
            _draw_curve(axes, x, padded([by_value[value] for value in x]).T, "range", variant, style(report, variant))
    axes.set_xscale("log")
    title = f"Sensitivity: mean and range over {from_to([number for number in seeds.values() if number])} seeds"
    axes.set(title=title, xlabel={"rate": "learning rate"}.get(swept, swept), ylabel="test accuracy (%)")


def draw_points(panel: Points, axes: Any, report: "Report") -> None:
    (x, _), (y, over) = spreads(report, panel.x), spreads(report, panel.y)
    for name in (name for name in x if name in y):
        color = style(report, name)["color"]
        axes.errorbar(x[name][0], y[name][0], xerr=x[name][1], yerr=y[name][1], fmt="o", color=color, label=name)
    _scale(axes, panel.log)
    axes.set(title=panel.title or over, xlabel=report.heading(panel.x), ylabel=report.heading(panel.y))
    if axes.containers:
        axes.legend(fontsize=8)


def draw_bars(panel: Bars, axes: Any, report: "Report") -> None:
    found, over = spreads(report, panel.metric)
    means, deviations = ([pair[place] for pair in found.values()] for place in (0, 1))
    colors = [style(report, name)["color"] for name in found]
    axes.barh(list(found), means, xerr=deviations, ecolor="gray", color=colors)
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    if found:
        _scale(axes, panel.log)
    else:  # An empty axis can't be logarithmic.
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    axes.set(title=panel.title or over, xlabel=report.heading(panel.metric))


DRAWING: dict[type, Any] = {Lines: draw_lines, Points: draw_points, Bars: draw_bars, Sweep: draw_sweep}


def draw(panels: Sequence[Panel], report: "Report") -> Any:
    """A matplotlib figure of `panels` side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(panels), 4), dpi=110, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        DRAWING[type(panel)](panel, axes, report)
        axes.title.set_fontsize(10)
        axes.grid(alpha=0.3)
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
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
