"""Reports, intervals and tests are those of textbooks, and estimates are made of the rows that the names say."""

import math
import types

import numpy as np
import pytest
from scipy import stats
from sklearn.model_selection import StratifiedKFold, TimeSeriesSplit

from lab.experiments import evaluation as experiment
from pipelines import sources
from recipes import evaluation as recipe

DRAWS = np.random.default_rng(0)


# The recipe


def test_a_report_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 2])
    answers = np.array([0, 0, 1, 1, 2, 2])
    found = recipe.report(labels, np.eye(3)[answers])
    assert found["accuracy"] == pytest.approx(4 / 6)
    assert found["confusion"].tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]  # By true class, then by answer.
    assert found["recall"] == pytest.approx([2 / 3, 1 / 2, 1])
    assert found["precision"] == pytest.approx([1, 1 / 2, 1 / 2])
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert found["calibration_error"] == pytest.approx(1 - 4 / 6)


def test_a_class_without_an_image_has_no_part_in_the_auc():
    probabilities = np.array([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0], [0.2, 0.8, 0.0], [0.5, 0.5, 0.0]])
    found = recipe.report(np.array([0, 1, 1, 0]), probabilities)
    assert found["auc"] == 1
    assert found["confusion"].shape == (3, 3)
    assert found["recall"][2] == 0


def test_confidence_that_is_as_large_as_accuracy_is_calibrated():
    confidence = DRAWS.uniform(0.5, 1, 100_000)
    correct = DRAWS.random(100_000) < confidence
    assert recipe.calibration_error(correct, confidence) < 0.01
    assert recipe.calibration_error(correct, np.minimum(confidence + 0.2, 1)) == pytest.approx(0.16, abs=0.01)
    assert recipe.calibration_error(np.array([True, False, False]), np.array([1.0, 0.9, 0.9])) == pytest.approx(0.6)


def first_column(inputs, labels):
    """A model that has nothing to learn."""
    return lambda new: new[:, 0].astype(int)


def test_estimates_are_of_what_was_held_out():
    labels = np.arange(20) % 2
    inputs = np.column_stack([labels, np.arange(20)])
    inputs[15:, 0] = 1 - inputs[15:, 0]  # Wrong from here on.
    seen = []

    def train(some, given):
        seen.append(set(some[:, 1]))
        assert np.array_equal(given, labels[some[:, 1]])
        return first_column(some, given)

    found = recipe.estimates(train, inputs, labels, TimeSeriesSplit(3, test_size=5))
    assert found.tolist() == [1, 1, 0]
    assert [len(rows) for rows in seen] == [5, 10, 15]


def test_folds_hold_out_each_row_once():
    labels = np.arange(30) % 3
    inputs = np.column_stack([labels, np.arange(30)])
    missing = []

    def train(some, given):
        missing.append(set(range(30)) - set(some[:, 1]))
        return first_column(some, given)

    assert recipe.estimates(train, inputs, labels, StratifiedKFold(5)).tolist() == [1] * 5
    assert sorted(row for rows in missing for row in rows) == list(range(30))


def test_mcnemar_looks_at_what_one_model_alone_got_right():
    one = np.repeat([True, True, False, False], [50, 9, 1, 40])
    other = np.repeat([True, False, True, False], [50, 9, 1, 40])
    assert recipe.mcnemar(one, other) == pytest.approx(stats.binomtest(9, 10).pvalue)
    assert recipe.mcnemar(other, one) == pytest.approx(stats.binomtest(9, 10).pvalue)
    assert recipe.mcnemar(one, one) == 1


def test_an_interval_is_students():
    differences = np.array([1.0, 2.0, 3.0, 4.0])
    mean, low, high = recipe.interval(differences)
    assert mean == 2.5
    reach = 3.18244630528 * np.std(differences, ddof=1) / 2  # The t of a 95 % interval with three degrees of freedom.
    assert (low, high) == pytest.approx((2.5 - reach, 2.5 + reach))
    assert recipe.interval(differences, level=0.9)[1] > low


def test_a_bootstrap_of_a_mean_is_as_wide_as_its_error_says():
    values = DRAWS.normal(5, 2, 400)
    low, high = recipe.bootstrap(values)
    assert (low, high) == pytest.approx((values.mean() - 0.196, values.mean() + 0.196), abs=0.03)
    pairs = np.column_stack([values, values + 1])
    assert recipe.bootstrap(pairs, lambda rows: (rows[:, 1] - rows[:, 0]).mean()) == pytest.approx((1, 1))


def test_equivalence_needs_differences_within_the_margin():
    small = DRAWS.normal(0.0, 1.0, 200)
    assert recipe.equivalence(small, 0.5) < 0.01
    assert recipe.equivalence(small, 0.05) > 0.05
    assert recipe.equivalence(small + 1, 0.5) > 0.9
    assert recipe.equivalence(small - 1, 0.5) > 0.9
    assert recipe.equivalence(np.array([1.0, 2.0, 3.0]), 3.0) == pytest.approx(
        stats.ttest_1samp([1.0, 2.0, 3.0], 3.0, alternative="less").pvalue
    )


# The experiment


CONFIG = experiment.EXPERIMENT.config(few=100, again=3, of_a_month=20)
POOL = DRAWS.normal(size=(1000, 5)), DRAWS.integers(0, 2, 1000)


def test_each_splitter_holds_out_what_its_name_says():
    labels = np.arange(100) % 2
    for name, (parts, held_out) in {
        "hold_out": (1, 20), "five_hold_outs": (5, 20), "five_fold": (5, 20),
        "ten_hold_outs": (10, 10), "ten_fold": (10, 10),
    }.items():  # fmt: skip
        found = list(experiment.SPLITTERS[name](random_state=1).split(np.zeros(100), labels))
        assert [len(unseen) for _, unseen in found] == [held_out] * parts
        assert (len(set(np.concatenate([unseen for _, unseen in found]))) == 100) == name.endswith("fold")


def test_a_spread_is_of_one_set_and_an_error_of_several(monkeypatch):
    sets = []

    def estimates(train, inputs, labels, splitter):
        sets.append(inputs.tobytes())
        return np.array([0.5, 0.5 + 0.1 * len(sets)])

    monkeypatch.setattr(recipe, "estimates", estimates)
    monkeypatch.setattr(experiment, "accuracy", lambda answer, known: 0.5)
    found = experiment.of_a_splitter("five_fold", POOL, POOL, CONFIG, np.random.default_rng(1))
    assert len(set(sets[:3])) == 1
    assert len(set(sets)) == 4
    assert found["log_spread"] == pytest.approx(math.log(np.std([0.05, 0.1, 0.15])))
    assert found["log_error"] == pytest.approx(math.log(np.sqrt(np.mean(np.square([0.2, 0.25, 0.3])))))


def test_the_best_share_is_where_estimates_are_nearest_to_a_model_of_all_images(monkeypatch):
    def logistic(inputs, labels):
        return len(labels)

    monkeypatch.setattr(experiment, "logistic", logistic)
    monkeypatch.setattr(experiment, "accuracy", lambda kept, known: 0.7 if kept == 100 else kept / 100)
    found = experiment.best_share(100, POOL, POOL, CONFIG, np.random.default_rng(1))
    assert found == {"best_share": 0.3}


def test_accuracies_spread_as_a_binomial_distribution_says():
    for count in (20, 400):
        config = experiment.EXPERIMENT.config(few=200, again=50)
        found = experiment.relative_spread(count, POOL, config, np.random.default_rng(2))
        assert found["relative_spread"] == pytest.approx(1, abs=0.1)


def test_what_makes_a_label_turns_and_rows_of_a_month_share_a_shock():
    inputs, labels, month = experiment.drifting(np.random.default_rng(3), 24, 500)
    assert np.array_equal(month, np.sort(month))
    assert np.array_equal(inputs[:, 3], month)
    turned = [
        np.corrcoef(inputs[part][:, axis], labels[part])[0, 1] for part in (month < 6, month >= 18) for axis in (0, 1)
    ]
    assert turned[0] - turned[2] > 0.2
    assert turned[3] - turned[1] > 0.2
    by_month = [np.corrcoef(inputs[month == one][:, 2], labels[month == one])[0, 1] for one in range(24)]
    assert np.std(by_month) > 0.15


def test_a_world_that_does_not_drift_flatters_nobody(monkeypatch):
    def still(draws, months, of_a_month):
        month = np.repeat(np.arange(months), of_a_month)
        inputs = draws.normal(size=(len(month), 3))
        return np.column_stack([inputs, 0 * month]), (inputs[:, 0] > 0).astype(int), month

    monkeypatch.setattr(experiment, "drifting", still)
    config = experiment.EXPERIMENT.config(of_a_month=60)
    for name in experiment.ORDERED:
        found = [experiment.optimism(name, config, np.random.default_rng(seed)) for seed in range(10)]
        assert np.mean(found) == pytest.approx(0, abs=0.02)


def test_splits_of_ordered_rows_hold_out_the_months_of_their_names(monkeypatch):
    """By the month, which is a feature: what the model was trained on, and what its accuracy is asked of."""
    asked = []

    def neighbors(inputs, labels):
        return set(inputs[:, 3])

    def accuracy(trained, known):
        asked.append((trained, set(known[0][:, 3])))
        return 0.5

    monkeypatch.setattr(experiment, "neighbors", neighbors)
    monkeypatch.setattr(experiment, "accuracy", accuracy)
    config = experiment.EXPERIMENT.config(of_a_month=20)
    past = set(range(experiment.MONTHS))
    for name in ("random_split", "by_month", "walk_forward"):
        asked.clear()
        assert experiment.optimism(name, config, np.random.default_rng(1)) == 0
        assert asked[0] == (past, {24, 25, 26})
        for trained, held_out in asked[1:]:
            if name == "walk_forward":
                assert max(trained) < min(held_out)
                assert len(held_out) == 3
            else:
                assert len(trained & held_out) > 15
            if name == "by_month":
                assert held_out == past


def test_a_choice_flatters_on_the_images_that_made_it_and_on_no_others(monkeypatch):
    """Twenty models that guess: on 200 images the luckiest of them is far above its true accuracy."""
    draws = np.random.default_rng(0)
    known = draws.normal(size=(4000, 1)), draws.integers(0, 2, 4000)

    def guessing(pool, config, draws):
        for number in range(20):
            yield lambda rows, number=number: (np.floor(1e6 * rows[:, 0]).astype(int) * (2 * number + 3) // 7) % 2

    monkeypatch.setattr(experiment, "candidates", guessing)
    config = types.SimpleNamespace(again=60, few=100)
    on_test, on_validation = (
        experiment.optimism_of_choice(variant, None, known, config, np.random.default_rng(1))["optimism"]
        for variant in experiment.CHOSEN
    )
    assert 0.04 < on_test < 0.1  # Twenty draws of a mean with a standard error of 3.5 points: 1.87 of them.
    assert abs(on_validation) < 0.02
    small = known[0][:200], known[1][:200]  # Of which 50 choose and 50 test.
    assert experiment.optimism_of_choice(experiment.CHOSEN[0], None, small, config, draws)["optimism"] > on_test


def test_candidates_differ_in_images_strength_and_components():
    draws = np.random.default_rng(0)
    inputs = draws.normal(size=(300, experiment.COMPONENTS))
    pool = inputs, (inputs[:, 0] > 0).astype(int)
    models = list(experiment.candidates(pool, types.SimpleNamespace(few=100), draws))
    answers = np.array([model(inputs) for model in models])
    assert len(models) == experiment.TRIED
    assert len({tuple(row) for row in answers}) > 15
    assert (answers == pool[1]).mean() > 0.6


def test_a_rare_class_is_told_by_its_score():
    inputs, labels = DRAWS.normal(size=(2000, 5)), np.arange(2000) % 10
    inputs[labels == 0, 0] += 1.0
    found = {name: experiment.of_a_rare_class(name, (inputs, labels), (inputs, labels)) for name in experiment.RARE}
    assert found["always_no"] == {"rare_accuracy": 0.9, "auc": 0.5}
    assert found["logistic_one_of_ten"]["auc"] > 0.7
    assert found["logistic_one_of_ten"]["rare_accuracy"] == pytest.approx(0.9, abs=0.01)


@pytest.mark.processes
def test_each_variant_has_its_metrics(monkeypatch):
    run = types.SimpleNamespace(seed=1, data=sources.Request(train_images=500))
    run.open_test_set = lambda data: data.validation
    for name in experiment.VARIANTS:
        found = experiment.train(name, CONFIG, run)
        wanted = {
            "spread": {"relative_spread"}, "best": {"best_share"},
        }.get(name.split("_")[0])  # fmt: skip
        wanted = {"optimism"} if name in (*experiment.ORDERED, *experiment.CHOSEN) else wanted
        wanted = {"rare_accuracy", "auc"} if name in experiment.RARE else wanted
        assert set(found) == (wanted or {"log_spread", "log_error"}), name
        assert all(math.isfinite(value) for value in found.values())


def test_power_and_p_values_are_those_of_simulations():
    draws = np.random.default_rng(5)
    found = stats.ttest_1samp(draws.normal(0.2, 1, (4000, 96)), 0, axis=1).pvalue
    assert experiment.power(0.2, 96) == pytest.approx((found < 0.05).mean(), abs=0.03)
    differences = experiment.with_p_of(0.698, 96)
    assert stats.ttest_1samp(differences, 0).pvalue == pytest.approx(0.698)
    assert np.std(differences, ddof=1) == pytest.approx(1)
