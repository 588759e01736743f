"""What keeps a convnet from learning a small training set by heart?

With a thousand images a small convnet soon knows every one of them, and from then on its validation
loss rises. Dropout takes random features away while it trains; L2 and L1 penalize large weights,
weight decay shrinks them beside the gradient's step; label smoothing asks for less certainty.
Augmentation and cutout show each image in many ways. Early stopping, and the best of all
checkpoints, change nothing about the training and choose where it has been best.

Answer         Mirrored and shifted images: 5.1 points. Penalties on weights: no gain that showed.
In practice    Augment first: mirroring and shifts by up to 3 pixels took test accuracy to 48.6 %,
               5.1 points up. Dropout of 0.5 gained 2.8 points by itself, and beside augmentation
               ended 2.3 lower than augmentation alone (ten seeds leave open whether it does): with
               both, the loss still falls after 30 epochs, so train for longer, or choose one.
               Cutting out squares of 20 pixels gained 1.9. L2, L1, weight decay and label
               smoothing, each at its best strength, ended at 43.2 to 43.5 %, and a model with none
               of them, over the same seeds, at 43.5 %: penalties shrink weights, while the gap
               stays at 56 to 57 points. Early stopping by the validation loss saved 18.2 of 30
               epochs and cost 2.0 points, because accuracy goes on rising for a while after the
               loss does: watch what you want to be good. Even the best epoch by validation accuracy
               gained only 0.2 over the last. All of this is about a thousand images and 30 epochs
               at a constant rate: with all of CIFAR-10, and twenty epochs, L2, L1 and weight decay
               gained about two points as well, early stopping cost nothing, and augmentation still
               gained the most.
Use it when    training accuracy is near 100 %, and validation accuracy far below.
It hurts when  training accuracy is low as well: the model then needs more size, time or rate.
Sources        Srivastava et al. 2014, JMLR 15; Loshchilov and Hutter 2019, arXiv:1711.05101;
               Szegedy et al. 2016, arXiv:1512.00567; DeVries and Taylor 2017, arXiv:1708.04552;
               Prechelt 1998, Early Stopping, but when?
"""

import dataclasses
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops, optimizers, regularizers

from lab import Run
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    images: int = 1000  # To train on; the smaller, the more there is to regularize.
    epochs: int = 30
    batch_size: int = 50
    rate: float = 1e-3  # Adam's, and constant: where a schedule ends at zero, it regularizes, too.
    patience: int = 5  # Epochs that early stopping waits for a lower validation loss.
    strength: float | None = None  # None: the variant's own below.
    tuned_at: str = "quick"  # Or "full": the budget that those below were tuned at.


# Strengths that won on validation: `python -m recipes.regularization tune` finds them again.
STRENGTHS = {
    "dropout": 0.5,  # The share of features that are left out.
    "l2": 0.0001,
    "l1": 5.6e-05,
    "weight_decay": 0.1,  # Times the rate, of each weight at each step.
    "augmentation": 3.0,  # The most pixels that an image is shifted by, both ways; half are mirrored.
    "cutout": 20.0,  # The side of the square, in pixels.
    "label_smoothing": 0.0051,
}
FULL_STRENGTHS = {
    "dropout": 0.11, "l2": 0.001, "l1": 5.6e-05, "weight_decay": 0.32, "augmentation": 2.0,
    "cutout": 16.0, "label_smoothing": 0.05,
}  # fmt: skip
# Which epoch's weights are kept: where this was best. The others keep the last.
KEPT_BY = {"early_stopping": "val_loss", "best_accuracy": "val_accuracy"}
# All that helped: of the sweep's winners these two stood out by validation, 45.8 and 48.4 %; the
# others ended between 42 and 44 %.
COMBINED = ("dropout", "augmentation")


def strengths(variant: str, config: Config) -> dict[str, float]:
    """Technique -> strength, of those that change the training."""
    found = FULL_STRENGTHS if config.tuned_at == "full" else STRENGTHS
    if variant == "all":
        return {technique: found[technique] for technique in COMBINED}
    if variant in found:
        return {variant: found[variant] if config.strength is None else config.strength}
    return {}


def cut_out(images, number, side: int):
    """A gray square of `side` pixels at another place of each square image, by a random number."""
    size = images.shape[1]
    middles = size * tf.random.stateless_uniform((2, tf.shape(images)[0], 1), (number, 0))
    rows, columns = tf.unstack(tf.abs(tf.range(size, dtype=tf.float32) + 0.5 - middles) < side / 2)
    square = rows[:, :, None, None] & columns[:, None, :, None]
    return tf.where(square, tf.constant(128, tf.uint8), images)  # 128 is 0 to the model.


def build_feed(train: sources.Split, config: Config, chosen: dict, seed: int) -> tf.data.Dataset:
    """Batches of images uint8 (batch, height, width, 3) and labels int32 (batch,)."""
    shift = round(chosen.get("augmentation", 0))
    feed = batches.training(train, config.batch_size, seed=seed, augment=shift > 0, shift=shift)
    if "cutout" in chosen:
        numbers = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
        side = round(chosen["cutout"])
        feed = tf.data.Dataset.zip(feed, numbers)
        feed = feed.map(lambda batch, number: (cut_out(batch[0], number, side), batch[1]))
    return feed


def build_model(variant: str, data: sources.Data, config: Config) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    chosen = strengths(variant, config)
    penalty = {
        "kernel_regularizer": regularizers.L1L2(chosen.get("l1", 0.0), chosen.get("l2", 0.0))
    }
    # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), layers.Rescaling(1 / 64, -2)])
    for filters, strides in ((32, 2), (64, 1)):
        model.add(layers.Conv2D(filters, 3, strides, "same", activation="relu", **penalty))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(chosen.get("dropout", 0.0)))
    model.add(layers.Dense(128, "relu", **penalty))
    model.add(layers.Dropout(chosen.get("dropout", 0.0)))
    model.add(layers.Dense(len(data.classes), **penalty))
    return model


@keras.saving.register_keras_serializable()
class SmoothedCrossentropy(keras.losses.SparseCategoricalCrossentropy):
    """Of logits (batch, classes) against whole-number labels, which give `smoothing` to all classes alike."""

    def __init__(self, smoothing: float):
        super().__init__(from_logits=True)
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        certain = ops.one_hot(ops.reshape(y_true, (-1,)), y_pred.shape[-1])
        smooth = (1 - self.smoothing) * certain + self.smoothing / y_pred.shape[-1]
        return ops.categorical_crossentropy(smooth, y_pred, from_logits=True)

    def get_config(self):  # So that a model can be saved with its loss.
        return {"smoothing": self.smoothing}


def build_callbacks(variant: str, config: Config) -> list:
    """What chooses among the epochs' weights: early, or after the last epoch."""
    if variant not in KEPT_BY:
        return []
    patience = config.patience if variant == "early_stopping" else config.epochs
    stop = keras.callbacks.EarlyStopping
    return [stop(KEPT_BY[variant], patience=patience, restore_best_weights=True)]


def weights(model: keras.Model) -> dict[str, float]:
    """How large they are, biases left out; a thousandth is a fiftieth of a typical one without a penalty."""
    kernels = [variable.numpy() for variable in model.trainable_variables if variable.ndim > 1]
    size = np.abs(np.concatenate([kernel.ravel() for kernel in kernels]))
    return {"weight_norm": float(np.linalg.norm(size)), "near_zero": float(np.mean(size < 0.001))}


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    few = np.random.default_rng(run.seed).permutation(len(data.train))[: config.images]
    data = dataclasses.replace(data, train=data.train.take(few))  # Other images at each seed.
    chosen = strengths(variant, config)
    model = build_model(variant, data, config)
    model.compile(
        # Without decay it is Adam.
        optimizer=optimizers.AdamW(config.rate, weight_decay=chosen.get("weight_decay", 0.0)),
        loss=SmoothedCrossentropy(chosen.get("label_smoothing", 0.0)),
        metrics=["accuracy"],
        steps_per_execution=20,  # An epoch of a thousand images: Python looks in once each.
    )
    history = model.fit(
        build_feed(data.train, config, chosen, run.seed),
        epochs=config.epochs, validation_data=batches.evaluation(data.validation),
        callbacks=[*run.callbacks(data), *build_callbacks(variant, config)],
        shuffle=False, verbose=0,  # The feed shuffles, anew each epoch; without this, Keras warns.
    ).history  # fmt: skip
    run.keep("gap", np.subtract(history["accuracy"], history["val_accuracy"]).tolist())
    return run.scores(model, data) | weights(model) | {"epochs": float(len(history["loss"]))}


if __name__ == "__main__":
    from lab import main

    main("regularization")
