"""KerasTuner's searches replayed on a table of measured settings: how good is what each one chooses?

A setting is seen with one of the table's four seeds and judged by the other three. Grids come in five shapes, since a
lucky shape decides. A setting that is tried twice shows the same score, and Hyperband's promoted trials go on along the
same curve.
"""

import itertools
import math
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import partial

import keras_tuner as kt
import numpy as np
import threadpoolctl
from scipy.stats import qmc

from lab import Bars, Claim, Experiment, Lines, Run, Table, Unit
from pipelines import batches, sources
from recipes import search as recipe

# Sixteen rates from 0.0001 to 1, as evenly along their logarithm as two digits allow.
LOW_RATES = (1e-4, 1.8e-4, 3.4e-4, 6.3e-4, 0.0012, 0.0022, 0.004, 0.0074)
RATES = (*LOW_RATES, 0.014, 0.025, 0.046, 0.086, 0.16, 0.29, 0.54, 1.0)
SPACE = {"rate": RATES, "dropout": (0.0, 0.2, 0.4, 0.6), "width": (4, 8, 16, 32)}
EPOCHS = 4  # A whole trial trains for so many.
TRIALS = 20  # A search may take so many whole ones. Hyperband gets as many epochs.
SHAPES = ((5, 2, 2), (5, 4, 1), (5, 1, 4), (10, 2, 1), (10, 1, 2))  # How many values of each hyperparameter a grid has.
DOOMED = 1.5 / 10  # Below this accuracy a training is hardly better than a guess.


def measure(setting: dict, run: Run) -> dict[str, float]:
    """One entry of the table: validation accuracy after each epoch."""
    data = sources.load(run.data)
    hp = kt.HyperParameters()
    for name, value in setting.items():
        hp.Fixed(name, value)
    model = recipe.build_model(hp, data.shape, len(data.classes))
    fit = {"epochs": EPOCHS, "validation_data": batches.evaluation(data.validation), "shuffle": False, "verbose": 0}
    accuracies = model.fit(batches.training(data.train, 128, seed=run.seed), **fit).history["val_accuracy"]
    return {f"epoch_{number}": accuracy for number, accuracy in enumerate(accuracies, 1)}


TABLE = Table(measure, SPACE, seeds=(1, 2, 3, 4))


def grid_of(seed: int) -> dict[str, tuple]:
    """A whole grid: evenly spaced values of each hyperparameter, begun anywhere."""
    draw = np.random.default_rng(seed)
    chosen = {}
    for (name, values), count in zip(SPACE.items(), SHAPES[seed % len(SHAPES)], strict=True):
        places = np.arange(count) * len(values) // count
        begin = draw.integers(len(values) - places[-1])
        chosen[name] = tuple(values[place + begin] for place in places)
    return chosen


def declare(hp: kt.HyperParameters) -> None:
    """In the place of a `build_model`: the table's values, and no model."""
    for name, values in SPACE.items():
        hp.Choice(name, values)


def looked_up(table: dict, seed: int, setting: tuple, epochs: int = EPOCHS) -> tuple[float, float]:
    """What a search sees of a setting, and what counts: the mean of the other seeds at the end."""
    curves = table[setting]
    # Which seed is seen: the same for a setting all along, and in every process.
    seen = zlib.crc32(f"{seed}/{setting}".encode()) % len(curves)
    return curves[seen, epochs - 1], np.delete(curves, seen, axis=0)[:, -1].mean()


def by_tuner(tuner, table: dict, seed: int, trials: int, **settings) -> list:
    """What one of KerasTuner's tuners does, as the recipe makes it, where each training is looked up."""
    log: list[tuple] = []

    def run_trial(trial, **_):
        values = trial.hyperparameters.values
        epochs, before = values.get("tuner/epochs", EPOCHS), values.get("tuner/initial_epoch", 0)
        score, counts = looked_up(table, seed, tuple(values[name] for name in SPACE), epochs)
        log.append((epochs - before, score, counts))
        return {"val_accuracy": score}

    with tempfile.TemporaryDirectory() as folder, threadpoolctl.threadpool_limits(1):
        made = recipe.make_tuner(
            declare,
            tuner,
            trials=trials,
            epochs=EPOCHS,
            folder=folder,
            objective="val_accuracy",
            seed=1000 * seed + 1,  # KerasTuner draws with seed, seed + 1, …: neighbors would walk the same settings.
            **settings,
        )
        made.run_trial = run_trial
        made.search(verbose=0)
    return log


def by_grid(table: dict, seed: int, trials: int) -> list:
    """All of a grid, whose order makes no difference."""
    return [(EPOCHS, *looked_up(table, seed, setting)) for setting in itertools.product(*grid_of(seed).values())]


def by_sobol(table: dict, seed: int, trials: int) -> list:
    """Quasi-random search: a scrambled Sobol sequence, without the settings that it has met before."""
    points = qmc.Sobol(len(SPACE), seed=seed).random_base2(10)
    places = (points * [len(values) for values in SPACE.values()]).astype(int)
    settings = dict.fromkeys(tuple(v[i] for v, i in zip(SPACE.values(), row, strict=True)) for row in places)
    return [(EPOCHS, *looked_up(table, seed, setting)) for setting in itertools.islice(settings, trials)]


HYPERBAND = partial(by_tuner, kt.Hyperband, factor=2, hyperband_iterations=math.ceil(TRIALS * EPOCHS / 30))
# Name -> what searches, and how many whole trials' epochs it may take. A round of Hyperband's brackets costs 30 epochs.
SEARCHES: dict[str, tuple[Callable[..., list], float]] = {
    "grid": (by_grid, TRIALS),
    "random": (partial(by_tuner, kt.RandomSearch), TRIALS),
    "random_twice": (partial(by_tuner, kt.RandomSearch), 2 * TRIALS),
    "bayesian": (partial(by_tuner, kt.BayesianOptimization, num_initial_points=3), TRIALS),
    "bayesian_default": (partial(by_tuner, kt.BayesianOptimization), TRIALS),
    "sobol": (by_sobol, TRIALS),
    "hyperband": (HYPERBAND, TRIALS),
    "hyperband_half": (HYPERBAND, TRIALS / 2),
    "hyperband_third": (HYPERBAND, TRIALS / 3),
    "hyperband_quarter": (HYPERBAND, TRIALS / 4),
}
CURVES = ("random_twice", "bayesian", "bayesian_default", "sobol", "hyperband")
SHARES = ("grid_wasted", "grid_useful")
FULL_GRID = list(itertools.product(range(5), range(5), range(5)))  # As the source has it: five rates first.
VARIANTS = (*SEARCHES, *SPACE, *SHARES)


def chosen_by(log: list, budget: float) -> float:
    """The score that counts of the setting that looked best, of the trials that so many epochs pay for."""
    epochs, seen, counts = np.array(log).T
    return float(counts[np.where(epochs.cumsum() <= budget + 1e-9, seen, -1).argmax()])


def explained(table: dict, seed: int, trials: int = 100) -> dict[str, float]:
    """The share of the accuracy's variance over random trials that each hyperparameter explains by itself.

    Adjusted for the number of its values, so that one which does nothing explains nothing on average.
    """
    draw, settings = np.random.default_rng(seed), list(table)
    drawn = [settings[place] for place in draw.choice(len(settings), trials, replace=False)]
    scores = np.array([looked_up(table, seed, setting)[0] for setting in drawn])
    found = {}
    for place, name in enumerate(SPACE):
        groups = [scores[[setting[place] == value for setting in drawn]] for value in SPACE[name]]
        groups = [group for group in groups if len(group)]
        left = sum(((group - group.mean()) ** 2).sum() for group in groups) / (trials - len(groups))
        found[name] = float(1 - left / scores.var(ddof=1))
    return found


def doomed_share(table: dict, seed: int) -> float:
    """The share of a grid's trainings that stay near chance: five rates, four dropouts, four widths."""
    places = np.arange(5) * len(RATES) // 5
    begin = np.random.default_rng(seed).integers(len(RATES) - places[-1])
    grid = itertools.product([RATES[place + begin] for place in places], SPACE["dropout"], SPACE["width"])
    return float(np.mean([looked_up(table, seed, setting)[0] < DOOMED for setting in grid]))


def train(variant: str, config, run: Run) -> dict[str, float]:
    table = TABLE.read("search")
    if variant in SPACE:
        return {"explained": explained(table, run.seed)[variant]}
    if variant in SHARES:
        doomed = doomed_share(table, run.seed)
        return {"share_of_grid": doomed if variant == "grid_wasted" else 1 - doomed}
    look, trials = SEARCHES[variant]
    seeds = range(run.seed * config.replays, (run.seed + 1) * config.replays)
    logs = [look(table, seed, math.ceil(trials)) for seed in seeds]
    if variant != "grid":  # Part of a grid is none.
        limits = EPOCHS * np.arange(4, math.floor(trials) + 1, 4)
        run.keep("chosen", [float(np.mean([chosen_by(log, float(limit)) for log in logs])) for limit in limits])
        run.keep("epochs", limits.tolist())
    return {"chosen_accuracy": float(np.mean([chosen_by(log, EPOCHS * trials) for log in logs]))}


CLAIMS = [
    Claim(
        "H1",
        "At an equal number of trials random search finds a better setting than grid search",
        source="DL; Bergstra and Bengio 2012",
        metric="chosen_accuracy",
        higher="random",
        than="grid",
    ),
    Claim(
        "H2a",
        "Bayesian optimization needs fewer trials than random search: after as many it has found a better setting "
        "(KerasTuner's default, nine random trials first)",
        said="Bayesian optimization needs fewer trials than random search for the same score",
        source="DL",
        metric="chosen_accuracy",
        higher="bayesian_default",
        than="random",
    ),
    Claim(
        "H2b",
        "Bayesian optimization needs fewer trials than random search: after as many it has found a better setting "
        "(three random trials first)",
        said="Bayesian optimization needs fewer trials than random search for the same score",
        source="DL",
        metric="chosen_accuracy",
        higher="bayesian",
        than="random",
    ),
    Claim(
        "H3",
        "Random search of twice as many trials is as good as Bayesian optimization",
        source="Li et al. 2018",
        metric="chosen_accuracy",
        equal=("random_twice", "bayesian"),
        side="below",
    ),
    *(
        Claim(
            f"H4{letter}",
            f"Hyperband reaches random search's best in {share} of its epochs, if a whole trial has four epochs",
            source="ours, after Li et al. 2018",
            metric="chosen_accuracy",
            equal=(f"hyperband_{name}", "random"),
            side="below",
        )
        for letter, name, share in (("a", "half", "half"), ("b", "third", "a third"), ("c", "quarter", "a quarter"))
    ),
    Claim(
        "H5a",
        "A full grid of 5 × 5 × 5 is 125 trainings, 25 of each doomed learning rate",
        source="DL",
        asserted=len(FULL_GRID) == 125 and set(Counter(rate for rate, *_ in FULL_GRID).values()) == {25},
    ),
    Claim(
        "H5b",
        "Most of a full grid over four decades of learning rates is wasted on trainings that stay near chance",
        source="ours, on DL's example",
        metric="share_of_grid",
        higher="grid_wasted",
        than="grid_useful",
    ),
    Claim(
        "H6",
        "The learning rate matters much, dropout little: the rate explains more of the variance of the accuracy",
        source="DL",
        metric="explained",
        higher="rate",
        than="dropout",
    ),
    Claim(
        "P1a",
        "Quasi-random search (Sobol) finds a better setting than random search of as many trials",
        source="TP",
        metric="chosen_accuracy",
        higher="sobol",
        than="random",
    ),
    Claim(
        "P1b",
        "Quasi-random search (Sobol) of twenty trials is as good as Bayesian optimization",
        source="TP",
        metric="chosen_accuracy",
        equal=("sobol", "bayesian"),
        side="below",
    ),
]

UNITS = {
    "chosen_accuracy": Unit("accuracy of what was chosen", 100, "points"),
    "chosen": Unit("accuracy of what was chosen", 100, "points"),
    "explained": Unit("variance explained", 100, "points", 0),
    "share_of_grid": Unit("share of a grid's trainings", 100, "points", 0),
}

EXPERIMENT = Experiment(
    recipe,
    train=train,
    variants=VARIANTS,
    claims=CLAIMS,
    flags={"replays": 5},
    smoke={"replays": 1},
    least={"replays": 1},
    table=TABLE,
    floor="",
    units=UNITS,
    panels=(Lines("chosen", "epochs", variants=CURVES), Bars("chosen_accuracy")),
    answer="Use Bayesian optimization: after 20 trials the setting it chooses scores "
    "{chosen_accuracy.bayesian_default - chosen_accuracy.random} above random search's. Search the learning rate "
    "first: it explains {explained.rate} of the variance in accuracy.",
    rests_on=("H2a", "H6"),
    advice=[
        "**Use Bayesian optimization, or twice as many random trials.** After 20 trials KerasTuner's default chooses a "
        "setting of {chosen_accuracy.bayesian_default}, and random search one of {chosen_accuracy.random}. After 40 "
        "trials random search reaches {chosen_accuracy.random_twice}.",
        "**Search the learning rate first.** It explains {explained.rate} of the variance of the accuracy, and dropout "
        "{explained.dropout}.",
        "**Do not expect Hyperband to save most of the work.** With a third of the epochs it ends "
        "{chosen_accuracy.random - chosen_accuracy.hyperband_third} below random search. A whole trial had four epochs "
        "here; Hyperband is made for longer ones.",
        "**Choose a grid's rates with care.** Over four decades, {share_of_grid.grid_wasted} of its trainings stay "
        "near chance. Whether random search of as many trials chooses better is undecided.",
    ],
)
