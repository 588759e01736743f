"""Which batch size should you train with, and which learning rate belongs to it?

Not measured yet: batches of 16, 64, 256 and 1,000 images, at one rate and each at its own, for the same
number of epochs and of steps.

Run       python -m recipes.batch_size      four batch sizes, at one rate and each at its own
Copy      scaled_rate as a first guess, and agreement to see how noisy your gradients are
Careful   tune the learning rate again whenever you change the batch size
Numbers   results/batch_size/README.md
Papers    arXiv:1811.03600 (batch size and steps), arXiv:1812.06162 (gradient noise),
          arXiv:1706.02677 (linear scaling), arXiv:2205.10287 (square root scaling)
"""

import keras
import tensorflow as tf
from keras import layers, optimizers


def scaled_rate(rate, batch_size, of=64, power=1.0):
    """A first guess of the learning rate at `batch_size`, from one that is good at a batch size `of`.

    Rates of SGD are scaled in proportion (`power` 1), and those of Adam or RMSprop by the square root (0.5).
    The second is what a paper says, and was not measured here.
    """
    return rate * (batch_size / of) ** power


def agreement(model, images, labels, batch_size):
    """How far the gradients of batches point in the direction of the gradient of other images: mean cosine.

    Takes images (n, height, width, channels) and integer labels (n,), which are in a random order. The first
    half gives the direction, and the second half the batches, so that no batch is compared with itself. The
    model must be compiled. Near 1 a larger batch would tell the optimizer nothing new.
    """

    @tf.function
    def gradient(images, labels):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(y=labels, y_pred=model(images, training=False))
        # The tape watches TensorFlow's variables, which Keras's hold.
        found = tape.gradient(loss, [weight.value for weight in model.trainable_variables])
        return tf.math.l2_normalize(tf.concat([tf.reshape(part, [-1]) for part in found], axis=0))

    half = len(labels) // 2
    direction = gradient(images[:half], labels[:half])
    rest = tf.data.Dataset.from_tensor_slices((images[half:], labels[half:]))
    batches = rest.batch(batch_size, drop_remainder=True)
    return float(tf.reduce_mean([tf.reduce_sum(direction * gradient(*batch)) for batch in batches]))


def build_model(shape, classes):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes).

    There is no BatchNorm, whose statistics would change with the batch size as well.
    """
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    for filters, strides in ((24, 2), (48, 1)):
        x = layers.Conv2D(filters, 3, strides, "same", activation="relu", kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(classes)(x))


def warmup_cosine(peak, steps):
    """Linear warm-up over the first fifth of the steps, then cosine decay to zero."""
    warmup = max(1, steps // 5)
    # Keras counts decay_steps from the warm-up's end. A start at zero would waste a step.
    return optimizers.schedules.CosineDecay(
        peak / warmup, decay_steps=max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def train(
    train_set, validation_set, classes, *, rate=0.05, rmsprop=False, accumulate=None, steps=None, epochs=5,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train with SGD with momentum, or RMSprop, and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them: their batch size is the one that counts. Weights
    are updated after `accumulate` batches, as if these were one. `steps` replaces the number of epochs.
    """
    if steps:  # As one long epoch.
        train_set, epochs = train_set.repeat().take(steps), 1
    schedule = warmup_cosine(rate, epochs * len(train_set))  # It counts batches, not updates.
    how = {"gradient_accumulation_steps": accumulate}
    optimizer = optimizers.SGD(schedule, momentum=0.9, nesterov=True, **how)
    if rmsprop:
        optimizer = optimizers.RMSprop(schedule, **how)
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("batch_size")
