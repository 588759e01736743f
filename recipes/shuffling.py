"""How well must you shuffle training images that lie sorted by class?

Use a buffer as large as the data. Half of it costs 12.6 points where the images are sorted by
class, and a tenth of it costs 32.3 points.

Run       python -m recipes.shuffling      sorted images in five orders, three seeds
Copy      examples.shuffle(number of images), or shuffle_files where images do not fit into memory
Careful   a buffer that is too small leaves sorted files nearly sorted, and nothing says so
Numbers   results/shuffling/README.md
Papers    arXiv:1206.5533 (Bengio 2012), TensorFlow's guide "tf.data: Build input pipelines"
"""

import keras
import tensorflow as tf
from keras import layers, optimizers


def shuffle(examples, buffer=1.0, reshuffle=True):
    """Shuffle single examples with a buffer that holds this share of them.

    `Dataset.shuffle` fills its buffer from the front, so with a small one no example can move far
    forward. With `reshuffle`, each epoch has its own order.
    """
    size = round(buffer * int(examples.cardinality()))
    return examples.shuffle(size, reshuffle_each_iteration=reshuffle) if size else examples


def shuffle_files(paths, labels, size):
    """Single images, float32 (size, size, 3), and labels, from paths that are strings, still to be batched.

    Only the paths are shuffled, so none of the images waits in memory.
    """
    names = tf.data.Dataset.from_tensor_slices((list(paths), list(labels))).shuffle(len(paths))

    def read(path, label):
        image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        return tf.image.resize(image, (size, size)), label

    return names.map(read, num_parallel_calls=tf.data.AUTOTUNE)


def build_model(shape, classes):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    return keras.Sequential([
        keras.Input(shape),
        layers.Rescaling(1 / 64, offset=-2),  # 0..255 becomes -2..2.
        layers.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(classes),
    ])  # fmt: skip


def train(
    examples, validation_set, classes, *, buffer=1.0, reshuffle=True, rate=0.0057, batch_size=128,
    epochs=6, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a convnet on shuffled examples and return it.

    `examples` is a set of single images with values 0 to 255 and integer labels, in the order of
    their classes, as `keras.utils.image_dataset_from_directory` returns it with `batch_size=None`
    and `shuffle=False`. The validation set has batches. `rate` is Adam's, and decays to zero.
    """
    train_set = shuffle(examples, buffer, reshuffle).batch(batch_size).prefetch(tf.data.AUTOTUNE)
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    schedule = optimizers.schedules.CosineDecay(rate, decay_steps=epochs * len(train_set))
    model.compile(
        optimizer=optimizers.Adam(schedule),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(
        train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks),
        verbose=0,
    )  # fmt: skip
    return model


if __name__ == "__main__":
    from lab import main

    main("shuffling")
