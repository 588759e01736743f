"""Which tf.data techniques keep a training from waiting for its images?

The naive feed takes one image at a time: read it from disk, decode it, augment it, put it in the
batch. Four techniques change that: map in parallel; cache what was decoded; prefetch the next batch
while the model works on this one; batch before caching and augmenting, so that one operation serves
a whole batch. Each is added alone to the naive feed, and left out alone of the full one, which is
`good_feed` below. All rungs yield the same images.

Use it when    the profile, or the share of waiting below, says that the model waits for its input.
It hurts when  the cache stands behind the augmentation (it would repeat the first epoch's) or
               outgrows the memory.
Sources        the guides "tf.data: Build TensorFlow input pipelines" and "Better performance with
               the tf.data API"
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from pipelines import encoded, sources
from recipes.harness import Bars, Claim, Recipe, Run, Unit, interleaved, main

TECHNIQUES = {"naive": set(), "all": {"parallel", "cache", "prefetch", "batch_first"}}
for technique in sorted(TECHNIQUES["all"]):
    TECHNIQUES[technique] = {technique}
    TECHNIQUES[f"all_but_{technique}"] = TECHNIQUES["all"] - {technique}


@dataclass(frozen=True)
class Config:
    images: int = 2048  # An epoch of each rung.
    steps: int = 110  # Of a timed block, of which the first ten are not counted.
    batch_size: int = 128


def decode(example, draw):
    image, label = example
    return tf.io.decode_png(image, channels=3), label, draw


def augment(images, labels, draws):
    """Mirror and brighten by what was drawn ahead, int32 (..., 2): one image, or a whole batch."""
    mirrored, brighter = tf.unstack(draws[..., None, None, None, :], axis=-1)
    images = tf.where(mirrored > 0, images[..., ::-1, :], images)
    images = tf.clip_by_value(tf.cast(images, tf.int32) + brighter, 0, 255)
    return tf.cast(images, tf.uint8), labels


def good_feed(files: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """All techniques: the chain to copy."""
    return (
        files.map(decode, tf.data.AUTOTUNE)
        .batch(batch_size)
        .cache()  # What was decoded. Behind the augmentation it would repeat the first epoch's.
        .map(augment, tf.data.AUTOTUNE)
        .prefetch(tf.data.AUTOTUNE)
    )


def build_feed(variant: str, files: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches of augmented images uint8 (batch, height, width, 3) and labels int64 (batch,)."""
    techniques = TECHNIQUES[variant]
    if variant == "all":
        return good_feed(files, batch_size)
    workers = tf.data.AUTOTUNE if "parallel" in techniques else None
    feed = files.map(decode, workers)
    if "batch_first" in techniques:
        feed = feed.batch(batch_size)
    if "cache" in techniques:
        feed = feed.cache()
    feed = feed.map(augment, workers)
    if "batch_first" not in techniques:
        feed = feed.batch(batch_size)
    if "prefetch" in techniques:
        feed = feed.prefetch(tf.data.AUTOTUNE)
    return feed


def build_model(variant: str, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    rescale = layers.Rescaling(1 / 64, offset=-2)  # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), rescale])
    model.add(layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Conv2D(64, 3, padding="same", activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(len(data.classes)))
    return model


class Step:
    """Takes the next batch of a feed that never ends, works on it, and adds up the seconds."""

    def __init__(self, feed: tf.data.Dataset, work):
        self.batches, self.work = iter(feed.repeat()), work
        self.waited = self.taken = 0.0

    def __call__(self):
        start = time.perf_counter()
        batch = next(self.batches)
        self.waited += time.perf_counter() - start
        self.work(*batch)
        self.taken += time.perf_counter() - start


def timed(steps: Mapping[str, Step], config: Config, seed: int):
    """Times in interleaved blocks, once each cache is full and tf.data has found its threads."""
    for step in steps.values():
        for _ in range(math.ceil(config.images / config.batch_size)):
            step()
        step.waited = step.taken = 0.0
    return interleaved(steps, rounds=1, block=config.steps, seed=seed)


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    files = encoded.read(first.data).repeat().take(config.images)
    # What the augmentation of each image draws lies beside it: it is the same for all rungs.
    draws = np.random.default_rng(first.seed).integers((0, -30), (2, 31), (config.images, 2))
    files = tf.data.Dataset.zip(files, tf.data.Dataset.from_tensor_slices(draws.astype("int32")))
    model = build_model("", data)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    feeds = {name: build_feed(name, files, config.batch_size) for name in ("naive", *runs)}
    feeding = {name: Step(feed, lambda *batch: None) for name, feed in feeds.items()}
    training = {name: Step(feed, model.train_on_batch) for name, feed in feeds.items()}
    alone = timed(feeding, config, first.seed)
    trained = timed(training, config, first.seed)
    return {
        name: {
            "feed_rate": config.batch_size / alone.step_seconds(name),
            "feed_log_ratio": alone.log_ratio(name, "naive"),
            "step_seconds": trained.step_seconds(name),
            "step_log_ratio": trained.log_ratio(name, "naive"),
            "waiting": training[name].waited / training[name].taken,
        }
        for name in runs
    }


CLAIMS = [
    Claim(
        "S4a",
        "Parallel mapping, caching and prefetching each cut an epoch's time",
        source="TF, DL, HW",
        metric="step_log_ratio",
        lower=("parallel", "cache", "prefetch"),
        than="naive",
        by=0.05,
    ),
    Claim(
        "S4b",
        "Together they hide the input: an epoch takes 35 % less",
        source="TF, DL, HW",
        metric="step_log_ratio",
        lower="all",
        than="naive",
        by=-math.log(0.65),
    ),
    Claim(
        "S5",
        "Without overlap the model starves: it waits for a larger share of each step",
        source="DL, HW",
        metric="waiting",
        higher="naive",
        than="all",
        by=0.1,
    ),
    Claim(
        "S7",
        "Batching before mapping beats mapping before batching",
        source="tf.data guide",
        metric="feed_log_ratio",
        lower="batch_first",
        than="naive",
        by=0.1,
    ),
]

UNITS = {
    "feed_rate": Unit("feed alone", name="images/s", digits=0),
    "feed_log_ratio": Unit("feed's time against naive (natural logarithm)"),
    "step_seconds": Unit("a step", 1000, "ms", 1),
    "step_log_ratio": Unit("a step's time against naive (natural logarithm)"),
    "waiting": Unit("waiting", 100, "points", 1),
}

RECIPE = Recipe(
    None,
    TECHNIQUES,
    CLAIMS,
    Config,
    compare=compare,
    model=build_model,
    smoke={"images": 512, "steps": 20},
    least={"images": 1, "steps": 11},
    floor="",  # Nothing is trained to its end: only times are measured.
    units=UNITS,
    panels=(Bars("feed_rate"), Bars("step_seconds"), Bars("waiting")),
)

if __name__ == "__main__":
    main(RECIPE)
