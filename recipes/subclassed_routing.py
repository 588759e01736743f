"""Can a model save work by sending easy images down a short path?

Not for free: it loses 3.1 points when only the 30 % least confident images take the deep path. With
half or more, a loss of a point is undecided. Activation variance routes no better than chance.

Run       python -m recipes.subclassed_routing      gates and networks without one, three seeds
Copy      Routed, with three models of your own
Careful   import Routed to load its models; jit_compile=True fails; calibrate after more training
Numbers   results/subclassed_routing/README.md
Papers    arXiv:1709.01686 (BranchyNet), arXiv:1702.07811 (adaptive networks)
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, optimizers, saving

RATE = 0.0032  # Adam's best first learning rate, chosen on validation images.


@saving.register_keras_serializable(package="recipes")
class Routed(keras.Model):
    """Answer every image by a short path, and again by a deep one where the short one is unsure.

    `stem` maps images to features, `shallow` and `deep` map those to logits. In training both learn
    from all images. All go deep until `calibrate` is called.
    """

    def __init__(self, stem, shallow, deep, **kwargs):
        super().__init__(**kwargs)
        self.stem, self.shallow, self.deep = stem, shallow, deep
        # autocast=False: no float16 under mixed precision.
        self.threshold = self.add_weight(initializer="zeros", trainable=False, autocast=False)

    def call(self, images, training=False):
        features = self.stem(images)
        logits = self.shallow(features)
        if training:
            return self.deep(features), logits
        rows = tf.where(self.score(features, logits) >= self.threshold)
        unsure = tf.gather_nd(features, rows)  # Skips work; convolutions fail on an empty batch.
        better = tf.cond(tf.size(rows) > 0, lambda: self.deep(unsure), lambda: logits[:0])
        return tf.tensor_scatter_nd_update(logits, rows, better)

    def score(self, features, logits):
        """How much each image asks for the deep path: float32 (batch,), at least 0."""
        return 1 - ops.max(ops.softmax(logits), axis=-1)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        answers = y_pred if isinstance(y_pred, tuple) else [y_pred]
        compute = super().compute_loss  # Penalties on weights count once for each path.
        return sum(compute(x, y, answer, sample_weight, training) for answer in answers)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        answer = y_pred[0] if isinstance(y_pred, tuple) else y_pred
        return super().compute_metrics(x, y, answer, sample_weight)

    def calibrate(self, images_and_labels, share):
        """Set the threshold so that this share of the images goes deep."""
        scores = []
        for images, _ in images_and_labels:
            features = self.stem(images)
            scores.append(ops.convert_to_numpy(self.score(features, self.shallow(features))))
        self.threshold.assign(np.quantile(np.concatenate(scores), 1 - share))

    def get_config(self):
        parts = [saving.serialize_keras_object(x) for x in (self.stem, self.shallow, self.deep)]
        return super().get_config() | {"parts": parts}

    @classmethod
    def from_config(cls, config):
        return cls(*map(saving.deserialize_keras_object, config.pop("parts")), **config)


def convolution(x, filters, strides=1):
    x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
    # Momentum 0.8, not 0.99: a few hundred steps are too few to forget the initial statistics.
    return layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))


def build_model(shape, classes, filters=64):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    stem = keras.Model(images, layers.MaxPooling2D()(convolution(x, 24, strides=2)))
    paths = []
    for widths in ((24,), (filters, filters, filters)):
        features = x = keras.Input(stem.output_shape[1:])
        for width in widths:
            x = convolution(x, width)
        x = layers.Flatten()(layers.MaxPooling2D()(x))
        x = layers.Dense(classes, dtype="float32")(x)  # Under mixed precision too.
        paths.append(keras.Model(features, x))
    return Routed(stem, *paths)


def train(
    train_set, validation_set, classes, *, share=0.5, rate=RATE, epochs=5,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a `Routed` on batches of images with values 0 to 255 and integer labels, and return it.

    It sends this share of the validation images deep.
    """
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    schedule = optimizers.schedules.CosineDecay(rate, decay_steps=epochs * len(train_set))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.Adam(schedule), loss, metrics=["accuracy"], jit_compile=False)
    model.fit(
        train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks),
        verbose=0,
    )  # fmt: skip
    model.calibrate(validation_set, share)
    return model


if __name__ == "__main__":
    from lab import main

    main("subclassed_routing")
