"""Which normalization should a deep network have, and where should you put it?

Not measured yet: batch, layer and group normalization, tanh(a · x) and none in residual networks of three
depths; before each branch, after each addition, and branches that begin at zero.

Run       python -m recipes.normalization      five normalizations, and three places at the largest depth
Copy      normalization, DyT and residual_block
Careful   at Keras's momentum of 0.99, BatchNorm's averages take some 300 steps to settle
Numbers   results/normalization/README.md
Papers    arXiv:1502.03167 (BatchNorm), arXiv:1607.06450 (LayerNorm), arXiv:1803.08494 (GroupNorm),
          arXiv:2503.10622 (tanh(a · x)), arXiv:2003.04887 (ReZero)
"""

import keras
from keras import layers, ops, optimizers


@keras.saving.register_keras_serializable("recipes")
class DyT(layers.Layer):
    """tanh(a · x), scaled and shifted: an element-wise layer in the place of a normalization.

    Takes x (batch, ..., channels). The factor a is one trainable number; scale and shift are one a channel.
    """

    def __init__(self, alpha=0.5, **how):
        super().__init__(**how)
        self.first_alpha = alpha

    def build(self, shape):
        first = keras.initializers.Constant(self.first_alpha)
        self.alpha = self.add_weight(shape=(), initializer=first, name="alpha")
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones", name="gamma")
        self.beta = self.add_weight(shape=shape[-1:], initializer="zeros", name="beta")

    def call(self, x):
        return self.gamma * ops.tanh(self.alpha * x) + self.beta

    def get_config(self):
        return {**super().get_config(), "alpha": self.first_alpha}


def normalization(kind, momentum=0.9, alpha=0.5):
    """A layer for x (batch, height, width, channels). `momentum` is BatchNorm's, `alpha` the first a."""
    if kind == "batch":  # With Keras's momentum, 0.99, inference lags hundreds of steps behind.
        return layers.BatchNormalization(momentum=momentum)
    if kind == "layer":  # Each position by its own channels.
        return layers.LayerNormalization()
    if kind == "group":
        return layers.GroupNormalization(groups=4)
    if kind == "dyt":
        return DyT(alpha)
    if kind == "none":
        return layers.Identity()
    raise ValueError(f"unknown normalization {kind!r}: use batch, layer, group, dyt or none")


def residual_block(x, norm, place="pre"):
    """Add two convolutions of x (batch, height, width, channels) to x. `norm` makes a normalization layer.

    `place` is "pre" for x + f(norm(x)), "post" for norm(x + f(x)), and "rezero" for x + 0 · f(x) with a
    factor that is trained.
    """
    y = norm()(x) if place == "pre" else x
    for activation in ("relu", None):
        how = {"padding": "same", "kernel_initializer": "he_normal"}
        y = layers.Conv2D(x.shape[-1], 3, activation=activation, **how)(y)
    if place == "rezero":  # One factor a channel. ReZero's authors have one a block.
        y = layers.DepthwiseConv2D(1, depthwise_initializer="zeros", use_bias=False)(y)
    x = layers.Add()([x, y])
    return norm()(x) if place == "post" else x


def build_model(shape, classes, *, kind="batch", place="pre", depth=6, filters=16, momentum=0.9, alpha=0.5):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes); `depth` residual blocks."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(filters, 3, 2, padding="same")(x)
    for _ in range(depth):
        x = residual_block(x, lambda: normalization(kind, momentum, alpha), place)
    if place == "pre":
        x = normalization(kind, momentum, alpha)(x)
    return keras.Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(layers.ReLU()(x))))


def warmup_cosine(peak, steps):
    """Linear warm-up over the first fifth of the steps, then cosine decay to zero."""
    warmup = max(1, steps // 5)
    # Keras counts decay_steps from the warm-up's end. A start at zero would waste a step.
    return optimizers.schedules.CosineDecay(
        peak / warmup, decay_steps=max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def train(train_set, validation_set, classes, *, rate=0.003, epochs=5, build_model=build_model, callbacks=()):
    """Train with Adam and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. `rate` may be a schedule.
    """
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    if isinstance(rate, (int, float)):
        rate = warmup_cosine(rate, epochs * len(train_set))
    model.compile(
        optimizer=optimizers.Adam(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("normalization")
