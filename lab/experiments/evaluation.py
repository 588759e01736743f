"""How far estimates by hold-out, k-fold and walk-forward are off, on images and on rows that drift; what AUC shows."""

import math
from functools import partial
from typing import Any

import numpy as np
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit, TimeSeriesSplit
from sklearn.neighbors import KNeighborsClassifier

from lab import Bars, Claim, Experiment, Run, Unit
from pipelines import sources
from recipes import evaluation as recipe

COMPONENTS = 50  # Of the images' pixels: a logistic regression on them takes a fraction of a second.
FEW = 500  # Labelled images, from which estimates are made.
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)  # That are held out.
SPLITTERS: dict[str, Any] = {
    "hold_out": partial(StratifiedShuffleSplit, 1, test_size=0.2),
    "five_hold_outs": partial(StratifiedShuffleSplit, 5, test_size=0.2),
    "five_fold": partial(StratifiedKFold, 5, shuffle=True),
    "ten_hold_outs": partial(StratifiedShuffleSplit, 10, test_size=0.1),
    "ten_fold": partial(StratifiedKFold, 10, shuffle=True),
}
SIZES = (200, 2000)  # Of all images with a label, for the best share.
HELD_OUT = (50, 800)  # Images that an accuracy is estimated from.
MONTHS, OF_A_MONTH = 24, 60  # Rows in order of time.
ORDERED = ("random_split", "by_month", "walk_forward", "truth")
CHOSEN = ("chosen_on_the_test_set", "chosen_on_validation_images")
TRIED, SMALL_TEST = 20, 200  # Models to choose from, and test images.
RARE = ("always_no", "logistic_one_of_ten")


def logistic(inputs, labels):
    return LogisticRegression(C=0.01, max_iter=300).fit(inputs, labels).predict


def neighbors(inputs, labels):
    return KNeighborsClassifier(15).fit(inputs, labels).predict


def features_of(data: sources.Data, test: sources.Split, seed: int):
    """Principal components of the training images and of the test images, each with labels."""
    pixels = [part.images[:].reshape(len(part), -1) / 255 for part in (data.train, test)]
    reduced = PCA(COMPONENTS, svd_solver="randomized", whiten=True, random_state=seed).fit(pixels[0])
    known, unknown = map(reduced.transform, pixels)
    return (known, data.train.labels), (unknown, test.labels)


def accuracy(answer, known):
    return float(np.mean(answer(known[0]) == known[1]))


def some(pool, count, draws):
    """So many rows of the pool, as many of each class as by chance."""
    chosen = draws.permutation(len(pool[1]))[:count]
    return pool[0][chosen], pool[1][chosen]


def of_a_splitter(name, pool, known, config, draws):
    """How far estimates from one set differ by their splits alone, and how far from the truth those of several sets."""
    inputs, labels = some(pool, config.few, draws)
    splits = range(config.again)
    made = [recipe.estimates(logistic, inputs, labels, SPLITTERS[name](random_state=split)).mean() for split in splits]
    errors = []
    for split in splits:
        inputs, labels = some(pool, config.few, draws)
        estimate = recipe.estimates(logistic, inputs, labels, SPLITTERS[name](random_state=split)).mean()
        errors.append(estimate - accuracy(logistic(inputs, labels), known))
    return {"log_spread": math.log(np.std(made)), "log_error": math.log(np.sqrt(np.mean(np.square(errors))))}


def best_share(count, pool, known, config, draws):
    """The share to hold out at which the estimate is nearest to the accuracy of a model of all images, on average."""
    count, squares = min(count, len(pool[1])), np.zeros(len(SHARES))
    for _ in range(config.again):
        inputs, labels = some(pool, count, draws)
        truth = accuracy(logistic(inputs, labels), known)
        for place, share in enumerate(SHARES):
            kept = round((1 - share) * count)
            estimate = accuracy(logistic(inputs[:kept], labels[:kept]), (inputs[kept:], labels[kept:]))
            squares[place] += (estimate - truth) ** 2
    return {"best_share": SHARES[int(squares.argmin())]}


def relative_spread(count, pool, config, draws):
    """How far accuracies of so many images differ, in units of √(p(1 − p)/n), which the binomial distribution says."""
    trained = logistic(*some(pool, config.few, draws))
    rest = some(pool, len(pool[1]), draws)
    correct = trained(rest[0]) == rest[1]
    count = min(count, len(correct) // 2)
    estimates = [draws.choice(correct, count, replace=False).mean() for _ in range(20 * config.again)]
    p = correct.mean()
    # Drawn without putting back, from as many as there are.
    expected = math.sqrt(p * (1 - p) / count * (len(correct) - count) / (len(correct) - 1))
    return {"relative_spread": float(np.std(estimates) / expected)}


def drifting(draws, months, of_a_month, turn=0.06):
    """Rows in order of time, their labels and months. What makes a label turns slowly, and each month has a shock."""
    shocks = draws.normal(0, 1.0, (months, 3))
    month = np.repeat(np.arange(months), of_a_month)
    inputs = draws.normal(size=(len(month), 3))
    angle = turn * month
    score = np.cos(angle) * inputs[:, 0] + np.sin(angle) * inputs[:, 1] + (shocks[month] * inputs).sum(axis=1) / 2
    labels = (score + draws.normal(0, 0.5, len(month)) > 0).astype(int)
    return np.column_stack([inputs, month]), labels, month


def optimism(variant, config, draws):
    """The estimate's excess over the accuracy on the next three months of a model of all that is known."""
    if variant == "truth":
        return 0.0
    inputs, labels, month = drifting(draws, MONTHS + 3, config.of_a_month)
    known = month < MONTHS
    truth = accuracy(neighbors(inputs[known], labels[known]), (inputs[~known], labels[~known]))
    inputs, labels, month = inputs[known], labels[known], month[known]
    if variant == "walk_forward":
        parts = TimeSeriesSplit(5, test_size=3 * config.of_a_month).split(inputs)
    else:
        by = month if variant == "by_month" else np.zeros(len(month))
        parts = StratifiedShuffleSplit(5, test_size=0.2, random_state=0).split(inputs, by)
    found = [
        accuracy(neighbors(inputs[seen], labels[seen]), (inputs[unseen], labels[unseen])) for seen, unseen in parts
    ]
    return float(np.mean(found)) - truth


def candidates(pool, config, draws):
    """Logistic regressions that differ in their images, their penalty and their number of components."""
    for _ in range(TRIED):
        strength, components = 10 ** draws.uniform(-4, 0), draws.integers(5, COMPONENTS + 1)
        inputs, labels = some(pool, config.few, draws)
        fitted = LogisticRegression(C=strength, max_iter=300).fit(inputs[:, :components], labels)
        yield lambda rows, fitted=fitted, components=components: fitted.predict(rows[:, :components])


def optimism_of_choice(variant, pool, known, config, draws):
    """How much higher the best of twenty models scores on the test images than on thousands of others.

    It is the best one on the test images themselves, or on as many validation images.
    """
    found, few = [], min(SMALL_TEST, len(known[1]) // 4)
    for _ in range(config.again):
        models = list(candidates(pool, config, draws))
        images = some(known, len(known[1]), draws)
        parts = [slice(0, few), slice(few, 2 * few), slice(2 * few, None)]
        test, validation, others = ((images[0][part], images[1][part]) for part in parts)
        chooses = test if variant == "chosen_on_the_test_set" else validation
        best = max(models, key=lambda model: accuracy(model, chooses))
        found.append(accuracy(best, test) - accuracy(best, others))
    return {"optimism": float(np.mean(found))}


def of_a_rare_class(variant, pool, known):
    """Accuracy and AUC where the first class, one image in ten, is to be told from all others."""
    rare = [labels == 0 for _, labels in (pool, known)]
    if variant == "always_no":
        scores = np.zeros(len(rare[1]))
    else:
        fitted = LogisticRegression(C=0.01, max_iter=300).fit(pool[0], rare[0])
        scores = fitted.predict_proba(known[0])[:, 1]
    found = recipe.report(rare[1].astype(int), np.column_stack([1 - scores, scores]))
    return {"rare_accuracy": float(found["accuracy"]), "auc": float(found["auc"])}


def train(variant: str, config, run: Run) -> dict[str, float]:
    draws = np.random.default_rng(run.seed)
    if variant in ORDERED:
        return {"optimism": float(np.mean([optimism(variant, config, draws) for _ in range(config.again)]))}
    data = sources.load(run.data)
    pool, known = features_of(data, run.open_test_set(data), run.seed)
    if variant in SPLITTERS:
        return of_a_splitter(variant, pool, known, config, draws)
    if variant in CHOSEN:
        return optimism_of_choice(variant, pool, known, config, draws)
    if variant in RARE:
        return of_a_rare_class(variant, pool, known)
    kind, _, count = variant.rpartition("_")
    if kind == "best_share_of":
        return best_share(int(count), pool, known, config, draws)
    return relative_spread(int(count), pool, config, draws)


# Checks.


def same_accuracy_other_confusions():
    """One model confuses two classes of ten with each other, the other one makes as many mistakes in every class."""
    labels, number = np.repeat(np.arange(10), 100), np.tile(np.arange(100), 10)
    two = np.where((labels < 2) & (number < 50), 1 - labels, labels)
    all_ten = np.where(number < 10, (labels + 1) % 10, labels)
    one, other = (recipe.report(labels, np.eye(10)[answers]) for answers in (two, all_ten))
    recalls = one["recall"].min(), other["recall"].min()
    return bool(one["accuracy"] == other["accuracy"] == 0.9 and recalls == (0.5, 0.9))


def with_p_of(p, n):
    """Differences of standard deviation 1 whose two-sided t-test has this p-value."""
    t = -stats.t.ppf(p / 2, n - 1)
    spread = np.linspace(-1, 1, n)
    return spread / spread.std(ddof=1) + t / math.sqrt(n)


def power(effect, n):
    """How often a two-sided t-test at 5 % finds a mean of so many standard deviations."""
    edge, shift = stats.t.ppf(0.975, n - 1), effect * math.sqrt(n)
    return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))


def beats(number, text, source, variant, than, metric, **how):
    return Claim(number, text, source, metric, higher=variant, than=than, **how)


def steadier(letter, text, variant, than, metric="log_spread", source="R3"):
    return Claim(f"G9{letter}", text, source, metric, lower=variant, than=than)


EQUIVALENT = "p = 0.698 means that two ways are statistically equivalent (n = 96)"
CLAIMS: list[Any] = [
    Claim(
        "W3a",
        "Of two models with an accuracy of 90 %, one can miss half of a class that the other one misses a tenth of; "
        "the confusion matrix shows it",
        said="Accuracy hides which classes are confused; the confusion matrix shows it",
        source="ours; R1 names them",
        asserted=same_accuracy_other_confusions,
    ),
    Claim(
        "W3b",
        "With one positive in ten, the accuracy of a model that detects it equals that of one that always says no",
        source="ours",
        metric="rare_accuracy",
        equal=RARE,
        said="Accuracy hides what AUC shows",
    ),
    beats(
        "W3c",
        "With one positive in ten, AUC tells a model that detects it from one that always says no",
        "ours; R1 names it",
        "logistic_one_of_ten",
        "always_no",
        "auc",
        said="Accuracy hides what AUC shows",
    ),
    beats(
        "G8a",
        f"With {SIZES[0]} images it is best to hold out a larger share than with {SIZES[1]:,}",
        "R3, DL",
        f"best_share_of_{SIZES[0]}",
        f"best_share_of_{SIZES[1]}",
        "best_share",
        said="A smaller set needs a larger share for validation",
    ),
    Claim(
        "G8b",
        f"From {HELD_OUT[0]} to {HELD_OUT[1]} images, an accuracy's standard error falls with the square root of their "
        "number",
        source="ours",
        metric="relative_spread",
        equal=tuple(f"spread_of_{count}" for count in HELD_OUT),
    ),
    steadier("a", "5-fold gives a steadier estimate than one hold-out", "five_fold", "hold_out"),
    steadier("b", "10-fold gives a steadier estimate than one hold-out", "ten_fold", "hold_out"),
    steadier(
        "c",
        "5-fold gives a steadier estimate than five hold-outs, which cost as much",
        "five_fold",
        "five_hold_outs",
        source="ours",
    ),
    steadier(
        "d",
        "10-fold gives a steadier estimate than ten hold-outs, which cost as much",
        "ten_fold",
        "ten_hold_outs",
        source="ours",
    ),
    steadier("e", "5-fold is nearer to the truth than one hold-out", "five_fold", "hold_out", "log_error", "ours"),
    beats(
        "G10a",
        "On rows that drift, random splits flatter the model more than walk-forward does",
        "R3",
        "random_split",
        "walk_forward",
        "optimism",
        said="On ordered data random splits flatter the model; walk-forward does not",
    ),
    Claim(
        "G10b",
        "On rows that drift, walk-forward does not flatter the model",
        source="R3",
        metric="optimism",
        equal=("walk_forward", "truth"),
        side="above",
        said="On ordered data random splits flatter the model; walk-forward does not",
    ),
    Claim(
        "G24a",
        "A split stratified by month prevents look-ahead: it flatters the model by less than a point",
        source="R3",
        metric="optimism",
        equal=("by_month", "truth"),
        side="above",
        said="A split stratified by month prevents look-ahead",
    ),
    Claim(
        "G24b",
        "A split stratified by month flatters the model as much as a random one",
        source="ours",
        metric="optimism",
        equal=("by_month", "random_split"),
    ),
    beats(
        "G23a",
        f"Choosing on the test set flatters: the best of {TRIED} models on {SMALL_TEST} test images scores higher on "
        "them than on thousands of others",
        "DL",
        "chosen_on_the_test_set",
        "truth",
        "optimism",
        said="Choosing on the test set flatters",
        check=True,  # The expected optimism of a maximum is not negative; how large it is, nobody can say beforehand.
    ),
    Claim(
        "G23b",
        f"The best of {TRIED} models on validation images scores no higher on the test images than on thousands "
        "of others",
        source="ours",
        metric="optimism",
        equal=("chosen_on_validation_images", "truth"),
        side="above",
        check=True,
    ),
    Claim(
        "D14a",
        "With 96 pairs, p = 0.698 does not show that the mean difference is below a fifth of a standard deviation",
        source="R3, against its own sentence",
        asserted=lambda: recipe.equivalence(with_p_of(0.698, 96), 0.2) > 0.05,
        said=EQUIVALENT,
    ),
    Claim(
        "D14b",
        "With 96 pairs, a t-test misses a mean difference of a fifth of a standard deviation half of the time",
        source="ours",
        asserted=lambda: 0.45 < power(0.2, 96) < 0.55,
    ),
]
VARIANTS = (
    *SPLITTERS,
    *(f"best_share_of_{count}" for count in SIZES),
    *(f"spread_of_{count}" for count in HELD_OUT),
    *ORDERED,
    *CHOSEN,
    *RARE,
)

EXPERIMENT = Experiment(
    recipe,
    variants=VARIANTS,
    claims=CLAIMS,
    train=train,
    # Labelled images that estimates are made from; how many estimates of each kind; and rows of a month.
    flags={"few": FEW, "again": 20, "of_a_month": OF_A_MONTH},
    smoke={"few": 200, "again": 3, "of_a_month": 20},
    least={"few": 100, "again": 2, "of_a_month": 10},
    floor="",
    units={
        "log_spread": Unit("spread of an estimate over splits (log e)", name="e-folds", digits=3),
        "log_error": Unit("error of an estimate (log e)", name="e-folds", digits=3),
        "best_share": Unit("best share to hold out", 100, "points", 0),
        "relative_spread": Unit("standard deviation of an accuracy, divided by √(p(1 − p)/n)", 1, "", 2),
        "optimism": Unit("estimate minus true accuracy", 100, "points"),
        "rare_accuracy": Unit("accuracy with one positive in ten", 100, "points"),
        "auc": Unit("AUC", 1, "", 3),
    },
    panels=(
        Bars("log_spread", tuple(SPLITTERS)),
        Bars("log_error", tuple(SPLITTERS)),
        Bars("optimism", (*ORDERED, *CHOSEN)),
    ),
    answer="Estimate by 5-fold cross-validation: on 500 images its error is {log_error.five_fold / log_error.hold_out} "
    "that of holding out a fifth once. Where rows have an order in time, walk forward instead: on made-up rows that "
    "drift, a random split flatters the model by {optimism.random_split - optimism.truth}.",
    rests_on=("G9e", "G10a"),
    about={"StratifiedKFold": ("G9a", "G9b", "G9c", "G9d", "G9e"), "TimeSeriesSplit": ("G10a", "G10b")},
    advice=[
        "**Use 5-fold cross-validation for small sets.** From split to split its estimate varies "
        "{log_spread.five_fold / log_spread.hold_out} as much as that of a single hold-out. Five hold-outs cost as "
        "much and vary more.",
        "**Hold out a larger share of a smaller set**, if you hold out at all. The best share was "
        "{best_share.best_share_of_200} of 200 images, and {best_share.best_share_of_2000} of 2,000.",
        "**Choose models on validation images.** The best of 20 models on 200 test images scored "
        "{optimism.chosen_on_the_test_set - optimism.truth} higher on them than on thousands of others.",
        "**Validate on rows later than those you train on (walk-forward) if rows have an order in time.** On made-up "
        "rows that drift, a random split flattered the model by {optimism.random_split - optimism.walk_forward} more "
        "than walking forward did.",
        "**Do not stratify by month to prevent look-ahead.** Such a split flattered the model by "
        "{optimism.by_month - optimism.truth}, as much as a random one.",
        "**Ask how many images an accuracy is from.** The standard error of an accuracy p from n images is "
        "√(p(1 − p)/n). At 90 % it is 4.2 points with 50 images and 0.5 points with 4,000.",
        "**Look at AUC where a class is rare.** Where one image in ten is positive, a model with an AUC of "
        "{auc.logistic_one_of_ten} was hardly more accurate than one that always says no.",
        "**Do not read a large p-value as equality.** Ask `equivalence` with the smallest difference that would matter "
        "to you.",
    ],
)
