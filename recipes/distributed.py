"""Do several devices, or several machines, train the same model as one, and how much sooner?

A strategy of tf.distribute keeps a copy of the model on each device (a replica), gives each a share
of every batch, and adds up their gradients, so that all copies take the same step. Whether that is
the step of one device is up to the loss: each image weighs one part of the *whole* batch, a smaller
last one included, and gradients are summed. MirroredStrategy has its replicas in one process,
MultiWorkerMirroredStrategy in several, here or on other machines; these need a loop of one's own
(`fit` fails under it in Keras 3). What is computed of a share alone makes a difference:
BatchNormalization's statistics, unless it is `synchronized`, and Keras's clipping of gradients,
which comes before their sum.

After every epoch the first worker saves the model with its optimizer. The order of images follows
from the seed and the epoch, so that workers that are started again go on to the same bits (but for
dropout, whose random state is not saved).

Answer         The same model, where each image weighs one part of the whole batch. Sooner than one
               thread, but on one processor no sooner than one device that has all its threads: two
               replicas in one process took as long, two workers 1.07 times as long.
In practice    On one processor, do not: an epoch took two replicas of one thread each 0.56 times as
               long as one, and one device that has both cores 0.58 times. Four replicas on two
               cores gained nothing more (0.57). Workers also send their gradients through sockets:
               two took 0.62 times as long, four 0.77. On several machines, weigh images by the
               whole batch, synchronize BatchNormalization, and save each epoch. The model is then
               that of one device: in float64 to 1e-11 after twenty steps; in float32 rounding
               grows, and test accuracy after three epochs differed by up to three points at a seed,
               as it did between one thread and two. BatchNormalization as it is led a third of the
               weights' norm away. Against one device with both cores, two replicas in one process
               took 1.00 times as long over forty repeats. All of this is two cores of one machine;
               several machines were not tried.
Use it when    one device is too slow, and its batch can be split: a share of some dozens of images.
It hurts when  shares are small (adding up gradients takes longer than finding them), when
               BatchNormalization is left as it is, or when replicas outnumber the cores or GPUs.
Sources        Goyal et al. 2017, arXiv:1706.02677; TensorFlow's guide to distributed training
"""

import functools
import os
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers

from lab import clock


@dataclass(frozen=True)
class Config:
    epochs: int = 3
    batch_size: int = 128  # Of all replicas together.
    rate: float = 0.05
    same_images: int = 291  # Of twenty steps, to compare weights after; 0 leaves them out.
    again: int = 3  # How many times at most a training that other processes disturb is done again.


# All but all_threads have one thread a replica. Those of several workers have one in each.
REPLICAS = {"one_device": 1, "all_threads": 1, "mirrored_2": 2, "mirrored_4": 4}
WORKERS = {"workers_2": 2, "workers_4": 4}
NORMS = ("none", "plain", "synchronized")


def build_strategy(replicas: int = 1) -> tf.distribute.Strategy:
    """To be called before anything else of TensorFlow: it settles which devices there are."""
    if "TF_CONFIG" in os.environ:  # It names all workers, and which of them this process is.
        return tf.distribute.MultiWorkerMirroredStrategy()
    if replicas == 1:
        return tf.distribute.get_strategy()
    kind = "GPU"
    if not tf.config.list_physical_devices("GPU"):
        kind, parts = "CPU", [tf.config.LogicalDeviceConfiguration()] * replicas
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(replicas)])


def build_model(norm: str, data, rate: float) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits (batch, len(data.classes))."""
    images = keras.Input(data.shape, dtype="uint8")
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        if norm != "none":
            # Synchronized, it has the statistics of the whole batch, not of a share.
            x = layers.BatchNormalization(momentum=0.9, synchronized=norm == "synchronized")(x)
        x = layers.MaxPooling2D()(layers.Activation("relu")(x))
    model = keras.Model(images, layers.Dense(len(data.classes))(layers.Flatten()(x)))
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.SGD(rate, momentum=0.9), loss, metrics=["accuracy"])
    model.optimizer.build(model.trainable_variables)
    return model


def share(split, batch: np.ndarray, context: tf.distribute.ReplicaContext) -> tuple:
    """What one replica gets of a batch, given by its images' places in the split.

    Images uint8 (share, height, width, 3), labels int32 (share,), and the weight of each image: one
    part of the whole batch. Images that are read or augmented first would come from a tf.data feed,
    by `distribute_datasets_from_function`.
    """
    mine = batch[context.replica_id_in_sync_group :: context.num_replicas_in_sync]
    weights = np.full(len(mine), 1 / len(batch), keras.config.floatx())
    if not len(mine):  # No layer likes an empty share. This image has no weight.
        mine, weights = batch[:1], np.zeros(1, keras.config.floatx())
    return tuple(tf.constant(part) for part in (split.images[mine], split.labels[mine], weights))


def build_step(strategy: tf.distribute.Strategy, model: keras.Model):
    """A function from a batch, in shares, to the batch's mean loss and accuracy; it trains all replicas."""

    def one_replica(images, labels, weights):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            of_each = losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            # Not the mean, which would be the share's. A penalty would need its part of replicas.
            loss = tf.reduce_sum(weights * of_each)
        gradients = tape.gradient(loss, [weight.value for weight in model.trainable_variables])
        model.optimizer.apply(gradients, model.trainable_variables)  # Keras adds up all replicas'.
        right = tf.argmax(logits, axis=1, output_type=labels.dtype) == labels
        return tf.stack([loss, tf.reduce_sum(weights * tf.cast(right, weights.dtype))])

    @tf.function(reduce_retracing=True)  # The last batch is smaller.
    def step(batch):
        return strategy.reduce("sum", strategy.run(one_replica, batch), axis=None)

    return step


def train_replicas(strategy, data, config, seed, folder, norm="none", images=None) -> list:
    """Train, or go on after the last epoch that the folder has; return a row for each epoch.

    A row has the means of loss and accuracy over the epoch's batches, and the seconds of its steps:
    by the wall, of the machine's work, and of this process's part of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    saved = sorted(folder.glob("epoch-*.keras"))
    with strategy.scope():  # What is made here has a copy on each device.
        model = (
            keras.models.load_model(saved[-1]) if saved else build_model(norm, data, config.rate)
        )
    step, rows = build_step(strategy, model), []
    done = int(saved[-1].stem.removeprefix("epoch-")) if saved else 0
    for epoch in range(done, config.epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(data.train))[:images]
        start, found = clock(), []
        for first in range(0, len(order), config.batch_size):
            batch = order[first : first + config.batch_size]  # The last one may be smaller.
            of_replica = functools.partial(share, data.train, batch)
            found.append(step(strategy.experimental_distribute_values_from_function(of_replica)))
        means = np.mean(found, axis=0).tolist()  # Waits for the last step.
        rows.append([*means, *(clock() - start)])
        if strategy.extended.should_checkpoint:  # Of several workers, the first.
            model.save(folder / "unfinished.keras")
            (folder / "unfinished.keras").replace(folder / f"epoch-{epoch + 1:04}.keras")
    return rows


if __name__ == "__main__":
    from lab import join, main

    if "TF_CONFIG" in os.environ:  # One of several workers that somebody else has started.
        join("distributed", build_strategy, train_replicas)
    main("distributed")
