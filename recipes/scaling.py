"""How should you scale a model's inputs, and what happens if you don't?

Not measured yet: pixels as they are, from 0 to 1, standardized, and scaled twice; with one outlier among
them, and with BatchNorm behind them; a table with a column of 5 and one of 100,000.

Run       python -m recipes.scaling      four scalings, with and without BatchNorm
Copy      scaling_layer, as the first layer of your model
Careful   measure means and limits on training data alone; scale in the model or before it, not in both
Numbers   results/scaling/README.md
Papers    LeCun et al. 1998 (Efficient BackProp), arXiv:1502.03167 (BatchNorm)
"""

import keras
import numpy as np
from keras import layers, optimizers

# A first guess of the peak learning rate of each: none is tuned yet.
RATES = {"raw": 0.001, "unit": 0.003, "standardized": 0.003, "min_max": 0.003}


def scaling_layer(scaling, inputs=None):
    """A layer that scales images (batch, height, width, channels) or the rows of a table (batch, columns).

    Args:
        scaling: "standardized" makes the mean of each channel or column 0 and its variance 1, "min_max"
            moves it to between 0 and 1, "unit" divides by 255, and "raw" changes nothing.
        inputs: batches of training inputs, from which the first two take their numbers.
    """
    if scaling == "standardized":
        layer = layers.Normalization(dtype="float32")  # adapt fails in float16.
        layer.adapt(inputs)
        return layer
    if scaling == "min_max":  # Keras has no layer that adapts to the lowest and the highest value.
        low, high = np.inf, -np.inf
        for batch in inputs:
            rows = np.reshape(batch, (-1, batch.shape[-1]))
            low, high = np.minimum(low, rows.min(axis=0)), np.maximum(high, rows.max(axis=0))
        return layers.Normalization(mean=low, variance=(high - low) ** 2, dtype="float32")
    if scaling in ("unit", "raw"):
        return layers.Rescaling(1 / 255 if scaling == "unit" else 1.0)
    raise ValueError(f"unknown scaling {scaling!r}: use one of {', '.join(RATES)}")


def build_model(shape, classes, batch_norm=False):
    """Map scaled images (batch, *shape) to logits (batch, classes)."""
    images = keras.Input(shape)
    x = images
    for filters, strides in ((24, 2), (48, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", kernel_initializer="he_normal")(x)
        if batch_norm:
            # Momentum 0.8, not 0.99: a few hundred steps are too few to forget the initial statistics.
            x = layers.BatchNormalization(momentum=0.8)(x)
        x = layers.MaxPooling2D()(layers.ReLU()(x))
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
    train_set, validation_set, classes, scaling="standardized", *, optimizer=optimizers.Adam, rate=None,
    epochs=5, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a convnet whose first layer scales its images, and return it.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. `build_model` gets scaled images. `rate` may be
    a schedule, which goes to `optimizer`, and `scaling` a layer.
    """
    shape = train_set.element_spec[0].shape[1:]
    first = scaling
    if isinstance(scaling, str):
        first = scaling_layer(scaling, train_set.map(lambda images, _: images))
    if rate is None:
        rate = RATES[scaling if isinstance(scaling, str) else "standardized"]
    if isinstance(rate, (int, float)):
        rate = warmup_cosine(rate, epochs * len(train_set))
    images = keras.Input(shape)
    model = keras.Model(images, build_model(shape, classes)(first(images)))
    model.compile(
        optimizer=optimizer(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("scaling")
