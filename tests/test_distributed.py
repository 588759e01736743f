"""Replicas train the model of one device; workers that go are missed, and a restart goes on to the same bits."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import types
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import psutil
import pytest
import tensorflow as tf
import yaml

from lab import Run, measurement, together, workers_here
from lab.cli import validate
from lab.execute import cluster
from lab.experiments import distributed as declared
from pipelines import batches, sources
from pipelines.errors import UsageError
from recipes import distributed as recipe

REQUEST = sources.Request(train_images=500)
DATA = sources.load(REQUEST)
SMALL = declared.EXPERIMENT.config(epochs=2, batch_size=48)
ONE = tf.distribute.get_strategy()


def small_set(count: int = 100, batch_size: int = 48) -> tf.data.Dataset:
    """By default batches of 48, 48 and 4."""
    return tf.data.Dataset.from_tensor_slices((DATA.train.images[:count], DATA.train.labels[:count])).batch(batch_size)


# Shares


def shares_of(batch, replicas: int) -> list:
    """Each replica's share of a batch, as arrays."""
    contexts = [
        types.SimpleNamespace(replica_id_in_sync_group=number, num_replicas_in_sync=replicas)
        for number in range(replicas)
    ]
    given = tf.constant(DATA.train.images[batch]), tf.constant(DATA.train.labels[batch])
    return [[part.numpy() for part in recipe.share(*given, context)] for context in contexts]


@pytest.mark.parametrize("replicas", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [48, 20, 7])
def test_shares_are_the_batch_each_image_once(replicas, size):
    batch = np.random.default_rng(3).permutation(len(DATA.train))[:size]
    shares = shares_of(batch, replicas)
    sizes = [len(labels) for _, labels, _ in shares]
    assert max(sizes) - min(sizes) <= 1
    images = np.concatenate([images for images, _, _ in shares])
    assert np.array_equal(sorted(map(bytes, images)), sorted(map(bytes, DATA.train.images[batch])))
    for images, labels, weights in shares:
        assert images.dtype == np.uint8
        # Keras divides a share's sum by its size and by the number of replicas.
        assert weights / (len(labels) * replicas) == pytest.approx(1 / size)
        for image, label in zip(images, labels, strict=True):
            (place,) = [i for i in batch if np.array_equal(DATA.train.images[i], image)]
            assert DATA.train.labels[place] == label


@pytest.mark.parametrize("size", [1, 3])
def test_where_there_are_fewer_images_than_replicas_each_takes_all(size):
    """No layer likes an empty share, and an image that did not count would be in the statistics of a batch."""
    for images, labels, weights in shares_of(list(range(size)), 4):
        assert np.array_equal(images, DATA.train.images[:size])
        assert np.array_equal(labels, DATA.train.labels[:size])
        assert weights.tolist() == [1.0] * size


# The same model


def by_fit(epochs: int, build) -> tuple[keras.Model, dict]:
    """What `fit` makes of it, and its history."""
    model = build(DATA.shape, 10)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), LOSS, metrics=["accuracy"])
    found = model.fit(small_set(), validation_data=small_set(70, 32), epochs=epochs, shuffle=False, verbose=0)
    return model, found.history


LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def with_penalty(shape, classes):
    penalty = keras.regularizers.L2(0.01)
    images = keras.Input(shape)
    x = keras.layers.Conv2D(4, 5, 3, activation="relu")(keras.layers.Rescaling(1 / 64, -2)(images))
    return keras.Model(images, keras.layers.Dense(classes, kernel_regularizer=penalty)(keras.layers.Flatten()(x)))


@pytest.mark.variants
@pytest.mark.parametrize("build", [recipe.build_model, with_penalty])
def test_one_device_trains_the_model_of_fit_and_tells_callbacks_the_same(build):
    """A smaller last batch and a penalty included."""
    keras.utils.set_random_seed(1)
    theirs, expected = by_fit(2, build)
    keras.utils.set_random_seed(1)
    told = keras.callbacks.History()
    ours = recipe.train(
        ONE, small_set(), small_set(70, 32), 10, rate=0.01, epochs=2, build_model=build, callbacks=[told]
    )
    for one, other in zip(theirs.get_weights(), ours.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-4)
    assert told.history.keys() == expected.keys()
    for name, values in expected.items():
        assert told.history[name] == pytest.approx(values, rel=1e-3), name


def test_a_callback_sees_each_step_and_can_stop():
    class Stop(keras.callbacks.Callback):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            self.steps += 1
            assert np.isfinite(float(logs["loss"]))

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    stop = Stop()
    recipe.train(ONE, small_set(), small_set(), 10, epochs=3, build_model=with_penalty, callbacks=[stop])
    assert stop.steps == 3


@pytest.mark.parametrize("synchronized", [True, False])
def test_normalization_is_synchronized_where_it_says_so(synchronized):
    layers = recipe.build_model(DATA.shape, 10, synchronized=synchronized).layers
    found = [layer.synchronized for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert found == [synchronized] * 2


@pytest.mark.variants
def test_a_training_in_two_parts_comes_to_the_same_bits(tmp_path):
    def train(folder, epochs):
        train_set = batches.training(DATA.train.take(range(144)), 48, seed=1)  # Another order in each epoch.
        folder.mkdir(exist_ok=True)
        keras.utils.set_random_seed(1)
        told = keras.callbacks.History()
        recipe.train(ONE, train_set, small_set(), 10, epochs=epochs, folder=folder, callbacks=[told])
        return told.history.get("loss", [])

    assert len(train(tmp_path / "whole", 3)) == 3
    assert len(train(tmp_path / "parts", 1)) == 1
    assert len(train(tmp_path / "parts", 3)) == 2
    assert train(tmp_path / "parts", 3) == []
    whole, parts = (keras.models.load_model(tmp_path / name / "epoch-0003.keras") for name in ("whole", "parts"))
    assert int(whole.optimizer.iterations) == int(parts.optimizer.iterations) == 9
    for one, other in zip(whole.variables, parts.variables, strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_it_learns():
    keras.utils.set_random_seed(1)
    told = keras.callbacks.History()
    recipe.train(ONE, small_set(480), small_set(480), 10, rate=0.005, epochs=4, callbacks=[told])
    assert told.history["val_accuracy"][-1] > 0.25


def test_weights_are_compared_after_twenty_steps_some_with_fewer_images_than_replicas(monkeypatch):
    asked = []

    def train(strategy, train_set, validation_set, classes, *, rate, epochs, build_model):
        asked.append(([len(labels) for _, labels in train_set], epochs))
        assert keras.config.floatx() == "float64"
        return build_model(DATA.shape, classes)

    monkeypatch.setattr(recipe, "train", train)
    for norm, layers in (("none", 0), ("synchronized", 2)):
        weights = declared.weights_after(ONE, DATA, 1, norm)
        assert weights.dtype == np.float64
        assert len(weights) == declared.BUILDS[norm](DATA.shape, 10).count_params() - layers * (32 + 64)
    assert asked == [([64, 64, 64, 64, 3], 4)] * 2
    assert keras.config.floatx() == keras.config.dtype_policy().name == "float32"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What one device, replicas in one process and two workers have left, and their rows."""
    folder, rows = tmp_path_factory.mktemp("trained"), {}
    for variant in ("one_device", "mirrored_2", "mirrored_4", "mirrored_4_plain", "workers_2"):
        order = variant, 1, asdict(SMALL), asdict(REQUEST), str(folder / variant)
        workers = workers_here(declared.WORKERS.get(variant, 1), 4)
        rows[variant] = together(declared.work, *order, environments=workers, log=folder / variant / "process.log")
    return folder, rows


def apart(folder, variant, norm) -> float:
    one, other = (np.load(folder / name / f"same-{norm}.npy") for name in ("one_device", variant))
    assert one.dtype == other.dtype == np.float64
    return float(np.linalg.norm(other - one) / np.linalg.norm(one))


@pytest.mark.parametrize("variant", ["mirrored_2", "mirrored_4", "workers_2"])
@pytest.mark.clusters
def test_replicas_train_the_model_of_one_device(trained, variant):
    """With synchronized BatchNormalization as well, and where a batch has fewer images than replicas."""
    folder, _ = trained
    assert apart(folder, variant, "none") < 1e-12
    assert apart(folder, variant, "synchronized") < 1e-12


@pytest.mark.clusters
def test_statistics_of_each_replicas_own_lead_to_another_model(trained):
    folder, _ = trained
    one, plain, same = (
        keras.models.load_model(folder / name / "training" / "epoch-0001.keras")
        for name in ("one_device", "mirrored_4_plain", "mirrored_4")
    )
    assert one.layers[3].synchronized
    assert not plain.layers[3].synchronized
    means = [model.layers[3].moving_variance.numpy() for model in (one, plain, same)]
    assert np.abs(means[0] - means[1]).max() > 5 * np.abs(means[0] - means[2]).max()
    assert not (folder / "mirrored_4_plain" / "same-none.npy").exists()


@pytest.mark.parametrize("variant", ["mirrored_2", "mirrored_4", "workers_2"])
@pytest.mark.clusters
def test_all_workers_report_the_loss_and_accuracy_of_the_whole_batch(trained, variant):
    _, rows = trained
    ((first, *_),) = rows["one_device"]
    for of_worker in rows[variant]:
        assert len(of_worker) == 2
        assert of_worker[0][:2] == pytest.approx(first[:2], rel=0.02)
        assert of_worker[0][:2] == rows[variant][0][0][:2]


@pytest.mark.clusters
def test_compare_measures_each_variant_against_one_device(trained, tmp_path, monkeypatch):
    folder, _ = trained
    asked = {}

    def done_before(work, variant, seed, config, request, place, environments, log):
        asked[variant] = [sorted(environment) for environment in environments]
        models = Path(shutil.copytree(folder / variant, place, dirs_exist_ok=True)) / "training"
        shutil.copy(models / "epoch-0002.keras", models / "epoch-0003.keras")
        slow = {"one_device": 4.0, "mirrored_2": 2.0, "workers_2": 1.0}[variant]
        # Of each worker: loss, accuracy, seconds, the machine's work meanwhile, and its own.
        epochs = [[2.0, 0.2, 99.0, 999.0, 0.0], [1.5, 0.4, slow - 0.5, 4.0, 2.0], [1.2, 0.5, slow + 0.5, 4.0, 2.0]]
        return [epochs] * len(environments)

    monkeypatch.setattr(declared, "together", done_before)
    runs = {}
    for variant in ("one_device", "mirrored_2", "workers_2"):
        runs[variant] = Run(variant, 1, REQUEST, SMALL, tmp_path / variant)
        runs[variant].folder.mkdir()
    found = declared.compare(SMALL, runs)
    assert [len(asked[variant]) for variant in runs] == [1, 1, 2]
    assert ["TF_CONFIG" in names for names in asked["workers_2"]] == [True, True]
    for variant, seconds in {"one_device": 4.0, "mirrored_2": 2.0, "workers_2": 1.0}.items():
        assert found[variant]["images_per_second"] == pytest.approx(480 / seconds)
        assert found[variant]["log_time"] == pytest.approx(np.log(seconds))
        assert runs[variant].curves["accuracy"] == [0.2, 0.4, 0.5]
        assert len(runs[variant].curves["val_accuracy"]) == 3
        assert [block["variant"] for block in runs[variant].blocks] == [variant]
        beyond_all_workers = {"one_device": 4 / 8, "mirrored_2": 4 / 4, "workers_2": 0.0}[variant]
        assert runs[variant].blocks[0]["others"] == pytest.approx(beyond_all_workers / os.cpu_count())
        for norm in declared.BUILDS:
            assert found[variant][f"apart_{norm}"] == pytest.approx(apart(folder, variant, norm))
    last = keras.models.load_model(folder / "mirrored_2" / "training" / "epoch-0002.keras")
    right = last.predict(DATA.test.images, verbose=0).argmax(axis=1) == DATA.test.labels
    assert found["mirrored_2"]["test_accuracy"] == pytest.approx(right.mean())


def test_a_normalization_is_trained_at_its_own_rate(tmp_path, monkeypatch):
    monkeypatch.setattr(declared, "RATES", {"synchronized": 0.1, "plain": 0.2})
    asked = {}

    def train(strategy, train_set, validation_set, classes, *, build_model, rate, folder, epochs, callbacks):
        layer = build_model(DATA.shape, classes).layers[3]
        asked.setdefault((layer.synchronized, len(train_set), epochs), []).append(rate)

    monkeypatch.setattr(recipe, "train", train)
    for variant in declared.REPLICAS:
        assert declared.train(ONE, DATA, SMALL, 1, tmp_path / variant, variant) == []
    assert asked == {(True, 10, 2): [0.1] * (len(declared.REPLICAS) - 1), (False, 10, 2): [0.2]}


def test_rows_have_the_seconds_of_an_epochs_steps_and_not_of_its_validation(monkeypatch):
    now = [np.zeros(3)]
    monkeypatch.setattr(declared, "clock", lambda: now[0])
    rows = declared.Rows()
    rows.on_epoch_begin(0)
    for seconds in (1.0, 3.0):
        now[0] = np.array([seconds, 2 * seconds, seconds / 2])
        rows.on_train_batch_end(0, {"loss": 1.0})
    now[0] = np.full(3, 99.0)  # Validation.
    rows.on_epoch_end(0, {"loss": 1.5, "accuracy": 0.25})
    assert rows.rows == [[1.5, 0.25, 3.0, 6.0, 1.5]]


# Started from outside


def start(logdir, config: str, *flags: str, **variables: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "recipes.distributed", "--train-images", "1000", "--logdir", str(logdir), *flags]
    environment = {**os.environ, **variables, "TF_CONFIG": config}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def two_workers(logdir, *epochs: int, **variables: str) -> list[subprocess.Popen]:
    """Each as long as the other, or so many epochs each."""
    configs = [environment["TF_CONFIG"] for environment in workers_here(2, 2)]
    return [
        start(logdir, config, "--epochs", str(count), "--batch-size", "48", **variables)
        for config, count in zip(configs, epochs * (2 // len(epochs)), strict=True)
    ]


def ended(workers, seconds=120) -> list[tuple[int, str, str]]:
    try:
        said = [worker.communicate(timeout=seconds) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [(worker.returncode, *texts) for worker, texts in zip(workers, said, strict=True)]


EPOCHS = 8


def folder_of(logdir) -> Path:
    """Where the workers of the one training train."""
    (folder,) = (logdir / "distributed").glob("cluster-*")
    return folder


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Where nothing is cached, too: no image may be decoded before the strategy is there."""
    logdir, cache = (tmp_path_factory.mktemp(name) for name in ("uninterrupted", "cache"))
    workers = two_workers(logdir, EPOCHS, KERAS_RECIPES_CACHE=str(cache))
    said = ended(workers)
    return folder_of(logdir), said


@pytest.mark.clusters
def test_two_workers_from_two_shells_train_together_and_say_that_they_listen(uninterrupted):
    folder, workers = uninterrupted
    for number, (code, out, err) in enumerate(workers):
        assert code == 0, err
        assert f"Worker {number} of 2: TensorFlow's server listens on port" in err
        assert "all addresses of this machine" in err
        assert f"Trained to epoch {EPOCHS}: loss " in out
    assert len(list(folder.glob("epoch-*.keras"))) == EPOCHS


@pytest.mark.clusters
def test_workers_that_are_killed_are_missed_and_restarts_go_on_to_the_same_bits(tmp_path, uninterrupted):
    """First the one that saves, then, after a restart, the other."""
    for victim, epoch in ((0, 2), (1, 4)):
        workers = two_workers(tmp_path, EPOCHS)
        deadline = time.monotonic() + 120
        while not list(tmp_path.rglob(f"epoch-{epoch:04}.keras")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(workers[victim].pid, signal.SIGKILL)
        folder = folder_of(tmp_path)
        codes = ended(workers)
        assert codes[victim][0] == -signal.SIGKILL
        code, _, err = codes[1 - victim]
        assert code == 1
        assert "Another worker of the cluster is gone" in err.splitlines()[-1]
        assert "Traceback" not in err
        assert epoch <= len(list(folder.glob("epoch-*.keras"))) < EPOCHS
        if victim == 0:
            written = (folder / "epoch-0001.keras").stat().st_mtime_ns
    again = ended(two_workers(tmp_path, EPOCHS))
    assert [code for code, _, _ in again] == [0, 0], again
    assert (folder / "epoch-0001.keras").stat().st_mtime_ns == written  # They went on, and did not begin anew.
    last = f"epoch-{EPOCHS:04}.keras"
    ours, theirs = (keras.models.load_model(where / last) for where in (folder, uninterrupted[0]))
    assert int(ours.optimizer.iterations) == int(theirs.optimizer.iterations)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.clusters
def test_workers_that_do_not_agree_say_so_and_train_nothing(tmp_path):
    for code, _, err in ended(two_workers(tmp_path, 2, 3)):
        assert code == 2, err
        assert "The workers do not agree" in err
        assert "Traceback" not in err
    assert list(tmp_path.rglob("epoch-*")) == []


@pytest.mark.clusters
def test_a_port_that_is_taken_is_a_sentence(tmp_path):
    config = workers_here(2, 2)[0]["TF_CONFIG"]
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", int(json.loads(config)["cluster"]["worker"][0].rpartition(":")[2])))
        taken.listen()
        ((code, _, err),) = ended([start(tmp_path, config)])
    assert code == 1
    assert "Traceback" not in err
    assert "gRPC server" in err.splitlines()[-1]


@pytest.mark.clusters
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_worker_that_waits_for_the_others_ends_when_it_is_told(tmp_path, number, code):
    """TensorFlow, which waits, heeds no signal. Nothing of the worker is left: no process, no temporary folder."""
    with tempfile.TemporaryDirectory(prefix="own-") as home:  # A short name: where it is long, there is none.
        config = workers_here(2, 2)[0]["TF_CONFIG"]
        worker = start(tmp_path, config, TMPDIR=home)
        assert "Waiting for the other workers" in worker.stderr.readline()
        children = psutil.Process(worker.pid).children(recursive=True)
        deadline = time.monotonic() + 60
        while not listens(int(json.loads(config)["cluster"]["worker"][0].rpartition(":")[2])):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        worker.send_signal(number)
        try:
            _, said = worker.communicate(timeout=30)
        except subprocess.TimeoutExpired:  # Where the test fails, nothing is left either.
            for process in (worker, *children):
                process.kill()
            raise
        assert worker.returncode == code
        assert "Traceback" not in said
        assert psutil.wait_procs(children, timeout=30)[1] == []
        assert list(Path(home).iterdir()) == []


def listens(port: int) -> bool:
    """Whether a worker's server is there, which then waits."""
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


GOOD = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 1}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        json.dumps({**GOOD, "task": {"type": "worker", "index": 2}}),
        json.dumps({**GOOD, "task": {"type": "worker", "index": -1}}),
        json.dumps({**GOOD, "task": {"type": "ps", "index": 0}}),
        json.dumps({**GOOD, "cluster": {"worker": ["a", "b"]}}),
        json.dumps({**GOOD, "cluster": {"worker": ["a:1", "b:70000"]}}),
        json.dumps({**GOOD, "cluster": {**GOOD["cluster"], "ps": ["c:3"]}}),
    ],
)
def test_a_wrong_tf_config_is_shown_what_a_right_one_is_like(text):
    with pytest.raises(UsageError, match=r'TF_CONFIG must be like \{"cluster"'):
        cluster.own_task(text)


def test_a_right_one_says_which_worker_this_is():
    assert cluster.own_task(json.dumps(GOOD)) == (1, ["a:1", "b:2"])


@pytest.mark.clusters
def test_usage_errors_of_a_worker_have_exit_code_2_and_no_traceback(tmp_path):
    broken = start(tmp_path, "{}")
    config = workers_here(2, 2)[0]["TF_CONFIG"]
    unknown = start(tmp_path, config, "--no-such-flag", "1")
    for (code, _, err), sentence in zip(
        ended([broken, unknown]),
        ("TF_CONFIG must be like", "no-such-flag"),
        strict=True,
    ):
        assert code == 2
        assert sentence in err
        assert "Traceback" not in err


CLUSTERS = (Path(__file__).resolve().parents[1] / "docs" / "clusters.md").read_text(encoding="utf-8")


def said_by(script: str, folder: Path, **environment: str) -> str:
    """The TF_CONFIG that a script of the page makes, run with stand-ins for what is not here."""
    for name, body in {
        "srun": 'shift; exec "$@"',  # Slurm runs it on each node.
        "scontrol": "printf 'node1\\nnode2\\n'",
        ".venv/bin/python": 'echo "$TF_CONFIG"',
    }.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", **environment}
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_for_slurm_makes_a_tf_config(tmp_path):
    (script,) = re.findall(r"```bash\n(.*?)```", CLUSTERS, re.DOTALL)
    said = said_by(script, tmp_path, SLURM_JOB_NODELIST="node[1-2]", SLURM_PROCID="1")
    assert cluster.own_task(said) == (1, ["node1:12345", "node2:12345"])


def test_the_manifest_for_kubernetes_makes_a_tf_config(tmp_path):
    (text,) = re.findall(r"```yaml\n(.*?)```", CLUSTERS, re.DOTALL)
    service, policy, job = yaml.safe_load_all(text)
    pod = job["spec"]["template"]["spec"]
    said = said_by(pod["containers"][0]["command"][2], tmp_path, JOB_COMPLETION_INDEX="0")
    assert cluster.own_task(said) == (0, ["train-0.train:12345", "train-1.train:12345"])
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 2
    name = job["metadata"]["name"]
    assert pod["subdomain"] == service["metadata"]["name"] == name
    assert service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == {"job-name": name}


def test_variants_with_servers_are_run_only_where_asked_for_and_say_so():
    for budget in ("smoke", "quick", "full"):
        assert set(validate.variants_of(declared.EXPERIMENT, budget, ())).isdisjoint(declared.WORKERS)
        assert set(validate.variants_of(declared.EXPERIMENT, budget, ("all",))) == set(declared.REPLICAS)
    assert set(declared.EXPERIMENT.opens) == set(declared.WORKERS)
    said: list[str] = []
    for variants in (("one_device",), ("one_device", "workers_2")):
        invocation = types.SimpleNamespace(
            experiment=declared.EXPERIMENT,
            settings=types.SimpleNamespace(backend="local", action="run"),
            variants=variants,
        )
        measurement.say_what_listens(invocation, said.append)
    (sentence,) = said
    assert sentence.startswith("workers_2: TensorFlow's servers listen on all addresses of this machine")


# Processes of a recipe's own


@pytest.mark.processes
def test_each_process_has_its_environment_and_answers_for_itself(tmp_path):
    environments = [{"NUMBER": str(number)} for number in range(3)]
    assert together(variable, "NUMBER", environments=environments, log=tmp_path / "x.log") == ["0", "1", "2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-0.log", "x-1.log", "x-2.log"]
    assert (tmp_path / "x-1.log").read_text().strip() == "reading NUMBER"


def variable(name: str) -> str:
    print("reading", name)
    return os.environ[name]


@pytest.mark.processes
def test_a_process_that_fails_takes_the_others_along_and_says_why(monkeypatch):
    monkeypatch.setattr("lab.execute.subprocesses.GRACE", 0.2)
    with pytest.raises(RuntimeError, match="process 1 of 2 failed: ValueError: told to"):
        together(fail_where, "1", environments=[{"NUMBER": "0"}, {"NUMBER": "1"}], seconds=250)


def fail_where(number: str) -> None:
    if os.environ["NUMBER"] == number:
        raise ValueError("told to")
    time.sleep(300)


@pytest.mark.processes
def test_processes_end_with_the_one_that_started_them(tmp_path):
    """However it ends."""
    path = tmp_path / "pid"
    code = f"from tests.test_distributed import *; together(note_and_sleep, {str(path)!r})"
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    child = int(path.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def note_and_sleep(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(300)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{process}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()
