"""The fast feed: batch first, then shuffle, flip and crop whole batches at once.

All randomness is stateless: it is a function of the seed, the epoch and the position in it, so a feed repeats with its
seed on any number of threads, and yet no two epochs are alike.
"""

import functools
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.errors import RequestError
from pipelines.sources import OnDisk, Split


def training(
    split: Split, batch_size: int, *, seed: int, augment: bool = True, shift: int = 2, flip: bool = True
) -> tf.data.Dataset:
    """Batches of images uint8 (batch_size, height, width, 3) and labels int32 (batch_size,), in a new order each epoch.

    An epoch is one iteration over the data set; `len(feed)` is its number of batches. Examples that do not fill a last
    batch are left out, others each epoch. With `augment`, each image is shifted by up to `shift` pixels both ways,
    its border mirrored into the gap, and if `flip`, mirrored left to right with probability one half.

    Raises:
        RequestError: the split holds less than one batch.
    """
    steps = len(split) // batch_size if batch_size > 0 else 0
    if steps < 1:
        raise RequestError(
            f"A batch size of {batch_size:,} does not fit {len(split):,} images: use 1 to {len(split):,}."
        )
    if not augment:
        shift, flip = 0, False
    height, width = split.images.shape[1:3]
    rows = None if isinstance(split.images, OnDisk) else _rows(split, shift, flip)
    labels = tf.constant(split.labels)

    # Else TensorFlow would look for control flow in these functions, which takes a third of a second.
    @tf.autograph.experimental.do_not_convert
    def order(_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        number = epoch.assign_add(1)
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(len(split)), seed=tf.stack([seed, number]))
        return number * steps + tf.range(steps, dtype=tf.int64), tf.reshape(shuffled[: steps * batch_size], (steps, -1))

    @tf.autograph.experimental.do_not_convert
    def one_batch(step: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        draws = tf.random.stateless_uniform((3, batch_size), seed=tf.stack([seed, step]))
        side, down, right = (
            tf.cast(draws[i] * choices, tf.int32) for i, choices in enumerate((1 + flip, 1 + 2 * shift, 1 + 2 * shift))
        )
        here, its_labels = rows, labels
        if rows is None:  # Of images on disk only the batch's own are read; from here on `index` is a place in those.
            here, its_labels = _rows_of(_read(split.images, index), shift, flip), tf.gather(labels, index)
            index = tf.range(batch_size)
        top = (index * (1 + flip) + side) * (height + 2 * shift) + down
        # Images with the same shift to the right are cropped together, by one slice. Their order in the batch is free.
        tops = tf.dynamic_partition(top, right, 1 + 2 * shift)
        members = tf.dynamic_partition(index, right, 1 + 2 * shift)
        crops = [
            tf.gather(here, first[:, None] + tf.range(height))[:, :, left : left + width]
            for left, first in enumerate(tops)
        ]
        images = tf.ensure_shape(tf.concat(crops, axis=0), (batch_size, *split.images.shape[1:]))
        return images, tf.ensure_shape(tf.gather(its_labels, tf.concat(members, axis=0)), (batch_size,))

    with tf.device("CPU:0"):  # Where tf.data reads it. A counter, because a data set does not know its epoch.
        epoch = tf.Variable(0, dtype=tf.int64)
    feed = tf.data.Dataset.range(1).map(order).unbatch().map(one_batch)
    feed = feed.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(2)
    options = tf.data.Options()
    options.autotune.enabled = False  # There is nothing to tune: one thread is fast enough, and leaves the step alone.
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    return feed.with_options(options)


def augmented(variant: str, data: Any, config: Any) -> tf.data.Dataset:
    """Twelve images at a time as `training` gives them: the sample that is shown of a variant that changes nothing."""
    return training(data.train, 12, seed=1, augment=True)


def evaluation(split: Split, batch_size: int = 500) -> tf.data.Dataset:
    """Batches of all images uint8 (≤ batch_size, height, width, 3) and labels int32 (≤ batch_size,), in order."""
    if not isinstance(split.images, OnDisk):
        slices = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
        return slices.batch(batch_size).cache().prefetch(1)
    order = tf.data.Dataset.from_tensor_slices((tf.range(len(split)), split.labels)).batch(batch_size)
    return order.map(lambda index, labels: (_read(split.images, index), labels)).prefetch(1)


def _read(images: OnDisk, index: tf.Tensor) -> tf.Tensor:
    """The images at `index`, read from the disk."""
    read = tf.numpy_function(lambda which: images[which], [index], tf.uint8)
    return tf.ensure_shape(read, (index.shape[0], *images.shape[1:]))


@functools.lru_cache(maxsize=2)
def _rows(split: Split, shift: int, flip: bool) -> tf.Tensor:
    """All pixel rows, uint8 (n · sides · (height + 2 shift), width + 2 shift, 3): each image, and if `flip` its mirror.

    With the border already there, a crop copies whole runs of memory instead of single pixels. Kept for the next feed
    from the same arrays.
    """
    count, height, width, channels = split.images.shape
    padded = np.empty((count, 1 + flip, height + 2 * shift, width + 2 * shift, channels), np.uint8)
    inside = padded[:, :, shift : shift + height, shift : shift + width]
    inside[:, 0] = split.images
    if flip:
        inside[:, 1] = split.images[:, :, ::-1]
    for i in range(shift):  # Mirrored about the outermost pixels, first up and down, then in whole rows.
        padded[:, :, i], padded[:, :, -1 - i] = padded[:, :, 2 * shift - i], padded[:, :, i - 1 - 2 * shift]
    for i in range(shift):
        padded[..., i, :], padded[..., -1 - i, :] = padded[..., 2 * shift - i, :], padded[..., i - 1 - 2 * shift, :]
    return tf.constant(padded.reshape(-1, *padded.shape[3:]))


def _rows_of(images: tf.Tensor, shift: int, flip: bool) -> tf.Tensor:
    """The same of a batch of images, uint8 (batch, height, width, 3)."""
    sides = tf.stack([images, images[:, :, ::-1]] if flip else [images], axis=1)
    padded = tf.pad(sides, ((0, 0), (0, 0), (shift, shift), (shift, shift), (0, 0)), mode="REFLECT")
    return tf.reshape(padded, (-1, *padded.shape[3:]))
