"""Batches of 16 to 1,024: at one rate, each at its own, for as many epochs and as many steps; their time and memory."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades, memory_of
from pipelines import batches, sources
from recipes import batch_size as recipe

SIZES = (16, 64, 256, 1024)
STEPS = 625  # As many as five epochs have at a batch size of 64.
LOOKED_AT = 2_048  # Training images whose gradient is called the full one.
# First guesses: none is tuned yet. At "one rate" it is that of batches of 64.
RATES = {f"own_rate_{size}": recipe.scaled_rate(0.05, size, power=0.5) for size in SIZES}
RATES |= {f"as_many_steps_{size}": RATES[f"own_rate_{size}"] for size in SIZES if size != 64}
RATES |= {"rmsprop_16": 0.001, "rmsprop_64": 0.001, "accumulated_64": RATES["own_rate_256"]}
OWN_SIZES = {name: int(name.rpartition("_")[2]) for name in RATES} | {
    f"one_rate_{size}": size for size in SIZES if size != 64
}


def arguments_of(name):
    found: dict[str, Any] = {"rate": RATES.get(name, RATES["own_rate_64"])}
    if name.startswith("as_many_steps"):
        found["steps"] = STEPS
    if name.startswith("rmsprop"):
        found["rmsprop"] = True
    if name == "accumulated_64":
        found["accumulate"] = 4
    return found


VARIANTS: dict[str, Any] = {name: partial(recipe.train, **arguments_of(name)) for name in OWN_SIZES}
AGREEING = {f"gradients_of_{size}": size for size in (1, *SIZES)}
TIMED = {f"step_of_{size}": size for size in (16, 60, 63, 64, 65, 68, 256, 1024)}
APART = (*VARIANTS, *AGREEING)
VARIANTS |= dict.fromkeys((*AGREEING, *TIMED))


def trained(variant, config, run, data, **given):
    """A model of a variant, trained. Batches that are made smaller get a lower rate."""
    size = min(OWN_SIZES[variant], config.largest)
    own_rate = recipe.scaled_rate(arguments_of(variant)["rate"], size, of=OWN_SIZES[variant], power=0.5)
    given = {"epochs": config.epochs, "rate": own_rate if config.rate is None else config.rate, **given}
    return VARIANTS[variant](
        batches.training(data.train, size, seed=run.seed),
        batches.evaluation(data.validation),
        len(data.classes),
        callbacks=run.callbacks(data),
        **given,
    )


def scored(variant, config, run, data):
    """The metrics of a variant that is trained; for its gradients after one epoch with batches of 64."""
    if variant not in AGREEING:
        return run.scores(trained(variant, config, run, data), data)
    model = trained("own_rate_64", config, run, data, epochs=1)
    chosen = np.random.default_rng(run.seed).permutation(len(data.train))[:LOOKED_AT]
    some = data.train.take(chosen)
    images, labels = tf.constant(some.images[:], tf.float32), tf.constant(some.labels)
    return {"agreement": recipe.agreement(model, images, labels, min(AGREEING[variant], len(some)))}


def build_step(batch_size, shape, classes):
    """A call that trains on one batch of noise, to measure its time and memory."""
    model = recipe.build_model(shape, classes)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    for size in (2, 3):  # After two sizes there is a step for any.
        model.train_on_batch(tf.zeros((size, *shape)), tf.zeros(size, tf.int32))
    draws = np.random.default_rng(0)
    images = tf.constant(draws.integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    return partial(model.train_on_batch, images, tf.constant(draws.integers(0, classes, batch_size), tf.int32))


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """One run that trains, or all that time a step."""
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    if not set(runs) <= set(TIMED):
        return {variant: scored(variant, config, run, data) for variant, run in runs.items()}
    size = list(data.shape), len(data.classes)
    blocks = first.interleaved({name: build_step(TIMED[name], *size) for name in runs}, block=config.steps)
    found = {}
    for name in runs:
        an_image = blocks.step_seconds(name) / TIMED[name]
        found[name] = {"image_us": 1e6 * an_image, "log_time": math.log(an_image)}
        if TIMED[name] in SIZES and config.memory:
            found[name]["memory"] = memory_of(build_step, TIMED[name], *size)
            found[name]["log_memory"] = math.log(max(found[name]["memory"], 1.0))
    return found


def worse(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, lower=variant, than=than, **how)


def faster(number, text, source, size, than):
    return worse(number, text, source, f"step_of_{size}", f"step_of_{than}", "log_time")


CLAIMS = [
    faster("O12a", "A larger batch trains an epoch faster: 64 images against 16", "TF, HW", 64, 16),
    faster("O12b", "A larger batch trains an epoch faster: 1,024 images against 64", "TF, HW", 1024, 64),
    worse(
        "O12c",
        "A larger batch needs more memory: 1,024 images against 64",
        "TF, HW",
        "step_of_64",
        "step_of_1024",
        "log_memory",
    ),
    worse(
        "O13a",
        "At a fixed rate and number of epochs, batches of 256 generalize worse than batches of 64",
        "TF",
        "one_rate_256",
        "own_rate_64",
    ),
    worse(
        "O13b",
        "At a fixed rate and number of epochs, batches of 1,024 generalize worse than batches of 64",
        "TF",
        "one_rate_1024",
        "own_rate_64",
    ),
    worse(
        "O14a",
        "After as many epochs, batches of 1,024 end below batches of 64, each at its own rate",
        "ours",
        "own_rate_1024",
        "own_rate_64",
    ),
    Claim(
        "O14b",
        "After as many steps and each at its own rate, batches of 1,024 end no worse than batches of 64",
        source="Shallue et al. 2019",
        metric="test_accuracy",
        equal=("as_many_steps_1024", "own_rate_64"),
        side="below",
    ),
    worse("O4b", "With batches of 16, RMSprop ends above SGD with momentum", "TF", "own_rate_16", "rmsprop_16"),
    Claim(
        "O15e",
        "Four accumulated batches of 64 end as one batch of 256 does",
        source="ours, on HW's technique",
        metric="test_accuracy",
        equal=("accumulated_64", "own_rate_256"),
    ),
    worse(
        "O25a",
        "Small batches converge more stably: the gradient of 256 images agrees less with that of all than that of 16",
        "TF",
        "gradients_of_256",
        "gradients_of_16",
        "agreement",
    ),
    worse(
        "O25b",
        "A batch of one is wildly erratic: its gradient agrees less with that of all images than that of 16 images",
        "DL",
        "gradients_of_1",
        "gradients_of_16",
        "agreement",
        at_least=0.2,
    ),
    faster("D8a", "Batch sizes that are multiples of 8 run faster: 64 against 63", "DL", 64, 63),
    faster("D8b", "Batch sizes that are multiples of 8 run faster: 64 against 65", "DL", 64, 65),
    faster("D8c", "Batch sizes that are multiples of 8 run faster: 64 against 60", "DL", 64, 60),
    faster("D8d", "Batch sizes that are multiples of 8 run faster: 64 against 68", "DL", 64, 68),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    apart=APART,
    # Without a rate each variant has its own. No batch is larger than `largest`. All steps of a block but the first ten
    # are timed. `memory` is 1 to measure memory too.
    flags={"epochs": 5, "rate": None, "largest": 1024, "steps": 110, "memory": 1},
    smoke={"epochs": 4, "largest": 32, "steps": 11, "memory": 0},
    least={"steps": 11, "largest": 1},
    tuning=Tuning(
        "rate",
        {name: half_decades(3e-4, 3e-2) if name.startswith("rmsprop") else half_decades(0.01, 1.0) for name in RATES},
        Objective("validation_accuracy"),
    ),
    left_out=[
        name for name in VARIANTS if name.startswith(("rmsprop", "step", "gradients", "accum", "as_many_steps_1024"))
    ],
    units={
        "agreement": Unit("agreement of a batch's gradient with the full one", 100, "%", 0),
        "image_us": Unit("time of a step for each image", 1, "µs", 1, timed=True),
        "log_time": Unit("time of a step for each image (log e)", name="e-folds", digits=3, timed=True),
        "memory": Unit("peak memory of a step", 1, "MiB", 0, timed=True),
        "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
    },
    panels=(
        Bars("test_accuracy"),
        Bars("agreement", tuple(AGREEING)),
        Bars("image_us", tuple(TIMED), log="x"),
    ),
)
