"""Recompute what a run says of its models: from the model itself and from the named part of the data.

`watch` notes every `fit` and every `run.scores` while it is open. Right after each, the model is asked again with
plain Keras and numpy, on images that were loaded here and not handed over by what is tested.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.core.run import Run
from lab.evidence.schemas import unpack_bits
from pipelines import sources, splits

BATCH = 500  # That of `batches.evaluation`: what a model is given may depend on its batch.
Prepare = Callable[[Any, Any], tuple[Any, Any]]


@dataclass
class Fit:
    """One call of `fit`: its history, and what the model that it left says of the validation part."""

    model: keras.Model
    history: Mapping[str, Sequence[float]]
    returned: int  # The epoch whose weights the model has now.
    validation: Mapping[str, float]


@dataclass
class Scored:
    """One call of `run.scores`: what it returned, and the same worked out here."""

    run: Run
    returned: Mapping[str, float]
    recomputed: Mapping[str, float]
    correct: np.ndarray
    validation: Mapping[str, float]
    returned_epoch: int  # The place in the curves of the epoch whose weights were scored.


@dataclass
class Watched:
    """What happened, in order."""

    fits: list[Fit] = field(default_factory=list)
    scored: list[Scored] = field(default_factory=list)


def as_they_are(images: Any, labels: Any) -> tuple[Any, Any]:
    return images, labels


@contextmanager
def watch(request: sources.Request, seed: int) -> Iterator[Watched]:
    """Note all trainings and scores of runs on the images of `request`; of `seed`, where a training has no callbacks
    of its run."""
    found = Watched()
    latest: tuple[int, Prepare, str] = (seed, as_they_are, "")  # Of the run whose callbacks were asked for last.
    images = functools.cache(lambda seed: sources.load(splits.with_split_seed(request, seed)))
    fit, scores, callbacks = keras.Model.fit, Run.scores, Run.callbacks

    def noted_callbacks(run: Run, *arguments: Any, **settings: Any) -> list:
        nonlocal latest
        latest = run.seed, settings.get("prepare", as_they_are), settings.get("output", "")
        return callbacks(run, *arguments, **settings)

    def noted_fit(model: keras.Model, *arguments: Any, **settings: Any) -> Any:
        done = fit(model, *arguments, **settings)
        shape = getattr(model, "input_shape", None)
        of_a_table = isinstance(shape, tuple) and len(shape) == 2
        if settings.get("validation_data") is not None and not of_a_table:
            returned = epoch_of(settings.get("callbacks") or [], done.history)
            of_it = evaluated(model, images(latest[0]).validation, *latest[1:])
            found.fits.append(Fit(model, done.history, returned, of_it))
        return done

    def noted_scores(run: Run, model: keras.Model, own: sources.Data, **settings: Any) -> dict[str, float]:
        returned = scores(run, model, own, **settings)
        prepare, output = settings.get("prepare", as_they_are), settings.get("output", "")
        data = images(run.seed)
        with sources.test_set(closed=False):
            test = data.test
        validated = any(done.model is model for done in found.fits)
        # What nothing was validated on may be trained on.
        assert set(own.train.ids) <= {*data.train.ids, *(() if validated else data.validation.ids)}
        assert list(own.validation.ids) == list(data.validation.ids)
        few = own.train.take(np.linspace(0, len(own.train) - 1, min(len(own.train), len(test))).astype(int))
        on_train, on_test = (logits_of(model, part, prepare, output) for part in (few, test))
        right = on_test.argmax(axis=1) == test.labels
        recomputed = {
            "train_accuracy": float((on_train.argmax(axis=1) == few.labels).mean()),
            "test_accuracy": float(right.mean()),
            "test_loss": cross_entropy(on_test, test.labels),
        }
        recomputed["generalization_gap"] = recomputed["train_accuracy"] - recomputed["test_accuracy"]
        of_it = evaluated(model, data.validation, prepare, output)
        epochs = [done.returned for done in found.fits if done.model is model] or [-1]
        found.scored.append(Scored(run, returned, recomputed, right, of_it, epochs[-1]))
        return returned

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keras.Model, "fit", noted_fit)
        patched.setattr(Run, "scores", noted_scores)
        patched.setattr(Run, "callbacks", noted_callbacks)
        yield found


def epoch_of(callbacks: Sequence[Any], history: Mapping[str, Sequence[float]]) -> int:
    """The place of the epoch whose weights a `fit` should leave: the last, unless a callback puts back the best."""
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.EarlyStopping) and callback.restore_best_weights:
            values = np.asarray(history[callback.monitor])
            return int(values.argmin() if callback.monitor.endswith("loss") else values.argmax())
    return len(next(iter(history.values()))) - 1


def evaluated(model: keras.Model, part: sources.Split, prepare: Prepare, output: str) -> dict[str, float]:
    """Keras's own loss and metrics of a model, as `fit` would call them on a part without augmentation.

    Where a model has several outputs, the accuracy is that of `output`.
    """
    slices = tf.data.Dataset.from_tensor_slices((part.images[:], part.labels)).batch(BATCH)
    found = model.evaluate(slices.map(prepare), verbose=0, return_dict=True)
    if f"{output}_accuracy" in found:
        found["accuracy"] = found[f"{output}_accuracy"]
    return {f"val_{name}": float(value) for name, value in found.items()}


def logits_of(model: keras.Model, part: sources.Split, prepare: Prepare, output: str) -> np.ndarray:
    """Logits (n, classes) of a part's images."""
    rows = []
    for start in range(0, len(part), BATCH):
        inputs, _ = prepare(part.images[start : start + BATCH], part.labels[start : start + BATCH])
        answer = model.predict_on_batch(inputs)
        rows.append(np.asarray(answer[output] if output else answer, np.float64))
    return np.concatenate(rows)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over images of minus the log probability of the true class, in nats."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probability = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probability[np.arange(len(labels)), labels].mean())


def check_fits(watched: Watched) -> None:
    """Each history's validation, of the epoch whose weights were left, is the model's on the validation part."""
    for done in watched.fits:
        wanted = {name: values[done.returned] for name, values in done.history.items() if name.startswith("val_")}
        assert wanted
        assert {name: done.validation[name] for name in wanted} == close_to(wanted)


def check_scores(scored: Scored) -> None:
    """What `run.scores` returned is true of the model, and so is the last validation in the run's curves."""
    curves, returned = scored.run.curves, scored.returned_epoch
    for name, value in scored.recomputed.items():
        assert scored.returned[name] == close_to(value), name
    last = {name: curves[name][returned] for name in scored.validation}
    assert {"val_loss", "val_accuracy"} <= set(last)
    assert scored.validation == close_to(last)


def check_record(record: Any, scored: Scored) -> None:
    """A record's numbers are the model's own: of the test, training and validation part."""
    assert (record.variant, record.seed) == (scored.run.variant, scored.run.seed)
    if record.status == "diverged":
        assert record.metrics["test_accuracy"] == pytest.approx(0.1)
        return
    check_scores(scored)
    for name in scored.recomputed:
        assert record.metrics[name] == scored.returned[name], name
    assert record.metrics["validation_accuracy"] == close_to(scored.validation["val_accuracy"])
    for name in scored.validation:
        assert record.curves[name] == scored.run.curves[name]
    assert unpack_bits(record.correct, len(scored.correct)).tolist() == scored.correct.tolist()


def close_to(value: Any) -> Any:
    """Equal but for rounding: sums in another order, or a batch of another size."""
    if isinstance(value, float) and math.isnan(value):
        return pytest.approx(value, nan_ok=True)
    return pytest.approx(value, rel=2e-3, abs=2e-4, nan_ok=True)
