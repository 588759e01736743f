"""Which learning-rate schedule should you train with?

Lower the rate along a cosine: to zero, it ends 2.1 points above the best constant rate, as does
linear decay after a warm-up; ReduceLROnPlateau gains 1.9 points.

Run       python -m recipes.schedules      eight schedules, three seeds
Copy      build_rate with RATES and WarmUp, and build_callbacks for the plateau
Careful   a schedule must know the number of steps; import WarmUp before you load its models
Numbers   results/schedules/README.md
Papers    arXiv:1608.03983 (cosine), arXiv:1706.02677 (warm-up), arXiv:1708.07120 (one-cycle)
"""

from functools import partial

import keras
from keras import layers, ops, optimizers
from keras.optimizers import schedules

SGD = partial(optimizers.SGD, momentum=0.9, nesterov=True)
# SGD's best peak for each, by validation images (linear: warmup=0.1, floor=0.29; exponential: factor=0.3).
RATES = {"constant": 0.032, "plateau": 0.057, "exponential": 0.1, "inverse_time": 0.1,
         "cosine": 0.057, "linear": 0.056}  # fmt: skip


def build_rate(schedule, peak, steps, *, warmup=0.0, floor=0.0, factor=0.1):
    """The learning rate of a training of `steps` steps: a Keras schedule or, if constant, a number.

    `warmup` is the share of steps that rise to the peak (cosine and linear only); a cosine with 0.3
    is close to one-cycle. Linear decay ends at `floor` times the peak, and exponential and inverse-time
    decay at `factor` times the peak.
    """
    warm = round(warmup * steps)
    if schedule == "cosine" and warm:  # Keras counts decay_steps from the end of the warm-up.
        return schedules.CosineDecay(
            peak / warm, decay_steps=steps - warm, warmup_target=peak, warmup_steps=warm
        )
    if schedule == "cosine":
        return schedules.CosineDecay(peak, decay_steps=steps)
    if schedule == "linear":  # A polynomial of power 1.
        line = schedules.PolynomialDecay(peak, steps - warm, end_learning_rate=floor * peak)
        return WarmUp(line, warm) if warm else line
    if schedule == "exponential":
        return schedules.ExponentialDecay(peak, decay_steps=steps, decay_rate=factor)
    if schedule == "inverse_time":
        return schedules.InverseTimeDecay(peak, decay_steps=steps, decay_rate=1 / factor - 1)
    if schedule in ("constant", "plateau"):  # The plateau's callback lowers the rate.
        return peak
    raise ValueError(f"unknown schedule {schedule!r}: use one of {', '.join(RATES)}")


@keras.saving.register_keras_serializable("recipes")
class WarmUp(schedules.LearningRateSchedule):
    """A linear warm-up before any schedule. In Keras only CosineDecay has one."""

    def __init__(self, after, steps):
        self.after, self.steps = after, steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        rising = self.after(0) * (step + 1) / self.steps
        return ops.where(step < self.steps, rising, self.after(ops.maximum(step - self.steps, 0)))

    def get_config(self):  # A model is saved with its optimizer, and that with its schedule.
        return {"after": schedules.serialize(self.after), "steps": self.steps}

    @classmethod
    def from_config(cls, config):
        return cls(schedules.deserialize(config["after"]), config["steps"])


def build_callbacks(schedule):
    """Divide the learning rate by three after an epoch in which the validation loss did not fall."""
    if schedule == "plateau":
        return [keras.callbacks.ReduceLROnPlateau("val_loss", factor=1 / 3, patience=1)]
    return []


def build_model(shape, classes):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    return keras.Sequential([
        keras.Input(shape),
        layers.Rescaling(1 / 64, offset=-2),  # 0..255 becomes -2..2.
        layers.Conv2D(24, 3, strides=2, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(64, 3, padding="same", activation="relu"),
        layers.MaxPooling2D(),
        layers.Flatten(),
        layers.Dense(classes),
    ])  # fmt: skip


def train(
    train_set, validation_set, classes, schedule="cosine", *, rate=None, warmup=0.0, floor=0.0,
    factor=0.1, epochs=10, build_optimizer=SGD, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a convnet with one schedule and return it; `rate` is the peak.

    The sets are what `keras.utils.image_dataset_from_directory` returns: batches of images with
    values 0 to 255 and integer labels.
    """
    peak, steps = RATES[schedule] if rate is None else rate, epochs * len(train_set)
    rate = build_rate(schedule, peak, steps, warmup=warmup, floor=floor, factor=factor)
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    model.compile(
        optimizer=build_optimizer(rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(
        train_set, validation_data=validation_set, epochs=epochs,
        callbacks=[*build_callbacks(schedule), *callbacks], verbose=0,
    )  # fmt: skip
    return model


if __name__ == "__main__":
    from lab import main

    main("schedules")
