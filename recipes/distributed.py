"""How do you train one model on several devices or machines, and is it still the same model?

Build and compile it inside `strategy.scope()`. It is the same model up to rounding if each image
has the same weight in the loss and BatchNormalization is synchronized.

Run       python -m recipes.distributed      one device and two replicas, three seeds
Copy      build_strategy, and train with share and build_step; fit needs batches that replicas share evenly
Careful   synchronize BatchNormalization; shuffle by one seed on all workers; clipping acts on each replica
Numbers   results/distributed/README.md
Papers    arXiv:1706.02677; TensorFlow's guide to distributed training
"""

import os
from functools import partial

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers


def build_strategy():
    """A strategy over all GPUs, here or of all workers. Call it before anything else of TensorFlow."""
    if "TF_CONFIG" in os.environ:  # It names all workers, and which of them this process is.
        return tf.distribute.MultiWorkerMirroredStrategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    return tf.distribute.MirroredStrategy(names) if len(names) > 1 else tf.distribute.get_strategy()


def build_model(shape, classes, synchronized=True):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        x = layers.BatchNormalization(momentum=0.9, synchronized=synchronized)(x)
        x = layers.MaxPooling2D()(layers.ReLU()(x))
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))


def share(images, labels, context):
    """One replica's part of a batch (all of a tiny one), and weights that make each image count alike."""
    step = context.num_replicas_in_sync if len(labels) >= context.num_replicas_in_sync else 1
    mine = slice(context.replica_id_in_sync_group % step, None, step)
    weights = np.full(len(labels[mine]), len(labels[mine]) * step / len(labels), keras.config.floatx())
    return images[mine], labels[mine], tf.constant(weights)


def build_step(strategy, model):
    """A function that trains all replicas on a batch, or scores it: its mean loss and accuracy."""

    def one_replica(images, labels, weights, training):
        with tf.GradientTape() as tape:
            logits = model(images, training=training)
            loss = model.compute_loss(images, labels, logits, weights)  # Divided by the number of replicas.
            scaled = model.optimizer.scale_loss(loss)  # For float16 only.
        if training:  # Keras adds up the gradients of all replicas, after it has clipped those of each.
            gradients = tape.gradient(scaled, model.trainable_variables)
            model.optimizer.apply(gradients, model.trainable_variables)
        right = weights * keras.metrics.sparse_categorical_accuracy(labels, logits)
        return tf.stack([loss, tf.reduce_mean(right) / strategy.num_replicas_in_sync])

    def step(shares, training):
        return strategy.reduce("sum", strategy.run(one_replica, (*shares, training)), axis=None)

    return tf.function(step, reduce_retracing=True)  # The last batch may be smaller.


def train(
    strategy, train_set, validation_set, classes, *, rate=0.005, epochs=3, folder=None,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train like `fit`, which in Keras 3.15 fails in several processes and on uneven batches.

    All workers need the same sets. A second call with the same `folder`, an existing Path, resumes.
    """
    names = "loss", "accuracy", "val_loss", "val_accuracy"
    saved = sorted(folder.glob("epoch-*.keras")) if folder else []
    shape = train_set.element_spec[0].shape[1:]
    with strategy.scope():  # What is made here has a copy on each device.
        model = keras.saving.load_model(saved[-1]) if saved else build_model(shape, classes)
        if not saved:
            loss = losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile(optimizers.SGD(rate, momentum=0.9), loss)  # No metrics: evaluate gives the loss.
        model.optimizer.build(model.trainable_variables)
    step, none = build_step(strategy, model), keras.callbacks.CallbackList()
    callbacks = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs)

    def one_pass(batches, hooks, training):
        found, sizes = [], []
        for number, batch in enumerate(batches):
            hooks.on_train_batch_begin(number)
            shares = strategy.experimental_distribute_values_from_function(partial(share, *batch))
            found.append(step(shares, training))
            sizes.append(len(batch[1]))
            hooks.on_train_batch_end(number, {"loss": found[-1][0]})
        return np.average(found, axis=0, weights=sizes).tolist()

    callbacks.on_train_begin()
    for _ in saved:
        next(iter(train_set))  # Skips the shuffle orders of the saved epochs.
    for epoch in range(len(saved), epochs):
        callbacks.on_epoch_begin(epoch)
        values = one_pass(train_set, callbacks, True) + one_pass(validation_set, none, False)
        if folder and strategy.extended.should_checkpoint:  # Only the first worker saves.
            model.save(folder / "unfinished.keras")
            (folder / "unfinished.keras").replace(folder / f"epoch-{epoch + 1:04}.keras")
        callbacks.on_epoch_end(epoch, dict(zip(names, values, strict=True)))
        if model.stop_training:
            break
    callbacks.on_train_end()
    return model


if __name__ == "__main__":
    from lab import join, main

    join("distributed")  # Where TF_CONFIG says that this is one of several workers.
    main("distributed")
