"""Searches replayed on a table of measured settings: how good is what each one chooses?"""

import numpy as np
from scipy.special import comb

from lab import Bars, Claim, Experiment, Lines, Run, Unit
from recipes import search_replayed as recipe

VARIANTS = ("grid", "random", "bayesian", "hyperband", "random_twice")


def random_reaches(table: dict, most: int = 128) -> np.ndarray:
    """The score that counts, of what random search is expected to choose after 1, 2, … trials."""
    scores, draw = np.stack(list(table.values()))[:, :, -1], np.random.default_rng(0)
    settings, seeds = scores.shape
    found = []
    for _ in range(500):
        seen = scores[np.arange(settings), draw.integers(seeds, size=settings)]
        counts = ((scores.sum(axis=1) - seen) / (seeds - 1))[np.argsort(-seen)]
        found.append(counts)
    # Of n different settings the best is the one in place r, from 0, if the others are behind it.
    n, r = np.arange(1, most + 1)[:, None], np.arange(settings)
    chance = comb(settings - 1 - r, n - 1) / comb(settings, n)
    return np.maximum.accumulate(chance @ np.mean(found, axis=0))


def train(variant: str, config: recipe.Config, run: Run) -> dict[str, float]:
    table = recipe.TABLE.read("search_replayed")
    seeds = range(run.seed * config.replays, (run.seed + 1) * config.replays)
    found = np.array([recipe.replay(variant, table, seed) for seed in seeds])
    if variant != "grid":  # Part of a grid is none.
        run.keep("chosen", found.mean(axis=0).tolist())
        run.keep("epochs", (recipe.EPOCHS * np.arange(4, recipe.budget(variant) + 1, 4)).tolist())
    reaches = random_reaches(table)
    needed = np.interp(found[:, -1], reaches, np.arange(1, len(reaches) + 1))
    return {
        "chosen_accuracy": float(found[:, -1].mean()),
        "doublings": float(np.log2(needed).mean()),
    }


CLAIMS = [
    Claim(
        "H1",
        "At an equal number of trials (20) random search finds a better setting than grid search",
        said="At an equal number of trials random search finds a better setting than grid search",
        source="DL; Bergstra and Bengio 2012",
        metric="doublings",
        higher="random",
        than="grid",
    ),
    Claim(
        "H2",
        "For what Bayesian optimization finds in 20 trials random search needs a quarter more and over",
        said="Bayesian optimization needs fewer trials than random search for the same score",
        source="DL",
        metric="doublings",
        higher="bayesian",
        than="random",
    ),
    Claim(
        "H3",
        "Random search of 40 trials is as good as Bayesian optimization of 20",
        said="Random search at twice the budget is as good as Bayesian",
        source="Li et al. 2018",
        metric="doublings",
        equal=("bayesian", "random_twice"),
        side="above",
    ),
    Claim(
        "H4",
        "For what Hyperband finds in the epochs of 20 trials random search needs a quarter more and over",
        said="Hyperband reaches random search's best in a fraction of its compute",
        source="Li et al. 2018",
        metric="doublings",
        higher="hyperband",
        than="random",
    ),
]

UNITS = {
    "chosen_accuracy": Unit("accuracy of what was chosen", 100, "points"),
    "doublings": Unit("doublings of one random trial", 1, "doublings"),
}
UNITS["chosen"] = Unit("accuracy of what was chosen", 100, "points")

EXPERIMENT = Experiment(
    recipe,
    train=train,
    variants=VARIANTS,
    claims=CLAIMS,
    config=recipe.Config,
    smoke={"replays": 1},
    least={"replays": 1},
    table=recipe.TABLE,
    floor="chosen_accuracy",
    units=UNITS,
    panels=(Lines("chosen", "epochs", variants=VARIANTS[2:]), Bars("doublings")),
    first_seed=101,
    numbers={
        "after 20 trials": "",
        "(50.7 %)": "chosen_accuracy: bayesian",
        "(49.9 %)": "chosen_accuracy: random",
        "0.9 doublings above": "doublings: bayesian - random",
        "after 40 is": "",
        "stood 0.7 above": "doublings: random_twice - random",
        "(50.9 %, and": "chosen_accuracy: random_twice",
        "(50.3 %)": "chosen_accuracy: hyperband",
        "gained 0.2 doublings": "doublings: hyperband - random",
        "(49.1 %)": "chosen_accuracy: grid",
        "0.4 doublings behind": "doublings: random - grid",
    },
)
