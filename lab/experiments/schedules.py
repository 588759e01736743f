"""Learning-rate schedules after the same number of steps, and at rates that are far too high or low."""

from lab import Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from pipelines import batches
from recipes import schedules as recipe

LOW = ("cosine_at_0.018", "warm_up_cosine_at_0.018")
HIGH = ("cosine_at_0.1", "warm_up_cosine_at_0.1")
HIGHEST = ("cosine_at_1", "long_warm_up_cosine_at_1")
VARIANTS = (*recipe.RATES, *recipe.CONSTANTS, *LOW, *HIGH, *HIGHEST)


CLAIMS = [
    Claim(
        "O7a",
        "A rate too high diverges, or learns nothing: it ends ten points lower and more",
        said="A rate too high diverges",
        source="TF, DL",
        metric="test_accuracy",
        lower="constant_at_1",
        than="constant",
        at_least=0.1,
    ),
    Claim(
        "O7b",
        "A rate too low is slow or stuck: it ends ten points lower and more",
        said="A rate too low is slow or stuck",
        source="TF, DL",
        metric="test_accuracy",
        lower="constant_at_0.0001",
        than="constant",
        at_least=0.1,
    ),
    Claim(
        "O8a",
        "Exponential decay to a hundredth ends above a constant rate, in ten epochs (at full twenty)",
        said="Exponential decay ends above a constant rate",
        source="TF",
        metric="test_accuracy",
        higher="exponential",
        than="constant",
    ),
    Claim(
        "O8b",
        "Any decay to a small rate ends above a constant rate, in ten epochs (at full twenty; inverse time to a tenth; "
        "cosine, and linear after a warm-up, to zero)",
        said="Any decay to a small rate ends above a constant rate",
        source="TF",
        metric="test_accuracy",
        higher=("inverse_time", "cosine", "warm_up_linear"),
        than="constant",
    ),
    Claim(
        "O9",
        "ReduceLROnPlateau ends above a constant rate, in ten epochs (at full twenty)",
        said="ReduceLROnPlateau ends above a constant rate",
        source="TF",
        metric="test_accuracy",
        higher="plateau",
        than="constant",
    ),
    Claim(
        "O10a",
        "Warm-up matters at a high peak rate (0.1, the highest that is mostly stable)",
        said="Warm-up matters at a high peak rate and not at a low one",
        source="R3",
        metric="test_accuracy",
        higher="warm_up_cosine_at_0.1",
        than="cosine_at_0.1",
    ),
    Claim(
        "O10b",
        "Warm-up does not matter at a low peak rate (0.018)",
        said="Warm-up matters at a high peak rate and not at a low one",
        source="R3",
        metric="test_accuracy",
        equal=("warm_up_cosine_at_0.018", "cosine_at_0.018"),
    ),
    Claim(
        "O11",
        "Linear decay to a floor of 29 % of the peak loses to decay to zero",
        source="R3",
        metric="test_accuracy",
        lower="warm_up_linear_floor",
        than="warm_up_linear",
    ),
    Claim(
        "P2",
        "Warm-up makes a peak rate trainable that is ten times the highest stable constant rate (here 0.1), where "
        "half of the steps warm up (without normalization; ten points and more within ten epochs)",
        source="TP",
        metric="test_accuracy",
        higher="long_warm_up_cosine_at_1",
        than="cosine_at_1",
        at_least=0.1,
    ),
    Claim(
        "P5",
        "Linear and cosine decay to zero, both after a warm-up and each tuned, differ by nothing that matters",
        said="Linear and cosine decay to zero, each tuned, differ by nothing that matters",
        source="TP",
        metric="test_accuracy",
        equal=("warm_up_linear", "warm_up_cosine"),
    ),
]

TUNING = Tuning(
    "rate",
    dict.fromkeys(recipe.RATES, half_decades(1e-3, 3.2e-1)),
    Objective("validation_accuracy"),
    found=("RATES", "FULL_RATES"),
    curve={"constant": 3},
    won=recipe.RATES,
)
PANELS = (
    Lines(
        "applied_rate",
        x_label="every 31st step",
        variants=tuple(recipe.RATES),
        title="The rate as applied",
    ),
    Lines("val_accuracy", variants=tuple(recipe.RATES)),
)

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    feed=batches.augmented,
    model=recipe.build_model,
    smoke={"epochs": 4, "batch_size": 64},
    full={"epochs": 20, "tuned_at": "full"},
    tuning=TUNING,
    at_full=tuple(recipe.RATES),
    left_out=(*recipe.CONSTANTS, *LOW, *HIGH, *HIGHEST),
    first_seed=101,
    fails=("constant_at_0.0001", "constant_at_0.1", "constant_at_1", *HIGH, *HIGHEST),
    units={"applied_rate": Unit("learning rate")},
    panels=PANELS,
    numbers={
        "2.3 points above": "test_accuracy: cosine - constant",
        "(64.6 %)": "test_accuracy: cosine",
        "(64.7 %)": "test_accuracy: warm_up_linear",
        "peak of 0.057": "RATES: cosine",
        "rate, 0.032": "RATES: constant",
        "(62.2 %, over": "test_accuracy: constant beside cosine",
        "of 29 % of": "",
        "(64.5 %)": "test_accuracy: warm_up_cosine",
        "(64.4 %)": "test_accuracy: one_cycle",
        "gained 1.4 points": "test_accuracy: plateau - constant",
        "gained 0.2, if": "test_accuracy: inverse_time - constant",
        "lost 1.6": "test_accuracy: constant - exponential",
        "rate of 0.01": "",
        "4.5 points lower": "test_accuracy: constant - constant_at_0.01",
        "one of 0.1": "",
        "8.1 points": "test_accuracy: constant - constant_at_0.1",
        "at 1 nothing": "",
        "(11.3 %)": "test_accuracy: long_warm_up_cosine_at_1",
        "peak of 0.1, the": "",
    },
)
