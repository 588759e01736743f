"""Should you clip gradients, or add noise to them?

Clip at a norm that healthy steps seldom exceed. That costs nothing, and saves a training in which
one batch an epoch has pixels 257 times too large. Noise helped only a stuck network.

Run       python -m recipes.gradients      clipping and noise, three seeds
Copy      global_clipnorm=, which every optimizer has; GradientNorms, to choose its value
Careful   NaN passes through; with n replicas Keras clips each one's share, so divide the norm by n;
          import NoisySGD before you load its models
Numbers   results/gradients/README.md
Papers    arXiv:1211.5063 (clipping), arXiv:1511.06807 (noise)
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers, optimizers

RATE = 0.032  # SGD's best peak learning rate without clipping, chosen on validation images.
CLIP = 2.7  # The norm that one step in ten exceeds at this rate: GradientNorms showed it.


def build_model(shape, classes):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0..255 becomes -2..2.
    for filters, strides in ((32, 2), (64, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return keras.Model(images, layers.Dense(classes)(x))


def train(
    train_set, validation_set, classes, *, clip=CLIP, rate=RATE, epochs=4,
    optimizer=optimizers.SGD, build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train a convnet, clip its gradients to the norm `clip` (None: not at all), and return it.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them.
    """
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    schedule = optimizers.schedules.CosineDecay(rate, decay_steps=epochs * len(train_set))
    model.compile(
        # The norm of all weights' gradients together. `clipnorm=` would clip each weight's alone.
        optimizer=optimizer(schedule, momentum=0.9, global_clipnorm=clip),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(
        train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks),
        verbose=0,
    )  # fmt: skip
    return model


class GradientNorms(keras.callbacks.Callback):
    """Keeps the norm of each step's gradient before clipping in `norms`, an array (steps,).

    Train without clipping, on a set of known length: one step in ten exceeds `np.percentile(norms, 90)`.
    """

    def on_train_begin(self, logs=None):
        # mixed_float16 wraps the optimizer, and only the inner one is given the true gradients.
        self.optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        apply, iterations = self.optimizer.apply, self.optimizer.iterations
        first = int(keras.ops.convert_to_numpy(iterations))
        empty = tf.fill([self.params["epochs"] * self.params["steps"]], -1.0)
        self.noted = tf.Variable(empty, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA)

        def noting(grads, trainable_variables=None):
            whole = [gradient for gradient in grads if gradient is not None]
            if tf.distribute.get_strategy().num_replicas_in_sync > 1:
                whole = tf.distribute.get_replica_context().all_reduce("sum", whole)
            step, norm = tf.cast(iterations, tf.int32) - first, tf.linalg.global_norm(whole)
            self.noted.assign(tf.tensor_scatter_nd_update(self.noted, [[step]], [norm]))
            apply(grads, trainable_variables)

        self.optimizer.apply = noting
        self.model.make_train_function(force=True)  # Keras must trace the step anew.

    def on_train_end(self, logs=None):
        del self.optimizer.apply
        self.model.make_train_function(force=True)
        self.norms = tf.boolean_mask(self.noted, self.noted != -1).numpy()


@keras.saving.register_keras_serializable(package="recipes")
class NoisySGD(optimizers.SGD):
    """SGD with Gaussian noise in each weight's gradient, which Keras has no argument for.

    `noise` is its standard deviation at first; it fades as in Neelakantan et al. 2015.
    """

    def __init__(self, learning_rate=0.01, noise=0.1, seed=None, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.noise, self.seed = noise, np.random.randint(2**30) if seed is None else seed

    def apply(self, grads, trainable_variables=None):
        step = tf.cast(self.iterations, tf.int32)
        # All replicas draw the same noise, and Keras adds their gradients up.
        deviation = self.noise / tf.distribute.get_strategy().num_replicas_in_sync
        deviation *= (1.0 + tf.cast(step, tf.float32)) ** -0.275
        noisy = list(grads)
        for number, gradient in enumerate(grads):
            if gradient is not None:  # A weight without one has no part in the loss.
                draw = tf.random.stateless_normal(gradient.shape, (self.seed + number, step))
                noisy[number] = gradient + tf.cast(deviation * draw, gradient.dtype)
        super().apply(noisy, trainable_variables)

    def get_config(self):
        return super().get_config() | {"noise": self.noise, "seed": self.seed}


if __name__ == "__main__":
    from lab import main

    main("gradients")
