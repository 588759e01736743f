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

from dataclasses import dataclass

import keras
import tensorflow as tf
from keras import layers

from pipelines import sources

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


if __name__ == "__main__":
    from lab import main

    main("input_pipeline")
