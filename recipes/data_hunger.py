"""Would more images help, and how large a model can a small set train?

Not measured yet: logistic regression, a tree and a convnet on 60 to 8,000 images, and a convnet of five
widths on 1,000 images.

Run       python -m recipes.data_hunger
Copy      learning_curve and after_doubling, and build_linear, which a network should beat
Careful   give small sets as many steps as large ones. With equal epochs, a small set is not trained enough,
          and more images seem to help more than they do.
Numbers   results/data_hunger/README.md
Papers    arXiv:1712.00409 (learning curves)
"""

import math

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler


def shrunken(images, side=8):
    """Images (n, height, width, channels) as rows (n, side * side * channels): the means of squares."""
    height, width = images.shape[1] // side, images.shape[2] // side
    cut = np.asarray(images[:, : side * height, : side * width], np.float32)
    squares = cut.reshape(len(images), side, height, side, width, -1)
    return squares.mean(axis=(2, 4)).reshape(len(images), -1)


def build_linear(c=0.01):
    """Logistic regression on small images: `fit(images, labels)` it, then `score(images, labels)`.

    The fewer images there are, the smaller `c` should be.
    """
    scaled = FunctionTransformer(shrunken), StandardScaler()
    return make_pipeline(*scaled, LogisticRegression(C=c, max_iter=1000))


def build_model(shape, classes, width=4):
    """A convnet with 4 * `width` and 8 * `width` filters, which maps images (batch, *shape) to logits."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
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
    train_set, validation_set, classes, *, rate=0.003, decay=0.1, steps=1250, epochs: int | None = None,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train with AdamW and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. A training takes `steps` steps, however many
    images there are. With `epochs` it sees each image so many times instead.
    """
    if epochs is None:  # One long epoch: a small set would be validated hundreds of times.
        train_set, epochs = train_set.repeat().take(steps), 1
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    model.compile(
        optimizer=optimizers.AdamW(warmup_cosine(rate, epochs * len(train_set)), weight_decay=decay),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def learning_curve(train_set, validation_set, classes, counts, *, batch_size=64, train=train, **how):
    """Number of images -> validation accuracy after a training on so many, in four batches or more.

    Smaller sets are parts of larger ones. All images are held in memory, and `how` goes to `train`.
    """
    parts = list(train_set.as_numpy_iterator())
    images = np.concatenate([images for images, _ in parts])
    labels = np.concatenate([labels for _, labels in parts])
    order = np.random.default_rng(0).permutation(len(labels))
    curve = {}
    for count in counts:
        some, size = order[:count], max(1, min(batch_size, count // 4))
        part = tf.data.Dataset.from_tensor_slices((images[some], labels[some])).shuffle(count).batch(size)
        model = train(part, validation_set, classes, **how)
        curve[count] = model.evaluate(validation_set, verbose=0, return_dict=True)["accuracy"]
    return curve


def after_doubling(curve):
    """The accuracy to expect of twice the largest set, if the line through the curve goes on.

    It is a line in the logarithm of the number of images.
    """
    slope, start = np.polyfit([math.log2(count) for count in curve], list(curve.values()), 1)
    return float(start + slope * math.log2(2 * max(curve)))


if __name__ == "__main__":
    from lab import main

    main("data_hunger")
