"""The recipe fails when it is broken, and repeats with its seed whatever happens to its process."""

import dataclasses
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from lab.cli import commands
from lab.evidence.records import read_json
from lab.execute.job import Job, run_job
from lab.experiments import optimizers as optimizers_experiment
from lab.report.published import RESULTS
from pipelines import sources
from recipes import optimizers
from tests.conftest import ROOT, evidence_in, numbers

CHANCE = 0.1


def floor(variant: str) -> float:
    return read_json(RESULTS / "optimizers" / "floors.json")["floors"][variant]["floor"]


@pytest.mark.variants
@pytest.mark.parametrize("name", ["optimizers"])
def test_the_closing_output_tells_all(smoke, name):
    done, _ = smoke(name)
    assert done.returncode == 0
    assert done.stderr == ""
    rows = [line.split("│")[1].strip() for line in done.stdout.splitlines() if line.startswith("│")]
    assert set(optimizers_experiment.VARIANTS) <= set(rows)
    for expected in ("test accuracy", "\nO1  ", "\nO6  ", "one seed", "Figure", "python -m recipes board optimizers"):
        assert expected in done.stdout


def in_process(tmp_path, variant, **config):
    config = {**dataclasses.asdict(optimizers_experiment.EXPERIMENT.config_at("smoke")), **config}
    request = sources.Request(train_images=2000)
    job = Job("lab.experiments.optimizers", (variant,), 1, config, request, str(tmp_path), logging=False, alone=True)
    return run_job(job)[0]


def test_with_shuffled_labels_it_stays_at_chance(tmp_path, monkeypatch):
    real = sources.load

    def shuffled(request):
        data = real(request)
        labels = np.random.default_rng(0).permutation(data.train.labels)
        return dataclasses.replace(data, train=dataclasses.replace(data.train, labels=labels))

    monkeypatch.setattr(sources, "load", shuffled)
    record = in_process(tmp_path, "momentum")
    assert record.status == "finished"
    assert abs(record.metrics["test_accuracy"] - CHANCE) < 0.05
    assert record.metrics["test_accuracy"] < floor("momentum")


def test_a_thousand_times_the_rate_fails_and_is_reported(tmp_path):
    record = in_process(tmp_path, "momentum", rate=1000 * optimizers.RATES["momentum"])
    assert record.status == "diverged" or record.metrics["test_accuracy"] < floor("momentum")
    if record.status == "diverged":
        assert record.metrics["test_accuracy"] == CHANCE
        assert record.cause


def test_a_recipe_that_reads_the_test_set_early_fails(tmp_path, monkeypatch):
    """As it would where the test part stands in the place of the validation part."""
    real = optimizers.batches.evaluation
    monkeypatch.setattr(optimizers.batches, "evaluation", lambda part: real(sources.load().test))
    record = in_process(tmp_path, "sgd")
    assert record.status == "failed"
    assert "the test set is read by `run.scores` alone" in record.cause


def test_nothing_is_trained_after_the_test_set_was_read(tmp_path, monkeypatch):
    real = optimizers.build_model

    def score_first(variant, data):
        run.open_test_set(data)
        return real(variant, data)

    from lab.core.run import Run

    config = optimizers.Config(epochs=1)
    run = Run("sgd", 1, sources.Request(train_images=1000), config, tmp_path)
    monkeypatch.setattr(optimizers, "build_model", score_first)
    with pytest.raises(RuntimeError, match="after the test set was read"):
        optimizers.train("sgd", config, run)


@pytest.mark.variants
@pytest.mark.parametrize("name", ["optimizers"])
def test_side_by_side_in_sequence_and_after_sigkill_the_numbers_are_the_same_bits(smoke, tmp_path, name):
    together = evidence_in(smoke(name)[1])
    flags = ["--budget", "smoke", "--variants", "sgd", "muon", "--jobs", "1", "--logdir", str(tmp_path)]
    start = [sys.executable, "-m", "recipes.optimizers", *flags]
    running = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(tmp_path.rglob("record.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert len(list(tmp_path.rglob("record.json"))) == 1
    assert commands.run(optimizers_experiment.EXPERIMENT, [*flags, "--resume"]) == 0
    beside, resumed = numbers(together["records"]), numbers(evidence_in(tmp_path)["records"])
    assert resumed == {key: beside[key] for key in (("sgd", 101), ("muon", 101))}
    assert resumed["sgd", 101] != resumed["muon", 101]


def test_a_race_ends_at_the_target_and_counts_its_epochs(tmp_path):
    record = in_process(tmp_path, "adam_race", target=0.25, epochs=4)
    accuracies = record.curves["val_accuracy"]
    assert len(accuracies) < 4
    assert accuracies[-1] >= 0.25 > max([0.1, *accuracies[:-1]])
    before = [0.1, *accuracies][-2]
    expected = len(accuracies) - 1 + (0.25 - before) / (accuracies[-1] - before)
    assert record.metrics["epochs_to_target"] == pytest.approx(expected)
    assert record.metrics["target_reached"] == 1


@pytest.mark.parametrize("variant", optimizers_experiment.VARIANTS)
def test_each_variant_is_the_optimizer_of_its_name(variant):
    kinds = {"sgd": "SGD", "momentum": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW"}
    name = variant.split("_")[0]
    optimizer = optimizers.build_optimizer(name, 0.1, 0.01)
    assert type(optimizer).__name__ == kinds.get(name, "KernelMuon")
    assert getattr(optimizer, "momentum", 0) == (0.9 if name == "momentum" else getattr(optimizer, "momentum", 0))
    if name == "sgd":
        assert optimizer.momentum == 0
    if name == "momentum":
        assert optimizer.nesterov
    if name in ("adamw", "muon"):
        assert optimizer.weight_decay == 0.01
    assert variant.endswith("_race") or variant in optimizers.RATES


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
