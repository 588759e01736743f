"""Three feeds before two models: what a profile says, against what ready batches save."""

import math
from collections.abc import Mapping

import keras
import tensorflow as tf

from lab import Bars, Claim, Experiment, Run, Unit
from pipelines import encoded, sources
from recipes import monitoring as recipe


def step_of(model: keras.Model, feed: tf.data.Dataset):
    """A training step with the feed's next batch."""
    batches = iter(feed)
    return lambda: model.train_on_batch(*next(batches))


def compare(config: recipe.Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    files = encoded.read(first.data).repeat().take(config.images)
    ready = recipe.build_feed("ready", files, config.batch_size)
    profiles, steps, least = {}, {}, {}
    for name, run in runs.items():
        model, feed = (
            recipe.build_model(name, data),
            recipe.build_feed(recipe.VARIANTS[name].feed, files, config.batch_size),
        )
        profiles[name] = recipe.profile(model, feed, run.folder, config)
        steps[name], least[name] = step_of(model, feed), step_of(model, ready)
    both = steps | {f"{name}, ready": step for name, step in least.items()}
    timed = first.interleaved(both, block=config.steps)
    return {
        name: metrics(said, timed.step_seconds(name), timed.step_seconds(f"{name}, ready"))
        for name, said in profiles.items()
    }


def metrics(said, seconds: float, ready: float) -> dict[str, float]:
    """What a profile said, and what is true: the seconds of a step, and of one whose batch lies ready."""
    saved = 1 - ready / seconds
    return {
        "step_seconds": seconds,
        "waiting": said.waiting,
        "saved": saved,
        "unseen": saved - said.waiting,
        "profile_log_ratio": math.log(said.step_seconds / seconds),
    }


CLAIMS = [
    Claim(
        "W2a",
        "The profile tells an input-bound run from a compute-bound one, where feed and model take turns",
        said="The profile tells an input-bound run from a compute-bound one",
        source="TF, HW",
        metric="waiting",
        higher=("naive_small", "naive_large"),
        than=("cached_small", "cached_large"),
    ),
    Claim(
        "W2b",
        "A feed that works on the model's own processors costs more than the profile shows as waiting",
        source="our question beside W2a",
        metric="unseen",
        higher=("overlapped_small", "overlapped_large"),
        than=("cached_small", "cached_large"),
    ),
]

UNITS = {
    "step_seconds": Unit("a step", 1000, "ms", 1, timed=True),
    "waiting": Unit("waiting, by the profile", 100, "points", 1, timed=True),
    "saved": Unit("saved by batches that lie ready", 100, "points", 1, timed=True),
    "unseen": Unit("saved, and not seen as waiting", 100, "points", 1, timed=True),
    "profile_log_ratio": Unit("a step's time while profiled against not (natural logarithm)", timed=True),
}

EXPERIMENT = Experiment(
    recipe,
    variants=recipe.VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    compare=compare,
    smoke={
        "images": 64,
        "profiled": 4,
        "steps": 20,
        "batch_size": 32,
    },
    least={"images": 1, "profiled": 1, "steps": 11},
    floor="",
    units=UNITS,
    first_seed=201,
    panels=(Bars("step_seconds"), Bars("waiting"), Bars("saved")),
    numbers={
        "yes: 76.1 % waiting": "waiting: naive_small",
        "73.4 % saved": "saved: naive_small",
        "no: 6.1 %": "waiting: overlapped_large",
        "32.9 % saved": "saved: overlapped_large",
        "mend: 76.1 %": "waiting: naive_small",
        "46.7 before": "waiting: naive_large",
        "saved 73.4": "saved: naive_small",
        "39.2 %": "saved: naive_large",
        "images 2.0": "waiting: cached_small",
        "0.5 % were": "waiting: cached_large",
        "for 6.1 %": "waiting: overlapped_large",
        "took 32.9 %": "saved: overlapped_large",
        "49.9 and": "waiting: overlapped_small",
        "69.4)": "saved: overlapped_small",
    },
)
