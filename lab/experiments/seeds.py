"""What each source of luck does, what the best of ten seeds gains, how often one run errs, what short runs tell."""

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import optimizers

from lab import Bars, Claim, Experiment, Objective, Run, Tuning, Unit, half_decades
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
# First guesses of the peak learning rate of four ways to train: none is tuned yet.
RATES = {"plain": 0.018, "narrower": 0.018, "momentum": 0.18, "sgd": 0.56}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "narrower": {"build_model": partial(recipe.build_model, filters=(18, 48))},
    "momentum": {"optimizer": partial(optimizers.SGD, momentum=0.9, nesterov=True)},
    "sgd": {"optimizer": optimizers.SGD},
}
PAIRS = {"wider": ("plain", "narrower"), "with_momentum": ("momentum", "sgd")}
# Settings of one kind that a short run is to choose from.
CHOICES: dict[str, tuple[dict, ...]] = {
    # Of 186 steps in a short run and 744 in a whole one.
    "warmup": tuple({"warmup_steps": steps} for steps in (0, 20, 60, 120)),
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
        # A bootstrap: without replacement two draws would share half of their images, and differ too little.
        few = np.random.default_rng(luck.split).choice(len(data.train), self.config.images)
        train_set = batches.training(data.train.take(few), self.config.batch_size, seed=luck.order, augment=False)
        # TensorBoard gets the first of many trainings.
        callbacks = [keras.callbacks.TerminateOnNaN()] if self.begun else self.run.callbacks(data)
        self.begun = True
        model = recipe.train(
            train_set, None, len(data.classes), weights_seed=luck.weights,
            augmentation_seed=luck.augmentation, callbacks=callbacks,
            **{"epochs": self.config.epochs, "rate": RATES["plain"], **how},
        )  # fmt: skip
        return model, model.evaluate(batches.evaluation(data.validation), verbose=0, return_dict=True)["accuracy"]

    def correct(self, models: Sequence[keras.Model]) -> np.ndarray:
        """Which test images each model classifies correctly: bool (models, images)."""
        test = self.run.open_test_set(sources.load(self.run.data))
        feed = batches.evaluation(test)
        return np.array([model.predict(feed, verbose=0).argmax(axis=1) == test.labels for model in models])


def spread(correct: np.ndarray) -> dict[str, float]:
    """The standard deviation of accuracies, and what share of its square is images that went the other way by chance.

    That share would vanish with more test images.
    """
    found = correct.mean(axis=1)
    variance = max(float(found.var(ddof=1)), 1e-8)
    by_image = float(correct.var(axis=0, ddof=1).sum()) / correct.shape[1] ** 2
    return {
        "log_luck": math.log(variance) / 2,
        "of_images": min(1.0, by_image / variance),
        "mean_accuracy": float(found.mean()),
    }


def spread_of(source: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """The spread over runs that differ in one source only."""
    lucks = [lucky(seed)._replace(**{source: seed + number}) for number in range(trainer.config.runs)]
    return spread(trainer.correct([trainer.train(luck)[0] for luck in lucks]))


def everything(trainer: Trainer, seed: int) -> dict[str, float]:
    """The spread over runs that differ in all but their images, and how far the best of them is above their mean.

    On other images: the best on each half of the test images, by its accuracy on the other half.
    """
    lucks = [lucky(seed + number)._replace(split=seed) for number in range(trainer.config.runs)]
    correct = trainer.correct([trainer.train(luck)[0] for luck in lucks])
    found, halves = correct.mean(axis=1), (correct[:, ::2].mean(axis=1), correct[:, 1::2].mean(axis=1))
    elsewhere = [other[one.argmax()] - other.mean() for one, other in (halves, halves[::-1])]
    gains = {"gain": float(found.max() - found.mean()), "gain_elsewhere": float(np.mean(elsewhere))}
    return spread(correct) | gains


def pair(name: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """How far the better of two is ahead on average, and in how many pairs of one run each it is not."""
    lucks = [lucky(seed + number) for number in range(trainer.config.runs)]
    models = [trainer.train(luck, **WAYS[way], rate=RATES[way])[0] for way in PAIRS[name] for luck in lucks]
    better, worse = trainer.correct(models).mean(axis=1).reshape(2, -1)
    wrong = np.mean((better < worse) + (better == worse) / 2)
    return {"gain": float(np.mean(better - worse)), "wrong": float(wrong)}


def searched(trainer: Trainer, seed: int) -> keras.Model:
    """The model of a random search that is best on validation images."""
    draws = np.random.default_rng(seed)
    low, high = map(math.log, SPACE["rate"])
    best: tuple[Any, float] = (None, -1.0)
    for number in range(trainer.config.trials):
        rate = math.exp(draws.uniform(low, high))
        dropout, width = draws.choice(SPACE["dropout"]), draws.choice(SPACE["width"])
        filters = (round(24 * width), round(64 * width))
        build_model = partial(recipe.build_model, filters=filters, dropout=float(dropout))
        # All trials of a search have the same images.
        luck = lucky(seed + number)._replace(split=seed)
        found = trainer.train(luck, rate=rate, build_model=build_model)
        best = max(best, found, key=lambda one: one[1])
    return best[0]


def apart(name: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """How far two searches of the same space, or two seeds of one setting, end from each other."""
    lucks = (seed, seed + FAR // 2)
    if name == "two_searches":
        models = [searched(trainer, one) for one in lucks]
    else:
        models = [trainer.train(lucky(one))[0] for one in lucks]
    one, other = trainer.correct(models).mean(axis=1)
    return {"apart": float(abs(one - other))}


def arguments_of(how: dict, epochs: int, config: Any) -> dict:
    """Arguments of `train` for that many epochs. The same warm-up steps are a larger share of a shorter run."""
    if "warmup_steps" not in how:
        return {"epochs": epochs, **how}
    return {"epochs": epochs, "warmup": min(1.0, how["warmup_steps"] / (epochs * (config.images // config.batch_size)))}


def by_a_short_run(kind: str, trainer: Trainer, seed: int) -> dict[str, float]:
    """What is lost if runs of a quarter of the length choose the setting, and what they save against any choice.

    `saved_whole` is what whole runs save: where it is nothing, there was nothing to choose. What counts is the test
    accuracy of whole runs at another seed.
    """
    config, whole = trainer.config, trainer.config.whole

    def chosen(epochs: int) -> int:
        reached = [trainer.train(lucky(seed), **arguments_of(how, epochs, config))[1] for how in CHOICES[kind]]
        return int(np.argmax(reached))

    short, long = chosen(max(1, whole // 4)), chosen(whole)
    later = lucky(seed + FAR // 2)
    models = [trainer.train(later, **arguments_of(how, whole, config))[0] for how in CHOICES[kind]]
    found = trainer.correct(models).mean(axis=1)
    saved = {"saved": float(found[short] - found.mean()), "saved_whole": float(found[long] - found.mean())}
    return {"lost": float(found[long] - found[short])} | saved


def alone(way: str, trainer: Trainer, config: Any, run: Run) -> dict[str, float]:
    """One training, which `tune` finds the rate of."""
    rate = RATES[way] if config.rate is None else config.rate
    model, reached = trainer.train(lucky(run.seed), **WAYS[way], rate=rate)
    correct = trainer.correct([model])
    return {"validation_accuracy": float(reached), "mean_accuracy": float(correct.mean())}


def done(variant: str, config: Any, run: Run) -> dict[str, float]:
    trainer, seed = Trainer(config, run), FAR * run.seed
    if variant == "nothing":
        return dict.fromkeys(("gain", "gain_elsewhere", "wrong", "lost", "saved", "saved_whole"), 0.0)
    if variant in WAYS:
        return alone(variant, trainer, config, run)
    if variant in SOURCES:
        return spread_of(variant, trainer, seed)
    if variant == "everything":
        return everything(trainer, seed)
    if variant in PAIRS:
        return pair(variant, trainer, seed)
    if variant.startswith("two_"):
        return apart(variant, trainer, seed)
    return by_a_short_run(variant.removeprefix("short_"), trainer, seed)


SHORT = "What wins in a run of a quarter of the length wins in the whole one: warm-up and architecture do, "
SHORT += "rate and regularization less"
WORDS = {
    "warmup": "the length of the warm-up",
    "architecture": "the architecture",
    "rate": "the learning rate",
    "regularization": "the dropout rate",
}


def as_good(letter, kind):
    text = f"A run of a quarter of the length chooses {WORDS[kind]} as well as a whole run"
    both = f"short_{kind}", "nothing"
    return Claim(f"P6{letter}", text, "TP", "lost", equal=both, side="above", said=SHORT, exact=True)


def worse(letter, kind):
    text = f"A run of a quarter of the length chooses {WORDS[kind]} less well than a whole run"
    return Claim(
        f"P6{letter}", text, "ours, on TP", "lost", higher=f"short_{kind}", than="nothing", said=SHORT, exact=True
    )


def better_than_any(letter, kind):
    text = f"A run of a quarter of the length chooses {WORDS[kind]} better than chance"
    return Claim(f"P6{letter}", text, "ours", "saved", higher=f"short_{kind}", than="nothing", exact=True)


def worth_choosing(letter, kind):
    text = f"A whole run chooses {WORDS[kind]} better than chance, so that there is something to choose"
    return Claim(
        f"P6{letter}", text, "ours", "saved_whole", higher=f"short_{kind}", than="nothing", exact=True, family="control"
    )


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
        "The best of ten seeds beats their mean by as much as momentum adds to plain SGD, or more",
        source="ours, on Picard 2021",
        metric="gain",
        higher="everything",
        than="with_momentum",
        at_least=0.0,
        said="The best of ten seeds beats their mean by as much as a well-known technique is worth",
    ),
    Claim(
        "N1c",
        "The best of ten seeds is above their mean on other test images too",
        source="ours",
        metric="gain_elsewhere",
        higher="everything",
        than="nothing",
    ),
    Claim(
        "N2",
        "Initial weights, the order of the images, augmentation and which images are trained on each contribute alike "
        "to the spread",
        source="ours",
        metric="log_luck",
        equal=SOURCES,
    ),
    Claim(
        "N2a",
        "Initial weights cause at most half of the variance that the choice of training images causes",
        source="Bouthillier et al. 2021",
        metric="log_luck",
        lower="weights",
        than="split",
        at_least=math.log(2) / 2,
    ),
    Claim(
        "N2b",
        "Initial weights and the order of the images contribute alike to the spread",
        source="Bouthillier et al. 2021",
        metric="log_luck",
        equal=("weights", "order"),
    ),
    Claim(
        "N3a",
        "A network that is a third wider ends higher, on average",
        source="ours",
        metric="gain",
        higher="wider",
        than="nothing",
    ),
    Claim(
        "N3b",
        "One run each picks the narrower one of these two at least one time in ten",
        source="ours, on Bouthillier et al. 2021",
        metric="wrong",
        higher="wider",
        than="nothing",
        at_least=0.1,
        said="A comparison of one run each gets the better of two variants wrong",
    ),
    Claim(
        "P8",
        "Two searches of 20 trials, over four decades of rates, four dropouts and three widths, differ by more than "
        "two seeds of one setting",
        said="Two searches of 20 trials differ by more than two seeds of one setting",
        source="ours, on TP",
        metric="apart",
        higher="two_searches",
        than="two_seeds",
    ),
    as_good("a", "warmup"),
    as_good("b", "architecture"),
    worse("c", "rate"),
    worse("d", "regularization"),
    *(better_than_any(letter, kind) for letter, kind in zip("efgh", CHOICES, strict=True)),
    *(worth_choosing(letter, kind) for letter, kind in zip("ijkl", CHOICES, strict=True)),
]

SHORT_RUNS = tuple(f"short_{kind}" for kind in CHOICES)
VARIANTS = (*SOURCES, "everything", *PAIRS, "two_searches", "two_seeds", *SHORT_RUNS, *WAYS, "nothing")
ADAPTIVE, WIDE = half_decades(1e-3, 1e-1), half_decades(1e-2, 1e1)

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=done,
    # Images of a training; runs that are compared; trials of a search; epochs of a whole run.
    flags={
        "images": 4000,
        "batch_size": 64,
        "epochs": 5,
        "runs": 10,
        "trials": 20,
        "whole": 12,
        "rate": None,
    },
    smoke={"images": 300, "batch_size": 50, "epochs": 1, "runs": 2, "trials": 2, "whole": 4},
    least={"images": 100, "runs": 2, "trials": 1, "whole": 2},
    tuning=Tuning(
        "rate",
        {"plain": ADAPTIVE, "narrower": ADAPTIVE, "momentum": WIDE, "sgd": WIDE},
        Objective("validation_accuracy"),
    ),
    floor="",
    left_out=[*PAIRS, "two_searches", "two_seeds", *SHORT_RUNS, *WAYS],
    units={
        "log_luck": Unit("spread of test accuracy (log e)", name="e-folds", digits=3),
        "of_images": Unit("share of the spread that more test images would take away", 100, "points", 0),
        "mean_accuracy": Unit("test accuracy, mean", 100, "points"),
        "gain": Unit("test accuracy gained", 100, "points"),
        "gain_elsewhere": Unit("test accuracy gained on other images", 100, "points"),
        "wrong": Unit("share of pairs that pick the worse", 100, "points", 0),
        "apart": Unit("test accuracies apart", 100, "points"),
        "lost": Unit("test accuracy lost", 100, "points"),
        "saved": Unit("test accuracy gained by a short run's choice", 100, "points"),
        "saved_whole": Unit("test accuracy gained by a whole run's choice", 100, "points"),
    },
    panels=(Bars("log_luck", (*SOURCES, "everything")), Bars("lost", SHORT_RUNS)),
)
