"""The callback that logs a training for TensorBoard."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules
from tensorboard.plugins.histogram.summary_v2 import histogram_pb
from tensorboard.plugins.scalar.summary_v2 import scalar_pb
from tensorboard.plugins.text.summary_v2 import text_pb

from lab.evidence.records import by_product, write_json
from lab.tensorboard import events
from lab.tensorboard.profile import STEP, WORDS, read_profile
from pipelines import sources

PROBE_IMAGES = 32
HISTOGRAM_VALUES = 4_096
MOST_RATES = 40  # Asking a schedule for one takes a millisecond.
FEW = 10  # Epochs: with fewer, there is no probe at the middle one.
PROFILED = range(1, 11)  # Calls of Keras, which may be several steps each: call 0 traces.


class Board(keras.callbacks.Callback):
    """Logs loss, metrics, learning rates, gradients, weights and activations.

    The folder gets the runs `train` and `validation`. Loss and metrics are written after each epoch, the rates of up to
    40 steps when the training ends. Norms and histograms by layer come from one small probe batch, with BatchNorm as
    at inference, at the first and the last epoch, and of ten or more at the middle one: more often, logging would take
    more than 3 % of a short training.
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
        """`timing("logging")` is a context that adds what logging takes to a run's seconds."""
        super().__init__()
        self.folder, self.timing, self.profile = folder, timing, profile
        places = np.linspace(0, len(train) - 1, min(PROBE_IMAGES, len(train))).astype(int)
        self.probe = lambda: prepare(tf.constant(train.images[places]), tf.constant(train.labels[places]))
        self._files: dict[str, events.Events] = {}
        self._begun = self._calls = 0
        self._epoch = self._probed = -1
        self._rates: list[tuple[int, float]] = []  # The first step of each call of Keras, and its rate.
        self._mark: Any = None  # Of the step in progress, where it is profiled.

    def on_train_begin(self, logs: Any = None) -> None:
        self._begun = self._steps_done()
        if type(self.model).__name__ in ("Sequential", "Functional"):  # Others have no graph of layers.
            with self.timing("logging"), by_product(self.folder, "graph of the model"):
                (self.folder / events.MODEL).write_text(self.model.to_json(), encoding="utf-8")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        rate = _rate_of(self.model)
        if rate is not None and not isinstance(rate, schedules.LearningRateSchedule):
            self._rates.append((self._steps_done(), float(keras.ops.convert_to_numpy(rate))))
        if self.profile and self._calls in PROFILED:
            if self._calls == PROFILED[0]:
                with by_product(self.folder, "profile"):
                    tf.profiler.experimental.start(str(self.folder / "train"))
            # The number of the step, which no other one has: `batch` begins anew with each epoch.
            self._mark = tf.profiler.experimental.Trace(STEP, step_num=self._steps_done(), _r=1)
            self._mark.__enter__()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
            if self._calls == PROFILED[-1]:
                with by_product(self.folder, "profile"):
                    tf.profiler.experimental.stop()
        self._calls += 1

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._epoch = epoch
        with self.timing("logging"), by_product(self.folder, "curves"):
            for name, value in (logs or {}).items():
                part = "validation" if name.startswith("val_") else "train"
                self._file(part).add([scalar_pb(f"epoch_{name.removeprefix('val_')}", float(value))], epoch)
            for file in self._files.values():
                file.flush()
        epochs = self.params.get("epochs") or 1
        if epoch == 0 or (epochs >= FEW and epoch == epochs // 2):
            self._write_probe()

    def on_train_end(self, logs: Any = None) -> None:
        if self._probed < self._epoch:
            self._write_probe()
        with self.timing("logging"), by_product(self.folder, "learning rates"):
            if rates := self._rates_by_step():
                self._file("train").add_curve("learning_rate/by_step", *zip(*rates, strict=True))
                write_json(self.folder / events.RATES, rates, durable=False)
            for file in self._files.values():
                file.close()
        if self.profile and self._calls > PROFILED[0]:
            with self.timing("logging"), by_product(self.folder, "words on the profile"):
                self._leave_profile()

    def _file(self, part: str) -> events.Events:
        if part not in self._files:
            self._files[part] = events.Events(self.folder / part)
        return self._files[part]

    def _leave_profile(self) -> None:
        """Say what was profiled, for the Text page and for the end of the command."""
        if self._calls <= PROFILED[-1]:
            tf.profiler.experimental.stop()
        words = read_profile(self.folder).words()
        write_json(self.folder / WORDS, {"words": words}, durable=False)
        with events.written(self.folder) as own:
            own.add([text_pb("profile", words)])

    def _steps_done(self) -> int:
        """The steps that the optimizer has made: a call of Keras may be several."""
        optimizer = _optimizer_of(self.model)
        # Where gradients are accumulated, `iterations` counts updates, and a schedule is asked for each batch.
        return int(keras.ops.convert_to_numpy(getattr(optimizer, "_iterations", optimizer.iterations)))

    def _rates_by_step(self) -> list[tuple[int, float]]:
        """Up to `MOST_RATES` steps, the first and the last among them, and the rate at each."""
        rate = _rate_of(self.model)
        if isinstance(rate, schedules.LearningRateSchedule):
            return [(step, float(rate(step))) for step in _some(range(self._begun, self._steps_done()))]
        return _some(self._rates)

    def _write_probe(self) -> None:
        self._probed = self._epoch
        what = f"gradients and activations of epoch {self._epoch + 1}"
        with self.timing("logging"), by_product(self.folder, what):
            self._file("train").add(self._summaries(*self.probe()), self._epoch)
            self._file("train").flush()

    def _summaries(self, inputs: Any, targets: Any) -> Iterator[Any]:
        """Summarized by numpy: as TensorFlow operations they would take many times as long."""
        model = self.model
        with tf.GradientTape() as tape:
            predicted, activations = _inspector(model)(inputs, training=False)
            loss = model.compute_loss(inputs, targets, predicted, training=False)
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        squares: dict[str, float] = {}
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            path, weights = variable.path.removeprefix(f"{model.name}/"), keras.ops.convert_to_numpy(variable)
            layer = path.rpartition("/")[0] or path
            yield histogram_pb(f"weights/{path}", weights)
            norms = {f"weight_norm/{layer}": weights}
            if gradient is not None:  # An embedding's, of the rows that were looked up, becomes dense.
                norms[f"gradient_norm/{layer}"] = np.asarray(tf.convert_to_tensor(gradient))
            for tag, array in norms.items():
                squares[tag] = squares.get(tag, 0.0) + float(np.sum(np.square(array, dtype=np.float64)))
        for tag, square in squares.items():
            yield scalar_pb(tag, square**0.5)
        for layer, output in activations.items():
            values = np.asarray(output, np.float32).ravel()
            yield histogram_pb(f"activations/{layer}", values[:: 1 + len(values) // HISTOGRAM_VALUES])


def _optimizer_of(model: keras.Model) -> Any:
    """The optimizer that has the rate and counts its steps: the one within where another scales the loss."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer)


def _rate_of(model: keras.Model) -> Any:
    """A variable or a schedule; None of an optimizer of another kind than Keras's."""
    return getattr(_optimizer_of(model), "_learning_rate", None)


def _some(items: Sequence[Any]) -> list[Any]:
    """Up to `MOST_RATES` of them, evenly spaced."""
    return [items[place] for place in np.linspace(0, len(items) - 1, min(MOST_RATES, len(items))).astype(int)]


def _inspector(model: keras.Model) -> Callable[..., Any]:
    """A function from inputs to the model's output and, where the model is a graph of layers, those layers' outputs."""
    plain = [layer for layer in model.layers if not isinstance(layer, (keras.layers.InputLayer, keras.Model))]
    try:
        named = {layer.name: layer.output for layer in plain if isinstance(layer.output, keras.KerasTensor)}
        sequential = isinstance(model, keras.Sequential)  # Which Keras does not give an `input` of its own.
        ends = (model.inputs[0], model.outputs[0]) if sequential else (model.input, model.output)
        return keras.Model(ends[0], [ends[1], named])
    except (AttributeError, ValueError):  # A subclassed model, or layers that its graph does not lead through.
        return lambda inputs, training: (model(inputs, training=training), {})
