"""How much memory does training need, and what can you do if it does not fit?

Not measured yet: weights, gradients, optimizer state and activations, counted and measured; activations
that are computed twice, and gradients that are accumulated.

Run       python -m recipes.memory
Copy      counted, largest_batch with two sizes that you measured, and Recomputed
Careful   put neither Dropout nor BatchNorm into Recomputed: it runs its layer twice in a step, so that one
          draws another mask for the gradients, and the other updates its averages twice
Numbers   results/memory/README.md
Papers    arXiv:1604.06174 (recomputed activations)
"""

import math
import sys
from pathlib import Path

import keras
import tensorflow as tf
from keras import layers, optimizers

# If activations do not fit, try gradient_accumulation_steps= with smaller batches (it holds the gradients
# once more), 16 bits (recipes/mixed_precision.py), and Recomputed. If weights do not fit: SGD, not Adam.


@keras.saving.register_keras_serializable("recipes")
class Recomputed(layers.Wrapper):
    """A layer or model whose activations are not kept: the backward pass computes them again."""

    def call(self, x, training=None):
        # The backward pass calls the layer again, and without `training` it would do so as at inference.
        return keras.remat(lambda x: self.layer(x, training=training))(x)


def bytes_of(tensor):
    """The size of a variable, or of a layer's output for one example."""
    if None in tensor.shape[1:]:
        raise ValueError("this model takes inputs of any size: count it with an input of one size")
    return math.prod(side for side in tensor.shape if side is not None) * tf.as_dtype(tensor.dtype).size


def outputs_of(model):
    """What the layers of a model return, and those of the models inside it."""
    inner = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer)]
    parts = [outputs_of(layer) if isinstance(layer, keras.Model) else [layer.output] for layer in inner]
    return [output for part in parts for output in part]


def counted(model, batch_size):
    """Bytes that a step of training holds, by kind, for a compiled model of the Sequential or Functional API.

    Activations are an estimate, the outputs of all layers: TensorFlow frees some, and needs room to compute.
    """
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    return {
        "weights": sum(map(bytes_of, model.variables)),
        "gradients": sum(map(bytes_of, model.trainable_variables)),
        "optimizer": sum(map(bytes_of, model.optimizer.variables)),
        "activations": batch_size * sum(map(bytes_of, outputs_of(model))),
    }


def peak_memory():
    """The most bytes that this process has held so far on Linux or macOS; with a GPU, the most held there."""
    if tf.config.list_physical_devices("GPU"):
        return tf.config.experimental.get_memory_info("GPU:0")["peak"]
    if sys.platform.startswith("linux"):  # getrusage begins with what the parent process held.
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    import resource  # Windows has no such module.

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def largest_batch(limit, measured):
    """The largest batch size whose step takes at most `limit` bytes, since memory grows in a straight line.

    `measured` maps two batch sizes to the bytes of a step, each from a process of its own.
    """
    (few, bytes_of_few), (many, bytes_of_many) = sorted(measured.items())
    an_example = (bytes_of_many - bytes_of_few) / (many - few)
    if an_example <= 0:
        raise ValueError(f"{many} examples took no more memory than {few}: measure larger batches")
    return int(few + (limit - bytes_of_few) / an_example)


def build_model(shape, classes, *, filters=32, depth=6, recompute=False):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes), by residual blocks."""
    images = keras.Input(shape)
    x = layers.Conv2D(filters, 3, 2, "same")(layers.Rescaling(1 / 64, offset=-2)(images))  # -2 to 2.
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
    """Train with Adam on sets as `keras.utils.image_dataset_from_directory` returns them; return the model.

    Each update is of `accumulate` batches.
    """
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers.Adam(rate, gradient_accumulation_steps=accumulate), loss, metrics=["accuracy"])
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("memory")
