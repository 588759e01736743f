"""Can the profiler tell input-bound from compute-bound?

Provisional (timed on 1 of 4 occasions). Yes, if the input pipeline and the model take turns: the
profile shows 75.4 % waiting, and batches that are in memory already save 78.4 %. If the pipeline
prefetches on the cores that train, the profile misses most of its cost.

Run       python -m recipes.monitoring
Copy      MarkedProfile; waiting with NEXT_BATCH; saved_by_ready_batches with ready; Activations
Careful   Keras's callback marks no steps, so TensorBoard's Profile page reports no step time. Keep its
          update_freq="epoch" (a number can drop an epoch's curves), and steps_per_execution at 1.
Numbers   results/monitoring/README.md
Papers    guides "Optimize TensorFlow performance using the Profiler", "Get started with TensorBoard"
"""

import time
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers
from tensorflow.tsl.profiler.protobuf import xplane_pb2

NEXT_BATCH = {"IteratorGetNextOp::DoCompute", "IteratorGetNextAsOptionalOp::DoCompute"}


class MarkedProfile(keras.callbacks.TensorBoard):
    """Curves and histograms of weights, as Keras writes them, and a profile whose steps are marked."""

    def __init__(self, folder, first=11, last=30, **settings):
        super().__init__(str(folder), profile_batch=(first, last), **settings)

    def on_train_batch_begin(self, batch, logs=None):
        super().on_train_batch_begin(batch, logs)
        self.mark = tf.profiler.experimental.Trace("train", step_num=batch, _r=1)
        self.mark.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        self.mark.__exit__(None, None, None)
        super().on_train_batch_end(batch, logs)


class Activations(keras.callbacks.Callback):
    """Histograms of each layer's outputs for some images, once an epoch. Keras's callback has none."""

    def __init__(self, folder, images):
        super().__init__()
        self.writer, self.images = tf.summary.create_file_writer(f"{folder}/activations"), images

    def on_train_begin(self, logs=None):
        single = [layer for layer in self.model.layers if not isinstance(layer, keras.Model)]
        self.layers = keras.Model(self.model.inputs, {layer.name: layer.output for layer in single})

    def on_epoch_end(self, epoch, logs=None):
        with self.writer.as_default():
            for name, values in self.layers(self.images).items():
                tf.summary.histogram(f"{name}/activations", values, step=epoch)
        self.writer.flush()


def waiting(folder):
    """The share of the marked steps' time, in the latest profile, that they wait for their batch."""
    profile = max(Path(folder).glob("**/*.xplane.pb")).read_bytes()

    def named(names):
        for plane in xplane_pb2.XSpace.FromString(profile).planes:
            for line in plane.lines:
                for event in line.events:
                    if plane.event_metadata[event.metadata_id].name in names:
                        yield 1000 * line.timestamp_ns + event.offset_ps, event.duration_ps

    steps = [(start, start + took) for start, took in named({"train"})]
    waited = [took for at, took in named(NEXT_BATCH) if any(start <= at < end for start, end in steps)]
    return sum(waited) / sum(end - start for start, end in steps)


def ready(train_set):
    """The first batch repeated from memory, which no input pipeline can beat."""
    return train_set.take(1).cache().repeat().prefetch(tf.data.AUTOTUNE)


def saved_by_ready_batches(model, train_set, steps=100):
    """The share of a step's time that ready batches would save. This trains the model."""
    seconds = []
    for batches in (iter(train_set.repeat()), iter(ready(train_set))):
        for _ in range(2):  # The first time caches fill.
            start = time.perf_counter()
            for _ in range(steps):
                model.train_on_batch(*next(batches))
        seconds.append(time.perf_counter() - start)
    return 1 - seconds[1] / seconds[0]


def build_model(shape, classes, filters=8):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
    return keras.Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(x)))


def train(
    train_set, validation_set, classes, folder="logs/monitoring", *, rate=0.01, epochs=5,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a convnet that `tensorboard --logdir FOLDER` shows, and return it."""
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    activations = Activations(folder, images=next(iter(train_set))[0])
    watch = [MarkedProfile(folder, histogram_freq=1), activations, *callbacks]
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=watch, verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("monitoring")
