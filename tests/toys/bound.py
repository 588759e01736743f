"""Does a hidden layer help, as a reader would train it?

A toy whose variants are partial functions of a plain training, for testing what the laboratory gives to one.
"""

import sys
from functools import partial

import keras
from keras import layers

from lab import Claim, Experiment, Objective, Tuning, main


def build_model(shape, classes, units=0):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    model = keras.Sequential([keras.Input(shape), layers.Rescaling(1 / 64, -2), layers.AveragePooling2D(4)])
    model.add(layers.Flatten())
    if units:
        model.add(layers.Dense(units, "relu"))
    model.add(layers.Dense(classes))
    return model


def train(
    train_set, validation_set, classes, kind="adam", *, rate=0.003, decay=None, epochs=2, build_model=build_model,
    callbacks=(),
):  # fmt: skip
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=decay or 0.0), loss, metrics=["accuracy"])
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


VARIANTS = {
    "linear": partial(train),
    "hidden": partial(train, rate=0.002, build_model=partial(build_model, units=32)),
    "few": partial(train, epochs=3),
}
CLAIMS = [Claim("T3", "A hidden layer helps", "us", "test_accuracy", higher="hidden", than="linear")]
EXPERIMENT = Experiment(
    sys.modules[__name__],
    VARIANTS,
    CLAIMS,
    flags={"batch_size": 50},
    own_flags={"few": {"images": 100}},
    extra=lambda model, run, data: {"weights": model.count_params(), "trained_on": len(data.train)},
    tuning=Tuning("rate", {"linear": (0.001, 0.003)}, Objective("validation_accuracy")),
    first_seed=1,
)

if __name__ == "__main__":
    main("tests.toys.bound")
