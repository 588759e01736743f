"""KerasTuner's searches keep to their seeds and budgets, survive doomed trials, and resume; the chief is supervised."""

import itertools
import math
import os
import re
import signal
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

from lab.core.run import Run
from lab.experiments import search_replayed as search_replayed_experiment
from lab.report.published import RESULTS
from lab.search import supervise
from pipelines import sources
from recipes import search, search_replayed
from tests.conftest import ROOT, trials_in

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
    """Eight trials are enough of Bayesian optimization, whose thinking takes longer with each."""
    if request.node.callspec.params["variant"] == "bayesian":
        monkeypatch.setattr(search_replayed, "TRIALS", 8)


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
    spent = {
        variant: sum(epochs for epochs, *_ in walk(variant, 1, toy)) for variant in search_replayed_experiment.VARIANTS
    }
    assert most <= spent.pop("hyperband") < 1.25 * most  # Whole rounds; what is beyond does not count.
    assert spent.pop("random_twice") == 2 * most
    assert set(spent.values()) == {most}


def test_bayesian_optimization_begins_with_three_random_trials(tmp_path):
    assert search_replayed.make_tuner("bayesian", 1, tmp_path).oracle.num_initial_points == 3


SETTINGS = list(itertools.product(*SPACE.values()))


def counting(place):
    """What the other seeds of the toy table say of a setting: nothing like what is seen of it."""
    return place * 37 % len(SETTINGS)


def test_twice_the_budget_goes_on_with_the_same_search(table):
    assert walk("random_twice", 5, table)[:20] == walk("random", 5, table)


@pytest.mark.parametrize(("variant", "budget"), [("random", 20), ("hyperband", 20), ("random_twice", 40)])
def test_what_counts_is_what_the_other_seeds_say_of_the_best_that_was_affordable(variant, budget):
    changed = False
    for seed in range(1, 9):
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
        changed |= len(set(found)) > 1
    assert changed  # Budgets differ in what they find: a cut at another place would be noticed.


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
    monkeypatch.setattr(search_replayed, "random_reaches", lambda table: np.array([0.1, 0.2, 0.3, 0.35, 0.4]))
    monkeypatch.setattr(search_replayed, "replay", lambda variant, table, seed: [0.0, 0.4 if seed % 2 else 0.2])
    run = Run("random", 3, sources.Request(), None, tmp_path, logging=False)
    found = search_replayed_experiment.train("random", search_replayed.Config(replays=2), run)
    assert found == {"chosen_accuracy": pytest.approx(0.3), "doublings": pytest.approx((np.log2(5) + np.log2(2)) / 2)}


def tuner_of(variant, folder, trials=8):
    config = search.Config(trials=trials, epochs=2)
    return search.make_tuner(variant, sources.load(sources.Request(train_images=1000)), config, 1, folder)


def test_the_live_grid_walks_along_one_edge(tmp_path):
    """What `search` says of KerasTuner's grid: eight trials never leave the lowest rate. If not, its text can go."""
    tuner = tuner_of("grid", tmp_path)
    tuner.run_trial = lambda trial, **_: {"val_accuracy": 0.1}
    tuner.search(verbose=0)
    tried = [trial.hyperparameters.values for trial in tuner.oracle.trials.values()]
    assert len(tried) == 8
    assert {values["rate"] for values in tried} == {min(search.RATES)}
    assert len({values["width"] for values in tried}) == len(search.WIDTHS)


def test_live_bayesian_optimization_begins_with_three_random_trials(tmp_path):
    assert tuner_of("bayesian", tmp_path).oracle.num_initial_points == 3


def test_live_hyperband_spends_no_more_epochs_than_the_others(tmp_path):
    config = search.Config()
    tuner = search.make_tuner("hyperband", sources.load(sources.Request(train_images=1000)), config, 1, tmp_path)
    spent = []

    def run(trial, **_):
        values = trial.hyperparameters.values
        spent.append(values["tuner/epochs"] - values["tuner/initial_epoch"])
        return {"val_accuracy": float(len(spent))}

    tuner.run_trial = run
    tuner.search(verbose=0)
    assert 0.8 * config.trials * config.epochs <= sum(spent) <= config.trials * config.epochs


def test_every_live_tuner_tries_other_settings_at_another_seed(tmp_path):
    data = sources.load(sources.Request(train_images=1000))
    tried = []
    for seed in (1, 2):
        tuner = search.make_tuner("random", data, search.Config(), seed, tmp_path / str(seed))
        tuner.run_trial = lambda trial, **_: {"val_accuracy": 0.1}
        tuner.search(verbose=0)
        tried.append([tuple(trial.hyperparameters.values.values()) for trial in tuner.oracle.trials.values()])
    assert tried[0] != tried[1]
    assert not set(tried[0]) <= set(tried[1])


def test_each_trial_begins_with_the_same_weights_and_the_same_images():
    """So that a search which was killed ends the same, whatever had been trained before in its process."""
    trial = search.Trial(sources.load(sources.Request(train_images=1000)), search.Config(), seed=1)
    first, _, third = (trial.build(kt.HyperParameters()).get_weights() for _ in range(3))
    assert all(np.array_equal(a, b) for a, b in zip(first, third, strict=True))
    seen = []

    class Model:
        def fit(self, feed, **settings):
            seen.append(next(iter(feed))[0].numpy())

    for _ in range(2):
        trial.fit(None, Model(), epochs=1)
    assert np.array_equal(*seen)


def test_a_hyperparameter_reaches_the_model():
    data = sources.load(sources.Request(train_images=1000))
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


@pytest.mark.parametrize("variant", ["grid", "random", "hyperband", "bayesian"])
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


@pytest.mark.parametrize("variant", ["grid", "random", "hyperband", "bayesian"])
@pytest.mark.usefixtures("few_trials")
def test_a_search_that_was_killed_while_it_wrote_goes_on_as_if_it_had_not_been(variant, table, tmp_path, monkeypatch):
    """At each of the first files that it writes: that one is then empty, and the ones after it are not written."""

    class KilledError(BaseException):
        pass

    written, kill_at, write = [], None, Path.write_text

    def write_or_be_killed(path, text, **how):
        written.append(path)
        if len(written) == kill_at:
            path.touch()
            raise KilledError
        return write(path, text, **how)

    def trials_of(folder, log):
        tuner = search_replayed.make_tuner(variant, 3, folder)
        tuner.search(log=log, table=table, seed=3, verbose=0)
        return [
            (name, trial.hyperparameters.values, trial.score) for name, trial in sorted(tuner.oracle.trials.items())
        ]

    monkeypatch.setattr(Path, "write_text", write_or_be_killed)
    whole = trials_of(tmp_path / "whole", [])
    assert len(written) > 2 * len(whole)
    # Bayesian optimization, which takes long, when its random trials are over.
    for kill_at in (25,) if variant == "bayesian" else range(1, 16):
        written.clear()
        with pytest.raises(KilledError):
            trials_of(tmp_path / str(kill_at), [])
        ended = how_many_ended(tmp_path / str(kill_at))
        log = []
        assert trials_of(tmp_path / str(kill_at), log) == whole
        assert len(log) == len(whole) - ended  # None of these was done again.


def how_many_ended(folder):
    """Trials that have ended; none until KerasTuner has put its own file away, after the first: then it begins anew."""
    known = [path for path in folder.rglob("tuner0.json") if path.stat().st_size]
    return sum(trial["status"] == "COMPLETED" for trial in trials_in(folder)) if known else 0


# Chief and workers


def test_a_chief_and_two_workers_do_the_search_of_the_page_though_one_is_killed(tmp_path):
    readme = (ROOT / "docs" / "searching.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(# my_search.py\n.*?)```", readme, re.DOTALL)
    (tmp_path / "my_search.py").write_text(script, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "lab.search.supervise",
        "--workers",
        "2",
        "--timeout",
        "280",
        "my_search.py",
    ]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    victim = None
    while victim is None and process.poll() is None:
        time.sleep(0.1)
        if list(tmp_path.rglob("trial_*/trial.json")):
            victim = worker_of(process.pid)
    if victim:
        os.kill(victim, signal.SIGKILL)
    printed, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "died (exit code -9) and is started again" in said
    trials = trials_in(tmp_path)
    assert [trial["status"] for trial in trials] == ["COMPLETED"] * 4
    assert "rate" in printed


def worker_of(parent):
    """The process id of a worker among the children of `parent`."""
    for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        if b"KERASTUNER_TUNER_ID=worker" in Path(f"/proc/{child}/environ").read_bytes():
            return int(child)
    return None


ROLE = "import os, sys, time\nchief = os.environ['KERASTUNER_TUNER_ID'] == 'chief'\n"


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("time.sleep(1 if chief else 0.1)", ""),
        ("time.sleep(100 if chief else 0.1)", ""),  # It waits for a worker that is gone.
        ("time.sleep(0.1 if chief else 100)", ""),
        ("sys.exit(3) if chief else time.sleep(100)", "The chief died"),
        ("time.sleep(0.6 if chief else 0.1)\nif chief: sys.exit(3)", "failed after it (exit code 3)"),
        (
            "time.sleep(100) if chief else sys.exit(3)",
            "died (exit code 3), and workers were started again often enough",
        ),
        ("time.sleep(100)", "took longer than 3 s"),
    ],
)
def test_whatever_happens_everyone_ends(script, complaint, tmp_path, monkeypatch):
    monkeypatch.setattr(supervise, "GRACE", 1)
    (tmp_path / "toy.py").write_text(ROLE + "open(f'{os.getpid()}.pid', 'w').close()\n" + script)
    monkeypatch.chdir(tmp_path)
    said = supervise.supervise([sys.executable, "toy.py"], workers=2, restarts=1, timeout=3)
    assert complaint in said if complaint else said == ""
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert pids
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [(["no_such.py"], "there is no script no_such.py"), (["--workers", "0", __file__], "--workers must be at least 1")],
)
def test_bad_usage_is_one_sentence(flags, sentence, capsys):
    with pytest.raises(SystemExit) as ended:
        supervise.main(flags)
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]
