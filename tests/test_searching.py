"""`--search`: KerasTuner over a recipe's own space, resumed after an interruption, and shared between processes."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import keras_tuner as kt
import pytest

from lab.cli import commands
from lab.experiments import NAMES, load
from lab.experiments import optimizers as optimizers_experiment
from lab.experiments import regularization as regularization_experiment
from lab.search import search
from lab.search_space import Range
from pipelines.errors import UsageError
from tests.conftest import ROOT
from tests.toys import guess, runner


def found_in(logs):
    (path,) = logs.rglob("search.json")
    return json.loads(path.read_text())["found"]


def test_the_space_is_what_the_tuning_sweeps_and_what_the_recipe_adds():
    space = optimizers_experiment.EXPERIMENT.space_of("adamw")
    grid = optimizers_experiment.TUNING.grids["adamw"]
    assert space == {"rate": Range(1e-4, 1e-1, grid), "weight_decay": (0.0, 0.004, 0.04)}
    assert set(optimizers_experiment.EXPERIMENT.space_of("sgd")) == {"rate"}
    assert set(optimizers_experiment.EXPERIMENT.searched) == {
        *optimizers_experiment.CURVE,
        "momentum_long",
        "adam_long",
    }  # A race is about epochs, not about accuracy.
    assert regularization_experiment.EXPERIMENT.space_of("dropout")["strength"].grid == (0.1, 0.2, 0.35, 0.5, 0.7)
    assert regularization_experiment.EXPERIMENT.space_of("none") == {}
    experiment = dataclasses.replace(guess.EXPERIMENT, space={"seconds": (0.0, 0.1)})
    assert experiment.space_of("fair") == {"rate": Range(0.01, 0.1, (0.01, 0.032, 0.1)), "seconds": (0.0, 0.1)}
    with pytest.raises(ValueError, match="above 0 upwards"):
        Range(0.0, 1.0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("search", "search_replayed")])
def test_every_recipe_that_trains_can_be_searched(name):
    """Two are about searching themselves."""
    experiment = load(name)
    assert bool(experiment.searched) == bool(experiment.floor)


def test_hyperband_from_the_command_line(started, capsys, tmp_path):
    flags = ["search", "hyperband", "--trials", "2", "--epochs", "4", "--variants", "fair", "--no-log"]
    assert commands.run(runner.EXPERIMENT, [*flags, "--logdir", str(tmp_path)]) == 0
    trials = found_in(tmp_path)["fair"]
    assert {trial["epochs"] for trial in trials} == {1, 2, 4}  # Whole trials, and the better half of shorter ones.
    whole = [trial for trial in trials if trial["epochs"] == 4]
    assert trials[: len(whole)] == whole
    accuracies = [trial["validation_accuracy"] for trial in whole]
    assert accuracies == sorted(accuracies, reverse=True)
    assert sorted(job.config["epochs"] for job in started) == sorted(trial["epochs"] for trial in trials)
    assert "--variants fair" in capsys.readouterr().out


def test_each_tuner_is_the_one_of_its_name_over_the_space():
    space = {"rate": Range(1e-4, 1e-1, (1e-3, 1e-2)), "decay": (0.0, 0.04)}
    kinds = {
        "grid": kt.oracles.GridSearchOracle,
        "random": kt.oracles.RandomSearchOracle,
        "bayesian": kt.oracles.BayesianOptimizationOracle,
        "hyperband": kt.oracles.HyperbandOracle,
    }
    for tuner, kind in kinds.items():
        oracle = search.make_oracle(tuner, space, trials=12, epochs=8)
        assert type(oracle) is kind
        assert oracle.objective.direction == "max"
        rate = oracle.hyperparameters.space[0]
        if tuner == "grid":
            assert rate.values == [1e-3, 1e-2]
        else:
            assert (rate.min_value, rate.max_value, rate.sampling) == (1e-4, 1e-1, "log")
    assert search.make_oracle("bayesian", space, 12, 8).num_initial_points == 3  # Not six, three for each field.


def test_a_grid_that_would_be_cut_is_refused():
    with pytest.raises(UsageError, match="A grid of all settings has 14 trials: say --trials 14"):
        search.make_oracle("grid", {"rate": Range(1e-4, 1e-1), "decay": (0.0, 0.04)}, trials=13, epochs=8)
    assert search.make_oracle("grid", {"rate": Range(1e-4, 1e-1), "decay": (0.0, 0.04)}, 14, 8).max_trials == 14


@pytest.mark.parametrize(("trials", "epochs"), [(12, 8), (40, 4), (12, 5), (40, 10)])
def test_hyperband_takes_about_as_many_epochs_as_the_others(trials, epochs, tmp_path):
    oracle = search.make_oracle("hyperband", {"rate": Range(1e-4, 1e-1)}, trials, epochs)
    oracle.verbose = 0
    oracle._set_project_dir(str(tmp_path), "trials")
    spent = 0
    while (trial := oracle.create_trial("one")).status == "RUNNING":
        spent += trial.hyperparameters.values["tuner/epochs"]
        oracle.update_trial(trial.trial_id, {search.OBJECTIVE: trial.hyperparameters.values["rate"]})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert trial.status == "STOPPED"
    assert 0.5 * trials * epochs <= spent <= 1.6 * trials * epochs


@pytest.mark.parametrize("tuner", ["grid", "random", "bayesian"])
def test_a_search_finds_the_best_of_its_trials_and_says_what_to_run_next(started, capsys, tmp_path, tuner):
    flags = ["search", tuner, "--trials", "3", "--variants", "fair", "--logdir", str(tmp_path), "--no-log"]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    found = found_in(tmp_path)
    reached = [trial["validation_accuracy"] for trial in found["fair"]]
    assert set(found) == {"fair"}
    assert reached == sorted(reached, reverse=True)
    assert len(reached) == len(started) == 3
    rates = {trial["settings"]["rate"]: trial["validation_accuracy"] for trial in found["fair"]}
    assert max(rates, key=rates.get) == max(rates)  # The toy's best rate, 1, lies above all of them.
    assert {job.seed for job in started} == {0}
    assert (
        f"Next         python -m tests.toys.guess --variants fair --rate {max(rates):.6g}\n" in capsys.readouterr().out
    )
    assert list(tmp_path.rglob("search-fair.png"))


def test_failed_trials_stop_no_search_and_a_search_without_a_success_says_so(started, capsys, tmp_path):
    flags = ["search", "random", "--trials", "4", "--logdir", str(tmp_path), "--no-log", "--fail", "fair:0"]
    assert commands.run(guess.EXPERIMENT, flags) == 1
    found = found_in(tmp_path)
    assert [trial["status"] for trial in found["fair"]] == ["failed"] * 4
    assert [trial["status"] for trial in found["loaded"]] == ["completed"] * 4
    printed = capsys.readouterr().out
    assert "--variants loaded --rate" in printed
    assert "--variants fair --rate" not in printed


@pytest.mark.parametrize("tuner", ["grid", "random"])
def test_an_interrupted_search_goes_on_and_ends_as_one_that_was_not(started, monkeypatch, tmp_path, tuner):
    flags = ["search", tuner, "--trials", "3", "--variants", "fair", "--jobs", "1", "--no-log"]
    assert commands.run(guess.EXPERIMENT, [*flags, "--logdir", str(tmp_path / "whole")]) == 0
    whole = [job.config["rate"] for job in started]
    started.clear()

    report, done = search._report, []

    def interrupted(*arguments):
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(report(*arguments))

    with monkeypatch.context() as patch:
        patch.setattr(search, "_report", interrupted)
        assert commands.run(guess.EXPERIMENT, [*flags, "--logdir", str(tmp_path / "cut")]) == 130
    begun = len(started)
    assert begun == 2
    assert commands.run(guess.EXPERIMENT, [*flags, "--logdir", str(tmp_path / "cut"), "--resume"]) == 0
    # The trial that had ended, though KerasTuner had not been told, is not done again.
    assert [job.config["rate"] for job in started] == whole
    assert found_in(tmp_path / "cut") == found_in(tmp_path / "whole")


def interrupted_search(tmp_path, monkeypatch, flags: list[str], fails: int = 0) -> list[str]:
    """Flags of a search that ended with `fails` of its first trials failed, and is not whole."""
    run, done = search._run, []

    def failing(*arguments):
        if len(done) == 2:
            raise KeyboardInterrupt
        records = run(*arguments)
        done.append(records)
        return [record | {"status": "failed"} for record in records] if len(done) <= fails else records

    with monkeypatch.context() as patch:
        patch.setattr(search, "_run", failing)
        assert commands.run(guess.EXPERIMENT, flags) == 130
    return [*flags, "--resume"]


FOUR = ["search", "random", "--trials", "4", "--variants", "fair", "--jobs", "1", "--no-log", "--logdir"]


def test_what_failed_before_an_interruption_is_done_again(started, monkeypatch, tmp_path):
    flags = interrupted_search(tmp_path, monkeypatch, [*FOUR, str(tmp_path)], fails=1)
    assert commands.run(guess.EXPERIMENT, flags) == 0
    assert [trial["status"] for trial in found_in(tmp_path)["fair"]] == ["completed"] * 4


def test_a_search_of_another_space_does_not_go_on(started, monkeypatch, capsys, tmp_path):
    flags = interrupted_search(tmp_path, monkeypatch, [*FOUR, str(tmp_path)])
    wider = dataclasses.replace(guess.TUNING, grids=dict.fromkeys(guess.VARIANTS, (0.001, 1.0)))
    capsys.readouterr()
    assert commands.run(dataclasses.replace(guess.EXPERIMENT, tuning=wider), flags) == 2
    assert "space has changed since that search began" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", "{}"])
def test_broken_books_get_a_sentence(started, monkeypatch, capsys, tmp_path, content):
    flags = interrupted_search(tmp_path, monkeypatch, [*FOUR, str(tmp_path)])
    (books,) = tmp_path.rglob("oracle.json")
    books.write_text(content)
    capsys.readouterr()
    assert commands.run(guess.EXPERIMENT, flags) == 1
    assert "are broken: search anew, without --resume" in capsys.readouterr().err


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


def test_a_search_for_other_variants_adds_to_what_was_found(started, tmp_path):
    flags = ["search", "random", "--trials", "2", "--logdir", str(tmp_path), "--no-log"]
    assert commands.run(guess.EXPERIMENT, [*flags, "--variants", "fair"]) == 0
    assert commands.run(guess.EXPERIMENT, [*flags, "--variants", "loaded", "--resume"]) == 0
    assert {variant: len(trials) for variant, trials in found_in(tmp_path).items()} == {"fair": 2, "loaded": 2}


@pytest.mark.parametrize("variables", [{"KERASTUNER_ORACLE_IP": "127.0.0.1"}])
def test_half_an_address_of_a_chief_is_refused(started, capsys, monkeypatch, tmp_path, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    flags = ["search", "random", "--variants", "fair", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == 2
    assert "set all three variables, or none" in capsys.readouterr().err


def test_processes_share_a_search_of_a_chief(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(port)}
    flags = ["search", "random", "--trials", "4", "--variants", "fair", "--no-log"]
    processes = {}
    for name in ("chief", "worker-1", "worker-2"):
        command = [sys.executable, "-m", "tests.toys.guess", *flags, "--logdir", str(tmp_path / name)]
        variables = {**os.environ, **address, "KERASTUNER_TUNER_ID": name}
        processes[name] = subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True)
    try:
        outputs = {name: process.communicate(timeout=240)[0] for name, process in processes.items()}
    finally:
        for process in processes.values():
            process.kill()
    assert {process.returncode for process in processes.values()} == {0}
    assert "Next         python -m tests.toys.guess --variants fair --rate" in outputs["chief"]
    assert len(found_in(tmp_path / "chief")["fair"]) == 4
    runs = {name: len(list((tmp_path / name).rglob("record.json"))) for name in processes}
    assert runs["chief"] == 0
    assert runs["worker-1"] + runs["worker-2"] == 4
