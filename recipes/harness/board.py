"""Everything that goes to TensorBoard, and the callbacks that watch a `fit`."""

import functools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image, ImageDraw, ImageFont
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from pipelines import cifar10
from recipes.harness import evidence

PROBE_IMAGES = 32
SHOWN_IMAGES = 12
HISTOGRAM_VALUES = 4_096


def build_early(model: keras.Model) -> None:
    """Make the optimizer's and the metrics' variables before the first step, where that can be done safely.

    Left alone, Keras makes them while the first step is traced, and TensorFlow, which allows a function new variables
    only once, then traces the whole step again: up to a third of a short training. No number changes.
    """
    outputs = getattr(model, "outputs", None) or []  # A subclassed model does not know its own.
    sparse = isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)
    # With one row of logits an image, labels are whole numbers (batch,), and metrics can be shown an example.
    if not sparse or len(outputs) != 1 or len(outputs[0].shape) != 2:
        return
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if not all(getattr(metric, "built", True) for metric in model.metrics):
        model.compute_metrics(None, np.zeros(1, np.int32), np.zeros((1, outputs[0].shape[1]), np.float32))
        model.reset_metrics()


class Stopwatch(keras.callbacks.Callback):
    """Where the seconds of a run go. The first batch of a `fit` is mostly tracing, and is counted as such."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: dict[str, float] = {}
        self.part = "main"
        self.epochs: dict[str, list[float]] = {}  # Seconds of training steps, an epoch.
        self.steps_per_epoch = 0
        self._start = 0.0
        self._batches: list[float] = []
        self._validating = False

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start)

    def on_train_begin(self, logs: Any = None) -> None:
        self.epochs[self.part] = []
        with self.timing("tracing"):
            build_early(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._batches = []

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches.append(time.perf_counter() - self._start)

    def on_test_begin(self, logs: Any = None) -> None:
        self._test_start = time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        self.add("validation", time.perf_counter() - self._test_start)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.steps_per_epoch = len(self._batches)
        if epoch == 0 and len(self._batches) > 1:
            typical = float(np.median(self._batches[1:]))
            self.add("tracing", self._batches[0] - typical)
            self._batches[0] = typical
        steps = sum(self._batches)
        self.add("steps", steps)
        self.epochs[self.part].append(steps)

    def epoch_seconds(self) -> float:
        """Median seconds of the training steps of an epoch, in the part of the run at hand."""
        return float(np.median(self.epochs.get(self.part) or [0.0]))

    def images_per_second(self, batch_size: int) -> float:
        """Images through the training steps a second, tracing, validation and logging apart."""
        seconds = self.epoch_seconds()
        return self.steps_per_epoch * batch_size / seconds if seconds else 0.0


class Progress(keras.callbacks.Callback):
    """Says after each epoch how far a run is, for whoever watches it."""

    def __init__(self, path: Path, part: str) -> None:
        super().__init__()
        self.path, self.part = path, part

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        accuracy = float((logs or {}).get("val_accuracy", (logs or {}).get("accuracy", 0.0)))
        progress = {"part": self.part, "epoch": epoch + 1, "epochs": self.params["epochs"]}
        evidence.write_json(self.path, progress | {"accuracy": accuracy if np.isfinite(accuracy) else None})


class StopAt(keras.callbacks.Callback):
    """Ends training after the first epoch whose validation accuracy is at least `target`."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.target = target

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if (logs or {}).get("val_accuracy", 0.0) >= self.target:
            self.model.stop_training = True


@functools.lru_cache(maxsize=1)
def _rate_writer(schedule: keras.optimizers.schedules.LearningRateSchedule | None) -> Any:
    """A compiled function that writes the rate of each step as an event: of a schedule, or those that it is given.

    As single operations, hundreds of them an epoch, this would take as long as many a training step.
    """
    metadata = scalar_metadata.create_summary_metadata(display_name=None, description="").SerializeToString()

    @tf.function(autograph=False, reduce_retracing=True)
    def write(writer: tf.Tensor, first: tf.Tensor, last: tf.Tensor, rates: tf.Tensor) -> None:
        def one(step: tf.Tensor) -> tf.Tensor:
            rate = rates[step - first] if schedule is None else tf.cast(schedule(step), tf.float32)
            tf.raw_ops.WriteSummary(
                writer=writer, step=step, tensor=rate, tag="learning_rate/by_step", summary_metadata=metadata
            )
            return step + 1

        tf.while_loop(lambda step: step < last, one, [first], parallel_iterations=1)

    return write


class Board(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback, and what it leaves out: the rate of every step, gradients, activations.

    The folder gets `train` and `validation`. Gradient and weight norms and the histograms come once an epoch, those of
    gradients and activations from one small probe batch, with BatchNorm as at inference, so that training itself is
    left alone. They are summarized by numpy: as TensorFlow operations they would take many times as long.
    """

    def __init__(
        self, folder: Path, watch: Stopwatch, probe: cifar10.Split | None = None, *, profile: bool = False
    ) -> None:
        super().__init__(log_dir=str(folder), write_graph=False, profile_batch=(10, 20) if profile else 0)
        self.watch = watch
        self.probe = None
        if probe is not None:
            self.probe = (tf.constant(probe.images[:PROBE_IMAGES]), tf.constant(probe.labels[:PROBE_IMAGES]))
        self._step = self._written = 0
        self._rates: list[float] = []
        self._inspector: Any = None
        self._marker: Any = None  # Of the step in progress, where it is profiled.

    def on_train_begin(self, logs: Any = None) -> None:
        with self.watch.timing("logging"):
            super().on_train_begin(logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._should_trace:  # All that Keras's own method is needed for; it takes its time at every step.
            super().on_train_batch_begin(batch, logs)
            if self._is_tracing:  # Keras does not tell the profiler where steps begin and end.
                self._marker = tf.profiler.experimental.Trace("train", step_num=self._step, _r=1)
                self._marker.__enter__()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._should_trace:
            if self._marker is not None:
                self._marker.__exit__(None, None, None)
                self._marker = None
            super().on_train_batch_end(batch, logs)
        rate = self.model.optimizer._learning_rate
        if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            self._rates.append(float(rate))
        self._step += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with self.watch.timing("logging"):
            super().on_epoch_end(epoch, logs)
            self._write_rates()
            if self.probe is not None:
                self._write(self._probed(*self.probe), epoch)

    def on_train_end(self, logs: Any = None) -> None:
        with self.watch.timing("logging"):
            super().on_train_end(logs)

    def _write_rates(self) -> None:
        """Write the rate of each step since the last call; a schedule is asked for all of them at once."""
        rate = self.model.optimizer._learning_rate
        schedule = rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None
        span = [tf.constant(step, tf.int64) for step in (self._written, self._step)]
        _rate_writer(schedule)(self._train_writer._resource, *span, tf.constant(self._rates, tf.float32))
        self._rates, self._written = [], self._step

    def _write(self, summaries: Iterable[Any], step: int) -> None:
        """Write summaries (protocol buffers) as one event."""
        together = summary_pb2.Summary(value=[value for summary in summaries for value in summary.value])
        # The operation that `tf.summary.experimental.write_raw_pb` comes down to, at a tenth of the time.
        writer = self._train_writer._resource
        tf.raw_ops.WriteRawProtoSummary(writer=writer, step=step, tensor=together.SerializeToString())

    def _probed(self, images: tf.Tensor, labels: tf.Tensor) -> Iterator[Any]:
        model = self.model
        if self._inspector is None:
            self._inspector = _inspector(model)
        with tf.GradientTape() as tape:
            predicted, activations = self._inspector(images)
            loss = model.compute_loss(images, labels, predicted, training=False)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        norms: dict[str, float] = {}  # Squared, while they are being summed.
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            layer = variable.path.rsplit("/", 1)[0]
            weights = variable.numpy()
            yield histogram_pb(f"weights/{variable.path}", weights)
            for name, array in (("gradient_norm", gradient), ("weight_norm", weights)):
                if array is not None:
                    tag = f"{name}/{layer}"
                    norms[tag] = norms.get(tag, 0.0) + float(np.sum(np.square(array)))
        for tag, square in norms.items():
            yield scalar_pb(tag, square**0.5)
        for layer, output in activations.items():
            values = output.numpy().ravel()
            yield histogram_pb(f"activations/{layer}", values[:: 1 + len(values) // HISTOGRAM_VALUES])


def _inspector(model: keras.Model) -> Any:
    """A function from images to the model's output and, where the model is a graph of layers, those layers' outputs."""
    layers = [layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    try:
        named = {layer.name: layer.output for layer in layers}
    except AttributeError:  # A subclassed model.
        return lambda images: (model(images, training=False), {})
    graph = keras.Model(model.inputs, [model.outputs[0], named])
    return lambda images: graph(images, training=False)


def write_curve(folder: Path, name: str, values: Sequence[float]) -> None:
    """Write numbers as one series of scalars, a step for each, to the run's own folder."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, value in enumerate(values):
            tf.summary.scalar(name, value, step=step)
    writer.close()


def write_predictions(folder: Path, logits: np.ndarray, test: cifar10.Split) -> None:
    """Write the confusion matrix and some misclassified test images, named, to the run's own folder."""
    predicted = logits.argmax(axis=1)
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        tf.summary.image("confusion_matrix", confusion_image(test.labels, predicted)[None], step=0)
        wrong = np.flatnonzero(predicted != test.labels)[:SHOWN_IMAGES]
        names = cifar10.CLASS_NAMES
        if len(wrong):
            enlarged = test.images[wrong].repeat(4, axis=1).repeat(4, axis=2)
            titles = ", ".join(f"{names[test.labels[i]]} taken for {names[predicted[i]]}" for i in wrong)
            tf.summary.image("misclassified", enlarged, step=0, max_outputs=SHOWN_IMAGES, description=titles)
    writer.close()


def confusion_image(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The confusion matrix of class indices (n,) as a picture uint8 (height, width, 3), a row for each true class."""
    names = cifar10.CLASS_NAMES
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (labels, predicted), 1)
    cell, margin = 36, 80
    side = margin + cell * len(names)
    picture = Image.new("RGB", (side, side), "white")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=13)
    small = ImageFont.load_default(size=10)
    draw.text((4, 4), "true \\ predicted", fill="black", font=small)
    for i, name in enumerate(names):
        middle = margin + cell * i + cell // 2
        draw.text((margin - 6, middle), name, fill="black", font=font, anchor="rm")
        draw.text((middle, margin - 6 - 14 * (i % 2)), name, fill="black", font=small, anchor="mb")
        for j in range(len(names)):
            share = counts[i, j] / max(1, counts[i].sum())
            left, top = margin + cell * j, margin + cell * i
            fill = tuple(round(255 + (dark - 255) * share) for dark in (8, 48, 107))
            draw.rectangle((left, top, left + cell - 1, top + cell - 1), fill=fill)
            ink = "white" if share > 0.5 else "black"
            draw.text((left + cell // 2, top + cell // 2), str(counts[i, j]), fill=ink, font=font, anchor="mm")
    return np.asarray(picture)


def write_hparams(folder: Path, record: evidence.Record) -> None:
    """Write a run's settings and final metrics for the HParams page."""
    from tensorboard.plugins.hparams import api

    plain = (bool, int, float, str)  # All that the page can show.
    config = {name: value for name, value in record["config"].items() if value is not None}
    settings = {name: value if isinstance(value, plain) else str(value) for name, value in config.items()}
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        hparams = {"variant": record["variant"], "seed": record["seed"], **settings}
        api.hparams(hparams, trial_id=f"{record['variant']}/seed-{record['seed']}")
        for name, value in record["metrics"].items():
            tf.summary.scalar(f"final/{name}", value, step=0)
    writer.close()


def write_overview(
    folder: Path, variants: Sequence[str], seeds: Sequence[int], fields: Sequence[str], metrics: Sequence[str]
) -> None:
    """Write to an invocation's folder what the HParams and Custom Scalars pages need to lay variants side by side.

    `fields` and `metrics` are the names of HParams' columns, beside variant and seed.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.custom_scalar import summary as custom_scalar
    from tensorboard.plugins.hparams import api

    def chart(title: str, tag: str) -> Any:
        return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=[tag]))

    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(
                title="Variants over one another",
                chart=[
                    chart("accuracy", "^epoch_accuracy$"),
                    chart("loss", "^epoch_loss$"),
                    chart("learning rate at each step", "^learning_rate/by_step$"),
                ],
            ),
            layout_pb2.Category(
                title="By layer, on one probe batch an epoch",
                chart=[chart("gradient norm", "^gradient_norm/"), chart("weight norm", "^weight_norm/")],
            ),
        ]
    )
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        api.hparams_config(
            hparams=[
                api.HParam("variant", api.Discrete(list(variants))),
                api.HParam("seed", api.Discrete(list(seeds))),
                *(api.HParam(name) for name in fields),
            ],
            metrics=[
                *(api.Metric(f"final/{name}", display_name=name) for name in metrics),
                api.Metric("epoch_accuracy", group="validation", display_name="validation accuracy by epoch"),
            ],
        )
        tf.summary.experimental.write_raw_pb(custom_scalar.pb(layout).SerializeToString(), step=0)
    writer.close()


def write_text(folder: Path, name: str, markdown: str) -> None:
    """Write Markdown for the Text page."""
    writer = tf.summary.create_file_writer(str(folder), filename_suffix=f".{name}")
    with writer.as_default():
        tf.summary.text(name, markdown, step=0)
    writer.close()
