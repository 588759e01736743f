"""Would more images help, and how large a model can a small set train?

Not measured yet: a linear model, a tree and a convnet on 250 to 8,000 images, and a convnet of six widths
on 1,000 images.

Run       python -m recipes.data_hunger
Copy      learning_curve and gain_of_doubling
Careful   give small sets as many steps as large ones. For as many epochs, a small set is not trained enough,
          and more images seem to help more than they do.
Numbers   results/data_hunger/README.md
Papers    arXiv:1712.00409 (learning curves)
"""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers


def build_linear(shape, classes):
    """Logistic regression: map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))


def build_model(shape, classes, width=4):
    """A convnet with 4 * `width` and 8 * `width` filters, which maps images as `build_linear` does."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)
    for filters, strides in ((4 * width, 2), (8 * width, 1)):
        x = layers.Conv2D(filters, 3, strides, "same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D()(x)
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))


def warmup_cosine(peak, steps):
    """Linear warm-up over the first fifth of the steps, then cosine decay to zero."""
    warmup = max(1, steps // 5)
    # Keras counts decay_steps from the warm-up's end. A start at zero would waste a step.
    return optimizers.schedules.CosineDecay(
        peak / warmup, decay_steps=max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def train(
    train_set, validation_set, classes, *, rate=0.003, steps=625, epochs: int | None = None,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train with Adam and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. There are about as many `steps` whatever the
    number of images, in whole epochs, unless `epochs` says how many.
    """
    epochs = epochs or max(1, round(steps / len(train_set)))
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    model.compile(
        optimizer=optimizers.Adam(warmup_cosine(rate, epochs * len(train_set))),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def learning_curve(train_set, validation_set, classes, counts, *, batch_size=64, train=train, **how):
    """Number of images -> validation accuracy after a training on so many.

    Smaller sets are parts of larger ones. All images are held in memory, and `how` goes to `train`.
    """
    parts = list(train_set.as_numpy_iterator())
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    order = np.random.default_rng(0).permutation(len(labels))
    curve = {}
    for count in counts:
        some = order[:count]
        part = (
            tf.data.Dataset.from_tensor_slices((images[some], labels[some])).shuffle(count).batch(batch_size)
        )
        model = train(part, validation_set, classes, **how)
        curve[count] = model.evaluate(validation_set, verbose=0, return_dict=True)["accuracy"]
    return curve


def gain_of_doubling(curve):
    """The accuracy that twice the images would add, if the line through the three largest sets goes on."""
    largest = sorted(curve)[-3:]
    slope, _ = np.polyfit([math.log2(count) for count in largest], [curve[count] for count in largest], 1)
    return float(slope)


if __name__ == "__main__":
    from lab import main

    main("data_hunger")
