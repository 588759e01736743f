"""Three input pipelines before two models: what a profile says, against what batches that lie ready save."""

import functools
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer

from lab import Bars, Claim, Experiment, Points, Run, Unit
from pipelines import encoded, sources
from recipes import monitoring as recipe

FEEDS, FILTERS = ("naive", "overlapped", "cached"), {"small": 8, "large": 40}
PROFILED = {f"{feed}_{size}": (feed, size) for feed in FEEDS for size in FILTERS}
# What TensorBoard shows of a training: by Keras's callback alone, and with that of activations.
BOARDS = ("keras_board", "whole_board")
KINDS = ("epoch_loss", "epoch_accuracy", "epoch_learning_rate", "kernel/histogram", "/activations")


def decode(image, label):
    return tf.io.decode_png(image, channels=3), label


def augment(image, label):
    return tf.image.random_brightness(tf.image.random_flip_left_right(image), 0.1), label


def build_feed(kind: str, files: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
    """Batches without end of images uint8 (batch, height, width, 3) and labels int64 (batch,)."""
    if kind == "naive":
        feed = files.map(decode).map(augment).batch(batch_size)
    elif kind == "overlapped":
        feed = files.map(decode, tf.data.AUTOTUNE).map(augment, tf.data.AUTOTUNE)
        feed = feed.batch(batch_size).prefetch(tf.data.AUTOTUNE)
    else:
        feed = files.map(decode).batch(batch_size).cache().prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()  # As it is written: TensorFlow would make some of it parallel.
    options.experimental_optimization.apply_default_optimizations = False
    return feed.repeat().with_options(options)


def build_model(data: sources.Data, size: str) -> keras.Model:
    model = recipe.build_model(data.shape, len(data.classes), FILTERS[size])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def waiting(model: keras.Model, feed: tf.data.Dataset, folder: Path, config) -> float:
    """By the profile of some steps of a `fit`, after an epoch that fills caches and lets tf.data find its threads."""
    before = math.ceil(config.images / config.batch_size)
    profile = recipe.MarkedProfile(folder, before + 1, before + config.profiled, write_graph=False)
    model.fit(feed, steps_per_epoch=before + config.profiled, callbacks=[profile], shuffle=False, verbose=0)
    return recipe.waiting(folder)


def step_of(model: keras.Model, feed: tf.data.Dataset):
    """A training step with the feed's next batch."""
    batches = iter(feed)
    return lambda: model.train_on_batch(*next(batches))


def kinds_shown(board: str, data: sources.Data, folder: Path) -> int:
    """How many of `KINDS` the files of a short training hold, which TensorBoard would draw."""
    images, labels = data.train.images[:64], data.train.labels[:64]
    model = recipe.build_model(data.shape, len(data.classes))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    callbacks = [keras.callbacks.TensorBoard(str(folder), histogram_freq=1)]
    if board == "whole_board":
        callbacks.append(recipe.Activations(folder, images))
    model.fit(images, labels, validation_split=0.5, epochs=2, callbacks=callbacks, verbose=0)
    paths = list(folder.rglob("events.out.tfevents.*"))
    tags = {tag for path in paths for tag in EventAccumulator(str(path)).Reload().Tags()["tensors"]}
    return sum(any(tag.endswith(kind) for tag in tags) for kind in KINDS)


@functools.cache
def compares_runs():
    """Whether TensorBoard finds the same curve in the folders of two runs, which it draws in one chart."""
    with tempfile.TemporaryDirectory() as folder:
        for run in ("first", "second"):
            with tf.summary.create_file_writer(f"{folder}/{run}").as_default():
                tf.summary.scalar("loss", 1.0, step=0)
        found = EventMultiplexer().AddRunsFromDirectory(folder).Reload()
        return all("loss" in found.GetAccumulator(run).Tags()["tensors"] for run in ("first", "second"))


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    files = encoded.read(first.data).repeat().take(config.images)
    shares: dict[str, float] = {}
    steps: dict[str, Callable[[], object]] = {}
    for name in filter(PROFILED.get, runs):
        feed, size = PROFILED[name]
        model, feed = build_model(data, size), build_feed(feed, files, config.batch_size)
        shares[name] = waiting(model, feed, runs[name].folder, config)
        ready = recipe.ready(files.map(decode).batch(config.batch_size))
        steps |= {name: step_of(model, feed), f"{name}, ready": step_of(model, ready)}
    timed = first.interleaved(steps, block=config.steps)
    found = {
        name: metrics(share, timed.step_seconds(name), timed.step_seconds(f"{name}, ready"))
        for name, share in shares.items()
    }
    shown = {name: kinds_shown(name, data, runs[name].folder) for name in BOARDS if name in runs}
    return found | {name: {"kinds_shown": float(number)} for name, number in shown.items()}


def metrics(share: float, seconds: float, ready: float) -> dict[str, float]:
    """What a profile said, and what is true: the seconds of a step, and of one whose batch lies ready."""
    saved = 1 - ready / seconds
    return {"step_seconds": seconds, "waiting": share, "saved": saved, "unseen": saved - share}


CLAIMS = [
    Claim(
        "W1",
        "TensorBoard shows loss, accuracy, learning rate and histograms of weights by Keras's callback, and "
        "histograms of activations by one callback more",
        said="The dashboard shows loss, accuracy, learning rate, weight and activation histograms",
        source="TF",
        metric="kinds_shown",
        higher="whole_board",
        than="keras_board",
        at_least=1,
        check=True,
        exact=True,
    ),
    Claim(
        "W1b",
        "TensorBoard compares runs: it shows the same curve of two runs, each in a folder",
        said="The dashboard compares runs",
        source="TF",
        asserted=compares_runs,
    ),
    Claim(
        "W2a",
        "The profile tells an input-bound run from a compute-bound one, if pipeline and model take turns",
        source="TF, HW",
        metric="waiting",
        higher=("naive_small", "naive_large"),
        than=("cached_small", "cached_large"),
        check=True,
    ),
    Claim(
        "W2b",
        "The profile tells an input-bound run from a compute-bound one: its waiting time shows the full cost of a "
        "prefetching pipeline to a small model",
        source="TF, HW",
        metric="unseen",
        equal=("overlapped_small", "cached_small"),
        side="above",
    ),
    Claim(
        "W2c",
        "The profile tells an input-bound run from a compute-bound one: its waiting time shows the full cost of a "
        "prefetching pipeline to a large model",
        source="TF, HW",
        metric="unseen",
        equal=("overlapped_large", "cached_large"),
        side="above",
    ),
]

UNITS = {
    "step_seconds": Unit("a step", 1000, "ms", 1, timed=True),
    "waiting": Unit("waiting, by the profile", 100, "points", 1, timed=True),
    "saved": Unit("saved by batches in memory", 100, "points", 1, timed=True),
    "unseen": Unit("saving that the profile misses", 100, "points", 1, timed=True),
    "kinds_shown": Unit("kinds of curves and histograms", digits=0),
}

EXPERIMENT = Experiment(
    recipe,
    variants=(*PROFILED, *BOARDS),
    claims=CLAIMS,
    compare=compare,
    flags={"images": 2048, "profiled": 20, "steps": 110, "batch_size": 128},
    smoke={"images": 64, "profiled": 4, "steps": 20, "batch_size": 32},
    least={"images": 1, "profiled": 1, "steps": 11},
    floor="",
    units=UNITS,
    panels=(
        Points("waiting", "saved", title="A profile that tells everything has the same share in both"),
        Bars("step_seconds"),
    ),
    answer="Yes, if the input pipeline and the model take turns: the profile shows {waiting.naive_small} waiting, and "
    "batches that are in memory already save {saved.naive_small}. If the pipeline prefetches on the cores that train, "
    "the profile misses most of its cost.",
    rests_on=("W2a", "not W2c"),
    advice=[
        "**Profile twenty steps before you change anything, and mark them.** Keras's callback marks none, and "
        "TensorBoard's Profile page then reports no step time.",
        "**Fix the input pipeline first if the profile shows much waiting.** With the naive pipeline the large "
        "model waits for {waiting.naive_large} of a step, and batches in memory save {saved.naive_large}.",
        "**Do not trust little waiting on a CPU.** With a prefetching pipeline the profile shows the large model "
        "waiting for {waiting.overlapped_large} of a step, yet batches in memory save {saved.overlapped_large}. A "
        "GPU was not measured.",
        "**Add a callback for activations.** Keras's own callback writes loss, accuracy, learning rate and weights "
        "only.",
    ],
)
