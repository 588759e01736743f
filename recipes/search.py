"""Which search finds a good setting in the fewest epochs: grid, random, Bayesian or Hyperband?

KerasTuner's four tuners look for a learning rate (16 values over four decades), a dropout and a width. A few trained
trials decide nothing, so each tuner is also replayed many times on a table of trainings measured beforehand (`--tune`).
A setting is seen with one of the table's seeds; what counts is the mean over seeds of the setting that is chosen. The
table flatters all: 256 settings, and with two seeds the score seen is half of the score that counts. It hurts Bayesian
optimization, which might choose rates in between; its first nine trials, three a dimension, are random.

Use it when    a training is cheap enough to be run some ten times or more.
It hurts when  settings differ by less than seeds do: the best of many trials is then mostly luck.
Sources        Bergstra and Bengio 2012, JMLR 13; Snoek et al. 2012, arXiv:1206.2944; Li et al. 2018, arXiv:1603.06560
"""

import tempfile
import zlib
from dataclasses import dataclass

import keras
import keras_tuner as kt
import numpy as np
from keras import layers

from pipelines import batches, cifar10
from recipes.harness import Claim, Factorial, Lines, Recipe, Run, Unit

RATES = tuple(float(f"{10 ** (-4 + 4 * i / 15):.2g}") for i in range(16))
SPACE = {"rate": RATES, "dropout": (0.0, 0.2, 0.4, 0.6), "width": (8, 16, 32, 64)}
EPOCHS = 4  # Of a whole trial in the table.
ENTRIES = [f"epoch_{number}" for number in range(1, EPOCHS + 1)]
BUDGETS = (4, 8, 16, 32)  # In trials of so many epochs; Hyperband gets as many epochs.
GRIDS = {4: (4, 1, 1), 8: (4, 2, 1), 16: (4, 2, 2), 32: (8, 2, 2)}  # How many values of each a reader would try.
VARIANTS = {  # The tuner, and its share of each budget.
    "grid": (kt.GridSearch, 1),
    "random": (kt.RandomSearch, 1),
    "random_twice": (kt.RandomSearch, 2),
    "bayesian": (kt.BayesianOptimization, 1),
    "bayesian_half": (kt.BayesianOptimization, 0.5),
    "hyperband": (kt.Hyperband, 1),
    "hyperband_half": (kt.Hyperband, 0.5),
}


@dataclass(frozen=True)
class Config:
    replays: int = 20
    rate: float | None = None  # A rate, a dropout and a width: one entry of the table.
    dropout: float = 0.0
    width: int = 8


def build_model(hp: dict) -> keras.Model:
    """Map images uint8 (batch, 32, 32, 3) to logits float32 (batch, 10)."""
    stack = [keras.Input((32, 32, 3), dtype="uint8"), layers.Rescaling(1 / 64, offset=-2)]
    for filters, strides in ((hp["width"], 2), (2 * hp["width"], 1)):
        stack += [layers.Conv2D(filters, 3, strides, padding="same", activation="relu"), layers.MaxPooling2D()]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dropout(hp["dropout"]), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(hp["rate"]), loss, metrics=["accuracy"])
    return model


def fit_arguments(run: Run) -> dict:
    data = cifar10.load(run.data)
    feed = batches.training(data.train, 128, seed=run.seed)
    return {"x": feed, "validation_data": batches.evaluation(data.validation), "shuffle": False, "verbose": 0}


def make_tuner(how, variant: str, trials: int, epochs: int, seed: int, folder) -> kt.Tuner:
    """A tuner with `how`'s run_trial, for so many trials of so many epochs; for Hyperband at least as many epochs."""
    kind, space = VARIANTS[variant][0], kt.HyperParameters()
    counts = GRIDS[trials] if variant == "grid" else [len(values) for values in SPACE.values()]
    for (name, values), count in zip(SPACE.items(), counts, strict=True):
        space.Choice(name, values[seed % (len(values) // count) :: len(values) // count])  # A grid may begin anywhere.
    halving = {"max_epochs": epochs, "factor": 2, "hyperband_iterations": -(-trials * epochs // 30)}
    limits = halving if kind is kt.Hyperband else {"max_trials": trials}
    limits |= {"hyperparameters": space, "max_consecutive_failed_trials": 10**6, "seed": seed, "directory": folder}
    return type(variant, (how, kind), {})(how.build, objective="val_accuracy", project_name=variant, **limits)


class Replayed:
    build = None  # Nothing to train: a trial is looked up in the table.

    def run_trial(self, trial, table, seed, log, **_):
        values = trial.hyperparameters.values
        setting = tuple(values[name] for name in SPACE)
        before, epochs = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", EPOCHS)
        curve = table[setting][zlib.crc32(f"{seed}/{setting}".encode()) % len(table[setting])]
        log.append((epochs - before, setting, curve[epochs - 1]))
        return {"val_accuracy": curve[epochs - 1]}


class Live:
    build = staticmethod(lambda hp: build_model(hp.values))

    def run_trial(self, trial, seed, **fit):  # Each trial has a seed of its own, written down with its hyperparameters.
        keras.utils.set_random_seed(
            trial.hyperparameters.Fixed("seed", zlib.crc32(f"{seed}/{trial.trial_id}".encode()))
        )
        histories = super().run_trial(trial, **fit)  # type: ignore[misc]  # The tuner's.
        if not np.isfinite(histories[0].history["loss"]).all():
            raise kt.errors.FailedTrialError("The loss is not finite.")
        return histories


def replay(variant: str, trials: int, table: dict, seed: int) -> float:
    """The mean score of the setting that looked best to a search of the table."""
    log: list[tuple] = []  # Epochs spent, setting, score seen.
    with tempfile.TemporaryDirectory() as folder:
        tuner = make_tuner(Replayed, variant, trials, EPOCHS, seed, folder)
        tuner.search(table=table, seed=seed, log=log, verbose=0)
    costs, settings, seen = zip(*log, strict=True)
    affordable = np.cumsum(costs) <= trials * EPOCHS  # Hyperband's last round may go beyond.
    return float(np.mean(table[settings[int(np.argmax(np.where(affordable, seen, 0)))]], axis=0)[-1])


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    if config.rate is not None:
        keras.utils.set_random_seed(run.seed)
        history = build_model(vars(config)).fit(epochs=EPOCHS, **fit_arguments(run))
        return dict(zip(ENTRIES, history.history["val_accuracy"], strict=True))
    table, share = TUNING.read("search", ENTRIES), VARIANTS[variant][1]
    seeds = range(run.seed * config.replays, (run.seed + 1) * config.replays)
    found = [float(np.mean([replay(variant, int(n * share), table, seed) for seed in seeds])) for n in BUDGETS]
    run.keep("trials", BUDGETS)
    run.keep("val_accuracy", found)
    metrics = {f"best_at_{n}": score for n, score in zip(BUDGETS, found, strict=True)}
    return metrics | (live(variant, run) if share == 1 else {})


def live(variant: str, run: Run) -> dict[str, float]:
    folder = run.folder.parents[1] / "trials" / run.folder.name  # Here a search that was killed goes on.
    tuner = make_tuner(Live, variant, 4, 2, run.seed, folder)
    board = keras.callbacks.TensorBoard(str(run.folder / "trials"))  # A line in HParams for each trial.
    tuner.search(seed=run.seed, epochs=2, callbacks=[board], **fit_arguments(run))
    scores = [trial.score for trial in tuner.oracle.trials.values() if trial.status == "COMPLETED"]
    return {"live_best": max(scores, default=0.1), "live_failed": float(len(tuner.oracle.trials) - len(scores))}


CLAIMS = [
    Claim(f"{name} at {n}", text, source, f"best_at_{n}", by=0.005, **comparison)
    for n in BUDGETS[1:]
    for name, text, source, comparison in (
        ("H1", "At an equal number of trials random search finds a better setting than grid search",
         "DL; Bergstra and Bengio 2012", {"higher": "random", "than": "grid"}),
        ("H2", "Bayesian optimization needs fewer trials (half) than random search for the same score", "DL",
         {"equal": ("bayesian_half", "random"), "side": "below"}),
        ("H3", "Random search at twice the budget is as good as Bayesian", "Li et al. 2018",
         {"equal": ("random_twice", "bayesian"), "side": "below"}),
        ("H4", "Hyperband reaches random search's best in a fraction (half) of its compute", "Li et al. 2018",
         {"equal": ("hyperband_half", "random"), "side": "below"}),
    )
] + [Claim("H5", "A full grid of 5 × 5 × 5 is 125 trainings", source="DL", asserted=5 * 5 * 5 == 125)]  # fmt: skip

UNITS = {f"best_at_{n}": Unit(f"chosen at {n} trials", 100, "points") for n in BUDGETS}
PANELS = (Lines("val_accuracy", "trials", title="Mean and range over seeds of the setting that was chosen"),)
TUNING = Factorial(SPACE, seeds=(1, 2))
RECIPE = Recipe(train, VARIANTS, CLAIMS, Config, {"replays": 2}, tuning=TUNING, units=UNITS, panels=PANELS)

if __name__ == "__main__":
    RECIPE.main()
