"""Shuffle buffers of four sizes and a frozen order, on images sorted by class."""

from functools import partial

import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from lab.core.training import some_of
from pipelines import batches, sources
from recipes import shuffling as recipe

# Adam's peak learning rate for each order, chosen on validation images.
RATES = {"shuffled": 0.0057, "buffer_half": 0.0057, "buffer_tenth": 0.00032, "frozen": 0.0057, "class_ordered": 0.00032}
ORDERS: dict[str, dict] = {
    "shuffled": {},
    "buffer_half": {"buffer": 0.5},
    "buffer_tenth": {"buffer": 0.1},
    "frozen": {"reshuffle": False},
    "class_ordered": {"buffer": 0.0},
}
VARIANTS = {name: partial(recipe.train, **order, rate=RATES[name]) for name, order in ORDERS.items()}
# One mixed order for all epochs but the last, which repeats it or has another.
VARIANTS |= {name: partial(recipe.train, buffer=0.0, rate=0.0057) for name in ("order_repeated", "order_changed")}
LONG = {
    f"{name}_long": partial(recipe.train, reshuffle=name == "shuffled", rate=0.0018, epochs=60)
    for name in ("shuffled", "frozen")
}
VARIANTS |= LONG
FEW = 1_000  # Images of those of 60 epochs.

CLAIMS = [
    Claim(
        "S6a", "Without shuffling, class-ordered data ruins training: it costs ten points or more", source="ours",
        metric="test_accuracy", lower="class_ordered", than="shuffled", at_least=0.1, check=True,
    ),
    Claim(
        "S6b", "A shuffle buffer smaller than the data set costs accuracy where data are sorted by class",
        source="tf.data guide", metric="test_accuracy", lower=("buffer_half", "buffer_tenth"), than="shuffled",
    ),
    Claim(
        "S6c", "Shuffling anew each epoch beats one order for all epochs", source="Bengio 2012",
        metric="test_accuracy", higher="shuffled", than="frozen",
    ),
    Claim(
        "S6f", "One random order for all epochs is as good as a new one in each", source="ours",
        metric="test_accuracy", equal=("frozen", "shuffled"), side="below",
    ),
    Claim(
        "S6d", "In 60 epochs on 1,000 images, too, shuffling anew each epoch beats one order for all", source="ours",
        metric="test_accuracy", higher="shuffled_long", than="frozen_long",
    ),
    Claim(
        "S6e", "A model memorizes the order: it is right more often in one that it knows than in a new one",
        said="Without shuffling the model memorizes the order", source="TF",
        metric="running_accuracy", higher="order_repeated", than="order_changed",
    ),
]  # fmt: skip


def in_one_order(images, labels, seed: int, epochs: int, change: bool) -> tf.data.Dataset:
    """Single examples in the same mixed order in each epoch; with `change`, in another one in the last of `epochs`."""
    epoch = tf.Variable(0, dtype=tf.int64)
    images, labels = tf.constant(images), tf.constant(labels)

    def order(_):
        other = tf.cast(epoch.assign_add(1) == epochs, tf.int32) * int(change)
        return tf.random.experimental.stateless_shuffle(tf.range(len(labels)), seed=[seed, other])

    places = tf.data.Dataset.range(1).map(order).unbatch()
    examples = places.map(lambda place: (images[place], labels[place]))
    return examples.apply(tf.data.experimental.assert_cardinality(len(labels)))


def train(variant, config, run):
    """Sort the images by class, and train on them in the variant's order."""
    data = some_of(sources.load(run.data), FEW if variant.endswith("_long") else None, run.seed)
    sorted_by_class = np.argsort(data.train.labels, kind="stable")
    images, labels = data.train.images[sorted_by_class], data.train.labels[sorted_by_class]
    examples = tf.data.Dataset.from_tensor_slices((images, labels))
    if variant.startswith("order_"):
        epochs = run.bound.keywords.get("epochs", 6)
        examples = in_one_order(images, labels, run.seed, epochs, change=variant == "order_changed")
    validation_set = batches.evaluation(data.validation)
    model = run.bound(examples, validation_set, len(data.classes), callbacks=run.callbacks(data))
    return run.scores(model, data) | {"running_accuracy": run.curves["accuracy"][-1]}


EXPERIMENT = Experiment(
    recipe,
    train=train,
    variants=VARIANTS,
    claims=CLAIMS,
    flags={"batch_size": 128},
    tuning=Tuning("rate", dict.fromkeys(RATES, half_decades(3.2e-4, 1e-2)), Objective("validation_accuracy")),
    smoke={"epochs": 4, "batch_size": 64},
    fails=("buffer_tenth", "class_ordered"),
    left_out=("order_repeated", "order_changed", *LONG),
    units={"running_accuracy": Unit("accuracy while training, last epoch", 100, "points")},
    answer="Use a buffer as large as the data. Half of it costs {test_accuracy.shuffled - "
    "test_accuracy.buffer_half} where the images are sorted by class, and a tenth of it costs "
    "{test_accuracy.shuffled - test_accuracy.buffer_tenth}.",
    rests_on=("S6b",),
    panels=(Bars("test_accuracy", variants=tuple(ORDERS)), Lines("val_accuracy", variants=tuple(ORDERS))),
    advice=[
        "**Shuffle all of it.** Where files lie sorted by class, a buffer of half of the images ends at "
        "{test_accuracy.buffer_half}, and one of all at {test_accuracy.shuffled}.",
        "**Shuffle the file names** where images do not fit into memory.",
        "**Keep shuffling anew in each epoch**, as `shuffle` does by default. Whether one order for all epochs costs "
        "anything is undecided after 6 epochs. After 60 epochs on 1,000 images it made no real difference.",
    ],
)
