"""`Run`: what one training receives, and what it hands back."""

import json
import math
import os
import re
import shutil
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipelines import cifar10
from recipes.harness import board, evidence
from recipes.harness.tuning import Factorial

CHANCE = 1 / len(cifar10.CLASS_NAMES)
PREDICT_BATCH = 500


@dataclass(frozen=True, eq=False)
class Task:
    """One unit of work, made of names and numbers only, so that it travels to any worker.

    `variants` holds one name for a recipe of `train`, and all of them for a recipe of `compare`. `log` is the file that
    a local worker prints to.
    """

    module: str
    variants: tuple[str, ...]
    seed: int
    config: Mapping[str, Any]
    data: cifar10.Request
    folder: str
    logging: bool = True
    profile: bool = False
    intra_op_threads: int | None = 1
    log: str = os.devnull

    @property
    def name(self) -> str:
        """Short and unique in an invocation: "adam seed 3"."""
        return f"{'+'.join(self.variants)} seed {self.seed}"


@dataclass
class Run:
    """One variant at one seed.

    A recipe reads `seed` and `data`, gives `callbacks()` to every `fit`, and returns the metrics that it wants
    recorded, most of them from `scores` and `time_to_target`. All accuracies are fractions in [0, 1].
    """

    variant: str
    seed: int
    data: cifar10.Request
    config: Any
    folder: Path
    logging: bool = True
    profile: bool = False
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    correct: np.ndarray | None = None
    diverged: bool = False
    watch: board.Stopwatch = field(default_factory=lambda: board.Stopwatch())

    def callbacks(self, part: str = "", *, until: float | None = None, probe: cifar10.Split | None = None) -> list:
        """Keras callbacks for one `fit`: TensorBoard, progress, timing, and an end as soon as the loss is not finite.

        Args:
            part: a name for this training where a run has several; its logs go to a folder of that name.
            until: stop after the first epoch whose validation accuracy is at least this.
            probe: training images, of which a few are used each epoch for gradient norms and activation histograms.
        """
        import keras

        self.watch.part = part or "main"
        callbacks: list[keras.callbacks.Callback] = [self.watch, keras.callbacks.TerminateOnNaN()]
        if self.logging:
            callbacks.append(board.Board(self.folder / part, self.watch, probe, profile=self.profile))
        if until is not None:
            callbacks.append(board.StopAt(until))
        callbacks.append(board.Progress(self.folder / "progress.json", part))
        return callbacks

    def time_to_target(self, history: Any, target: float, epochs: int) -> dict[str, float]:
        """Epochs and seconds of training until validation accuracy reached `target`, interpolated between epochs.

        The curve starts at chance. A target that is not reached counts as `epochs`, all that were allowed, and
        `target_reached` says 0 instead of 1. Seconds exclude tracing, validation and logging.
        """
        self._keep_curves(history, "race_")
        curve = [CHANCE, *history.history.get("val_accuracy", [])]
        reached = next((i for i, accuracy in enumerate(curve) if i and accuracy >= target), None)
        taken = float(epochs)
        if reached is not None:
            before, after = curve[reached - 1], curve[reached]
            taken = reached - 1 + (target - before) / (after - before) if after > before else float(reached)
        return {
            "epochs_to_target": taken,
            "seconds_to_target": taken * self.watch.epoch_seconds(),
            "target_reached": float(reached is not None),
        }

    def scores(self, model: Any, history: Any, data: cifar10.Data) -> dict[str, float]:
        """Metrics of the model as the last epoch left it; reads the test set, once.

        `test_accuracy`, `validation_accuracy` and `train_accuracy` (clean images), `generalization_gap` (train minus
        test), `test_loss`, and for information `images_per_second` of the training steps.
        """
        self._keep_curves(history)
        start = time.perf_counter()
        losses = history.history.get("loss", [])
        parts = {"train": data.train, "test": data.test}
        logits = {name: model.predict(part.images, PREDICT_BATCH, verbose=0) for name, part in parts.items()}
        self.diverged |= not np.isfinite(losses).all() or not all(np.isfinite(out).all() for out in logits.values())
        hits = {name: logits[name].argmax(axis=1) == part.labels for name, part in parts.items()}
        if self.diverged:  # Whatever NaN happens to be the argmax of, the model knows nothing.
            return self.worst()
        self.correct = hits["test"]
        accuracy = {f"{name}_accuracy": float(hit.mean()) for name, hit in hits.items()}
        metrics = {
            **accuracy,
            "validation_accuracy": history.history["val_accuracy"][-1],
            "generalization_gap": accuracy["train_accuracy"] - accuracy["test_accuracy"],
            "test_loss": _cross_entropy(logits["test"], data.test.labels),
            "images_per_second": self.watch.images_per_second(getattr(self.config, "batch_size", 1)),
        }
        self.watch.add("evaluation", time.perf_counter() - start)
        if self.logging:
            with self.watch.timing("logging"):
                board.write_predictions(self.folder, logits["test"], data.test)
        return metrics

    def keep(self, name: str, values: Sequence[float]) -> None:
        """Record a curve, numbers in order: in the evidence, for the figure, and in TensorBoard, a step for each."""
        self.curves[name] = _finite(values)
        if self.logging:
            board.write_curve(self.folder, name, values)

    def worst(self) -> dict[str, float]:
        """What a diverged run counts as: chance accuracy on everything."""
        self.diverged = True
        accuracies = dict.fromkeys(("test_accuracy", "validation_accuracy", "train_accuracy"), CHANCE)
        return {**accuracies, "generalization_gap": 0.0}

    def _keep_curves(self, history: Any, prefix: str = "") -> None:
        for name, values in history.history.items():
            self.curves[prefix + name] = _finite(values)


def _finite(values: Sequence[float]) -> list[float | None]:
    """The values, with None for what is not finite: JSON has no NaN."""
    return [float(value) if math.isfinite(value) else None for value in values]


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    from scipy.special import log_softmax

    return float(-log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean())


def carry_out(task: Task) -> list[evidence.Record]:
    """Do `task` in this process and return one record for each of its variants. Never raises for what a recipe does."""
    import importlib

    from recipes.harness.memory import PeakMemory

    start = time.perf_counter()
    peak = PeakMemory()
    runs: dict[str, Run] = {}
    try:
        import keras
        import tensorflow as tf
        import threadpoolctl

        if task.intra_op_threads:  # Also where workers are many: thread counts change the order of sums.
            tf.config.threading.set_intra_op_parallelism_threads(task.intra_op_threads)
            threadpoolctl.threadpool_limits(task.intra_op_threads)
        if evidence.gpus():
            tf.config.experimental.enable_op_determinism()
        recipe = importlib.import_module(task.module).RECIPE
        table = recipe.table if task.variants == (Factorial.VARIANT,) else None
        config = dict(task.config) if table else recipe.config(**task.config)
        for variant in task.variants:
            folder = Path(task.folder) / variant / f"seed-{task.seed}"
            shutil.rmtree(folder, ignore_errors=True)  # What an attempt that was killed has left.
            folder.mkdir(parents=True)
            runs[variant] = Run(variant, task.seed, task.data, config, folder, task.logging, task.profile)
        keras.utils.set_random_seed(task.seed)
        if table:
            (run,) = runs.values()
            metrics = {run.variant: table.train(config, run)}
        elif recipe.train is not None:
            (run,) = runs.values()
            metrics = {run.variant: recipe.train(run.variant, config, run)}
        else:
            metrics = recipe.compare(config, runs)
        cause = None
    except Exception as error:
        traceback.print_exc()  # To the worker's log file.
        metrics, cause = {variant: {} for variant in task.variants}, explain(error)
    seconds = time.perf_counter() - start
    records = []
    for variant in task.variants:
        done = runs.get(variant)
        diverged = done is not None and (done.diverged or not all(map(math.isfinite, metrics[variant].values())))
        record = {
            "variant": variant,
            "seed": task.seed,
            "config": dict(task.config),
            "status": "failed" if cause else "diverged" if diverged else "finished",
            "cause": cause or ("the loss or the outputs were not finite" if diverged else None),
            "metrics": {name: value for name, value in metrics[variant].items() if math.isfinite(value)},
            "curves": done.curves if done else {},
            "correct": evidence.pack_bits(done.correct) if done and done.correct is not None else None,
            "seconds": {"total": seconds} | (done.watch.seconds if done else {}),
            "peak_memory_mib": peak.mib() if len(task.variants) == 1 else None,  # Of several it would be one number.
        }
        if done and task.logging:
            board.write_hparams(done.folder, record)
        records.append(record)
    return records


def failed(task: Task, cause: str) -> list[evidence.Record]:
    """The records of a task that left none itself, because its worker died."""
    return [
        {
            "variant": variant,
            "seed": task.seed,
            "config": dict(task.config),
            "status": "failed",
            "cause": cause,
            "metrics": {},
            "curves": {},
            "correct": None,
            "seconds": {},
            "peak_memory_mib": None,
        }
        for variant in task.variants
    ]


def explain(error: BaseException) -> str:
    """One line that says why a run failed."""
    name = type(error).__name__
    if isinstance(error, MemoryError) or name == "ResourceExhaustedError":
        return f"out of memory ({name})"
    text = re.sub(r"\x1b\[[0-9;]*m", "", " ".join(str(error).split()))  # Keras prints in bold.
    return f"{name}: {text[:300]}" if text else name


def read_progress(folder: Path, variant: str, seed: int) -> dict[str, Any]:
    """What a run in flight last said of itself: its epoch and accuracy. Empty before the first epoch's end."""
    try:
        return json.loads((folder / variant / f"seed-{seed}" / "progress.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
