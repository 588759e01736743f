"""Clipping and noise: at the best rate, at rates that are too high, on spoiled batches, and in a stuck network."""

import functools
import math
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from recipes import functional_skip
from recipes import gradients as recipe

SPOILED = 257.0  # Times as large as they should be: pixels that were read as 16 bits.


def train_on_spoiled(train_set, validation_set, classes, *, clip=None, rate=recipe.RATE, epochs=4, callbacks=()):
    """The recipe's training, where the batch in the middle of each epoch has pixels that are far too large."""
    middle = len(train_set) // 2

    def spoil(step, batch):
        images, labels = batch
        return tf.cast(images, tf.float32) * tf.where(step == middle, SPOILED, 1.0), labels

    spoiled = train_set.enumerate().map(spoil)
    return recipe.train(spoiled, validation_set, classes, clip=clip, rate=rate, epochs=epochs, callbacks=callbacks)


class Nudged(keras.Model):
    """Learns without gradients: nudges all weights at random, and takes it back unless the batch's loss falls.

    The learning rate is the nudges' standard deviation.
    """

    def train_step(self, batch):
        images, labels = batch
        weights = self.trainable_variables
        logits = self(images, training=True)
        before = self.compute_loss(images, labels, logits)
        nudges = [self.optimizer.learning_rate * tf.random.normal(weight.shape) for weight in weights]
        for weight, nudge in zip(weights, nudges, strict=True):
            weight.assign_add(nudge)
        after = self.compute_loss(images, labels, self(images, training=True))
        undone = tf.where(after < before, 0.0, 1.0)
        for weight, nudge in zip(weights, nudges, strict=True):
            weight.assign_sub(undone * nudge)
        self.optimizer.iterations.assign_add(1)
        self.metrics[0].update_state(before, sample_weight=tf.shape(images)[0])  # The mean loss.
        return self.compute_metrics(images, labels, logits)


def build_nudged(shape, classes):
    model = recipe.build_model(shape, classes)
    return Nudged(model.inputs, model.outputs)


@functools.cache
def backpropagation_equals_differences():
    """Whether the loss's gradient in float64 is what differences of the loss say, for ten weights of each variable."""
    draws = np.random.default_rng(0)
    images, labels = tf.constant(draws.uniform(0, 255, (4, 8, 8, 3))), tf.constant(draws.integers(0, 3, 4))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float64")
    try:
        model = recipe.build_model((8, 8, 3), 3)
    finally:
        keras.config.set_dtype_policy(before)
    model.set_weights([draws.normal(0, 0.2, weight.shape) for weight in model.weights])
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float64")
    loss = tf.function(lambda: loss_of(labels, model(images)), autograph=False)
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, [weight.value for weight in model.trainable_variables])
    apart = []
    for weight, gradient in zip(model.trainable_variables, gradients, strict=True):
        kept, gradient = weight.numpy(), gradient.numpy()
        for place in draws.integers(0, kept.size, 10):
            sides = []
            for step in (1e-6, -1e-6):
                nudged = kept.copy()
                nudged.flat[place] += step
                weight.assign(nudged)
                sides.append(float(loss()))
            apart.append(abs((sides[0] - sides[1]) / 2e-6 - gradient.flat[place]) / np.abs(gradient).max())
        weight.assign(kept)
    return max(apart) < 1e-6


def note_norms(run, data):
    run.norms = recipe.GradientNorms()
    return [run.norms]


def steps(model, run, data):
    """The share of steps that were clipped, and the mean length of what was handed to the optimizer, times the rate."""
    norms = run.norms.norms[np.isfinite(run.norms.norms)]
    if run.diverged or not len(norms):  # Or nothing was handed to the optimizer.
        return {}
    config = model.optimizer.get_config()
    schedule = keras.optimizers.schedules.deserialize(config["learning_rate"])
    rates = np.array([float(schedule(step)) for step in range(len(norms))])
    clip = config["global_clipnorm"] or math.inf
    counts, edges = np.histogram(np.log10(norms[norms > 0]), bins=40, range=(-2, 2))
    run.keep("norm", (10 ** ((edges[1:] + edges[:-1]) / 2)).tolist())
    run.keep("share_of_steps", (counts / len(norms)).tolist())
    return {
        "clipped": float(np.mean(norms > clip)),
        "log_step": math.log(max(1e-12, float(np.mean(rates * np.minimum(norms, clip))))),
    }


GLOROT = partial(functional_skip.build_model, skip=False, norm=False)  # 13 convolutions, stuck.
HE = partial(functional_skip.build_model, skip=False, norm=False, initializer="he_normal")
# SGD's peak learning rate that was best on validation images; of "nudged" the size of a nudge.
RATES = {
    "plain": recipe.RATE,
    "noise_faint": 0.032,
    "noise_weak": 0.01,
    "nudged": 0.032,
    "deep": 0.00056,
    "deep_noise_weak": 0.018,
    "deep_he": 0.018,
}
# Neelakantan et al. 2015 tried variances from 0.01 on: the standard deviation of the weak noise.
DEVIATIONS = {"faint": 0.01, "weak": 0.1}
NOISE = {name: partial(recipe.NoisySGD, noise=deviation) for name, deviation in DEVIATIONS.items()}
FAST, HIGH = 0.1, 0.4  # Rates three and twelve times the best.
VARIANTS = {
    "plain": partial(recipe.train, clip=None, rate=RATES["plain"]),
    # A tenth of the steps; two thirds of them, and the rate that makes steps as long on average.
    "clipped": partial(recipe.train, clip=recipe.CLIP, rate=RATES["plain"]),
    "clipped_often": partial(recipe.train, clip=2.0, rate=RATES["plain"]),
    "lower_rate": partial(recipe.train, clip=None, rate=0.0285),
    "fast": partial(recipe.train, clip=None, rate=FAST),
    "fast_clipped_often": partial(recipe.train, clip=1.5, rate=FAST),
    "fast_lower_rate": partial(recipe.train, clip=None, rate=0.083),
    "high": partial(recipe.train, clip=None, rate=HIGH),
    "high_clipped_seldom": partial(recipe.train, clip=recipe.CLIP, rate=HIGH),
    "high_clipped_always": partial(recipe.train, clip=0.16, rate=HIGH),  # Steps as long as those of "plain".
    "spoiled": partial(train_on_spoiled, clip=None, rate=RATES["plain"]),
    "spoiled_clipped": partial(train_on_spoiled, clip=recipe.CLIP, rate=RATES["plain"]),
    "noise_faint": partial(recipe.train, clip=None, rate=RATES["noise_faint"], optimizer=NOISE["faint"]),
    "noise_weak": partial(recipe.train, clip=None, rate=RATES["noise_weak"], optimizer=NOISE["weak"]),
    "nudged": partial(recipe.train, clip=None, rate=RATES["nudged"], build_model=build_nudged),
    "deep": partial(recipe.train, clip=None, rate=RATES["deep"], build_model=GLOROT),
    "deep_noise_weak": partial(
        recipe.train, clip=None, rate=RATES["deep_noise_weak"], build_model=GLOROT, optimizer=NOISE["weak"]
    ),
    "deep_he": partial(recipe.train, clip=None, rate=RATES["deep_he"], build_model=HE),
    "deep_he_high": partial(recipe.train, clip=None, rate=HIGH, build_model=HE),
    "deep_he_high_clipped": partial(recipe.train, clip=0.05, rate=HIGH, build_model=HE),
}

CLAIMS = [
    Claim(
        "P3",
        "Clipping more than half of the updates is a lower rate under another name, at the best rate",
        said="Clipping more than half of the updates is a lower rate under another name",
        source="TP",
        metric="test_accuracy",
        equal=("clipped_often", "lower_rate"),
    ),
    Claim(
        "P3b",
        "Clipping more than half of the updates is a lower rate under another name, at three times the best rate",
        said="Clipping more than half of the updates is a lower rate under another name",
        source="TP",
        metric="test_accuracy",
        equal=("fast_clipped_often", "fast_lower_rate"),
    ),
    Claim(
        "P3c",
        "More than half of the updates are clipped where P3 and P3b say so",
        source="ours",
        metric="clipped",
        higher=("clipped_often", "fast_clipped_often"),
        than="lower_rate",
        at_least=0.5,
        check=True,
    ),
    Claim(
        "P3d",
        "The rate that P3 compares with makes steps of the same mean length",
        source="ours",
        metric="log_step",
        equal=("clipped_often", "lower_rate"),
        check=True,
    ),
    Claim(
        "P3e",
        "The rate that P3b compares with makes steps of the same mean length",
        source="ours",
        metric="log_step",
        equal=("fast_clipped_often", "fast_lower_rate"),
        check=True,
    ),
    Claim(
        "P3f",
        "Clipping a tenth of the updates, at the best rate, costs nothing",
        source="ours",
        metric="test_accuracy",
        equal=("clipped", "plain"),
        side="below",
    ),
    Claim(
        "B11",
        "Clipping at a norm that healthy steps seldom exceed rescues a learning rate at which the network otherwise "
        "learns nothing",
        source="ours",
        metric="test_accuracy",
        higher="high_clipped_seldom",
        than="high",
    ),
    Claim(
        "B11b",
        "Clipping every step to the length that steps have at the best rate trains as well as the best rate, at a rate "
        "at which the network otherwise learns nothing",
        source="ours",
        metric="test_accuracy",
        equal=("high_clipped_always", "plain"),
        side="below",
    ),
    Claim(
        "B11c",
        "Clipping every step rescues a learning rate at which a plain network of 13 convolutions learns nothing",
        source="ours",
        metric="test_accuracy",
        higher="deep_he_high_clipped",
        than="deep_he_high",
    ),
    Claim(
        "B11d",
        "One batch an epoch with pixels 257 times too large ruins a training without clipping",
        source="ours",
        metric="test_accuracy",
        lower="spoiled",
        than="plain",
    ),
    Claim(
        "B11e",
        "Clipping at a norm that healthy steps seldom exceed loses nothing to such a batch",
        source="ours",
        metric="test_accuracy",
        equal=("spoiled_clipped", "clipped"),
        side="below",
    ),
    Claim(
        "B11f",
        "Clipping saves a training with one batch an epoch whose pixels are 257 times too large",
        source="ours",
        metric="test_accuracy",
        higher="spoiled_clipped",
        than="spoiled",
        family="spoiled batches",
    ),
    Claim(
        "B12",
        "Noise injected into gradients helps the model out of poor minima: it raises the accuracy of a plain network "
        "of 13 convolutions that is at chance without it",
        said="Noise injected into gradients helps the model out of poor minima",
        source="DL",
        metric="test_accuracy",
        higher="deep_noise_weak",
        than="deep",
    ),
    *(
        Claim(
            number,
            f"{kind} noise injected into gradients raises the accuracy of a network that is not stuck",
            source="ours",
            metric="test_accuracy",
            higher=name,
            than="plain",
        )
        for number, kind, name in (("B12b", "Faint", "noise_faint"), ("B12d", "Weak", "noise_weak"))
    ),
    Claim(
        "B12c",
        "He's initializer does as much for the network that is stuck as noise does",
        source="ours",
        metric="test_accuracy",
        equal=("deep_he", "deep_noise_weak"),
        side="below",
    ),
    Claim(
        "B16",
        "Backpropagation's gradient equals finite differences of the loss (in float64, ten weights of each variable)",
        source="DL",
        asserted=backpropagation_equals_differences,
    ),
    Claim(
        "B16b",
        "Random perturbation gets nowhere: with at least as many forward passes it ends 35 points or more below "
        "backpropagation",
        said="Random perturbation gets nowhere",
        source="DL",
        metric="test_accuracy",
        lower="nudged",
        than="plain",
        at_least=0.35,
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    answer="Clip at a norm that healthy steps seldom exceed. That costs nothing, and saves a training in which one "
    "batch an epoch has pixels 257 times too large. Noise helped only a stuck network.",
    rests_on=("P3f", "B11d", "B11f", "B12", "not B12d"),
    about={
        "global_clipnorm=": ("P3", "P3b", "P3f", "B11", "B11b", "B11c", "B11e", "B11f"),
        "HeNormal": ("B12c",),
    },
    advice=[
        "**Set `global_clipnorm` to the norm that one step in ten exceeds.** With one batch an epoch of 16-bit "
        "images that nobody scaled, training then ends at {test_accuracy.spoiled_clipped}; without clipping at "
        "{test_accuracy.spoiled}, which is chance.",
        "**Lower the rate instead of clipping most steps.** At the best rate, clipping two steps in three differs from "
        "a lower rate by {change test_accuracy.clipped_often - test_accuracy.lower_rate}. At three times the best rate "
        "the comparison is undecided.",
        "**Lower a rate that is far too high.** At twelve times the best rate, a model clipped at a healthy norm ends "
        "at {test_accuracy.high_clipped_seldom}. Clipping every step reaches {test_accuracy.high_clipped_always}, "
        "because it makes each step as short as a low rate does.",
        "**Keep noise for a network that is stuck.** Noise that starts at a standard deviation of 0.1 takes 13 plain "
        "convolutions from {test_accuracy.deep} to {test_accuracy.deep_noise_weak}. It costs a healthy network "
        "{test_accuracy.plain - test_accuracy.noise_weak}; a tenth of it makes no real difference.",
        "**Try He's initializer as well.** It takes the same network to {test_accuracy.deep_he}. Which of the two is "
        "better is undecided.",
    ],
    flags={"batch_size": 64},
    augment=True,
    callbacks=note_norms,
    extra=steps,
    smoke={"epochs": 3, "batch_size": 32},
    left_out=(
        "fast",
        "fast_clipped_often",
        "fast_lower_rate",
        "noise_faint",
        "noise_weak",
        "nudged",
        "deep_he_high",
        "deep_he_high_clipped",
    ),
    tuning=Tuning(
        "rate",
        dict.fromkeys(RATES, half_decades(3.2e-3, 3.2e-1)),
        Objective("validation_accuracy"),
        found=("RATES", "RATE", "CLIP"),
    ),
    fails=("high", "high_clipped_seldom", "spoiled", "nudged", "deep", "deep_noise_weak", "deep_he_high"),
    units={
        "clipped": Unit("steps that were clipped", 100, "points", 0),
        "log_step": Unit("mean length of a step"),
        "share_of_steps": Unit("steps", 100, "points"),
        "norm": Unit("norm of the gradient"),
    },
    panels=(
        Bars(
            "test_accuracy",
            variants=(
                *("plain", "clipped", "clipped_often", "lower_rate", "high", "high_clipped_seldom"),
                *("high_clipped_always", "spoiled", "spoiled_clipped", "deep", "deep_noise_weak", "deep_he"),
            ),
        ),
        Lines(
            "share_of_steps",
            x="norm",
            variants=("plain", "fast", "deep"),
            log="x",
            title="Norms of all steps, before they are clipped",
        ),
    ),
)
