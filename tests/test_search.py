"""The two recipes about searching: seeds, budgets, kills and folders of KerasTuner's tuners."""

import dataclasses
import itertools
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import keras_tuner as kt
import numpy as np
import pytest
import threadpoolctl
from keras_tuner.src import utils
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from lab.cli import commands
from lab.core.run import Run
from lab.experiments import search as search_experiment
from lab.experiments import search_replayed as search_replayed_experiment
from lab.report.published import RESULTS
from lab.search.kills import check_files
from pipelines import sources
from recipes import search, search_replayed
from tests.conftest import ROOT, evidence_in, trials_in

SPACE, EPOCHS = search_replayed.SPACE, search_replayed.EPOCHS


@pytest.fixture(autouse=True)
def one_thread():
    """As workers have it: Bayesian optimization's small matrices take five times as long on several threads."""
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def table():
    return search_replayed.TABLE.read("search_replayed")


@pytest.fixture(scope="module")
def toy():
    """A table whose scores rise with the setting's place."""
    settings = itertools.product(*SPACE.values())
    return {setting: np.full((4, EPOCHS), place / 256) for place, setting in enumerate(settings)}


def walk(variant, seed, table):
    """What a replayed search does: of each trial its epochs, the score seen and the score that counts."""
    return search_replayed.walk(variant, table, seed).tolist()


def settings_tried(variant, seed, table):
    with tempfile.TemporaryDirectory() as folder:
        tuner = search_replayed.make_tuner(variant, seed, folder)
        tuner.search(table=table, seed=3, log=[], verbose=0)
    return [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]


def obeys_its_seed(variant, table):
    first, again, other = (settings_tried(variant, seed, table) for seed in (3, 3, 4))
    return first == again and first != other


@pytest.fixture
def few_trials(request, monkeypatch):
    """Six trials are enough of Bayesian optimization, whose thinking takes longer with each."""
    if request.node.callspec.params["variant"] == "bayesian":
        monkeypatch.setattr(search_replayed, "TRIALS", 6)


@pytest.mark.parametrize("variant", search_replayed_experiment.VARIANTS)
@pytest.mark.usefixtures("few_trials")
def test_a_search_repeats_with_its_seed_and_only_with_it(variant, table):
    assert obeys_its_seed(variant, table)


@pytest.mark.parametrize("ignored", [None, 7])
def test_a_search_that_ignores_its_seed_is_noticed(ignored, table, monkeypatch):
    class Forgetful(search_replayed.Random):
        def __init__(self, *arguments, seed, **rest):
            super().__init__(*arguments, seed=ignored, **rest)

    monkeypatch.setattr(search_replayed, "Random", Forgetful)
    assert not obeys_its_seed("random", table)


def test_keras_tuners_neighbouring_seeds_walk_the_same_settings(tmp_path):
    """The trap that the factor of 1000 is there for; if this fails, it can go."""

    def settings(seed):
        space = kt.HyperParameters()
        for name, values in SPACE.items():
            space.Choice(name, values)
        oracle = kt.oracles.RandomSearchOracle("val_accuracy", 5, hyperparameters=space, seed=seed)
        oracle._set_project_dir(tmp_path, str(seed))
        return [tuple(oracle.populate_space(str(number))["values"].values()) for number in range(5)]

    assert settings(5)[:4] == settings(2)[1:]
    assert settings(1005)[:4] != settings(2)[1:]


def test_the_table_is_complete_and_small(table):
    assert len(table) == math.prod(len(values) for values in SPACE.values()) == 16 * 4 * 4
    assert all(curves.shape == (4, EPOCHS) for curves in table.values())
    assert max(SPACE["rate"]) / min(SPACE["rate"]) == 10_000
    assert (RESULTS / "search_replayed" / "tuning.json").stat().st_size <= 5e6


@pytest.mark.parametrize("number", range(5))
def test_grids_are_complete_and_evenly_spaced(number):
    grid = search_replayed.grid_of(seed=number)
    counts = [len(values) for values in grid.values()]
    assert tuple(counts) == search_replayed.SHAPES[number]
    assert math.prod(counts) == search_replayed.TRIALS
    rates = [SPACE["rate"].index(rate) for rate in grid["rate"]]
    assert np.ptp(np.diff(rates)) <= 1
    assert np.diff(rates).min() >= len(SPACE["rate"]) // len(rates)  # From one end to the other, not side by side.


def test_grids_begin_anywhere():
    lowest = {search_replayed.grid_of(seed)["rate"][0] for seed in range(0, 150, 5)}
    assert lowest == set(SPACE["rate"][:4])


def test_all_spend_as_many_epochs(toy):
    most = search_replayed.TRIALS * EPOCHS
    quick = [variant for variant in search_replayed_experiment.VARIANTS if variant != "bayesian"]
    spent = {variant: sum(epochs for epochs, *_ in walk(variant, 1, toy)) for variant in quick}
    assert most <= spent.pop("hyperband") < 1.25 * most  # Whole rounds; what is beyond does not count.
    assert spent.pop("random_twice") == 2 * most
    assert set(spent.values()) == {most}


def test_bayesian_optimization_has_as_many_trials_and_begins_with_three_random_ones(tmp_path):
    oracle = search_replayed.make_tuner("bayesian", 1, tmp_path).oracle
    assert oracle.max_trials == search_replayed.TRIALS
    assert oracle.num_initial_points == 3


SETTINGS = list(itertools.product(*SPACE.values()))


def counting(place):
    """What the other seeds of the toy table say of a setting: nothing like what is seen of it."""
    return place * 37 % len(SETTINGS)


def test_twice_the_budget_goes_on_with_the_same_search(table):
    assert walk("random_twice", 5, table)[:20] == walk("random", 5, table)


@pytest.mark.parametrize(("variant", "budget"), [("random", 20), ("hyperband", 20), ("random_twice", 40)])
def test_what_counts_is_what_the_other_seeds_say_of_the_best_that_was_affordable(variant, budget):
    changed = at_the_limit = False
    for seed in range(1, 5):
        table = {}
        for place, setting in enumerate(SETTINGS):
            values = [float(counting(place))] * 4
            values[zlib.crc32(f"{seed}/{setting}".encode()) % 4] = place
            table[setting] = np.repeat(np.array(values)[:, None], EPOCHS, axis=1)
        found = search_replayed.replay(variant, table, seed)
        steps = walk(variant, seed, table)
        spent = list(itertools.accumulate(epochs for epochs, *_ in steps))
        for trials, score in zip(range(4, budget + 1, 4), found, strict=True):
            affordable = [seen for (_, seen, _), cost in zip(steps, spent, strict=True) if cost <= trials * EPOCHS]
            assert score == pytest.approx(counting(max(affordable)))
            at_the_limit |= spent[len(affordable) - 1] == trials * EPOCHS and affordable.index(max(affordable)) == (
                len(affordable) - 1
            )
        changed |= len(set(found)) > 1
    assert changed  # Budgets differ in what they find: a cut at another place would be noticed.
    assert at_the_limit or variant == "hyperband"  # And the trial that takes the last epoch of a budget counts.


def test_what_random_search_reaches_is_what_random_searches_reach():
    """Against searches drawn by hand, of a small table of four seeds."""
    draw = np.random.default_rng(5)
    worth = draw.normal(size=30)
    table = {place: worth[place] + draw.normal(size=(4, 2)) for place in range(30)}
    reaches = search_replayed_experiment.random_reaches(table, most=10)
    assert len(reaches) == 10
    scores = np.stack(list(table.values()))[:, :, -1]
    for n in (1, 4, 10):
        found = []
        for _ in range(4000):
            tried, seen = draw.permutation(30)[:n], draw.integers(4, size=30)
            best = max(tried, key=lambda place, seen=seen: scores[place, seen[place]])
            found.append(np.delete(scores[best], seen[best]).mean())
        assert reaches[n - 1] == pytest.approx(np.mean(found), abs=0.06)
    assert reaches[9] > reaches[3] + 0.1 > reaches[0] + 0.2


def test_doublings_count_the_random_trials_that_reach_as_much(monkeypatch, tmp_path):
    monkeypatch.setattr(search_replayed.Table, "read", lambda *_: None)
    monkeypatch.setattr(
        search_replayed_experiment, "random_reaches", lambda table: np.array([0.1, 0.2, 0.3, 0.35, 0.4])
    )
    monkeypatch.setattr(search_replayed, "replay", lambda variant, table, seed: [0.0, 0.4 if seed % 2 else 0.2])
    run = Run("random", 3, sources.Request(), None, tmp_path)
    found = search_replayed_experiment.train("random", search_replayed.Config(replays=2), run)
    assert found == {"chosen_accuracy": pytest.approx(0.3), "doublings": pytest.approx((np.log2(5) + np.log2(2)) / 2)}


@pytest.fixture(scope="module")
def data():
    return sources.load(sources.Request(train_images=1000))


def tried_by(tuner, score=lambda values: 0.1):
    """The settings that a tuner tries where a trial scores what `score` makes of its settings."""
    tuner.run_trial = lambda trial, **_: {"val_accuracy": score(trial.hyperparameters.values), "val_loss": 1.0}
    tuner.search(verbose=0)
    # KerasTuner loads trials in the folder's order.
    return [trial.hyperparameters.values for _, trial in sorted(tuner.oracle.trials.items())]


def test_the_live_grid_walks_along_one_edge(data, tmp_path):
    """What `search` says of KerasTuner's grid: eight trials never leave the lowest rate. If not, its text can go."""
    tried = tried_by(search.make_tuner("grid", data, search.Config(), 1, tmp_path))
    assert len(tried) == 8
    assert {values["rate"] for values in tried} == {min(search.RATES)}
    assert len({values["width"] for values in tried}) == len(search.WIDTHS)


def test_live_bayesian_optimization_begins_with_three_random_trials(data, tmp_path):
    assert search.make_tuner("bayesian", data, search.Config(), 1, tmp_path).oracle.num_initial_points == 3


def test_live_hyperband_spends_no_more_epochs_than_the_others(data, tmp_path):
    config = search.Config()
    tried = tried_by(search.make_tuner("hyperband", data, config, 1, tmp_path), lambda values: values["rate"])
    spent = sum(values["tuner/epochs"] - values["tuner/initial_epoch"] for values in tried)
    assert 0.8 * config.trials * config.epochs <= spent <= config.trials * config.epochs


def test_every_live_tuner_tries_other_settings_at_another_seed(data, tmp_path):
    tried = [tried_by(search.make_tuner("random", data, search.Config(), seed, tmp_path)) for seed in (1, 2)]
    assert not [values for values in tried[0] if values in tried[1]][3:]  # Of 125 settings, a few are met twice.


@pytest.mark.parametrize("variant", ["random", "bayesian", "hyperband"])
@pytest.mark.parametrize("trials", [4, 7])
def test_a_space_of_four_settings_is_tried_once(variant, trials, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search, "RATES", (1e-3, 1e-2))
    monkeypatch.setattr(search, "DROPOUTS", (0.0, 0.3))
    monkeypatch.setattr(search, "WIDTHS", (8,))
    tried = tried_by(search.make_tuner(variant, data, search.Config(trials=trials), 1, tmp_path))
    assert len({(values["rate"], values["dropout"]) for values in tried}) == len(tried) == 4
    assert "There are 4 settings" in capsys.readouterr().out


def test_an_objective_has_its_own_direction(tmp_path, monkeypatch):
    """With the loss as the objective the lowest one is the best trial, and its settings are trained."""
    monkeypatch.setattr(search, "OBJECTIVE", "val_loss")
    loss = lambda self, trial, **_: {"val_loss": trial.hyperparameters["rate"], "val_accuracy": 0.5}  # noqa: E731
    monkeypatch.setattr(kt.Tuner, "run_trial", loss)
    built, build = [], search.build_model
    monkeypatch.setattr(search, "build_model", lambda hp, data: built.append(dict(hp.values)) or build(hp, data))
    run = Run("random", 1, sources.Request(train_images=1000), None, tmp_path / "seed-1")
    run.folder.mkdir()
    found = search.train("random", search.Config(trials=6, epochs=1), run)
    scores = [trial["score"] for trial in trials_in(tmp_path)]
    assert run.curves["trial_score"] == scores
    assert found["trials"] == len(scores) == 6
    assert found["best_trial"] == built[-1]["rate"] == min(scores) < max(scores)


CHANGES = {
    "epochs": lambda: {"config": search.Config(epochs=3)},
    "trials": lambda: {"config": search.Config(trials=9)},
    "batch_size": lambda: {"config": search.Config(batch_size=64)},
    "seed": lambda: {"seed": 2},
    "variant": lambda: {"variant": "bayesian"},
    "fewer_images": lambda: {"data": sources.load(sources.Request(train_images=500))},
    "another_split": lambda: {"data": sources.load(sources.Request(train_images=1000, split_seed=1))},
    "another_digest": lambda: {
        "data": dataclasses.replace(sources.load(sources.Request(train_images=1000)), digest="0")
    },
    "space": lambda: {},
    "objective": lambda: {},
    "code": lambda: {},
}


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_a_search_goes_on_only_with_trials_of_the_same_search(change, data, tmp_path, monkeypatch):
    same = {"variant": "random", "data": data, "config": search.Config(), "seed": 1, "folder": tmp_path}
    tried_by(search.make_tuner(**same))
    if change == "space":
        monkeypatch.setattr(search, "RATES", (*search.RATES, 2.0))
    elif change == "objective":
        monkeypatch.setattr(search, "OBJECTIVE", "val_loss")
    elif change == "code":
        source = search.inspect.getsource
        monkeypatch.setattr(search.inspect, "getsource", lambda of: source(of).replace("strides=2", "strides=1"))
    found = search.make_tuner(**{**same, **(CHANGES[change]() if change else {})}).oracle.trials
    assert len(found) == (0 if change else 8)


def test_a_shared_search_has_a_folder_of_its_own(data, monkeypatch):
    same = ("random", data, search.Config(), 1)
    alone = search.project_name(*same)
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    assert search.project_name(*same) != alone


def test_each_trial_begins_with_the_same_weights_and_the_same_images(data):
    """So that a search which was killed ends the same, whatever had been trained before in its process."""
    trial = search.Trial(data, search.Config(epochs=3), seed=1)
    first, _, third = (trial.build(kt.HyperParameters()).get_weights() for _ in range(3))
    assert all(np.array_equal(a, b) for a, b in zip(first, third, strict=True))
    seen, epochs = [], []

    class Model:
        def fit(self, feed, **settings):
            seen.append(next(iter(feed))[0].numpy())
            epochs.append(settings["epochs"])

    hp = kt.HyperParameters()
    trial.fit(hp, Model(), epochs=7)  # Which the folder's name would not cover.
    hp.values["tuner/epochs"] = 2
    trial.fit(hp, Model(), epochs=2)
    assert np.array_equal(*seen)
    assert epochs == [3, 2]


def test_a_hyperparameter_reaches_the_model(data):
    hp = kt.HyperParameters()
    for name, value in (("rate", 1e-2), ("dropout", 0.45), ("width", 48)):
        hp.Fixed(name, value)
    model = search.build_model(hp, data)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-2)
    assert [layer.rate for layer in model.layers if "Dropout" in type(layer).__name__] == [0.45]
    assert [layer.filters for layer in model.layers if "Conv2D" in type(layer).__name__] == [48, 96]
    setting = {"rate": 1e-3, "dropout": 0.2, "width": 16}
    model = search_replayed.build_model(setting, data)
    assert float(model.optimizer.learning_rate) == pytest.approx(1e-3)
    assert [layer.rate for layer in model.layers if "Dropout" in type(layer).__name__] == [0.2]
    assert [layer.filters for layer in model.layers if "Conv2D" in type(layer).__name__] == [16, 32]


def whole_and_stopped(variant, table, folder):
    """The trials of a search, and of one that was stopped after five of them."""

    class StoppedError(BaseException):
        pass

    log, rest = [], {"table": table, "seed": 3, "verbose": 0}
    tuner = search_replayed.make_tuner(variant, 3, folder)
    look_up = tuner.run_trial

    def stopping(trial, log, **rest):
        if len(log) == 5:
            raise StoppedError
        return look_up(trial, log=log, **rest)

    tuner.run_trial = stopping
    with pytest.raises(StoppedError):
        tuner.search(log=log, **rest)
    search_replayed.make_tuner(variant, 3, folder).search(log=log, **rest)
    return walk(variant, 3, table), np.array(log).tolist()


@pytest.mark.parametrize("variant", ["grid", "random", "hyperband"])
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(variant, table, tmp_path):
    whole, stopped = whole_and_stopped(variant, table, tmp_path)
    assert stopped == whole


def test_keras_tuners_own_grid_search_cannot_go_on(table, tmp_path, monkeypatch):
    """When this fails, a new version of KerasTuner remembers where it was, and ResumableGridSearch can go."""

    class Own(search_replayed.FromTable, kt.GridSearch):
        pass

    monkeypatch.setattr(search_replayed, "Grid", Own)
    with pytest.raises(KeyError):
        whole_and_stopped("grid", table, tmp_path)


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


@pytest.mark.parametrize("variant", ["grid", "random", "bayesian", "hyperband"])
def test_a_search_that_was_killed_between_two_files_loses_no_finished_trial(variant, data, tmp_path, monkeypatch):
    """Such as between the file of a new trial and oracle.json, where KerasTuner alone would never end that trial."""
    make = lambda: search.make_tuner(variant, data, search.Config(), 1, tmp_path / str(number))  # noqa: E731
    number = 0
    whole = tried_by(make())
    for number in range(8, 17) if variant != "bayesian" else (9, 30):
        killed_at(number, monkeypatch, make)
        done = [trial["trial_id"] for trial in trials_in(tmp_path / str(number)) if trial["status"] == "COMPLETED"]
        tuner, again = make(), []
        tuner.on_trial_begin = lambda trial, again=again: again.append(trial.trial_id)
        tried = tried_by(tuner)
        assert {trial["status"] for trial in trials_in(tmp_path / str(number))} == {"COMPLETED"}
        assert len(set(done) & set(again)) <= 1  # One that oracle.json did not know to have ended.
        assert variant == "bayesian" or tried == whole
        assert len(tried) == len(whole)


@pytest.mark.parametrize("number", [9, 10, 14])
def test_a_file_that_is_cut_off_is_named_and_nothing_is_removed(number, data, tmp_path, monkeypatch):
    make = lambda: search.make_tuner("random", data, search.Config(), 1, tmp_path)  # noqa: E731
    torn = killed_at(number, monkeypatch, make, torn=True)
    files = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=f"{torn.name} is cut off"):
        make()
    assert sorted(tmp_path.rglob("*")) == files


def test_a_worker_leaves_the_chiefs_files_alone(tmp_path, monkeypatch):
    (tmp_path / "trial_0").mkdir()
    (tmp_path / "oracle.json").write_text("")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "worker-0")
    check_files(tmp_path)
    assert (tmp_path / "trial_0").is_dir()


@pytest.mark.processes
def test_a_killed_search_goes_on_without_training_a_finished_trial_again(tmp_path):
    variants = ("grid", "hyperband")
    flags = ["--budget", "smoke", "--variants", *variants, "--jobs", "2", "--logdir", str(tmp_path)]
    start = [sys.executable, "-m", "recipes.search", *flags]
    process = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        # A trial is stored when the next one has begun.
        while not all(len(list(tmp_path.rglob(f"{name}/*/*/trial_*/trial.json"))) >= 2 for name in variants):
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(1)  # Past the writing of oracle.json, which a kill could cut off.
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = {
        path: path.stat().st_mtime_ns
        for path in tmp_path.rglob("trial_*/trial.json")
        if json.loads(path.read_text())["status"] == "COMPLETED"
    }
    assert before
    assert commands.run(search_experiment.EXPERIMENT, [*flags, "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    records = evidence_in(tmp_path)["records"]
    assert [(record["variant"], record["status"]) for record in records] == [(name, "finished") for name in variants]


# Chief and workers


@pytest.fixture
def script(tmp_path):
    """The script of docs/searching.md, as it stands there."""
    page = (ROOT / "docs" / "searching.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```python\n(# my_search.py\n.*?)```", page, re.DOTALL)
    path = tmp_path / "my_search.py"
    path.write_text(text, encoding="utf-8")
    return path


def run_alone(script):
    return subprocess.run([sys.executable, script.name], cwd=script.parent, capture_output=True, text=True)


@pytest.mark.processes
def test_the_script_of_the_page_searches_goes_on_and_begins_anew_when_it_has_changed(script):
    done = run_alone(script)
    assert done.returncode == 0, done.stderr
    assert "'rate'" in done.stdout
    (folder,) = (script.parent / "logs" / "my_search").iterdir()
    assert f"tensorboard --logdir {folder.relative_to(script.parent)}" in done.stdout
    rows, scores = rows_of(folder), {trial["trial_id"]: trial["score"] for trial in trials_in(folder)}
    assert set(rows) == set(scores)
    assert all(0.05 < rows[name] <= scores[name] + 1e-6 for name in rows)  # The last epoch's, and the best one's.
    again = run_alone(script)
    assert again.stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:]
    assert len(list(folder.parent.iterdir())) == 1
    script.write_text(script.read_text().replace("epochs=2", "epochs=1"))
    (folder / "oracle.json").write_text("")
    assert run_alone(script).returncode == 0
    assert len(list(folder.parent.iterdir())) == 2
    script.write_text(script.read_text().replace("epochs=1", "epochs=2"))
    broken = run_alone(script)
    assert broken.returncode == 1
    assert "Traceback" not in broken.stderr
    assert "oracle.json is cut off" in broken.stderr.splitlines()[-1]


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
                subprocess.Popen(command, cwd=script.parent, env=os.environ | shared, stdout=subprocess.PIPE)
            )
        printed = [process.communicate(timeout=300)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0]
    assert [b"'rate'" in text for text in printed] == [True, False]  # The chief prints.
    assert [trial["status"] for trial in trials_in(script.parent)] == ["COMPLETED"] * 4
