"""The log to open first: a run for each variant, with the mean of its curves over seeds and the band around it.

`STAMP/compare` lies beside the runs of single seeds. Its curves are written anew whenever a run has ended.
"""

import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.graph import keras_util
from tensorboard.plugins.text.summary_v2 import text_pb

from lab.evidence.records import by_product, finished, notes_in, read, values_of
from lab.evidence.schemas import Record
from lab.report.figure import band_of
from lab.report.pages import markdown_table
from lab.report.report import Report
from lab.tensorboard import events, pictures
from lab.tensorboard.profile import words_in
from pipelines import sources

FOLDER = "compare"
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

Curves = dict[str, list[tuple[Sequence[int], Sequence[float | None]]]]  # Name -> steps and values of each seed.


def curves_of(records: Iterable[Record], folder: Path) -> dict[str, Curves]:
    """variant -> the curves of its runs, with the rates that they left in an invocation's `folder`."""
    found: dict[str, Curves] = {}
    for record in finished(records):
        mine = found.setdefault(record.variant, {})
        curves = dict(record.curves)
        if {"accuracy", "val_accuracy"} <= set(curves):
            both = zip(curves["accuracy"], curves["val_accuracy"], strict=False)
            curves["gap"] = [None if a is None or b is None else a - b for a, b in both]
        for name, values in curves.items():
            if values:
                mine.setdefault(name, []).append((range(1, len(values) + 1), values))
        run = folder / record.variant / f"seed-{record.seed}"
        for path in sorted(run.glob(f"**/{events.RATES}"))[:1]:
            rates = read(path, list[tuple[int, float]])
            mine.setdefault("rate", []).append(([step for step, _ in rates], [rate for _, rate in rates]))
    return found


def _write_curves(run: events.Events, curves: Curves) -> None:
    """Write the mean of each curve, and the edges of its band, which is the mean again where there is one seed."""
    for name, several in curves.items():
        steps = np.array(max((steps for steps, _ in several), key=len))
        padded = np.array([[*values, *[None] * (len(steps) - len(values))] for _, values in several], dtype=float)
        whole = ~np.isnan(padded).all(axis=0)
        shown, steps, tag = padded[:, whole], steps[whole], _tag(name)
        if len(steps):
            mean = np.nanmean(shown, axis=0)
            low, high = band_of(shown)
            for line, values in ((tag, mean), (f"{BAND}/{tag} low", low), (f"{BAND}/{tag} high", high)):
                run.add_curve(line, steps, values)


def refresh(folder: Path, records: Sequence[Record], variant: str) -> None:
    """Write the curves of a variant anew, while other runs go on."""
    with by_product(folder, "comparison while runs go on"):
        found = curves_of(records, folder)
        if variant in found:
            with events.written(folder / FOLDER / variant, anew=True) as run:
                _write_curves(run, found[variant])
        words = f"The means are over the {len(records)} runs that have ended."
        with events.written(folder / FOLDER / ANSWER, anew=True) as run:
            run.add([text_pb(ANSWER, words), layout_pb(_tags(found))])


def write_finished(
    folder: Path,
    report: Report,
    card: str,
    data: sources.Data | None = None,
    samples: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write all of an invocation whose runs are done, or of published evidence: what TensorBoard is to show first.

    With `data`, whose test images all runs were scored on, there are pictures. `samples` are some that variants were
    trained on, uint8 (n, height, width, 3).
    """
    found = curves_of(report.records, folder)
    for variant in report.found.variants:
        own = folder / variant
        with events.written(folder / FOLDER / variant, anew=True) as run:
            _write_curves(run, found.get(variant, {}))
            for metric in report.shown():  # All that a recipe without epochs has to show.
                values = sorted(values_of(report.records, metric).get(variant, {}).items())
                tag = f"by seed/{report.experiment.unit(metric).words}"
                run.add_curve(tag, (seed for seed, _ in values), (value for _, value in values))
            with by_product(folder, f"graph of {variant}"):
                for path in sorted(own.glob(f"seed-*/**/{events.MODEL}"))[:1]:
                    run.write(graph_def=graph_of(path.read_text(encoding="utf-8")))
            with by_product(folder, f"pictures of {variant}"):
                if data is not None:
                    run.add(_pictures(own, data))
                if samples and variant in samples:
                    run.add([events.image_pb("trained on, a sample", pictures.tiles(samples[variant]))])
            texts = {"profile": words_in(own), "left out": "\n".join(notes_in(own))}
            run.add([text_pb(name, words) for name, words in texts.items() if words])
        _write_means(folder, variant, report)
    files = {"figure": folder / "figure.png"}
    whole = [text_pb(ANSWER, _answer(report)), text_pb("card", card), layout_pb(_tags(found))]
    whole += [events.image_pb(name, path.read_bytes()) for name, path in files.items() if path.exists()]
    with events.written(folder / FOLDER / ANSWER, anew=True) as run:
        run.add(whole)


def layout_pb(tags: Sequence[str]) -> Any:
    """What the Custom Scalars page shows: each curve's mean over seeds within its band."""
    charts = []
    for tag in reversed(tags):  # The page shows the last chart first.
        series = layout_pb2.MarginChartContent.Series(value=tag, lower=f"{BAND}/{tag} low", upper=f"{BAND}/{tag} high")
        charts.append(layout_pb2.Chart(title=tag, margin=layout_pb2.MarginChartContent(series=[series])))
    category = layout_pb2.Category(title="Mean over seeds, with its 95 % interval", chart=charts)
    metadata = custom_scalar_metadata.create_summary_metadata()
    content = layout_pb2.Layout(category=[category]).SerializeToString()
    return events.strings_pb(custom_scalar_metadata.CONFIG_SUMMARY_TAG, content, metadata)


def graph_of(model: str) -> bytes:
    """A Keras model in its own JSON as a graph of its layers, a serialized GraphDef for the Graphs page."""

    def plain_dtype(found: dict[str, Any]) -> Any:
        """The dtype that a policy such as "mixed_bfloat16" computes in: TensorBoard complains of a policy."""
        return found["config"]["name"].removeprefix("mixed_") if found.get("class_name") == "DTypePolicy" else found

    layers = json.loads(model, object_hook=plain_dtype)
    layers["config"]["name"] = ""  # Else all layers would be within one node, to be opened first.
    graph = keras_util.keras_model_to_graph_def(layers)
    for node in graph.node:  # Of a model within the model, "/inner/layer".
        node.name = node.name.lstrip("/")
        node.input[:] = [name.lstrip("/") for name in node.input]
    serialized: bytes = graph.SerializeToString()
    return serialized


def _pictures(folder: Path, data: sources.Data) -> Iterator[Any]:
    """A variant's confusions over all of its seeds, and images that were misclassified at its first one."""
    test, names = data.test, data.classes
    predictions = [np.load(path) for path in sorted(folder.glob(f"seed-*/{events.PREDICTED}"))]
    if not predictions:
        return
    if len(names) <= pictures.MOST_DRAWN:
        confused = pictures.confusion(np.tile(test.labels, len(predictions)), np.concatenate(predictions), names)
        yield events.image_pb("confusion matrix, all seeds", confused)
    wrong = np.flatnonzero(predictions[0] != test.labels)[: pictures.SHOWN]
    if len(wrong):
        titles = [f"{names[test.labels[i]][:20]}\nnot {names[predictions[0][i]][:16]}" for i in wrong]
        yield events.image_pb("misclassified, the first seed", pictures.tiles(test.images[wrong], titles))


def _write_means(folder: Path, variant: str, report: Report) -> None:
    """Write a variant's settings and mean metrics as a row of the HParams page."""
    mine = [record for record in report.records if record.variant == variant]
    of_seeds = {name: values_of(mine, name) for record in mine for name in record.metrics}
    means = {name: statistics.mean(values[variant].values()) for name, values in of_seeds.items() if values}
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


def _tags(found: Mapping[str, Curves]) -> list[str]:
    """The curves that there are, those of `TAGS` first."""
    there = {name for curves in found.values() for name in curves}
    return [_tag(name) for name in (*(name for name in TAGS if name in there), *sorted(there - set(TAGS)))]


def _tag(name: str) -> str:
    """A curve's name on TensorBoard's pages."""
    return TAGS.get(name, f"curve/{name.replace('_', ' ')}")
