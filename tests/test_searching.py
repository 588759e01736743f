"""`search`: KerasTuner over an experiment's own space, side by side, and resumed after a kill."""

import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
import types
import warnings

import keras_tuner as kt
import pytest
import threadpoolctl

from lab.cli import commands
from lab.execute import scheduler
from lab.experiments import NAMES, load
from lab.experiments import optimizers as optimizers_experiment
from lab.experiments import regularization as regularization_experiment
from lab.search import search
from lab.tuning import SEED, Range
from pipelines.errors import UsageError
from tests.conftest import ROOT
from tests.toys import guess, runner


@pytest.fixture(autouse=True)
def one_thread():
    """As workers have it: Bayesian optimization's small matrices take five times as long on several threads."""
    with threadpoolctl.threadpool_limits(1):
        yield


def found_in(logs):
    (path,) = logs.rglob("search.json")
    return json.loads(path.read_text())["found"]


def test_the_space_is_what_the_tuning_sweeps_and_what_the_recipe_adds():
    space = optimizers_experiment.EXPERIMENT.space_of("adamw")
    grid = optimizers_experiment.TUNING.grids["adamw"]
    assert space == {"rate": Range(1e-4, 1e-1, grid), "decay": (0.0, 0.004, 0.04)}
    assert set(optimizers_experiment.EXPERIMENT.space_of("adam")) == {"rate"}
    tuned = {*optimizers_experiment.FINAL, *optimizers_experiment.LONG}  # A race is about epochs, not about accuracy.
    assert set(optimizers_experiment.EXPERIMENT.searched) == tuned
    assert regularization_experiment.EXPERIMENT.space_of("dropout")["strength"] == (0.3, 1.0, 3.0)
    assert set(regularization_experiment.EXPERIMENT.space_of("none")) == {"rate"}
    experiment = dataclasses.replace(guess.EXPERIMENT, space={"seconds": (0.0, 0.1)})
    assert experiment.space_of("fair") == {"rate": Range(0.01, 0.1, (0.01, 0.032, 0.1)), "seconds": (0.0, 0.1)}


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_that_trains_can_be_searched(name):
    experiment = load(name)
    # What seeds trains has no floor, since luck is what it is about.
    assert bool(experiment.searched) == (bool(experiment.floor) or name == "seeds")


SPACE = {"rate": Range(1e-4, 1e-1, (1e-3, 1e-2)), "decay": (0.0, 0.04)}
FOUR = {"rate": (0.01, 0.1), "decay": (0.0, 0.04)}


def tried(tuner, space, trials, epochs=4, folder=""):
    """What a search tries, in order: (settings, epochs, score) of each trial. The lower its rate, the better."""
    oracle = search.make_oracle(tuner, space, trials, epochs)
    kt.engine.base_tuner.BaseTuner(oracle, directory=folder, project_name="x", overwrite=True)
    batches = []

    def run(batch):
        batches.append(len(batch))
        values = [{"validation_accuracy": -trial.hyperparameters.values["rate"]} for trial in batch]
        return [types.SimpleNamespace(status="finished", metrics=metrics, cause=None) for metrics in values]

    search.try_all(oracle, run, search.BATCH if tuner == "bayesian" else None)
    found = search.ranked(list(oracle.trials.values()))
    return sorted(found, key=lambda trial: trial.trial), found, batches


def settings_of(trials):
    return [tuple(trial.settings.values()) for trial in trials]


@pytest.mark.parametrize("tuner", ["grid", "random", "bayesian", "hyperband"])
@pytest.mark.parametrize("trials", [4, 7])
def test_a_space_of_four_settings_is_tried_once(tuner, trials, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Which scikit-learn has of settings that are tried twice.
        found, _, batches = tried(tuner, FOUR, trials, folder=tmp_path)
    assert sorted(settings_of(found)) == sorted(itertools.product(*FOUR.values()))
    assert {trial.epochs for trial in found} == {None}  # Of Hyperband's too, all are whole.
    assert batches == [4]


def test_a_smaller_space_than_trials_is_said(started, capsys, tmp_path):
    flags = ["search", "bayesian", "--trials", "7", "--variants", "fair", "--no-log", "--logdir", str(tmp_path)]
    experiment = dataclasses.replace(guess.EXPERIMENT, tuning=None, space={"rate": (0.01, 0.1)})
    assert commands.run(experiment, flags) == 0
    assert "fair has 2 settings" in capsys.readouterr().out
    assert len(found_in(tmp_path)["fair"]) == len(started) == 2


def test_bayesian_optimization_proposes_nothing_twice(tmp_path):
    """KerasTuner's own does. If it does no longer, DistinctBayesian can go."""
    space = {"rate": (1, 2, 3, 4), "decay": (0, 1)}
    found, *_ = tried("bayesian", space, 7, folder=tmp_path)
    assert len(set(settings_of(found))) == len(found) == 7
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "DistinctBayesian", kt.oracles.BayesianOptimizationOracle)
        found, *_ = tried("bayesian", space, 7, folder=tmp_path)
    assert len(set(settings_of(found))) < 7


def test_random_search_reaches_the_last_settings_of_a_large_space(tmp_path):
    """KerasTuner gives up after 20 draws that it has tried."""
    space = {"rate": tuple(range(1, 41)), "decay": (0, 1, 2)}
    assert len(set(settings_of(tried("random", space, 119, folder=tmp_path)[0]))) == 119


def test_hyperband_goes_on_with_the_best(tmp_path):
    found, ranked, _ = tried("hyperband", SPACE, 12, folder=tmp_path)
    whole = [trial.score for trial in ranked if trial.epochs == 4]
    assert whole == sorted(whole, reverse=True)
    assert ranked[0].score == whole[0]
    first = [trial for trial in found if trial.epochs == 1]
    best, worst = sorted((trial.score for trial in first), reverse=True)[:: len(first) - 1]
    promoted = {trial.score for trial in found if trial.epochs == 2}
    assert best in promoted
    assert worst not in promoted


def test_failed_trials_rank_last():
    values = {"rate": 0.1}
    trial = lambda name, score, **more: types.SimpleNamespace(  # noqa: E731
        trial_id=name,
        score=score,
        status="FAILED" if score is None else "COMPLETED",
        hyperparameters=types.SimpleNamespace(values={**values, **more}),
    )
    long, short = {"tuner/epochs": 4}, {"tuner/epochs": 1}
    trials = [trial("a", None, **long), trial("b", 1.0, **long), trial("c", 2.0, **long), trial("d", 3.0, **short)]
    assert [found.trial for found in search.ranked(trials)] == ["c", "b", "d", "a"]


def test_each_tuner_is_the_one_of_its_name_over_the_space():
    kinds = {
        "random": kt.oracles.RandomSearchOracle,
        "bayesian": search.DistinctBayesian,
        "hyperband": kt.oracles.HyperbandOracle,
    }
    for tuner, kind in kinds.items():
        oracle = search.make_oracle(tuner, SPACE, trials=12, epochs=8)
        assert type(oracle) is kind
        assert (oracle.objective.name, oracle.objective.direction) == ("validation_accuracy", "max")
        rate = oracle.hyperparameters.space[0]
        assert (rate.min_value, rate.max_value, rate.sampling) == (1e-4, 1e-1, "log")
    assert search.make_oracle("bayesian", SPACE, 12, 8).num_initial_points == search.BATCH


def test_a_grid_is_the_whole_grid(tmp_path):
    found, _, batches = tried("grid", SPACE, 4, folder=tmp_path)
    assert sorted(settings_of(found)) == sorted(itertools.product((1e-3, 1e-2), (0.0, 0.04)))
    assert batches == [4]  # All of them side by side.
    wide = {"rate": Range(1e-4, 1e-1), "decay": (0.0, 0.04)}
    with pytest.raises(UsageError, match="14 trials"):
        search.make_oracle("grid", wide, trials=13, epochs=8)
    assert search.make_oracle("grid", wide, 14, 8).max_trials == 14


@pytest.mark.parametrize(("trials", "epochs"), [(12, 8), (40, 4), (12, 5), (40, 10)])
def test_hyperband_takes_about_as_many_epochs_as_the_others(trials, epochs, tmp_path):
    found, *_ = tried("hyperband", SPACE, trials, epochs, folder=tmp_path)
    assert 0.5 * trials * epochs <= sum(trial.epochs for trial in found) <= 1.6 * trials * epochs
    assert max(trial.epochs for trial in found) == epochs


def test_hyperband_never_runs_out_of_settings(tmp_path):
    """KerasTuner would stop in the middle of a bracket, without one whole trial."""
    space = {"rate": (1, 2, 3, 4), "decay": (0, 1, 2, 3, 4, 5)}
    with pytest.raises(UsageError, match="begins with 22 settings, and there are 20"):
        search.make_oracle("hyperband", {**space, "decay": space["decay"][:5]}, 12, 8)
    assert search.make_oracle("hyperband", {"rate": tuple(range(90))}, 89, 8).hyperband_iterations > 2
    found, *_ = tried("hyperband", {"rate": tuple(range(50))}, 49, 8, folder=tmp_path)
    assert len(set(settings_of(found))) == 44  # Two rounds, and not the three that so many trials would be.
    assert max(trial.epochs for trial in found) == 8


def test_hyperband_from_the_command_line(started, capsys, tmp_path):
    flags = ["search", "hyperband", "--trials", "2", "--epochs", "4", "--variants", "fair", "--no-log"]
    assert commands.run(runner.EXPERIMENT, [*flags, "--logdir", str(tmp_path)]) == 0
    trials = found_in(tmp_path)["fair"]
    assert {trial["epochs"] for trial in trials} == {1, 2, 4}  # Whole trials, and the better half of shorter ones.
    assert [trial["epochs"] for trial in trials] == sorted((trial["epochs"] for trial in trials), reverse=True)
    assert sorted(job.config["epochs"] for job in started) == sorted(trial["epochs"] for trial in trials)
    assert "--variants fair" in capsys.readouterr().out


@pytest.mark.parametrize("tuner", ["grid", "random", "bayesian"])
def test_a_search_finds_the_best_of_its_trials_and_says_what_to_run_next(started, capsys, tmp_path, tuner):
    flags = ["search", tuner, "--trials", "3", "--variants", "fair", "--logdir", str(tmp_path), "--no-log"]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    found = found_in(tmp_path)["fair"]
    reached = [trial["score"] for trial in found]
    assert reached == sorted(reached, reverse=True)
    assert len(set(reached)) == len(started) == 3
    rates = [trial["settings"]["rate"] for trial in found]
    assert rates == sorted(rates, reverse=True)  # The toy's best rate, 1, lies above all of them.
    assert sorted(job.config["rate"] for job in started) == sorted(rates)
    assert {job.seed for job in started} == {SEED}
    assert f"-m tests.toys.guess --variants fair --rate {rates[0]:.6g} " in capsys.readouterr().out


def test_failed_trials_stop_no_search_and_their_cause_is_said(started, capsys, tmp_path):
    flags = ["search", "random", "--trials", "4", "--logdir", str(tmp_path), "--no-log", "--fail", f"fair:{SEED}"]
    assert commands.run(guess.EXPERIMENT, flags) == 1
    found = found_in(tmp_path)
    assert [trial["status"] for trial in found["fair"]] == ["failed"] * 4
    assert [trial["status"] for trial in found["loaded"]] == ["completed"] * 4
    printed = capsys.readouterr().out
    assert "4 of 4 trials of fair failed: ValueError: the coin rolled under the table" in printed
    assert "--variants loaded --rate" in printed
    assert "--variants fair --rate" not in printed


def stopped_after(number, tmp_path, monkeypatch, flags):
    """A search that is interrupted when so many of its trials have been put away; the rates that these had."""
    put_away, rates = scheduler.put_away, []

    def counted(folder, record):
        if len(rates) == number:
            raise KeyboardInterrupt
        put_away(folder, record)
        rates.append(record.config["rate"])

    with monkeypatch.context() as patch:
        patch.setattr(scheduler, "put_away", counted)
        assert commands.run(guess.EXPERIMENT, flags) == 130
    return rates


@pytest.mark.variants
@pytest.mark.parametrize(("tuner", "trials"), [("grid", 3), ("random", 5), ("bayesian", 6)])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupted_search_ends_as_one_that_was_not(started, monkeypatch, tmp_path, tuner, trials, jobs):
    flags = ["search", tuner, "--trials", str(trials), "--variants", "fair", "--no-log"]
    assert commands.run(guess.EXPERIMENT, [*flags, "--logdir", str(tmp_path / "whole")]) == 0
    cut = [*flags, "--logdir", str(tmp_path / "cut"), "--jobs", jobs]
    kept = stopped_after(2, tmp_path, monkeypatch, cut)
    (folder,) = (tmp_path / "cut").glob("*/guess/*")
    for path in folder.rglob("oracle.json"):  # What KerasTuner has written there may be cut off.
        path.write_text("")
    started.clear()
    assert commands.run(guess.EXPERIMENT, [*cut, "--resume"]) == 0
    assert len(started) == trials - 2
    assert not {job.config["rate"] for job in started} & set(kept)
    assert found_in(tmp_path / "cut") == found_in(tmp_path / "whole")


RANDOM = ["search", "random", "--trials", "4", "--variants", "fair", "--no-log", "--logdir"]


def test_what_failed_before_an_interruption_is_run_again(started, monkeypatch, tmp_path):
    flags = [*RANDOM, str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(guess, "VARIANTS", {})  # A KeyError in each trial.
        assert commands.run(guess.EXPERIMENT, flags) == 1
    assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 0
    assert [trial["status"] for trial in found_in(tmp_path)["fair"]] == ["completed"] * 4


def test_trials_of_another_space_are_not_taken(started, monkeypatch, tmp_path):
    flags = [*RANDOM, str(tmp_path)]
    stopped_after(2, tmp_path, monkeypatch, flags)
    started.clear()
    wider = dataclasses.replace(guess.TUNING, grids=dict.fromkeys(guess.VARIANTS, (0.01, 1.0)))
    assert commands.run(dataclasses.replace(guess.EXPERIMENT, tuning=wider), [*flags, "--resume"]) == 0
    assert len(started) == 4
    assert {trial["settings"]["rate"] for trial in found_in(tmp_path)["fair"]} == {
        job.config["rate"] for job in started
    }


@pytest.mark.parametrize("change", [["--train-images", "500"], ["--seconds", "0.001"], ["--trials", "5"]])
def test_a_search_of_other_data_or_settings_does_not_go_on(started, capsys, tmp_path, change):
    flags = [*RANDOM, str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    assert commands.run(guess.EXPERIMENT, [*flags, *change, "--resume"]) == 2
    assert "nothing to resume" in capsys.readouterr().err
    started.clear()
    assert commands.run(guess.EXPERIMENT, flags) == 0  # Without --resume, a new folder.
    assert len(started) == 4


def test_a_broken_search_json_is_named(started, capsys, tmp_path):
    flags = [*RANDOM, str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    (path,) = tmp_path.rglob("search.json")
    path.write_text("{")
    capsys.readouterr()
    assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    assert str(path) in sentence


def test_a_search_for_other_variants_adds_to_what_was_found(started, tmp_path):
    flags = ["search", "random", "--trials", "2", "--logdir", str(tmp_path), "--no-log"]
    assert commands.run(guess.EXPERIMENT, [*flags, "--variants", "fair"]) == 0
    assert commands.run(guess.EXPERIMENT, [*flags, "--variants", "loaded", "--resume"]) == 0
    assert {variant: len(trials) for variant, trials in found_in(tmp_path).items()} == {"fair": 2, "loaded": 2}


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["random", "--seeds", "3"], "--seeds"),
        (["random", "--rate", "0.5"], "--rate"),
        (["random", "--save", "x"], "--save"),
        (["random", "--variants", "heads"], "'heads'"),
        (["random", "--trials", "0"], "--trials"),
        (["random", "--trials", "10001"], "--trials"),
        (["hyperband"], "--epochs"),
        ([], "grid,random,bayesian,hyperband"),
    ],
)
def test_what_a_search_has_no_use_for_is_refused(started, capsys, tmp_path, flags, named):
    assert commands.run(guess.EXPERIMENT, ["search", *flags, "--logdir", str(tmp_path)]) == 2
    assert named in capsys.readouterr().err
    assert not started


def test_a_search_is_not_shared_through_keras_tuner(started, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    assert commands.run(guess.EXPERIMENT, [*RANDOM, str(tmp_path)]) == 2
    assert "KERASTUNER_ORACLE_IP" in capsys.readouterr().err
    assert not started


@pytest.mark.processes
def test_a_search_that_is_killed_at_any_moment_ends_as_one_that_was_not(tmp_path):
    draw = random.Random(5)
    for tuner in ("random", "bayesian", "hyperband"):
        flags = ["search", tuner, "--trials", "8", "--epochs", "4", "--variants", "fair", "--no-log", "--jobs", "2"]
        flags = [sys.executable, "-m", "tests.toys.runner", *flags, "--seconds", "0.2", "--logdir"]
        whole, cut = tmp_path / f"{tuner}-whole", tmp_path / f"{tuner}-cut"
        subprocess.run([*flags, str(whole)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        process = subprocess.Popen([*flags, str(cut)], cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
        while not list(cut.rglob("record.json")):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        kept = {path: path.stat().st_mtime_ns for path in cut.rglob("record.json")}
        subprocess.run([*flags, str(cut), "--resume"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        assert {path: path.stat().st_mtime_ns for path in kept} == kept
        assert found_in(cut) == found_in(whole)
