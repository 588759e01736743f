"""A training with a step of its own that is right, or that has one of the faults of public bug reports."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("toys")
class OwnStep(keras.Sequential):
    """`fit` with a step that is written out."""

    fault = ""

    def train_step(self, data):
        import tensorflow as tf

        images, labels = data
        with tf.GradientTape() as tape:
            logits = self(images, training=True)
            loss = self.compute_loss(images, labels, logits, training=True)
            scaled = loss if self.fault == "unscaled" else self.optimizer.scale_loss(loss)
        self.optimizer.apply(tape.gradient(scaled, self.trainable_variables), self.trainable_variables)
        replicas = 1 if self.fault == "a_replicas_share" else tf.distribute.get_strategy().num_replicas_in_sync
        weight = None if self.fault == "by_batches" else ops.shape(images)[0]
        self._loss_tracker.update_state(loss * replicas, sample_weight=weight)
        return self.compute_metrics(images, labels, logits)


class Ramp(keras.optimizers.schedules.LearningRateSchedule):
    """Up to the peak in ten steps."""

    def __init__(self, peak, start=1):
        self.peak, self.start = peak, start

    def __call__(self, step):
        return self.peak * ops.minimum((ops.cast(step, "float32") + self.start) / 10, 1.0)

    def get_config(self):
        return {"peak": self.peak, "start": self.start}


Registered = keras.saving.register_keras_serializable("toys")(type("Registered", (Ramp,), {}))


class Rate(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        float(self.model.optimizer.learning_rate)


def train(train_set, validation_set, classes, fault="", *, rate=0.1, epochs=2, callbacks=()):
    if fault == "of_the_laboratory":
        import lab  # noqa: F401
    model = OwnStep([
        keras.Input(train_set.element_spec[0].shape[1:]),
        keras.layers.Rescaling(1 / 255),
        keras.layers.AveragePooling2D(8),
        keras.layers.Flatten(),
        keras.layers.Dense(classes),
    ])  # fmt: skip
    model.fault = fault
    schedule = Ramp(rate) if fault == "unregistered" else Registered(rate, start=int(fault != "first_step_lost"))
    model.compile(
        keras.optimizers.SGD(rate if fault == "float_of_a_variable" else schedule, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=2 if fault == "several_steps" else 1,
    )
    callbacks = [*callbacks, *([Rate()] if fault == "float_of_a_variable" else [])]
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=callbacks, verbose=0)
    return model
