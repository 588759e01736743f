"""Which search finds a good setting in the fewest epochs: grid, random, Bayesian or Hyperband?

A handful of trained trials decides nothing, so each of KerasTuner's four tuners is replayed many
times on a table of trainings made beforehand (`--tune`): a setting is seen with one of the table's
seeds and judged by the other. The intervals are about the luck of searches on this one table.

What the table does: grids lose little to random search, since there are few values; Hyperband's
promoted trials go on along the same curve, but four epochs leave little to save; a setting that is
tried twice shows the same score, so Bayesian optimization learns nothing from that. It also begins
with nine random trials, KerasTuner's default.

Use it when    you must choose a tuner: `search` shows how to use each.
It hurts when  settings differ by less than seeds do: the best of many trials is then mostly luck.
Sources        Bergstra and Bengio 2012, JMLR 13; Snoek et al. 2012, arXiv:1206.2944; Li et al.
               2018, arXiv:1603.06560
"""

import tempfile
import zlib
from dataclasses import dataclass

import keras
import keras_tuner as kt
import numpy as np
from keras import layers

from pipelines import batches, sources
from recipes.harness import Claim, Lines, Recipe, Run, Table, Unit, main
from recipes.harness.kerastuner.trials import ResumableGridSearch

RATES = (
    1e-4,
    1.8e-4,
    3.4e-4,
    6.3e-4,
    0.0012,
    0.0022,
    0.004,
    0.0074,
    0.014,
    0.025,
    0.046,
    0.086,
    0.16,
    0.29,
    0.54,
    1.0,
)
SPACE = {"rate": RATES, "dropout": (0.0, 0.2, 0.4, 0.6), "width": (8, 16, 32, 64)}
EPOCHS = 4  # Of a whole trial.
# In whole trials; Hyperband gets as many epochs. Beside them the grid of so many trials: how many values of each.
BUDGETS = {4: (4, 1, 1), 8: (4, 2, 1), 12: (6, 2, 1), 16: (4, 2, 2), 20: (5, 2, 2)}
# How many times each budget a variant gets.
SHARES = {"grid": 1, "random": 1, "random_twice": 2, "bayesian": 1, "hyperband": 1}
VARIANTS = tuple(SHARES)


@dataclass(frozen=True)
class Config:
    replays: int = 4  # Of each search, at each seed.
    most: int = 20  # Trials of the largest budget that is replayed.


def build_model(setting: dict, data: sources.Data) -> keras.Model:
    """Map images uint8 (batch, *data.shape) to logits float32 (batch, len(data.classes)), compiled."""
    rescale = layers.Rescaling(1 / 64, offset=-2)  # 0 to 255 becomes -2 to 2.
    model = keras.Sequential([keras.Input(data.shape, dtype="uint8"), rescale])
    model.add(layers.Conv2D(setting["width"], 3, strides=2, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Conv2D(2 * setting["width"], 3, padding="same", activation="relu"))
    model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dropout(setting["dropout"]))
    model.add(layers.Dense(len(data.classes)))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    adam = keras.optimizers.Adam(setting["rate"])
    model.compile(adam, loss, metrics=["accuracy"], steps_per_execution=16)
    return model


def measure(setting: dict, run: Run) -> dict[str, float]:
    """One entry of the table: validation accuracy after each epoch."""
    data = sources.load(run.data)
    feed = batches.training(data.train, 128, seed=run.seed)
    validation = batches.evaluation(data.validation)
    model = build_model(setting, data)
    fit = {"epochs": EPOCHS, "validation_data": validation, "shuffle": False, "verbose": 0}
    accuracies = model.fit(feed, **fit).history["val_accuracy"]
    return {f"epoch_{number}": accuracy for number, accuracy in enumerate(accuracies, 1)}


TABLE = Table(measure, SPACE, seeds=(1, 2))


def grid_of(trials: int, seed: int) -> dict[str, tuple]:
    """A whole grid of so many trials: evenly spaced values of each hyperparameter, begun anywhere."""
    draw = np.random.default_rng(seed)
    chosen = {}
    for (name, values), count in zip(SPACE.items(), BUDGETS[trials], strict=True):
        places = np.arange(count) * len(values) // count
        begin = draw.integers(len(values) - places[-1])
        chosen[name] = tuple(values[place + begin] for place in places)
    return chosen


class FromTable:
    """In the place of a training: the table is setting -> validation accuracy (seeds, epochs)."""

    def run_trial(self, trial, table: dict, seed: int, log: list, **_):
        values = trial.hyperparameters.values
        before, epochs = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", EPOCHS)
        setting = tuple(values[name] for name in SPACE)
        curves = table[setting]
        # Which seed is seen: the same for a setting all along, and in every process.
        seen = zlib.crc32(f"{seed}/{setting}".encode()) % len(curves)
        judged = np.delete(curves, seen, axis=0)[:, -1].mean()
        log.append((epochs - before, curves[seen, epochs - 1], judged))
        return {"val_accuracy": curves[seen, epochs - 1]}


class Grid(FromTable, ResumableGridSearch): ...


class Random(FromTable, kt.RandomSearch): ...


class Bayesian(FromTable, kt.BayesianOptimization): ...


class Hyperband(FromTable, kt.Hyperband): ...


def make_tuner(variant: str, trials: int, seed: int, folder) -> kt.Tuner:
    """A tuner of whole trials, or for Hyperband of as many epochs, whose trials are looked up."""
    space = kt.HyperParameters()
    for name, values in (grid_of(trials, seed) if variant == "grid" else SPACE).items():
        space.Choice(name, values)
    # KerasTuner draws with seed, seed + 1, …: neighbouring seeds would walk the same settings.
    common = {"hyperparameters": space, "directory": folder, "seed": 1000 * seed + 1}
    if variant == "hyperband":
        rounds = max(1, round(trials * EPOCHS / 30))  # One of all brackets costs so many epochs.
        common |= {"max_epochs": EPOCHS, "factor": 2, "hyperband_iterations": rounds}
        return Hyperband(objective="val_accuracy", **common)
    kinds = {"grid": Grid, "bayesian": Bayesian, "random": Random, "random_twice": Random}
    return kinds[variant](objective="val_accuracy", max_trials=trials, **common)


def walk(variant: str, trials: int, table: dict, seed: int) -> np.ndarray:
    """One search: of each trial the epochs, the score seen and the score that counts."""
    log: list[tuple] = []
    with tempfile.TemporaryDirectory() as folder:
        tuner = make_tuner(variant, trials, seed, folder)
        tuner.search(table=table, seed=seed, log=log, verbose=0)
    return np.array(log)


def replay(variant: str, budgets: list[int], table: dict, seed: int) -> list[float]:
    """For each budget the score that counts of the setting that looked best to a search."""
    found = []
    if variant != "grid":  # A grid is laid for its budget; other searches are cut short.
        steps = walk(variant, SHARES[variant] * max(budgets), table, seed)
    for budget in budgets:
        if variant == "grid":
            steps = walk(variant, budget, table, seed)
        epochs, seen, counts = steps.T
        affordable = epochs.cumsum() <= SHARES[variant] * budget * EPOCHS
        found.append(counts[np.where(affordable, seen, 0).argmax()])
    return found


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    budgets = [budget for budget in BUDGETS if budget <= config.most]
    table = TABLE.read("search_replayed")
    seeds = range(run.seed * config.replays, (run.seed + 1) * config.replays)
    found = np.mean([replay(variant, budgets, table, seed) for seed in seeds], axis=0)
    run.keep("chosen", found)
    run.keep("epochs", [SHARES[variant] * budget * EPOCHS for budget in budgets])
    return {f"best_at_{budget}": float(score) for budget, score in zip(budgets, found, strict=True)}


# From here on it is about measuring: what is claimed, tuned and shown.

CLAIMS = [
    Claim(f"{name} at {n}", f"{text} ({n} trials)", source, f"best_at_{n}", by=0.005, **comparison)
    for n in (12, 16, 20)
    for name, text, source, comparison in (
        (
            "H1",
            "At an equal number of trials random search finds a better setting than grid search",
            "DL; Bergstra and Bengio 2012",
            {"higher": "random", "than": "grid"},
        ),
        (
            "H2",
            "Bayesian optimization needs fewer trials (half) than random search for the same score",
            "DL",
            {"equal": ("bayesian", "random_twice"), "side": "below"},
        ),
        (
            "H3",
            "Random search at twice the budget is as good as Bayesian",
            "Li et al. 2018",
            {"equal": ("random_twice", "bayesian"), "side": "below"},
        ),
        (
            "H4",
            "Hyperband reaches random search's best in a fraction (half) of its compute",
            "Li et al. 2018",
            {"equal": ("hyperband", "random_twice"), "side": "below"},
        ),
    )
]

UNITS = {f"best_at_{n}": Unit(f"chosen at {n} trials", 100, "points") for n in BUDGETS}
UNITS["chosen"] = Unit("accuracy of what was chosen", 100, "points")

RECIPE = Recipe(
    train,
    VARIANTS,
    CLAIMS,
    Config,
    smoke={"replays": 1, "most": 12},
    least={"replays": 1, "most": 4},
    table=TABLE,
    floor="best_at_12",
    units=UNITS,
    panels=(Lines("chosen", "epochs", band="interval"),),
)

if __name__ == "__main__":
    main(RECIPE)
