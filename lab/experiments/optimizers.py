"""Six optimizers after the same number of steps, in a race to 58 %, and where they overfit."""

from functools import partial

import keras
from keras import optimizers, regularizers

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, half_decades
from lab.core.callbacks import StopAt
from recipes import optimizers as recipe


def constant(
    train_set, validation_set, classes, optimizer, *, rate=0.01, decay=None, epochs=10,
    build_model=recipe.build_model, callbacks=(),
):  # fmt: skip
    """The recipe's training at a constant learning rate."""
    sets = train_set, validation_set, classes
    always = optimizers.schedules.PiecewiseConstantDecay([1], [rate, rate])  # A number would be the peak of a schedule.
    how = {"decay": decay, "epochs": epochs, "build_model": build_model, "callbacks": callbacks}
    return recipe.train(*sets, optimizer, rate=always, **how)


def adam_with_l2(
    train_set,
    validation_set,
    classes,
    *,
    rate=0.018,
    penalty=1e-4,
    epochs=5,
    build_model=recipe.build_model,
    callbacks=(),
):
    """The recipe's training by Adam, with an L2 penalty on all kernels in the loss."""

    def with_penalty(shape, classes):
        model = build_model(shape, classes)
        for weight in model.trainable_variables:
            if len(weight.shape) > 1:
                weight.regularizer = regularizers.L2(penalty)
        return model

    sets = train_set, validation_set, classes
    return recipe.train(*sets, "adam", rate=rate, epochs=epochs, build_model=with_penalty, callbacks=callbacks)


def literal(train_set, validation_set, classes, optimizer, *, epochs=5, build_model=recipe.build_model, callbacks=()):
    """Train the recipe's model with the optimizer settings that the guide prints, at a constant rate."""
    settings = {
        "adam": lambda: optimizers.Adam(learning_rate=0.001),
        "momentum": lambda: optimizers.SGD(learning_rate=0.01, momentum=0.9),
        "rmsprop": lambda: optimizers.RMSprop(learning_rate=0.001),
    }
    model = build_model(train_set.element_spec[0].shape[1:], classes)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(settings[optimizer](), loss, metrics=["accuracy"], steps_per_execution=16)
    model.fit(train_set, validation_data=validation_set, epochs=epochs, callbacks=list(callbacks), verbose=0)
    return model


def is_race(run):
    return run.variant.endswith("_race") and run.config.target is not None


def stop_at_the_target(run, data):
    return [StopAt(run.config.target)] if is_race(run) else []


def race(model, run, data):
    return run.epochs_to_target(run.config.target, data) if is_race(run) else {}


RACE_RATES = {"sgd": 0.18, "momentum": 0.032, "adam": 0.0057, "muon": 0.01}
LONG_RATES = {"momentum": 0.1, "adam": 0.032}
FINAL = {name: partial(recipe.train, optimizer=name) for name in recipe.RATES}
FINAL["adam_l2"] = partial(adam_with_l2, rate=0.01, penalty=0.01)
RACE = {
    f"{name}_race": partial(constant, optimizer=name, rate=rate, decay=0.0)  # None has a decay there.
    for name, rate in RACE_RATES.items()
}
LONG = {
    f"{name}_overfit": partial(recipe.train, optimizer=name, rate=rate, decay=0.0, epochs=60)
    for name, rate in LONG_RATES.items()
}
LITERAL = {f"{name}_literal": partial(literal, optimizer=name) for name in ("adam", "momentum", "rmsprop")}

CLAIMS = [
    Claim(
        "O1",
        "Adam converges in fewer epochs than SGD, with momentum or without",
        source="TF, DL",
        metric="epochs_to_target",
        lower="adam_race",
        than=("sgd_race", "momentum_race"),
    ),
    Claim(
        "O2",
        "Where both overfit, SGD with momentum ends with a smaller train-test gap than Adam",
        said="SGD with momentum ends with a smaller train-test gap than Adam, in some cases",
        source="TF",
        metric="generalization_gap",
        lower="momentum_overfit",
        than="adam_overfit",
    ),
    Claim(
        "O3",
        "SGD needs its learning rate tuned more carefully than Adam",
        source="TF",
        metric="good_decades",
        lower=("sgd", "momentum"),
        than="adam",
        from_tuning=True,
    ),
    Claim(
        "O4",
        "RMSprop ends below Adam",
        said="RMSprop ends below Adam where momentum is needed",  # As it is here: see O23.
        source="TF",
        metric="test_accuracy",
        lower="rmsprop",
        than="adam",
    ),
    Claim(
        "O5",
        "Once each is tuned, adaptive optimizers end level",
        said="Once each is tuned, the differences between adaptive optimizers are within seed noise",
        source="Schmidt et al. 2021",
        metric="test_accuracy",
        equal=("rmsprop", "adam", "adamw"),
    ),
    Claim(
        "O5b",
        "Once both are tuned, SGD with momentum ends level with Adam",
        source="ours",
        metric="test_accuracy",
        equal=("momentum", "adam"),
    ),
    Claim(
        "O6",
        "Muon reaches the target in fewer steps than Adam or SGD",
        source="Jordan 2024",
        metric="epochs_to_target",
        lower="muon_race",
        than=("adam_race", "sgd_race", "momentum_race"),
    ),
    *(
        Claim(
            f"O6{letter}",
            f"After the same number of steps Muon beats {printed}, each with a tuned decay",
            source="ours",
            metric="test_accuracy",
            higher="muon",
            than=name,
            strong=strong,
        )
        for letter, name, printed, strong in (
            ("b", "adamw", "AdamW", "B1"),
            ("c", "momentum", "SGD with momentum", "B2"),
            ("d", "adam_l2", "Adam with L2", ""),
        )
    ),
    *(
        Claim(
            f"O21{letter}",
            f"{printed} ends below the same optimizer with a tuned rate and a schedule",
            said=printed,
            source="ours, on TF's settings",
            metric="test_accuracy",
            lower=f"{name}_literal",
            than=name,
        )
        for letter, name, printed in (
            ("a", "adam", "Adam(0.001)"),
            ("b", "momentum", "SGD(0.01, momentum=0.9)"),
            ("c", "rmsprop", "RMSprop(0.001)"),
        )
    ),
    Claim("O23", "Momentum beats plain SGD", source="TF, DL", metric="test_accuracy", higher="momentum", than="sgd"),
]

FURTHEST, SOONEST = Objective("validation_accuracy"), Objective("epochs_to_target", lower=True)
TUNED = (*FINAL, *RACE, *LONG)
WIDE, MIDDLE, ADAPTIVE = half_decades(1e-2, 1e1), half_decades(1e-3, 1e0), half_decades(1e-4, 1e-1)
GRIDS = {name: WIDE if name.startswith("sgd") else MIDDLE if "momentum" in name else ADAPTIVE for name in TUNED}
TUNING = Tuning(
    swept="rate",
    grids=GRIDS,
    objective={name: SOONEST if name in RACE else FURTHEST for name in TUNED},
    second=dict.fromkeys(("sgd", "momentum", "adamw", "muon"), ("decay", (0.0, 0.04)))
    | {"adam_l2": ("penalty", (1e-5, 1e-3))},
    fixed={"decay": 0.004, "penalty": 1e-4},
    found=("RATES", "DECAYS"),
    curve={"sgd": 10, "momentum": 10, "adam": 10},
)

EXPERIMENT = Experiment(
    recipe,
    variants=FINAL | RACE | LONG | LITERAL,
    claims=CLAIMS,
    flags={"target": 0.58},
    own_flags={name: {"images": 2000, "flip": "no", "shift": 0} for name in LONG},
    augment=True,
    callbacks=stop_at_the_target,
    extra=race,
    smoke={"epochs": 3, "batch_size": 64, "target": 0.4},
    left_out=("adam_l2", *LONG, *LITERAL),
    tuning=TUNING,
    panels=(
        Lines("val_accuracy", variants=tuple(recipe.RATES)),
        Bars("test_accuracy", variants=(*recipe.RATES, "adam_l2")),
        Bars("epochs_to_target"),
    ),
    answer="On 8,000 images Muon goes furthest: {test_accuracy.muon - test_accuracy.adamw} above AdamW, each with its "
    "best rate and decay. Tune and schedule the rate: Adam at a constant 0.001 ends "
    "{test_accuracy.adam - test_accuracy.adam_literal} lower.",
    rests_on=("O6b", "O21a"),
    advice=[
        "**Try Muon first** where most weights are matrices or kernels: it ends at {test_accuracy.muon}, and Adam at "
        "{test_accuracy.adam}. Keras's own class leaves convolutions to AdamW, so use `ConvMuon`.",
        "**Tune the rate of each optimizer.** The best rate of SGD with momentum is {argument.rate.momentum / "
        "argument.rate.adam} Adam's.",
        "**Do not keep the rates of a tutorial.** RMSprop at a constant 0.001 ends "
        "{test_accuracy.rmsprop - test_accuracy.rmsprop_literal} below RMSprop with a tuned rate and a schedule.",
    ],
)
