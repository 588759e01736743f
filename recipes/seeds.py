"""How many seeds does a comparison need, and what does luck do with fewer?

Not measured yet: what each source of luck adds to the spread, what the best of ten seeds gains, and how often
one run each picks the worse of two models.

Run       python -m recipes.seeds
Copy      accuracies, to repeat a training; seeds_needed, chance_of_the_worse and gain_of_the_best, to plan
Careful   call keras.utils.set_random_seed before you make the batches and the model: what is made before it
          has an order and weights of its own
Numbers   results/seeds/README.md
Papers    arXiv:2103.03098 (sources of variance), arXiv:2109.08203 (the best of many seeds)
"""

import math

import keras
import numpy as np
from keras import layers, optimizers
from scipy import stats


def accuracies(train, score, seeds):
    """What `score(model)` is after `train()` at each seed, as an array (seeds,).

    `train` makes its batches itself, so that their order follows the seed as well. Make them by tf.data:
    with arrays, `fit` has one order for all epochs then. Two ways to train are paired at the same seeds.
    """
    found = []
    for seed in seeds:
        keras.utils.set_random_seed(seed)
        found.append(score(train()))
    return np.array(found)


def seeds_needed(spread, difference, power=0.8, level=0.95):
    """The number of paired seeds at which a t-interval finds a true difference with a probability of `power`.

    `spread` is the standard deviation of the difference of one pair, in the unit of `difference`, which must
    not be 0.
    """
    effect, edge = abs(difference) / spread, (1 + level) / 2
    # With a known spread so many would do. A t-interval needs a few more.
    count = max(2, math.floor(((stats.norm.ppf(edge) + stats.norm.ppf(power)) / effect) ** 2))
    while stats.nct.sf(stats.t.ppf(edge, count - 1), count - 1, effect * math.sqrt(count)) < power:
        count += 1
    return count


def chance_of_the_worse(spread, difference, seeds=1):
    """How often the worse of two has the higher mean over so many seeds; `spread` as in `seeds_needed`."""
    return float(stats.norm.sf(difference / spread * math.sqrt(seeds)))


def gain_of_the_best(spread, runs):
    """By how much the best of so many runs should beat their mean; `spread` is a run's standard deviation."""
    value = np.linspace(-8, 8, 4001)
    density = runs * stats.norm.pdf(value) * stats.norm.cdf(value) ** (runs - 1)
    return float(spread * np.sum(value * density) * (value[1] - value[0]))


# `keras.utils.set_random_seed(seed)` fixes all luck at once. To see what one source of it does, give each its
# own seed: weights and augmentation as in `train`, the order by `image_dataset_from_directory(seed=...)`.


def build_model(shape, classes, *, filters=(24, 64), kernel=3, dropout=0.0):
    """Map images (batch, *shape) with values 0 to 255 to logits (batch, classes)."""
    model = keras.Sequential([keras.Input(shape), layers.Rescaling(1 / 64, offset=-2)])  # -2 to 2.
    for number, count in enumerate(filters):
        model.add(layers.Conv2D(count, kernel, 1 if number else 2, "same", use_bias=False))
        model.add(layers.MaxPooling2D(padding="same"))
        # Momentum 0.8, not 0.99: a few hundred steps are too few to forget the initial statistics.
        model.add(layers.BatchNormalization(momentum=0.8))
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dropout(dropout))
    model.add(layers.Dense(classes))
    return model


def warmup_cosine(peak, steps, warmup):
    """Linear warm-up over a share of the steps, then cosine decay to zero."""
    first = max(1, round(warmup * steps))
    # Keras counts decay_steps from the end of the warm-up. A start at zero would waste the first step.
    return optimizers.schedules.CosineDecay(
        peak / first, decay_steps=max(1, steps - first), warmup_target=peak, warmup_steps=first
    )


def train(
    train_set, validation_set, classes, *, weights_seed: int | None = None,
    augmentation_seed: int | None = None, optimizer=optimizers.Adam, rate=0.018, warmup=0.2, epochs=5,
    build_model=build_model, callbacks=(),
):  # fmt: skip
    """Train on images that are mirrored and shifted at random, and return the model.

    The sets hold batches of images with values 0 to 255 and integer labels, as
    `keras.utils.image_dataset_from_directory` returns them. A seed of None leaves that luck to Keras.
    """
    if weights_seed is not None:
        keras.utils.set_random_seed(weights_seed)
    shape = train_set.element_spec[0].shape[1:]
    one, other = (None, None) if augmentation_seed is None else (augmentation_seed, augmentation_seed + 1)
    shift = layers.RandomTranslation(0.06, 0.06, fill_mode="reflect", seed=other, dtype="float32")
    augmentation = [layers.RandomFlip("horizontal", seed=one), shift]
    model = keras.Sequential([keras.Input(shape), *augmentation, build_model(shape, classes)])
    model.compile(
        optimizer=optimizer(warmup_cosine(rate, epochs * len(train_set), warmup)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=16,  # 15 % faster here. Leave it out under tf.distribute: it fails there.
    )
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


if __name__ == "__main__":
    from lab import main

    main("seeds")
