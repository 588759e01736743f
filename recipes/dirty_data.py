"""What does dirty data do to training, and what repairs it?

Not measured yet: extreme targets under three losses, extreme inputs, missing values, wrong labels, and images
that are in the training set and in the test set.

Run       python -m recipes.dirty_data
Copy      checked, clip_to_percentiles, fill_missing, duplicates; train with loss="huber" for a regression
Careful   take percentiles and fill-in values from training rows alone, then apply them to all rows; and clip
          only what cannot be true, since a real extreme may be what you want to predict
Numbers   results/dirty_data/README.md
Papers    Huber 1964 (robust loss), Little and Rubin 2002 (missing data)
"""

import hashlib

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, SimpleImputer


def checked(inputs, targets):
    """For `train_set.map(checked)`: fail before a step if an input or a target is NaN or infinite.

    `keras.callbacks.TerminateOnNaN` notices after the step, when weights are NaN already.
    """
    inputs = tf.debugging.assert_all_finite(tf.cast(inputs, "float32"), "an input is NaN or infinite")
    if targets.dtype.is_floating:
        targets = tf.debugging.assert_all_finite(targets, "a target is NaN or infinite")
    return inputs, targets


def clip_to_percentiles(values, train_values, low=1, high=99):
    """Values (rows,) or columns (rows, n) without extremes: those of training rows say what is extreme.

    Cut off more on each side than can be wrong there: else the percentile is itself a wrong value.
    """
    return np.clip(values, *np.nanpercentile(train_values, [low, high], axis=0))


def fill_missing(columns, train_columns, predict=True, flag=False):
    """Columns (rows, n) whose NaNs are predicted from the other columns, or else the training rows' means.

    With `flag` there is another column for each of those with NaNs, which says where they were.
    """
    how = {"add_indicator": flag}
    imputer = IterativeImputer(random_state=0, **how) if predict else SimpleImputer(**how)
    return imputer.fit(train_columns).transform(columns)


def duplicates(images, others):
    """The indexes of those images (n, ...) that are among `others`, to the bit."""
    known = {hashlib.sha256(other.tobytes()).digest() for other in others}
    found = [index for index, image in enumerate(images) if hashlib.sha256(image.tobytes()).digest() in known]
    return np.array(found, int)


def build_model(shape, outputs, batch_norm=False):
    """Map columns (batch, *shape) to (batch, outputs): a regression's prediction, or logits."""
    columns = keras.Input(shape)
    x = layers.Normalization(name="scaling")(columns)
    for _ in range(2):
        x = layers.Dense(64, kernel_initializer="he_normal")(x)
        x = layers.BatchNormalization(momentum=0.9)(x) if batch_norm else x
        x = layers.ReLU()(x)
    return keras.Model(columns, layers.Dense(outputs)(x))


def train(
    train_set, validation_set, classes=None, *, loss="huber", rate=0.003, epochs=20, build_model=build_model,
    callbacks=(),
):  # fmt: skip
    """Train with Adam and return a model that predicts in the targets' unit, or logits.

    The sets hold batches of inputs and of targets float32 (batch,), or integer labels if there are `classes`.
    A regression is trained on targets in units of their quartiles' distance, where Huber's loss is squared up
    to 1 and linear beyond. Its `loss` may also be "mse", "mae" or another one of Keras. `callbacks` see the
    model inside the returned one: what they save or report is in those units. Compile the returned model
    before you evaluate it.
    """
    if classes:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    else:
        targets = np.concatenate([targets for _, targets in train_set.as_numpy_iterator()])
        low, center, high = np.percentile(targets, [25, 50, 75])
        scale = (high - low) or targets.std() or 1.0  # More than half of the targets may be equal.
        train_set, validation_set = (
            part and part.map(lambda inputs, targets: (inputs, (targets[:, None] - center) / scale))
            for part in (train_set, validation_set)
        )
    model = build_model(train_set.element_spec[0].shape[1:], classes or 1)
    if "scaling" in [layer.name for layer in model.layers]:
        model.get_layer("scaling").adapt(train_set.map(lambda inputs, _: inputs))
    schedule = keras.optimizers.schedules.CosineDecay(rate, epochs * len(train_set))
    model.compile(keras.optimizers.Adam(schedule), loss, metrics=["accuracy"] if classes else [])
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    if classes:
        return model
    return keras.Sequential([model, layers.Rescaling(scale, center), layers.Flatten()])


if __name__ == "__main__":
    from lab import main

    main("dirty_data")
