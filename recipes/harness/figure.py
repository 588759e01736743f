"""What a card's figure is made of: panels that a recipe chooses, drawn from its evidence."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import special

from recipes.harness import evidence

COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#F0E442")  # Okabe and Ito 2008
STYLES = ("-", "--", ":")


@dataclass(frozen=True)
class Picture:
    """What a panel draws from: records, the names of all variants, in order, and how metrics and curves are shown."""

    records: Sequence[evidence.Record]
    names: tuple[str, ...]
    units: Any  # From a name to its `Unit`.
    tuning: Mapping[str, Any] | None = None
    swept: str = ""

    def style(self, variant: str) -> dict[str, Any]:
        """A variant's color and line style, the same in each panel."""
        number = self.names.index(variant)
        return {"color": COLORS[number % len(COLORS)], "linestyle": STYLES[number // len(COLORS) % len(STYLES)]}

    def label(self, name: str) -> str:
        unit = self.units(name)
        shown = {"points": "%"}.get(unit.name, "" if unit.name in unit.words else unit.name)
        return f"{unit.words} ({shown})" if shown else unit.words

    def curves(self, variant: str, name: str) -> np.ndarray:
        """A curve of the variant's finished runs, as shown: float (runs, points); (0, 0) where there is none."""
        found = [
            record["curves"].get(name) or []
            for record in evidence.finished(self.records)
            if record["variant"] == variant and record["status"] == "finished"
        ]
        if not found or not found[0]:
            return np.empty((0, 0))
        return np.array(found, dtype=float) * self.units(name).scale

    def values(self, variant: str, metric: str) -> list[float]:
        by_seed = evidence.values_of(self.records, metric).get(variant, {})
        return [value * self.units(metric).scale for value in by_seed.values()]


@dataclass(frozen=True)
class Lines:
    """A line for each variant: the curve `y`'s mean over seeds, against the curve `x` or 1, 2, 3, …

    The band about it is the range over seeds, or the mean's 95 % interval.
    """

    y: str
    x: str = ""
    variants: tuple[str, ...] = ()
    x_label: str = "epoch"
    title: str = ""
    log: str = ""  # Which axes: "x", "y" or "xy".
    band: Literal["range", "interval"] = "range"

    def draw(self, axes: Any, picture: Picture) -> None:
        most = 0
        for variant in self.variants or picture.names:
            y = picture.curves(variant, self.y)
            if not y.size:
                continue
            x = picture.curves(variant, self.x).mean(axis=0) if self.x else np.arange(1, y.shape[1] + 1)
            style = picture.style(variant)
            axes.plot(x, y.mean(axis=0), marker="o", markersize=3, label=variant, **style)
            low, high = y.min(axis=0), y.max(axis=0)
            if self.band == "interval" and len(y) > 1:
                half = special.stdtrit(len(y) - 1, 0.975) * y.std(axis=0, ddof=1) / np.sqrt(len(y))
                low, high = y.mean(axis=0) - half, y.mean(axis=0) + half
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
            most = max(most, len(y))
        _scale(axes, self.log)
        if not self.x and "x" not in self.log:
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_xlabel(picture.label(self.x) if self.x else self.x_label)
        axes.set_ylabel(picture.label(self.y))
        band = {"range": "range", "interval": "95 % interval"}[self.band]
        axes.set_title(self.title or f"Mean and {band} over {most} seeds", fontsize=10)
        if axes.lines:
            axes.legend(fontsize=8)


@dataclass(frozen=True)
class Points:
    """A point for each variant: two metrics' means, with bars for their standard deviations."""

    x: str
    y: str
    title: str = ""
    log: str = ""

    def draw(self, axes: Any, picture: Picture) -> None:
        for variant in picture.names:
            x, y = picture.values(variant, self.x), picture.values(variant, self.y)
            if x and y:
                bars = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in (x, y)]
                where = statistics.mean(x), statistics.mean(y)
                color = picture.style(variant)["color"]
                axes.errorbar(*where, xerr=bars[0], yerr=bars[1], marker="o", color=color, label=variant, linestyle="")
        _scale(axes, self.log)
        axes.set_xlabel(picture.label(self.x))
        axes.set_ylabel(picture.label(self.y))
        axes.set_title(self.title or "Mean and standard deviation", fontsize=10)
        if axes.containers:
            axes.legend(fontsize=8)


@dataclass(frozen=True)
class Bars:
    """A bar for each variant: a metric's mean and standard deviation."""

    metric: str
    title: str = ""
    log: str = ""

    def draw(self, axes: Any, picture: Picture) -> None:
        names = [name for name in picture.names if picture.values(name, self.metric)]
        values = [picture.values(name, self.metric) for name in names]
        means = [statistics.mean(v) for v in values]
        spread = [statistics.stdev(v) if len(v) > 1 else 0.0 for v in values]
        colors = [picture.style(name)["color"] for name in names]
        axes.barh(range(len(names)), means, xerr=spread, ecolor="gray", color=colors)
        axes.set_yticks(range(len(names)), names, fontsize=8)
        axes.invert_yaxis()
        _scale(axes, self.log)
        axes.set_xlabel(picture.label(self.metric))
        axes.set_title(self.title or "Mean and standard deviation", fontsize=10)


@dataclass(frozen=True)
class Sweep:
    """The sensitivity curve of a tuning sweep: final accuracy against the swept field."""

    def draw(self, axes: Any, picture: Picture) -> None:
        assert picture.tuning is not None
        for variant in picture.tuning["variants"]:
            by_value: dict[float, list[float]] = {}
            for record in evidence.finished(picture.tuning["curve"]):
                if record["variant"] == variant:
                    value = record["config"][picture.swept]
                    by_value.setdefault(value, []).append(100 * record["metrics"]["test_accuracy"])
            x = sorted(by_value)
            if x:
                style = picture.style(variant)
                axes.plot(x, [statistics.mean(by_value[v]) for v in x], marker="o", markersize=3, **style)
                low, high = ([pick(by_value[v]) for v in x] for pick in (min, max))
                axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlabel({"rate": "learning rate"}.get(picture.swept, picture.swept))
        axes.set_ylabel("test accuracy (%)")
        axes.set_title("Sensitivity: mean and range over 3 seeds", fontsize=10)


Panel = Lines | Points | Bars | Sweep


def draw(panels: Sequence[Panel], picture: Picture) -> Any:
    """A matplotlib figure of `panels` side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(panels), 4), dpi=110, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        panel.draw(axes, picture)
        axes.grid(alpha=0.3)
    return figure


def _scale(axes: Any, log: str) -> None:
    from matplotlib.ticker import LogFormatter, LogLocator, NullFormatter

    for name in log:
        getattr(axes, f"set_{name}scale")("log")
        axis = getattr(axes, f"{name}axis")
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(LogFormatter(labelOnlyBase=False, minor_thresholds=(9, 9)))
        axis.set_minor_formatter(NullFormatter())
