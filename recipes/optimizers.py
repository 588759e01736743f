"""Which optimizer should you train with?

On 8,000 images Muon goes furthest: 4.4 points above AdamW, each with its best rate and decay. Tune
and schedule the rate: Adam at a constant 0.001 ends 6.6 points lower.

Run       python -m recipes.optimizers      six optimizers, three seeds
Copy      build_optimizer with ConvMuon; warmup_cosine, which RATES are peaks of; DECAYS
Careful   never carry a rate over to another optimizer or schedule; import ConvMuon before you load its models
Numbers   results/optimizers/README.md
Papers    arXiv:1412.6980 (Adam), arXiv:1711.05101 (AdamW), Jordan 2024 (Muon)
"""

import keras
from keras import layers, ops, optimizers

# The best peak learning rate and weight decay of each, chosen on validation images.
RATES = {
    "sgd": 1.0,
    "momentum": 0.32,
    "rmsprop": 0.01,
    "adam": 0.018,
    "adamw": 0.032,
    "muon": 0.032,
}
DECAYS = {"sgd": 0.004, "momentum": 0.04, "adamw": 0.4, "muon": 0.4}


@keras.saving.register_keras_serializable(package="recipes")
class ConvMuon(optimizers.Muon):
    """Muon (Jordan 2024) that also orthogonalizes convolution kernels.

    Keras's Muon applies to matrices only and leaves 4-D kernels, most of a convnet, to AdamW. Here a
    kernel (height, width, in, out) counts as a matrix (height * width * in, out). Overrides private
    methods of Keras 3.15; a test fails if they change.
    """

    def _should_use_adamw(self, variable):
        return len(variable.shape) != 4 and super()._should_use_adamw(variable)

    def zeropower_via_newtonschulz5(self, x, steps):
        return ops.reshape(super().zeropower_via_newtonschulz5(self._as_matrix(x), steps), x.shape)

    def lr_adjust(self, x):
        return ops.reshape(super().lr_adjust(self._as_matrix(x)), x.shape)

    @staticmethod
    def _as_matrix(kernel):
        return ops.reshape(kernel, (-1, kernel.shape[-1]))


def build_optimizer(name, rate, decay=None, head="head"):
    """`rate` may be a schedule. `decay` is as in AdamW, which needs it. `head` is the last layer's name."""
    if name == "sgd":
        return optimizers.SGD(rate, weight_decay=decay)
    if name == "momentum":
        return optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=decay)
    if name == "rmsprop":
        return optimizers.RMSprop(rate)
    if name == "adam":
        return optimizers.Adam(rate)
    if name == "adamw":
        return optimizers.AdamW(rate, weight_decay=decay)
    if name == "muon":  # The last layer trains better with Muon's built-in AdamW.
        return ConvMuon(rate, weight_decay=decay, adam_weight_decay=decay, exclude_layers=[head])
    raise ValueError(f"unknown optimizer {name!r}: use one of {', '.join(RATES)}")


def warmup_cosine(peak, steps):
    """Linear warm-up over the first fifth of the steps, then cosine decay to zero."""
    warmup = max(1, steps // 5)
    # Keras counts decay_steps from the end of the warm-up. A start at zero would waste the first step.
    return optimizers.schedules.CosineDecay(
        peak / warmup, decay_steps=max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def build_model(shape, classes):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    for filters, strides in ((24, 2), (64, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D()(x)
        # Momentum 0.8, not 0.99: a few hundred steps are too few to forget the initial statistics.
        x = layers.BatchNormalization(momentum=0.8)(x)
        x = layers.ReLU()(x)
    return keras.Model(images, layers.Dense(classes, name="head")(layers.Flatten()(x)))


def train(
    train_set, validation_set, classes, optimizer="muon", *, rate=None, decay=None, epochs=5,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a convnet with one optimizer and return it.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. `rate` may be a schedule.
    """
    rate = RATES[optimizer] if rate is None else rate
    decay = DECAYS.get(optimizer) if decay is None else decay
    if isinstance(rate, float):
        rate = warmup_cosine(rate, steps=epochs * len(train_set))
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    model.compile(
        optimizer=build_optimizer(optimizer, rate, decay, head=model.layers[-1].name),
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

    main("optimizers")
