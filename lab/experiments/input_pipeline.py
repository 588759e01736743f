"""tf.data techniques, each by itself and each left out of all: the input pipeline alone, and a training step."""

import math
import time
from collections.abc import Mapping

import keras
import tensorflow as tf
from keras import layers

from lab import Bars, Claim, Experiment, Run, Unit
from pipelines import encoded, sources
from recipes import input_pipeline as recipe

ALL = ("batch_first", "cache", "parallel", "prefetch")
TECHNIQUES: dict[str, tuple[str, ...]] = {"naive": (), "rewritten": (), "all_four": ALL}
TECHNIQUES |= {name: (name,) for name in ALL}
TECHNIQUES |= {f"all_but_{name}": tuple(other for other in ALL if other != name) for name in ALL}
# Three more: one batch that lies ready in memory, and the same augmentation by Keras's layers, in the chain and in the
# model.
VARIANTS = (*TECHNIQUES, "ready", "keras_in_chain", "keras_in_model")
FASTER_BY_35_PERCENT = math.log(1.35)


def decode(image, label):
    return tf.io.decode_png(image, channels=3), label


def keras_augmentation(seed: int) -> keras.Sequential:
    """Mirrors and brightens as the recipe's `augment` does."""
    brighter = layers.RandomBrightness(30 / 255, seed=seed)
    return keras.Sequential([layers.RandomFlip("horizontal", seed=seed), brighter])


def build_feed(variant: str, files: tf.data.Dataset, batch_size: int, seed: int) -> tf.data.Dataset:
    """The recipe's feed with a variant's techniques, as it is written: TensorFlow would add some of them itself."""
    settings = {"load": decode, "seed": seed}
    if variant in TECHNIQUES:
        settings |= {name: name in TECHNIQUES[variant] for name in ALL}
        feed = recipe.build_feed(files, batch_size, **settings)
    elif variant == "ready":
        feed = recipe.build_feed(files.take(batch_size), batch_size, augment=None, shuffle=0, **settings)
        feed = feed.cache().repeat().prefetch(tf.data.AUTOTUNE)
    else:
        feed = recipe.build_feed(files, batch_size, augment=None, **settings)
        if variant == "keras_in_chain":
            by_keras = keras_augmentation(seed)
            feed = feed.map(lambda images, labels: (by_keras(images, training=True), labels), tf.data.AUTOTUNE)
            feed = feed.prefetch(tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.experimental_optimization.apply_default_optimizations = False
    return feed if variant == "rewritten" else feed.with_options(options)


def build_model(variant: str, data: sources.Data, seed: int) -> keras.Model:
    model = recipe.build_model(data.shape, len(data.classes))
    if variant == "keras_in_model":
        model = keras.Sequential([keras.Input(data.shape), keras_augmentation(seed), model])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class Step:
    """Takes the next batch of a feed that never ends, works on it, and keeps the seconds of each."""

    def __init__(self, feed: tf.data.Dataset, work):
        self.batches, self.work = iter(feed.repeat()), work
        self.waited: list[float] = []
        self.taken: list[float] = []

    def __call__(self):
        start = time.perf_counter()
        batch = next(self.batches)
        self.waited.append(time.perf_counter() - start)
        self.work(*batch)
        self.taken.append(time.perf_counter() - start)

    def waiting(self, steps: int) -> float:
        """The share of the last steps' time until their batch was there."""
        return sum(self.waited[-steps:]) / sum(self.taken[-steps:])


def timed(steps: Mapping[str, Step], config, run: Run):
    """Times in interleaved blocks, once each cache is full and tf.data has found its threads."""
    for step in steps.values():
        for _ in range(math.ceil(config.images / config.batch_size)):
            step()
    return run.interleaved(steps, block=config.steps)


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    files = encoded.read(first.data).repeat().take(config.images)
    files = files.apply(tf.data.experimental.assert_cardinality(config.images))
    feeding, training = {}, {}
    for name in runs:
        feed, model = build_feed(name, files, config.batch_size, first.seed), build_model(name, data, first.seed)
        feeding[name] = Step(feed, lambda *batch: None)
        training[name] = Step(feed, model.train_on_batch)
    alone = timed(feeding, config, first)
    trained = timed(training, config, first)
    return {
        name: {
            "feed_rate": config.batch_size / alone.step_seconds(name),
            "log_feed_time": math.log(alone.step_seconds(name)),
            "step_seconds": trained.step_seconds(name),
            "log_time": math.log(trained.step_seconds(name)),
            "waiting": training[name].waiting(config.steps - 10),
        }
        for name in runs
    }


CLAIMS = [
    Claim(
        "S4a",
        "Parallel mapping, caching and prefetching each cut an epoch's time",
        source="TF, DL, HW",
        metric="log_time",
        lower=("parallel", "cache", "prefetch"),
        than="naive",
    ),
    Claim(
        "S4b",
        "Parallel mapping, caching, prefetching and batching before augmenting together hide the input: a step takes "
        "no longer than with a batch that is already in memory",
        source="TF, DL, HW",
        metric="log_time",
        equal=("all_four", "ready"),
        side="above",
    ),
    Claim(
        "S4c",
        "Efficient data feeding makes an epoch 35 % faster",
        source="HW",
        metric="log_time",
        lower="all_four",
        than="naive",
        at_least=FASTER_BY_35_PERCENT,
    ),
    Claim(
        "S5a",
        "Without overlap the model starves: it waits less once the naive pipeline prefetches",
        source="DL, HW",
        metric="waiting",
        higher="naive",
        than="prefetch",
    ),
    Claim(
        "S5b",
        "Without overlap the model starves, with all other techniques in place too",
        source="DL, HW",
        metric="waiting",
        higher="all_but_prefetch",
        than="all_four",
    ),
    Claim(
        "S7",
        "Batching before mapping beats mapping before batching: augmenting whole batches makes the pipeline faster",
        source="tf.data guide",
        metric="log_feed_time",
        lower="all_four",
        than="all_but_batch_first",
    ),
    Claim(
        "Q9a",
        "Keras's augmentation layers in the input pipeline take longer than the same augmentation in TensorFlow",
        source="keras 23245",
        metric="log_time",
        higher="keras_in_chain",
        than="all_four",
    ),
    Claim(
        "Q9b",
        "Keras's augmentation layers in the model take longer than the same augmentation in the input pipeline",
        source="keras 23245",
        metric="log_time",
        higher="keras_in_model",
        than="all_four",
    ),
]

UNITS = {
    "feed_rate": Unit("input pipeline alone", name="images/s", digits=0, timed=True),
    "log_feed_time": Unit("time of a batch of the input pipeline", timed=True),
    "step_seconds": Unit("a training step", 1000, "ms", 1, timed=True),
    "log_time": Unit("time of a training step", timed=True),
    "waiting": Unit("waiting", 100, "points", 1, timed=True),
}

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    flags={"images": 2048, "steps": 110, "batch_size": 128},
    smoke={"images": 128, "steps": 20, "batch_size": 32},
    least={"images": 1, "steps": 11},
    left_out=("rewritten", "batch_first", "all_but_parallel", "all_but_cache", "keras_in_chain", "keras_in_model"),
    floor="",
    units=UNITS,
    panels=(Bars("step_seconds"), Bars("waiting")),
    answer="Cache the decoded images, augment whole batches, map in parallel and prefetch: a training step then takes "
    "{log_time.all_four / log_time.naive} as long as with a pipeline that takes one image at a time. The cache saves "
    "the most. With `image_dataset_from_directory(batch_size=None, shuffle=False)`, cache first, then shuffle and "
    "batch.",
    rests_on=("S4c",),
    about={
        "RandomFlip": ("Q9a", "Q9b"),
        "RandomBrightness": ("Q9a", "Q9b"),
    },
    advice=[
        "**Cache the decoded images first.** A cache alone saves {saved log_time.cache / log_time.naive} of a step's "
        "time. Without it, the other techniques together take {log_time.all_but_cache / log_time.all_four} as long as "
        "with it.",
        "**Batch before you augment.** Without a model behind it, an input pipeline that augments image by "
        "image takes {log_feed_time.all_but_batch_first / log_feed_time.all_four} as long.",
        "**Keep the pipeline cheap on a CPU, because prefetching can't hide it.** The cores that prepare images also "
        "train: a step takes {log_time.all_four / log_time.ready} as long as with a batch that is already in memory. A "
        "GPU was not measured.",
        "**Augment with Keras's layers.** In the pipeline they make a step "
        "{faster log_time.keras_in_chain / log_time.all_four} than the hand-written `augment` does, and in the model "
        "{faster log_time.keras_in_model / log_time.all_four}.",
    ],
)
