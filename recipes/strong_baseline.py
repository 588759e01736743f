"""How good a convnet can two CPU cores train in three minutes?

Not measured yet. Its parts are chosen on validation images. It then trains on all 50,000 training images.

Run       python -m recipes.strong_baseline      the baseline, with AdamW, and without augmentation
Copy      all of it, with the four recipes that it imports; or FusedBatchNorm or FlipAveraged alone
Careful   mirror no digits and no arrows; import this module before you load its models; wrap the optimizer
          in keras.optimizers.LossScaleOptimizer if you train in mixed_float16
Numbers   results/strong_baseline/README.md
Papers    arXiv:2404.00498 (airbench), Jordan 2024 (Muon), arXiv:1512.00567 (label smoothing)
"""

import keras
import tensorflow as tf
from keras import layers, ops

from recipes.mixed_precision import dtype_policy
from recipes.optimizers import ConvMuon
from recipes.regularization import SmoothedCrossentropy
from recipes.schedules import build_rate


@keras.saving.register_keras_serializable(package="recipes")
class FusedBatchNorm(layers.BatchNormalization):
    """BatchNorm in one operation that keeps 16-bit activations. Keras's own computes in float32."""

    def call(self, inputs, training=False, mask=None):
        scale = self.gamma if self.scale else tf.ones_like(self.beta)
        how = {"x": inputs, "scale": scale, "offset": self.beta, "epsilon": self.epsilon}
        if not (training and self.trainable):
            kept = {"mean": self.moving_mean, "variance": self.moving_variance}
            return tf.raw_ops.FusedBatchNormV3(**how, **kept, is_training=False).y
        fused = tf.raw_ops.FusedBatchNormV3(**how, mean=[], variance=[])
        for kept, new in ((self.moving_mean, fused.batch_mean), (self.moving_variance, fused.batch_variance)):
            kept.assign(self.momentum * kept + (1 - self.momentum) * new)
        return fused.y


@keras.saving.register_keras_serializable(package="recipes")
class GramMuon(ConvMuon):
    """Muon with less arithmetic: it iterates on the small square matrix XᵀX, and multiplies X once."""

    def zeropower_via_newtonschulz5(self, x, steps):
        matrix = self._as_matrix(x)
        matrix = matrix / (ops.norm(matrix) + 1e-7)
        square = ops.transpose(matrix) @ matrix
        product = one = ops.eye(square.shape[0])
        for _ in range(steps):
            factor = self.muon_a * one + self.muon_b * square + self.muon_c * square @ square
            square, product = factor @ square @ factor, factor @ product
        return ops.reshape(matrix @ product, x.shape)


@keras.saving.register_keras_serializable(package="recipes")
class FlipAveraged(layers.Wrapper):
    """Answers, but for training, with the mean of a net's logits for an image and its mirror image."""

    def call(self, images, training=False):
        logits = self.layer(images, training=training)
        return logits if training else (logits + self.layer(ops.flip(images, axis=2))) / 2


def whitening(images_and_labels, epsilon=5e-4):
    """A kernel (2, 2, channels, 8 * channels) that makes patches uncorrelated, and its negative."""
    images = ops.concatenate([ops.cast(images, "float32") / 64 - 2 for images, _ in images_and_labels])
    patches = ops.image.extract_patches(images, 2, strides=1, padding="valid")
    patches = ops.reshape(patches, (-1, patches.shape[-1]))
    values, vectors = ops.eigh(ops.transpose(patches) @ patches / len(patches))
    kernel = ops.reshape(vectors / ops.sqrt(values + epsilon), (2, 2, images.shape[-1], -1))
    return ops.concatenate([kernel, -kernel], axis=-1)


def build_model(shape, classes, width=0.5, *, normalization=FusedBatchNorm, activation="relu"):
    """Map images (batch, *shape) with values 0 to 255 to logits float32 (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    x = layers.Conv2D(8 * shape[-1], 2, trainable=False, use_bias=False, name="whitening")(x)
    x = layers.Activation(activation)(x)
    for filters, convolutions in ((64, 2), (256, 2), (256, 3)):
        for number in range(convolutions):
            x = layers.Conv2D(int(width * filters), 3, padding="same", use_bias=False)(x)
            x = x if number else layers.MaxPooling2D()(x)
            x = normalization(momentum=0.6, epsilon=1e-5, scale=False)(x)  # 0.99 would be too slow.
            x = layers.Activation(activation)(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(images, layers.Dense(classes, use_bias=False, dtype="float32", name="head")(x))


def train(
    train_set, validation_set, classes, *, width=0.5, rate=0.02, decay=0.2, smoothing=0.2, mirror=True,
    shift=2, more_augmentation=(), loss=SmoothedCrossentropy, epochs=5, policy="mixed_bfloat16",
    optimizer=None, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train on batches of 250 images, as `keras.utils.image_dataset_from_directory` returns them."""
    shape = train_set.element_spec[0].shape[1:]
    with dtype_policy(policy):
        net = build_model(shape, classes, **({} if width == 0.5 else {"width": width}))
    augmentation = [layers.RandomFlip("horizontal")] if mirror else []
    if shift:  # By whole pixels: in between, interpolation blurs.
        share = [(shift + 0.5) / side for side in shape[:2]]
        augmentation.append(layers.RandomTranslation(*share, "reflect", "nearest", dtype="float32"))
    augmentation += [*more_augmentation, FlipAveraged(net) if mirror else net]
    model = keras.Sequential([keras.Input(shape), *augmentation])
    if "whitening" in [layer.name for layer in net.layers]:  # A model of your own has none.
        net.get_layer("whitening").kernel.assign(whitening(train_set.take(20)))
    if optimizer is None:  # The last layer trains better with Muon's built-in AdamW.
        rate = build_rate("linear", rate, epochs * len(train_set), warmup=0.2)
        how = {"momentum": 0.9, "weight_decay": decay, "adam_weight_decay": decay}
        optimizer = GramMuon(rate, exclude_layers=[net.layers[-1].name], **how)
    model.compile(optimizer, loss(from_logits=True, label_smoothing=smoothing), metrics=["accuracy"])
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("strong_baseline")
