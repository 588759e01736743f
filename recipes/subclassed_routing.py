"""Can a model send easy images down a short path, and what tells it which ones are easy?

A subclass of `keras.Model` may decide in `call`, image by image, which layers to run: here a short
path for all images, and a deep one behind the same stem for those that a gate asks for. The gate is
the variance of the stem's activations, the short path's confidence, or chance; and for a whole
batch `if variance < threshold:`, which in a graph must be `ops.cond`. Gathering images really skips
work, and rules out `jit_compile=True`: XLA must know shapes beforehand.

Both paths learn from all images, by the sum of their losses; the gate comes afterwards. They share
the stem, which may not suit either: so the deep path is also trained by itself ("deep_alone"), and
a narrower one that takes as many multiplications as routing half of the images ("static").

Answer         By confidence, half of the images deep: 0.87 times the time, at a loss of 1.8 points.
               A narrower network that multiplies as much ends 0.7 points above that.
In practice    Before you route, try a narrower network: with as many multiplications for each image
               ("static") it took 0.80 times the deep path's time and reached 58.0 %, where routing
               by confidence took 0.87 times and reached 57.3 % (the deep path by itself: 59.2 %,
               all images short: 52.1 %). If you route, by the short path's confidence: of two
               images, one of which needs the deep path, it asks for the right one 66.9 times in a
               hundred; the variance of activations 49.1 times, no better than dice (50.0).
               Multiplications fell from 5.78 to 3.27 million an image, and time much less, as it
               did for the narrower network, which gathers nothing. All of this is a processor, 40
               images at a time, and five epochs.
Use it when    inference is the cost, and many inputs are easy.
It hurts when  the deep path is cheap: gathering and stitching then cost more than they save.
Sources        Bolukbasi et al. 2017, arXiv:1702.07811; Teerapittayanon et al. 2016,
               arXiv:1709.01686 (BranchyNet)
"""

import functools
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, ops, optimizers

from lab import Run
from pipelines import batches, sources

GATES = ("always_shallow", "always_deep", "batch_variance", "variance", "confidence", "random")


@dataclass(frozen=True)
class Config:
    epochs: int = 5
    batch_size: int = 128
    rate: float = 3e-3  # Adam's at first: by validation the best for each of the three trainings.
    inference_batch: int = 40


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

    def __init__(self, gate="random", shape=(32, 32, 3), classes=10, filters=64, **kwargs):
        super().__init__(**kwargs)
        self.given = {"gate": gate, "shape": tuple(shape), "classes": classes, "filters": filters}
        self.gate = gate
        # 0 to 255 becomes -2 to 2.
        inputs = [keras.Input(shape, dtype="uint8"), layers.Rescaling(1 / 64, offset=-2)]
        self.stem = keras.Sequential([*inputs, convolutions(shape, 24, strides=2)])
        inner = self.stem.output_shape[1:]
        self.shallow = convolutions(inner, 24)
        self.deep = convolutions(inner, filters, filters, filters)
        for path in (self.shallow, self.deep):
            path.add(layers.Flatten())
            path.add(layers.Dense(classes))
        self.threshold = self.add_weight(name="threshold", initializer="zeros", trainable=False)
        self.dice = keras.random.SeedGenerator()
        self(np.zeros((1, *shape), "uint8"))  # Makes all weights.

    def get_config(self):
        return super().get_config() | self.given

    def score(self, features, logits):
        """How much each image asks for the deep path, float32 (batch,)."""
        if self.gate == "random":
            return keras.random.uniform(ops.shape(features)[:1], seed=self.dice)
        if self.gate == "confidence":
            return 1 - ops.max(ops.softmax(logits), axis=1)
        return ops.var(features, axis=(1, 2, 3))

    def call(self, images):
        x = self.stem(images)
        if self.gate == "always_deep":
            return self.deep(x)
        logits = self.shallow(x)
        if self.gate == "always_shallow":
            return logits
        score = self.score(x, logits)
        if self.gate == "batch_variance":  # `if variance < threshold:`.
            return ops.cond(ops.mean(score) < self.threshold, lambda: logits, lambda: self.deep(x))
        rows = tf.where(score >= self.threshold)
        hard = functools.partial(self.deep, tf.gather_nd(x, rows))
        better = tf.cond(tf.size(rows) > 0, hard, lambda: logits[:0])  # No batch may be empty.
        return tf.tensor_scatter_nd_update(logits, rows, better)


def exits(model: Routed) -> keras.Model:
    """The same layers without a gate: all images to the logits of each path, or of the deep alone."""
    images = keras.Input(model.given["shape"], dtype="uint8")
    features = model.stem(images)
    names = ["deep"] if model.gate == "always_deep" else ["deep", "shallow"]
    return keras.Model(images, {name: getattr(model, name)(features) for name in names})


def train(model: Routed, data: sources.Data, config: Config, run: Run, part: str) -> Routed:
    """Train the paths on all images, by the sum of their losses, and by plain `fit`."""
    ungated = exits(model)
    feed = batches.training(data.train, config.batch_size, seed=run.seed, augment=True)
    adam = optimizers.Adam(optimizers.schedules.CosineDecay(config.rate, config.epochs * len(feed)))
    each = functools.partial(dict.fromkeys, ungated.output)  # The same for each path.
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    ungated.compile(adam, each(loss), metrics=each(["accuracy"]), steps_per_execution=16)
    prepare = lambda images, labels: (images, each(labels))  # noqa: E731
    validation = batches.evaluation(data.validation).map(prepare)
    callbacks = run.callbacks(data, part=part, prepare=prepare, output="deep")
    fit = {"epochs": config.epochs, "shuffle": False, "verbose": 0}  # The feed shuffles.
    ungated.fit(feed.map(prepare), validation_data=validation, callbacks=callbacks, **fit)
    return model


def asks(model: Routed, images) -> np.ndarray:
    """How much each image asks for the deep path, float32 (n,)."""
    features = model.stem(images)
    return np.asarray(model.score(features, model.shallow(features)))


def with_gate(gate: str, trained: Routed, data: sources.Data) -> Routed:
    """The same weights behind another gate, which sends half of the validation images deep."""
    model = Routed(**{**trained.given, "gate": gate})
    model.set_weights(trained.get_weights())
    scores = asks(model, data.validation.images[:])
    # The means of batches lie about the mean of all, one half on either side.
    model.threshold.assign(np.mean(scores) if gate == "batch_variance" else np.median(scores))
    return model


if __name__ == "__main__":
    from lab import main

    main("subclassed_routing")
