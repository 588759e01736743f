"""The recipe converges as its recorded seeds say it does, and fails when it is broken."""

import dataclasses
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from pipelines import cifar10
from recipes import optimizers
from recipes.harness import cli, evidence
from recipes.harness.card import RESULTS
from recipes.harness.run import CHANCE, Task, carry_out
from tests.conftest import ROOT, evidence_in, numbers

FLOORS = evidence.read_json(RESULTS / "optimizers" / "floors.json")


def floor(variant: str) -> float:
    return FLOORS["floors"][variant]["floor"]


@pytest.fixture(scope="module")
def ran(smoke):
    """One invocation at budget smoke, as a user starts it."""
    done, logs = smoke("optimizers")
    return done, evidence_in(logs)


def test_floors_come_from_the_recorded_distribution_of_this_code():
    assert FLOORS["code"] == evidence.code_hash("recipes.optimizers")
    for found in FLOORS["floors"].values():
        values = found["values"]
        assert len(values) >= 10
        assert found["floor"] == pytest.approx(np.mean(values) - 5 * np.std(values, ddof=1))
        assert found["floor"] > 2 * CHANCE


@pytest.mark.parametrize("variant", optimizers.VARIANTS)
def test_each_variant_learns(ran, variant):
    (record,) = (r for r in ran[1]["records"] if r["variant"] == variant)
    assert record["metrics"]["test_accuracy"] >= floor(variant)


def test_the_closing_output_tells_all(ran):
    done, _ = ran
    assert done.returncode == 0
    assert done.stderr == ""
    for expected in (*optimizers.VARIANTS, "test accuracy", "O1", "O6", "one seed", "Figure", "tensorboard --logdir"):
        assert expected in done.stdout


def in_process(tmp_path, variant, **config):
    config = {**dataclasses.asdict(optimizers.RECIPE.config_at("smoke")), **config}
    task = Task(
        "recipes.optimizers",
        (variant,),
        1,
        config,
        cifar10.Request(train_images=2000),
        str(tmp_path),
        False,
        False,
        None,
    )
    return carry_out(task)[0]


@pytest.mark.parametrize("variant", ["momentum", "adam"])
def test_with_shuffled_labels_it_stays_at_chance(tmp_path, monkeypatch, variant):
    real = cifar10.load

    def shuffled(request):
        data = real(request)
        labels = np.random.default_rng(0).permutation(data.train.labels)
        return dataclasses.replace(data, train=dataclasses.replace(data.train, labels=labels))

    monkeypatch.setattr(cifar10, "load", shuffled)
    record = in_process(tmp_path, variant, race_epochs=0)
    assert record["status"] == "finished"
    assert abs(record["metrics"]["test_accuracy"] - CHANCE) < 0.05
    assert record["metrics"]["test_accuracy"] < floor(variant)


@pytest.mark.parametrize("variant", ["momentum", "adam"])
def test_a_thousand_times_the_rate_fails_and_is_reported(tmp_path, variant):
    rate = 1000 * optimizers.TUNED[variant]["distance"]
    record = in_process(tmp_path, variant, race_epochs=0, rate=rate)
    assert record["status"] == "diverged" or record["metrics"]["test_accuracy"] < floor(variant)
    if record["status"] == "diverged":
        assert record["metrics"]["test_accuracy"] == CHANCE
        assert record["cause"]


def test_side_by_side_in_sequence_and_after_sigkill_the_numbers_are_the_same_bits(ran, tmp_path):
    flags = ["--budget", "smoke", "--variants", "sgd", "muon", "--jobs", "1", "--logdir", str(tmp_path)]
    running = subprocess.Popen(
        [sys.executable, "-m", "recipes.optimizers", *flags],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("record.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert len(list(tmp_path.rglob("record.json"))) == 1
    assert cli.main(optimizers.RECIPE, [*flags, "--resume"]) == 0
    beside, resumed = numbers(ran[1]["records"]), numbers(evidence_in(tmp_path)["records"])
    assert resumed == {key: beside[key] for key in (("sgd", 1), ("muon", 1))}
    assert resumed["sgd", 1] != resumed["muon", 1]


def test_muon_takes_a_kernel_as_a_matrix():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 4, 8)).astype("float32")
    gradient = rng.normal(size=kernel.shape).astype("float32")
    after = []
    for optimizer, shape in ((optimizers.KernelMuon(0.1), kernel.shape), (keras.optimizers.Muon(0.1), (36, 8))):
        variable = keras.Variable(kernel.reshape(shape), name="kernel")
        optimizer.build([variable])
        optimizer.apply([keras.ops.convert_to_tensor(gradient.reshape(shape))])
        after.append(np.asarray(variable).ravel())
    assert after[0] == pytest.approx(after[1], abs=1e-6)
    assert np.abs(after[0] - kernel.ravel()).max() > 1e-3


def test_kerass_own_muon_still_leaves_kernels_to_adamw():
    """When this fails, a new version of Keras takes kernels itself, and KernelMuon can go."""
    variable = keras.Variable(np.zeros((3, 3, 4, 8), "float32"), name="kernel")
    theirs, ours = keras.optimizers.Muon(0.1), optimizers.KernelMuon(0.1)
    theirs.build([variable])
    ours.build([variable])
    assert theirs.adam_velocities[0] is not None
    assert ours.adam_velocities[0] is None


def test_race_and_distance_rates():
    schedule = optimizers.RaceThenDistance(race=0.5, peak=0.2, steps=100)
    assert [float(schedule(step)) for step in (0, 50, 99)] == [0.5] * 3
    schedule.racing.assign(False)
    rates = [float(schedule(step)) for step in range(100)]
    assert rates[0] == 0
    assert max(rates) == pytest.approx(rates[20]) == pytest.approx(0.2)
    assert rates[99] < 0.001
