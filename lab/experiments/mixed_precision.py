"""float32, bfloat16 and float16 in a small and a large model: accuracy, time and memory."""

import math
from collections.abc import Mapping
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades, memory_of
from pipelines import batches, sources
from recipes import mixed_precision as recipe

# The peak learning rate of each that was best on validation images.
RATES = {
    "float32_small": 0.028,
    "float32_large": 0.028,
    "bfloat16_small": 0.028,
    "bfloat16_large": 0.028,
    "float16_small": 0.028,
    "float16_large": 0.028,
}
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
FILTERS = {"small": 16, "large": 32}


def variant_of(name):
    number, size = name.split("_")
    build = partial(recipe.build_model, filters=FILTERS[size])
    return partial(recipe.train, policy=POLICIES[number], rate=RATES[name], build_model=build)


VARIANTS = {name: variant_of(name) for name in RATES}


def build_step(variant, batch_size, shape, classes, traced=()):
    """A call that trains on one batch of noise and waits for its loss, to measure time and memory.

    Batches of the sizes `traced` come before: after two different ones `train_on_batch` has a step for any size, so
    that the call's memory has no tracing in it.
    """
    settings = VARIANTS[variant].keywords
    with recipe.dtype_policy(settings["policy"]):
        model = recipe.compile_model(settings["build_model"](shape, classes), settings["rate"])
    draws = np.random.default_rng(0)
    images = tf.constant(draws.integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    labels = tf.constant(draws.integers(0, classes, batch_size), tf.int32)
    for some in traced:
        model.train_on_batch(images[:some], labels[:some])
    return partial(model.train_on_batch, images, labels)


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    size, validation_set = (list(data.shape), len(data.classes)), batches.evaluation(data.validation)
    found = {}
    for variant, run in runs.items():
        train_set = batches.training(data.train, config.batch_size, seed=run.seed)
        settings = {"epochs": config.epochs, "callbacks": run.callbacks(data)}
        if config.rate is not None:
            settings["rate"] = config.rate
        keras.utils.set_random_seed(run.seed)  # All variants of a size begin alike.
        found[variant] = run.scores(VARIANTS[variant](train_set, validation_set, size[1], **settings), data)
    if not config.steps:
        return found
    steps = {variant: build_step(variant, config.batch_size, *size) for variant in runs}
    blocks = first.interleaved(steps, block=config.steps)  # Each seed is a round.
    for variant, scores in found.items():
        scores["step_ms"] = 1000 * blocks.step_seconds(variant)
        scores["log_time"] = float(np.log(scores["step_ms"]))
        if variant.endswith("large"):
            scores["memory"] = memory_of(build_step, variant, config.memory_batch, *size, [2, 3])
            scores["log_memory"] = float(np.log(scores["memory"]))
    return found


def faster(number, text, variant, at_least=None):
    """A claim about a step's time against float32 in the same model."""
    than = f"float32_{variant.split('_')[1]}"
    return Claim(number, text, "TF, DL, HW", "log_time", lower=variant, than=than, at_least=at_least)


def leaner(number, text, variant, at_least=None):
    """A claim about the memory of a step with a batch of 1,024, against float32."""
    return Claim(number, text, "TF, DL", "log_memory", lower=variant, than="float32_large", at_least=at_least)


def as_accurate(number, kind):
    text = f"Mixed precision loses no accuracy: {kind}, large model, each at its own best rate for three epochs"
    return Claim(number, text, "TF, DL, HW", "test_accuracy", equal=(f"{kind}_large", "float32_large"), side="below")


TINY, SMALL = np.float32(1e-7), np.float32(1e-8)
UPDATE_IS_LOST = np.float16(1) - np.float16(TINY) == 1 and np.float16(TINY) != 0
MASTER_SAVES_IT = np.float32(1) - TINY < 1
SCALING_SAVES_GRADIENT = np.float16(SMALL) == 0 and np.float32(np.float16(SMALL * 2**15)) / 2**15 > 0.9 * SMALL

CLAIMS = [
    faster("S1a", "Mixed precision trains faster: bfloat16, small model", "bfloat16_small"),
    faster("S1b", "Mixed precision trains faster: bfloat16, large model", "bfloat16_large"),
    faster("S1d", "Mixed precision trains faster: float16, small model", "float16_small"),
    faster("S1e", "Mixed precision trains faster: float16, large model", "float16_large"),
    as_accurate("S1f", "bfloat16"),
    as_accurate("S1g", "float16"),
    faster("S1h", "Mixed precision is 40 % faster: bfloat16, large model", "bfloat16_large", math.log(1.4)),
    faster("S1i", "Mixed precision is 1.5 to 2 times as fast: bfloat16, large model", "bfloat16_large", math.log(1.5)),
    faster("S1j", "Mixed precision is twice as fast: bfloat16, large model", "bfloat16_large", math.log(2)),
    leaner("S2a", "Mixed precision takes less memory: bfloat16", "bfloat16_large"),
    leaner("S2b", "Mixed precision takes less memory: float16", "float16_large"),
    leaner("S2c", "Mixed precision halves the memory of activations: bfloat16", "bfloat16_large", -math.log(0.55)),
    leaner("S2d", "Mixed precision halves the memory of activations: float16", "float16_large", -math.log(0.55)),
    Claim(
        "S3a",
        "In float16 an update of 0.0000001 to a weight of 1 is lost, although the number itself is not zero; a weight "
        "in float32 keeps it",
        source="DL",
        asserted=bool(UPDATE_IS_LOST and MASTER_SAVES_IT),
    ),
    Claim(
        "S3b",
        "A gradient of 0.00000001 is zero in float16; scaling the loss saves it",
        source="Micikevicius et al. 2018",
        asserted=bool(SCALING_SAVES_GRADIENT),
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    # All steps but the first ten are timed; without steps, time and memory are left out. The memory's batch is large
    # enough that activations are most of what a step takes. Without a rate each variant has its own.
    flags={"epochs": 3, "batch_size": 64, "rate": None, "steps": 110, "memory_batch": 1024},
    smoke={"epochs": 2, "batch_size": 32, "steps": 0},
    left_out=("float16_large",),
    least={"memory_batch": 4},
    tuning=Tuning(
        "rate", dict.fromkeys(RATES, half_decades(0.005, 0.5)), Objective("validation_accuracy"), fixed={"steps": 0}
    ),
    units={
        "step_ms": Unit("a step by train_on_batch", 1, "ms", 1, timed=True),
        "log_time": Unit("time of a step (log e)", name="e-folds", digits=3, timed=True),
        "memory": Unit("peak memory of a batch of 1,024", 1, "MiB", 0, timed=True),
        "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
    },
    panels=(Bars("step_ms", log="x"), Bars("memory"), Bars("test_accuracy")),
    answer="With AVX512-BF16, the larger of two convnets trains "
    "{faster log_time.bfloat16_large / log_time.float32_large} in bfloat16 than in float32, and a batch of 1,024 "
    "images takes {saved log_memory.bfloat16_large / log_memory.float32_large} less memory. On other hardware, call "
    "`fastest_policy`.",
    rests_on=("S1b", "S2a"),
    about={
        "mixed_bfloat16": ("S1a", "S1b", "S1f", "S1h", "S1i", "S1j", "S2a", "S2c"),
        "mixed_float16": ("S1d", "S1e", "S1g", "S2b", "S2d"),
    },
    advice=[
        "**Use bfloat16 on CPUs with AVX512-BF16.** The larger convnet trains "
        "{faster log_time.bfloat16_large / log_time.float32_large}, the smaller one "
        "{faster log_time.bfloat16_small / log_time.float32_small}.",
        "**Time float16 before you use it.** On a processor without float16 arithmetic, a step takes "
        "{log_time.float16_large / log_time.float32_large} as long as in float32.",
        "**Start from your float32 learning rate.** Tuned separately, both formats had the same best rate. bfloat16 "
        "then reaches {test_accuracy.bfloat16_large}, and float32 {test_accuracy.float32_large}.",
        "**Use bfloat16 if a batch does not fit.** A batch of 1,024 images takes "
        "{saved log_memory.bfloat16_large / log_memory.float32_large} less memory than in float32.",
    ],
)
