"""Batches of 16 to 1,000: at one rate, each at its own, for as many epochs and as many steps; their time and memory.

No image is mirrored or shifted. So trainings overfit: in a pilot with batches of 64, training accuracy was 16 points
above test accuracy after five epochs of 8,000 images, and 59 points after forty of 1,024.
"""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades, memory_of
from lab.core.training import some_of
from pipelines import batches, sources
from recipes import batch_size as recipe

SIZES = (16, 64, 256, 1000)
STEPS = 625  # As many as five epochs have at a batch size of 64.
FEW_IMAGES = 1_024
LOOKED_AT = 4_096  # Training images: the gradient of one half is what batches of the other half are compared with.
CALL_IMAGES = 2_000  # A call that is timed trains on about so many, however large its batches are.
# First guesses: none is tuned yet.
RATES = {
    "own_rate_16": 0.0125,
    "own_rate_64": 0.05,
    "own_rate_256": 0.2,
    "own_rate_1000": 0.2,  # In a pilot, 0.78 learned nothing in forty steps.
    "as_many_steps_1000": 0.2,
    "rmsprop_16": 0.0005,
    "rmsprop_64": 0.001,
    "few_own_rate_16": 0.0125,
    "few_own_rate_64": 0.05,
    "few_own_rate_256": 0.1,
}


class Arm(NamedTuple):
    """A training: images in a batch, the learning rate, and further arguments of the recipe's `train`."""

    size: int
    rate: float
    how: Mapping[str, Any] = {}


ARMS = {f"own_rate_{size}": Arm(size, RATES[f"own_rate_{size}"]) for size in SIZES}
# At the rate of batches of 64; and batches of 64 at the rate of the largest.
ARMS |= {f"one_rate_{size}": Arm(size, RATES["own_rate_64"]) for size in SIZES if size != 64}
ARMS |= {
    "large_rate_64": Arm(64, RATES["own_rate_1000"]),
    "linear_rate_256": Arm(256, recipe.scaled_rate(RATES["own_rate_64"], 256)),
    "linear_rate_1000": Arm(1000, recipe.scaled_rate(RATES["own_rate_64"], 1000)),
    "as_many_steps_1000": Arm(1000, RATES["as_many_steps_1000"], {"steps": STEPS}),
    "accumulated_64": Arm(64, RATES["own_rate_256"], {"accumulate": 4}),
}
ARMS |= {f"rmsprop_{size}": Arm(size, RATES[f"rmsprop_{size}"], {"rmsprop": True}) for size in (16, 64)}
# Of few images, for more epochs.
FEW = {f"few_own_rate_{size}": Arm(size, RATES[f"few_own_rate_{size}"]) for size in (16, 64, 256)}
FEW |= {f"few_one_rate_{size}": Arm(size, RATES["few_own_rate_64"]) for size in (16, 256)}
ARMS |= FEW
AGREEING = {f"gradients_of_{size}": size for size in (1, *SIZES)}
TIMED = {f"step_of_{size}": size for size in (16, 60, 63, 64, 65, 68, 256, 1000)}
HELD = ("step_of_64", "step_of_1000")  # Whose memory is measured.
VARIANTS = (*ARMS, *AGREEING, *TIMED)


def trained(variant, config, run, data, **given):
    """A model of a variant, trained. Batches that are made smaller get a lower rate."""
    arm = ARMS[variant]
    size = min(arm.size, config.largest)
    own_rate = recipe.scaled_rate(arm.rate, size, of=arm.size, power=0.5 if "rmsprop" in arm.how else 1.0)
    epochs = config.few_epochs if variant in FEW else config.epochs
    given = {"epochs": epochs, "rate": own_rate if config.rate is None else config.rate, **arm.how, **given}
    return recipe.train(
        batches.training(data.train, size, seed=run.seed, augment=False),
        batches.evaluation(data.validation),
        len(data.classes),
        callbacks=run.callbacks(data),
        **given,
    )


def scored(variant, config, run, data):
    """The metrics of a training; of few images also by how much validation accuracy fell from epoch to epoch."""
    if variant not in FEW:
        return run.scores(trained(variant, config, run, data), data)
    data = some_of(data, FEW_IMAGES, run.seed)
    found = run.scores(trained(variant, config, run, data), data)
    if run.diverged:
        return found
    rises = np.diff(run.curves["val_accuracy"])
    return found | {"jump": float(np.maximum(0.0, -rises).mean())}


def agreements(names, config, run, data):
    """How far gradients agree after one epoch with batches of 64: one training for all sizes that are looked at."""
    model = trained("own_rate_64", config, run, data, epochs=1)
    some = data.train.take(np.random.default_rng(run.seed).permutation(len(data.train))[:LOOKED_AT])
    images, labels = tf.constant(some.images[:], tf.float32), tf.constant(some.labels)
    most = len(some) // 2
    return {name: {"agreement": recipe.agreement(model, images, labels, min(AGREEING[name], most))} for name in names}


def steps_of(size):
    """How many steps a call that is timed takes."""
    return max(1, round(CALL_IMAGES / size))


def build_call(size, shape, classes):
    """A call that trains on noise for several steps, as a call of `fit` does with `steps_per_execution`."""
    model = recipe.build_model(shape, classes)
    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        steps_per_execution=steps_of(size),
    )
    model.make_train_function()
    draws = np.random.default_rng(0)

    def noise(size):
        images = draws.integers(0, 256, (size, *shape), dtype=np.uint8)
        return tf.data.Dataset.from_tensors((images, draws.integers(0, classes, size).astype("int32")))

    def feed(size):
        """The same batch again and again, of no fixed size: nothing of another size comes before it."""
        return iter(noise(1).take(0).concatenate(noise(size).repeat()))

    def call(batches):
        return float(model.train_function(batches)["loss"])  # It waits for the last step.

    call(feed(2))  # It traces, for batches of any size.
    return partial(call, feed(size))


def timed(names, config, run, data):
    """The time of a step for each image, and the memory of some steps."""
    size = list(data.shape), len(data.classes)
    blocks = run.interleaved({name: build_call(TIMED[name], *size) for name in names}, block=config.calls, left_out=2)
    found = {}
    for name in names:
        an_image = blocks.step_seconds(name) / (steps_of(TIMED[name]) * TIMED[name])
        found[name] = {"image_us": 1e6 * an_image, "log_time": math.log(an_image)}
        if name in HELD and config.memory:
            found[name]["memory"] = memory_of(build_call, TIMED[name], *size)
            found[name]["log_memory"] = math.log(max(found[name]["memory"], 1.0))
    return found


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    """One run that trains, or all gradients that are looked at and all steps that are timed."""
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    found = {name: scored(name, config, run, data) for name, run in runs.items() if name in ARMS}
    if looked_at := [name for name in runs if name in AGREEING]:
        found |= agreements(looked_at, config, first, data)
    if steps := [name for name in runs if name in TIMED]:
        found |= timed(steps, config, first, data)
    return found


def worse(number, text, source, variant, than, metric="test_accuracy", **how):
    return Claim(number, text, source, metric, lower=variant, than=than, **how)


def faster(number, text, source, size, *than, **how):
    return worse(
        number, text, source, f"step_of_{size}", tuple(f"step_of_{other}" for other in than), "log_time", **how
    )


def by_size(names):
    """Variant -> its batch size, in factors of 16: a slope is what sixteen times as many images do."""
    return {name: math.log(ARMS[name].size, 16) for name in names}


ONE_RATE = by_size(("one_rate_16", "own_rate_64", "one_rate_256", "one_rate_1000"))
FEW_ONE_RATE = by_size(("few_one_rate_16", "few_own_rate_64", "few_one_rate_256"))
GENERALIZES = "At a fixed rate and number of epochs a larger batch generalizes worse"
DISAPPEARS = "When the rate is tuned for each batch size and steps are equal, that loss disappears"
STABLY = "Small batches converge more stably"
NOISY = "RMSprop is the one for noisy gradients"
MULTIPLES = "Batch sizes that are multiples of 8 run faster"

CLAIMS = [
    faster("O12a", "A larger batch trains an epoch faster: 64 images against 16", "TF, HW", 64, 16),
    faster("O12b", "A larger batch trains an epoch faster: 1,000 images against 64", "TF, HW", 1000, 64),
    worse(
        "O12c",
        "A larger batch needs more memory: 1,000 images against 64",
        "TF, HW",
        "step_of_64",
        "step_of_1000",
        "log_memory",
    ),
    worse(
        "O13a",
        "At the rate that is best for batches of 64, and after as many epochs, batches of 256 end below them",
        "TF",
        "one_rate_256",
        "own_rate_64",
        said=GENERALIZES,
    ),
    worse(
        "O13b",
        "At the rate that is best for batches of 64, and after as many epochs, batches of 1,000 end below them",
        "TF",
        "one_rate_1000",
        "own_rate_64",
        said=GENERALIZES,
    ),
    Claim(
        "O13c",
        "At the rate that is best for batches of 64, and after as many epochs, test accuracy falls from batches of 16 "
        "to 1,000: for every 16 times as many images in a batch",
        source="TF",
        metric="test_accuracy",
        falling=ONE_RATE,
        said=GENERALIZES,
    ),
    worse(
        "O13d",
        "At the rate that is best for batches of 1,000, and after as many epochs, they end below batches of 64",
        "TF",
        "own_rate_1000",
        "large_rate_64",
        said=GENERALIZES,
    ),
    Claim(
        "O13e",
        "After 40 epochs of 1,024 images, at the rate that is best for batches of 64, test accuracy falls from batches "
        "of 16 to 256: for every 16 times as many images in a batch",
        source="TF",
        metric="test_accuracy",
        falling=FEW_ONE_RATE,
        said=GENERALIZES,
    ),
    Claim(
        "O13f",
        "After 40 epochs of 1,024 images, at the rate that is best for batches of 64, training accuracy is further "
        "above test accuracy the larger the batch, from 16 to 256: for every 16 times as many images in it",
        source="TF",
        metric="generalization_gap",
        rising=FEW_ONE_RATE,
        said=GENERALIZES,
    ),
    worse(
        "O14a",
        "After as many epochs, batches of 1,000 end below batches of 64, each at its own rate",
        "ours",
        "own_rate_1000",
        "own_rate_64",
    ),
    Claim(
        "O14b",
        "After as many steps, and so on sixteen times the images, batches of 1,000 end no worse than batches of 64, "
        "each at its own rate",
        source="Shallue et al. 2019",
        metric="test_accuracy",
        equal=("as_many_steps_1000", "own_rate_64"),
        side="below",
        said=DISAPPEARS,
    ),
    *(
        Claim(
            f"O14{letter}",
            f"The best rate of batches of 64, scaled in proportion to batches of {size:,}, trains them no worse than "
            "their own",
            source="Goyal et al. 2017",
            metric="test_accuracy",
            equal=(f"linear_rate_{size}", f"own_rate_{size}"),
            side="below",
            said="When the minibatch size is multiplied by k, multiply the learning rate by k",
        )
        for letter, size in zip("cd", (256, 1000), strict=True)
    ),
    worse(
        "O14e",
        "After 40 epochs of 1,024 images, batches of 256 end below batches of 16, each at its own rate",
        "ours",
        "few_own_rate_256",
        "few_own_rate_16",
    ),
    worse(
        "O4b",
        "With batches of 16, RMSprop ends above SGD with momentum",
        "TF",
        "own_rate_16",
        "rmsprop_16",
        said=NOISY,
    ),
    Claim(
        "O4c",
        "With batches of 64, whose gradients are less noisy, RMSprop does not end above SGD with momentum",
        source="ours, on TF's advice",
        metric="test_accuracy",
        equal=("rmsprop_64", "own_rate_64"),
        side="above",
        said=NOISY,
    ),
    Claim(
        "O15e",
        "Four accumulated batches of 64 end as one batch of 256 does, at its rate",
        source="ours, on HW's technique",
        metric="test_accuracy",
        equal=("accumulated_64", "own_rate_256"),
    ),
    worse(
        "O25a",
        "In 40 epochs of 1,024 images, validation accuracy falls less from one epoch to the next with batches of 16 "
        "than with batches of 256, each at its own rate",
        "TF",
        "few_own_rate_16",
        "few_own_rate_256",
        "jump",
        said=STABLY,
    ),
    Claim(
        "O25b",
        "The larger a batch, from 1 to 1,000 images, the more its gradient agrees with that of other images",
        source="ours",
        metric="agreement",
        rising={name: math.log(size, 16) for name, size in AGREEING.items()},
        check=True,
    ),
    worse(
        "O25c",
        "The gradient of one image agrees less with that of other images than that of 16 images does",
        "ours, on DL's advice",
        "gradients_of_1",
        "gradients_of_16",
        "agreement",
        check=True,
        said="A batch of one is wildly erratic",
    ),
    faster(
        "D8a",
        "On the processor that the card names, batches of 64 take less time for each image than those of 63 and 65",
        "DL",
        64,
        63,
        65,
        said=MULTIPLES,
    ),
    faster(
        "D8b",
        "On the processor that the card names, batches of 64 take less time for each image than those of 60 and 68",
        "DL",
        64,
        60,
        68,
        said=MULTIPLES,
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    apart=tuple(ARMS),
    # Without a rate each variant has its own. No batch is larger than `largest`. `few_epochs` are those of few images.
    # All calls of a block but the first two are timed. `memory` is 1 to measure memory too.
    flags={"epochs": 5, "few_epochs": 40, "rate": None, "largest": 1000, "calls": 52, "memory": 1},
    smoke={"epochs": 4, "few_epochs": 4, "largest": 32, "calls": 3, "memory": 0},
    least={"few_epochs": 2, "largest": 1, "calls": 3},
    tuning=Tuning(
        "rate",
        {name: half_decades(3e-4, 3e-2) if name.startswith("rmsprop") else half_decades(0.01, 1.0) for name in RATES},
        Objective("validation_accuracy"),
    ),
    fails=("large_rate_64",),
    left_out=[name for name in VARIANTS if not name.startswith(("own_rate", "one_rate"))],
    units={
        "jump": Unit("fall of validation accuracy from epoch to epoch", 100, "points"),
        "agreement": Unit("agreement of a batch's gradient with that of other images", 100, "%", 0),
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
