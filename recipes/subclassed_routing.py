"""Can a model send easy images down a short path, and what tells it which ones are easy?

A subclass of `keras.Model` may decide in `call`, image by image, which layers to run: here a short path or a deep one,
behind a shared stem. The gate is the variance of the stem's activations, the short path's confidence (which is run
first, and paid for), or chance; and for a whole batch the source's `if variance < threshold:`, which in a graph must be
`ops.cond`. Gathering images really skips work, and rules out `jit_compile=True`: XLA must know shapes beforehand.

Use it when    inference is the cost, and many inputs are easy.
It hurts when  the deep path is cheap: gathering and stitching then cost more than they save.
Sources        Bolukbasi et al. 2017, arXiv:1702.07811; Teerapittayanon et al. 2016, arXiv:1709.01686 (BranchyNet)
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops

from pipelines import batches, cifar10
from recipes.harness import Claim, Lines, Recipe, Run, Unit

SHARES = (0.25, 0.5, 0.75)  # Of validation images that go deep; claims are about the middle one.
VARIANTS = ("always_shallow", "always_deep", "batch_variance", "variance", "confidence", "random")


@dataclass(frozen=True)
class Config:
    epochs: int = 5
    batch_size: int = 128
    rate: float = 3e-3
    rounds: int = 2  # Timed passes over the test images, of which the mean counts.
    inference_batch: int = 100


def path(shape, *filters: int, strides: int = 1) -> keras.Sequential:
    stack = [keras.Input(shape)]
    for n in filters:
        stack += [layers.Conv2D(n, 3, strides, padding="same"), layers.BatchNormalization(momentum=0.8), layers.ReLU()]
    return keras.Sequential([*stack, layers.MaxPooling2D()])


@keras.saving.register_keras_serializable("recipes")
class Routed(keras.Model):
    """Map images uint8 (batch, 32, 32, 3) to logits float32 (batch, 10); deep where the gate's score says so."""

    def __init__(self, gate="random", mean=(0.0, 0.0, 0.0), variance=(1.0, 1.0, 1.0), **kwargs):
        super().__init__(**kwargs)
        self.gate, self.mean, self.variance = gate, [float(m) for m in mean], [float(v) for v in variance]
        standardize = [keras.Input((32, 32, 3), dtype="uint8"), layers.Normalization(mean=mean, variance=variance)]
        self.stem = keras.Sequential([*standardize, path((32, 32, 3), 24, strides=2)])
        self.shallow = keras.Sequential([path((8, 8, 24), 24), layers.Flatten(), layers.Dense(10)])
        self.deep = keras.Sequential([path((8, 8, 24), 64, 64, 64), layers.Flatten(), layers.Dense(10)])
        self.threshold = self.add_weight(name="threshold", initializer=lambda *_, **__: 0.5, trainable=False)
        self.dice = keras.random.SeedGenerator(0)

    def get_config(self):
        return {**super().get_config(), "gate": self.gate, "mean": self.mean, "variance": self.variance}

    def score(self, features, shallow_logits):
        """How much each image asks for the deep path, float32 (batch,)."""
        if self.gate == "random":
            return keras.random.uniform(ops.shape(features)[:1], seed=self.dice)
        if self.gate == "confidence":
            return 1 - ops.max(ops.softmax(shallow_logits), axis=1)
        return ops.var(features, axis=(1, 2, 3))

    def call(self, images, training=False):
        features = self.stem(images, training=training)
        shallow, deep = (lambda x, way=way: way(x, training=training) for way in (self.shallow, self.deep))
        if self.gate.startswith("always"):
            return shallow(features) if self.gate == "always_shallow" else deep(features)
        if self.gate == "batch_variance":  # The source's `if variance < threshold:`, for a whole batch.
            easy = ops.mean(self.score(features, None)) < self.threshold
            return ops.cond(easy, lambda: shallow(features), lambda: deep(features))
        if self.gate == "confidence":
            logits = shallow(features)
            rows = tf.where(self.score(features, logits) >= self.threshold)
            return tf.tensor_scatter_nd_update(logits, rows, if_any(deep, tf.gather_nd(features, rows)))
        hard = tf.cast(self.score(features, None) >= self.threshold, tf.int32)
        rows = tf.dynamic_partition(tf.range(tf.shape(features)[0]), hard, 2)
        parts = [if_any(way, tf.gather(features, some)) for way, some in zip((shallow, deep), rows, strict=True)]
        return tf.ensure_shape(tf.dynamic_stitch(rows, parts), (None, 10))


def if_any(way, features):  # A convolution breaks on an empty batch.
    return tf.cond(tf.shape(features)[0] > 0, lambda: way(features), lambda: tf.zeros((0, 10)))


def train(data: cifar10.Data, config: Config, run: Run) -> Routed:
    """Train both paths, each on a random half of every batch, by plain `fit`."""
    feed = batches.training(data.train, config.batch_size, seed=run.seed)
    keras.utils.set_random_seed(run.seed)
    model = Routed("random", data.mean, data.std**2)
    schedule = keras.optimizers.schedules.CosineDecay(config.rate, config.epochs * len(feed))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"])
    fit = {"epochs": config.epochs, "validation_data": batches.evaluation(data.validation), "verbose": 0}
    model.fit(feed, callbacks=run.callbacks(probe=data.train), shuffle=False, **fit)
    return model


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """Train once, give each gate the same weights, and time all gates at all shares in turn."""
    data = cifar10.load(next(iter(runs.values())).data)
    trained = train(data, config, next(iter(runs.values())))
    models, settings = {}, []
    for name in dict.fromkeys(["always_deep", *runs]):
        model = models[name] = Routed(name, data.mean, data.std**2)
        model(data.test.images[:1])
        model.set_weights(trained.get_weights())
        features = model.stem.predict(data.validation.images, verbose=0)
        scores = np.asarray(model.score(features, model.shallow.predict(features, verbose=0)))
        groups = len(scores) // (config.inference_batch if name == "batch_variance" else 1)
        means = [part.mean() for part in np.array_split(scores, groups)]
        shares = (1.0,) if name.startswith("always") else SHARES
        settings += [(name, share, float(np.quantile(means, 1 - share))) for share in shares]
    compiled = {name: tf.function(model) for name, model in models.items()}
    images = tf.data.Dataset.from_tensor_slices(data.test.images).batch(config.inference_batch).cache()
    seconds: dict[tuple[str, float], list[float]] = {setting[:2]: [] for setting in settings}
    correct: dict[tuple[str, float], np.ndarray] = {}
    for _ in range(1 + config.rounds):  # The first one compiles, and does not count.
        for name, share, threshold in settings:
            models[name].threshold.assign(threshold)
            start = time.perf_counter()
            logits = np.concatenate([compiled[name](batch) for batch in images])
            seconds[name, share].append(time.perf_counter() - start)
            correct[name, share] = logits.argmax(axis=1) == data.test.labels
    rates, metrics = {key: len(data.test) / float(np.mean(times[1:])) for key, times in seconds.items()}, {}
    for name, run in runs.items():
        mine = [setting for setting in rates if setting[0] == name]
        run.keep("rate", [rates[setting] for setting in mine])
        run.keep("test_accuracy", [float(correct[setting].mean()) for setting in mine])
        middle = mine[len(mine) // 2]
        run.correct = correct[middle]
        speed_up = rates[middle] / rates["always_deep", 1.0]
        metrics[name] = {"test_accuracy": float(correct[middle].mean()), "rate": rates[middle], "speed_up": speed_up}
    return metrics


CLAIMS = [
    Claim("B8a", "Routing easy inputs down a shallow path keeps the deep path's accuracy (half of them, by confidence)",
          source="DL", metric="test_accuracy", equal=("confidence", "always_deep"), side="below", by=0.01),
    Claim("B8b", "It does so at a fraction of the compute: images/s against those of the deep path alone", source="DL",
          metric="speed_up", higher="confidence", than="always_deep", by=0.2),
    Claim("B9a", "Activation variance tells easy inputs from hard ones better than a random gate of equal share",
          source="DL", metric="test_accuracy", higher="variance", than="random", by=0.01),
    Claim("B9b", "Activation variance tells easy inputs from hard ones as well as confidence does", source="DL",
          metric="test_accuracy", equal=("variance", "confidence"), side="below", by=0.01),
]  # fmt: skip

UNITS = {"rate": Unit("images/s at inference", digits=0), "speed_up": Unit("against the deep path", name="times")}
PANELS = (Lines("test_accuracy", "rate", title="A quarter, half and three quarters of the images deep"),)
SMOKE = {"epochs": 2, "batch_size": 64, "rounds": 1}
RECIPE = Recipe(None, VARIANTS, CLAIMS, Config, compare=compare, smoke=SMOKE, units=UNITS, panels=PANELS)

if __name__ == "__main__":
    RECIPE.main()
