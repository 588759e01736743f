"""Does a profile tell a training that waits for its images from one that computes?

TensorFlow's profiler notes when each operation of a training begins and ends. What a step spends in
the operation that takes its next batch is waiting, and its share of the step is read here from the
profile by code: of three feeds, each before a small model and a large one.

What it should say is measured as well: how much of a step's time goes once the batch lies ready in
memory. "naive" decodes and augments image by image, in turns with the model; "overlapped" does the
same in parallel and ahead of the model; "cached" decodes once and augments nothing.

Answer         Where feed and model take turns, yes: 76.1 % waiting, and 73.4 % saved by batches that
               lie ready. Where the feed works ahead on the model's own processors, no: 6.1 %, and
               32.9 % saved.
In practice    Profile twenty steps before you change anything, and mark them: Keras's callback does
               not, and TensorBoard's page then says that no step time was measured. Much waiting is
               a feed to mend: 76.1 % before the small model and 46.7 before the large one, where
               batches that lie ready saved 73.4 and 39.2 %. With cached images 2.0 and 0.5 % were
               waiting, and nothing was to be saved. Little waiting alone does not clear the feed:
               one that works in parallel and ahead let the large model wait for 6.1 % of its step,
               and took 32.9 % of it (the small one: 49.9 and 69.4). So where both share the
               processors, time some steps with one batch again and again as well. All of this is
               small PNG files and two cores; with a GPU the feed has the processors to itself,
               which was not measured.
Use it when    a training seems slow, before anything is changed.
It hurts when  nothing: it is a few steps that are profiled. But a profile of all steps of an epoch
               is larger than TensorBoard can draw.
Sources        the guides "Optimize TensorFlow performance using the Profiler" and "Better
               performance with the tf.data API"
"""

import math
from dataclasses import dataclass
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

from lab import grid, read_profile
from pipelines import sources

# Such as VARIANTS["naive_small"].filters.
VARIANTS = grid(
    feed={"naive": "naive", "overlapped": "overlapped", "cached": "cached"},
    filters={"small": 8, "large": 40},
)


@dataclass(frozen=True)
class Config:
    images: int = 2048  # An epoch of each feed.
    profiled: int = 20  # Steps.
    steps: int = 110  # Of a timed block, of which the first ten are not counted.
    batch_size: int = 128


class Profiler(keras.callbacks.TensorBoard):
    """Profiles the steps `first` to `last`, from 1 on, and marks them, which Keras does not."""

    def __init__(self, folder: Path, first: int, last: int):
        super().__init__(str(folder), write_graph=False, profile_batch=(first, last))

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        self.mark = tf.profiler.experimental.Trace("train", step_num=batch, _r=1)
        self.mark.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        self.mark.__exit__(None, None, None)
        super().on_train_batch_end(batch, logs)


def decode(image, label):
    return tf.io.decode_png(image, channels=3), label


def augment(image, label):
    return tf.image.random_brightness(tf.image.random_flip_left_right(image), 0.1), label


def build_feed(kind: str, files: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches without end of images uint8 (batch, height, width, 3) and labels int64 (batch,)."""
    if kind == "naive":
        feed = files.map(decode).map(augment).batch(batch_size)
    elif kind == "overlapped":
        feed = files.map(decode, tf.data.AUTOTUNE).map(augment, tf.data.AUTOTUNE)
        feed = feed.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    elif kind == "cached":
        feed = files.map(decode).batch(batch_size).cache().prefetch(tf.data.AUTOTUNE)
    else:  # "ready": the same batch again and again.
        feed = files.map(decode).batch(batch_size).take(1).cache().repeat()
        feed = feed.prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()  # As it is written: TensorFlow would make some of it parallel.
    options.experimental_optimization.apply_default_optimizations = False
    return feed.repeat().with_options(options)


def build_model(variant: str, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    filters = VARIANTS[variant].filters
    rescale = layers.Rescaling(1 / 64, offset=-2)  # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), rescale])
    model.add(layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu"))
    model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(len(data.classes)))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def profile(model: keras.Model, feed: tf.data.Dataset, folder: Path, config: Config):
    """The profile of some steps of a `fit`, after an epoch that fills caches and lets tf.data find its threads."""
    before = math.ceil(config.images / config.batch_size)
    callback = Profiler(folder, before + 1, before + config.profiled)
    steps = before + config.profiled
    model.fit(feed, steps_per_epoch=steps, callbacks=[callback], shuffle=False, verbose=0)
    return read_profile(folder)


if __name__ == "__main__":
    from lab import main

    main("monitoring")
