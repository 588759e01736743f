"""Does a hidden layer help?

A toy with a model, for testing what is said of trained models: two variants of `train`, a tuning and a search space.
"""

import sys
from dataclasses import dataclass

import keras
import numpy as np
from keras import layers

from lab import Claim, Experiment, Objective, Run, Tuning, main
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    epochs: int = 2
    batch_size: int = 50
    rate: float = 0.003
    diverge: int = 0  # The epoch, counted from 1, in which weights become NaN.


VARIANTS = {"linear": 0, "hidden": 32}


class Diverge(keras.callbacks.Callback):
    """Makes the last layer's kernel NaN at the beginning of an epoch."""

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            weight = self.model.trainable_variables[-2]
            weight.assign(np.full(weight.shape, np.nan))


def build_model(variant: str, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), layers.Rescaling(1 / 64, -2)])
    model.add(layers.AveragePooling2D(4))
    model.add(layers.Flatten())
    if VARIANTS[variant]:
        model.add(layers.Dense(VARIANTS[variant], "relu"))
    model.add(layers.Dropout(0.1))
    model.add(layers.Dense(len(data.classes)))
    return model


def train(variant: str, config: Config, run: Run, data: sources.Data | None = None) -> dict[str, float]:
    data = data or sources.load(run.data)
    model = build_model(variant, data)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(config.rate), loss, metrics=["accuracy"])
    model.fit(
        batches.training(data.train, config.batch_size, seed=run.seed),
        epochs=config.epochs,
        validation_data=batches.evaluation(data.validation),
        callbacks=[Diverge(config.diverge), *run.callbacks(data)],
        shuffle=False,
        verbose=0,
    )
    return run.scores(model, data)


CLAIMS = [Claim("T1", "A hidden layer helps", "us", "test_accuracy", higher="hidden", than="linear")]
TUNING = Tuning("rate", dict.fromkeys(VARIANTS, (0.001, 0.003)), Objective("validation_accuracy"))
EXPERIMENT = Experiment(sys.modules[__name__], VARIANTS, CLAIMS, Config, train=train, tuning=TUNING, first_seed=1)

if __name__ == "__main__":
    main("tests.toys.tiny")
