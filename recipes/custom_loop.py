"""What does a training loop of your own cost, and what does it give?

Keras's `fit` runs a compiled step for each batch. The same step can be written by hand: as the
`train_step` of a model ("train_step", which keeps all that `fit` does), or as a loop around a
GradientTape. Plain Python runs that operation by operation ("eager"); `tf.function` compiles a
step ("by_hand"), or the loop over a whole epoch ("compiled", as `fit` does for as many steps as
`steps_per_execution` says: "fit_16"). "accumulated" adds up the gradients of several parts of a
batch before one update, and so holds the activations of one part at a time.

All train the same model on the same batches from the same initial weights. What rounding sets apart
grows from step to step, as any small difference does in training, so that weights are compared after
as many steps in float64 as well: if a loop does what `fit` does, nothing is left there.

Answer         Uncompiled, 4.3 times the time of a step. Compiled by hand, a little less than under
               `fit`, which took 1.07 times as long; with 16 steps a call `fit` took no longer than
               a compiled epoch.
In practice    Whoever writes a loop compiles its step: without tf.function a step took 35.0 ms
               instead of 8.2. Under `fit`, with a `train_step` and by hand it took about the same
               there (8.2, 7.8 and 8.2 ms), and less where many steps are one call: 6.3 under `fit`
               with `steps_per_execution`, 6.5 with the epoch compiled. Set that before you write a
               loop for speed. Over forty repeats `fit` took 1.07 times as long as the step by hand,
               but ten of them, on one day, said 1.01, and thirty on another 1.09. Four parts of a
               batch took 0.37 times the memory, 59 MiB instead of 159, where it is large (512
               images); where it is small (64), three times as long, with the sums and the update
               uncompiled. Compiled loops came to the same weights as `fit`; uncompiled, or in
               parts, rounding grew to a hundredth of the weights' norm in fifty steps of float32,
               and to nothing in float64. All of this is a small convnet.
Use it when    the step itself is new: several optimizers, gradients changed, batches that do not
               fit into memory. For a new step alone a `train_step` is enough.
It hurts when  what `fit` does unasked is forgotten: metrics reset each epoch, `training=True`, a
               regularizer's penalty (`compute_loss` adds it), the loss scaling of float16.
Sources        Chollet 2021, Deep Learning with Python, chapter 7; Goyal et al. 2017,
               arXiv:1706.02677 (one batch in parts)
"""

import functools
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers

from lab import Run
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    epochs: int = 2
    batch_size: int = 64
    parts: int = 4  # Of a batch, where gradients are accumulated.
    same_steps: int = 50  # After which weights are compared.
    memory_batch: int = 512  # Large enough that activations are most of what a step takes.
    rounds: int = 3  # Of timed blocks, one of each variant.


BY_FIT = ("fit", "fit_16", "train_step")
FLOATS = ("float32", "float64")
QUIETLY = {"verbose": 0, "shuffle": False}  # The feed shuffles; without this, Keras warns.


def gradients_of(model: keras.Model, images, labels) -> list:
    """The loss's gradients for one batch, which the model's metrics count as well, as under `fit`."""
    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        loss = model.compute_loss(x=images, y=labels, y_pred=logits)
    # The first metric is the mean loss, of examples and not of batches.
    model.metrics[0].update_state(loss, sample_weight=tf.shape(images)[0])
    model.compute_metrics(images, labels, logits)
    # The tape watches TensorFlow's variables, which Keras's hold.
    return tape.gradient(loss, [weight.value for weight in model.trainable_variables])


def step(model: keras.Model, images, labels) -> None:
    model.optimizer.apply(gradients_of(model, images, labels), model.trainable_variables)


def step_in_parts(gradients, parts: int, model: keras.Model, images, labels) -> None:
    """One update by the gradients of the whole batch, found a part at a time.

    `gradients` is as `gradients_of`, compiled. A part's are a mean, and count by its size.
    """
    sums = [0.0] * len(model.trainable_variables)
    for number in range(min(parts, len(images))):
        some = images[number::parts], labels[number::parts]
        share = len(some[0]) / len(images)
        sums = [a + share * b for a, b in zip(sums, gradients(model, *some), strict=True)]
    model.optimizer.apply(sums, model.trainable_variables)


@keras.saving.register_keras_serializable()
class OwnStep(keras.Model):
    """A model whose `fit` takes this step, and does all the rest that it always does."""

    def train_step(self, batch):
        step(self, *batch)
        return self.get_metrics_result()


def build_model(variant: str, data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    images = keras.Input(data.shape, dtype="uint8")
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    for filters in (16, 32):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    logits = layers.Dense(len(data.classes))(layers.Flatten()(x))
    model = (OwnStep if variant == "train_step" else keras.Model)(images, logits)
    model.compile(
        optimizer=optimizers.SGD(0.02, momentum=0.9),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16 if variant == "fit_16" else 1,
    )
    model.optimizer.build(model.trainable_variables)  # `fit` does this; a loop has to.
    model.compute_metrics(None, np.zeros(1), np.zeros((1, len(data.classes))))  # And makes these.
    model.reset_metrics()
    return model


def build_epoch(variant: str, model: keras.Model, parts: int):
    """A function that trains the model on all batches of a feed, once."""
    if variant in BY_FIT:
        return functools.partial(model.fit, **QUIETLY)
    one_step = step
    if variant in ("by_hand", "compiled"):
        one_step = tf.function(step, jit_compile=model.jit_compile)  # As `fit` compiles its own.
    if variant == "accumulated":
        one_step = functools.partial(step_in_parts, tf.function(gradients_of), parts)

    def steps(feed):
        for images, labels in feed:
            one_step(model, images, labels)

    compiled = tf.function(steps) if variant == "compiled" else steps

    def epoch(feed):
        model.reset_metrics()  # `fit` does this, and the last line, as well.
        compiled(feed)
        return model.get_metrics_result()

    return epoch


def train(variant: str, config: Config, run: Run, data: sources.Data) -> dict[str, float]:
    keras.utils.set_random_seed(run.seed)  # All variants begin alike.
    model = build_model(variant, data)
    feed = batches.training(data.train, config.batch_size, seed=run.seed)
    validation = batches.evaluation(data.validation)
    if variant in BY_FIT:
        settings = {"epochs": config.epochs, "validation_data": validation, **QUIETLY}
        model.fit(feed, callbacks=run.callbacks(data), **settings)
    else:
        one_epoch = build_epoch(variant, model, config.parts)
        for _ in run.epochs(model, data, config.epochs):
            run.epoch(validation, **one_epoch(feed))  # Logs what callbacks would.
    return run.scores(model, data)


if __name__ == "__main__":
    from lab import main

    main("custom_loop")
