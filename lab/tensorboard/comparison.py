"""The log to open first: a run for each variant, with the mean of its curves over seeds and the band around it.

`STAMP/compare` lies beside the runs of single seeds. It is written by the process that was started, while runs go on
and when they are done, and needs no TensorFlow.
"""

import io
import json
import shutil
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar_metadata
from tensorboard.plugins.graph import keras_util
from tensorboard.plugins.hparams import api
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util import tensor_util

from lab.evidence.records import EvidenceError, Record, finished, read_json, values_of, write_json
from lab.report.card import markdown_table
from lab.report.figure import band_of
from lab.report.report import Report
from lab.tensorboard import pictures
from lab.tensorboard.profile import words_in
from pipelines import sources

FOLDER = "compare"
PINS = "pins.json"  # In it: which of its curves are to be seen first.
ANSWER = "answer"  # The run that holds what is about all variants: text, figures, the layout of charts.
# What runs leave for this log, in their own folders: curves as far as they are, the model, and the test set's classes.
KEPT, MODEL, PREDICTED = "curves.json", "model.json", "predicted.npy"
BAND = "the band"  # What the names of its edges begin with: they come last where all are listed.
TAGS = {
    "val_accuracy": "accuracy/validation",
    "loss": "loss/training",
    "gap": "gap/training minus validation accuracy",
    "rate": "learning rate/at each step",
    "accuracy": "accuracy/training",
    "val_loss": "loss/validation",
}
BY_SEED, MEAN = "by seed/", "mean/"
MOST_PINNED = 4


@dataclass
class Curves:
    """One variant's curves, by the name that Keras gives them: each of several seeds, and where its points lie."""

    of_seeds: dict[str, list[Sequence[float | None]]] = field(default_factory=dict)
    steps: dict[str, Sequence[int]] = field(default_factory=dict)  # 1, 2, 3 and so on, if it is not said here.

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
            steps = [int(step) for step, _ in rates]
            self.steps["rate"] = max(self.steps.get("rate", []), steps, key=len)

    def summaries(self) -> Iterable[tuple[int, Any]]:
        """Step and protocol buffer of each point: of the mean, and of the band's edges where seeds are several."""
        for name, several in self.of_seeds.items():
            longest = max(map(len, several))
            padded = np.array([[*values, *[None] * (longest - len(values))] for values in several], dtype=float)
            whole = ~np.isnan(padded).all(axis=0)
            if not whole.any():
                continue
            steps = np.array(self.steps.get(name) or range(1, longest + 1))[whole]
            tag, shown = _tag(name), padded[:, whole]
            lines = {tag: np.nanmean(shown, axis=0)}
            low, high = band_of(shown, "interval") if len(several) > 1 else (lines[tag], lines[tag])
            lines |= {f"{BAND}/{tag} low": low, f"{BAND}/{tag} high": high}
            for line, values in lines.items():
                yield from ((int(step), scalar_pb(line, float(v))) for step, v in zip(steps, values, strict=True))


def curves_in(folder: Path) -> dict[str, Curves]:
    """variant -> the curves of its runs below an invocation's folder, those in flight as far as they are."""
    found: dict[str, Curves] = {}
    for path in sorted(folder.glob(f"*/seed-*/**/{KEPT}")):
        try:
            kept = read_json(path)
            found.setdefault(path.relative_to(folder).parts[0], Curves()).add(kept["curves"], kept["rates"])
        except (EvidenceError, KeyError, TypeError, ValueError):  # Being taken away, or none of ours.
            continue
    return found


def curves_of(records: Iterable[Record]) -> dict[str, Curves]:
    """The same of records, as evidence keeps them: curves without the rate."""
    found: dict[str, Curves] = {}
    for record in finished(records):
        found.setdefault(record["variant"], Curves()).add(record["curves"])
    return found


def by_seed(report: Report) -> dict[str, list[tuple[int, Any]]]:
    """variant -> metrics as curves over seeds: what a recipe without epochs has to show."""
    found: dict[str, list[tuple[int, Any]]] = {}
    for metric in report.shown():
        tag = f"{BY_SEED}{report.experiment.unit(metric).words}"
        for variant, values in values_of(report.records, metric).items():
            found.setdefault(variant, []).extend((seed, scalar_pb(tag, values[seed])) for seed in sorted(values))
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
    return _strings_pb(custom_scalar_metadata.CONFIG_SUMMARY_TAG, page.SerializeToString(), metadata)


def image_pb(tag: str, png: bytes, description: str = "") -> Any:
    """A picture in PNG's format, as the Images page takes it."""
    with Image.open(io.BytesIO(png)) as picture:
        sides = [str(side).encode() for side in picture.size]
    metadata = image_metadata.create_summary_metadata(display_name=None, description=description)
    return _strings_pb(tag, [*sides, png], metadata)


def graph_of(model: str) -> bytes:
    """A Keras model in its own JSON as a graph of its layers, for the Graphs page; empty where it has none."""
    layers = json.loads(model)
    try:
        layers["config"]["name"] = ""  # Else all layers would be within one node, to be opened first.
        _name_dtypes(layers)
        graph = keras_util.keras_model_to_graph_def(layers)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):  # A kind of model that it does not know.
        return b""
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


def _strings_pb(tag: str, content: Any, metadata: Any) -> Any:
    found = summary_pb2.Summary()
    found.value.add(tag=tag, metadata=metadata, tensor=tensor_util.make_tensor_proto(content, dtype=np.object_))
    return found


def write_run(
    folder: Path, points: Iterable[tuple[int, Any]], *, graph: bytes = b"", when: float | None = None
) -> None:
    """Write a run anew, in the place of what it was: TensorBoard takes up the new file, and forgets the old points.

    `points` are steps and protocol buffers, those of one tag in the order of their steps, `graph` is a model's; `when`
    is the time of all of them, in seconds, or else the present.

    Raises:
        OSError: a symbolic link stands in the folder's place, or it can't be written.
    """
    if any(path.is_symlink() for path in (folder, folder.parent)):
        raise OSError(None, "a symbolic link stands in its place", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    before = sorted(folder.glob("events.out.tfevents.*"))
    number = 1 + max((int(path.name.rsplit(".", 1)[-1]) for path in before), default=0)
    wall_time = time.time() if when is None else when
    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
    events = [
        event_pb2.Event(wall_time=wall_time, file_version="brain.Event:2"),
        event_pb2.Event(wall_time=wall_time, step=0, session_log=start),
        *(event_pb2.Event(wall_time=wall_time, step=step, summary=summary) for step, summary in points),
    ]
    if graph:
        events.append(event_pb2.Event(wall_time=wall_time, graph_def=graph))
    path = folder / f"events.out.tfevents.{number:06}"
    scratch = folder / f".{path.name}"
    with scratch.open("wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
    scratch.replace(path)
    for old in before:
        old.unlink()


def write_progress(folder: Path, words: str) -> None:
    """Write what there is of an invocation whose runs go on."""
    found = curves_in(folder)
    for variant, curves in found.items():
        write_run(folder / FOLDER / variant, curves.summaries())
    write_run(folder / FOLDER / ANSWER, [(0, text_pb(ANSWER, words)), (0, layout_pb(_tags(found)))])
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
    experiment, records = report.experiment, report.records
    found, kept = curves_of(records), curves_in(folder)
    for variant, curves in found.items():
        if variant in kept and "rate" in kept[variant].of_seeds:
            curves.of_seeds["rate"] = kept[variant].of_seeds["rate"]
            curves.steps["rate"] = kept[variant].steps["rate"]
    metrics = report.shown()
    over_seeds = by_seed(report)
    for variant in report.found["variants"]:
        mine = [record for record in records if record["variant"] == variant]
        points = [*found.get(variant, Curves()).summaries(), *over_seeds.get(variant, [])]
        points += [(0, summary) for summary in _once(folder, variant, mine, metrics, test, classes)]
        if samples and variant in samples:
            points.append((0, image_pb("trained on, a sample", pictures.png(pictures.tiled(samples[variant])))))
        models = sorted((folder / variant).glob(f"seed-*/**/{MODEL}"))
        graph = graph_of(models[0].read_text(encoding="utf-8")) if models else b""
        write_run(folder / FOLDER / variant, points, graph=graph)
    columns = list(dict.fromkeys(name for record in records for name in _settings(record)))
    config = api.hparams_config_pb(
        hparams=[api.HParam("variant", api.Discrete(report.found["variants"])), *map(api.HParam, columns)],
        metrics=[api.Metric(f"{MEAN}{name}", display_name=experiment.unit(name).words) for name in metrics],
    )
    files = {"figure": folder / "figure.png", "forest": folder / "forest.png"}
    whole = [text_pb(ANSWER, _answer(report)), text_pb("card", card), layout_pb(_tags(found)), config]
    whole += [image_pb(name, path.read_bytes()) for name, path in files.items() if path.exists()]
    write_run(folder / FOLDER / ANSWER, [(0, summary) for summary in whole])
    write_json(folder / FOLDER / PINS, _pins(found, report), durable=False)


def write_reference(folder: Path, report: Report) -> None:
    """Write published curves, so that what is to be expected can be seen before anything has been run.

    The same evidence gives the same bytes.
    """
    shutil.rmtree(folder, ignore_errors=True)
    found = curves_of(report.records)
    over_seeds = by_seed(report)
    for variant in report.found["variants"]:
        points = [*found.get(variant, Curves()).summaries(), *over_seeds.get(variant, [])]
        write_run(folder / variant, points, when=0.0)
    write_run(folder / ANSWER, [(0, text_pb(ANSWER, _answer(report))), (0, layout_pb(_tags(found)))], when=0.0)
    write_json(folder / PINS, _pins(found, report))


def _answer(report: Report) -> str:
    verdicts = "\n".join(
        f"- **{judgement.verdict}**: {judgement.claim.text} ({judgement.claim.source})"
        for judgement in report.judgements()
        if not judgement.comparisons or any(comparison.n > 1 for comparison in judgement.comparisons)
    )
    table = markdown_table(*report.table())
    return f"{report.experiment.question}\n\n{table}\n\nMean ± standard deviation over seeds.\n\n{verdicts}"


def _pins(found: Mapping[str, Curves], report: Report | None = None) -> list[str]:
    """What is to be seen first: curves that all variants have, then metrics over seeds."""
    if not found and report is None:  # Of what has just begun.
        return list(TAGS.values())[:MOST_PINNED]
    shared = [tag for tag in _tags(found) if all(tag in map(_tag, curves.of_seeds) for curves in found.values())]
    metrics = report.shown() if report else []
    if report and len(found) < len(report.found["variants"]):
        shared = []
    return [*shared, *(f"{BY_SEED}{report.experiment.unit(name).words}" for name in metrics if report)][:MOST_PINNED]


def _once(
    folder: Path, variant: str, mine: Sequence[Record], metrics: Sequence[str], test: sources.Split, classes: Any
) -> Iterator[Any]:
    """What there is once of a variant: settings with their mean results, model, confusions, misclassified images."""
    means = {name: values_of(mine, name).get(variant, {}) for name in metrics}
    settings = {name: value for record in mine[:1] for name, value in _settings(record).items()}
    yield api.hparams_pb({"variant": variant, **settings}, trial_id=variant, start_time_secs=0)
    for name, values in means.items():
        if values:
            yield scalar_pb(f"{MEAN}{name}", statistics.mean(values.values()))
    if said := words_in(folder / variant):
        yield text_pb("profile", said)
    runs = sorted((folder / variant).glob("seed-*"))
    predictions = [np.load(run / PREDICTED) for run in runs if (run / PREDICTED).exists()]
    predictions = [predicted for predicted in predictions if len(predicted) == len(test)]
    if predictions:
        labels = np.tile(test.labels, len(predictions))
        confused = pictures.confusion(labels, np.concatenate(predictions), classes)
        yield image_pb("confusion matrix, all seeds", pictures.png(confused))
        wrong = pictures.misclassified(test, predictions[0], classes)
        if wrong is not None:
            yield image_pb("misclassified, the first seed", pictures.png(wrong))


def _settings(record: Record) -> dict[str, Any]:
    """A run's settings that the HParams page can show, those that are not set left out."""
    tuned = {f"tuned {name.lower()}": value for name, value in record["settings"].items()}
    given = {name: value for name, value in {**record["config"], **tuned}.items() if value is not None}
    return {name: value if isinstance(value, (bool, int, float, str)) else str(value) for name, value in given.items()}


def _tags(found: Mapping[str, Curves]) -> list[str]:
    """The curves that there are, those of `TAGS` first."""
    there = {name for curves in found.values() for name in curves.of_seeds}
    return [_tag(name) for name in (*(name for name in TAGS if name in there), *sorted(there - set(TAGS)))]


def _tag(name: str) -> str:
    """A curve's name on TensorBoard's pages."""
    return TAGS.get(name, f"curve/{name.replace('_', ' ')}")
