"""Eight ways to run the same training: their time, their memory, and whether they end in the same weights."""

import math
from collections.abc import Mapping
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades, memory_of
from pipelines import batches, sources
from recipes import custom_loop as recipe

PARTS = 4


def whole_epoch(model, train_set):
    """A step with every batch in one call."""
    for batch in train_set:
        recipe.one_step(model, *batch)
    return model.get_metrics_result()


def fit_whole_epochs(model, train_set, **course):
    recipe.fit_by_hand(model, [(train_set,)], step=whole_epoch, **course)


VARIANTS = {
    "fit": partial(recipe.train),
    "fit_16": partial(recipe.train, steps_per_execution=16),
    "train_step": partial(recipe.train, build_model=partial(recipe.build_model, kind=recipe.OwnStep)),
    "eager": partial(recipe.train, fit=recipe.fit_by_hand, run_eagerly=True),
    "by_hand": partial(recipe.train, fit=recipe.fit_by_hand),
    "whole_epoch": partial(recipe.train, fit=fit_whole_epochs),
    "accumulate": partial(recipe.train, accumulate=PARTS),
    "in_parts": partial(recipe.train, fit=partial(recipe.fit_by_hand, step=partial(recipe.step_in_parts, parts=PARTS))),
}
# The steps of those that have a loop of their own.
STEPS = {
    "eager": recipe.one_step,
    "by_hand": recipe.one_step,
    "whole_epoch": whole_epoch,
    "in_parts": partial(recipe.step_in_parts, parts=PARTS),
}


def batches_for(variant, train_set, batch_size):
    """The batches as they are; where Keras accumulates gradients, each of them in parts."""
    if variant != "accumulate":
        return train_set
    smaller = train_set.rebatch(-(-batch_size // PARTS))
    return smaller.apply(tf.data.experimental.assert_cardinality(len(train_set) * PARTS))


def epoch_of(variant, train_set, classes):
    """A call that trains a new model on the set once."""
    model = VARIANTS[variant](train_set, None, classes, fit=lambda *_, **__: None)
    if variant not in STEPS:
        return model, partial(model.fit, train_set, verbose=0)
    model.optimizer.build(model.trainable_variables)
    step = STEPS[variant] if model.run_eagerly else tf.function(STEPS[variant], jit_compile=model.jit_compile)
    steps = [(train_set,)] if variant == "whole_epoch" else train_set
    return model, partial(recipe.one_epoch, model, steps, step, keras.callbacks.CallbackList())


def weights_after(variant, config, seed, data):
    """All weights, one after another, float64 (parameters,), after `same_steps` from the same start."""
    keras.config.set_floatx("float64")  # Of losses and metrics; the policy is the layers'.
    keras.config.set_dtype_policy("float64")
    keras.utils.set_random_seed(seed)
    train_set = batches.training(data.train, config.batch_size, seed=seed).take(config.same_steps)
    model, epoch = epoch_of(variant, batches_for(variant, train_set, config.batch_size), len(data.classes))
    epoch()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    return np.concatenate([weight.numpy().ravel() for weight in model.trainable_variables])


def five_updates(variant, batch_size, shape, classes):
    """A call that updates the weights five times, to measure its memory."""
    batch = tf.zeros((batch_size, *shape), tf.uint8), tf.zeros(batch_size, tf.int32)
    train_set = tf.data.Dataset.from_tensors(batch).repeat(5)
    return epoch_of(variant, batches_for(variant, train_set, batch_size), classes)[1]


def compare(config, runs: Mapping[str, Run]) -> dict[str, dict[str, float]]:
    first = next(iter(runs.values()))
    data, classes = sources.load(first.data), len(sources.load(first.data).classes)
    validation_set, found, epochs = batches.evaluation(data.validation), {}, {}
    for variant, run in runs.items():
        train_set = batches.training(data.train, config.batch_size, seed=run.seed)
        given = batches_for(variant, train_set, config.batch_size), validation_set, classes
        keras.utils.set_random_seed(run.seed)  # All variants begin alike.
        settings = {"rate": config.rate, "epochs": config.epochs, "callbacks": run.callbacks(data)}
        found[variant] = run.scores(VARIANTS[variant](*given, **settings), data)
        epochs[variant] = epoch_of(variant, given[0], classes)[1]
    if not config.same_steps:
        return found
    for epoch in epochs.values():
        epoch()  # Traces.
    # A step of the timing is an epoch, since what begins one belongs to its price. The second one counts.
    blocks = first.interleaved(epochs, block=2, left_out=1)
    by_fit = weights_after("fit", config, first.seed, data)
    for variant, scores in found.items():
        scores["step_ms"] = 1000 * blocks.step_seconds(variant) / len(train_set)
        scores["log_time"] = float(np.log(scores["step_ms"]))
        apart = weights_after(variant, config, first.seed, data) - by_fit
        scores["apart_float64"] = float(np.linalg.norm(apart) / np.linalg.norm(by_fit))
        if variant in ("fit", "accumulate", "in_parts"):
            scores["memory"] = memory_of(five_updates, variant, config.memory_batch, list(data.shape), classes)
            scores["log_memory"] = float(np.log(scores["memory"]))
    return found


CLAIMS = [
    Claim(
        "B10",
        "A hand-written GradientTape step gives the same weights as `fit`, to rounding (20 steps in float64)",
        source="DL",
        metric="apart_float64",
        equal=("fit", "fit_16", "train_step", "eager", "by_hand", "whole_epoch"),
        exact=True,
        check=True,
    ),
    Claim(
        "B13a",
        "`fit` costs no speed against a hand-written loop with a compiled step",
        source="ours",
        metric="log_time",
        equal=("fit", "by_hand"),
        side="above",
    ),
    Claim(
        "B13b",
        "`fit` with 16 steps a call costs no speed against an epoch that is compiled whole",
        source="ours",
        metric="log_time",
        equal=("fit_16", "whole_epoch"),
        side="above",
    ),
    Claim(
        "B13c",
        "A GradientTape step without tf.function takes at least half as long again",
        source="ours",
        metric="log_time",
        higher="eager",
        than="by_hand",
        at_least=math.log(1.5),
    ),
    Claim(
        "O15a",
        "k accumulated batches of n train the same model as one batch of k·n: by Keras's "
        "`gradient_accumulation_steps` and by a hand-written sum (without BatchNorm, 20 steps in float64)",
        source="ours",
        metric="apart_float64",
        equal=("fit", "accumulate", "in_parts"),
        exact=True,
        check=True,
    ),
    Claim(
        "O15b",
        "k accumulated batches of n take less memory than one batch of k·n",
        source="ours",
        metric="log_memory",
        lower=("accumulate", "in_parts"),
        than="fit",
    ),
    Claim(
        "O15c",
        "`gradient_accumulation_steps` costs no speed against a hand-written sum of gradients",
        source="ours",
        metric="log_time",
        equal=("accumulate", "in_parts"),
        side="above",
    ),
    Claim(
        "O15d",
        "`gradient_accumulation_steps` takes no more memory than a hand-written sum of gradients",
        source="ours",
        metric="log_memory",
        equal=("accumulate", "in_parts"),
        side="above",
    ),
]

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    compare=compare,
    flags={"epochs": 2, "batch_size": 64, "rate": 0.02, "same_steps": 20, "memory_batch": 512},
    smoke={"batch_size": 32, "same_steps": 2, "memory_batch": 64},
    left_out=("accumulate", "in_parts"),
    least={"memory_batch": PARTS, "batch_size": PARTS},
    # All variants train the same model, so one sweep is for all of them.
    tuning=Tuning("rate", {"fit": half_decades(0.002, 0.2)}, Objective("validation_accuracy"), fixed={"same_steps": 0}),
    units={
        "apart_float64": Unit("distance from the weights of fit, float64", 1e6, "millionths of their norm", 6),
        "step_ms": Unit("a step of training", 1, "ms", 1, timed=True),
        "log_time": Unit("time of a step (log e)", name="e-folds", digits=3, timed=True),
        "memory": Unit("peak memory of a batch of 512", 1, "MiB", 0, timed=True),
        "log_memory": Unit("peak memory (log e)", name="e-folds", digits=3, timed=True),
    },
    panels=(Bars("step_ms"), Bars("memory")),
    answer="Write one when the step is new, and compile it: an eager step takes "
    "{log_time.eager / log_time.by_hand} as long. The weights equal those of `fit`. For speed, set "
    "`steps_per_execution`.",
    rests_on=("B10", "B13c"),
    about={
        "steps_per_execution=": ("B13b",),
        "run_eagerly=": ("B13c",),
    },
    advice=[
        "**Compile every step that you write.** Without `tf.function` it takes {log_time.eager / log_time.by_hand} as "
        "long.",
        "**Set `steps_per_execution` before you write a loop for speed.** With 16 steps a call, `fit` is "
        "{faster log_time.fit_16 / log_time.by_hand} than a hand-written loop with a compiled step.",
        "**Use `gradient_accumulation_steps` for batches that do not fit.** A batch of 512 images in four parts takes "
        "{log_memory.accumulate / log_memory.fit} the memory of a whole one. A batch of 64 in four parts takes "
        "{log_time.accumulate / log_time.fit} the time.",
        "**Override `train_step` for a new step.** You keep all that `fit` does, callbacks and validation included.",
    ],
)
