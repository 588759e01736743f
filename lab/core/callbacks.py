"""What watches a `fit`: where its seconds go, and when it should end."""

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf


def answers_with_logits(model: keras.Model) -> bool:
    """Whether a model's one output is a row of logits an image: then its metrics can be shown an example."""
    outputs = getattr(model, "outputs", None) or []  # A subclassed model does not know its own.
    sparse = isinstance(model.loss, keras.losses.SparseCategoricalCrossentropy)  # Of whole-number labels (batch,).
    return sparse and len(outputs) == 1 and len(outputs[0].shape) == 2


def build_early(model: keras.Model) -> None:
    """Make the optimizer's and the metrics' variables before the first step.

    Left alone, Keras makes them while the first step is traced, and TensorFlow, which allows a function new variables
    only once, then traces the whole step again: up to a third of a short training. No number changes.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    if not all(getattr(metric, "built", True) for metric in model.metrics):
        model.compute_metrics(None, np.zeros(1, np.int32), np.zeros((1, model.outputs[0].shape[1]), np.float32))
        model.reset_metrics()


def validate_by_batch(model: keras.Model) -> None:
    """Let a `fit` of several steps a call validate one batch a call, which gives the same numbers.

    Validation has few batches. Keras's loop of `steps_per_execution` around them takes as long to trace as they take.
    """
    if model.test_function or model.run_eagerly or model.steps_per_execution == 1 or tf.distribute.has_strategy():
        return

    @tf.function(autograph=False, reduce_retracing=True, jit_compile=model.jit_compile)
    def one_batch(batch: Any) -> Any:
        return model.test_step(batch)

    def test_function(iterator: Iterator) -> Any:
        logs = [one_batch(batch) for batch in itertools.islice(iterator, model.steps_per_execution)]
        if not logs:
            raise StopIteration
        return logs[-1]

    model.test_function = test_function


class Stopwatch(keras.callbacks.Callback):
    """Where the seconds of a run go, from `started` on, a time of `time.perf_counter`.

    setup        up to the first `fit`: images, feed, model
    tracing      what a `fit`'s first call of Keras takes beyond the later ones; a single call is all steps
    feed         beginning an epoch's iteration; while steps run, the feed works beside them
    steps        of training; one call may do many (`steps_per_execution`)
    validation   the end of each epoch's steps up to its callbacks

    The callers of `timing` add evaluation and logging.
    """

    def __init__(self, started: float | None = None) -> None:
        super().__init__()
        self.started = time.perf_counter() if started is None else started
        self.seconds: dict[str, float] = {}
        self.steps_per_epoch = 0
        self._epochs = [0.0]  # Seconds of training steps, of each epoch of the last `fit`.
        self._calls: list[tuple[int, int, float]] = []  # Of each call of the last `fit`: its epoch, steps and seconds.
        self._epoch = self._done = 0
        self._last = 0.0

    @contextmanager
    def timing(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add(name, time.perf_counter() - start)

    def _add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def on_train_begin(self, logs: Any = None) -> None:
        if "setup" not in self.seconds:
            self._add("setup", time.perf_counter() - self.started)
        with self.timing("tracing"):
            if answers_with_logits(self.model):
                build_early(self.model)
                validate_by_batch(self.model)
        self._calls = []
        self._done = self._steps_done()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._last = epoch, time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        begun = time.perf_counter()
        if batch == 0:
            self._add("feed", begun - self._last)
        self._last = begun

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = self._steps_done()  # Keras names the step where a whole call would have ended.
        begun, self._last = self._last, time.perf_counter()
        self._calls.append((self._epoch, done - self._done, self._last - begun))
        self._done = done

    def _steps_done(self) -> int:
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))  # Each replica may have a copy.

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._add("validation", time.perf_counter() - self._last)

    def on_train_end(self, logs: Any = None) -> None:
        """Divide the first call into its steps, at the pace of all later ones, and tracing."""
        if not self._calls:
            return
        epochs, steps, seconds = np.array(self._calls).T
        later = steps[1:].sum()
        tracing = max(0.0, seconds[0] - steps[0] * seconds[1:].sum() / later) if later else 0.0
        seconds[0] -= tracing
        self._epochs = [seconds[epochs == epoch].sum() for epoch in np.unique(epochs)]
        self.steps_per_epoch = int(steps[epochs == self._epoch].sum())
        self._add("tracing", tracing)
        self._add("steps", float(seconds.sum()))

    def epoch_seconds(self) -> float:
        """Median seconds of the training steps of an epoch, in the last `fit`."""
        return float(np.median(self._epochs))

    def images_per_second(self, batch_size: int) -> float:
        """Images through the training steps a second, tracing, validation and logging apart."""
        seconds = self.epoch_seconds()
        return self.steps_per_epoch * batch_size / seconds if seconds else 0.0


class MainOutput(keras.callbacks.Callback):
    """Calls the accuracy of one of a model's outputs the accuracy, for the callbacks after it."""

    def __init__(self, output: str) -> None:
        super().__init__()
        self.output = output

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        given = logs if logs is not None else {}
        for before in ("", "val_"):
            if f"{before}{self.output}_accuracy" in given:
                given[f"{before}accuracy"] = given[f"{before}{self.output}_accuracy"]


class StopAt(keras.callbacks.Callback):
    """Ends training after the first epoch whose validation accuracy is at least `target`."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.target = target

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if (logs or {}).get("val_accuracy", 0.0) >= self.target:
            self.model.stop_training = True
