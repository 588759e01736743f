"""Can a model send easy images down a short path, and what tells it which ones are easy?

A subclass of `keras.Model` may decide in `call`, image by image, which layers to run: here a short
path for all images, and a deep one behind the same stem for those that a gate asks for. The gate is
the variance of the stem's activations, the short path's confidence, or chance; and for a whole
batch `if variance < threshold:`, which in a graph must be `ops.cond`. Gathering images really skips
work, and rules out `jit_compile=True`: XLA must know shapes beforehand.

Each path learns from a random half of every batch, so the deep path alone is no stronger than that.

Use it when    inference is the cost, and many inputs are easy.
It hurts when  the deep path is cheap: gathering and stitching then cost more than they save.
Sources        Bolukbasi et al. 2017, arXiv:1702.07811; Teerapittayanon et al. 2016,
               arXiv:1709.01686 (BranchyNet)
"""

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, optimizers

from pipelines import batches, sources
from recipes.harness import Claim, Points, Recipe, Run, Unit, main

VARIANTS = ("always_shallow", "always_deep", "batch_variance", "variance", "confidence", "random")


@dataclass(frozen=True)
class Config:
    epochs: int = 5
    batch_size: int = 128
    rate: float = 3e-3
    inference_batch: int = 100


def convolutions(shape, *filters: int, strides: int = 1) -> keras.Sequential:
    """Convolutions with BatchNorm and ReLU, then a pooling."""
    model = keras.Sequential([keras.Input(shape)])
    for number in filters:
        model.add(layers.Conv2D(number, 3, strides, padding="same"))
        model.add(layers.BatchNormalization(momentum=0.8))  # Keras's 0.99 is too slow here.
        model.add(layers.ReLU())
    model.add(layers.MaxPooling2D())
    return model


@keras.saving.register_keras_serializable("recipes")
class Routed(keras.Model):
    """Map images uint8 (batch, *shape) to logits float32 (batch, classes), deep where a gate says.

    The short path is run for all images, and its logits replaced where the deep path is run.
    """

    def __init__(self, gate="random", shape=(32, 32, 3), classes=10, **kwargs):
        super().__init__(**kwargs)
        self.gate, self.shape, self.classes = gate, tuple(shape), classes
        # 0 to 255 becomes -2 to 2.
        inputs = [keras.Input(shape, dtype="uint8"), layers.Rescaling(1 / 64, offset=-2)]
        self.stem = keras.Sequential([*inputs, convolutions(shape, 24, strides=2)])
        inner = self.stem.output_shape[1:]
        self.shallow, self.deep = convolutions(inner, 24), convolutions(inner, 64, 64, 64)
        for path in (self.shallow, self.deep):
            path.add(layers.Flatten())
            path.add(layers.Dense(classes))
        self.threshold = self.add_weight(name="threshold", initializer="zeros", trainable=False)
        self.dice = keras.random.SeedGenerator(0)
        self(np.zeros((1, *shape), "uint8"))  # Makes all weights.

    def get_config(self):
        mine = {"gate": self.gate, "shape": self.shape, "classes": self.classes}
        return super().get_config() | mine

    def score(self, features, logits):
        """How much each image asks for the deep path, float32 (batch,)."""
        if self.gate == "random":
            return keras.random.uniform(ops.shape(features)[:1], seed=self.dice)
        if self.gate == "confidence":
            return 1 - ops.max(ops.softmax(logits), axis=1)
        return ops.var(features, axis=(1, 2, 3))

    def call(self, images, training=False):
        features = self.stem(images, training=training)
        if self.gate == "always_deep":
            return self.deep(features, training=training)
        logits = self.shallow(features, training=training)
        if self.gate == "always_shallow":
            return logits
        score = self.score(features, logits)
        if self.gate == "batch_variance":  # `if variance < threshold:`.
            easy = ops.mean(score) < self.threshold
            return ops.cond(easy, lambda: logits, lambda: self.deep(features, training=training))
        rows = tf.where(score >= self.threshold)
        hard = functools.partial(self.deep, tf.gather_nd(features, rows), training=training)
        better = tf.cond(tf.size(rows) > 0, hard, lambda: logits[:0])  # No batch may be empty.
        return tf.tensor_scatter_nd_update(logits, rows, better)


def train(data: sources.Data, config: Config, run: Run) -> Routed:
    """Train each path on a random half of every batch, by plain `fit`."""
    feed = batches.training(data.train, config.batch_size, seed=run.seed, augment=True)
    model = Routed("random", data.shape, len(data.classes))
    model.threshold.assign(0.5)
    adam = optimizers.Adam(optimizers.schedules.CosineDecay(config.rate, config.epochs * len(feed)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(adam, loss, metrics=["accuracy"], jit_compile=False, steps_per_execution=16)
    fit = {"validation_data": batches.evaluation(data.validation), "callbacks": run.callbacks(data)}
    model.fit(feed, epochs=config.epochs, shuffle=False, verbose=0, **fit)
    return model


def with_gate(gate: str, trained: Routed, data: sources.Data) -> Routed:
    """The same weights behind another gate, which sends half of the validation images deep."""
    model = Routed(gate, data.shape, len(data.classes))
    model.set_weights(trained.get_weights())
    features = model.stem(data.validation.images[:])
    scores = np.asarray(model.score(features, model.shallow(features)))
    # The means of batches lie about the mean of all, one half on either side.
    model.threshold.assign(np.mean(scores) if gate == "batch_variance" else np.median(scores))
    return model


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """Train once, give each gate the same weights, and time all gates in turn."""
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    trained = train(data, config, first)
    test = first.open_test_set(data)
    images = [tf.constant(part) for part in test.chunks(config.inference_batch)]

    steps, correct = {}, {}
    for gate in ("always_deep", *runs):
        predict = tf.function(with_gate(gate, trained, data))
        logits = np.concatenate([predict(part) for part in images])
        correct[gate] = logits.argmax(axis=1) == test.labels
        steps[gate] = map(predict, itertools.cycle(images)).__next__
    # A block is a pass over all test images, after ten steps that are not counted.
    times = first.interleaved(steps, rounds=2, block=10 + len(images))

    metrics = {}
    for gate, run in runs.items():
        run.correct = correct[gate]
        metrics[gate] = {"test_accuracy": float(correct[gate].mean())}
        metrics[gate]["time_log_ratio"] = times.log_ratio(gate, "always_deep")
    return metrics


# From here on it is about measuring: what is claimed, tuned and shown.

CLAIMS = [
    Claim(
        "B8a",
        "Routing easy inputs down a shallow path keeps the deep path's accuracy (half of them, by confidence)",
        source="DL",
        metric="test_accuracy",
        equal=("confidence", "always_deep"),
        side="below",
    ),
    Claim(
        "B8b",
        "It does so at a fraction of the compute: time against that of the deep path alone",
        source="DL",
        metric="time_log_ratio",
        lower="confidence",
        than="always_deep",
        by=math.log(1.2),
    ),
    Claim(
        "B9a",
        "Activation variance tells easy inputs from hard ones better than a random gate of equal share",
        source="DL",
        metric="test_accuracy",
        higher="variance",
        than="random",
    ),
    Claim(
        "B9b",
        "Activation variance tells easy inputs from hard ones as well as confidence does",
        source="DL",
        metric="test_accuracy",
        equal=("variance", "confidence"),
        side="below",
    ),
]

RECIPE = Recipe(
    None,
    VARIANTS,
    CLAIMS,
    Config,
    compare=compare,
    space={"rate": (3e-4, 1e-3, 3e-3, 1e-2)},
    smoke={"epochs": 4, "batch_size": 64},
    least={"inference_batch": 1},
    units={
        "time_log_ratio": Unit("time against the deep path (natural logarithm)"),
    },
    panels=(Points("time_log_ratio", "test_accuracy"),),
)

if __name__ == "__main__":
    main(RECIPE)
