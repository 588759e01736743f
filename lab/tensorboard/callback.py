"""Everything that goes to TensorBoard."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.compat.proto import summary_pb2
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.scalar.summary_v2 import scalar_pb

from lab.evidence.records import Record, write_json
from lab.tensorboard import comparison, pictures
from lab.tensorboard.profile import STEP, WORDS, read_profile
from pipelines import sources

PROBE_IMAGES = 32
HISTOGRAM_VALUES = 4_096
RATES_AN_EPOCH = 20  # That the comparison of variants shows.
PROFILED = (2, 11)  # Calls of Keras, which may be several steps each: the first one traces.


@functools.lru_cache(maxsize=1)
def _rate_writer(schedule: keras.optimizers.schedules.LearningRateSchedule | None) -> Any:
    """A compiled function that writes the rate of each step as an event, and returns them: of a schedule, or those that
    it is given.

    As single operations, hundreds of them an epoch, this would take as long as many a training step.
    """
    metadata = scalar_metadata.create_summary_metadata(display_name=None, description="").SerializeToString()

    @tf.function(autograph=False, reduce_retracing=True)
    def write(writer: tf.Tensor, first: tf.Tensor, last: tf.Tensor, rates: tf.Tensor) -> tf.Tensor:
        def one(step: tf.Tensor, written: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            rate = rates[step - first] if schedule is None else tf.cast(schedule(step), tf.float32)
            tf.raw_ops.WriteSummary(
                writer=writer, step=step, tensor=rate, tag="learning_rate/by_step", summary_metadata=metadata
            )
            return step + 1, written.write(tf.cast(step - first, tf.int32), rate)

        written = tf.TensorArray(tf.float32, tf.cast(last - first, tf.int32))
        _, written = tf.while_loop(lambda step, _: step < last, one, [first, written], parallel_iterations=1)
        return written.stack()

    return write


class Board(keras.callbacks.TensorBoard):
    """Keras's TensorBoard callback, and what it leaves out: the rate of every step, gradients, activations.

    The folder gets `train` and `validation`. Gradient and weight norms and the histograms come once an epoch, those of
    gradients and activations from one small probe batch, with BatchNorm as at inference, so that training itself is
    left alone. They are summarized by numpy: as TensorFlow operations they would take many times as long.
    """

    def __init__(
        self,
        folder: Path,
        timing: Callable[[str], AbstractContextManager[None]],
        train: sources.Split,
        *,
        profile: bool = False,
        prepare: Callable[[Any, Any], tuple[Any, Any]] = lambda images, labels: (images, labels),
    ) -> None:
        super().__init__(log_dir=str(folder), write_graph=False, profile_batch=PROFILED if profile else 0)
        self.profile = profile
        self.timing = timing  # A context that adds what it takes to a run's seconds.
        places = np.linspace(0, len(train) - 1, min(PROBE_IMAGES, len(train))).astype(int)
        self.probe = prepare(tf.constant(train.images[places]), tf.constant(train.labels[places]))
        self._begun = self._written = 0
        self._curves: dict[str, list[float | None]] = {}  # For the comparison's log, as far as they are.
        self._shown_rates: list[tuple[int, float]] = []  # The same: step and rate.
        self._rates: list[tuple[int, float]] = []  # Of each call of Keras: up to which step, and at what rate.
        self._inspector: Any = None
        self._marker: Any = None  # Of the step in progress, where it is profiled.

    def on_train_begin(self, logs: Any = None) -> None:
        with self.timing("logging"):
            super().on_train_begin(logs)
            self._leave_model()
        self._begun = int(self.model.optimizer.iterations)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self._should_trace:  # All that Keras's own method is needed for; it takes its time at every step.
            super().on_train_batch_begin(batch, logs)
            if self._is_tracing:  # Keras does not tell the profiler where steps begin and end.
                # By the number of the step, which no other one has: `batch` begins anew with each epoch.
                self._marker = tf.profiler.experimental.Trace(STEP, step_num=self._steps_done(), _r=1)
                self._marker.__enter__()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._should_trace:
            if self._marker is not None:
                self._marker.__exit__(None, None, None)
                self._marker = None
            super().on_train_batch_end(batch, logs)
        rate = _rate_of(self.model)
        if not isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
            self._rates.append((self._steps_done(), float(rate)))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        with self.timing("logging"):
            super().on_epoch_end(epoch, logs)
            self._write_rates()
            self._write(self._probed(*self.probe), epoch)
            self._leave_curves(logs or {})

    def on_train_end(self, logs: Any = None) -> None:
        with self.timing("logging"):
            super().on_train_end(logs)
            if self.profile:
                self._leave_profile()

    def _steps_done(self) -> int:
        """Training steps since the `fit` began: a call of Keras may be several."""
        return int(self.model.optimizer.iterations) - self._begun

    def _write_rates(self) -> None:
        """Write the rate of each step since the last call; a schedule is asked for all of them at once."""
        rate = _rate_of(self.model)
        schedule = rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None
        rates: list[float] = []
        for until, constant in self._rates:
            rates += [constant] * (until - self._written - len(rates))
        done = self._steps_done()
        span = [tf.constant(step, tf.int64) for step in (self._written, done)]
        written = _rate_writer(schedule)(self._train_writer._resource, *span, tf.constant(rates, tf.float32)).numpy()
        places = np.unique(np.linspace(0, max(0, len(written) - 1), RATES_AN_EPOCH).astype(int))[: len(written)]
        self._shown_rates += [(self._written + int(place), float(written[place])) for place in places]
        self._rates, self._written = [], done

    def _leave_model(self) -> None:
        """Leave the model's layers for the comparison's log; a subclassed model has none to draw."""
        if type(self.model).__name__ in ("Sequential", "Functional"):
            (Path(self.log_dir) / comparison.MODEL).write_text(self.model.to_json(), encoding="utf-8")

    def _leave_profile(self) -> None:
        """Read what was profiled, for the Text page and for the end of the command."""
        try:
            words = read_profile(Path(self.log_dir)).words()
        except (FileNotFoundError, ValueError):  # Such as of a disk that is full: no reason to lose the training.
            return
        write_json(Path(self.log_dir) / WORDS, {"words": words}, durable=False)
        write_text(Path(self.log_dir), "profile", words)

    def _leave_curves(self, logs: Mapping[str, float]) -> None:
        """Leave what there is of the curves for the comparison's log."""
        for name, value in logs.items():
            if name in comparison.TAGS:
                self._curves.setdefault(name, []).append(float(value) if np.isfinite(value) else None)
        kept = {"curves": self._curves, "rates": self._shown_rates}
        write_json(Path(self.log_dir) / comparison.KEPT, kept, durable=False)

    def _write(self, summaries: Iterable[Any], step: int) -> None:
        """Write summaries (protocol buffers) as one event."""
        together = summary_pb2.Summary(value=[value for summary in summaries for value in summary.value])
        # The operation that `tf.summary.experimental.write_raw_pb` comes down to, at a tenth of the time.
        writer = self._train_writer._resource
        tf.raw_ops.WriteRawProtoSummary(writer=writer, step=step, tensor=together.SerializeToString())

    def _probed(self, inputs: Any, targets: Any) -> Iterator[Any]:
        model = self.model
        if self._inspector is None:
            self._inspector = _inspector(model)
        with tf.GradientTape() as tape:
            predicted, activations = self._inspector(inputs)
            loss = model.compute_loss(inputs, targets, predicted, training=False)
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


def _rate_of(model: keras.Model) -> Any:
    """The optimizer's rate, a variable or a schedule; that of the optimizer within where one scales the loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)._learning_rate


def _inspector(model: keras.Model) -> Any:
    """A function from inputs to the model's output and, where the model is a graph of layers, those layers' outputs."""
    plain = [layer for layer in model.layers if not isinstance(layer, (keras.layers.InputLayer, keras.Model))]
    try:
        named = {layer.name: layer.output for layer in plain if isinstance(layer.output, keras.KerasTensor)}
        graph = keras.Model(model.input, [model.output, named])
    except (AttributeError, ValueError):  # A subclassed model, or layers that its graph does not lead through.
        return lambda inputs: (model(inputs, training=False), {})
    return lambda inputs: graph(inputs, training=False)


def write_curve(folder: Path, name: str, values: Sequence[float]) -> None:
    """Write numbers as one series of scalars, a step for each, to the run's own folder."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, value in enumerate(values):
            tf.summary.scalar(name, value, step=step)
    writer.close()


def write_histogram(folder: Path, name: str, values: Sequence[float]) -> None:
    """Write numbers as one histogram, those that are finite, to the run's own folder."""
    finite = np.asarray(values, np.float64)
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        tf.summary.histogram(name, finite[np.isfinite(finite)], step=0)
    writer.close()


def write_predictions(folder: Path, logits: np.ndarray, test: sources.Split, names: Sequence[str]) -> None:
    """Write the confusion matrix and some misclassified test images, named, to the run's own folder."""
    predicted = logits.argmax(axis=1)
    np.save(folder / comparison.PREDICTED, predicted.astype(np.uint16))
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        tf.summary.image("confusion_matrix", pictures.confusion(test.labels, predicted, names)[None], step=0)
        wrong = np.flatnonzero(predicted != test.labels)[: pictures.SHOWN_IMAGES]
        if len(wrong):
            enlarged = pictures.enlarge(test.images[wrong])
            titles = ", ".join(f"{names[test.labels[i]]} taken for {names[predicted[i]]}" for i in wrong)
            tf.summary.image("misclassified", enlarged, step=0, max_outputs=pictures.SHOWN_IMAGES, description=titles)
    writer.close()


def write_hparams(folder: Path, record: Record) -> None:
    """Write a run's settings and final metrics for the HParams page."""
    from tensorboard.plugins.hparams import api

    plain = (bool, int, float, str)  # All that the page can show.
    config = {name: value for name, value in record["config"].items() if value is not None}
    settings = {name: value if isinstance(value, plain) else str(value) for name, value in config.items()}
    # Trials of a search, all at one seed, lie in folders such as "adam-trials/run-07"; else they would be one line.
    run, name = folder.parents[1].name, f"seed-{record['seed']}"
    if run.startswith("run-"):
        name = run.replace("run-", "trial-")
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        hparams = {"variant": record["variant"], "seed": record["seed"], **settings}
        api.hparams(hparams, trial_id=f"{record['variant']}/{name}")
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
