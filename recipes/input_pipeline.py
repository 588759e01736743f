"""Which tf.data techniques keep a training from waiting for its images?

The naive feed takes one image at a time: read it from disk, decode it, augment it, put it in the
batch. Four techniques change that: map in parallel; cache what was decoded; prefetch the next batch
while the model works on this one; batch before caching and augmenting, so that one operation serves
a whole batch. Each is added alone to the naive feed, and left out alone of the full one, which is
`good_feed` in the code. In an epoch all variants yield the same images.

TensorFlow itself rewrites a data set, as long as nobody tells it not to: it makes some maps parallel
and prefetches at the end. So all feeds but "rewritten", which is the naive one as TensorFlow leaves
it, are run as they are written.

Answer         Decode once and cache, batch before that, then augment, map in parallel, prefetch:
               0.37 times the naive feed's step.
In practice    Cache decoded images first: by itself that made a step 0.67 times as long as with the
               naive feed, and without it the full chain took 0.71 times as long instead of 0.37.
               Batch before you cache and augment: beside the other techniques the feed itself then
               took 0.53 times its time, and a step 0.88. A parallel map beside the others made the
               feed as much quicker (0.53), and a step by nothing that showed, nor did prefetching.
               By themselves they took 0.86 and 0.87 times the naive feed's step: little, probably
               since here the processor that prepares a batch is the one that trains. With a GPU
               that may differ, and was not measured. What TensorFlow adds to the naive feed
               unasked, both of these, made it 0.79. All of this is small PNG files and two cores.
Use it when    the share of waiting that is measured here, or TensorBoard's profile, says that the
               model waits.
It hurts when  the cache outgrows the memory, or stands behind the augmentation, which it would then
               repeat. Batches that are cached hold the same images in each epoch: where that costs
               accuracy, cache single images and shuffle them before the batch.
Sources        the guides "tf.data: Build TensorFlow input pipelines" and "Better performance with
               the tf.data API"
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import layers

from pipelines import encoded, sources
from recipes.harness import Bars, Claim, Recipe, Run, Unit, main

TECHNIQUES: dict[str, set[str]] = {"naive": set(), "rewritten": set()}
TECHNIQUES["all"] = {"parallel", "cache", "prefetch", "batch_first"}
for technique in sorted(TECHNIQUES["all"]):
    TECHNIQUES[technique] = {technique}
    TECHNIQUES[f"all_but_{technique}"] = TECHNIQUES["all"] - {technique}


@dataclass(frozen=True)
class Config:
    images: int = 2048  # An epoch of each rung.
    steps: int = 110  # Of a timed block, of which the first ten are not counted.
    batch_size: int = 128


def decode(image, label):
    return tf.io.decode_png(image, channels=3), label


def augment(example, numbers):
    """Mirror and brighten one image, or a batch, each by a random number of its own, int64."""
    images, labels = example
    numbers = tf.cast(numbers, tf.int32)[..., None, None, None]
    mirrored, brighter = numbers % 2 == 1, numbers // 2 % 61 - 30  # By as much as 30 either way.
    images = tf.where(mirrored, images[..., ::-1, :], images)
    images = tf.clip_by_value(tf.cast(images, tf.int32) + brighter, 0, 255)
    return tf.cast(images, tf.uint8), labels


def good_feed(files, numbers, batch_size: int) -> tf.data.Dataset:
    """All techniques: the chain to copy, from (PNG bytes, label) pairs and random numbers."""
    images = files.map(decode, tf.data.AUTOTUNE).batch(batch_size).cache()
    feed = tf.data.Dataset.zip(images, numbers.batch(batch_size))
    return feed.map(augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def as_written(feed: tf.data.Dataset) -> tf.data.Dataset:
    """The feed without what TensorFlow would add to it."""
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return feed.with_options(options)


def build_feed(variant: str, files, numbers, batch_size: int) -> tf.data.Dataset:
    """Batches of augmented images uint8 (batch, height, width, 3) and labels int64 (batch,)."""
    techniques = TECHNIQUES[variant]
    if variant == "all":
        return as_written(good_feed(files, numbers, batch_size))
    workers = tf.data.AUTOTUNE if "parallel" in techniques else None
    images = files.map(decode, workers)
    if "batch_first" in techniques:
        images, numbers = images.batch(batch_size), numbers.batch(batch_size)
    if "cache" in techniques:
        images = images.cache()
    feed = tf.data.Dataset.zip(images, numbers).map(augment, workers)
    if "batch_first" not in techniques:
        feed = feed.batch(batch_size)
    if "prefetch" in techniques:
        feed = feed.prefetch(tf.data.AUTOTUNE)
    return feed if variant == "rewritten" else as_written(feed)


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


# From here on it is about measuring: what is timed, claimed and shown.


class Step:
    """Takes the next batch of a feed that never ends, works on it, and keeps the seconds of each."""

    def __init__(self, feed: tf.data.Dataset, work):
        self.batches, self.work = iter(feed.repeat()), work
        self.waited: list[float] = []
        self.taken: list[float] = []

    def __call__(self):
        start = time.perf_counter()
        batch = next(self.batches)
        self.waited.append(time.perf_counter() - start)
        self.work(*batch)
        self.taken.append(time.perf_counter() - start)

    def waiting(self, steps: int) -> float:
        """The share of the last steps' time until their batch was there."""
        return sum(self.waited[-steps:]) / sum(self.taken[-steps:])


def timed(steps: Mapping[str, Step], config: Config, run: Run):
    """Times in interleaved blocks, once each cache is full and tf.data has found its threads."""
    for step in steps.values():
        for _ in range(math.ceil(config.images / config.batch_size)):
            step()
    return run.interleaved(steps, block=config.steps)


def compare(config: Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    files = encoded.read(first.data).repeat().take(config.images)
    numbers = tf.data.Dataset.random(first.seed, rerandomize_each_iteration=True)  # Each epoch.
    numbers = numbers.take(config.images)
    model = build_model("", data)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    feeds = {name: build_feed(name, files, numbers, config.batch_size) for name in ("naive", *runs)}
    feeding = {name: Step(feed, lambda *batch: None) for name, feed in feeds.items()}
    training = {name: Step(feed, model.train_on_batch) for name, feed in feeds.items()}
    alone = timed(feeding, config, first)
    trained = timed(training, config, first)
    return {
        name: {
            "feed_rate": config.batch_size / alone.step_seconds(name),
            "feed_log_ratio": alone.log_ratio(name, "naive"),
            "step_seconds": trained.step_seconds(name),
            "step_log_ratio": trained.log_ratio(name, "naive"),
            "waiting": training[name].waiting(config.steps - 10),
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
    ),
    Claim(
        "S4b",
        "Together, with batches before mapping, they cut an epoch's time",
        said="Together they hide the input, which cuts an epoch's time by 35 %",
        source="TF, DL, HW",
        metric="step_log_ratio",
        lower="all",
        than="naive",
    ),
    Claim(
        "S5a",
        "Without overlap the model starves: a naive feed keeps it waiting for longer without prefetch",
        source="DL, HW",
        metric="waiting",
        higher="naive",
        than="prefetch",
    ),
    Claim(
        "S5b",
        "Without overlap the model starves: a feed of all other techniques, too, keeps it waiting for longer",
        source="DL, HW",
        metric="waiting",
        higher="all_but_prefetch",
        than="all",
    ),
    Claim(
        "S7",
        "Batching before caching and augmenting beats doing both image by image, where decoding is done once",
        said="Batching before mapping beats mapping before batching",
        source="tf.data guide",
        metric="feed_log_ratio",
        lower="all",
        than="all_but_batch_first",
    ),
]

UNITS = {
    "feed_rate": Unit("feed alone", name="images/s", digits=0, timed=True),
    "feed_log_ratio": Unit("feed's time against naive (natural logarithm)", timed=True),
    "step_seconds": Unit("a step", 1000, "ms", 1, timed=True),
    "step_log_ratio": Unit("a step's time against naive (natural logarithm)", timed=True),
    "waiting": Unit("waiting", 100, "points", 1, timed=True),
}

RECIPE = Recipe(
    None,
    TECHNIQUES,
    CLAIMS,
    Config,
    compare=compare,
    model=build_model,
    smoke={"images": 128, "steps": 20, "batch_size": 32},  # Blocks too short to be disturbed.
    least={"images": 1, "steps": 11},
    floor="",  # Nothing is trained to its end: only times are measured.
    units=UNITS,
    by_machine=True,
    first_seed=101,
    panels=(Bars("feed_rate"), Bars("step_seconds"), Bars("waiting")),
    numbers={
        "prefetch: 0.37 times": "step_log_ratio: all / naive",
        "0.67 times as long": "step_log_ratio: cache / naive",
        "took 0.71 times as": "step_log_ratio: all_but_cache / naive",
        "instead of 0.37": "step_log_ratio: all / naive",
        "took 0.53 times its": "feed_log_ratio: all / all_but_batch_first",
        "a step 0.88": "step_log_ratio: all / all_but_batch_first",
        "quicker (0.53)": "feed_log_ratio: all / all_but_parallel",
        "took 0.86 and": "step_log_ratio: parallel / naive",
        "and 0.87 times": "step_log_ratio: prefetch / naive",
        "it 0.79.": "step_log_ratio: rewritten / naive",
    },
)

if __name__ == "__main__":
    main(RECIPE)
