"""Which loss should you train a classifier with, and what does one softmax too many cost?

Not measured yet: cross-entropy, label smoothing, focal loss and squared error, each at its own learning
rate, and models whose last layer doesn't fit `from_logits`.

Run       python -m recipes.losses      four losses, and three ways to mix up logits and probabilities
Copy      build_loss and OnIntegerLabels
Careful   apply softmax once: from_logits=True goes with a last layer that has no activation;
          import OnIntegerLabels before you load a model that was trained with it
Numbers   results/losses/README.md
Papers    arXiv:2006.07322 (squared error on logits), arXiv:1512.00567 (label smoothing),
          arXiv:1708.02002 (focal loss)
"""

import keras
from keras import layers, losses, ops, optimizers

# A first guess of the peak learning rate of each: none is tuned yet.
RATES = {
    "cross_entropy": 0.01, "label_smoothing": 0.01, "focal": 0.01, "squared_error_on_softmax": 0.01,
    "squared_error_on_logits": 0.01,
}  # fmt: skip


@keras.saving.register_keras_serializable("recipes")
class OnIntegerLabels(losses.Loss):
    """A Keras loss of one-hot labels (batch, classes), applied to integer labels (batch,).

    It gets the model's logits or, if `softmax`, their probabilities.
    """

    def __init__(self, loss, softmax=False, **how):
        super().__init__(**how)
        self.loss, self.softmax = loss, softmax

    def call(self, y_true, y_pred):
        labels = ops.reshape(ops.cast(y_true, "int32"), (-1,))
        outputs = ops.softmax(y_pred) if self.softmax else y_pred
        return self.loss.call(ops.one_hot(labels, y_pred.shape[-1]), outputs)

    def get_config(self):
        return {**super().get_config(), "loss": losses.serialize(self.loss), "softmax": self.softmax}

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "loss": losses.deserialize(config["loss"])})


def build_loss(name, smoothing=0.1, gamma=2.0):
    """A loss of integer labels (batch,) and logits (batch, classes). For one-hot labels, Keras's will do."""
    if name == "cross_entropy":
        return losses.SparseCategoricalCrossentropy(from_logits=True)
    if name == "label_smoothing":
        return OnIntegerLabels(losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing))
    if name == "focal":  # An alpha of 1 weighs no class. Keras's 0.25 makes the loss a quarter as large.
        return OnIntegerLabels(losses.CategoricalFocalCrossentropy(1.0, gamma, from_logits=True))
    if name == "squared_error_on_softmax":  # MeanSquaredError has no from_logits.
        return OnIntegerLabels(losses.MeanSquaredError(), softmax=True)
    if name == "squared_error_on_logits":
        return OnIntegerLabels(losses.MeanSquaredError())
    raise ValueError(f"unknown loss {name!r}: use one of {', '.join(RATES)}")


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
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))


def warmup_cosine(peak, steps):
    """Linear warm-up over the first fifth of the steps, then cosine decay to zero."""
    warmup = max(1, steps // 5)
    # Keras counts decay_steps from the warm-up's end. A start at zero would waste a step.
    return optimizers.schedules.CosineDecay(
        peak / warmup, decay_steps=max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def train(
    train_set, validation_set, classes, loss="cross_entropy", *, optimizer=optimizers.Adam, rate=None,
    smoothing=0.1, gamma=2.0, epochs=5, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train with one of the losses, and return the model, whose answers are logits.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. `rate` may be a schedule; it goes to `optimizer`.
    """
    rate = RATES[loss] if rate is None else rate
    if isinstance(rate, (int, float)):
        rate = warmup_cosine(rate, epochs * len(train_set))
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    model.compile(
        optimizer=optimizer(rate),
        loss=build_loss(loss, smoothing, gamma),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("losses")
