"""Which learning-rate schedule takes a small convnet furthest in the same number of steps?

A rate that is right at the start is too high at the end: steps that crossed the landscape then only
bounce about its floor. Schedules lower the rate by the step: by a constant factor (exponential), as
1 / (1 + step) (inverse time), along half a cosine, or in a straight line. A warm-up climbs to the
peak first, while the weights are as far from good ones as they will be. One-cycle is both, from a
low rate over a peak to almost nothing. ReduceLROnPlateau waits until the validation loss stops
falling.

Answer         One that ends at zero: a cosine, or a straight line after a warm-up, 2.3 points above
               a constant rate.
In practice    Let the rate end at zero, along a cosine (64.6 %) or, after a warm-up, a straight
               line (64.7 %), from a peak of 0.057, nearly twice the best constant rate, 0.032 (62.2
               %, over the same seeds). A floor of 29 % of the peak made no difference that matters;
               a cosine after a warm-up (64.5 %) and one-cycle (64.4 %) ended beside the others.
               Where the end is not known, ReduceLROnPlateau gained 1.4 points. What falls early did
               worse: inverse time to a tenth gained 0.2, if anything, and an exponential decay to a
               hundredth lost 1.6. A constant rate of 0.01 ended 4.5 points lower, one of 0.1 8.1
               points, and at 1 nothing is learned, nor after a warm-up over half of the steps (11.3
               %). All of this is a convnet without normalization in ten epochs; with all of
               CIFAR-10 and twenty, inverse time gained as well, exponential decay perhaps, and a
               floor may cost a point.
Open           whether a warm-up helps at a peak of 0.1, the edge of what is stable: there a few
               runs end far below the others, with it and without, so that hundreds of seeds would
               be needed; and whether inverse time gains anything: a point at most.
Use it when    you train for a number of steps that you know: then let the rate end at zero.
It hurts when  the training goes on after the end of a schedule to zero, where nothing moves any
               more, or is stopped before it, where it has not yet paid.
Sources        Loshchilov and Hutter 2017, arXiv:1608.03983; Goyal et al. 2017, arXiv:1706.02677;
               Smith and Topin 2018, arXiv:1708.07120; Godbole et al. 2023, Deep Learning Tuning
               Playbook
"""

import math
from dataclasses import dataclass

import keras
from keras import layers, ops, optimizers
from keras.optimizers import schedules

from lab import Run
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    epochs: int = 10
    batch_size: int = 128
    rate: float | None = None  # The peak; None: the variant's own below.
    tuned_at: str = "quick"  # Or "full": the budget that those below were tuned at.


# Peaks that won on validation: `python -m recipes.schedules tune` finds them again.
RATES = {
    "constant": 0.032,
    "exponential": 0.1,
    "inverse_time": 0.1,
    "cosine": 0.057,
    "warm_up_cosine": 0.056,
    "warm_up_linear": 0.056,
    "warm_up_linear_floor": 0.057,
    "one_cycle": 0.056,
    "plateau": 0.057,
}
FULL_RATES = {
    "constant": 0.01,
    "exponential": 0.032,
    "inverse_time": 0.032,
    "cosine": 0.032,
    "warm_up_cosine": 0.032,
    "warm_up_linear": 0.056,
    "warm_up_linear_floor": 0.032,
    "one_cycle": 0.056,
    "plateau": 0.032,
}
# Away from the best, and so left out of a plain run: the name says the peak.
CONSTANTS = tuple(f"constant_at_{rate:g}" for rate in (1e-4, 1e-3, 1e-2, 1e-1, 1.0))


def warm_up_linear(share, floor: float = 0.0):
    """Up in the first tenth and down to the floor, in straight lines: always the lower one of the two."""
    return ops.minimum(share / 0.1, 1 - (1 - floor) * (share - 0.1) / 0.9)


def warm_up_linear_floor(share):
    return warm_up_linear(share, floor=0.29)


def one_cycle(share):
    """Smith and Topin 2018, with PyTorch's numbers: half cosines up in 30 %, and down; momentum stays as it is."""
    rising = between(1 / 25, 1, share / 0.3)
    falling = between(1, 1 / 25e4, (share - 0.3) / 0.7)
    return ops.where(share < 0.3, rising, falling)


def between(start: float, end: float, share):
    """Along half a cosine from `start`, at share 0, to `end`, at share 1."""
    return end + (start - end) * (1 + ops.cos(math.pi * share)) / 2


FORMULAS = {f.__name__: f for f in (warm_up_linear, warm_up_linear_floor, one_cycle)}


@keras.saving.register_keras_serializable()
class ByShare(schedules.LearningRateSchedule):
    """The peak times a formula's value of the share of all steps that are done; past the end, as at the end."""

    def __init__(self, shape: str, peak: float, steps: int):
        self.shape, self.peak, self.steps = shape, peak, steps

    def __call__(self, step):
        share = ops.minimum(ops.cast(step, "float32") / self.steps, 1.0)
        return self.peak * FORMULAS[self.shape](share)

    def get_config(self):  # So that a model can be saved with its optimizer.
        return {"shape": self.shape, "peak": self.peak, "steps": self.steps}


def build_rate(shape: str, peak: float, steps: int):
    """The rate of each of so many steps, as a schedule; or one number for all of them."""
    if shape in FORMULAS:
        return ByShare(shape, peak, steps)
    if shape == "exponential":  # Ends at a hundredth of the peak.
        return schedules.ExponentialDecay(peak, decay_steps=steps, decay_rate=0.01)
    if shape == "inverse_time":  # Ends at a tenth.
        return schedules.InverseTimeDecay(peak, decay_steps=steps, decay_rate=9)
    if shape == "cosine":
        return schedules.CosineDecay(peak, steps)
    if shape in ("warm_up_cosine", "long_warm_up_cosine"):
        up = steps // 10 if shape == "warm_up_cosine" else steps // 2
        # Keras counts the decay from the end of the warm-up.
        return schedules.CosineDecay(0.0, steps - up, warmup_target=peak, warmup_steps=up)
    return peak  # Constant, unless a callback lowers it.


def build_callbacks(shape: str) -> list:
    """Of a rate that waits for the validation loss: an epoch without progress, and it falls to a third."""
    if shape == "plateau":
        return [keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=1 / 3, patience=1)]
    return []


class AppliedRates(keras.callbacks.Callback):
    """The rate at the beginning of each call of Keras, as the optimizer applies it."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        self.values.append(float(self.model.optimizer.learning_rate))


def build_model(variant: str, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    rescale = layers.Rescaling(1 / 64, offset=-2)  # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), rescale])
    model.add(layers.Conv2D(24, 3, strides=2, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Conv2D(64, 3, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(len(data.classes)))
    return model


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    feed = batches.training(data.train, config.batch_size, seed=run.seed, augment=True)
    model = build_model(variant, data)

    shape, _, peak_in_name = variant.partition("_at_")
    rates = FULL_RATES if config.tuned_at == "full" else RATES
    peak = float(peak_in_name or rates[variant]) if config.rate is None else config.rate
    rate = build_rate(shape, peak, config.epochs * len(feed))
    model.compile(
        optimizer=optimizers.SGD(rate, momentum=0.9, nesterov=True),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=31,  # Of 62 steps an epoch; Python looks in between, which takes time.
    )
    applied = AppliedRates()
    model.fit(
        feed,
        epochs=config.epochs,
        validation_data=batches.evaluation(data.validation),
        callbacks=[*run.callbacks(data), applied, *build_callbacks(shape)],
        shuffle=False,  # The feed shuffles, anew each epoch; without this, Keras warns.
        verbose=0,
    )
    run.keep("applied_rate", applied.values)
    return run.scores(model, data)


if __name__ == "__main__":
    from lab import main

    main("schedules")
