"""The callback that logs a training for TensorBoard."""

from collections.abc import Callable, Iterable, Iterator, Mapping
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

from lab.evidence.records import write_json
from lab.tensorboard import events
from lab.tensorboard.profile import STEP, WORDS, read_profile
from pipelines import sources

PROBE_IMAGES = 32
HISTOGRAM_VALUES = 4_096
MOST_KEPT_RATES = 100
FEW = 10  # Epochs: with fewer, there is no probe at the middle one.
ASKED_STEPS = 25  # Of a schedule that takes one step at a time, which takes a millisecond.
PROFILED = range(1, 11)  # Calls of Keras, which may be several steps each: call 0 traces.


class Board(keras.callbacks.Callback):
    """Logs loss, metrics, the rate of every step, gradients, weights and activations.

    The folder gets the runs `train` and `validation`. Loss and metrics are written after each epoch, the rates when the
    training ends. Norms and histograms by layer come from one small probe batch, with BatchNorm as at inference, at the
    first and the last epoch, and of ten or more at the middle one: more often, logging would take more than 3 % of a
    short training.
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
        self._constant: list[tuple[int, float]] = []  # The step that a call of Keras ended with, and its rate.
        self._mark: Any = None  # Of the step in progress, where it is profiled.
        self._inspector: Any = None

    def on_train_begin(self, logs: Any = None) -> None:
        self._begun = self._steps_done()
        with self.timing("logging"):
            if type(self.model).__name__ in ("Sequential", "Functional"):  # Others have no graph of layers.
                with events.by_product(self.folder, "graph of the model"):
                    (self.folder / events.MODEL).write_text(self.model.to_json(), encoding="utf-8")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if self.profile and self._calls in PROFILED:
            if self._calls == PROFILED[0]:
                with events.by_product(self.folder, "profile"):
                    tf.profiler.experimental.start(str(self.folder / "train"))
            # The number of the step, which no other one has: `batch` begins anew with each epoch.
            self._mark = tf.profiler.experimental.Trace(STEP, step_num=self._steps_done(), _r=1)
            self._mark.__enter__()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._mark is not None:
            self._mark.__exit__(None, None, None)
            self._mark = None
            if self._calls == PROFILED[-1]:
                with events.by_product(self.folder, "profile"):
                    tf.profiler.experimental.stop()
        self._calls += 1
        rate = _rate_of(self.model)
        if rate is not None and not isinstance(rate, schedules.LearningRateSchedule):
            self._constant.append((self._steps_done(), float(keras.ops.convert_to_numpy(rate))))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        with self.timing("logging"), events.by_product(self.folder, "curves"):
            self._epoch = epoch
            logs = logs or {}
            validation = {name[4:]: value for name, value in logs.items() if name.startswith("val_")}
            training = {name: value for name, value in logs.items() if not name.startswith("val_")}
            for part, values in (("train", training), ("validation", validation)):
                if values:
                    self._add(part, [scalar_pb(f"epoch_{name}", float(value)) for name, value in values.items()])
            epochs = self.params.get("epochs") or 1
            if epoch in (0, epochs - 1) or (epochs >= FEW and epoch == epochs // 2):
                self._write_probe()

    def on_train_end(self, logs: Any = None) -> None:
        with self.timing("logging"):
            with events.by_product(self.folder, "learning rates"):
                self._write_rates()
            if self._probed < self._epoch:  # The training ended early.
                self._write_probe()
            for file in self._files.values():
                file.close()
            if self.profile and self._calls > PROFILED[0]:
                with events.by_product(self.folder, "words on the profile"):
                    self._leave_profile()

    def _file(self, part: str) -> events.Events:
        if part not in self._files:
            self._files[part] = events.Events(self.folder / part)
        return self._files[part]

    def _add(self, part: str, summaries: Iterable[Any]) -> None:
        """Write what there is after an epoch."""
        self._file(part).add(summaries, self._epoch)
        self._file(part).flush()

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
        return int(getattr(optimizer, "_iterations", optimizer.iterations))

    def _write_rates(self) -> None:
        """Write the rate of each step, and leave some of them for the comparison."""
        steps = np.arange(self._begun, self._steps_done())
        rate = _rate_of(self.model)
        if rate is None:
            return
        if isinstance(rate, schedules.LearningRateSchedule):
            steps, rates = rates_of(rate, steps)
        else:
            ends, values = np.array(self._constant).reshape(-1, 2).T
            rates = values[np.searchsorted(ends, steps, side="right")]
        self._file("train").add_curve("learning_rate/by_step", steps, rates)
        kept: Any = np.unique(np.linspace(0, len(steps) - 1, MOST_KEPT_RATES).astype(int)) if len(steps) else []
        write_json(self.folder / events.RATES, [[int(steps[i]), float(rates[i])] for i in kept], durable=False)

    def _write_probe(self) -> None:
        self._probed = self._epoch
        with events.by_product(self.folder, f"gradients and activations of epoch {self._epoch + 1}"):
            self._add("train", self._summaries(*self.probe()))

    def _summaries(self, inputs: Any, targets: Any) -> Iterator[Any]:
        """Summarized by numpy: as TensorFlow operations they would take many times as long."""
        model = self.model
        if self._inspector is None:
            self._inspector = _inspector(model)
        with tf.GradientTape() as tape:
            predicted, activations = self._inspector(inputs)
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


def rates_of(schedule: schedules.LearningRateSchedule, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A schedule's rates float32 (n,), and the steps int (n,) that they are of.

    These are all `steps` where the schedule can be asked for all of them in one call, and else some of them: one call a
    step would take longer than many a training step.
    """
    few = steps[np.unique(np.linspace(0, len(steps) - 1, ASKED_STEPS).astype(int))] if len(steps) else steps
    try:
        found = _at_once(schedule, steps)
        checked = few[:: max(1, len(few) // 3)]
        same = [np.isclose(found[step - steps[0]], float(schedule(int(step))), rtol=1e-5) for step in checked]
        if found.shape == steps.shape and all(same):
            return steps, found
    except Exception:
        pass  # It takes one step at a time, such as by an `if`.
    return few, np.array([float(schedule(int(step))) for step in few], np.float32)


def _at_once(schedule: schedules.LearningRateSchedule, steps: np.ndarray) -> np.ndarray:
    if not isinstance(schedule, schedules.CosineDecay) or schedule.warmup_target is None:
        return np.asarray(schedule(tf.constant(steps)), np.float32)
    # With a warm-up, Keras's CosineDecay takes one step at a time. The two parts do not.
    start, peak, ramp = schedule.initial_learning_rate, schedule.warmup_target, schedule.warmup_steps
    decay = schedules.CosineDecay(peak, schedule.decay_steps, schedule.alpha)
    after = _at_once(decay, np.maximum(0, steps - ramp))
    return np.where(steps < ramp, start + (peak - start) * steps / max(1, ramp), after).astype(np.float32)


def _inspector(model: keras.Model) -> Any:
    """A function from inputs to the model's output and, where the model is a graph of layers, those layers' outputs."""
    plain = [layer for layer in model.layers if not isinstance(layer, (keras.layers.InputLayer, keras.Model))]
    try:
        named = {layer.name: layer.output for layer in plain if isinstance(layer.output, keras.KerasTensor)}
        sequential = isinstance(model, keras.Sequential)  # Which Keras does not give an `input` of its own.
        ends = (model.inputs[0], model.outputs[0]) if sequential else (model.input, model.output)
        graph = keras.Model(ends[0], [ends[1], named])
    except (AttributeError, ValueError):  # A subclassed model, or layers that its graph does not lead through.
        return lambda inputs: (model(inputs, training=False), {})
    return lambda inputs: graph(inputs, training=False)
