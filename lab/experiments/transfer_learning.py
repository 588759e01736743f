"""Six classes are learned first, and then the other four from few images: frozen, fine-tuned and from scratch."""

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
OF_MEMORY = 256  # Images in the batch whose memory is measured.


def head_alone(train_set, validation_set, classes, base, *, rate, callbacks):
    return recipe.train(train_set, validation_set, classes, base, rate=rate, epochs=EPOCHS, callbacks=callbacks)


def fine_tuned(train_set, validation_set, classes, base, *, rate, callbacks):
    """The rate is that of the second half. The first half trains the head."""
    model = recipe.train(train_set, validation_set, classes, base, epochs=EPOCHS // 2)
    recipe.fine_tune(model, train_set, validation_set, rate=rate, epochs=EPOCHS // 2, callbacks=callbacks)
    return model


def from_scratch(train_set, validation_set, classes, base, *, rate, callbacks):
    return recipe.pretrain(train_set, validation_set, classes, rate=rate, epochs=EPOCHS, callbacks=callbacks)


def on_random_features(train_set, validation_set, classes, base, *, rate, callbacks):
    """A base that was never trained, though its BatchNorm layers have seen the images."""
    untrained = recipe.build_base(base.input_shape[1:])
    for images, _ in train_set.repeat().take(50):
        untrained(images, training=True)
    return head_alone(train_set, validation_set, classes, untrained, rate=rate, callbacks=callbacks)


def with_batchnorm_in_training(train_set, validation_set, classes, base, *, rate, callbacks):
    """Fine-tuning as Keras's guide writes it. BatchNorm takes its statistics from the few images all the same."""
    head = recipe.train(train_set, validation_set, classes, base, epochs=EPOCHS // 2).layers[-1]
    base.trainable = True
    images = keras.Input(base.input_shape[1:])
    model = keras.Model(images, head(base(images, training=False)))
    recipe.fit(model, train_set, validation_set, rate, EPOCHS // 2, callbacks)
    return model


WAYS = {"frozen": head_alone, "fine_tuned": fine_tuned, "scratch": from_scratch, "random": on_random_features}
# The learning rate that was best on validation images; of fine-tuning that of its second half.
RATES = {f"{way}_{labels}": 0.001 if way == "fine_tuned" else 0.01 for way in WAYS for labels in LABELS}
RATES |= {f"batchnorm_trains_{labels}": 0.001 for labels in (10, 160)}
FORGETTING = {"lowest": 1e-5, "low": 1e-4, "high": 1e-3, "highest": 1e-2}
VARIANTS = {
    name: partial(WAYS.get(name.rpartition("_")[0], with_batchnorm_in_training), rate=rate)
    for name, rate in RATES.items()
}
VARIANTS |= {f"fine_tuned_160_at_the_{how}_rate": partial(fine_tuned, rate=rate) for how, rate in FORGETTING.items()}


def labels_of(variant):
    """How many images of each new class a variant learns from."""
    return next(int(word) for word in variant.split("_") if word.isdigit())


def of_classes(data, first, last):
    """The data of the classes from `first` to before `last`, which are counted from 0 again."""

    def part(split):
        chosen = np.flatnonzero((split.labels >= first) & (split.labels < last))
        found = split.take(chosen)
        return dataclasses.replace(found, labels=found.labels - first)

    test = data._test
    return dataclasses.replace(
        data,
        train=part(data.train),
        validation=part(data.validation),
        _test=(lambda: part(test())) if callable(test) else part(test),
        classes=data.classes[first:last],
    )


def divided(data):
    """The data of the first three fifths of the classes, which are known, and of the others, which are new."""
    known = 3 * len(data.classes) // 5
    if known < 2 or len(data.classes) - known < 2:
        raise ValueError("the classes are divided into known and new ones, so at least five are needed")
    return of_classes(data, 0, known), of_classes(data, known, len(data.classes))


def few(split, labels, seed):
    """So many images of each class, others for each seed."""
    order = np.random.default_rng(seed).permutation(len(split))
    chosen = [order[split.labels[order] == label][:labels] for label in np.unique(split.labels)]
    return split.take(np.concatenate(chosen))


def train(variant: str, config, run: Run) -> dict[str, float]:
    known, new = divided(sources.load(run.data))
    pretrained = recipe.pretrain(
        batches.training(known.train, config.batch_size, seed=run.seed),
        batches.evaluation(known.validation),
        len(known.classes),
        epochs=config.known_epochs,
    )
    base = pretrained.get_layer("base")
    new = dataclasses.replace(new, train=few(new.train, labels_of(variant), run.seed))
    model = run.bound(
        batches.training(new.train, config.few_batch, seed=run.seed),
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
        if variant.startswith(("frozen", "fine_tuned")) and not run.diverged:
            found["known_accuracy"] = probed(base, known, config.batch_size, run)
        if variant in ("frozen_160", "fine_tuned_160"):
            found["memory"] = memory_of(build_step, variant == "frozen_160", list(new.shape), OF_MEMORY)
            found["log_memory"] = float(np.log(found["memory"]))
    return found


def probed(base, known, batch_size, run) -> float:
    """How well a new head tells the known classes apart on the features of what is left of the base."""
    base.trainable = False
    features = keras.Sequential([base])
    of = {}
    for name, split in (("train", known.train), ("test", run.open_test_set(known))):
        of[name] = features.predict(split.images[:], batch_size=batch_size, verbose=0), split.labels
    mean, deviation = of["train"][0].mean(axis=0), of["train"][0].std(axis=0) + 1e-6
    probe = LogisticRegression(max_iter=1000).fit((of["train"][0] - mean) / deviation, of["train"][1])
    return float(probe.score((of["test"][0] - mean) / deviation, of["test"][1]))


def build_step(frozen, shape, batch_size):
    """A call that trains on one batch, with a frozen base or all of it, to measure its memory."""
    base = recipe.build_base(shape)
    base.trainable = False
    images = keras.Input(shape)
    model = keras.Model(images, layers.Dense(4)(base(images)))
    if not frozen:
        recipe.unfreeze(model)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
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
    beats(
        "T1g",
        "Frozen pretrained features beat those of a base that was never trained, with 10 images of each class",
        "ours, a control of T1a",
        "frozen_10",
        "random_10",
    ),
    Claim(
        "T2a",
        "Freezing saves most of training's memory",
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
        "Fine-tuning at a high rate destroys the pretrained features: a head on them knows the first classes worse",
        source="DL",
        metric="known_accuracy",
        lower="fine_tuned_160_at_the_highest_rate",
        than="frozen_160",
    ),
    Claim(
        "T3b",
        "Fine-tuning at a tiny rate does not destroy the pretrained features",
        source="DL",
        metric="known_accuracy",
        equal=("fine_tuned_160_at_the_lowest_rate", "frozen_160"),
        side="below",
    ),
    *(
        Claim(
            f"Q2{letter}",
            f"With {labels} images of each class, fine-tuning with BatchNorm in training mode ends at least ten points "
            "below fine-tuning with frozen BatchNorm layers",
            source="keras 9214, 9965",
            metric="new_accuracy",
            lower=f"batchnorm_trains_{labels}",
            than=f"fine_tuned_{labels}",
            at_least=0.1,
        )
        for letter, labels in zip("ab", (10, 160), strict=True)
    ),
    Claim(
        "Q2c",
        "In a model that is fitted, BatchNorm that was called with `training=False` keeps its statistics",
        source="Keras's guide to transfer learning",
        asserted=training_false_holds,
    ),
]

EXPERIMENT = Experiment(
    recipe,
    train=train,
    variants=VARIANTS,
    claims=CLAIMS,
    # Without a rate each variant has its own. `memory` is 1 to measure memory and what is left of the features, too.
    flags={"batch_size": 64, "few_batch": 20, "known_epochs": 5, "rate": None, "memory": 1},
    smoke={"known_epochs": 2, "memory": 0},
    tuning=Tuning(
        "rate", dict.fromkeys(RATES, half_decades(1e-4, 3.2e-2)), Objective("validation_accuracy"), fixed={"memory": 0}
    ),
    floor="new_accuracy",
    left_out=[name for name in VARIANTS if name.endswith("rate") or name.startswith(("random_4", "random_1", "batch"))],
    units={
        "new_accuracy": Unit("test accuracy on the new classes", 100, "points"),
        "known_accuracy": Unit("test accuracy of a new head on the first classes", 100, "points"),
        "memory": Unit("peak memory of a batch of 256", 1, "MiB", 0, timed=True),
        "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
    },
    panels=(Bars("new_accuracy"), Bars("known_accuracy")),
)
