"""What each source of luck does, what the best of ten seeds gains, how often one run errs, what short runs tell."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import optimizers

from lab import Bars, Claim, Experiment, Run, Unit
from pipelines import batches, sources
from recipes import seeds as recipe


class Luck(NamedTuple):
    """A seed for each source."""

    split: int
    weights: int
    order: int
    augmentation: int


SOURCES = Luck._fields
FAR = 1000  # Seeds of a run are so far apart that no other run has them.
# A network with a quarter fewer filters, and plain SGD in the place of momentum at the rate that was best for it.
NARROWER = {"build_model": partial(recipe.build_model, filters=(18, 48))}
MOMENTUM = {"optimizer": partial(optimizers.SGD, momentum=0.9, nesterov=True), "rate": 0.18}
PLAIN_SGD = {"optimizer": optimizers.SGD, "rate": 0.56}
PAIRS: dict[str, tuple[dict, dict]] = {"momentum": (MOMENTUM, PLAIN_SGD), "wider": ({}, NARROWER)}
# Settings of one kind that a short run is to choose from.
CHOICES: dict[str, tuple[dict, ...]] = {
    "warmup": tuple({"warmup": share} for share in (0.0, 0.05, 0.2, 0.5)),
    "architecture": tuple(
        {"build_model": partial(recipe.build_model, **how)}
        for how in ({}, {"filters": (48, 128)}, {"kernel": 5}, {"filters": (24, 64, 128)})
    ),
    "rate": tuple({"rate": rate} for rate in (0.002, 0.006, 0.018, 0.054)),
    "regularization": tuple(
        {"build_model": partial(recipe.build_model, dropout=dropout)} for dropout in (0.0, 0.2, 0.4, 0.6)
    ),
}
SPACE = {"rate": (1e-4, 1.0), "dropout": (0.0, 0.2, 0.4, 0.6), "width": (0.5, 1, 2)}


def lucky(seed: int) -> Luck:
    """All sources at one seed, as `keras.utils.set_random_seed` has it."""
    return Luck(*[seed] * len(SOURCES))


class Trainer:
    """Trains on a run's images, and scores all models at its end: from the first score on nothing can be trained."""

    def __init__(self, config: Any, run: Run) -> None:
        self.config, self.run, self.begun = config, run, False

    def train(self, luck: Luck, **how: Any) -> tuple[keras.Model, float]:
        """A model, and its validation accuracy after the last epoch."""
        data = sources.load(dataclasses.replace(self.run.data, split_seed=luck.split))
        few = np.random.default_rng(luck.split).permutation(len(data.train))[: self.config.images]
        train_set = batches.training(data.train.take(few), self.config.batch_size, seed=luck.order, augment=False)
        # TensorBoard gets the first of many trainings.
        callbacks = [keras.callbacks.TerminateOnNaN()] if self.begun else self.run.callbacks(data)
        self.begun = True
        model = recipe.train(
            train_set, None, len(data.classes), weights_seed=luck.weights,
            augmentation_seed=luck.augmentation, callbacks=callbacks, **{"epochs": self.config.epochs, **how},
        )  # fmt: skip
        return model, model.evaluate(batches.evaluation(data.validation), verbose=0, return_dict=True)["accuracy"]

    def scores(self, models: Sequence[keras.Model]) -> np.ndarray:
        """Test accuracy of each."""
        test_set = batches.evaluation(self.run.open_test_set(sources.load(self.run.data)))
        return np.array([model.evaluate(test_set, verbose=0, return_dict=True)["accuracy"] for model in models])


def spread_of(source: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """The spread over runs that differ in one source only."""
    lucks = [lucky(seed)._replace(**{source: seed + number}) for number in range(trainer.config.runs)]
    found = trainer.scores([trainer.train(luck)[0] for luck in lucks])
    return {"log_luck": math.log(max(found.std(ddof=1), 1e-4)), "mean_accuracy": float(found.mean())}


def everything(trainer: Trainer, seed: int) -> dict[str, float]:
    """The spread over runs that differ in all, and how far the best of them is above their mean."""
    found = trainer.scores([trainer.train(lucky(seed + number))[0] for number in range(trainer.config.of_which)])
    spread = math.log(max(found.std(ddof=1), 1e-4))
    return {"log_luck": spread, "mean_accuracy": float(found.mean()), "gain": float(found.max() - found.mean())}


def pair(name: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """How far the better of two is ahead on average, and in how many pairs of one run each it is not."""
    lucks = [lucky(seed + number) for number in range(trainer.config.of_which)]
    models = [trainer.train(luck, **how)[0] for how in PAIRS[name] for luck in lucks]
    better, worse = trainer.scores(models).reshape(2, -1)
    wrong = np.mean((better < worse) + (better == worse) / 2)
    return {"gain": float(np.mean(better - worse)), "wrong": float(wrong)}


def searched(trainer: Trainer, seed: int) -> keras.Model:
    """The model of a random search that is best on validation images."""
    draws = np.random.default_rng(seed)
    low, high = map(math.log, SPACE["rate"])
    found = []
    for number in range(trainer.config.trials):
        rate = math.exp(draws.uniform(low, high))
        dropout, width = draws.choice(SPACE["dropout"]), draws.choice(SPACE["width"])
        filters = (round(24 * width), round(64 * width))
        build_model = partial(recipe.build_model, filters=filters, dropout=float(dropout))
        found.append(trainer.train(lucky(seed + number), rate=rate, build_model=build_model))
    return max(found, key=lambda one: one[1])[0]


def apart(name: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """How far two searches of the same space, or two seeds of one setting, end from each other."""
    lucks = (seed, seed + FAR // 2)
    if name == "two_searches":
        models = [searched(trainer, one) for one in lucks]
    else:
        models = [trainer.train(lucky(one))[0] for one in lucks]
    one, other = trainer.scores(models)
    return {"apart": float(abs(one - other))}


def lost_by_a_short_run(kind: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """What is lost if runs of a quarter of the length choose the setting, and not whole ones.

    What counts is the test accuracy of whole runs at another seed.
    """
    whole = trainer.config.whole

    def chosen(epochs: int) -> dict:
        return max(CHOICES[kind], key=lambda how: trainer.train(lucky(seed), epochs=epochs, **how)[1])

    short, long = chosen(max(1, whole // 4)), chosen(whole)
    if short is long:
        return {"lost": 0.0, "same": 1.0}
    models = [trainer.train(lucky(seed + FAR // 2), epochs=whole, **how)[0] for how in (long, short)]
    by_long, by_short = trainer.scores(models)
    return {"lost": float(by_long - by_short), "same": 0.0}


def done(variant: str, config: Any, run: Run) -> dict[str, float]:
    trainer, seed = Trainer(config, run), FAR * run.seed
    if variant == "nothing":
        return {"gain": 0.0, "wrong": 0.0, "lost": 0.0}
    if variant in SOURCES:
        return spread_of(variant, trainer, seed)
    if variant == "everything":
        return everything(trainer, seed)
    if variant in PAIRS:
        return pair(variant, trainer, seed)
    if variant.startswith("two_"):
        return apart(variant, trainer, seed)
    return lost_by_a_short_run(variant.removeprefix("short_"), trainer, seed)


def short_run(letter, kind, words, holds, source="TP"):
    """A claim that a short run chooses as well as a whole one, or worse."""
    said = "What wins in a run of a quarter of the length wins in the whole one: warm-up and architecture do, "
    said += "rate and regularization less"
    if holds:
        text = f"A run of a quarter of the length chooses {words} as well as a whole run"
        return Claim(f"P6{letter}", text, source, "lost", equal=(f"short_{kind}", "nothing"), side="above", said=said)
    text = f"A run of a quarter of the length chooses a worse {words} than a whole run"
    return Claim(f"P6{letter}", text, source, "lost", higher=f"short_{kind}", than="nothing", said=said)


CLAIMS = [
    Claim(
        "N1a",
        "The best of ten seeds beats their mean by a point or more",
        source="ours, on Picard 2021",
        metric="gain",
        higher="everything",
        than="nothing",
        at_least=0.01,
    ),
    Claim(
        "N1b",
        "The best of ten seeds beats their mean by as much as momentum adds to plain SGD",
        source="ours, on Picard 2021",
        metric="gain",
        equal=("everything", "momentum"),
        side="below",
    ),
    Claim(
        "N2",
        "Initial weights, the order of the images, augmentation and the split each contribute alike to the spread",
        source="Bouthillier et al. 2021",
        metric="log_luck",
        equal=SOURCES,
    ),
    Claim(
        "N3a",
        "One run each picks the worse of two networks, one a third wider, at least one time in ten",
        source="ours, on Bouthillier et al. 2021",
        metric="wrong",
        higher="wider",
        than="nothing",
        at_least=0.1,
    ),
    Claim(
        "N3b",
        "One run each picks plain SGD, not momentum, at least one time in ten",
        source="ours, on Bouthillier et al. 2021",
        metric="wrong",
        higher="momentum",
        than="nothing",
        at_least=0.1,
    ),
    Claim(
        "P8",
        "Two searches of 20 trials differ by more than two seeds of one setting",
        source="TP",
        metric="apart",
        higher="two_searches",
        than="two_seeds",
    ),
    short_run("a", "warmup", "the length of the warm-up", holds=True),
    short_run("b", "architecture", "the architecture", holds=True),
    short_run("c", "rate", "learning rate", holds=False),
    short_run("d", "regularization", "dropout rate", holds=False),
]

VARIANTS = (
    *SOURCES, "everything", *PAIRS, "two_searches", "two_seeds", *(f"short_{kind}" for kind in CHOICES), "nothing",
)  # fmt: skip

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    # Images of a training; runs for each source of luck, and for all; trials of a search; epochs of a whole run.
    flags={"images": 4000, "batch_size": 64, "epochs": 5, "runs": 6, "of_which": 10, "trials": 20, "whole": 20},
    smoke={"images": 300, "batch_size": 50, "epochs": 1, "runs": 2, "of_which": 2, "trials": 2, "whole": 4},
    least={"images": 100, "runs": 2, "of_which": 2, "trials": 1, "whole": 2},
    floor="",
    left_out=[*PAIRS, "two_searches", "two_seeds", *(f"short_{kind}" for kind in CHOICES)],
    units={
        "log_luck": Unit("spread of test accuracy (log e)", name="e-folds", digits=3),
        "mean_accuracy": Unit("test accuracy, mean", 100, "points"),
        "gain": Unit("test accuracy gained", 100, "points"),
        "wrong": Unit("share of pairs that pick the worse", 100, "points", 0),
        "apart": Unit("test accuracies apart", 100, "points"),
        "lost": Unit("test accuracy lost", 100, "points"),
        "same": Unit("share of the same choice", 100, "points", 0),
    },
    panels=(Bars("log_luck", (*SOURCES, "everything")), Bars("lost", tuple(f"short_{kind}" for kind in CHOICES))),
)
