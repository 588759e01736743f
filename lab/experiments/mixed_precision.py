"""float32, bfloat16 and float16 in two models, under fit and in a loop of their own."""

import types
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Lines, Objective, Run, Tuning, Unit, half_decades, memory_of
from pipelines import sources
from recipes import mixed_precision as recipe


def build_step(variant: str, batch_size: int, shape: list, classes: int, traced=()):
    """A call that trains on one batch of noise and waits for its loss, to measure time and memory.

    Batches of the sizes `traced` come before: after two different ones `train_on_batch` has a step
    for any size, so that the call's memory has no tracing in it.
    """
    model = recipe.build_model(variant, types.SimpleNamespace(shape=tuple(shape), classes=range(classes)))
    draws = np.random.default_rng(0)
    images = tf.constant(draws.integers(0, 256, (batch_size, *shape), dtype=np.uint8))
    labels = tf.constant(draws.integers(0, classes, batch_size), tf.int32)
    by_hand = recipe.loop_step(model) if recipe.VARIANTS[variant].how == "loop" else None

    def step(images=images, labels=labels):
        return float(by_hand(images, labels)) if by_hand else model.train_on_batch(images, labels)

    for some in traced:
        step(images[:some], labels[:some])
    return step


def compare(config: recipe.Config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data = sources.load(first.data)
    found = {variant: recipe.train(variant, config, run, data) for variant, run in runs.items()}
    if not config.steps:
        return found
    size = list(data.shape), len(data.classes)
    steps = {variant: build_step(variant, config.batch_size, *size) for variant in runs}
    blocks = first.interleaved(steps, block=config.steps)  # Each seed is a round.
    for variant, scores in found.items():
        scores["step_ms"] = 1000 * blocks.step_seconds(variant)
        scores["log_time"] = float(np.log(scores["step_ms"]))
        if recipe.VARIANTS[variant].filters == 32:
            scores["memory"] = memory_of(build_step, variant, config.memory_batch, *size, [2, 3])
            scores["log_memory"] = float(np.log(scores["memory"]))
    return found


SMALL = 1e-8  # A gradient; float16 rounds what is below 3e-8 to 0.
UNDERFLOWS = np.float16(SMALL) == 0 and np.float16(SMALL * 2**15) / np.float32(2**15) > 0
IS_LOST = np.float16(1) + np.float16(1e-4) == 1 and np.float32(1) + np.float32(1e-4) > 1

CLAIMS = [
    Claim(
        "S1a",
        "Mixed precision trains at least a twentieth faster: bfloat16, small model",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_small",
        than="float32_small",
    ),
    Claim(
        "S1b",
        "Mixed precision trains at least a twentieth faster: bfloat16, large model",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_large",
        than="float32_large",
    ),
    Claim(
        "S1c",
        "Mixed precision trains at least a twentieth faster: bfloat16, small model in a loop of one's own",
        source="TF, DL, HW",
        metric="log_time",
        lower="bfloat16_loop_small",
        than="float32_loop_small",
    ),
    Claim(
        "S1d",
        "Mixed precision trains at least a twentieth faster: float16, small model",
        source="TF, DL, HW",
        metric="log_time",
        lower="float16_small",
        than="float32_small",
    ),
    Claim(
        "S1e",
        "Mixed precision trains at least a twentieth faster: float16, large model",
        source="TF, DL, HW",
        metric="log_time",
        lower="float16_large",
        than="float32_large",
    ),
    Claim(
        "S1f",
        "Mixed precision loses no accuracy: bfloat16, large model, each at its own best rate for three epochs",
        source="TF, DL, HW",
        metric="test_accuracy",
        equal=("bfloat16_large", "float32_large"),
        side="below",
    ),
    Claim(
        "S1g",
        "Mixed precision loses no accuracy: float16, large model, each at its own best rate for three epochs",
        source="TF, DL, HW",
        metric="test_accuracy",
        equal=("float16_large", "float32_large"),
        side="below",
    ),
    Claim(
        "S2a",
        "A step takes less memory: bfloat16",
        said="It halves the memory of activations and so fits a larger batch",
        source="TF, DL",
        metric="log_memory",
        lower="bfloat16_large",
        than="float32_large",
    ),
    Claim(
        "S2b",
        "A step takes less memory: float16",
        said="It halves the memory of activations and so fits a larger batch",
        source="TF, DL",
        metric="log_memory",
        lower="float16_large",
        than="float32_large",
    ),
    Claim(
        "S3",
        "In float16 a small gradient underflows (loss scaling saves it) and a small update is lost "
        "(float32 master weights save it)",
        source="DL",
        asserted=bool(UNDERFLOWS and IS_LOST),
    ),
]

UNITS = {
    "step_ms": Unit("a step by train_on_batch, or of the loop", 1, "ms", 1, timed=True),
    "log_time": Unit("time of a step (log e)", name="e-folds", digits=3, timed=True),
    "memory": Unit("peak memory of a batch of 1,024", 1, "MiB", 0, timed=True),
    "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
}
PANELS = (Bars("step_ms", log="x"), Bars("memory"), Lines("val_accuracy"))

TUNING = Tuning(
    "rate",
    grids=dict.fromkeys(recipe.RATES, half_decades(0.005, 0.5)),
    objective=Objective("validation_accuracy"),
    fixed={"steps": 0},
)

EXPERIMENT = Experiment(
    recipe,
    variants=recipe.VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    compare=compare,
    tuning=TUNING,
    smoke={"epochs": 2, "batch_size": 32, "steps": 0},
    left_out=("float16_large", "float16_loop_small"),
    least={"memory_batch": 4},
    units=UNITS,
    panels=PANELS,
    numbers={
        "bfloat16 took 0.70 times": "log_time: bfloat16_large / float32_large",
        "float16: 5.2 times": "log_time: float16_large / float32_large",
        "a step took 0.70 times": "log_time: bfloat16_large / float32_large",
        "0.81 times in": "log_time: bfloat16_small / float32_small",
        "(0.78 in": "log_time: bfloat16_loop_small / float32_loop_small",
        "0.50 times the memory": "log_memory: bfloat16_large / float32_large",
        "(231 MiB": "memory: bfloat16_large",
        "instead of 463)": "memory: float32_large",
        "(57.8 and": "test_accuracy: bfloat16_large",
        "and 57.9 %)": "test_accuracy: float32_large",
        "(0.028)": "RATES: bfloat16_large",
        "(0.67 times)": "log_memory: float16_large / float32_large",
        "took 5.2 times": "log_time: float16_large / float32_large",
        "4.4 times in": "log_time: float16_small / float32_small",
    },
    first_seed=101,
)
