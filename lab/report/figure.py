"""Draws a card's figure: the panels that a recipe chose, from its evidence."""

import functools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from lab.evidence.records import Record, finished, levels_of
from lab.panels import Against, Bars, Graph, Lines, Panel, Points, Sweep

# Okabe and Ito 2008, without the yellow that white swallows, then Tol's muted ones (personal.sron.nl/~pault).
COLORS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#882255", "#999933", "#332288",
    "#44AA99", "#888888",
)  # fmt: skip
STYLES = ("-", "--", ":")
LEAST_GAP = 0.06  # Between the names beside lines, in heights of the panel.


@dataclass(frozen=True)
class Picture:
    """What a panel draws from: records, the names of all variants, in order, and how metrics and curves are shown."""

    records: Sequence[Record]
    names: tuple[str, ...]
    units: Any  # From a name to its `Unit`.
    tuning: Any = None
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
        """A curve of the variant's finished runs, as shown: float (runs, points), NaN past a run's own end."""
        found = [
            record["curves"][name]
            for record in self.records
            if record["variant"] == variant and record["status"] == "finished" and record["curves"].get(name)
        ]
        longest = max(map(len, found), default=0)
        padded = [[*curve, *[None] * (longest - len(curve))] for curve in found]
        return np.array(padded, dtype=float).reshape(len(found), longest) * self.units(name).scale

    def values(self, variant: str, metric: str) -> list[float]:
        """What a variant's runs have of a metric, as shown."""
        unit = self.units(metric)
        by_seed = levels_of(self.records, metric, unit.timed).get(variant, {})
        return [value * unit.scale for value in by_seed.values()]


def draw_lines(panel: Lines, axes: Any, picture: Picture) -> None:
    runs = []
    for variant in panel.variants or picture.names:
        y = picture.curves(variant, panel.y)
        if not y.size:
            continue
        x = np.nanmean(picture.curves(variant, panel.x), axis=0) if panel.x else np.arange(1, y.shape[1] + 1)
        style = picture.style(variant)
        axes.plot(x, np.nanmean(y, axis=0), marker="o", markersize=3, label=variant, **style)
        axes.fill_between(x, *band_of(y, panel.band), color=style["color"], alpha=0.15, linewidth=0)
        runs.append(len(y))
    _scale(axes, panel.log)
    if not panel.x and "x" not in panel.log:
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(picture.label(panel.x) if panel.x else panel.x_label)
    axes.set_ylabel(picture.label(panel.y))
    band = {"range": "range", "interval": "95 % interval"}[panel.band]
    axes.set_title(panel.title or f"Mean and {band} over {from_to(runs)} seeds", fontsize=10)
    name_lines(axes)


def name_lines(axes: Any) -> None:
    """Write each line's name in its color beside its end, those that would lie upon one another moved apart."""
    ends = []
    for line in axes.lines:
        x, y = (np.asarray(values, float) for values in line.get_data())
        last = np.flatnonzero(np.isfinite(x) & np.isfinite(y))[-1:]
        if len(last):
            ends.append((float(x[last[0]]), float(y[last[0]]), line))
    axes.get_ylim()  # Settles the limits, which the places below depend on.
    places = axes.transAxes.inverted().transform(axes.transData.transform([(x, y) for x, y, _ in ends] or [(1, 1)]))
    order = sorted(range(len(ends)), key=lambda number: float(places[number, 1]))
    heights = apart([float(places[number, 1]) for number in order], LEAST_GAP)
    for number, height in zip(order, heights, strict=True):
        *end, line = ends[number]
        look = {"arrowstyle": "-", "color": line.get_color(), "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        axes.annotate(
            line.get_label(), end, (1.03, height), textcoords="axes fraction", va="center", fontsize=8,
            color=line.get_color(), arrowprops=look, annotation_clip=False,
        )  # fmt: skip


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Rising heights, moved as little as need be so that neighbours are `gap` apart, all from 0 to 1 if they fit."""
    # Groups of neighbours that touch share their mean, and take in whoever they then touch.
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _lowest(groups[-1], gap) - _highest(groups[-2], gap) < gap:
            last = groups.pop()
            groups[-1] += last
    moved = [_lowest(group, gap) + gap * number for group in groups for number in range(len(group))]
    moved = [max(height, gap * number) for number, height in enumerate(moved)]
    return [min(height, 1 - gap * (len(moved) - 1 - number)) for number, height in enumerate(moved)]


def _lowest(group: Sequence[float], gap: float) -> float:
    return statistics.mean(group) - gap * (len(group) - 1) / 2


def _highest(group: Sequence[float], gap: float) -> float:
    return statistics.mean(group) + gap * (len(group) - 1) / 2


def from_to(counts: Sequence[int]) -> str:
    """ "10", or where they are not all the same "10 to 40"."""
    return " to ".join(str(count) for count in sorted({min(counts, default=0), max(counts, default=0)}))


def band_of(y: np.ndarray, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The lower and upper edge, (points,) each, of curves (runs, points)."""
    if kind == "range" or len(y) < 2:
        return np.nanmin(y, axis=0), np.nanmax(y, axis=0)
    runs = np.maximum(2, (~np.isnan(y)).sum(axis=0))
    deviation = np.sqrt(np.nansum((y - np.nanmean(y, axis=0)) ** 2, axis=0) / (runs - 1))
    half = special.stdtrit(runs - 1, 0.975) * deviation / np.sqrt(runs)
    return np.nanmean(y, axis=0) - half, np.nanmean(y, axis=0) + half


def draw_points(panel: Points, axes: Any, picture: Picture) -> None:
    for variant in picture.names:
        x, y = picture.values(variant, panel.x), picture.values(variant, panel.y)
        if x and y:
            bars = [_spread(values) for values in (x, y)]
            where = statistics.mean(x), statistics.mean(y)
            color = picture.style(variant)["color"]
            axes.errorbar(*where, xerr=bars[0], yerr=bars[1], marker="o", color=color, label=variant, linestyle="")
    _scale(axes, panel.log)
    axes.set_xlabel(picture.label(panel.x))
    axes.set_ylabel(picture.label(panel.y))
    axes.set_title(panel.title or _mean_over(picture, panel.y, picture.names), fontsize=10)
    if axes.containers:
        axes.legend(fontsize=8)


def draw_bars(panel: Bars, axes: Any, picture: Picture) -> None:
    names = [name for name in picture.names if picture.values(name, panel.metric)]
    values = [picture.values(name, panel.metric) for name in names]
    colors = [picture.style(name)["color"] for name in names]
    means, spread = [statistics.mean(v) for v in values], [_spread(v) for v in values]
    axes.barh(range(len(names)), means, xerr=spread, ecolor="gray", color=colors)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    if names:  # Nothing has no logarithm.
        _scale(axes, panel.log)
    else:
        axes.text(0.5, 0.5, "not measured", ha="center", transform=axes.transAxes)
    axes.set_xlabel(picture.label(panel.metric))
    axes.set_title(panel.title or _mean_over(picture, panel.metric, names), fontsize=10)


def _mean_over(picture: Picture, metric: str, names: Sequence[str]) -> str:
    counts = [len(values) for name in names if (values := picture.values(name, metric))]
    return f"Mean and standard deviation over {from_to(counts)} seeds"


def draw_against(panel: Against, axes: Any, picture: Picture) -> None:
    """One line for all variants that differ in the axis alone, in the color of the first of them."""
    lines: dict[tuple[Any, ...], list[str]] = {}
    for name, setting in panel.grid.items():
        rest = tuple(value for axis, value in vars(setting).items() if axis != panel.axis)
        lines.setdefault(rest, []).append(name)
    for names in lines.values():
        names = [name for name in names if picture.values(name, panel.metric)]
        if not names:
            continue
        x = [getattr(panel.grid[name], panel.axis) for name in names]
        values = [picture.values(name, panel.metric) for name in names]
        means, spread = [statistics.mean(v) for v in values], [_spread(v) for v in values]
        of_axis = getattr(panel.grid, "axes", {}).get(panel.axis, {})
        label = "_".join(part for part in names[0].split("_") if part not in of_axis) or names[0]
        axes.errorbar(x, means, yerr=spread, marker="o", capsize=2, label=label, **picture.style(names[0]))
    _scale(axes, panel.log)
    axes.set_xlabel(panel.axis)
    axes.set_ylabel(picture.label(panel.metric))
    axes.set_title(panel.title or _mean_over(picture, panel.metric, list(panel.grid)), fontsize=10)
    if axes.containers:
        axes.legend(fontsize=8)


def draw_sweep(panel: Sweep, axes: Any, picture: Picture) -> None:
    assert picture.tuning is not None
    seeds: dict[str, set[int]] = {}
    for record in picture.tuning["curve"]:
        seeds.setdefault(record["variant"], set()).add(record["seed"])
    for variant in picture.tuning["variants"]:
        by_value: dict[float, list[float]] = {}
        for record in finished(picture.tuning["curve"]):
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
    axes.set_title(
        f"Sensitivity: mean and range over {from_to([len(of_one) for of_one in seeds.values()])} seeds", fontsize=10
    )


def draw_graph(panel: Graph, axes: Any, picture: Picture) -> None:
    """A box for each layer, named by its type, or its own name at the ends, and by the shape of what it hands on.

    A layer stands a row below the lowest of those that it takes from, and in the middle of them.
    """
    rows: dict[str, int] = {}
    places: dict[str, float] = {}
    arrows: list[tuple[str, str]] = []
    layers = panel.build().layers
    inputs = [layer for layer in layers if _is_input(layer)]
    for layer in layers:
        sources = [] if _is_input(layer) else [tensor._keras_history[0].name for tensor in _tensors(layer.input)]
        arrows += [(source, layer.name) for source in sources]
        rows[layer.name] = max((rows[source] for source in sources), default=-1) + 1
        middle = statistics.mean(places[source] for source in sources) if sources else float(inputs.index(layer))
        taken = [places[name] for name, row in rows.items() if row == rows[layer.name] and name in places]
        places[layer.name] = middle + 0.5 * sum(abs(place - middle) < 0.5 for place in taken)
    ends = set(rows) - {source for source, _ in arrows}
    for layer in layers:
        named = _is_input(layer) or layer.name in ends
        words = layer.name if named else type(layer).__name__
        text = f"{words} {tuple(layer.output.shape[1:])}"
        look = {"boxstyle": "round", "facecolor": "#d0e4f2" if named else "white", "edgecolor": "gray"}
        where = (places[layer.name], rows[layer.name])
        axes.text(*where, text, ha="center", va="center", fontsize=7, bbox=look, zorder=3)
    for source, layer in arrows:
        start, end = ((places[name], rows[name]) for name in (source, layer))
        look = {"arrowstyle": "->"}
        if start[0] == end[0] and end[1] > start[1] + 1:  # Around the layers in between, and not through them.
            look |= {"connectionstyle": f"arc3,rad={-3.6 / (end[1] - start[1])}"}
        axes.annotate("", (end[0], end[1] - 0.3), (start[0], start[1] + 0.3), arrowprops=look)
    axes.set_xlim(min(places.values()) - 0.6, max(places.values()) + 0.6)
    axes.set_ylim(max(rows.values()) + 0.6, -0.6)
    axes.set_axis_off()
    axes.set_title(panel.title or "The model", fontsize=10)


def draw_models(models: Mapping[str, Any]) -> Any:
    """A matplotlib figure of models' graphs of layers side by side: title -> Sequential or Functional model."""
    import keras
    from matplotlib.figure import Figure

    # A Sequential model does not count its input among its layers; as a Functional one it does.
    graphs = {title: keras.Model(model.inputs, model.outputs) for title, model in models.items()}
    height = 0.8 + 0.45 * max(len(graph.layers) for graph in graphs.values())
    figure = Figure(figsize=(4 * len(graphs), height), dpi=90, layout="constrained")
    for axes, (title, graph) in zip(figure.subplots(1, len(graphs), squeeze=False)[0], graphs.items(), strict=True):
        draw_graph(Graph(functools.partial(_same, graph), title), axes, Picture([], (), None))
    return figure


def _same(model: Any) -> Any:
    return model


def _is_input(layer: Any) -> bool:
    return type(layer).__name__ == "InputLayer"


def _tensors(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (list, tuple)) else [found]


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def write_parallel(trials: Sequence[Any], objective: str, title: str, path: Path) -> None:
    """Draw a search's trials as parallel coordinates: a line for each, through its settings to what it reached.

    A trial has `settings` by name, and a number under `objective`. The better it is, the darker its line.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not trials:
        return
    names = list(trials[0]["settings"])
    values = [[*(trial["settings"][name] for name in names), 100 * trial[objective]] for trial in trials]
    columns = [_heights(column) for column in zip(*values, strict=True)]
    figure = Figure(figsize=(2.2 * len(columns) + 1, 4), dpi=110, layout="constrained")
    axes = figure.subplots()
    reached = columns[-1][0]
    for number in sorted(range(len(trials)), key=lambda number: reached[number]):
        line = [heights[number] for heights, _ in columns]
        color = colormaps["viridis_r"](0.1 + 0.9 * reached[number])
        axes.plot(range(len(columns)), line, color=color, linewidth=1 + 1.5 * reached[number])
    for place, (_, ticks) in enumerate(columns):
        axes.axvline(place, color="gray", linewidth=0.8)
        last = -1.0
        for height, text in sorted(ticks):
            if height - last > 0.05:  # Else one would lie upon the other.
                axes.annotate(text, (place, height), (3, 2), textcoords="offset points", fontsize=8)
                last = height
    axes.set_xticks(range(len(columns)), [*(name.replace("_", " ") for name in names), "validation accuracy (%)"])
    axes.set_yticks([])
    axes.set_xlim(-0.2, len(columns) - 0.5)
    axes.set_title(f"{title}: {len(trials)} trials, the best one darkest", fontsize=10)
    FigureCanvasAgg(figure).print_png(path)


def _heights(column: Sequence[Any]) -> tuple[list[float], list[tuple[float, str]]]:
    """Where the values of one coordinate lie from 0 to 1, and ticks: along logarithms where they span decades."""
    distinct = sorted(set(column))
    if not all(isinstance(value, (int, float)) for value in distinct) or len(distinct) == 1:
        places = {value: (number + 0.5) / len(distinct) for number, value in enumerate(distinct)}
        return [places[value] for value in column], [(place, f"{value}") for value, place in places.items()]
    along = np.log if min(distinct) > 0 and max(distinct) / min(distinct) > 20 else np.asarray
    low, high = float(along(distinct[0])), float(along(distinct[-1]))
    heights = [(float(along(value)) - low) / (high - low) for value in column]
    shown = distinct if len(distinct) <= 6 else [distinct[0], distinct[len(distinct) // 2], distinct[-1]]
    return heights, [((float(along(value)) - low) / (high - low), f"{value:.3g}") for value in shown]


DRAWING: dict[type, Any] = {
    Lines: draw_lines,
    Points: draw_points,
    Bars: draw_bars,
    Against: draw_against,
    Sweep: draw_sweep,
    Graph: draw_graph,
}


def draw(panels: Sequence[Panel], picture: Picture) -> Any:
    """A matplotlib figure of `panels` side by side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(panels), 4), dpi=110, layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        DRAWING[type(panel)](panel, axes, picture)
        axes.grid(alpha=0.3)
    return figure


def _scale(axes: Any, log: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for name in log:
        getattr(axes, f"set_{name}scale")("log")
        axis = getattr(axes, f"{name}axis")
        low, high = axis.get_view_interval()
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
