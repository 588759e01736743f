"""Five losses: how soon, how far, and from a start with wrong labels; a softmax too many, and one too few."""

from functools import partial
from typing import Any

import keras
import tensorflow as tf
from keras import layers, losses, optimizers

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, half_decades
from lab.core.callbacks import StopAt
from recipes import losses as recipe

ADAMS_DEFAULT = 0.001
SURE = 4.0  # What a wrong start's logits are multiplied by, so that it is as sure as after a long training.


def constant(rate):
    """A schedule, since the recipe takes a number for a peak."""
    return optimizers.schedules.PiecewiseConstantDecay([1], [rate, rate])


def at_a_constant_rate(
    train_set, validation_set, classes, loss, *, rate=0.003, epochs=10, build_model=recipe.build_model, callbacks=(),
):  # fmt: skip
    how = {"epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(train_set, validation_set, classes, loss, rate=constant(rate), **how)


def from_a_wrong_start(
    train_set, validation_set, classes, loss, *, optimizer=optimizers.Adam, rate=0.01, epochs=5,
    build_model=recipe.build_model, callbacks=(),
):  # fmt: skip
    """Train on labels that are one class too high, make the model surer of them, then train on the right ones."""

    def wrong(images, labels):
        return images, (labels + 1) % classes

    model = recipe.train(train_set.map(wrong), None, classes, epochs=epochs, build_model=build_model)
    last = model.layers[-1]
    last.set_weights([SURE * weights for weights in last.get_weights()])
    how = {"epochs": epochs, "build_model": lambda *_: model, "callbacks": callbacks}
    return recipe.train(train_set, validation_set, classes, loss, optimizer=optimizer, rate=rate, **how)


def unchanged(logits):
    return logits


def softmax(logits):
    return layers.Softmax()(logits)


def hidden_softmax(logits):
    """Keras's losses look for a softmax in the operation that made the output: any other one after it hides it."""
    return layers.Reshape(logits.shape[1:])(softmax(logits))


def mixed_up(
    train_set, validation_set, classes, output=unchanged, *, from_logits=True, at_default=False, rate=0.01, epochs=5,
    callbacks=(),
):  # fmt: skip
    """Train a model that ends in `output` with a loss that doesn't fit it; return the model of its logits."""
    net = recipe.build_model(train_set.element_spec[0].shape[1:], classes)
    model = keras.Model(net.inputs, output(net.output))
    schedule = constant(rate) if at_default else recipe.warmup_cosine(rate, epochs * len(train_set))
    loss = losses.SparseCategoricalCrossentropy(from_logits=from_logits)
    model.compile(optimizers.Adam(schedule), loss, metrics=["accuracy"], steps_per_execution=16)
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return net


MIXED_UP: dict[str, dict[str, Any]] = {
    "softmax_twice": {"output": softmax},
    "hidden_softmax_twice": {"output": hidden_softmax},
    "no_softmax": {"from_logits": False},
}
COMPARED = ("cross_entropy", "squared_error_on_softmax", "squared_error_on_logits")
# The learning rates of variants that the recipe has none of. None is tuned yet.
RATES = {f"{loss}_race": 0.003 for loss in COMPARED}
RATES |= {f"{loss}_corrected": 0.01 for loss in COMPARED}
RATES |= {"hidden_softmax_twice": 0.01, "no_softmax": 0.01}
# Adam divides a gradient by its own size, SGD does not.
BY_SGD = ("squared_error_on_softmax_sgd", "squared_error_on_softmax_corrected_sgd")
RATES |= dict.fromkeys(BY_SGD, 0.3)
SGD = partial(optimizers.SGD, momentum=0.9, nesterov=True)
STRENGTHS: dict[str, dict[str, Any]] = {"label_smoothing": {"smoothing": 0.05}, "focal": {"gamma": 1.0}}
BY_DEFAULT = {"rate": ADAMS_DEFAULT, "at_default": True}

VARIANTS: dict[str, Any] = {
    **{loss: partial(recipe.train, loss=loss, **STRENGTHS.get(loss, {})) for loss in recipe.RATES},
    **{f"{loss}_race": partial(at_a_constant_rate, loss=loss, rate=RATES[f"{loss}_race"]) for loss in COMPARED},
    **{
        f"{loss}_corrected": partial(from_a_wrong_start, loss=loss, rate=RATES[f"{loss}_corrected"])
        for loss in COMPARED
    },
    **{
        name: partial(function, loss="squared_error_on_softmax", optimizer=SGD, rate=RATES[name])
        for name, function in zip(BY_SGD, (recipe.train, from_a_wrong_start), strict=True)
    },
    # Keras finds the logits of a softmax that is the last operation: the training is that of cross-entropy.
    **{
        name: partial(mixed_up, **how, rate=RATES.get(name, recipe.RATES["cross_entropy"]))
        for name, how in MIXED_UP.items()
    },
    "default_rate": partial(mixed_up, **BY_DEFAULT),
    **{f"{name}_default_rate": partial(mixed_up, **how, **BY_DEFAULT) for name, how in MIXED_UP.items()},
}


def is_race(run):
    return run.variant.endswith("_race") and run.config.target is not None


def stop_at_the_target(run, data):
    return [StopAt(run.config.target)] if is_race(run) else []


def race(model, run, data):
    return run.epochs_to_target(run.config.target, data) if is_race(run) else {}


def gradient_when_wrong(loss):
    """The norm of a loss's gradient in ten logits, of which a wrong one is larger by 20."""
    logits, labels = tf.constant([[20.0] + 9 * [0.0]], tf.float64), tf.constant([1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = recipe.build_loss(loss).call(labels, logits)  # A call of the loss itself would be in float32.
    return float(tf.norm(tape.gradient(value, logits)))


def beats(number, text, source, variant, than, **how):
    return Claim(number, text, source, "test_accuracy", higher=variant, than=than, **how)


TWICE = "Softmax at the output under `from_logits=True`"
HIDDEN = "Softmax and another layer under `from_logits=True`"
MISSING = "No softmax under `from_logits=False`"
RECOVERS = "From a start that is confidently wrong, cross-entropy recovers where squared error is stuck"
CLAIMS = [
    Claim(
        "O20a",
        "Cross-entropy learns classes faster than squared error on probabilities",
        source="DL",
        metric="epochs_to_target",
        lower="cross_entropy_race",
        than="squared_error_on_softmax_race",
    ),
    Claim(
        "O20b",
        "Cross-entropy learns classes faster than squared error on logits",
        source="DL",
        metric="epochs_to_target",
        lower="cross_entropy_race",
        than="squared_error_on_logits_race",
    ),
    beats(
        "O20c",
        "Cross-entropy ends above squared error on probabilities",
        "ours",
        "cross_entropy",
        "squared_error_on_softmax",
    ),
    Claim(
        "O20d",
        "Squared error on logits ends no worse than cross-entropy",
        source="Hui and Belkin 2021",
        metric="test_accuracy",
        equal=("squared_error_on_logits", "cross_entropy"),
        side="below",
    ),
    Claim(
        "O20e",
        "Where a model is sure of a wrong class, the gradient of squared error on probabilities is near zero, and that "
        "of cross-entropy is not",
        source="DL",
        asserted=lambda: (
            gradient_when_wrong("squared_error_on_softmax") < 1e-6 and gradient_when_wrong("cross_entropy") > 1
        ),
    ),
    Claim(
        "O20i",
        "Where a model is sure of a wrong class, the gradient of Keras's focal loss is zero: it clips probabilities",
        source="ours",
        asserted=lambda: gradient_when_wrong("focal") == 0,
    ),
    Claim(
        "O20f",
        "From a start that is sure of wrong labels, cross-entropy ends no worse than from a fresh one",
        source="DL",
        metric="test_accuracy",
        equal=("cross_entropy_corrected", "cross_entropy"),
        side="below",
        said=RECOVERS,
    ),
    *(
        Claim(
            f"O20{letter}",
            "From such a start, squared error on probabilities ends at least ten points below a fresh one, "
            f"with {words}",
            source="DL",
            metric="test_accuracy",
            lower=f"squared_error_on_softmax_corrected{end}",
            than=f"squared_error_on_softmax{end}",
            at_least=0.1,
            said=RECOVERS,
        )
        for letter, words, end in (("j", "Adam", ""), ("k", "SGD with momentum", "_sgd"))
    ),
    Claim(
        "O20g",
        "From such a start, squared error on logits ends no worse than from a fresh one",
        source="ours",
        metric="test_accuracy",
        equal=("squared_error_on_logits_corrected", "squared_error_on_logits"),
        side="below",
    ),
    beats(
        "Q11b",
        "Label smoothing raises accuracy",
        "Composer's card",
        "label_smoothing",
        "cross_entropy",
        strong="B9",
    ),
    Claim(
        "O20h",
        "On classes of equal size, focal loss ends level with cross-entropy",
        source="ours",
        metric="test_accuracy",
        equal=("focal", "cross_entropy"),
    ),
    # Differences that are all zero are no accident where Keras finds the logits: those claims are exact.
    *(
        beats(
            f"Q1{letter}",
            f"{words} costs accuracy, at Adam's default rate",
            source,
            "default_rate",
            variant,
            exact=words == TWICE,
        )
        for letter, variant, words, source in (
            ("a", "softmax_twice_default_rate", TWICE, "keras-hub 1008"),
            ("c", "hidden_softmax_twice_default_rate", HIDDEN, "ours"),
            ("e", "no_softmax_default_rate", MISSING, "ours"),
        )
    ),
    *(
        beats(
            f"Q1{letter}",
            f"{words} costs accuracy, at a tuned rate",
            source,
            "cross_entropy",
            variant,
            exact=words == TWICE,
        )
        for letter, variant, words, source in (
            ("b", "softmax_twice", TWICE, "keras-hub 1008"),
            ("d", "hidden_softmax_twice", HIDDEN, "ours"),
            ("f", "no_softmax", MISSING, "ours"),
        )
    ),
]

FURTHEST, SOONEST = Objective("validation_accuracy"), Objective("epochs_to_target", lower=True)
TUNED = (*recipe.RATES, *RATES)
EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    flags={"batch_size": 64, "target": 0.5},
    augment=True,
    callbacks=stop_at_the_target,
    extra=race,
    smoke={"epochs": 4, "batch_size": 32, "target": 0.4},
    tuning=Tuning(
        "rate",
        {name: half_decades(1e-2, 1e1) if name in BY_SGD else half_decades(1e-4, 1e-1) for name in TUNED},
        {name: SOONEST if name.endswith("_race") else FURTHEST for name in TUNED},
        second={"label_smoothing": ("smoothing", (0.02, 0.1)), "focal": ("gamma", (0.5, 2.0))},
        own_fixed=STRENGTHS,
    ),
    fails=("no_softmax", "no_softmax_default_rate", "squared_error_on_softmax_corrected", BY_SGD[1]),
    left_out=[name for name in VARIANTS if name.endswith(("_race", "_corrected", "_default_rate", "_sgd"))],
    panels=(
        Bars("test_accuracy", (*recipe.RATES, *MIXED_UP)),
        Lines("val_accuracy", variants=tuple(name for name in VARIANTS if name.endswith("_race"))),
        Lines("val_accuracy", variants=tuple(name for name in VARIANTS if name.endswith("_corrected"))),
    ),
)
