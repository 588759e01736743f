"""One device, replicas and workers: whether they train the same model, how well, and how long an epoch takes."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from lab import (
    Bars,
    Claim,
    Experiment,
    Objective,
    Run,
    Tuning,
    Unit,
    clock,
    half_decades,
    limit_threads,
    share_of_others,
    together,
    workers_here,
)
from lab.parallelism import pipelines_idle_as_said, split_layer_gives_the_same
from pipelines import batches, sources
from recipes import distributed as recipe

# All but all_threads have one thread a replica. Those of several workers have one in each.
REPLICAS = {
    "one_device": 1,
    "all_threads": 1,
    "mirrored_2": 2,
    "mirrored_4": 4,
    "mirrored_4_plain": 4,
    "workers_2": 1,
    "workers_4": 1,
}
WORKERS = {"workers_2": 2, "workers_4": 4}
# The learning rates that were best on validation images. With synchronized BatchNormalization all train one model.
RATES = {"synchronized": 0.005, "plain": 0.0089}
# A training to compare weights after: twenty steps, four of which have fewer images than four replicas.
SAME_IMAGES, SAME_BATCH, SAME_EPOCHS = 259, 64, 4


def build_without(shape, classes):
    """The recipe's model without BatchNormalization."""
    images = keras.Input(shape)
    x = layers.Rescaling(1 / 64, offset=-2)(images)
    for filters in (32, 64):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, padding="same", activation="relu")(x))
    return keras.Model(images, layers.Dense(classes)(layers.Flatten()(x)))


BUILDS = {"none": build_without, "synchronized": recipe.build_model}


class Rows(keras.callbacks.Callback):
    """Of each epoch its loss and accuracy, and the seconds of its steps: by the wall, of the machine's work, and of
    this process's part of it."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def on_epoch_begin(self, epoch, logs=None):
        self.start = self.last = clock()

    def on_train_batch_end(self, batch, logs=None):
        float(logs["loss"])  # Waits for the step.
        self.last = clock()

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append([logs["loss"], logs["accuracy"], *map(float, self.last - self.start)])


def show_devices(count):
    """Let TensorFlow see so many GPUs or, where there is none, so many parts of the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        tf.config.set_visible_devices(gpus[:count], "GPU")
    elif count > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)


def train(strategy, data, config, seed, folder, variant="workers_2"):
    """Train by the recipe, or go on with what the folder has, and return the rows of the epochs."""
    synchronized = not variant.endswith("plain")
    train_set = batches.training(data.train, config.batch_size, seed=seed)
    rows = Rows()
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(seed)
    recipe.train(
        strategy,
        train_set,
        batches.evaluation(data.validation),
        len(data.classes),
        rate=RATES["synchronized" if synchronized else "plain"] if config.rate is None else config.rate,
        epochs=config.epochs,
        folder=folder,
        build_model=partial(recipe.build_model, synchronized=synchronized),
        callbacks=[rows],
    )
    return rows.rows


def weights_after(strategy, data, seed, norm):
    """All trainable weights after the twenty steps, float64 (parameters,)."""
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    some = tf.data.Dataset.from_tensor_slices((data.train.images[:SAME_IMAGES], data.train.labels[:SAME_IMAGES]))
    given = strategy, some.batch(SAME_BATCH), some.batch(SAME_BATCH).take(1), len(data.classes)
    keras.utils.set_random_seed(seed)
    model = recipe.train(*given, rate=0.005, epochs=SAME_EPOCHS, build_model=BUILDS[norm])
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    return np.concatenate([weight.numpy().ravel() for weight in model.trainable_variables])


def work(variant: str, seed: int, config: dict, request: dict, folder: str) -> list:
    """What each process of a variant does: a training, whose rows it returns, and then twenty steps in float64 for
    each kind of model, whose weights it leaves in the folder."""
    if variant != "all_threads":
        limit_threads(REPLICAS[variant])
    show_devices(REPLICAS[variant])
    strategy, place = recipe.build_strategy(), Path(folder)
    data, chosen = sources.load(sources.Request(**request)), EXPERIMENT.config(**config)
    rows = train(strategy, data, chosen, seed, place / "training", variant)
    for norm in BUILDS if chosen.same and not variant.endswith("plain") else ():
        weights = weights_after(strategy, data, seed, norm)
        if strategy.extended.should_checkpoint:
            np.save(place / f"same-{norm}.npy", weights)
    return rows


def in_processes(variant: str, config, run: Run) -> tuple[list, Path]:
    """Rows of a variant's training and the folder of its models, of an attempt that nothing disturbed.

    Between the first epoch, which traces, and the end, what the machine did beyond all workers' own work is others'.
    """
    workers = workers_here(WORKERS.get(variant, 1), most=max(REPLICAS.values()))
    order = variant, run.seed, asdict(config), asdict(run.data)

    def attempt(number: int):
        place = run.folder / f"attempt-{number}"
        rows = together(work, *order, str(place), environments=workers, log=run.folder / "process.log")
        timed = np.sum([of_worker[1:] for of_worker in rows], axis=1)
        return (rows[0], place), share_of_others(timed[0, 2], timed[0, 3], timed[:, 4].sum())

    return run.undisturbed(attempt, config.again)


def follow(run: Run, model, data: sources.Data, folder: Path, rows) -> dict[str, float]:
    """Log a training of other processes, from the models that it has left, and return the last one's scores.

    Args:
        model: compiled, and with the same layers.
        folder: where the models are, `epoch-0001.keras` and so on.
        rows: for each epoch, a row that begins with its loss and its accuracy.
    """
    validation = batches.evaluation(data.validation)
    callbacks = keras.callbacks.CallbackList(run.callbacks(data), model=model, epochs=len(rows))
    callbacks.on_train_begin()
    for epoch, (loss, accuracy, *_) in enumerate(rows):
        callbacks.on_epoch_begin(epoch)
        callbacks.on_train_batch_begin(0)
        model.load_weights(folder / f"epoch-{epoch + 1:04}.keras")
        logs = {"loss": loss, "accuracy": accuracy}
        callbacks.on_train_batch_end(0, dict(logs))
        found = model.evaluate(validation, verbose=0, return_dict=True)
        callbacks.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in found.items()})
        if model.stop_training:
            break
    callbacks.on_train_end()
    return run.scores(model, data)


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data, found, places = sources.load(first.data), {}, {}
    for variant in map(str, np.random.default_rng(first.seed).permutation(list(runs))):
        rows, places[variant] = in_processes(variant, config, runs[variant])
        seconds = float(np.mean(rows[1:], axis=0)[2])  # The first epoch traces.
        steps = len(data.train) // config.batch_size
        times = {"images_per_second": steps * config.batch_size / seconds, "log_time": float(np.log(seconds))}
        model = recipe.build_model(data.shape, len(data.classes))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(momentum=0.9), loss, metrics=["accuracy"])
        found[variant] = follow(runs[variant], model, data, places[variant] / "training", rows) | times
    for norm in BUILDS if "one_device" in runs and config.same else ():
        weights = {name: np.load(place / f"same-{norm}.npy") for name, place in places.items() if "plain" not in name}
        one = weights["one_device"]
        for variant, others in weights.items():
            found[variant][f"apart_{norm}"] = float(np.linalg.norm(others - one) / np.linalg.norm(one))
    return found


def faster(number, text, variant, than, at_least=None):
    return Claim(number, text, "HW", "log_time", lower=variant, than=than, at_least=at_least)


ALL_ALIKE = ("one_device", "mirrored_2", "mirrored_4", "workers_2", "workers_4")
CLAIMS = [
    Claim(
        "S8a",
        "N replicas with the same global batch train the same model as one device (20 steps in float64)",
        source="ours",
        metric="apart_none",
        equal=ALL_ALIKE,
        exact=True,
        check=True,
    ),
    Claim(
        "S8b",
        "N replicas train the same model with BatchNormalization too, if it is synchronized (20 steps in float64)",
        source="ours",
        metric="apart_synchronized",
        equal=ALL_ALIKE,
        exact=True,
        check=True,
    ),
    Claim(
        "S8c",
        "Four replicas with synchronized BatchNormalization end above four with separate statistics, each at its own "
        "best rate",
        source="ours",
        metric="test_accuracy",
        higher="mirrored_4",
        than="mirrored_4_plain",
    ),
    faster("S9a", "Throughput grows with replicas: two against one, with a core each", "mirrored_2", "one_device"),
    faster("S9b", "Throughput grows with workers: two against one device with both cores", "workers_2", "all_threads"),
    faster(
        "S9c", "Throughput grows with replicas: two against one device with both cores", "mirrored_2", "all_threads"
    ),
    faster(
        "S9d",
        "Distributed training algorithms train 55 % faster: two workers against one, with a core each",
        "workers_2",
        "one_device",
        math.log(1.55),
    ),
    faster(
        "S9e",
        "Several devices train 60 % faster: two replicas against one, with a core each",
        "mirrored_2",
        "one_device",
        math.log(1.6),
    ),
    Claim(
        "S14a",
        "Tensor parallelism: a Dense layer whose kernel is split over two devices gives the same outputs, by columns "
        "and by rows",
        source="DL",
        asserted=split_layer_gives_the_same,
    ),
    Claim(
        "S14b",
        "Pipeline parallelism: p stages idle (p − 1) / (m + p − 1) of the time with m microbatches",
        source="DL",
        asserted=pipelines_idle_as_said,
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=tuple(REPLICAS),
    claims=CLAIMS,
    compare=compare,
    # The batch is that of all replicas. `same` is 1 where weights are compared in float64; `again` says how many times
    # at most a training that other processes disturb is repeated. Without a rate each variant has its own.
    flags={"epochs": 3, "batch_size": 128, "rate": None, "same": 1, "again": 3},
    smoke={"epochs": 2, "batch_size": 32, "same": 0, "again": 0},
    left_out=("mirrored_4", "mirrored_4_plain"),
    opens=tuple(WORKERS),
    least={"epochs": 2},
    tuning=Tuning(
        "rate",
        dict.fromkeys(("one_device", "mirrored_4_plain"), half_decades(0.0005, 0.05)),
        Objective("validation_accuracy"),
        fixed={"same": 0, "again": 0},
    ),
    units={
        "apart_none": Unit("distance from one device, no normalization", 1e6, "millionths of their norm", 6),
        "apart_synchronized": Unit("distance from one device, synchronized", 1e6, "millionths of their norm", 6),
        "log_time": Unit("time of an epoch (log e)", name="e-folds", digits=3, timed=True),
    },
    panels=(Bars("images_per_second"), Bars("test_accuracy")),
    answer="Build and compile it inside `strategy.scope()`. It is the same model up to rounding if each image has the "
    "same weight in the loss and BatchNormalization is synchronized.",
    rests_on=("S8a", "S8b"),
    about={
        "synchronized=": ("S8b", "S8c"),
    },
    advice=[
        "**Try one device with all cores first.** On one processor, an epoch with two replicas takes "
        "{log_time.mirrored_2 / log_time.all_threads} as long as with one device, and with two workers "
        "{log_time.workers_2 / log_time.all_threads} as long.",
        "**Divide each image's loss by the size of the whole batch.** The weights then equal those of one device up "
        "to rounding, even when the last batch is small.",
        "**Synchronize BatchNormalization if you need the same model.** Without it, four replicas train a different "
        "model, which reaches {test_accuracy.mirrored_4_plain}. With it they reach {test_accuracy.mirrored_4}. Which "
        "is better is undecided.",
        "**Save each epoch from the first worker.** Workers that are restarted then end with the same weights.",
    ],
)
