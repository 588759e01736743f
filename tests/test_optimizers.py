"""The recipe fails when it is broken, and repeats with its seed whatever happens to its process."""

import dataclasses
import inspect
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from lab.cli import commands
from lab.core.run import Run
from lab.evidence.records import read_json
from lab.execute.job import Job, run_job
from lab.experiments.optimizers import EXPERIMENT
from lab.report.published import RESULTS
from pipelines import batches, sources
from recipes import optimizers
from tests.conftest import ROOT, evidence_in, numbers

CHANCE = 0.1
KINDS = {"sgd": "SGD", "momentum": "SGD", "rmsprop": "RMSprop", "adam": "Adam", "adamw": "AdamW", "muon": "ConvMuon"}


def floor(variant: str) -> float:
    return read_json(RESULTS / "optimizers" / "floors.json")["floors"][variant]["floor"]


@pytest.mark.variants
@pytest.mark.parametrize("name", ["optimizers"])
def test_the_closing_output_tells_all(smoke, name):
    done, _ = smoke(name)
    assert done.returncode == 0
    assert done.stderr == ""
    rows = [line.split("│")[1].strip() for line in done.stdout.splitlines() if line.startswith("│")]
    assert set(EXPERIMENT.names) <= set(rows)
    for expected in (
        "test accuracy",
        "Adam converges in",
        "Muon reaches",
        "1 of 10 seeds",
        "Figure",
        "recipes board optimizers",
    ):
        assert expected in done.stdout


def in_process(tmp_path, variant, **config):
    config = {**dataclasses.asdict(EXPERIMENT.config_at("smoke")), **config}
    request = sources.Request(train_images=2000)
    job = Job("lab.experiments.optimizers", (variant,), 1, config, request, str(tmp_path), logging=False, alone=True)
    return run_job(job)[0]


@pytest.mark.variants
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
    real = batches.evaluation
    monkeypatch.setattr(batches, "evaluation", lambda part: real(sources.load().test))
    record = in_process(tmp_path, "sgd")
    assert record.status == "failed"
    assert "the test set is read by `run.scores` alone" in record.cause


def test_nothing_is_trained_after_the_test_set_was_read(tmp_path):
    data = sources.load(sources.Request(train_images=1000))
    run = Run("sgd", 1, sources.Request(train_images=1000), None, tmp_path)
    run.open_test_set(data)
    with pytest.raises(RuntimeError, match="after the test set was read"):
        run.callbacks(data)


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
    assert commands.run(EXPERIMENT, [*flags, "--resume"]) == 0
    beside, resumed = numbers(together["records"]), numbers(evidence_in(tmp_path)["records"])
    assert resumed == {key: beside[key] for key in (("sgd", 301), ("muon", 301))}
    assert resumed["sgd", 301] != resumed["muon", 301]


@pytest.mark.processes
def test_a_race_ends_at_the_target_and_counts_its_epochs(tmp_path):
    record = in_process(tmp_path, "adam_race", target=0.25, epochs=4)
    accuracies = record.curves["val_accuracy"]
    assert len(accuracies) < 4
    assert accuracies[-1] >= 0.25 > max([0.1, *accuracies[:-1]])
    before = [0.1, *accuracies][-2]
    expected = len(accuracies) - 1 + (0.25 - before) / (accuracies[-1] - before)
    assert record.metrics["epochs_to_target"] == pytest.approx(expected)
    assert record.metrics["target_reached"] == 1


@pytest.mark.parametrize("name", optimizers.RATES)
def test_each_name_is_the_optimizer_that_it_says(name):
    optimizer = optimizers.build_optimizer(name, 0.1, 0.01)
    assert type(optimizer).__name__ == KINDS[name]
    if name in ("sgd", "momentum"):
        assert optimizer.momentum == (0.9 if name == "momentum" else 0)
        assert optimizer.nesterov == (name == "momentum")
    assert optimizer.weight_decay == (0.01 if name in ("sgd", "momentum", "adamw", "muon") else None)


def test_an_unknown_optimizer_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown optimizer 'adma': use one of sgd, momentum"):
        optimizers.build_optimizer("adma", 0.1)


def rates_of(schedule, steps: int) -> list[float]:
    return [float(schedule(step)) for step in range(steps)]


def test_the_rate_rises_from_the_first_step_and_ends_at_zero():
    rates = rates_of(optimizers.warmup_cosine(1.0, 50), 51)
    assert rates[0] == pytest.approx(0.1)
    assert rates[10] == pytest.approx(1.0)
    assert rates[30] == pytest.approx(0.5)
    assert rates[50] == pytest.approx(0.0, abs=1e-6)
    assert rates_of(optimizers.warmup_cosine(1.0, 1), 1)[0] > 0  # A training of one step learns, too.


def trained(variant: str, monkeypatch, **given):
    """What a variant's model was compiled with, without any training."""
    seen = {}
    monkeypatch.setattr(keras.Model, "fit", lambda model, *_, **kept: seen.update(kept, model=model))
    images = tf.data.Dataset.from_tensors((np.zeros((4, 32, 32, 3), "uint8"), np.zeros(4, "int32")))
    config = dataclasses.replace(EXPERIMENT.config(), **given)
    EXPERIMENT.bound(variant, config)(images, images, 10)
    return seen


@pytest.mark.parametrize("variant", EXPERIMENT.names)
def test_each_variant_trains_as_its_name_says(monkeypatch, variant):
    seen = trained(variant, monkeypatch)
    optimizer, (name, *kind) = seen["model"].optimizer, variant.split("_")
    assert type(optimizer).__name__ == KINDS[name]
    epochs = {"race": 10, "overfit": 60}.get("".join(kind), 5)
    assert seen["epochs"] == epochs
    schedule = optimizer._learning_rate
    rates = rates_of(schedule, epochs + 1) if callable(schedule) else [float(schedule)]
    if kind == ["literal"]:
        assert float(optimizer.learning_rate) == pytest.approx({"momentum": 0.01}.get(name, 0.001))
        assert not getattr(optimizer, "nesterov", False)
        return
    if kind == ["race"]:
        assert len(set(rates)) == 1
        assert not optimizer.weight_decay
    else:
        assert rates[-1] < 1e-6 < max(rates)
    kernels = [weight for weight in seen["model"].trainable_variables if len(weight.shape) > 1]
    penalized = [weight.regularizer is not None for weight in kernels]
    assert all(penalized) if kind == ["l2"] else not any(penalized)


def test_an_argument_that_is_given_replaces_that_of_every_variant(monkeypatch):
    for variant in ("sgd", "adam_race", "adam_overfit"):
        assert trained(variant, monkeypatch, epochs=2)["epochs"] == 2


def test_only_the_overfitting_variants_have_few_images_as_they_are():
    usual = EXPERIMENT.config()
    for variant in EXPERIMENT.names:
        config = EXPERIMENT.config_of(variant, usual)
        few = variant.endswith("_overfit")
        assert (config.images, config.flip, config.shift) == ((2000, "no", 0) if few else (None, "yes", 2))
    given = dataclasses.replace(usual, images=500)
    assert EXPERIMENT.config_of("adam_overfit", given).images == 500


def test_muon_takes_a_kernel_as_a_matrix():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 4, 8)).astype("float32")
    gradient = rng.normal(size=kernel.shape).astype("float32")
    after = []
    for optimizer, shape in ((optimizers.ConvMuon(0.1), kernel.shape), (keras.optimizers.Muon(0.1), (36, 8))):
        variable = keras.Variable(kernel.reshape(shape), name="kernel")
        optimizer.build([variable])
        optimizer.apply([keras.ops.convert_to_tensor(gradient.reshape(shape))])
        after.append(np.asarray(variable).ravel())
    assert after[0] == pytest.approx(after[1], abs=1e-6)
    assert np.abs(after[0] - kernel.ravel()).max() > 1e-3


def test_kerass_own_muon_still_leaves_kernels_to_adamw():
    """When this fails, a new version of Keras takes kernels itself, and ConvMuon can go."""
    variable = keras.Variable(np.zeros((3, 3, 4, 8), "float32"), name="kernel")
    theirs, ours = keras.optimizers.Muon(0.1), optimizers.ConvMuon(0.1)
    theirs.build([variable])
    ours.build([variable])
    assert theirs.adam_velocities[0] is not None
    assert ours.adam_velocities[0] is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("_should_use_adamw", "self variable"), ("zeropower_via_newtonschulz5", "self x steps"), ("lr_adjust", "self x")],
)
def test_the_private_methods_that_conv_muon_overrides_are_those_of_the_installed_keras(name, arguments):
    for optimizer in (keras.optimizers.Muon, optimizers.ConvMuon):
        assert " ".join(inspect.signature(getattr(optimizer, name)).parameters) == arguments
