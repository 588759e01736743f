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
from recipes.harness.card import RESULTS
from recipes.harness.run import Run

from pipelines import cifar10
from recipes import search
from recipes.harness import evidence, supervise
from tests.conftest import ROOT, trials_in


@pytest.fixture(scope="module")
def table():
    return search.TUNING.read("search")


def walk(variant, seed, table, tmp_path, trials=8):
    """What a replayed search does: each trial's hyperparameters, and its epochs, score seen and score that counts."""
    log = []
    folder = tempfile.mkdtemp(dir=tmp_path)
    tuner = search.make_tuner(search.Replayed, variant, trials, search.EPOCHS, seed, folder)
    tuner.search(table=table, seed=seed, log=log, verbose=0)
    return [trial.hyperparameters.values for trial in tuner.oracle.trials.values()], log


def obeys_its_seed(variant, table, folder):
    first, again, other = (walk(variant, seed, table, folder) for seed in (3, 3, 4))
    return first == again and first[0] != other[0]


@pytest.mark.parametrize("variant", search.VARIANTS)
def test_a_search_repeats_with_its_seed_and_only_with_it(variant, table, tmp_path):
    assert obeys_its_seed(variant, table, tmp_path)


@pytest.mark.parametrize("ignored", [None, 7])
def test_a_search_that_ignores_its_seed_is_noticed(ignored, table, tmp_path, monkeypatch):
    class Forgetful(kt.RandomSearch):
        def __init__(self, *arguments, seed, **rest):
            super().__init__(*arguments, seed=ignored, **rest)

    monkeypatch.setitem(search.VARIANTS, "random", Forgetful)
    assert not obeys_its_seed("random", table, tmp_path)


def test_keras_tuners_neighbouring_seeds_walk_the_same_settings(tmp_path):
    """The trap that the factor of 1000 is there for; if this fails, it can go."""

    def settings(seed):
        space = kt.HyperParameters()
        for name, values in search.SPACE.items():
            space.Choice(name, values)
        oracle = kt.oracles.RandomSearchOracle("val_accuracy", 5, hyperparameters=space, seed=seed)
        oracle._set_project_dir(tmp_path, str(seed))
        return [tuple(oracle.populate_space(str(number))["values"].values()) for number in range(5)]

    assert settings(5)[:4] == settings(2)[1:]
    assert settings(1005)[:4] != settings(2)[1:]


def test_the_table_is_complete_and_small(table):
    assert len(table) == math.prod(len(values) for values in search.SPACE.values()) == 16 * 4 * 4
    assert all(curves.shape == (2, search.EPOCHS) for curves in table.values())
    assert max(search.SPACE["rate"]) / min(search.SPACE["rate"]) == 10_000
    assert (RESULTS / "search" / "tuning.json").stat().st_size <= 5e6


@pytest.mark.parametrize("budget", search.BUDGETS)
def test_grids_are_complete_and_evenly_spaced(budget, tmp_path):
    tuner = search.make_tuner(search.Replayed, "grid", budget, search.EPOCHS, 1, tmp_path)
    counts = [len(choice.values) for choice in tuner.oracle.get_space().space]
    assert tuple(counts) == search.BUDGETS[budget]
    assert math.prod(counts) == budget
    rates = [search.SPACE["rate"].index(rate) for rate in tuner.oracle.get_space().space[0].values]
    assert np.ptp(np.diff(rates)) <= 1


def test_grids_begin_anywhere(tmp_path):
    lowest = {
        search.make_tuner(search.Replayed, "grid", 8, 4, seed, tmp_path / str(seed))
        .oracle.get_space()
        .space[0]
        .values[0]
        for seed in range(1, 30)
    }
    assert lowest == set(search.SPACE["rate"][:4])


@pytest.mark.parametrize("trials", [8, 16])
def test_hyperband_spends_no_more_than_the_others(trials, table, tmp_path):
    spent = sum(epochs for epochs, *_ in walk("hyperband", 1, table, tmp_path, trials)[1])
    assert trials * search.EPOCHS * 0.9 <= spent <= trials * search.EPOCHS
    assert sum(epochs for epochs, *_ in walk("grid", 1, table, tmp_path, trials)[1]) == trials * search.EPOCHS


SETTINGS = list(itertools.product(*search.SPACE.values()))


def counting(place):
    """What the other seed of the toy table says of a setting: nothing like what is seen of it."""
    return place * 37 % len(SETTINGS)


@pytest.mark.parametrize("variant", ["random", "hyperband"])
def test_what_counts_is_what_the_other_seed_says_of_the_best_that_was_affordable(variant, tmp_path):
    changed = False
    for seed in range(1, 4):
        table = {}
        for place, setting in enumerate(SETTINGS):
            seen = zlib.crc32(f"{seed}/{setting}".encode()) % 2
            values = [place, counting(place)] if seen == 0 else [counting(place), place]
            table[setting] = np.repeat(np.array(values, float)[:, None], search.EPOCHS, axis=1)
        found = search.replay(variant, list(search.BUDGETS), table, seed)
        tried, log = walk(variant, seed, table, tmp_path, trials=max(search.BUDGETS))
        places = [SETTINGS.index(tuple(values[name] for name in search.SPACE)) for values in tried]
        spent = list(itertools.accumulate(epochs for epochs, *_ in log))
        for budget, score in zip(search.BUDGETS, found, strict=True):
            affordable = [place for place, cost in zip(places, spent, strict=True) if cost <= budget * search.EPOCHS]
            assert score == counting(max(affordable))
        changed |= len(set(found)) > 1
    assert changed  # Budgets differ in what they find: a cut at another place would be noticed.


@pytest.mark.parametrize("variant", ["grid", "random", "random_twice", "hyperband"])
def test_replays_are_those_that_were_published(variant, tmp_path):
    """Tables are looked up: the same bits everywhere. (Bayesian optimization takes minutes, and linear algebra.)"""
    found = evidence.read_json(RESULTS / "search" / "evidence.json")
    published = next(r for r in found["records"] if (r["variant"], r["seed"]) == (variant, 1))
    config = search.Config(**{**found["config"], "live": 0})
    metrics = search.train(variant, config, Run(variant, 1, cifar10.Request(), config, tmp_path, logging=False))
    assert metrics == {name: published["metrics"][name] for name in metrics}


def test_doomed_trials_are_recorded_as_failed_and_the_search_goes_on(tmp_path, monkeypatch):
    # TensorFlow waits ten seconds for memory before it gives up.
    monkeypatch.setattr(search, "SPACE", {"rate": (1e30, 1e-3), "dropout": (0.0,), "width": (8, 2**36)})
    monkeypatch.setitem(search.VARIANTS, "random", Listed)
    tuner = search.make_tuner(search.Live, "random", 3, 2, 1, tmp_path)
    tuner.search(data=cifar10.load(cifar10.Request(train_images=1000)), seed=1, epochs=1, verbose=0)
    no_memory, not_finite, well = tuner.oracle.trials.values()
    assert [no_memory.status, not_finite.status, well.status] == ["FAILED", "FAILED", "COMPLETED"]
    assert re.search("OOM|out of memory|ResourceExhausted", no_memory.message)
    assert "The loss is not finite" in not_finite.message


class Listed(kt.RandomSearch):
    """Tries three settings in this order."""

    def __init__(self, *arguments, **rest):
        super().__init__(*arguments, **rest)
        settings = iter([(1e-3, 2**36), (1e30, 8), (1e-3, 8)])

        def populate_space(trial_id):
            rate, width = next(settings)
            return {"status": "RUNNING", "values": {"rate": rate, "dropout": 0.0, "width": width}}

        self.oracle.populate_space = populate_space


@pytest.mark.parametrize("variant", search.VARIANTS)
def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been(variant, table, tmp_path):
    assert resumes(variant, table, tmp_path)


def test_keras_tuners_own_grid_search_cannot_go_on(table, tmp_path, monkeypatch):
    """When this fails, a new version of KerasTuner remembers where it was, and ResumableGridSearch can go."""
    monkeypatch.setitem(search.VARIANTS, "grid", kt.GridSearch)
    with pytest.raises(KeyError):
        resumes("grid", table, tmp_path)


def resumes(variant, table, folder):
    class Stopped(BaseException):
        pass

    class Stopping(search.Replayed):
        def run_trial(self, trial, log, **rest):
            if len(log) == 5:
                raise Stopped
            return super().run_trial(trial, log=log, **rest)

    log, rest = [], {"table": table, "seed": 3, "verbose": 0}
    with pytest.raises(Stopped):
        search.make_tuner(Stopping, variant, 8, search.EPOCHS, 3, folder).search(log=log, **rest)
    search.make_tuner(search.Replayed, variant, 8, search.EPOCHS, 3, folder).search(log=log, **rest)
    return log == walk(variant, 3, table, folder)[1]


# Chief and workers


def test_a_chief_and_two_workers_do_the_search_of_the_readme_though_one_is_killed(tmp_path):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(# my_search.py\n.*?)```", readme, re.DOTALL)
    (tmp_path / "my_search.py").write_text(script, encoding="utf-8")
    command = [sys.executable, "-m", "recipes.harness.supervise", "--workers", "2", "--timeout", "280", "my_search.py"]
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
