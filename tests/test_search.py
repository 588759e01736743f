"""Searching: what is looked up and judged in replays, and the recipe's tuners, their folders, kills and directions."""

import copy
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

import keras
import keras_tuner as kt
import numpy as np
import pytest
import tensorflow as tf
import threadpoolctl
from keras_tuner.src import utils
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from lab.core.run import Run
from lab.experiments import search as experiment
from lab.report.published import RESULTS
from pipelines import batches, sources
from recipes import search as recipe
from tests.conftest import ROOT, trials_in

SPACE, EPOCHS, TRIALS = experiment.SPACE, experiment.EPOCHS, experiment.TRIALS
SETTINGS = list(itertools.product(*SPACE.values()))
QUICK = [name for name in experiment.SEARCHES if not name.startswith("bayesian")]  # Its thinking takes seconds.


@pytest.fixture(autouse=True)
def one_thread():
    """As workers have it: Bayesian optimization's small matrices take five times as long on several threads."""
    with threadpoolctl.threadpool_limits(1):
        yield


# Replays


@pytest.fixture(scope="module")
def table():
    return experiment.TABLE.read("search")


def replay(variant: str, table: dict, seed: int) -> list:
    search, trials = experiment.SEARCHES[variant]
    return search(table, seed, math.ceil(trials))


@pytest.mark.variants
@pytest.mark.parametrize("variant", [*QUICK, pytest.param("bayesian", marks=pytest.mark.processes)])
def test_a_replay_repeats_with_its_seed_and_only_with_it(variant):
    """Of a toy table whose seeds all say the same, so that nothing but the settings can differ."""
    table = {setting: np.full((4, EPOCHS), float(place)) for place, setting in enumerate(SETTINGS)}
    if variant == "bayesian":
        first, again, other = (experiment.SEARCHES[variant][0](table, seed, 5) for seed in (3, 3, 4))
    else:
        first, again, other = (replay(variant, table, seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_keras_tuners_neighboring_seeds_walk_the_same_settings(tmp_path):
    """The trap that the factor of 1000 is there for; if this fails, it can go."""

    def settings(seed):
        space = kt.HyperParameters()
        experiment.declare(space)
        oracle = kt.oracles.RandomSearchOracle("val_accuracy", 5, hyperparameters=space, seed=seed)
        oracle._set_project_dir(tmp_path, str(seed))
        return [tuple(oracle.populate_space(str(number))["values"].values()) for number in range(5)]

    assert settings(5)[:4] == settings(2)[1:]
    assert settings(1005)[:4] != settings(2)[1:]


def test_neighboring_replays_have_few_settings_in_common(table):
    """Of a toy table in which the score is the setting's number."""
    toy = {setting: np.full((4, EPOCHS), float(place)) for place, setting in enumerate(SETTINGS)}
    tried = [{score for _, score, _ in replay("random", toy, seed)} for seed in (2, 5)]
    assert len(tried[0] & tried[1]) < 8  # Two of twenty would be expected, and nineteen of neighboring seeds.


def test_the_table_is_complete_and_small(table):
    assert len(table) == math.prod(len(values) for values in SPACE.values()) == 16 * 4 * 4
    assert all(curves.shape == (4, EPOCHS) for curves in table.values())
    assert max(SPACE["rate"]) / min(SPACE["rate"]) == 10_000
    assert (RESULTS / "search" / "tuning.json").stat().st_size <= 5e6


@pytest.mark.processes
def test_an_entry_of_the_table_is_a_training_by_the_recipe(monkeypatch, tmp_path):
    """Its model has the setting, and sees the validation images after each epoch."""
    built, build = [], recipe.build_model

    def noting(hp, shape, classes):
        built.append(build(hp, shape, classes))
        return built[-1]

    monkeypatch.setattr(recipe, "build_model", noting)
    request = sources.Request(train_images=500)
    setting = {"rate": 0.004, "dropout": 0.2, "width": 8}
    found = experiment.measure(setting, Run("setting", 1, request, setting, tmp_path))
    assert list(found) == [f"epoch_{number}" for number in range(1, EPOCHS + 1)]
    (model,) = built
    assert float(model.optimizer.learning_rate) == pytest.approx(0.004)
    validation = sources.load(request).validation
    predicted = model.predict(validation.images, verbose=0).argmax(axis=1)
    assert found["epoch_4"] == pytest.approx(np.mean(predicted == validation.labels))


@pytest.mark.parametrize("number", range(5))
def test_grids_are_complete_and_evenly_spaced(number):
    grid = experiment.grid_of(seed=number)
    counts = [len(values) for values in grid.values()]
    assert tuple(counts) == experiment.SHAPES[number]
    assert math.prod(counts) == TRIALS
    rates = [SPACE["rate"].index(rate) for rate in grid["rate"]]
    assert np.ptp(np.diff(rates)) <= 1
    assert np.diff(rates).min() >= len(SPACE["rate"]) // len(rates)  # From one end to the other, not side by side.


def test_grids_begin_anywhere():
    lowest = {experiment.grid_of(seed)["rate"][0] for seed in range(0, 150, 5)}
    assert lowest == set(SPACE["rate"][:4])


@pytest.mark.variants
@pytest.mark.parametrize("variant", QUICK)
def test_all_spend_as_many_epochs_and_try_no_setting_twice(variant):
    toy = {setting: np.full((4, EPOCHS), float(place)) for place, setting in enumerate(SETTINGS)}
    log, most = replay(variant, toy, 1), experiment.SEARCHES[variant][1] * EPOCHS
    spent = sum(epochs for epochs, *_ in log)
    if variant.startswith("hyperband"):  # Whole rounds: what is beyond the budget does not count.
        assert TRIALS * EPOCHS <= spent < 1.25 * TRIALS * EPOCHS
        return
    assert spent == most
    assert max(Counter(score for _, score, _ in log).values()) == 1


@pytest.mark.variants
def test_bayesian_optimization_begins_as_is_said(table):
    """By default with nine random trials of three hyperparameters: random search's with the same seed."""
    kinds = {name: experiment.SEARCHES[name][0].keywords for name in ("bayesian", "bayesian_default")}
    assert kinds == {"bayesian": {"num_initial_points": 3}, "bayesian_default": {}}
    short = {name: experiment.SEARCHES[name][0](table, 5, 12) for name in (*kinds, "random")}
    same = {name: sum(a == b for a, b in zip(short[name], short["random"], strict=True)) for name in kinds}
    assert same["bayesian"] < 9 <= same["bayesian_default"] < 12


def test_twice_the_budget_goes_on_with_the_same_search(table):
    assert replay("random_twice", table, 5)[:TRIALS] == replay("random", table, 5)


def test_sobol_points_are_spread_more_evenly_than_random_ones(table):
    """Four in each quarter of the rates, or nearly, at every seed."""
    toy = {setting: np.full((4, EPOCHS), float(place)) for place, setting in enumerate(SETTINGS)}
    spread = {}
    for variant in ("sobol", "random"):
        counts = [np.bincount([int(score) // 64 for _, score, _ in replay(variant, toy, seed)], minlength=4)
                  for seed in range(8)]  # fmt: skip
        spread[variant] = np.var(counts)
    assert spread["sobol"] < 1 < spread["random"]


def test_what_is_seen_is_one_seed_and_what_counts_are_the_others():
    table = {(0.1,): np.arange(16.0).reshape(4, 4)}
    for seed in range(6):
        place = zlib.crc32(f"{seed}/{(0.1,)}".encode()) % 4
        seen, counts = experiment.looked_up(table, seed, (0.1,))
        assert seen == 4 * place + 3
        assert counts == pytest.approx(np.mean([4 * other + 3 for other in range(4) if other != place]))
        assert experiment.looked_up(table, seed, (0.1,), epochs=2)[0] == 4 * place + 1


@pytest.mark.parametrize(("budget", "counts"), [(4, 10), (7, 10), (8, 20), (9, 20), (12, 20), (13, 40)])
def test_what_counts_is_that_of_the_best_looking_trial_that_the_budget_pays_for(budget, counts):
    log = [(4, 0.3, 10.0), (4, 0.5, 20.0), (4, 0.4, 30.0), (1, 0.9, 40.0)]  # Epochs, seen, counts.
    assert experiment.chosen_by(log, budget) == counts


def test_hyperbands_promoted_trials_pay_for_their_further_epochs_only():
    toy = {setting: np.tile(np.arange(1.0, 5.0), (4, 1)) + place for place, setting in enumerate(SETTINGS)}
    epochs = [taken for taken, *_ in replay("hyperband", toy, 1)]
    assert set(epochs) == {1, 2, 4}
    assert sum(epochs) == TRIALS * EPOCHS + 10  # Three rounds of thirty.


def test_a_run_averages_its_replays(monkeypatch, table, tmp_path):
    asked = []

    def search(table, seed, trials):
        asked.append((seed, trials))
        return [(4, 0.1 * place, float(seed)) for place in range(trials)]

    monkeypatch.setattr(experiment, "SEARCHES", {"random": (search, 20)})
    run = Run("random", 7, sources.Request(), None, tmp_path)
    found = experiment.train("random", experiment.EXPERIMENT.config(replays=3), run)
    assert asked == [(21, 20), (22, 20), (23, 20)]
    assert found == {"chosen_accuracy": pytest.approx(22)}
    assert run.curves["epochs"] == [16, 32, 48, 64, 80]
    assert run.curves["chosen"] == [22.0] * 5


def test_what_a_hyperparameter_explains_by_hand():
    """A score that the rate alone decides, and one that hangs on nothing."""
    draw = np.random.default_rng(0)
    by_rate = {setting: np.full((4, EPOCHS), setting[0]) for setting in SETTINGS}
    by_nothing = {setting: np.full((4, EPOCHS), draw.normal()) for setting in SETTINGS}
    shares = [experiment.explained(by_rate, seed) for seed in range(5)]
    assert all(share["rate"] == pytest.approx(1) for share in shares)
    for name in SPACE:
        shares = [experiment.explained(by_nothing, seed)[name] for seed in range(60)]
        assert abs(np.mean(shares)) < 0.08, name
    twice = {s: np.full((4, EPOCHS), 3.0 * (s[1] > 0.3) + 1.0 * (s[2] > 10)) for s in SETTINGS}  # Variances 9 and 1.
    shares = [experiment.explained(twice, seed) for seed in range(20)]
    assert np.mean([share["dropout"] for share in shares]) == pytest.approx(0.9, abs=0.04)
    assert np.mean([share["width"] for share in shares]) == pytest.approx(0.1, abs=0.04)


def test_the_wasted_share_of_a_grid_by_hand():
    for doomed in (0, 4, 16):  # So many of the sixteen rates, the highest ones.
        toy = {s: np.full((4, EPOCHS), 0.1 if s[0] in SPACE["rate"][16 - doomed :] else 0.4) for s in SETTINGS}
        shares = {round(experiment.doomed_share(toy, seed), 6) for seed in range(40)}
        # A grid has every third rate, and begins at one of the first four: at the fourth it has two of the last four.
        assert shares == {0: {0.0}, 4: {0.2, 0.4}, 16: {1.0}}[doomed]


def test_what_is_asserted_is_counted():
    (claim,) = [claim for claim in experiment.CLAIMS if claim.asserted is not None]
    assert claim.asserted
    assert Counter(rate for rate, *_ in experiment.FULL_GRID) == dict.fromkeys(range(5), 25)


# The recipe's own searches


def sets(count: int = 60, seed: int = 0, classes: int = 3) -> tf.data.Dataset:
    draw = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    images = draw.integers(0, 120, (count, 8, 8, 3)) + 120 * (labels == np.arange(3)[:, None]).T[:, None, None, :]
    return tf.data.Dataset.from_tensor_slices((images.astype("uint8"), labels)).batch(20)


def small(hp, shape, classes):
    """A model that is built and trained in a moment."""
    rate = hp.Float("rate", 1e-4, 1.0, sampling="log")
    images = keras.Input(shape)
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Rescaling(1 / 255)(images))
    model = keras.Model(images, keras.layers.Dense(classes)(pooled))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    return model


def two_by_two(hp, shape=None, classes=None):
    hp.Choice("rate", [1e-3, 1e-2])
    hp.Boolean("wide")


HIGHEST = {"rate": 1.0}


def endless(hp):
    hp.Float("rate", 1e-4, HIGHEST["rate"], sampling="log")
    hp.Int("width", 1, 64)


def make(folder, build=endless, tuner=kt.RandomSearch, **changed):
    settings = {"trials": 8, "epochs": 2, "folder": folder, "objective": "val_accuracy", "seed": 1}
    return recipe.make_tuner(build, tuner, **{**settings, **changed})


def tried_by(tuner, score=lambda values: 0.1):
    """The settings that a tuner tries where a trial scores what `score` makes of its settings."""
    tuner.run_trial = lambda trial, **_: {"val_accuracy": score(trial.hyperparameters.values), "val_loss": 1.0}
    tuner.search(verbose=0)
    # KerasTuner loads trials in the folder's order.
    return [trial.hyperparameters.values for _, trial in sorted(tuner.oracle.trials.items())]


def test_a_hyperparameter_reaches_the_model():
    hp = kt.HyperParameters()
    for name, value in (("rate", 1e-2), ("dropout", 0.4), ("width", 16)):
        hp.Fixed(name, value)
    model = recipe.build_model(hp, (32, 32, 3), 10)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-2)
    assert [layer.rate for layer in model.layers if "Dropout" in type(layer).__name__] == [0.4]
    assert [layer.filters for layer in model.layers if "Conv2D" in type(layer).__name__] == [16, 32]


def test_settings_are_counted():
    space = kt.HyperParameters()
    assert recipe.number_of_settings(space) == 1
    space.Choice("a", [1, 2, 3])
    space.Boolean("b")
    space.Fixed("c", 7)
    assert recipe.number_of_settings(space) == 6
    space.Int("d", 1, 5)
    assert recipe.number_of_settings(space) == 30
    space.Float("e", 0.0, 1.0, step=0.25)
    assert recipe.number_of_settings(space) == 150
    space.Float("f", 1e-4, 1.0, sampling="log")
    assert recipe.number_of_settings(space) == math.inf


@pytest.mark.parametrize("tuner", [kt.RandomSearch, kt.BayesianOptimization, kt.Hyperband, kt.GridSearch])
@pytest.mark.parametrize("trials", [4, 7])
def test_a_space_of_four_settings_is_tried_once(tuner, trials, tmp_path, capsys):
    tried = tried_by(make(tmp_path, two_by_two, tuner, trials=trials))
    assert len({(values["rate"], values["wide"]) for values in tried}) == len(tried) == 4
    assert "There are only 4 settings" in capsys.readouterr().out


def test_every_setting_of_a_larger_space_is_tried_where_there_are_as_many_trials(tmp_path):
    """KerasTuner's random search gives up before, if it is left alone."""

    def build(hp):
        hp.Int("width", 1, 40)

    assert len(tried_by(make(tmp_path, build, trials=40))) == 40


def test_hyperband_is_told_of_epochs_and_the_others_of_trials(tmp_path):
    oracle = make(tmp_path, tuner=kt.Hyperband, epochs=9, factor=3).oracle
    assert (oracle.max_epochs, oracle.factor) == (9, 3)
    assert make(tmp_path, tuner=kt.BayesianOptimization, trials=5).oracle.max_trials == 5


CHANGES = {
    "epochs": {"epochs": 3},
    "seed": {"seed": 2},
    "objective": {"objective": "val_loss"},
    "tuner": {"tuner": kt.BayesianOptimization},
    "about": {"about": "other images"},
    "setting": {"executions_per_trial": 2},
}


@pytest.mark.parametrize("change", ["", "trials", *CHANGES, "space", "range", "code"])
def test_a_search_goes_on_only_with_trials_of_the_same_search(change, tmp_path, monkeypatch):
    tried_by(make(tmp_path))
    changed = {"trials": {"trials": 10}, **CHANGES}.get(change, {})
    if change == "space":

        def build(hp):
            hp.Float("rate", 1e-4, 0.5, sampling="log")

        changed = {"build": build}
    if change == "range":  # The code that reads it is the same.
        monkeypatch.setitem(HIGHEST, "rate", 0.5)
    if change == "code":
        source = recipe.inspect.getsource
        monkeypatch.setattr(recipe.inspect, "getsource", lambda of: source(of).replace("rate", "speed"))
    # More trials are of the same search.
    assert len(make(tmp_path, **changed).oracle.trials) == (8 if change in ("", "trials") else 0)


def test_a_search_that_is_given_more_trials_adds_them(tmp_path):
    before = tried_by(make(tmp_path))
    tuner, again = make(tmp_path, trials=10), []
    tuner.on_trial_begin = lambda trial: again.append(trial.trial_id)
    tried = tried_by(tuner)
    assert all(values in tried for values in before)
    assert len(tried) == 10
    assert len(again) == 2


def test_keras_tuner_leaves_the_last_value_of_some_steps_out():
    """Why the recipe names dropouts one by one; if this fails, it can say `step=0.2`."""
    hp = kt.HyperParameters()
    hp.Float("dropout", 0.0, 0.6, step=0.2)
    assert list(hp.space[0].values) == pytest.approx([0.0, 0.2, 0.4])
    assert hp.space[0].prob_to_value(0.999) == pytest.approx(0.4)


def train(folder, train_set=None, validation_set=None, **settings):
    given = {"trials": 3, "epochs": 2, "folder": folder, "build_model": small, "seed": 1, **settings}
    return recipe.train(train_set or sets(), validation_set or sets(30, seed=1), 3, **given)


@pytest.mark.variants
def test_the_best_settings_are_trained_once_more_and_a_second_call_trains_only_that(tmp_path, monkeypatch):
    class Seen(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            fits.append(float(self.model.optimizer.learning_rate))

        def on_epoch_end(self, epoch, logs=None):
            assert "val_loss" in logs

    fits = []
    model = train(tmp_path, callbacks=[Seen()])
    trials = trials_in(tmp_path)
    best = max(trials, key=lambda trial: trial["score"])
    assert len(trials) == 3
    assert fits == [pytest.approx(best["hyperparameters"]["values"]["rate"])]
    assert model.optimizer.iterations == 2 * 3
    begun = []
    monkeypatch.setattr(kt.Tuner, "on_trial_begin", lambda self, trial: begun.append(trial))
    train(tmp_path, callbacks=[Seen()])
    assert begun == []
    assert fits[1] == fits[0]


def test_a_search_ends_in_a_model_that_has_learned(tmp_path):
    data = sources.load(sources.Request(train_images=1000))
    pair = batches.training(data.train, 50, seed=1), batches.evaluation(data.validation)
    keras.utils.set_random_seed(1)
    model = recipe.train(*pair, 10, trials=2, epochs=2, seed=1, folder=tmp_path)
    assert model.evaluate(pair[1], verbose=0, return_dict=True)["accuracy"] > 0.2


@pytest.mark.variants
def test_trials_are_scored_by_the_validation_images(tmp_path):
    """Labels that no model can tell, in the validation images alone."""
    images, labels = next(iter(sets(30).unbatch().batch(30)))
    wrong = tf.data.Dataset.from_tensor_slices((images, (labels + 1) % 3)).batch(10)
    train(tmp_path, validation_set=wrong, epochs=30, trials=2, build_model=good)
    assert max(trial["score"] for trial in trials_in(tmp_path)) < 0.5


def good(hp, shape, classes):
    """A rate that learns, and one that does not move."""
    rate = hp.Choice("rate", [0.05, 1e-9])
    hp.Float("unused", 0.0, 1.0)
    model = small(kt.HyperParameters(), shape, classes)
    model.optimizer.learning_rate.assign(rate)
    return model


@pytest.mark.variants
@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy", kt.Objective("val_loss", "max")])
def test_an_objective_has_its_own_direction(tmp_path, monkeypatch, objective):
    def run_trial(self, trial, *_, **__):
        return {"val_loss": trial.hyperparameters["rate"], "val_accuracy": 1 - trial.hyperparameters["rate"]}

    monkeypatch.setattr(kt.Tuner, "run_trial", run_trial)
    model = train(tmp_path, trials=6, epochs=1, objective=objective)
    rates = [trial["hyperparameters"]["values"]["rate"] for trial in trials_in(tmp_path)]
    wanted = max(rates) if isinstance(objective, kt.Objective) else min(rates)
    assert float(model.optimizer.learning_rate) == pytest.approx(wanted)
    assert len(set(rates)) == 6
    assert len(list(tmp_path.iterdir())) == 1
    train(tmp_path, trials=6, epochs=1, objective=copy.deepcopy(objective))  # As another process makes it.
    assert len(list(tmp_path.iterdir())) == 1


def test_of_equally_good_trials_the_first_is_the_best_of_a_search_that_goes_on_too(tmp_path):
    first = make(tmp_path, trials=12)
    tried_by(first)
    again = make(tmp_path, trials=12)
    assert again.get_best_hyperparameters()[0].values == first.get_best_hyperparameters()[0].values
    again.oracle.trials = dict(sorted(again.oracle.trials.items(), reverse=True))  # Else this would tell nothing.
    assert again.get_best_hyperparameters()[0].values != first.get_best_hyperparameters()[0].values


@pytest.mark.variants
def test_a_search_knows_its_images(tmp_path):
    def folders(**changed):
        train(tmp_path, trials=1, epochs=1, **changed)
        return len(list(tmp_path.iterdir()))

    assert folders() == 1
    in_another_order = sets(30, seed=1).unbatch().shuffle(30, seed=3).batch(20)
    assert folders(validation_set=in_another_order) == 1
    assert folders(validation_set=sets(30, seed=2)) == 2
    relabeled = sets(30, seed=1).map(lambda images, labels: (images, (labels + 1) % 3))
    assert folders(validation_set=relabeled) == 3
    assert folders(train_set=sets(80)) == 4


class KilledError(BaseException):
    pass


def killed_at(number, monkeypatch, make, torn=False):
    """Search until KerasTuner's file of this number is about to be written, or was emptied; return its path."""
    written, save = [], utils.save_json

    def save_or_be_killed(path, content):
        written.append(Path(path))
        if len(written) == number:
            if torn:
                Path(path).write_text("")
            raise KilledError
        return save(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(utils, "save_json", save_or_be_killed)
        with pytest.raises(KilledError):
            tried_by(make())
    return written[-1]


@pytest.mark.parametrize("tuner", [kt.RandomSearch, kt.BayesianOptimization, kt.Hyperband])
def test_a_search_that_was_killed_between_two_files_loses_no_finished_trial(tuner, tmp_path, monkeypatch):
    """Such as between the file of a new trial and oracle.json, where KerasTuner alone would never end that trial."""
    begin = lambda: make(tmp_path / str(number), tuner=tuner)  # noqa: E731
    number = 0
    whole = tried_by(begin())
    for number in range(1, 15) if tuner is not kt.BayesianOptimization else (9, 14):
        killed_at(number, monkeypatch, begin)
        done = [trial["trial_id"] for trial in trials_in(tmp_path / str(number)) if trial["status"] == "COMPLETED"]
        maker, again = begin(), []
        maker.on_trial_begin = lambda trial, again=again: again.append(trial.trial_id)
        tried = tried_by(maker)
        assert {trial["status"] for trial in trials_in(tmp_path / str(number))} == {"COMPLETED"}
        assert len(set(done) & set(again)) <= 1  # One that oracle.json did not know to have ended.
        assert tuner is kt.BayesianOptimization or tried == whole
        assert len(tried) == len(whole)


@pytest.mark.parametrize("number", [9, 10, 14])
def test_a_file_that_is_cut_off_is_no_empty_search(number, tmp_path, monkeypatch):
    begin = lambda: make(tmp_path)  # noqa: E731
    killed_at(number, monkeypatch, begin, torn=True)
    with pytest.raises(json.JSONDecodeError):
        begin()


def test_a_worker_leaves_the_chiefs_files_alone(tmp_path, monkeypatch):
    project = Path(make(tmp_path).project_dir)
    (project / "trial_7").mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-0")
    make(tmp_path)
    assert (project / "trial_7").is_dir()
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    make(tmp_path)
    assert not (project / "trial_7").is_dir()


# The script of docs/searching.md, alone, killed, and as chief and worker


@pytest.fixture
def script(tmp_path):
    """The script as it stands there, beside a folder of images."""
    page = (ROOT / "docs" / "searching.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(# my_search.py\n.*?)```", page, re.DOTALL)
    path = tmp_path / "my_search.py"
    path.write_text(text, encoding="utf-8")
    for number, (image, label) in enumerate(sets(90).unbatch()):
        place = tmp_path / "photos" / str(int(label))
        place.mkdir(parents=True, exist_ok=True)
        tf.io.write_file(str(place / f"{number}.png"), tf.io.encode_png(image))
    return path


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}


def run_alone(script):
    return subprocess.run(
        [sys.executable, script.name], cwd=script.parent, env=ENVIRONMENT, capture_output=True, text=True
    )


@pytest.mark.processes
def test_the_script_of_the_page_searches_goes_on_and_begins_anew_when_it_has_changed(script):
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    assert "'rate'" in done.stdout
    (folder,) = (script.parent / "logs" / "my_search").iterdir()
    assert f"tensorboard --logdir {folder.relative_to(script.parent)}" in done.stdout
    rows, scores = rows_of(folder), {trial["trial_id"]: trial["score"] for trial in trials_in(folder)}
    assert set(rows) == set(scores)
    assert all(rows[name] <= scores[name] + 1e-6 for name in rows)  # The last epoch's, and the best one's.
    assert any(rows.values())  # A bad rate can be wrong on all of 18 images.
    again = run_alone(script)
    assert again.stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:]
    assert len(list(folder.parent.iterdir())) == 1
    script.write_text(script.read_text().replace("EPOCHS = 2", "EPOCHS = 1"))
    assert run_alone(script).returncode == 0
    assert len(list(folder.parent.iterdir())) == 2


@pytest.mark.processes
def test_a_killed_script_goes_on_without_training_a_finished_trial_again(script):
    process = subprocess.Popen(
        [sys.executable, script.name], cwd=script.parent, env=ENVIRONMENT, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        # A trial is stored when the next one has begun.
        while len(list(script.parent.rglob("trial_*/trial.json"))) < 2:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(0.5)  # Past the writing of oracle.json, which a kill could cut off.
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {
        path: path.stat().st_mtime_ns
        for path in script.parent.rglob("trial_*/trial.json")
        if json.loads(path.read_text())["status"] == "COMPLETED"
    }
    assert before
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert [trial["status"] for trial in trials_in(script.parent)] == ["COMPLETED"] * 4


def rows_of(folder):
    """TensorBoard's HParams page: the name of each row -> its last validation accuracy."""
    events = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    context = base_plugin.TBContext(data_provider=data_provider.MultiplexerDataProvider(events, str(folder)))
    request = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=[0, 1, 2, 3])
    page = list_session_groups.Handler(RequestContext(), backend_context.Context(context), "", request)
    accuracy = ("validation", "epoch_accuracy")
    return {
        row.name: value.value
        for row in page.run().session_groups
        for value in row.metric_values
        if (value.name.group, value.name.tag) == accuracy
    }


@pytest.mark.processes
def test_a_chief_and_a_worker_do_the_search_of_the_page(script):
    """Started as the page says: with KerasTuner's own variables."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        shared = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(free.getsockname()[1])}
    command, running = [sys.executable, script.name], []
    try:
        for name in ("chief", "worker-0"):
            shared |= {"KERASTUNER_TUNER_ID": name, "no_grpc_proxy": "127.0.0.1"}
            running.append(
                subprocess.Popen(command, cwd=script.parent, env=ENVIRONMENT | shared, stdout=subprocess.PIPE)
            )
        printed = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0]
    assert [b"'rate'" in text for text in printed] == [True, False]  # The chief prints.
    assert [trial["status"] for trial in trials_in(script.parent)] == ["COMPLETED"] * 4
