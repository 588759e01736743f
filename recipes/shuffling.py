"""How well must training images be shuffled, when they lie sorted by class?

Files often come in the order of their folders: all cats, then all dogs. Batches are then of one
class, each pulls the model its own way, and the last class seen pulls hardest.
`tf.data.Dataset.shuffle` draws from a buffer that it fills from the front, so with a buffer smaller
than the data set no image comes much before its place, and a sorted set stays nearly sorted. It
draws anew in each epoch, unless it is told not to.

The same sorted images, five ways: shuffled whole; by a buffer of half of them, and of a tenth;
shuffled whole once, in an order that all epochs then share; and not at all. Each is scored as it is
after the last epoch, which without shuffling ends with the last class.

Answer         By a buffer as large as the data: half of it costs 13 points, none at all 36.
In practice    Shuffle all of it. Where files come sorted by class, a buffer of half the images ended at
               42.7 %, one of a tenth at 24.1 %, none at 19.5 %, and a whole shuffle at 56.2 %, each at
               its own best rate. If memory does not hold the images, shuffle the list of files, or
               write the files shuffled once: a single shuffled order for all epochs was as good here
               (56.0 %) as a new one each epoch.
Use it when    images come in any order that has to do with their labels, dates or sources.
It hurts when  the buffer of a large data set does not fit in memory: shuffle file names, or write
               the files shuffled.
Sources        the guide "tf.data: Build TensorFlow input pipelines"; Bengio 2012, arXiv:1206.5533
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers

from lab import Run
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    epochs: int = 6
    batch_size: int = 128
    rate: float | None = None  # None: the variant's own below.


# Adam's peak rates that won on validation: `python -m recipes.shuffling tune` finds them again.
RATES = {
    "shuffled": 0.0057,
    "buffer_half": 0.0032,
    "buffer_tenth": 0.00032,
    "frozen": 0.0057,
    "class_ordered": 0.00032,
}


def order(variant: str, feed: tf.data.Dataset, count: int, seed: int) -> tf.data.Dataset:
    """The same examples in the variant's order."""
    if variant == "shuffled":
        return feed.shuffle(count, seed=seed)
    if variant == "buffer_half":
        return feed.shuffle(count // 2, seed=seed)
    if variant == "buffer_tenth":
        return feed.shuffle(count // 10, seed=seed)
    if variant == "frozen":
        return feed.shuffle(count, seed=seed, reshuffle_each_iteration=False)
    return feed  # class_ordered


def build_feed(variant: str, train: sources.Split, batch_size: int, seed: int) -> tf.data.Dataset:
    """Batches of images uint8 (≤ batch, height, width, 3) and labels int32 (≤ batch,), from images sorted by class."""
    by_class = train.take(np.argsort(train.labels, kind="stable"))
    feed = tf.data.Dataset.from_tensor_slices((by_class.images[:], by_class.labels))
    return order(variant, feed, len(train), seed).batch(batch_size).prefetch(1)


def build_model(variant: str, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    rescale = layers.Rescaling(1 / 64, offset=-2)  # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), rescale])
    model.add(layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Conv2D(64, 3, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(len(data.classes)))
    return model


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    feed = build_feed(variant, data.train, config.batch_size, run.seed)
    model = build_model(variant, data)
    peak = RATES[variant] if config.rate is None else config.rate
    model.compile(  # The rate decays to zero, and so the last batches move nothing much.
        optimizer=optimizers.Adam(
            optimizers.schedules.CosineDecay(peak, config.epochs * len(feed))
        ),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # Python looks in every 16 steps: a seventh faster.
    )
    model.fit(
        feed,
        epochs=config.epochs,
        validation_data=batches.evaluation(data.validation),
        callbacks=run.callbacks(data),
        shuffle=False,  # The feed decides the order; without this, Keras warns.
        verbose=0,
    )
    return run.scores(model, data)


if __name__ == "__main__":
    from lab import main

    main("shuffling")
