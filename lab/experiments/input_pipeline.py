"""tf.data techniques, each by itself and each left out of all: the feed alone, and a training step."""

import math
import time
from collections.abc import Mapping

import keras
import tensorflow as tf

from lab import Bars, Claim, Experiment, Run, Unit
from pipelines import encoded, sources
from recipes import input_pipeline as recipe


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


def timed(steps: Mapping[str, Step], config: recipe.Config, run: Run):
    """Times in interleaved blocks, once each cache is full and tf.data has found its threads."""
    for step in steps.values():
        for _ in range(math.ceil(config.images / config.batch_size)):
            step()
    return run.interleaved(steps, block=config.steps)


def compare(config: recipe.Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    files = encoded.read(first.data).repeat().take(config.images)
    numbers = tf.data.Dataset.random(first.seed, rerandomize_each_iteration=True)  # Each epoch.
    numbers = numbers.take(config.images)
    model = recipe.build_model("", data)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    feeds = {name: recipe.build_feed(name, files, numbers, config.batch_size) for name in ("naive", *runs)}
    feeding = {name: Step(feed, lambda *batch: None) for name, feed in feeds.items()}
    training = {name: Step(feed, model.train_on_batch) for name, feed in feeds.items()}
    alone = timed(feeding, config, first)
    trained = timed(training, config, first)
    return {
        name: {
            "feed_rate": config.batch_size / alone.step_seconds(name),
            "feed_log_ratio": alone.log_ratio(name, "naive"),
            "step_seconds": trained.step_seconds(name),
            "step_log_ratio": trained.log_ratio(name, "naive"),
            "waiting": training[name].waiting(config.steps - 10),
        }
        for name in runs
    }


CLAIMS = [
    Claim(
        "S4a",
        "Parallel mapping, caching and prefetching each cut an epoch's time",
        source="TF, DL, HW",
        metric="step_log_ratio",
        lower=("parallel", "cache", "prefetch"),
        than="naive",
    ),
    Claim(
        "S4b",
        "Together, with batches before mapping, they cut an epoch's time",
        said="Together they hide the input, which cuts an epoch's time by 35 %",
        source="TF, DL, HW",
        metric="step_log_ratio",
        lower="all",
        than="naive",
    ),
    Claim(
        "S5a",
        "Without overlap the model starves: a naive feed keeps it waiting for longer without prefetch",
        source="DL, HW",
        metric="waiting",
        higher="naive",
        than="prefetch",
    ),
    Claim(
        "S5b",
        "Without overlap the model starves: a feed of all other techniques, too, keeps it waiting for longer",
        source="DL, HW",
        metric="waiting",
        higher="all_but_prefetch",
        than="all",
    ),
    Claim(
        "S7",
        "Batching before caching and augmenting beats doing both image by image, where decoding is done once",
        said="Batching before mapping beats mapping before batching",
        source="tf.data guide",
        metric="feed_log_ratio",
        lower="all",
        than="all_but_batch_first",
    ),
]

UNITS = {
    "feed_rate": Unit("feed alone", name="images/s", digits=0, timed=True),
    "feed_log_ratio": Unit("feed's time against naive (natural logarithm)", timed=True),
    "step_seconds": Unit("a step", 1000, "ms", 1, timed=True),
    "step_log_ratio": Unit("a step's time against naive (natural logarithm)", timed=True),
    "waiting": Unit("waiting", 100, "points", 1, timed=True),
}

EXPERIMENT = Experiment(
    recipe,
    variants=recipe.TECHNIQUES,
    claims=CLAIMS,
    config=recipe.Config,
    compare=compare,
    model=recipe.build_model,
    smoke={"images": 128, "steps": 20, "batch_size": 32},
    least={"images": 1, "steps": 11},
    floor="",
    units=UNITS,
    first_seed=101,
    panels=(Bars("feed_rate"), Bars("step_seconds"), Bars("waiting")),
    numbers={
        "prefetch: 0.37 times": "step_log_ratio: all / naive",
        "0.67 times as long": "step_log_ratio: cache / naive",
        "took 0.71 times as": "step_log_ratio: all_but_cache / naive",
        "instead of 0.37": "step_log_ratio: all / naive",
        "took 0.53 times its": "feed_log_ratio: all / all_but_batch_first",
        "a step 0.88": "step_log_ratio: all / all_but_batch_first",
        "quicker (0.53)": "feed_log_ratio: all / all_but_parallel",
        "took 0.86 and": "step_log_ratio: parallel / naive",
        "and 0.87 times": "step_log_ratio: prefetch / naive",
        "it 0.79.": "step_log_ratio: rewritten / naive",
    },
)
