"""Learning-rate schedules after the same number of steps, warm-ups, and rates that are far too high or low."""

from functools import partial

import keras
import numpy as np
from keras import optimizers

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from recipes import schedules as recipe

# What won on validation, where it is not the recipe's own.
WARM = {
    "warmup_cosine": {"schedule": "cosine", "warmup": 0.1, "rate": 0.056},
    "warmup_linear": {"schedule": "linear", "warmup": 0.1, "rate": 0.1},
    "warmup_linear_floor": {"schedule": "linear", "warmup": 0.1, "floor": 0.29, "rate": 0.056},
}
MAIN = {name: {"schedule": name, "rate": rate} for name, rate in recipe.RATES.items() if name != "linear"} | WARM
MAIN["exponential"]["factor"] = 0.3
FAR_OFF = {f"constant_at_{rate:g}": {"schedule": "constant", "rate": rate} for rate in (1e-4, 1.0)}
# At the high one some runs with a warm-up learn and some without, and at the highest none did in a pilot.
LOW, HIGH, STABLE, HIGHEST = 0.018, 0.14, 0.1, 1.0
ADAMW = partial(optimizers.AdamW, weight_decay=0.01)
ADAMW_HIGH = 0.01
TEN_STEPS = 10 / 620  # Of ten epochs.
# Pairs at one peak, without a warm-up and with one.
PEAKS = {
    f"{kind}_at_{rate:g}": {"schedule": "cosine", "rate": rate, "warmup": warmup}
    for rate, warmup in ((LOW, 0.1), (HIGH, 0.1))
    for kind, warmup in (("cosine", 0.0), ("warmup_cosine", warmup))
}
PEAKS |= {
    "constant_at_0.1": {"schedule": "constant", "rate": STABLE},
    "long_warmup_cosine_at_0.14": {"schedule": "cosine", "rate": HIGH, "warmup": 0.5},
    "long_warmup_cosine_at_1": {"schedule": "cosine", "rate": HIGHEST, "warmup": 0.5},
    "adamw_cosine": {"schedule": "cosine", "rate": ADAMW_HIGH, "build_optimizer": ADAMW},
    "adamw_ten_steps_cosine": {
        "schedule": "cosine", "rate": ADAMW_HIGH, "build_optimizer": ADAMW, "warmup": TEN_STEPS,
    },
}  # fmt: skip
VARIANTS = {name: partial(recipe.train, **arguments) for name, arguments in (MAIN | FAR_OFF | PEAKS).items()}

CLAIMS = [
    Claim(
        "O7a", "A rate too high diverges or learns nothing", said="A rate too high diverges", source="TF, DL",
        metric="test_accuracy", lower="constant_at_1", than="constant", check=True,
    ),
    Claim(
        "O7b", "A rate too low is slow or stuck", source="TF, DL",
        metric="test_accuracy", lower="constant_at_0.0001", than="constant", check=True,
    ),
    Claim(
        "O8a", "Exponential decay ends above a constant rate", said="Exponential decay fine-tunes the model",
        source="ours, on TF's advice", metric="test_accuracy", higher="exponential", than="constant",
        strong="B4",
    ),
    Claim(
        "O8b", "Inverse-time decay ends above a constant rate",
        source="ours", metric="test_accuracy", higher="inverse_time", than="constant",
    ),
    Claim(
        "O8c", "Decay to zero along a cosine, or a line after a warm-up, ends above a constant rate",
        source="ours", metric="test_accuracy", higher=("cosine", "warmup_linear"), than="constant",
        strong="B3",
    ),
    Claim(
        "O9", "ReduceLROnPlateau ends above a constant rate",
        source="ours, on TF's advice", metric="test_accuracy", higher="plateau", than="constant",
    ),
    Claim(
        "O10a", "Warm-up matters at a high peak rate", source="ours; R3 uses it",
        metric="test_accuracy", higher="warmup_cosine_at_0.14", than="cosine_at_0.14",
    ),
    Claim(
        "O10b", "Warm-up does not matter at a low peak rate", source="ours; R3 uses it",
        metric="test_accuracy", equal=("warmup_cosine_at_0.018", "cosine_at_0.018"),
    ),
    Claim(
        "O10c", "With AdamW at a high peak rate ten steps of warm-up raise accuracy", source="ours; R3 uses them",
        metric="test_accuracy", higher="adamw_ten_steps_cosine", than="adamw_cosine",
    ),
    Claim(
        "O11", "Linear decay to a floor of 29 % of the peak loses to decay to zero", source="ours; R3 used that floor",
        metric="test_accuracy", lower="warmup_linear_floor", than="warmup_linear",
    ),
    Claim(
        "O22", "ExponentialDecay(0.01, 10000, 0.9) lowers the rate by less than 5 % in 4,000 steps",
        said="ExponentialDecay(0.01, decay_steps=10000, decay_rate=0.9)", source="ours, on TF's settings",
        asserted=0.95 < 0.9 ** (4_000 / 10_000),
    ),
    Claim(
        "P2", "Warm-up makes ten times the highest stable constant rate trainable: it ends at most ten points lower",
        said="Warm-up makes a peak rate trainable that is ten times the highest stable constant rate", source="TP",
        metric="test_accuracy", higher="long_warmup_cosine_at_1", than="constant_at_0.1", at_least=-0.1,
    ),
    Claim(
        "P2b", "A warm-up over half of the steps makes 1.4 times the highest stable constant rate trainable",
        source="ours, on TP's advice", metric="test_accuracy", higher="long_warmup_cosine_at_0.14",
        than="cosine_at_0.14",
    ),
    Claim(
        "P5", "Linear and cosine decay to zero, each tuned after a warm-up, end level", source="TP",
        metric="test_accuracy", equal=("warmup_linear", "warmup_cosine"),
    ),
]  # fmt: skip


class AppliedRates(keras.callbacks.Callback):
    """The learning rate at each call of Keras, as the optimizer applies it."""

    def __init__(self, run):
        super().__init__()
        self.run, self.values = run, []

    def on_train_batch_begin(self, batch, logs=None):
        self.values.append(float(np.asarray(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))))

    def on_train_end(self, logs=None):
        self.run.keep("applied_rate", self.values)


def note_rates(run, data):
    return [AppliedRates(run)]


SHOWN = ("constant", "plateau", "exponential", "inverse_time", "cosine", "warmup_linear")
EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    augment=True,
    callbacks=note_rates,
    smoke={"epochs": 4, "batch_size": 64},
    full={"epochs": 20},
    left_out=(*FAR_OFF, *PEAKS),
    fails=("constant_at_0.0001", "constant_at_1", "constant_at_0.1", "cosine_at_0.14", "warmup_cosine_at_0.14",
           "long_warmup_cosine_at_0.14", "long_warmup_cosine_at_1", "adamw_cosine", "adamw_ten_steps_cosine"),
    tuning=Tuning(
        "rate",
        dict.fromkeys(MAIN, half_decades(1e-3, 3.2e-1)),
        Objective("validation_accuracy"),
        second=dict.fromkeys(("exponential", "inverse_time"), ("factor", (0.3, 0.03, 0.01))),
        fixed={"factor": 0.1},
    ),
    units={"applied_rate": Unit("learning rate")},
    panels=(
        Lines("applied_rate", x_label="step", every=16, variants=SHOWN, title="The learning rate as applied"),
        Bars("test_accuracy", variants=SHOWN, over="constant"),
    ),
    answer="Lower the rate along a cosine: to zero, it ends {test_accuracy.cosine - test_accuracy.constant} "
    "above the best constant rate, as does linear decay after a warm-up; ReduceLROnPlateau gains "
    "{test_accuracy.plateau - test_accuracy.constant}.",
    rests_on=("O8c", "O9"),
    about={
        "CosineDecay": ("O8c", "O11"),
        "PolynomialDecay": ("O8c",),
    },
    advice=[
        "**Decay the rate**, for example along a cosine: {test_accuracy.cosine}, against {test_accuracy.constant} at "
        "the best constant rate. A line that stops at 29 % of its peak ends level with one that goes to zero.",
        "**Tune the peak again when you add a schedule.** The best peak of a cosine is "
        "{argument.rate.cosine / argument.rate.constant} the best constant rate, one step of the tuning grid.",
        "**Use ReduceLROnPlateau where you cannot say how long you will train.** It gains "
        "{test_accuracy.plateau - test_accuracy.constant}.",
        "**Warm up for a few steps when AdamW's rate is high.** Ten steps of warm-up gained "
        "{test_accuracy.adamw_ten_steps_cosine - test_accuracy.adamw_cosine} there. A lower rate without warm-up was "
        "not tried.",
        "**Do not copy a tutorial's decay.** ExponentialDecay(0.01, 10000, 0.9) hardly moves in 4,000 steps.",
    ],
)  # fmt: skip
