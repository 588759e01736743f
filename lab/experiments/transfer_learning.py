"""Six classes are learned first, and then the other four from few images: frozen, fine-tuned and from scratch.

Each seed draws its own six classes. All training images are mirrored and shifted.
"""

import dataclasses
import functools
import math
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers
from sklearn.linear_model import LogisticRegression

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades, memory_of
from pipelines import batches, sources
from recipes import transfer_learning as recipe

LABELS = (10, 40, 160)  # Of each new class.
EPOCHS = 60  # Of each training on them: all for a head or from scratch, and half of them for each part of fine-tuning.
LEAST_STEPS = 500  # That all epochs have: an epoch of few images goes through them several times.
BRIEF = 50  # Steps of fine-tuning, after which averages with momentum 0.99 are still more of the old images.
KNOWN_RATE = 0.002  # Of pretraining: in a pilot 0.002, 0.005, 0.015 and 0.03 ended within 1.4 points of one another.
OF_MEMORY = 256  # Images in the batch whose memory is measured.


def head_alone(train_set, validation_set, classes, base, *, rate, epochs=EPOCHS, callbacks):
    return recipe.train(train_set, validation_set, classes, base, rate=rate, epochs=epochs, callbacks=callbacks)


def with_head(train_set, validation_set, classes, base, head_rate, epochs):
    """A model whose head alone is trained, for half of the epochs: what all fine-tuning begins with."""
    return recipe.train(train_set, validation_set, classes, base, rate=head_rate, epochs=epochs // 2)


def fine_tuned(train_set, validation_set, classes, base, *, rate, head_rate, epochs=EPOCHS, callbacks):
    model = with_head(train_set, validation_set, classes, base, head_rate, epochs)
    recipe.fine_tune(model, train_set, validation_set, rate=rate, epochs=epochs // 2, callbacks=callbacks)
    return model


def briefly_fine_tuned(train_set, validation_set, classes, base, *, rate, head_rate, epochs=EPOCHS, callbacks):
    model = with_head(train_set, validation_set, classes, base, head_rate, epochs)
    few_steps = train_set.repeat().take(BRIEF)
    recipe.fine_tune(model, few_steps, validation_set, rate=rate, epochs=1, callbacks=callbacks)
    return model


def with_batchnorm_in_training(
    train_set, validation_set, classes, base, *, rate, head_rate, momentum, epochs=EPOCHS, callbacks
):
    """Brief fine-tuning as Keras's guide writes it. BatchNorm takes its statistics from the few images all the same."""
    head = with_head(train_set, validation_set, classes, base, head_rate, epochs).layers[-1]
    base.trainable = True
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = momentum
    images = keras.Input(base.input_shape[1:])
    model = keras.Model(images, head(base(images, training=False)))
    recipe.fit(model, train_set.repeat().take(BRIEF), validation_set, rate, 1, callbacks)
    return model


def from_scratch(train_set, validation_set, classes, base, *, rate, epochs=EPOCHS, callbacks):
    return recipe.pretrain(train_set, validation_set, classes, rate=rate, epochs=epochs, callbacks=callbacks)


def on_random_features(train_set, validation_set, classes, base, *, rate, epochs=EPOCHS, callbacks):
    """A base that was never trained, though its BatchNorm layers have seen the images."""
    base = seen(base, train_set)
    return head_alone(train_set, validation_set, classes, base, rate=rate, epochs=epochs, callbacks=callbacks)


def seen(base, feed):
    """The base, whose BatchNorm layers have the statistics of a feed's images."""
    for images, _ in feed.repeat().take(50):
        base(images, training=True)
    return base


def guessing(train_set, validation_set, classes, base, *, callbacks):
    """A model that always says the first class."""
    images = keras.Input(base.input_shape[1:])
    nothing = layers.Dense(classes, kernel_initializer="zeros")(layers.GlobalAveragePooling2D()(images))
    return keras.Model(images, nothing)


# First guesses: none is tuned yet. Of fine-tuning it is the rate of its second part: the first has that of "frozen".
RATES = {
    "frozen_10": 0.01,
    "frozen_40": 0.01,
    "frozen_160": 0.01,
    "fine_tuned_10": 0.001,
    "fine_tuned_40": 0.001,
    "fine_tuned_160": 0.001,
    "scratch_10": 0.01,
    "scratch_40": 0.01,
    "scratch_160": 0.01,
    "random_10": 0.01,
    "random_160": 0.01,
    "brief_10": 0.001,
    "brief_40": 0.001,
    "batchnorm_trains_10": 0.001,
    "batchnorm_trains_40": 0.001,
    "batchnorm_adapts_10": 0.001,
}
FORGETTING = {"lowest": 1e-5, "low": 1e-4, "middle": 1e-3, "high": 1e-2, "highest": 1e-1}


def tuned(function, way, labels, **how):
    return {f"{way}_{labels}": partial(function, rate=RATES[f"{way}_{labels}"], **how)}


VARIANTS: dict[str, partial[Any]] = {}
for MANY in LABELS:
    VARIANTS |= tuned(head_alone, "frozen", MANY)
    VARIANTS |= tuned(fine_tuned, "fine_tuned", MANY, head_rate=RATES[f"frozen_{MANY}"])
    VARIANTS |= tuned(from_scratch, "scratch", MANY)
for MANY in (10, 160):
    VARIANTS |= tuned(on_random_features, "random", MANY)
VARIANTS |= {
    f"fine_tuned_160_at_the_{how}_rate": partial(fine_tuned, rate=rate, head_rate=RATES["frozen_160"])
    for how, rate in FORGETTING.items()
}
for MANY in (10, 40):
    HEAD = {"head_rate": RATES[f"frozen_{MANY}"]}
    VARIANTS |= tuned(briefly_fine_tuned, "brief", MANY, **HEAD)
    VARIANTS |= tuned(with_batchnorm_in_training, "batchnorm_trains", MANY, momentum=0.99, **HEAD)
VARIANTS |= tuned(with_batchnorm_in_training, "batchnorm_adapts", 10, head_rate=RATES["frozen_10"], momentum=0.8)
VARIANTS["guess_10"] = partial(guessing)
NEVER_PRETRAINED = ("scratch", "random", "guess")  # How their names begin.


def labels_of(variant):
    """How many images of each new class a variant learns from."""
    return next(int(word) for word in variant.split("_") if word.isdigit())


def of_classes(data, chosen):
    """The data of some classes, by their labels in order, which are counted from 0 again."""

    def part(split):
        found = split.take(np.flatnonzero(np.isin(split.labels, chosen)))
        return dataclasses.replace(found, labels=np.searchsorted(chosen, found.labels).astype(split.labels.dtype))

    test = data._test
    return dataclasses.replace(
        data,
        train=part(data.train),
        validation=part(data.validation),
        _test=(lambda: part(test())) if callable(test) else part(test),
        classes=tuple(data.classes[label] for label in chosen),
    )


def divided(data, seed):
    """The data of three fifths of the classes, which are known, and of the others, which are new: drawn by the seed."""
    many = len(data.classes)
    known = 3 * many // 5
    if known < 2 or many - known < 2:
        raise ValueError("the classes are divided into known and new ones, so at least five are needed")
    order = np.random.default_rng(seed).permutation(many)
    return of_classes(data, np.sort(order[:known])), of_classes(data, np.sort(order[known:]))


def few(split, labels, seed):
    """So many images of each class, others for each seed."""
    order = np.random.default_rng(seed).permutation(len(split))
    chosen = [order[split.labels[order] == label][:labels] for label in np.unique(split.labels)]
    return split.take(np.concatenate(chosen))


@functools.lru_cache(maxsize=1)
def pretrained(request, seed, epochs, batch_size):
    """The weights of a base that has learned the known classes: once for all runs of a seed that a process does."""
    known, _ = divided(sources.load(request), seed)
    feed = batches.training(known.train, batch_size, seed=seed)
    model = recipe.pretrain(feed, None, len(known.classes), rate=KNOWN_RATE, epochs=epochs)
    return model.get_layer("base").get_weights()


def often(train_set):
    """The batches, so many times that all epochs have enough steps."""
    return train_set.repeat(math.ceil(LEAST_STEPS / (EPOCHS * len(train_set))))


def train(variant: str, config, run: Run) -> dict[str, float]:
    known, new = divided(sources.load(run.data), run.seed)
    untrained = variant.startswith(NEVER_PRETRAINED)
    before = None if untrained else pretrained(run.data, run.seed, config.known_epochs, config.batch_size)
    keras.utils.set_random_seed(run.seed)  # What follows is the same whether this process had the weights or not.
    base = recipe.build_base(new.shape)
    if before:
        base.set_weights(before)
    new = dataclasses.replace(new, train=few(new.train, labels_of(variant), run.seed))
    model = run.bound(
        often(batches.training(new.train, config.few_batch, seed=run.seed)),
        batches.evaluation(new.validation),
        len(new.classes),
        base,
        callbacks=run.callbacks(new),
    )
    found = run.scores(model, new)
    run.correct = None  # Evidence keeps it of all test images or of none, and so do TensorBoard's pictures.
    (run.folder / "predicted.npy").unlink(missing_ok=True)
    found["new_accuracy"] = found.pop("test_accuracy")
    if labels_of(variant) == 160 and config.memory:
        if not variant.startswith("scratch"):
            found |= remembered(base, before, known, config.batch_size, run)
        if variant in ("frozen_160", "fine_tuned_160"):
            asked = variant == "frozen_160", list(new.shape), OF_MEMORY
            found["memory"] = held(*asked) + memory_of(build_step, *asked)
            found["log_memory"] = math.log(found["memory"])
    return found


def remembered(base, before, known, batch_size, run) -> dict[str, float]:
    """How well a new head tells the known classes apart on what is left of the base, by itself and as a share.

    The share is of what the base with the weights `before` knows beyond one that was never trained.
    """
    after = 1 / len(known.classes) if run.diverged else probed(base, known, batch_size, run)
    if not before:
        return {"known_accuracy": after}
    base.set_weights(before)
    never = seen(recipe.build_base(known.shape), batches.training(known.train, batch_size, seed=run.seed))
    most, least = (probed(other, known, batch_size, run) for other in (base, never))
    return {"known_accuracy": after, "kept": (after - least) / (most - least)}


def probed(base, known, batch_size, run) -> float:
    """How well a new head tells the known classes apart on a base's features."""
    base.trainable = False
    features = keras.Sequential([base])
    of = {}
    for name, split in (("train", known.train), ("test", run.open_test_set(known))):
        of[name] = features.predict(split.images[:], batch_size=batch_size, verbose=0), split.labels
    mean, deviation = of["train"][0].mean(axis=0), of["train"][0].std(axis=0) + 1e-6
    probe = LogisticRegression(max_iter=1000).fit((of["train"][0] - mean) / deviation, of["train"][1])
    return float(probe.score((of["test"][0] - mean) / deviation, of["test"][1]))


def build_to_measure(frozen, shape):
    """A model with a frozen base, or one that is trained, with all that Adam keeps of it."""
    base = recipe.build_base(shape)
    base.trainable = False
    images = keras.Input(shape)
    model = keras.Model(images, layers.Dense(4)(base(images)))
    if not frozen:
        recipe.unfreeze(model)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    return model


def held(frozen, shape, batch_size) -> float:
    """MiB that are held from step to step: weights, what Adam keeps of them, and a batch of images in float32."""
    model = build_to_measure(frozen, shape)
    sizes = [math.prod(variable.shape) for variable in (*model.weights, *model.optimizer.variables)]
    return 4 * (sum(sizes) + batch_size * math.prod(shape)) / 2**20


def build_step(frozen, shape, batch_size):
    """A call that trains on one batch, to measure the memory that a step takes beyond what is held."""
    model = build_to_measure(frozen, shape)
    for size in (2, 3):  # After two sizes there is a step for any.
        model.train_on_batch(tf.zeros((size, *shape)), tf.zeros(size, tf.int32))
    return partial(model.train_on_batch, tf.zeros((batch_size, *shape)), tf.zeros(batch_size, tf.int32))


@functools.cache
def training_false_holds():
    """Whether BatchNorm that was called with `training=False` keeps its statistics while the model is fitted."""
    images = keras.Input((4,))
    norm = layers.BatchNormalization()
    model = keras.Model(images, layers.Dense(1)(norm(images, training=False)))
    model.compile("sgd", "mse")
    before = np.array(norm.moving_mean)
    model.fit(np.full((8, 4), 5.0), np.zeros(8), verbose=0)
    return np.array_equal(before, norm.moving_mean)


def beats(number, text, source, variant, than, metric="new_accuracy", **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


AT_CHANCE = "Fine-tuning with BatchNorm in training mode leaves validation at chance or far below"
CLAIMS: list[Any] = [
    *(
        beats(
            f"T1{letter}",
            f"With {labels} images of each class, frozen pretrained features beat training from scratch",
            "DL",
            f"frozen_{labels}",
            f"scratch_{labels}",
        )
        for letter, labels in zip("abc", LABELS, strict=True)
    ),
    *(
        beats(
            f"T1{letter}",
            f"With {labels} images of each class, fine-tuning beats frozen features",
            "ours",
            f"fine_tuned_{labels}",
            f"frozen_{labels}",
        )
        for letter, labels in zip("def", LABELS, strict=True)
    ),
    *(
        beats(
            f"T1{letter}",
            f"With {labels} images of each class, frozen pretrained features beat those of an untrained base",
            f"ours, a control of T1{of}",
            f"frozen_{labels}",
            f"random_{labels}",
        )
        for letter, labels, of in (("g", 10, "a"), ("h", 160, "c"))
    ),
    Claim(
        "T2a",
        "Freezing saves most of training's memory: weights, what Adam keeps, the batch, activations and gradients",
        said="Freezing saves most of training's memory",
        source="DL",
        metric="log_memory",
        lower="frozen_160",
        than="fine_tuned_160",
        at_least=math.log(2),
    ),
    Claim(
        "T2b",
        "Freezing saves 80 % of training's memory",
        said="Freezing slashes memory by up to 80 %",
        source="DL",
        metric="log_memory",
        lower="frozen_160",
        than="fine_tuned_160",
        at_least=math.log(5),
    ),
    Claim(
        "T3a",
        "Fine-tuning at a rate of 0.1 destroys the pretrained features: a new head for the first classes loses half or "
        "more of what they give it over those of an untrained base",
        said="Fine-tuning at a high rate destroys the pretrained features",
        source="DL",
        metric="kept",
        lower="fine_tuned_160_at_the_highest_rate",
        than="frozen_160",
        at_least=0.5,
    ),
    Claim(
        "T3b",
        "Fine-tuning at a rate of 0.00001 does not destroy the pretrained features: a new head knows the first classes "
        "as well",
        said="Fine-tuning at a tiny rate does not destroy the pretrained features",
        source="DL",
        metric="known_accuracy",
        equal=("fine_tuned_160_at_the_lowest_rate", "frozen_160"),
        side="below",
    ),
    beats(
        "T3c",
        "Fine-tuning at a rate of 0.1 ends below frozen features, also on the new classes",
        "ours, on DL's advice",
        "frozen_160",
        "fine_tuned_160_at_the_highest_rate",
    ),
    *(
        Claim(
            f"Q2{letter}",
            f"With {labels} images of each class, 50 steps of fine-tuning with BatchNorm in training mode (momentum "
            "0.99, as Keras has it) end at least ten points below as many with frozen BatchNorm layers",
            said=AT_CHANCE,
            source="ours, on keras 9214, 9965",
            metric="new_accuracy",
            lower=f"batchnorm_trains_{labels}",
            than=f"brief_{labels}",
            at_least=0.1,
        )
        for letter, labels in zip("ab", (10, 40), strict=True)
    ),
    Claim(
        "Q2c",
        "In a model that is fitted, BatchNorm that was called with `training=False` keeps its statistics",
        source="Keras's guide to transfer learning",
        asserted=training_false_holds,
    ),
    *(
        Claim(
            f"Q2{letter}",
            f"With {labels} images of each class, 50 steps of fine-tuning with BatchNorm in training mode (momentum "
            "0.99, as Keras has it) end at chance",
            said=AT_CHANCE,
            source="keras 9214, 9965",
            metric="new_accuracy",
            equal=(f"batchnorm_trains_{labels}", "guess_10"),
            side="above",
        )
        for letter, labels in zip("de", (10, 40), strict=True)
    ),
    Claim(
        "Q2f",
        "With 10 images of each class and momentum 0.8, 50 steps of fine-tuning with BatchNorm in training mode end no "
        "worse than as many with frozen BatchNorm layers",
        source="ours",
        metric="new_accuracy",
        equal=("batchnorm_adapts_10", "brief_10"),
        side="below",
    ),
]

EXPERIMENT = Experiment(
    recipe,
    train=train,
    variants=VARIANTS,
    claims=CLAIMS,
    # Without a rate each variant has its own. `known_epochs` are those of pretraining. `memory` is 1 to measure memory
    # and what is left of the features, too.
    flags={"batch_size": 64, "few_batch": 20, "known_epochs": 15, "rate": None, "memory": 1},
    smoke={"known_epochs": 2, "epochs": 6, "memory": 0},
    tuning=Tuning(
        "rate", dict.fromkeys(RATES, half_decades(1e-4, 3.2e-2)), Objective("validation_accuracy"), fixed={"memory": 0}
    ),
    floor="new_accuracy",
    fails=("guess_10", "fine_tuned_160_at_the_highest_rate"),
    left_out=[name for name in VARIANTS if name.endswith("rate") or not name.startswith(("frozen", "fine", "scratch"))],
    advice=[
        "**Expect another effect with other classes.** Each seed draws its own six and four classes, and the intervals "
        "hold the luck of these. Of the luck of the test images they hold only as much as differs from seed to seed.",
    ],
    units={
        "new_accuracy": Unit("test accuracy on the new classes", 100, "points"),
        "known_accuracy": Unit("test accuracy of a new head on the first classes", 100, "points"),
        "kept": Unit("share of what pretraining gives such a head that is left", 100, "%", 0),
        "memory": Unit("memory of training on a batch of 256", 1, "MiB", 0, timed=True),
        "log_memory": Unit("memory of training (log e)", name="e-folds", digits=3, timed=True),
    },
    panels=(Bars("new_accuracy"), Bars("known_accuracy")),
)
