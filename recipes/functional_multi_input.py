"""What does a second input add to a model, and what does a second output add?

A second input can help: six color numbers add 2.7 points to a gray picture. As a second output with
a small weight they make no real difference.

Run       python -m recipes.functional_multi_input
Copy      build_model with picture_branch, and train; image_and_numbers, with thumbnail and color_numbers,
          shows how a set names its inputs and its targets
Careful   The sets hold dictionaries, and their names are those of the model's inputs and outputs.
          The two losses differ in scale, so equal weights are not neutral: try three weights.
Numbers   results/functional_multi_input/README.md
Papers    Caruana 1997, Machine Learning 28; Caruana and de Sa 1996, NeurIPS (numbers as outputs);
          Chollet 2021, Deep Learning with Python, chapter 7
"""

import keras
import tensorflow as tf
from keras import layers, losses, optimizers


def thumbnail(images):
    """Gray, at half the size: images (batch, height, width, 3) to float32 (batch, .../2, .../2, 1)."""
    gray = tf.reduce_mean(tf.cast(images, tf.float32), axis=3, keepdims=True)
    return tf.nn.avg_pool2d(gray, ksize=2, strides=2, padding="VALID")


def color_numbers(images):
    """The mean and standard deviation of each color, in units of 64 levels: float32 (batch, 6)."""
    mean, variance = tf.nn.moments(tf.cast(images, tf.float32), axes=[1, 2])
    return tf.concat([mean, tf.sqrt(variance)], axis=1) / 64


def image_and_numbers(images, labels):
    """Two inputs, one output: `train_set.map(image_and_numbers)` is a set that `train` takes."""
    return {"image": thumbnail(images), "numbers": color_numbers(images)}, {"label": labels}


def image_to_numbers(images, labels):
    """One input, two outputs: the second task is to predict the numbers from the gray picture."""
    return {"image": thumbnail(images)}, {"label": labels, "second": color_numbers(images)}


def picture_branch(images):
    """Features (batch, 64) of pictures (batch, height, width, channels), 0 to 255."""
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return layers.Dense(64, activation="relu")(layers.Flatten()(x))


def build_model(shapes, classes, second=0):
    """A branch for each input, merged, and an output for each target.

    `shapes` maps the name of each input to its shape: (height, width, channels) for pictures and
    (n,) for numbers. The outputs are "label", logits (batch, classes), and if `second` is
    above zero "second", (batch, second).
    """
    inputs = {name: keras.Input(shape, name=name) for name, shape in shapes.items()}
    branches = []
    for name, value in inputs.items():
        if len(shapes[name]) == 3:
            branches.append(picture_branch(value))
        else:
            # Adapted by `train`, so that the model itself knows the mean and spread of a table. In float32:
            # float16 has no room for the variance of large numbers.
            scaled = layers.Normalization(name=f"{name}_scaled", dtype="float32")(value)
            branches.append(layers.Dense(64, activation="relu")(scaled))
    merged = layers.Concatenate()(branches) if len(branches) > 1 else branches[0]
    x = layers.Dense(64, activation="relu")(merged)
    outputs = {"label": layers.Dense(classes, name="label")(x)}
    if second:
        outputs["second"] = layers.Dense(second, name="second")(x)
    return keras.Model(inputs, outputs)


def train(
    train_set, validation_set, classes, *, second_weight=0.1, rate=0.0057, epochs=10,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a model with an input for each name in the sets, and return it.

    The sets hold batches of two dictionaries: inputs, which are images or tables (batch, n), and targets. The
    target "label" is a whole number. A target "second" (batch, n), numbers of about one in size, is optional.
    `second_weight` is the weight of its loss.
    """
    inputs, targets = train_set.element_spec
    shapes = {name: tuple(spec.shape[1:]) for name, spec in inputs.items()}
    model = build_model(shapes, classes, targets["second"].shape[1] if "second" in targets else 0)
    for name, shape in shapes.items():
        if len(shape) == 1:
            numbers = train_set.map(lambda inputs, targets, name=name: inputs[name])
            model.get_layer(f"{name}_scaled").adapt(numbers)  # Training images alone.
    loss = {"label": losses.SparseCategoricalCrossentropy(from_logits=True), "second": "mse"}
    weights, metrics = (
        {"label": 1.0, "second": second_weight},
        {"label": ["accuracy"], "second": []},
    )
    model.compile(
        optimizer=optimizers.Adam(optimizers.schedules.CosineDecay(rate, epochs * len(train_set))),
        loss={name: loss[name] for name in targets},
        loss_weights={name: weights[name] for name in targets},
        metrics={name: metrics[name] for name in targets},
        steps_per_execution=16,  # Steps a call. Leave it out under tf.distribute.
    )
    model.fit(
        train_set,
        validation_data=validation_set,
        epochs=epochs,
        callbacks=list(callbacks),
        verbose=0,
    )
    return model


if __name__ == "__main__":
    from lab import main

    main("functional_multi_input")
