"""What does it help to change gradients before they are applied?

A `train_step` of one's own sits between the gradients and the optimizer. Clipping shortens those
whose norm is above a threshold: a seatbelt if it is rare ("clipped": a tenth of the steps), and a
lower rate under another name if it is the rule ("clipped_often"); "lower_rate" has the rate that
gives steps of about the same mean length without clipping. "high" is a rate at which nothing is
learned. Noise is Gaussian, its norm a multiple of the gradient's, and fades as the training goes on
(Neelakantan et al. have noise of a given size in each weight; the fading is theirs). "layer_rates"
gives each layer below the head 0.7 times the rate of the next one.

Momentum comes after the change: what is called a step's length here is the rate times the norm of
what is handed to the optimizer.

Answer         Clipped seldom: no loss that showed. Clipped at every step, a rate at which nothing
               is learned trained as well as the best.
In practice    Clip at a norm that a healthy run seldom exceeds (here 2.7, in 9 % of the steps):
               that ended no lower (55.9 % with it, 55.6 % without, over the same seeds), and waits
               for the spike. A threshold that every step exceeds cost 4.0 points, and 0.33 times
               the rate, which makes steps as short, cost 4.2: lower the rate instead, and say so.
               At a rate of 0.4, where nothing is learned, clipping so hard that steps are as long
               as those of 0.032 gave the same 55.7 %: the length of steps is enough to explain it.
               Noise from 0.3 to 3 times the gradient's norm, fading, gained nothing. A rate for
               each layer ended 0.6 points above one for all (56.2 %), if at all. All of this is a
               small convnet in four epochs.
Use it when    the loss has spikes, or diverges early at a rate that is good later: clip where the
               norms of a healthy run seldom are.
It hurts when  it hides a rate that is too high, or norms that grow because of a mistake.
Sources        Pascanu et al. 2013, arXiv:1211.5063; Neelakantan et al. 2015, arXiv:1511.06807;
               Howard and Ruder 2018, arXiv:1801.06146
"""

from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from keras import layers, losses, optimizers

from lab import Run
from pipelines import batches, sources


@dataclass(frozen=True)
class Config:
    epochs: int = 4
    batch_size: int = 64
    high_rate: float = 0.4  # Plain training learns nothing at it.
    usual_clip: float = 2.7  # About the 90th percentile of the norms of "plain".
    tight_clip: float = 0.8  # Below nearly all of them.
    rescue_clip: float = 0.16  # Leaves steps at the high rate about as long as those of "plain".
    lower_share: float = 0.33  # Of the rate: leaves steps as long as "clipped_often" has.
    rate: float | None = None  # None: the variant's own below.


NOISE = {"noise_weak": 0.3, "noise": 1.0, "noise_strong": 3.0}  # Times the gradient's norm.
CLIPS = {"clipped": "usual_clip", "clipped_often": "tight_clip", "high_clipped": "rescue_clip"}
# Peak rates that won on validation: `python -m recipes.gradients tune` finds them again. What is
# not here has that of "plain", so that it differs from it by its gradients alone.
RATES = {
    "plain": 0.032,
    "noise_weak": 0.057,
    "noise": 0.057,
    "noise_strong": 0.032,
    "layer_rates": 0.056,
}


def threshold(variant: str, config: Config) -> float:
    """The norm that gradients are clipped to."""
    return getattr(config, CLIPS[variant]) if variant in CLIPS else float("inf")


@keras.saving.register_keras_serializable()
class Treated(keras.Model):
    """A model that changes its gradients, and notes each step's norm before and length after."""

    def prepare(self, variant: str, clip: float, steps: int, seed: int):
        self.variant, self.clip, self.seed = variant, clip, seed
        self.noted = tf.Variable(tf.zeros((steps, 2)))

    def train_step(self, batch):
        images, labels = batch
        with tf.GradientTape() as tape:
            logits = self(images, training=True)
            loss = self.compute_loss(x=images, y=labels, y_pred=logits)
        gradients = tape.gradient(loss, [weight.value for weight in self.trainable_variables])
        norm, step = tf.linalg.global_norm(gradients), tf.cast(self.optimizer.iterations, tf.int32)
        gradients = self.treat(gradients, norm, step)
        length = self.optimizer.learning_rate * tf.linalg.global_norm(gradients)
        self.noted.scatter_nd_update([[step]], [[norm, length]])
        self.optimizer.apply(gradients, self.trainable_variables)
        self.metrics[0].update_state(loss)  # The first one is the mean loss.
        return self.compute_metrics(images, labels, logits)

    def treat(self, gradients: list, norm, step) -> list:
        gradients = [gradient * tf.minimum(1.0, self.clip / norm) for gradient in gradients]
        if self.variant in NOISE:
            # A normal vector of n numbers is about √n long.
            size = sum(gradient.shape.num_elements() for gradient in gradients) ** 0.5
            fading = tf.pow(1.0 + tf.cast(step, tf.float32), -0.275)  # As Neelakantan et al.
            scale = NOISE[self.variant] * fading * norm / size
            for i, gradient in enumerate(gradients):
                draw = tf.random.stateless_normal(gradient.shape, (self.seed * 1000 + i, step))
                gradients[i] = gradient + scale * draw
        if self.variant == "layer_rates":
            last = len(gradients) // 2 - 1  # Each layer has a kernel and a bias.
            gradients = [g * 0.7 ** (last - i // 2) for i, g in enumerate(gradients)]
        return gradients


def build_model(variant: str, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes))."""
    images = keras.Input(data.shape, dtype="uint8")
    x = layers.Rescaling(1 / 64, offset=-2)(images)  # 0 to 255 becomes -2 to 2.
    for filters, strides in ((32, 2), (64, 1)):
        x = layers.Conv2D(filters, 3, strides, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
    return Treated(images, layers.Dense(len(data.classes))(x))


def fit(variant: str, config: Config, data: sources.Data, seed: int, rate: float, **settings):
    """Train a new model; return it and (norm, length) of each step, float32 (steps, 2)."""
    keras.utils.set_random_seed(seed)
    feed = batches.training(data.train, config.batch_size, seed=seed)
    steps = config.epochs * len(feed)
    model = build_model(variant, data)
    model.prepare(variant, threshold(variant, config), steps, seed)
    model.compile(
        optimizer=optimizers.SGD(optimizers.schedules.CosineDecay(rate, steps), momentum=0.9),
        loss=losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # Python looks in every 16 steps.
    )
    model.fit(feed, epochs=config.epochs, shuffle=False, verbose=0, **settings)
    return model, model.noted.numpy()[: int(model.optimizer.iterations)]


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    data = sources.load(run.data)
    rate = RATES.get(variant, RATES["plain"]) if config.rate is None else config.rate
    if variant.startswith("high"):
        rate = config.high_rate
    if variant == "lower_rate":
        rate *= config.lower_share
    watched = {
        "validation_data": batches.evaluation(data.validation),
        "callbacks": run.callbacks(data),
    }
    model, noted = fit(variant, config, data, run.seed, rate, **watched)
    norm, length = noted.T
    counts, edges = np.histogram(np.log10(norm[norm > 0]), bins=40, range=(-2, 2))
    run.keep("norm", (10 ** ((edges[1:] + edges[:-1]) / 2)).tolist())
    run.keep("share_of_steps", (counts / max(1, len(norm))).tolist())
    run.keep_histogram("norm_of_each_step", norm.tolist())
    clipped = float(np.mean(norm > threshold(variant, config)))
    return run.scores(model, data) | {"clipped": clipped, "step_length": float(length.mean())}


if __name__ == "__main__":
    from lab import main

    main("gradients")
