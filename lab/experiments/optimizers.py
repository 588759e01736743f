"""Six optimizers after the same number of steps, in a race to 50 %, and after twenty epochs."""

from lab import Bars, Claim, Experiment, Lines, Objective, Tuning, Unit, half_decades
from pipelines import batches
from recipes import optimizers as recipe

VARIANTS = tuple(recipe.RATES)


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
        "SGD with momentum ends with a smaller train-test gap than Adam, after 20 epochs",
        said="SGD with momentum ends with a smaller train-test gap than Adam",
        source="TF",
        metric="generalization_gap",
        lower="momentum_long",
        than="adam_long",
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
        "RMSprop, without momentum, ends below Adam",
        source="TF",
        metric="test_accuracy",
        lower="rmsprop",
        than="adam",
    ),
    Claim(
        "O5",
        "Once each is tuned, adaptive optimizers end within a point of each other",
        said="Once each is tuned, the differences between adaptive optimizers are within seed noise",
        source="Schmidt et al. 2021",
        metric="test_accuracy",
        equal=("rmsprop", "adam", "adamw"),
    ),
    Claim(
        "O6",
        "Muon, with weight decay, reaches the target in fewer steps than Adam or SGD, without",
        said="Muon reaches the target in fewer steps than Adam or SGD",
        source="Jordan 2024",
        metric="epochs_to_target",
        lower="muon_race",
        than=("adam_race", "sgd_race", "momentum_race"),
    ),
    Claim(
        "O6b",
        "Muon, with weight decay, ends above AdamW, and Adam and SGD with momentum without, after as many steps",
        source="our question beside O6",
        metric="test_accuracy",
        higher="muon",
        than=("adam", "adamw", "momentum"),
    ),
]

FURTHEST, SOONEST = Objective("validation_accuracy"), Objective("epochs_to_target", lower=True)
CURVE = {"sgd": 10, "momentum": 10, "adam": 10, "rmsprop": 3, "adamw": 3, "muon": 3}  # Seeds.
TUNING = Tuning(
    swept="rate",
    grids=dict.fromkeys(VARIANTS, half_decades(1e-4, 1e-1))
    | {"sgd": half_decades(1e-2, 1e1), "sgd_race": half_decades(1e-2, 1e1)}
    | dict.fromkeys(("momentum", "momentum_race", "momentum_long"), half_decades(1e-3, 1e0)),
    objective={variant: SOONEST if variant.endswith("_race") else FURTHEST for variant in VARIANTS},
    fixed={"weight_decay": 0.004},
    second=dict.fromkeys(("adamw", "muon", "muon_race"), ("weight_decay", (0.0, 0.04))),
    found=("RATES", "WEIGHT_DECAYS", "FULL_RATES", "FULL_WEIGHT_DECAYS"),
    curve=CURVE,
    won=recipe.RATES,
)

EXPERIMENT = Experiment(
    recipe,
    train=recipe.train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    feed=batches.augmented,
    model=recipe.build_model,
    smoke={"epochs": 3, "long_epochs": 4, "batch_size": 64},
    full={"epochs": 20, "tuned_at": "full"},
    tuning=TUNING,
    panels=(Lines("val_accuracy", variants=tuple(CURVE)), Bars("epochs_to_target")),
    units={"train_accuracy": Unit("training accuracy", 100, "points")},
    left_out=("momentum_long", "adam_long"),
    at_full=tuple(CURVE),
    first_seed=101,
    numbers={
        "3.0 points above": "test_accuracy: muon - adam",
        "64.5 %": "test_accuracy: muon",
        "61.4 %": "test_accuracy: adam",
        "target of 50 %": "",
        "in 1.3": "epochs_to_target: muon_race",
        "in 1.8": "epochs_to_target: momentum_race",
        "in 2.1": "epochs_to_target: adam_race",
        "in 3.2": "epochs_to_target: sgd_race",
        "(61.8 %": "test_accuracy: momentum",
        "(0.018 for": "RATES: adam",
        "at 0.18": "RATES: momentum",
        "59.3 %": "test_accuracy: sgd",
        "span 0.64": "good_decades: sgd",
        "span 0.95": "good_decades: adam",
        "(69.2 %)": "test_accuracy: adam_long",
        "of 9.0": "generalization_gap: momentum_long",
        "spanned 1.07": "good_decades: momentum",
    },
)
