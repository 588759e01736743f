"""How much memory does a training need, and what can you do if it doesn't fit?

Not measured yet: weights, gradients, optimizer state and activations, counted and measured; activations
that are computed twice, and gradients that are accumulated.

Run       python -m recipes.memory
Copy      counted, Recomputed, and largest_batch with two sizes that you measured
Careful   put neither Dropout nor BatchNorm into Recomputed: it runs its layer twice in a step, so that one
          draws another mask for the gradients, and the other updates its averages twice
Numbers   results/memory/README.md
Papers    arXiv:1604.06174 (recomputed activations)
"""

import math
import sys

import keras
import tensorflow as tf
from keras import layers, optimizers


@keras.saving.register_keras_serializable("recipes")
class Recomputed(layers.Wrapper):
    """A layer or model whose activations aren't kept: the backward pass computes them again."""

    def call(self, x):
        return keras.remat(self.layer)(x)


def counted(model, batch_size):
    """Bytes that a step of training holds, by kind: weights, gradients, optimizer and activations.

    The model must be compiled. The last is an estimate, all outputs of its layers: TensorFlow frees some of
    them early, and needs room to compute in.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    outputs = [layer.output for layer in model.layers]
    return {
        "weights": sum(map(bytes_of, model.variables)),
        "gradients": sum(map(bytes_of, model.trainable_variables)),
        "optimizer": sum(map(bytes_of, model.optimizer.variables)),
        "activations": batch_size * sum(map(bytes_of, outputs)),
    }


def bytes_of(tensor):
    """The size of a variable, or of a layer's output for one example."""
    return math.prod(side for side in tensor.shape if side is not None) * tf.as_dtype(tensor.dtype).size


def peak_memory():
    """The most bytes that this process has held so far, on a CPU; on a GPU, TensorFlow's on the first one."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    import resource  # Windows has no such module.

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def largest_batch(limit, measured):
    """The largest batch size whose step takes at most `limit` bytes.

    `measured` maps two batch sizes to the bytes of a step, each measured in a process of its own. Between
    batch size and memory there is a line.
    """
    (few, bytes_of_few), (many, bytes_of_many) = sorted(measured.items())
    an_example = (bytes_of_many - bytes_of_few) / (many - few)
    return int(few + (limit - bytes_of_few) / an_example)


def build_model(shape, classes, *, filters=32, depth=6, recompute=False):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes); `depth` blocks."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    x = layers.Conv2D(filters, 3, 2, padding="same")(x)
    for _ in range(depth):
        inside = y = keras.Input(x.shape[1:])
        for _ in range(2):  # LayerNorm keeps no averages.
            y = layers.ReLU()(layers.LayerNormalization()(y))
            y = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(y)
        block = keras.Model(inside, y)
        x = layers.Add()([x, Recomputed(block)(x) if recompute else block(x)])
    return keras.Model(images, layers.Dense(classes)(layers.GlobalAveragePooling2D()(layers.ReLU()(x))))


def train(
    train_set, validation_set, classes, *, rate=0.003, accumulate=None, epochs=5, build_model=build_model,
    callbacks=(),
):  # fmt: skip
    """Train with Adam and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. With `accumulate`, so many small batches take the
    place, and a fraction of the memory, of a large one.
    """
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    model.compile(
        optimizer=optimizers.Adam(rate, gradient_accumulation_steps=accumulate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("memory")
