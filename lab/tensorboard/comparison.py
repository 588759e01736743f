"""The log to open first: a run for each variant, with the mean of its curves over seeds and the band around it.

`STAMP/compare` lies beside the runs of single seeds. The process that was started writes it anew when a run has ended.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.graph import keras_util
from tensorboard.plugins.text.summary_v2 import text_pb

from lab.evidence.records import finished, read, values_of, write_json
from lab.evidence.schemas import Record
from lab.report.figure import band_of
from lab.report.pages import markdown_table
from lab.report.report import Report
from lab.tensorboard import events, pictures
from lab.tensorboard.profile import words_in
from pipelines import sources

FOLDER = "compare"
PINS = "pins.json"  # In it: which of its curves are to be seen first.
ANSWER = "answer"  # The run that holds what is about all variants: text, figures, the layout of charts.
MEANS = "means"  # A folder of runs, one for each variant: its row on the HParams page.
BAND = "the band"  # What the names of its edges begin with: they come last where all are listed.
TAGS = {
    "val_accuracy": "accuracy/validation",
    "loss": "loss/training",
    "gap": "gap/training minus validation accuracy",
    "rate": "learning rate/at each step",
    "accuracy": "accuracy/training",
    "val_loss": "loss/validation",
}
BY_SEED = "by seed/"
MOST_PINNED = 4


@dataclass
class Curves:
    """One variant's curves, by the name that Keras gives them: each of several seeds, and where its points lie."""

    of_seeds: dict[str, list[Sequence[float | None]]] = field(default_factory=dict)
    rate_steps: list[int] = field(default_factory=list)

    def add(self, found: Mapping[str, Sequence[float | None]], rates: Sequence[Sequence[float]] = ()) -> None:
        """Take in the curves of one seed, and pairs of step and rate."""
        for name, values in found.items():
            if values:
                self.of_seeds.setdefault(name, []).append(values)
        if {"accuracy", "val_accuracy"} <= set(found) and "gap" not in found:
            both = zip(found["accuracy"], found["val_accuracy"], strict=False)
            gap = [None if a is None or b is None else a - b for a, b in both]
            self.of_seeds.setdefault("gap", []).append(gap)
        if rates:
            self.of_seeds.setdefault("rate", []).append([rate for _, rate in rates])
            self.rate_steps = max(self.rate_steps, [int(step) for step, _ in rates], key=len)

    def write(self, run: events.Events) -> None:
        """Write the mean of each curve, and the edges of its band, which is the mean again where there is one seed."""
        for name, several in self.of_seeds.items():
            longest = max(map(len, several))
            padded = np.array([[*values, *[None] * (longest - len(values))] for values in several], dtype=float)
            whole = ~np.isnan(padded).all(axis=0)
            if not whole.any():
                continue
            steps = np.array(self.rate_steps if name == "rate" else range(1, longest + 1))[whole]
            tag, shown = _tag(name), padded[:, whole]
            lines = {tag: np.nanmean(shown, axis=0)}
            low, high = band_of(shown, "interval") if len(several) > 1 else (lines[tag], lines[tag])
            for line, values in (lines | {f"{BAND}/{tag} low": low, f"{BAND}/{tag} high": high}).items():
                run.add_curve(line, steps, values)


def curves_of(records: Iterable[Record], folder: Path | None = None) -> dict[str, Curves]:
    """variant -> the curves of its runs, with the rates that they left in an invocation's `folder`."""
    found: dict[str, Curves] = {}
    for record in finished(records):
        variant, rates = record.variant, []
        if folder is not None:
            paths = sorted((folder / variant / f"seed-{record['seed']}").glob(f"**/{events.RATES}"))
            rates = read(paths[0], list[tuple[int, float]]) if paths else []
        found.setdefault(variant, Curves()).add(record.curves, rates)
    return found


class Refreshed:
    """A watcher that tells another one what begins and ends, and writes the comparison anew when a run has ended."""

    def __init__(self, watcher: Any) -> None:
        self.watcher = watcher
        self.found: dict[str, list[Record]] = {}  # By the invocation's folder.

    def started(self, job: Any) -> None:
        self.watcher.started(job)

    def finished(self, job: Any, records: list[Record]) -> None:
        self.watcher.finished(job, records)
        if job.logging and not job.alone:  # Nothing may run beside what measures times.
            mine = self.found.setdefault(job.folder, [])
            mine += records
            with events.by_product(Path(job.folder), "comparison while runs go on"):
                write_progress(Path(job.folder), mine, job.variants)


def write_progress(folder: Path, records: Sequence[Record] = (), variants: Sequence[str] | None = None) -> None:
    """Write what there is of an invocation whose runs go on: all of it, or what has changed of some `variants`."""
    found = curves_of(records, folder)
    for variant in found if variants is None else set(found) & set(variants):
        with events.written(folder / FOLDER / variant, anew=True) as run:
            found[variant].write(run)
    words = f"{len(records)} runs have ended. The means are over these." if records else "Runs have begun."
    with events.written(folder / FOLDER / ANSWER, anew=True) as run:
        run.add([text_pb(ANSWER, words), layout_pb(_tags(found))])
    write_json(folder / FOLDER / PINS, _pins(found), durable=False)


def write_finished(
    folder: Path,
    report: Report,
    card: str,
    test: sources.Split,
    classes: Sequence[str],
    samples: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write all of an invocation whose runs are done: what TensorBoard is to show first.

    `test` are the images that all runs were scored on, and `samples` some that variants were trained on, uint8 (n,
    height, width, 3).
    """
    found = curves_of(report.records, folder)
    over_seeds = by_seed(report)
    for variant in report.found.variants:
        with events.written(folder / FOLDER / variant, anew=True) as run:
            found.get(variant, Curves()).write(run)
            for tag, values in over_seeds.get(variant, {}).items():
                run.add_curve(tag, values, values.values())
            with events.by_product(folder, f"graph of {variant}"):
                if graph := _graph(folder / variant):
                    run.add_graph(graph)
            with events.by_product(folder, f"pictures of {variant}"):
                run.add(_pictures(folder / variant, test, classes))
                if samples and variant in samples:
                    run.add([events.image_pb("trained on, a sample", pictures.grid(samples[variant]))])
            run.add([text_pb(name, words) for name, words in _texts(folder / variant).items()])
        _write_means(folder, variant, report)
    files = {"figure": folder / "figure.png", "forest": folder / "forest.png"}
    whole = [text_pb(ANSWER, _answer(report)), text_pb("card", card), layout_pb(_tags(found))]
    whole += [events.image_pb(name, path.read_bytes()) for name, path in files.items() if path.exists()]
    with events.written(folder / FOLDER / ANSWER, anew=True) as run:
        run.add(whole)
    write_json(folder / FOLDER / PINS, _pins(found, report), durable=False)


def write_reference(folder: Path, report: Report, note: str = "") -> None:
    """Write published curves, so that what is to be expected can be seen before anything has been run."""
    found = curves_of(report.records)
    over_seeds = by_seed(report)
    for variant in report.found.variants:
        with events.written(folder / variant, anew=True) as run:
            found.get(variant, Curves()).write(run)
            for tag, values in over_seeds.get(variant, {}).items():
                run.add_curve(tag, values, values.values())
    with events.written(folder / ANSWER, anew=True) as run:
        run.add([text_pb(ANSWER, f"{note}\n\n{_answer(report)}"), layout_pb(_tags(found))])
    write_json(folder / PINS, _pins(found, report))


def by_seed(report: Report) -> dict[str, dict[str, dict[int, float]]]:
    """variant -> name on TensorBoard's pages -> seed -> metric: what a recipe without epochs has to show."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for metric in report.shown():
        for variant, values in values_of(report.records, metric).items():
            tag = f"{BY_SEED}{report.experiment.unit(metric).words}"
            found.setdefault(variant, {})[tag] = dict(sorted(values.items()))
    return found


def layout_pb(tags: Sequence[str]) -> Any:
    """What the Custom Scalars page shows: each curve's mean over seeds within its band.

    The page shows the last chart first.
    """

    def chart(tag: str) -> Any:
        series = layout_pb2.MarginChartContent.Series(value=tag, lower=f"{BAND}/{tag} low", upper=f"{BAND}/{tag} high")
        return layout_pb2.Chart(title=tag, margin=layout_pb2.MarginChartContent(series=[series]))

    title = "Mean over seeds, with its 95 % interval"
    page = layout_pb2.Layout(category=[layout_pb2.Category(title=title, chart=[*map(chart, reversed(tags))])])
    metadata = custom_scalar_metadata.create_summary_metadata()
    return events.strings_pb(custom_scalar_metadata.CONFIG_SUMMARY_TAG, page.SerializeToString(), metadata)


def graph_of(model: str) -> bytes:
    """A Keras model in its own JSON as a graph of its layers, a serialized GraphDef for the Graphs page."""
    layers = json.loads(model)
    layers["config"]["name"] = ""  # Else all layers would be within one node, to be opened first.
    _name_dtypes(layers)
    graph = keras_util.keras_model_to_graph_def(layers)
    for node in graph.node:  # Of a model within the model, "/inner/layer".
        node.name = node.name.lstrip("/")
        node.input[:] = [name.lstrip("/") for name in node.input]
    serialized: bytes = graph.SerializeToString()
    return serialized


def _name_dtypes(layer: Any) -> None:
    """Name the dtype that a layer computes in: TensorBoard complains of a policy such as "mixed_bfloat16"."""
    policy = layer["config"].get("dtype")
    if isinstance(policy, dict):
        layer["config"]["dtype"] = (policy["config"].get("name") or "float32").removeprefix("mixed_")
    for inner in layer["config"].get("layers", []):
        _name_dtypes(inner)


def _graph(folder: Path) -> bytes:
    models = sorted(folder.glob(f"seed-*/**/{events.MODEL}"))
    return graph_of(models[0].read_text(encoding="utf-8")) if models else b""


def _pictures(folder: Path, test: sources.Split, classes: Sequence[str]) -> Iterator[Any]:
    """A variant's confusions over all of its seeds, and images that were misclassified at its first one."""
    predictions = [np.load(path) for path in sorted(folder.glob(f"seed-*/{events.PREDICTED}"))]
    predictions = [predicted for predicted in predictions if len(predicted) == len(test)]
    if not predictions:
        return
    if len(classes) <= pictures.MOST_DRAWN:
        labels = np.tile(test.labels, len(predictions))
        confused = pictures.confusion(labels, np.concatenate(predictions), classes)
        yield events.image_pb("confusion matrix, all seeds", confused)
    else:
        words = f"No confusion matrix is drawn of more than {pictures.MOST_DRAWN} classes; there are {len(classes)}."
        yield text_pb("confusion matrix", words)
    wrong = np.flatnonzero(predictions[0] != test.labels)[: pictures.SHOWN]
    if len(wrong):
        titles = [f"{classes[test.labels[i]][:20]}\nnot {classes[predictions[0][i]][:16]}" for i in wrong]
        yield events.image_pb("misclassified, the first seed", pictures.grid(test.images[wrong], titles))


def _texts(folder: Path) -> dict[str, str]:
    """What a variant's runs say of their profile, and which by-products they could not make."""
    notes = [path.read_text(encoding="utf-8") for path in sorted(folder.glob(f"seed-*/**/{events.NOTES}"))]
    found = {"profile": words_in(folder), "left out": "\n".join(dict.fromkeys("".join(notes).splitlines()))}
    return {name: words for name, words in found.items() if words}


def _write_means(folder: Path, variant: str, report: Report) -> None:
    """Write a variant's settings and mean metrics as a row of the HParams page."""
    mine = [record for record in report.records if record.variant == variant]
    of_seeds = {name: values_of(mine, name).get(variant) for record in mine for name in record.metrics}
    means = {name: statistics.mean(values.values()) for name, values in of_seeds.items() if values}
    settings = {"variant": variant, **(events.settings_of(mine[0]) if mine else {})}
    events.write_settings(folder / FOLDER / MEANS / variant, folder / variant, settings, means)


def _answer(report: Report) -> str:
    verdicts = "\n".join(
        f"- **{judgement.verdict}**: {judgement.claim.text} ({judgement.claim.source})"
        for judgement in report.judgements
        if not judgement.comparisons or any(comparison.n > 1 for comparison in judgement.comparisons)
    )
    table = markdown_table(*report.table())
    return f"{report.experiment.question}\n\n{table}\n\nMean ± standard deviation over seeds.\n\n{verdicts}"


def _pins(found: Mapping[str, Curves], report: Report | None = None) -> list[str]:
    """What is to be seen first: curves that all variants have, then metrics over seeds."""
    if not found and report is None:  # Of what has just begun.
        return list(TAGS.values())[:MOST_PINNED]
    shared = [tag for tag in _tags(found) if all(tag in map(_tag, curves.of_seeds) for curves in found.values())]
    if report is None:
        return shared[:MOST_PINNED]
    if len(found) < len(report.found.variants):
        shared = []
    return [*shared, *(f"{BY_SEED}{report.experiment.unit(name).words}" for name in report.shown())][:MOST_PINNED]


def _tags(found: Mapping[str, Curves]) -> list[str]:
    """The curves that there are, those of `TAGS` first."""
    there = {name for curves in found.values() for name in curves.of_seeds}
    return [_tag(name) for name in (*(name for name in TAGS if name in there), *sorted(there - set(TAGS)))]


def _tag(name: str) -> str:
    """A curve's name on TensorBoard's pages."""
    return TAGS.get(name, f"curve/{name.replace('_', ' ')}")
