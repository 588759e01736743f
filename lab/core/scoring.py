"""Classification: what is measured of a trained model. Images in, one row of logits an image out."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines import sources

PREDICT_BATCH = 500
# From images uint8 (batch, height, width, 3) and labels int32 (batch,) to what a model takes and is to say.
Prepare = Callable[[Any, Any], tuple[Any, Any]]


def as_they_are(images: Any, labels: Any) -> tuple[Any, Any]:
    """The usual `Prepare`: a model takes images and answers with a row of logits each."""
    return images, labels


@dataclass(frozen=True)
class Scores:
    """A model's metrics, its test logits float32 (n, classes), and which test images it got right, bool (n,)."""

    metrics: dict[str, float]
    logits: np.ndarray
    correct: np.ndarray
    finite: bool


def chance(data: sources.Data) -> float:
    """The accuracy of a guess."""
    return 1 / len(data.classes)


def score(
    model: tf.Module, data: sources.Data, test: sources.Split, prepare: Prepare = as_they_are, output: str = ""
) -> Scores:
    """Accuracies of a model as it is, un-augmented, as fractions; `output` names the logits of a model with several.

    `test_accuracy` and `test_loss`; `train_accuracy` on as many clean training images as there are test images, evenly
    taken; `generalization_gap`, the difference of the two accuracies.
    """
    seen = data.train.take(np.linspace(0, len(data.train) - 1, min(len(data.train), len(test))).astype(int))

    @tf.function(autograph=False, reduce_retracing=True)
    def predict(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        answer = model(prepare(images, labels)[0], training=False)
        return answer[output] if output else answer

    def logits_of(part: sources.Split) -> np.ndarray:
        batches = [slice(start, start + PREDICT_BATCH) for start in range(0, len(part), PREDICT_BATCH)]
        return np.concatenate([predict(part.images[batch], part.labels[batch]) for batch in batches])

    train_logits, test_logits = logits_of(seen), logits_of(test)
    right = test_logits.argmax(axis=1) == test.labels
    train_accuracy = float((train_logits.argmax(axis=1) == seen.labels).mean())
    test_accuracy = float(right.mean())
    metrics = {
        "train_accuracy": train_accuracy,
        "test_accuracy": test_accuracy,
        "generalization_gap": train_accuracy - test_accuracy,
        "test_loss": cross_entropy(test_logits, test.labels),
    }
    finite = bool(np.isfinite(train_logits).all() and np.isfinite(test_logits).all())
    return Scores(metrics, test_logits, right, finite)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean of minus the logarithm of the true class's probability, in nats."""
    from scipy.special import log_softmax

    return float(-log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(labels)), labels].mean())


def digest_of(model: Any) -> str:
    """A hash of a model's weights, to the bit: 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for weight in model.weights:
        whole.update(np.ascontiguousarray(weight.numpy()).tobytes())
    return whole.hexdigest()[:16]


def epochs_to(target: float, accuracies: Sequence[float], start: float) -> float | None:
    """Epochs until a curve of accuracies, one an epoch, is at `target`, interpolated between epochs; None if never.

    The curve begins at `start`, the accuracy of a guess, at epoch 0.
    """
    if start >= target:  # Guessing is good enough.
        return 0.0
    curve = [start, *accuracies]
    for epoch in range(1, len(curve)):
        before, after = curve[epoch - 1], curve[epoch]
        if after >= target:
            return epoch - 1 + (target - before) / (after - before) if after > before else float(epoch)
    return None
