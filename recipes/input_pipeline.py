"""Which tf.data techniques keep training from waiting for images?

Provisional (timed on 1 of 4 occasions). Cache the decoded images, augment whole batches, map in
parallel and prefetch: a training step then takes 0.36× as long as with a pipeline that takes one
image at a time. The cache saves the most. With `image_dataset_from_directory(batch_size=None,
shuffle=False)`, cache first, then shuffle and batch.

Run       python -m recipes.input_pipeline
Copy      build_feed with augment; list_files, IMAGES and load for a folder with one folder per class
Careful   Use cache=False when the decoded images do not fit into memory. Shuffle and augment after the
          cache, as build_feed does: before it, every epoch would repeat the first one.
Numbers   results/input_pipeline/README.md
Papers    tf.data guides "Build TensorFlow input pipelines", "Better performance with the tf.data API"
"""

import random
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")  # What decode_image reads.


def list_files(folder):
    """(path, label) of each image, mixed, and the classes: a folder for each, the same ones in every set."""
    paths = [path for path in sorted(Path(folder).glob("[!.]*/[!.]*")) if path.suffix.lower() in IMAGES]
    classes = sorted({path.parent.name for path in paths})
    random.Random(0).shuffle(paths)  # Sorted by class, they would need a buffer as large as the set.
    labels = [classes.index(path.parent.name) for path in paths]
    return tf.data.Dataset.from_tensor_slices(([str(path) for path in paths], labels)), classes


def load(path, label, size=(32, 32)):
    """Read a file as uint8, at one size. A cache of float32 images would take four times the memory."""
    image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
    return tf.cast(tf.round(tf.image.resize(image, size, antialias=True)), tf.uint8), label


def augment(example, numbers):
    """Mirror and brighten one image or a batch. `numbers` holds a random int64 for each image."""
    images, labels = example
    if numbers.shape.rank:  # The last batch may have fewer images than numbers.
        numbers = numbers[: tf.shape(images)[0], None, None, None]
    numbers = tf.cast(numbers, tf.int32)
    images = tf.where(numbers % 2 == 1, images[..., ::-1, :], images)
    brighter = numbers // 2 % 61 - 30  # By as much as 30 either way.
    images = tf.clip_by_value(tf.cast(images, tf.int32) + brighter, 0, 255)
    return tf.cast(images, tf.uint8), labels


def build_feed(
    files, batch_size, *, load=load, augment=augment, shuffle=10_000, parallel=True, cache=True,
    batch_first=True, prefetch=True, seed=None,
):  # fmt: skip
    """Batches of images and labels from (file, label) pairs, in another order in each epoch.

    For validation: `augment=None, shuffle=0`. `load` makes an image of a file, in one size for all.
    """
    workers = tf.data.AUTOTUNE if parallel else None
    if shuffle and not cache:
        files = files.shuffle(shuffle, seed)  # Names are cheaper to hold than images.
    feed = files.map(load, workers)
    if cache:
        feed = feed.cache()
        if shuffle:
            feed = feed.shuffle(shuffle, seed)
    if batch_first:  # So that one operation augments a whole batch.
        feed = feed.batch(batch_size)
    if augment:
        # A random number for each image. Under a fixed seed tf.image.random_* would draw the same ones
        # in each epoch, and so would Dataset.random without rerandomize_each_iteration.
        numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
        if batch_first:
            numbers = numbers.batch(batch_size)
        feed = tf.data.Dataset.zip(feed, numbers).map(augment, workers)
    if not batch_first:
        feed = feed.batch(batch_size)
    return feed.prefetch(tf.data.AUTOTUNE) if prefetch else feed


def build_model(shape, classes):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    return keras.Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def train(
    train_set,
    validation_set,
    classes,
    *,
    rate=0.003,
    epochs=5,
    build_model=build_model,
    callbacks=(),
):
    """Train a small convnet and return it. The sets are from `build_feed`, or from Keras."""
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(
        train_set,
        validation_data=validation_set,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=0,
    )
    return model


if __name__ == "__main__":
    from lab import main

    main("input_pipeline")
