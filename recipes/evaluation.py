"""How good is a model really, is it better than another one, and how would you know?

Estimate by 5-fold cross-validation: on 500 images its error is 0.51× that of holding out a fifth
once. Where rows have an order in time, walk forward instead: on made-up rows that drift, a random
split flatters the model by 11.9 points.

Run       python -m recipes.evaluation
Copy      report for one model; estimates to choose how to split; mcnemar, interval and equivalence to compare
Careful   split rows that have an order by time, and rows that belong together by group: similar rows on both
          sides of a split flatter the model
Numbers   results/evaluation/README.md
Papers    arXiv:1811.12808 (model evaluation), arXiv:1706.04599 (calibration), Schuirmann 1987 (equivalence)
"""

import math

import numpy as np
from scipy import stats
from sklearn import metrics

# During training, use Keras's own metrics: keras.metrics.SparseTopKCategoricalAccuracy(3) for classes, or
# keras.metrics.AUC(from_logits=True) for one logit. The functions below are for a model that is trained.
#
# To compare two of them:
#
#     mcnemar       Is one of these two models better? Takes their answers to the same test images.
#     interval      How much better is one way to train, on average? Takes differences of paired seeds.
#     equivalence   Are two ways to train equally good? A t-test with a large p-value does not show that.


def report(labels, probabilities):
    """Metrics of a classifier, from labels (n,) and probabilities (n, classes).

    `confusion` (classes, classes) has a row for each true class and a column for each answer. AUC is the mean
    of each class against all others, over the classes that have images.
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
    """The expected calibration error of confidence (n,): its mean distance from accuracy over equal bins."""
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
    """The p-value of an exact McNemar test, from which images two models answer correctly: bool (n,) each."""
    only, others_only = np.sum(correct & ~others_correct), np.sum(others_correct & ~correct)
    if only + others_only == 0:
        return 1.0
    return float(stats.binomtest(only, only + others_only).pvalue)


def interval(differences, level=0.95):
    """The mean of differences between pairs of runs (n,), and the ends of its t-interval."""
    mean, error = np.mean(differences), np.std(differences, ddof=1) / math.sqrt(len(differences))
    reach = stats.t.ppf((1 + level) / 2, len(differences) - 1) * error
    return float(mean), float(mean - reach), float(mean + reach)


def bootstrap(values, statistic=np.mean, level=0.95, draws=2_000, seed=0):
    """An interval for a statistic of values (n,) or rows (n, columns), by resampling them."""
    chosen = np.random.default_rng(seed).integers(0, len(values), (draws, len(values)))
    found = [statistic(values[rows]) for rows in chosen]
    return tuple(float(edge) for edge in np.quantile(found, [(1 - level) / 2, (1 + level) / 2]))


def equivalence(differences, margin):
    """The p-value of two one-sided t-tests (Schuirmann 1987) on differences between pairs of runs (n,).

    Below 0.05, the two ways to train differ by less than `margin` on average.
    """
    above = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(max(above, below))


if __name__ == "__main__":
    from lab import main

    main("evaluation")
