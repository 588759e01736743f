"""Which activation function should a convnet have?

Not measured yet: sigmoid, tanh, ReLU, Leaky ReLU, GELU, SiLU, Mish and SwiGLU, in plain stacks and in
residual blocks of three depths, each with the initializer that fits it and at its own learning rate.

Run       python -m recipes.activations      twelve plain layers, and six residual blocks
Copy      hidden_layer and INITIALIZERS
Careful   change the initializer with the activation, and tune the learning rate again; SwiGLU needs a
          LayerNorm before each layer: without one it overflows, and BatchNorm is not enough
Numbers   results/activations/README.md
Papers    arXiv:1606.08415 (GELU), arXiv:1710.05941 (SiLU), arXiv:1908.08681 (Mish),
          arXiv:2002.05202 (SwiGLU), arXiv:1502.01852 (He's initializer)
"""

import keras
from keras import layers, ops, optimizers

# All others get He's initializer. It makes up for the half of its input that ReLU sets to zero, and does so
# for GELU and Mish, roughly. SiLU loses more of the gradient: give a deep stack of it a normalization.
# Glorot's initializer, Keras's default, is for activations that are nearly linear around zero.
INITIALIZERS = {"sigmoid": "glorot_uniform", "tanh": "glorot_uniform", "linear": "glorot_uniform"}


def hidden_layer(x, filters, activation="relu", strides=1, initializer=None):
    """A 3 × 3 convolution of x (batch, height, width, channels) with its activation.

    For all but SwiGLU Keras has it in one line: `layers.Conv2D(filters, 3, strides, padding="same",
    kernel_initializer="he_normal", activation="gelu")`.
    """
    gated = activation == "swiglu"
    x = layers.Conv2D(
        2 * filters if gated else filters, 3, strides, padding="same",
        kernel_initializer=initializer or INITIALIZERS.get(activation, "he_normal"),
    )(x)  # fmt: skip
    if not gated:
        return layers.Activation(activation)(x)
    # Keras has no layer for SwiGLU. One half of the channels, after SiLU, multiplies the other half.
    gate, value = ops.split(x, 2, axis=-1)
    return layers.Multiply()([layers.Activation("silu")(gate), value])


def residual_block(x, filters, activation="relu", norm=layers.LayerNormalization):
    """A normalization, a hidden layer and a 1 × 1 convolution, whose output is added to x.

    SwiGLU squares what it gets, so large values outgrow the others from block to block. LayerNorm bounds
    them at each position. BatchNorm divides all positions by one number, and does not.
    """
    y = hidden_layer(norm()(x), filters, activation)
    return layers.Add()([x, layers.Conv2D(x.shape[-1], 1)(y)])


def build_model(
    shape, classes, *, activation="relu", depth=6, residual=False, norm=layers.LayerNormalization,
    filters=24, initializer=None,
):  # fmt: skip
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes).

    It has `depth` hidden layers, one after the other or each in a residual block. For as many parameters
    and multiplications as the others, give SwiGLU 17 filters instead of 24, or 20 instead of 38 in
    residual blocks.
    """
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    x = layers.AveragePooling2D(2)(x)
    if residual:
        x = layers.Conv2D(16, 3, 2, padding="same")(x)
        for _ in range(depth):
            x = residual_block(x, filters, activation, norm)
        x = norm()(x)
    else:
        for number in range(depth):
            x = hidden_layer(x, filters, activation, 1 if number else 2, initializer)
    return keras.Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def warmup_cosine(peak, steps):
    """Linear warm-up over the first fifth of the steps, then cosine decay to zero."""
    warmup = max(1, steps // 5)
    # Keras counts decay_steps from the warm-up's end. A start at zero would waste a step.
    return optimizers.schedules.CosineDecay(
        peak / warmup, decay_steps=max(1, steps - warmup), warmup_target=peak, warmup_steps=warmup
    )


def train(
    train_set, validation_set, classes, *, rate=0.003, constant=False, momentum=False, epochs=5,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train with Adam, or else SGD with `momentum`, and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. The rate is `constant`, or the peak of a
    warm-up and cosine decay.
    """
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    schedule = rate if constant else warmup_cosine(rate, epochs * len(train_set))
    optimizer = optimizers.Adam(schedule)
    if momentum:
        optimizer = optimizers.SGD(schedule, momentum=0.9, nesterov=True)
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

    main("activations")
