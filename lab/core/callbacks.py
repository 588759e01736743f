"""What watches a `fit`: where its seconds go, its curves, and when it should end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np


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
        self._epochs: list[float] = []  # Seconds of training steps, of each epoch of the last `fit`.
        self._calls: list[list[tuple[int, float]]] = []  # Of each epoch: how many steps, and how many seconds.
        self._done = 0
        self._last = 0.0

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
        if "setup" not in self.seconds:
            self.add("setup", time.perf_counter() - self.started)
        with self.timing("tracing"):
            build_early(self.model)
        self._calls, self._epochs = [], []
        self._done = int(self.model.optimizer.iterations)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._calls.append([])
        self._last = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        begun = time.perf_counter()
        if not self._calls[-1]:
            self.add("feed", begun - self._last)
        self._last = begun

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = int(self.model.optimizer.iterations)  # Keras names the step where a whole call would have ended.
        begun, self._last = self._last, time.perf_counter()
        self._calls[-1].append((done - self._done, self._last - begun))
        self._done = done

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.add("validation", time.perf_counter() - self._last)

    def on_train_end(self, logs: Any = None) -> None:
        """Divide the first call into its steps, at the pace of all later ones, and tracing."""
        self._calls = [calls for calls in self._calls if calls]
        if not self._calls:
            return
        steps, seconds = self._calls[0][0]
        later = [call for calls in self._calls for call in calls][1:]
        later_steps, later_seconds = (sum(column) for column in zip(*later, strict=True)) if later else (0, 0.0)
        tracing = max(0.0, seconds - steps * later_seconds / later_steps) if later_steps else 0.0
        self._calls[0][0] = (steps, seconds - tracing)
        self._epochs = [sum(seconds for _, seconds in calls) for calls in self._calls]
        self.steps_per_epoch = sum(steps for steps, _ in self._calls[-1])
        self.add("tracing", tracing)
        self.add("steps", sum(self._epochs))

    def epoch_seconds(self) -> float:
        """Median seconds of the training steps of an epoch, in the last `fit`."""
        return float(np.median(self._epochs or [0.0]))

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
        if logs is None:
            return
        for name in ("accuracy", "val_accuracy"):
            own = name.replace("accuracy", f"{self.output}_accuracy")
            if own in logs:
                logs[name] = logs[own]


class Curves(keras.callbacks.Callback):
    """Keeps what Keras says of each epoch: name -> values."""

    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, list[float]] = {}

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        for name, value in (logs or {}).items():
            self.values.setdefault(name, []).append(float(value))


class StopAt(keras.callbacks.Callback):
    """Ends training after the first epoch whose validation accuracy is at least `target`."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.target = target

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if (logs or {}).get("val_accuracy", 0.0) >= self.target:
            self.model.stop_training = True
