"""Which search finds a good setting in the fewest epochs: grid, random, Bayesian or Hyperband?

KerasTuner's four tuners look for a learning rate, a dropout and a width. A handful of trained trials decides nothing,
so each is also replayed many times on a table of trainings made beforehand (`--tune`): a setting is seen with one of
the table's seeds and judged by the other. Intervals tell the searches' luck on this table, not that of the table.

The table flatters grids (few values leave random search little that is new) and lets Hyperband's promoted trials lose
nothing, but their four epochs leave little to save. It hurts Bayesian optimization, which buys some settings twice.

Use it when    a training is cheap enough to be run ten times or more.
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
from recipes.harness import Claim, Factorial, Lines, Recipe, ResumableGridSearch, Run, TrialBoard, Unit

RATES = tuple(float(f"{10 ** (-4 + 4 * i / 15):.2g}") for i in range(16))
SPACE = {"rate": RATES, "dropout": (0.0, 0.2, 0.4, 0.6), "width": (8, 16, 32, 64)}
EPOCHS = 4  # Of a whole trial.
LIVE_TRIALS, LIVE_EPOCHS = 4, 2
# In whole trials; Hyperband gets as many epochs. Beside them the grid of so many trials: how many values of each.
BUDGETS = {4: (4, 1, 1), 8: (4, 2, 1), 12: (6, 2, 1), 16: (4, 2, 2), 20: (5, 2, 2)}
TUNERS = (ResumableGridSearch, kt.RandomSearch, kt.RandomSearch, kt.BayesianOptimization, kt.Hyperband)
VARIANTS = dict(zip(("grid", "random", "random_twice", "bayesian", "hyperband"), TUNERS, strict=True))
SHARE = {**dict.fromkeys(VARIANTS, 1), "random_twice": 2}  # How many times each budget it gets.


@dataclass(frozen=True)
class Config:
    replays: int = 4  # Of each search, at each seed.
    most: int = 20  # Trials of the largest budget that is replayed.
    live: int = 1  # At how many seeds trials are trained, too.


def build_model(setting: dict) -> keras.Model:
    """Map images uint8 (batch, 32, 32, 3) to logits float32 (batch, 10)."""
    stack = [keras.Input((32, 32, 3), dtype="uint8"), layers.Rescaling(1 / 64, offset=-2)]
    for filters, strides in ((setting["width"], 2), (2 * setting["width"], 1)):
        stack += [layers.Conv2D(filters, 3, strides, padding="same", activation="relu"), layers.MaxPooling2D()]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dropout(setting["dropout"]), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(setting["rate"]), loss, metrics=["accuracy"])
    return model


def fit_arguments(data: cifar10.Data, seed: int) -> dict:
    feed = batches.training(data.train, 128, seed=seed)
    return {"x": feed, "validation_data": batches.evaluation(data.validation), "shuffle": False}


def measure(setting: dict, run: Run) -> dict[str, float]:
    history = build_model(setting).fit(epochs=EPOCHS, verbose=0, **fit_arguments(cifar10.load(run.data), run.seed))
    return {f"epoch_{number}": accuracy for number, accuracy in enumerate(history.history["val_accuracy"], 1)}


def make_tuner(how, variant: str, trials: int, epochs: int, seed: int, folder) -> kt.Tuner:
    """A tuner with `how`'s run_trial, for at most trials × epochs; one that was killed goes on in the same folder."""
    space, generator = kt.HyperParameters(), np.random.default_rng(seed)
    for place, (name, values) in enumerate(SPACE.items()):
        if variant == "grid":  # Evenly spaced values, begun anywhere.
            places = np.arange(BUDGETS[trials][place]) * len(values) // BUDGETS[trials][place]
            values = tuple(np.array(values)[places + generator.integers(len(values) - places[-1])].tolist())
        space.Choice(name, values)
    rounds = max(1, round(trials * epochs / {2: 7, 4: 30}.get(epochs, np.inf)))  # One of all brackets costs so much.
    halving = {"max_epochs": epochs, "factor": 2, "hyperband_iterations": rounds}
    # KerasTuner draws its values with seed, seed + 1, …: searches with neighbouring seeds would walk the same settings.
    limits = {"hyperparameters": space, "directory": folder, "max_consecutive_failed_trials": 999, "seed": 1000 * seed}
    limits |= halving if variant == "hyperband" else {"max_trials": trials}
    limits |= {"num_initial_points": 2} if (how, variant) == (Live, "bayesian") else {}  # Else all would be random.
    return type(variant, (how, VARIANTS[variant]), {})(build_model if how is Live else None, "val_accuracy", **limits)


class Live(kt.Tuner):  # Trains a trial, with a seed of its own, which its line in HParams tells.
    def run_trial(self, trial, data: cifar10.Data, seed: int, log: bool = True, **fit):
        seed = zlib.crc32(f"{seed}/{trial.trial_id}".encode())
        keras.utils.set_random_seed(seed)
        board = TrialBoard(f"{self.directory}/{trial.trial_id}", {**trial.hyperparameters.values, "seed": seed})
        fit |= fit_arguments(data, seed) | {"callbacks": [board] * log}
        (history,) = super().run_trial(trial, **fit)
        if not np.isfinite(history.history["loss"]).all():
            raise kt.errors.FailedTrialError("The loss is not finite.")
        return [history]


class Replayed(kt.Tuner):  # Looks a trial up. A setting keeps its seed, also where Hyperband trains it further.
    def run_trial(self, trial, table: dict, seed: int, log: list, **_):
        values = trial.hyperparameters.values
        before, epochs = values.get("tuner/initial_epoch", 0), values.get("tuner/epochs", EPOCHS)
        curves = table[setting := tuple(values[name] for name in SPACE)]
        seen = zlib.crc32(f"{seed}/{setting}".encode()) % len(curves)
        log.append((epochs - before, curves[seen, epochs - 1], np.delete(curves, seen, axis=0)[:, -1].mean()))
        return {"val_accuracy": curves[seen, epochs - 1]}


def replay(variant: str, budgets: list[int], table: dict, seed: int) -> list[float]:
    """For each budget the score that counts of the setting that looked best to a search of the table."""
    found: list[float] = []
    for budget in budgets:
        if variant == "grid" or not found:  # A grid is laid for its budget; other searches are cut short.
            log: list[tuple] = []
            with tempfile.TemporaryDirectory() as folder:
                trials = budget if variant == "grid" else SHARE[variant] * max(budgets)
                tuner = make_tuner(Replayed, variant, trials, EPOCHS, seed, folder)
                tuner.search(table=table, seed=seed, log=log, verbose=0)
            spent, seen, counts = np.array(log).T
        found.append(counts[np.where(spent.cumsum() <= SHARE[variant] * budget * EPOCHS, seen, 0).argmax()])
    return found


def train(variant: str, config: Config, run: Run) -> dict[str, float]:
    budgets = [budget for budget in BUDGETS if budget <= config.most]
    seeds, table = range(run.seed * config.replays, (run.seed + 1) * config.replays), TUNING.read("search")
    run.keep("chosen", found := np.mean([replay(variant, budgets, table, seed) for seed in seeds], axis=0))
    run.keep("epochs", [SHARE[variant] * budget * EPOCHS for budget in budgets])
    metrics = {f"best_at_{budget}": float(score) for budget, score in zip(budgets, found, strict=True)}
    if run.seed > config.live or SHARE[variant] > 1:
        return metrics
    folder = run.folder.with_name(f"{run.folder.name}-trials")  # It outlives a run that is killed.
    tuner = make_tuner(Live, variant, LIVE_TRIALS, LIVE_EPOCHS, run.seed, folder)
    tuner.search(data=cifar10.load(run.data), seed=run.seed, epochs=LIVE_EPOCHS, log=run.logging, verbose=0)
    scores = [t.score if t.status == "COMPLETED" else np.nan for _, t in sorted(tuner.oracle.trials.items())]
    run.keep("trial_score", scores)
    if np.isnan(scores).all():
        raise RuntimeError(f"None of the live trials could be trained; {folder} says why.")
    return metrics | {"live_best": float(np.nanmax(scores)), "live_failed": float(np.isnan(scores).sum())}


CLAIMS = [
    Claim(f"{name} at {n}", f"{text} ({n} trials)", source, f"best_at_{n}", by=0.005, **comparison)
    for n in (12, 16, 20) for name, text, source, comparison in (
        ("H1", "At an equal number of trials random search finds a better setting than grid search",
         "DL; Bergstra and Bengio 2012", {"higher": "random", "than": "grid"}),
        ("H2", "Bayesian optimization needs fewer trials (half) than random search for the same score", "DL",
         {"equal": ("bayesian", "random_twice"), "side": "below"}),
        ("H3", "Random search at twice the budget is as good as Bayesian", "Li et al. 2018",
         {"equal": ("random_twice", "bayesian"), "side": "below"}),
        ("H4", "Hyperband reaches random search's best in a fraction (half) of its compute", "Li et al. 2018",
         {"equal": ("hyperband", "random_twice"), "side": "below"}),
    )] + [Claim("H5", "A full grid of 5 × 5 × 5 is 125 trainings", source="DL", asserted=5 * 5 * 5 == 125)]  # fmt: skip

TUNING = Factorial(measure, SPACE, seeds=(1, 2))
UNITS = {f"best_at_{n}": Unit(f"chosen at {n} trials", 100, "points") for n in BUDGETS}
UNITS |= {"chosen": Unit("accuracy of what was chosen", 100, "points"), "live_best": Unit("best live", 100, "points")}
UNITS |= {"live_failed": Unit("failed live trials", digits=0)}
PANELS = (Lines("chosen", "epochs", band="interval"),)
SMOKE = {"replays": 1, "most": 12, "live": 10}
RECIPE = Recipe(train, VARIANTS, CLAIMS, Config, SMOKE, table=TUNING, floor="best_at_12", units=UNITS, panels=PANELS)

if __name__ == "__main__":
    RECIPE.main()
