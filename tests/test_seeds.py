"""Each seed fixes one source of luck and no other, the arithmetic is right, and comparisons count what they say."""

import types

import keras
import numpy as np
import pytest

from lab.experiments import seeds as experiment
from pipelines import batches, sources
from recipes import seeds as recipe

DATA = sources.load(sources.Request(train_images=600))
SHAPE = (32, 32, 3)


def feed(images=200, size=50):
    return batches.training(DATA.train.take(np.arange(images)), size, seed=1, augment=False)


@pytest.fixture
def untrained(monkeypatch):
    """Models as they are before their first step."""
    monkeypatch.setattr(keras.Model, "fit", lambda *_, **__: None)


# The recipe


def test_a_training_is_repeated_at_each_seed():
    def train():
        return keras.random.normal(()) + np.random.normal()

    once, again = (recipe.accuracies(train, float, seeds) for seeds in ((3, 4, 5), (5, 4, 3)))
    assert once.shape == (3,)
    assert list(once) == list(again[::-1])
    assert len(set(once)) == 3


@pytest.mark.parametrize(("spread", "difference", "count"), [(1, 1, 10), (1, 0.5, 34), (2, 1, 34), (1, -1, 10)])
def test_the_number_of_seeds_is_that_of_a_paired_t_test(spread, difference, count):
    assert recipe.seeds_needed(spread, difference) == count  # As tables of power have it.


def test_more_seeds_are_needed_for_more_certainty():
    assert recipe.seeds_needed(1, 1, power=0.95) > recipe.seeds_needed(1, 1, power=0.9) > 10
    assert recipe.seeds_needed(1, 1, level=0.99) > 10
    assert recipe.seeds_needed(1, 100) == 2


def test_so_many_seeds_find_the_difference_as_often_as_is_said():
    draws = np.random.default_rng(0)
    count = recipe.seeds_needed(1.5, 1)
    found = draws.normal(1, 1.5, (4000, count))
    error = found.std(axis=1, ddof=1) / np.sqrt(count)
    edge = {20: 2.093}[count]  # The 97.5th percentile of t with 19 degrees of freedom.
    assert np.mean(found.mean(axis=1) > edge * error) == pytest.approx(0.8, abs=0.03)


def test_the_worse_of_two_wins_as_often_as_is_said():
    draws = np.random.default_rng(0)
    for seeds in (1, 4):
        share = np.mean(draws.normal(0.5, 1, (20_000, seeds)).mean(axis=1) < 0)
        assert recipe.chance_of_the_worse(1, 0.5, seeds) == pytest.approx(share, abs=0.01)


def test_the_best_of_many_gains_as_much_as_is_said():
    draws = np.random.default_rng(0).normal(0, 2, (20_000, 10))
    assert recipe.gain_of_the_best(2, 10) == pytest.approx(np.mean(draws.max(axis=1)), abs=0.03)
    assert recipe.gain_of_the_best(2, 1) == pytest.approx(0, abs=1e-6)


@pytest.mark.usefixtures("untrained")
def test_a_seed_of_the_weights_fixes_them():
    begun = [recipe.train(feed(), None, 10, weights_seed=seed, augmentation_seed=1) for seed in (1, 1, 2)]
    one, same, other = (model.trainable_variables[0].numpy() for model in begun)
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.usefixtures("untrained")
def test_a_seed_of_the_augmentation_changes_nothing_else():
    begun = [recipe.train(feed(), None, 10, weights_seed=7, augmentation_seed=seed) for seed in (1, 1, 2)]
    weights = [[weight.numpy() for weight in model.trainable_variables] for model in begun]
    images = next(iter(feed()))[0]
    changed = [np.array(keras.Sequential(model.layers[:2])(images, training=True)) for model in begun]
    assert all(np.array_equal(a, b) for other in weights[1:] for a, b in zip(weights[0], other, strict=True))
    assert np.array_equal(changed[0], changed[1])
    assert not np.array_equal(changed[0], changed[2])


@pytest.mark.usefixtures("untrained")
def test_mirroring_and_shifts_are_drawn_apart():
    flip, shift = recipe.train(feed(100, 50), None, 10, augmentation_seed=3).layers[:2]
    assert (flip.seed, shift.seed) == (3, 4)


def test_the_rate_rises_for_a_share_of_the_steps_and_ends_at_zero():
    schedule = recipe.warmup_cosine(0.2, 100, 0.3)
    assert [float(schedule(step)) for step in (0, 30, 100)] == pytest.approx([0.2 / 30, 0.2, 0], abs=1e-6)
    assert float(recipe.warmup_cosine(0.2, 100, 0)(0)) == pytest.approx(0.2)


@pytest.mark.parametrize("side", [8, 32])
def test_networks_of_all_kinds_take_small_images(side):
    for how in experiment.CHOICES["architecture"]:
        model = how.get("build_model", recipe.build_model)((side, side, 3), 10)
        assert model(np.zeros((2, side, side, 3))).shape == (2, 10)


def test_it_learns():
    model = recipe.train(batches.training(DATA.train, 32, seed=1, augment=False), None, 10, weights_seed=1, epochs=4)
    found = model.evaluate(batches.evaluation(DATA.test), verbose=0, return_dict=True)["accuracy"]
    assert found > 0.2  # Chance is 0.1.


# The experiment


class Recorder:
    """In the place of a `Trainer`: what was asked for. `of(luck, how)` of a hundred images are classified correctly."""

    def __init__(self, of, **config):
        usual = {"runs": 4, "trials": 5, "whole": 8, "rate": None, "images": 620, "batch_size": 62}
        self.asked, self.of, self.config = [], of, types.SimpleNamespace(**usual | config)

    def train(self, luck, **how):
        self.asked.append((luck, how))
        return self.of(luck, how), self.of(luck, how)

    def correct(self, models):
        return np.array([np.arange(100) < count for count in models])


@pytest.mark.parametrize("source", experiment.SOURCES)
def test_runs_of_a_source_differ_in_it_and_in_nothing_else(source):
    trainer = Recorder(lambda luck, how: sum(luck) - 4 * 7000 + 50)
    found = experiment.spread_of(source, trainer, 7000)
    lucks = [luck._asdict() for luck, _ in trainer.asked]
    assert [luck.pop(source) for luck in lucks] == [7000, 7001, 7002, 7003]
    assert {value for luck in lucks for value in luck.values()} == {7000}
    assert np.exp(found["log_luck"]) == pytest.approx(np.std([0.5, 0.51, 0.52, 0.53], ddof=1))
    assert found["mean_accuracy"] == pytest.approx(0.515)


def test_the_part_of_the_spread_that_is_of_single_images_is_told_from_that_of_whole_models():
    draws = np.random.default_rng(0)
    coins = draws.random((10, 4000)) < 0.6  # Nothing but images that go either way.
    assert experiment.spread(coins)["of_images"] > 0.4
    apart = np.arange(10)[:, None] < np.ones((10, 4000)) * 5  # Half of the models are right on every image.
    assert experiment.spread(apart)["of_images"] == pytest.approx(1 / 4000)
    same = np.tile(coins[0], (10, 1))
    assert np.isfinite(experiment.spread(same)["log_luck"])


def test_the_best_is_compared_with_the_mean_and_judged_on_other_images_too():
    values = [10, 20, 30, 80]
    trainer = Recorder(lambda luck, how: values[luck.weights - 5000])
    found = experiment.everything(trainer, 5000)
    assert {luck.split for luck, _ in trainer.asked} == {5000}
    assert [luck.order for luck, _ in trainer.asked] == [5000, 5001, 5002, 5003]
    assert found["gain"] == pytest.approx(0.8 - 0.35)
    assert found["gain_elsewhere"] == pytest.approx(0.8 - 0.35)  # It is the best on each half.
    # Each of two models is right on one half alone: which is best on one half is the worse one on the other.
    trainer.correct = lambda models: np.array([np.arange(100) % 2 == which for which in (0, 1)])
    found = experiment.everything(trainer, 5000)
    assert (found["gain"], found["gain_elsewhere"]) == (0.0, -0.5)


def test_pairs_have_the_same_seeds_and_a_tie_counts_half():
    def count(luck, how):
        return ([50, 70, 60, 60] if "build_model" in how else [50, 60, 70, 80])[luck.order - 9000]

    trainer = Recorder(count)
    found = experiment.pair("wider", trainer, 9000)
    assert found == pytest.approx({"wrong": (0.5 + 1 + 0 + 0) / 4, "gain": (0 - 0.1 + 0.1 + 0.2) / 4})
    assert [luck for luck, _ in trainer.asked[:4]] == [luck for luck, _ in trainer.asked[4:]]
    assert {how["rate"] for _, how in trainer.asked[:4]} == {experiment.RATES["plain"]}


def test_each_way_to_train_is_tried_alone_at_the_rate_that_is_asked_for():
    for rate in (None, 0.5):
        trainer = Recorder(lambda luck, how: 40, rate=rate)
        found = experiment.alone("sgd", trainer, trainer.config, types.SimpleNamespace(seed=801))
        assert found == {"validation_accuracy": 40.0, "mean_accuracy": 0.4}
        ((_, how),) = trainer.asked
        assert how["rate"] == (rate or experiment.RATES["sgd"])


def test_a_search_ends_with_its_best_and_two_of_them_try_other_settings_on_images_of_their_own():
    trainer = Recorder(lambda luck, how: 90 * how["rate"])
    found = experiment.apart("two_searches", trainer, 3000)
    rates = [how["rate"] for _, how in trainer.asked]
    assert len(set(rates)) == 10
    best = [int(np.ceil(90 * max(some))) for some in (rates[:5], rates[5:])]
    assert found["apart"] == pytest.approx(abs(best[0] - best[1]) / 100)
    low, high = experiment.SPACE["rate"]
    assert low < min(rates) < max(rates) < high
    assert [luck.split for luck, _ in trainer.asked] == [3000] * 5 + [3500] * 5
    assert len({luck.weights for luck, _ in trainer.asked}) == 10


def test_two_seeds_are_of_one_setting():
    trainer = Recorder(lambda luck, how: (luck.weights - 3000) // 10)
    assert experiment.apart("two_seeds", trainer, 3000)["apart"] == pytest.approx(0.5)
    assert [how for _, how in trainer.asked] == [{}, {}]


def test_what_a_short_run_loses_and_saves_is_measured_by_whole_runs_at_another_seed():
    settings = experiment.CHOICES["rate"]
    short, whole, later = [30, 20, 10, 0], [50, 60, 70, 40], [55, 65, 62, 40]

    def count(luck, how):
        place = next(place for place, one in enumerate(settings) if one["rate"] == how["rate"])
        return (later if luck.weights != 4000 else short if how["epochs"] == 2 else whole)[place]

    trainer = Recorder(count)
    found = experiment.by_a_short_run("rate", trainer, 4000)
    mean = (0.55 + 0.65 + 0.62 + 0.4) / 4
    assert found == pytest.approx({"lost": 0.62 - 0.55, "saved": 0.55 - mean, "saved_whole": 0.62 - mean})
    assert [how["epochs"] for _, how in trainer.asked] == [2] * 4 + [8] * 8


def test_a_warm_up_has_as_many_steps_in_a_short_run():
    trainer = Recorder(lambda luck, how: 50)  # Ten steps an epoch.
    experiment.by_a_short_run("warmup", trainer, 4000)
    steps = [how["warmup"] * how["epochs"] * 10 for _, how in trainer.asked]
    assert steps == pytest.approx(
        [0, 20, 20, 20, *[0, 20, 60, 80] * 2]
    )  # A run of 20 steps has no room for a longer one.
    assert all("warmup_steps" not in how for _, how in trainer.asked)


def test_each_seed_goes_where_it_belongs(monkeypatch):
    calls = []

    class Model:
        def evaluate(self, *_, **how):
            return {"accuracy": 0.5}

    def train(train_set, validation_set, classes, **how):
        images, labels = zip(*train_set.as_numpy_iterator(), strict=True)
        calls.append((np.concatenate(labels), np.concatenate(images).sum(), how))
        assert 100 < len(np.unique(np.concatenate(images), axis=0)) < 190  # Some images come twice.
        return Model()

    monkeypatch.setattr(recipe, "train", train)
    config = experiment.EXPERIMENT.config(images=200, batch_size=50)
    run = types.SimpleNamespace(data=sources.Request(train_images=600), callbacks=lambda data: [])
    trainer = experiment.Trainer(config, run)
    begin = experiment.lucky(5)
    for luck in (begin, begin._replace(order=6), begin._replace(split=6), begin._replace(weights=6, augmentation=8)):
        trainer.train(luck)
    (labels, total, how), (others, same, _), (_, other_total, _), (again, _, seeded) = calls
    assert len(labels) == 200
    assert total == same  # The same images
    assert list(labels) != list(others)  # in another order,
    assert total != other_total  # and other images;
    assert list(labels) == list(again)
    assert (how["weights_seed"], how["augmentation_seed"], how["rate"]) == (5, 5, experiment.RATES["plain"])
    assert (seeded["weights_seed"], seeded["augmentation_seed"]) == (6, 8)


def test_nothing_is_trained_after_the_test_set_was_read(monkeypatch):
    order = []
    monkeypatch.setattr(experiment.Trainer, "train", lambda self, luck, **how: (order.append("train"), 0.5))
    coins = np.random.default_rng(0)
    monkeypatch.setattr(
        experiment.Trainer,
        "correct",
        lambda self, models: order.append("score") or coins.random((len(models), 50)) < 0.5,
    )
    config = experiment.EXPERIMENT.config(**experiment.EXPERIMENT.smoke)
    for variant in experiment.VARIANTS:
        order.clear()
        experiment.done(variant, config, types.SimpleNamespace(seed=1))
        assert order.count("score") <= 1
        assert order[-1:] in ([], ["score"], ["train"])
        assert "score" not in order[:-1]
