"""Draws a card's figure: the panels that an experiment chose, from its evidence."""

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import special

from lab.evidence.records import finished, levels_of, write_whole
from lab.evidence.schemas import Record, TuningSweep
from lab.panels import Bars, Lines, Panel, Points, Sweep

# Okabe and Ito 2008, without the yellow that white swallows, then Tol's muted ones (personal.sron.nl/~pault).
COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#882255", "#999933", "#332288",
    "#44AA99", "#888888",
)  # fmt: skip
STYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Picture:
    """What a panel draws from: records, the names of all variants, in order, and how metrics and curves are shown."""

    records: Sequence[Record]
    names: tuple[str, ...]
    units: Any  # From a name to its `Unit`.
    tuning: TuningSweep | None = None
    swept: str = ""

    def style(self, variant: str) -> dict[str, Any]:
        """A variant's color and line style, the same in each panel."""
        number = self.names.index(variant)
        return {"color": COLORS[number % len(COLORS)], "linestyle": STYLES[number // len(COLORS) % len(STYLES)]}

    def label(self, name: str) -> str:
        """A metric or curve with its unit, as an axis is labelled."""
        unit = self.units(name)
        shown = {"points": "%"}.get(unit.name, "" if unit.name in unit.words else unit.name)
        return f"{unit.words} ({shown})" if shown else unit.words

    def curves(self, variant: str, name: str) -> np.ndarray:
        """A curve of the variant's finished runs, in its unit: float (runs, points), NaN past a run's own end."""
        mine = [r for r in self.records if r.variant == variant and r.status == "finished"]
        return padded([r.curves[name] for r in mine if r.curves.get(name)]) * self.units(name).scale

    def values(self, variant: str, metric: str) -> list[float]:
        """What a variant's runs have of a metric, in its unit."""
        unit = self.units(metric)
        by_seed = levels_of(self.records, metric, unit.timed).get(variant, {})
        return [value * unit.scale for value in by_seed.values()]

    def spreads(self, names: Sequence[str], metric: str) -> tuple[list[str], list[float], list[float]]:
        """The variants that have a metric, with its mean and standard deviation over seeds."""
        values = {name: found for name in names if (found := self.values(name, metric))}
        deviations = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values.values()]
        return list(values), [statistics.mean(v) for v in values.values()], deviations

    def over(self, metric: str) -> str:
        """The title of a panel that shows means and standard deviations."""
        counts = [len(values) for name in self.names if (values := self.values(name, metric))]
        return f"Mean and standard deviation over {from_to(counts)} seeds"


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


def draw_lines(panel: Lines, axes: Any, picture: Picture) -> None:
    runs = []
    for variant in panel.variants or picture.names:
        y = picture.curves(variant, panel.y)
        if y.size:
            x = np.nanmean(picture.curves(variant, panel.x), axis=0) if panel.x else np.arange(1, y.shape[1] + 1)
            _draw_curve(axes, x, y, panel.band, variant, picture.style(variant))
            runs.append(len(y))
    _scale(axes, panel.log)
    if not panel.x and "x" not in panel.log:
        axes.xaxis.get_major_locator().set_params(integer=True)
    band = {"range": "range", "interval": "95 % interval"}[panel.band]
    axes.set(
        title=panel.title or f"Mean and {band} over {from_to(runs)} seeds",
        xlabel=picture.label(panel.x) if panel.x else panel.x_label,
        ylabel=picture.label(panel.y),
    )
    if axes.lines:  # Named in the order in which the lines end from top to bottom.
        handles = sorted(axes.lines, key=lambda line: -np.asarray(line.get_ydata(), float)[-1])
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def draw_sweep(panel: Sweep, axes: Any, picture: Picture) -> None:
    assert picture.tuning is not None
    seeds: dict[str, set[int]] = {}
    for record in picture.tuning.curve:
        seeds.setdefault(record.variant, set()).add(record.seed)
    for variant in (name for name in picture.tuning.variants if name in seeds):
        by_value: dict[float, list[float]] = {}
        for record in finished(picture.tuning.curve):
            if record.variant == variant:
                by_value.setdefault(record.config[picture.swept], []).append(100 * record.metrics["test_accuracy"])
        if x := sorted(by_value):
            y = padded([by_value[value] for value in x]).T
            _draw_curve(axes, x, y, "range", variant, picture.style(variant))
    axes.set_xscale("log")
    over = from_to([len(of_one) for of_one in seeds.values()])
    label = {"rate": "learning rate"}.get(picture.swept, picture.swept)
    axes.set(title=f"Sensitivity: mean and range over {over} seeds", xlabel=label, ylabel="test accuracy (%)")


def draw_points(panel: Points, axes: Any, picture: Picture) -> None:
    for variant in picture.names:
        (_, x, dx), (_, y, dy) = (picture.spreads([variant], metric) for metric in (panel.x, panel.y))
        if x and y:
            axes.errorbar(x, y, xerr=dx, yerr=dy, fmt="o", color=picture.style(variant)["color"], label=variant)
    _scale(axes, panel.log)
    title = panel.title or picture.over(panel.y)
    axes.set(title=title, xlabel=picture.label(panel.x), ylabel=picture.label(panel.y))
    if axes.containers:
        axes.legend(fontsize=8)


def draw_bars(panel: Bars, axes: Any, picture: Picture) -> None:
    names, means, deviations = picture.spreads(picture.names, panel.metric)
    colors = [picture.style(name)["color"] for name in names]
    axes.barh(names, means, xerr=deviations, ecolor="gray", color=colors)
    axes.tick_params(axis="y", labelsize=8)
    axes.invert_yaxis()
    if names:
        _scale(axes, panel.log)
    else:  # An empty axis can't be logarithmic.
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    axes.set(title=panel.title or picture.over(panel.metric), xlabel=picture.label(panel.metric))


DRAWING: dict[type, Any] = {Lines: draw_lines, Points: draw_points, Bars: draw_bars, Sweep: draw_sweep}


def draw(panels: Sequence[Panel], picture: Picture) -> Any:
    """A matplotlib figure of `panels` side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(panels), 4), dpi=110, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        DRAWING[type(panel)](panel, axes, picture)
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
