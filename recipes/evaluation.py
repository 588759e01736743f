"""How good is a model really, is it better than another one, and how would you know?

Estimate by 5-fold cross-validation: on 500 images its error is 0.51× that of holding out a fifth
once. Where rows have an order in time, walk forward instead: on rows that drift, a random split
flatters the model by 11.9 points.

Run       python -m recipes.evaluation
Copy      report for one model; estimates to choose how to split; mcnemar, interval and equivalence to compare
Careful   split by time or by group whatever has an order or belongs together: rows that resemble each other
          on both sides of a split flatter the model
Numbers   results/evaluation/README.md
Papers    arXiv:1811.12808 (model evaluation), arXiv:1706.04599 (calibration), Schuirmann 1987 (equivalence)
"""

import math

import numpy as np
from scipy import stats
from sklearn import metrics

# While a model trains, Keras counts: metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(3)] for
# classes, keras.metrics.AUC(from_logits=True) for one logit. What follows is for afterwards, and for splits.
#
# Which comparison is for what:
#
#     mcnemar       two trained models on the same test images: is one of *these two* better?
#     interval      two ways to train, from paired seeds: how much better is one of them on average?
#     equivalence   the same data: are they as good as equal? A large p-value of a t-test doesn't say so.


def report(labels, probabilities):
    """What there is to say of a classifier, from labels (n,) and probabilities (n, classes).

    `confusion` (classes, classes) counts images by true class, in rows, and by answer, in columns. AUC is the
    mean over the classes that there are of each against all others.
    """
    answers = probabilities.argmax(axis=1)
    classes = np.arange(probabilities.shape[1])
    precision, recall, _, _ = metrics.precision_recall_fscore_support(
        labels, answers, labels=classes, zero_division=0
    )
    return {
        "accuracy": metrics.accuracy_score(labels, answers),
        "balanced_accuracy": metrics.balanced_accuracy_score(labels, answers),
        "auc": np.mean([metrics.roc_auc_score(labels == one, probabilities[:, one]) for one in set(labels)]),
        "calibration_error": calibration_error(labels == answers, probabilities.max(axis=1)),
        "precision": precision,
        "recall": recall,
        "confusion": metrics.confusion_matrix(labels, answers, labels=classes),
    }


def calibration_error(correct, confidence, bins=15):
    """How far confidence (n,) and accuracy are apart: the mean over bins of equal width, weighted by size."""
    at = np.minimum((confidence * bins).astype(int), bins - 1)
    apart = [abs(np.sum(correct[at == one] - confidence[at == one])) for one in set(at)]
    return float(sum(apart)) / len(correct)


def estimates(train, inputs, labels, splitter):
    """The accuracy on each part that a splitter of `sklearn.model_selection` holds out, trained on the rest.

    `train(inputs, labels)` returns a function from inputs to answers: of a model of Keras that has learned
    from them, `lambda new: model.predict(new).argmax(axis=1)`. Take `StratifiedKFold` as a rule,
    `TimeSeriesSplit` for rows in order of time, `StratifiedGroupKFold` for rows that belong together, and
    `StratifiedShuffleSplit(1, test_size=0.2)` for one hold-out.
    """
    found = []
    for seen, unseen in splitter.split(inputs, labels):
        answer = train(inputs[seen], labels[seen])
        found.append(np.mean(answer(inputs[unseen]) == labels[unseen]))
    return np.array(found)


def mcnemar(correct, others_correct):
    """The p-value that two models are equally good, from which images each got right: bool (n,) twice."""
    only, others_only = np.sum(correct & ~others_correct), np.sum(others_correct & ~correct)
    if only + others_only == 0:
        return 1.0
    return float(stats.binomtest(only, only + others_only).pvalue)


def interval(differences, level=0.95):
    """The mean of differences between pairs of runs (n,), and an interval for it by Student's t."""
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(len(differences))
    reach = stats.t.ppf((1 + level) / 2, len(differences) - 1) * error
    return float(mean), float(mean - reach), float(mean + reach)


def bootstrap(values, statistic=np.mean, level=0.95, draws=2_000, seed=0):
    """An interval for a statistic of values (n,), such as an AUC of rows, by drawing them again and again."""
    chosen = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    found = [statistic(values[rows]) for rows in chosen]
    return tuple(float(edge) for edge in np.quantile(found, [(1 - level) / 2, (1 + level) / 2]))


def equivalence(differences, margin):
    """The p-value that two ways to train differ by `margin` or more: below 0.05 they are as good as equal.

    Two one-sided t-tests (Schuirmann 1987).
    """
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above, below))


if __name__ == "__main__":
    from lab import main

    main("evaluation")
