"""When should you write your own training loop, and what must it then do itself?

Provisional (timed on 1 of 4 occasions). Write one when the step is new, and compile it: an eager
step takes 4.7× as long. The weights equal those of `fit`. For speed, set `steps_per_execution`.

Run       python -m recipes.custom_loop      six ways to train one model, three seeds
Copy      `accumulate` in train; OwnStep with one_step and gradients_of; fit_by_hand with one_epoch
Careful   a step of yours must pass training=True, use compute_loss (for penalties) and scale_loss (for
          float16); fit_by_hand is for one device; import OwnStep before you load its models
Numbers   results/custom_loop/README.md
Papers    arXiv:1706.02677 (one batch in parts)
"""

import keras
import tensorflow as tf
from keras import layers, losses, optimizers


def build_model(shape, classes, kind=keras.Model):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    return kind(images, layers.Dense(classes)(layers.Flatten()(x)))


def train(
    train_set, validation_set, classes, *, rate=0.02, epochs=2, accumulate=None,
    fit=keras.Model.fit, build_model=build_model, callbacks=(), **settings,
):  # fmt: skip
    """Train on sets as `keras.utils.image_dataset_from_directory` returns them; return the model.

    `accumulate=4` updates the weights once in four batches, as one batch of all four would, and drops a last
    group of fewer. A learning-rate schedule counts batches. `settings` go to `compile`: with
    `steps_per_execution=16`, one call from Python takes 16 steps (but fails under tf.distribute).
    """
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    optimizer = optimizers.SGD(rate, momentum=0.9, gradient_accumulation_steps=accumulate)
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **settings)
    fit(model, train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def gradients_of(model, images, labels, weights=None):
    """The gradients of a batch's loss. The model's metrics count the batch, as under `fit`."""
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = model.compute_loss(images, labels, logits, weights)
        scaled = model.optimizer.scale_loss(loss)  # For float16 only; `apply` divides by the scale.
    replicas = tf.distribute.get_strategy().num_replicas_in_sync  # Keras divides the loss by these.
    model.metrics[0].update_state(loss * replicas, sample_weight=tf.shape(images)[0])
    model.compute_metrics(images, labels, logits, weights)
    return tape.gradient(scaled, model.trainable_variables)


def one_step(model, images, labels, weights=None):
    """What `fit` does with a batch. Put your own idea here."""
    model.optimizer.apply(gradients_of(model, images, labels, weights), model.trainable_variables)
    return model.get_metrics_result()


def step_in_parts(model, images, labels, parts=4):
    """The same update from parts of the batch, one after another, to save memory: a step for fit_by_hand."""
    sums: dict = {}
    for number in range(min(parts, len(images))):
        with tf.control_dependencies(list(sums.values())):  # Waits for the part before.
            some = tf.identity(images[number::parts])
        share = len(some) / len(images)
        for place, gradient in enumerate(gradients_of(model, some, labels[number::parts])):
            if gradient is not None:  # A weight may have none, and an embedding's is sparse.
                sums[place] = sums.get(place, 0.0) + share * tf.convert_to_tensor(gradient)
    gradients = [sums.get(place) for place in range(len(model.trainable_variables))]
    model.optimizer.apply(gradients, model.trainable_variables)
    return model.get_metrics_result()


@keras.saving.register_keras_serializable(package="recipes")
class OwnStep(keras.Model):
    """A model whose `fit` uses `one_step`, and is as usual otherwise: `build_model(..., kind=OwnStep)`."""

    def train_step(self, batch):
        return one_step(self, *batch)


def one_epoch(model, train_set, step, callbacks):
    model.reset_metrics()
    for number, batch in enumerate(train_set):
        callbacks.on_train_batch_begin(number)
        callbacks.on_train_batch_end(number, step(model, *batch))
        if model.stop_training:
            break
    return {name: float(value) for name, value in model.get_metrics_result().items()}


def fit_by_hand(model, train_set, validation_data, epochs, callbacks, verbose=0, step=one_step):
    """Train without `model.fit`, silently, with any step. Keras's callbacks work as usual."""
    model.optimizer.build(model.trainable_variables)
    if not model.run_eagerly:
        step = tf.function(step, jit_compile=model.jit_compile)
    callbacks = keras.callbacks.CallbackList(callbacks, model=model, epochs=epochs)
    model.stop_training = False
    callbacks.on_train_begin()
    for epoch in range(epochs):
        callbacks.on_epoch_begin(epoch)
        logs = one_epoch(model, train_set, step, callbacks)
        found = model.evaluate(validation_data, callbacks=callbacks, return_dict=True, verbose=0)
        callbacks.on_epoch_end(epoch, logs | {f"val_{name}": found[name] for name in found})
        if model.stop_training:
            break
    model.optimizer.finalize_variable_values(model.trainable_variables)  # For `use_ema`.
    callbacks.on_train_end()


if __name__ == "__main__":
    from lab import main

    main("custom_loop")
