"""Which tf.data techniques keep a training from waiting for its images?

The naive feed takes one image at a time: read it from disk, decode it, augment it, put it in the batch. Four techniques
change that: map in parallel; cache what was decoded; prefetch the next batch while the model works on this one; batch
before caching and augmenting, so that one operation serves a whole batch. Each is added alone to the naive feed, and
left out alone of the full one. All rungs yield the same images.

A second question is asked of accuracy: the same training images sorted by class, with shuffling and without.

Use it when    the profile, or the share of waiting below, says that the model waits for its input.
It hurts when  the cache stands behind the augmentation (it would repeat the first epoch's) or outgrows the memory.
Sources        the guides "tf.data: Build TensorFlow input pipelines" and "Better performance with the tf.data API"
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pipelines import batches, cifar10, encoded
from recipes.harness import Bars, Claim, Recipe, Run, Unit

SHIFT = 4
TECHNIQUES = {"parallel", "cache", "prefetch", "batch_first"}
LADDER = {"naive": set(), **{name: {name} for name in sorted(TECHNIQUES)}, "all": TECHNIQUES}
LADDER |= {f"all_but_{name}": TECHNIQUES - {name} for name in sorted(TECHNIQUES)}
VARIANTS = (*LADDER, "shuffled", "class_ordered")


@dataclass(frozen=True)
class Config:
    images: int = 2048  # An epoch of the ladder.
    passes: int = 3  # Of each rung, in turn: their median counts.
    epochs: int = 3  # Of the two trainings on sorted images.
    batch_size: int = 128


def build_feed(techniques, config: Config, run: Run) -> tf.data.Dataset:
    """Batches of augmented images uint8 (batch, 32, 32, 3) and labels int64 (batch,)."""
    workers = tf.data.AUTOTUNE if "parallel" in techniques else None
    # Shift down, shift to the right, flip: drawn ahead, so that all rungs augment alike.
    most = [2 * SHIFT + 1, 2 * SHIFT + 1, 2]
    draws = tf.constant(np.random.default_rng(run.seed).integers(0, most, (config.images, 3)), tf.int32)

    def augment(number, image, label):
        down, right, flip = tf.unstack(draws[number])
        image = tf.pad(image, [[SHIFT, SHIFT], [SHIFT, SHIFT], [0, 0]], "REFLECT")[down : down + 32, right : right + 32]
        return tf.ensure_shape(tf.cond(flip > 0, lambda: image[:, ::-1], lambda: image), (32, 32, 3)), label

    def augment_batch(numbers, images, labels):
        down, right, flip = tf.unstack(tf.gather(draws, numbers), axis=1)
        mirrored = tf.constant(np.pad(np.arange(32), SHIFT, "reflect"))  # Padding whole images takes much longer.
        columns = tf.where(flip[:, None] > 0, tf.range(31, -1, -1), tf.range(32)) + right[:, None]
        images = tf.gather(images, tf.gather(mirrored, down[:, None] + tf.range(32)), axis=1, batch_dims=1)
        return tf.gather(images, tf.gather(mirrored, columns), axis=2, batch_dims=1), labels

    feed = encoded.read(run.data).take(config.images).enumerate()
    feed = feed.map(lambda number, example: (number, tf.io.decode_png(example[0], channels=3), example[1]), workers)
    if "batch_first" in techniques:
        feed = feed.batch(config.batch_size)
    if "cache" in techniques:
        feed = feed.cache()
    if "batch_first" in techniques:
        feed = feed.map(augment_batch, workers)
    else:
        feed = feed.map(augment, workers).batch(config.batch_size)
    return feed.prefetch(tf.data.AUTOTUNE) if "prefetch" in techniques else feed


def build_model(mean, std) -> keras.Model:
    """Map images uint8 (batch, 32, 32, 3) to logits float32 (batch, 10)."""
    stack = [keras.Input((32, 32, 3), dtype="uint8"), layers.Normalization(mean=mean, variance=std**2)]
    for filters, strides in ((24, 2), (64, 1)):
        stack += [layers.Conv2D(filters, 3, strides, padding="same", activation="relu"), layers.MaxPooling2D()]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    return model


def epoch(feed: tf.data.Dataset, work=lambda *batch: None) -> tuple[list[float], list[float]]:
    """Seconds of each step: waited for its batch, and in all."""
    waits, steps, clock = [], [], time.perf_counter()
    for batch in feed:
        waits.append(time.perf_counter() - clock)
        work(*batch)
        steps.append(time.perf_counter() - clock)
        clock = time.perf_counter()
    return waits, steps


def measure(ladder: Mapping[str, tf.data.Dataset], model: keras.Model, config: Config, runs: Mapping[str, Run]):
    """Of each rung images/s of the feed alone, an epoch's seconds with the model and the share of it spent waiting."""
    for feed in ladder.values():
        epoch(feed, model.train_on_batch)  # Fills the cache, and lets tf.data find its numbers of threads.
    passes: dict[str, list] = {name: [] for name in ladder}
    for name in [*ladder] * config.passes:
        passes[name].append((epoch(ladder[name])[1], *epoch(ladder[name], model.train_on_batch)))
    for name, found in passes.items():
        runs[name].keep("wait_seconds", found[-1][1])
        runs[name].keep("step_seconds", found[-1][2])
        alone, waiting, seconds = np.median([[sum(times) for times in one] for one in found], axis=0)
        yield name, {"feed_rate": config.images / alone, "epoch_seconds": seconds, "waiting": waiting / seconds}


def accuracy(shuffle: bool, config: Config, run: Run) -> dict[str, float]:
    data = cifar10.load(run.data)
    train = data.train.take(np.argsort(data.train.labels, kind="stable"))
    feed = tf.data.Dataset.from_tensor_slices((train.images, train.labels))
    feed = (feed.shuffle(len(train), seed=run.seed) if shuffle else feed).batch(config.batch_size).prefetch(1)
    keras.utils.set_random_seed(run.seed)
    model = build_model(data.mean, data.std)
    fit = {"epochs": config.epochs, "validation_data": batches.evaluation(data.validation), "verbose": 0}
    history = model.fit(feed, callbacks=run.callbacks(probe=data.train), shuffle=False, **fit)
    return run.scores(model, history, data)


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    data = cifar10.load(next(iter(runs.values())).data)
    ladder = {name: build_feed(LADDER[name], config, run) for name, run in runs.items() if name in LADDER}
    metrics = dict(measure(ladder, build_model(data.mean, data.std), config, runs))
    for name in [name for name in runs if name not in LADDER]:
        metrics[name] = accuracy(name == "shuffled", config, runs[name])
    for name in ladder if "naive" in ladder else ():
        metrics[name]["speed_up"] = metrics[name]["feed_rate"] / metrics["naive"]["feed_rate"]
        metrics[name]["epoch_share"] = metrics[name]["epoch_seconds"] / metrics["naive"]["epoch_seconds"]
    return metrics


CLAIMS = [
    Claim("S4a", "Parallel mapping, caching and prefetching each cut an epoch's time", source="TF, DL, HW",
          metric="epoch_share", lower=("parallel", "cache", "prefetch"), than="naive", by=0.05),
    Claim("S4b", "Together they hide the input: an epoch takes 35 % less", source="TF, DL, HW",
          metric="epoch_share", lower="all", than="naive", by=0.35),
    Claim("S5", "Without overlap the model starves: it waits for a larger share of each step", source="DL, HW",
          metric="waiting", higher="naive", than="all", by=0.1),
    Claim("S6", "Without shuffling, class-ordered data ruins training", source="TF",
          metric="test_accuracy", lower="class_ordered", than="shuffled", by=0.1),
    Claim("S7", "Batching before mapping beats mapping before batching", source="tf.data guide",
          metric="speed_up", higher="batch_first", than="naive", by=0.1),
]  # fmt: skip

UNITS = {
    "feed_rate": Unit("feed alone", name="images/s", digits=0),
    "speed_up": Unit("feed against naive", name="times"),
    "epoch_seconds": Unit("an epoch", name="s"),
    "epoch_share": Unit("epoch against naive", name="times"),
    "waiting": Unit("waiting", 100, "points", 1),
}
PANELS = (Bars("feed_rate"), Bars("epoch_seconds"), Bars("waiting"))

SMOKE = {"images": 512, "passes": 1, "epochs": 1}
RECIPE = Recipe(None, VARIANTS, CLAIMS, Config, compare=compare, smoke=SMOKE, units=UNITS, panels=PANELS)

if __name__ == "__main__":
    RECIPE.main()
