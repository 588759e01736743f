"""What watches a `fit`: where its seconds go, how far it is, its curves, and when it should end."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lab.evidence.records import write_json


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
    tracing      what a `fit`'s first steps take beyond the later ones
    feed         beginning an epoch's iteration; while steps run, the feed works beside them
    steps        of training; one call of Keras may do many (`steps_per_execution`), and its time counts as theirs
    validation   the end of each epoch's steps up to its callbacks

    The callers of `timing` add evaluation and logging.
    """

    def __init__(self, started: float | None = None) -> None:
        super().__init__()
        self.started = time.perf_counter() if started is None else started
        self.seconds: dict[str, float] = {}
        self.part = "main"
        self.epochs: dict[str, list[float]] = {}  # Seconds of training steps, an epoch.
        self.steps_per_epoch = 0
        self._start = self._epoch_start = self._last = 0.0
        self._calls: list[tuple[int, float]] = []  # Of the epoch: how many steps, and how many seconds.
        self._first = (0, 0.0)  # The first call of the `fit`.
        self._before = 0

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
        if not self.epochs:
            self.add("setup", time.perf_counter() - self.started)
        self.epochs[self.part] = []
        with self.timing("tracing"):
            build_early(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._calls = []
        self._epoch_start = time.perf_counter()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._before = int(self.model.optimizer.iterations)
        self._start = time.perf_counter()
        if not self._calls:
            self.add("feed", self._start - self._epoch_start)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        done = int(self.model.optimizer.iterations)  # Keras names the step where a whole call would have ended.
        self._last = time.perf_counter()
        self._calls.append((done - self._before, self._last - self._start))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.add("validation", time.perf_counter() - self._last)
        self.steps_per_epoch = sum(steps for steps, _ in self._calls)
        if epoch == 0:
            self._first = self._calls.pop(0)
        self.epochs[self.part].append(sum(seconds for _, seconds in self._calls))
        self.add("steps", self.epochs[self.part][-1])
        if epoch == 0 and self._calls:  # Else what the first call took is told apart once there is another.
            self._settle_first(sum(steps for steps, _ in self._calls), self.epochs[self.part][0])
        elif epoch == 1 and self._first[0]:
            self._settle_first(self.steps_per_epoch, self.epochs[self.part][1])

    def on_train_end(self, logs: Any = None) -> None:
        if self._first[0]:  # A single call: nothing tells its steps from their tracing.
            self.add("steps", self._first[1])
            self.epochs[self.part][0] += self._first[1]
            self._first = (0, 0.0)

    def _settle_first(self, steps: int, seconds: float) -> None:
        """Divide the first call's seconds into its steps, at the pace of later ones, and tracing."""
        typical = min(self._first[1], self._first[0] * seconds / steps)
        self.add("tracing", self._first[1] - typical)
        self.add("steps", typical)
        self.epochs[self.part][0] += typical
        self._first = (0, 0.0)

    def epoch_seconds(self) -> float:
        """Median seconds of the training steps of an epoch, in the part of the run at hand."""
        return float(np.median(self.epochs.get(self.part) or [0.0]))

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


class Progress(keras.callbacks.Callback):
    """Says after each epoch how far a run is, for whoever watches it."""

    def __init__(self, path: Path, part: str) -> None:
        super().__init__()
        self.path, self.part = path, part

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        accuracy = float((logs or {}).get("val_accuracy", (logs or {}).get("accuracy", 0.0)))
        progress = {"part": self.part, "epoch": epoch + 1, "epochs": self.params["epochs"]}
        write_json(self.path, progress | {"accuracy": accuracy if np.isfinite(accuracy) else None}, durable=False)


class StopAt(keras.callbacks.Callback):
    """Ends training after the first epoch whose validation accuracy is at least `target`."""

    def __init__(self, target: float) -> None:
        super().__init__()
        self.target = target

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        if (logs or {}).get("val_accuracy", 0.0) >= self.target:
            self.model.stop_training = True
