"""`Run`: what one training receives, and what it hands back."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from lab.core import scoring, timing
from lab.core.callbacks import MainOutput, StopAt, Stopwatch
from lab.core.log import Log
from pipelines import sources


@dataclass
class Run:
    """One variant at one seed.

    A recipe reads `seed` and `data`, gives `callbacks()` to every `fit`, and returns the metrics that it wants
    recorded, most of them from `scores` and `epochs_to_target`. All accuracies are fractions in [0, 1].
    """

    variant: str
    seed: int
    data: sources.Request
    config: Any
    folder: Path
    log: Log = field(default_factory=Log)
    save: Path | None = None  # A file for the trained model.
    watch: Stopwatch = field(default_factory=Stopwatch)
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    correct: np.ndarray | None = None  # Whether each test image was classified correctly, bool (n,).
    weights: str | None = None  # A hash of the weights that were scored.
    blocks: list[dict[str, Any]] = field(default_factory=list)  # Of each timed block, how disturbed it was.
    diverged: bool = False
    build_model: Callable[..., Any] | None = None  # The reader's own, in the place of the recipe's.
    bound: Any = None  # The variant's function with all its arguments, where variants are partial functions.
    _history: keras.callbacks.History | None = None  # Of the last `fit`.
    _test_was_read: bool = False

    @property
    def logging(self) -> bool:
        """Whether anything that the run leaves beside its record is looked at."""
        return self.log.shows

    def callbacks(
        self,
        data: sources.Data,
        part: str = "",
        *,
        until: float | None = None,
        prepare: scoring.Prepare = scoring.as_they_are,
        output: str = "",
    ) -> list:
        """Keras callbacks for one `fit`: the log, timing, and an end as soon as the loss is not finite.

        Args:
            data: some of its training images are used for gradient norms and activation histograms.
            part: a name for this training where a run has several; its logs go to a folder of that name.
            until: stop after the first epoch whose validation accuracy is at least this; None trains to the end.
            prepare: what the feed makes of images and labels, where the model takes or answers something else.
            output: the one of several outputs, by name, whose accuracy is the run's.

        Raises:
            RuntimeError: the test set has been read already: what is trained now could have seen it.
        """
        if self._test_was_read:
            raise RuntimeError("a training may not begin after the test set was read")
        self._history = keras.callbacks.History()
        return [
            self.watch,
            keras.callbacks.TerminateOnNaN(),
            *([MainOutput(output)] if output else []),
            self._history,
            *self.log.callbacks(part, self.watch.timing, data.train, prepare),
            *([] if until is None else [StopAt(until)]),
        ]

    def scores(
        self,
        model: keras.Model,
        data: sources.Data,
        *,
        prepare: scoring.Prepare = scoring.as_they_are,
        output: str = "",
    ) -> dict[str, float]:
        """Score the model with the weights that it has now, restored ones included. This reads the test set, once.

        `test_accuracy`, `validation_accuracy` and `train_accuracy` (clean images), `generalization_gap` (train minus
        test), `test_loss`, and for information `images_per_second` of the training steps.
        """
        self._keep_curves()
        with self.watch.timing("evaluation"):
            found = scoring.score(model, data, self.open_test_set(data), prepare, output)
        self.diverged |= None in self.curves.get("loss", []) or not found.finite
        if self.diverged:  # Whatever NaN happens to be the argmax of, the model knows nothing.
            return self.worst(data)
        self.correct = found.correct
        self.weights = scoring.digest_of(model)
        with self.watch.timing("logging"):
            self.log.predictions(found.logits)
        if self.save:
            self.save.parent.mkdir(parents=True, exist_ok=True)
            model.save(self.save)
        validation = self.curves.get("val_accuracy") or [None]
        last = {} if validation[-1] is None else {"validation_accuracy": validation[-1]}
        speed = self.watch.images_per_second(getattr(self.config, "batch_size", 1))
        return {**found.metrics, **last, "images_per_second": speed}

    def epochs_to_target(self, target: float | None, data: sources.Data) -> dict[str, float]:
        """Epochs and seconds of the last training until validation accuracy was at `target`, interpolated in between.

        The curve starts at chance. A target that was not reached counts as all the epochs that there were, and
        `target_reached` says 0 instead of 1. Seconds are of training steps alone. Without a target, nothing.
        """
        self._keep_curves()
        if target is None:
            return {}
        accuracies = [value or 0.0 for value in self.curves.get("val_accuracy", [])]
        taken = scoring.epochs_to(target, accuracies, scoring.chance(data))
        epochs = float(len(accuracies)) if taken is None else taken
        return {
            "epochs_to_target": epochs,
            "seconds_to_target": epochs * self.watch.epoch_seconds(),
            "target_reached": float(taken is not None),
        }

    def open_test_set(self, data: sources.Data) -> sources.Split:
        """The test images, for what is measured after the last epoch; from now on nothing can be trained."""
        self._test_was_read = True
        with sources.test_set(closed=False):
            return data.test

    def interleaved(self, steps: Mapping[str, timing.Step], *, rounds: int = 1, **shape: int) -> timing.Blocks:
        """Time each variant's `step()` in blocks, as `timing.interleaved`, and record how disturbed they were."""
        blocks = timing.interleaved(steps, rounds=rounds, seed=self.seed, **shape)
        self.blocks += blocks.disturbances
        return blocks

    def undisturbed(self, work: Callable[[int], tuple[timing.Result, float]], again: int) -> timing.Result:
        """What `work(attempt)`, which times itself, found where it was disturbed least, as `timing.undisturbed`."""
        found, others, repeated = timing.undisturbed(work, again)
        self.blocks.append({"variant": self.variant, "others": round(others, 4), "again": repeated})
        return found

    def keep_histogram(self, name: str, values: Sequence[float]) -> None:
        """Show numbers in TensorBoard, as one histogram and, a step for each, as a curve; nothing is recorded."""
        self.log.curve(f"{name}/by_step", values)
        self.log.histogram(name, values)

    def keep(self, name: str, values: Sequence[float]) -> None:
        """Record a curve, numbers in order: in the evidence, for the figure, and in TensorBoard, a step for each."""
        self.curves[name] = _finite(values)
        self.log.curve(name, values)

    def worst(self, data: sources.Data) -> dict[str, float]:
        """What a diverged run counts as: chance accuracy on everything."""
        self.diverged = True
        accuracies = ("test_accuracy", "validation_accuracy", "train_accuracy")
        return {**dict.fromkeys(accuracies, scoring.chance(data)), "generalization_gap": 0.0}

    def _keep_curves(self) -> None:
        for name, values in self._history.history.items() if self._history else ():
            self.curves[name] = _finite(values)


def _finite(values: Sequence[float]) -> list[float | None]:
    """The values, with None for what is not finite: JSON has no NaN."""
    return [float(value) if math.isfinite(value) else None for value in values]
