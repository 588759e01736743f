"""The trials that the search recipe trains: their lines in HParams, their seeds, and a search that is killed."""

import json
import os
import signal
import subprocess
import sys
import time

from recipes.harness.run import CHANCE
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from recipes import search
from recipes.harness import cli
from tests.conftest import ROOT, evidence_in, numbers, trials_in


def test_every_live_trial_has_its_seed_and_its_line_in_hparams(smoke):
    _, logs = smoke("search")
    trials = trials_in(logs)
    assert len(trials) >= 4 * search.LIVE_TRIALS
    assert {trial["status"] for trial in trials} == {"COMPLETED"}
    lines = {}
    for folder in logs.rglob("seed-1-trials"):
        for path in folder.rglob("trial.json"):
            trial = json.loads(path.read_text())
            group, hparams = line_in_hparams(folder / trial["trial_id"])
            assert hparams == {**trial["hyperparameters"]["values"], "seed": hparams["seed"]}
            assert group == f"{folder.parent.name}/{folder.name}/{trial['trial_id']} {folder.parents[1].name}"
            lines[group] = hparams["seed"]
    assert len(lines) == len(trials)  # A group each: TensorBoard shows a line for a group.
    assert len(set(lines.values())) == len({trial["trial_id"] for trial in trials})


def line_in_hparams(folder):
    events = EventAccumulator(str(folder)).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    values = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
    return start.group_name, values


AGAIN = """
import json, sys
import keras, tensorflow as tf
from pipelines import cifar10
from recipes import search
tf.config.threading.set_intra_op_parallelism_threads(1)  # As workers have it: the order of sums is the same.
setting, seed = json.loads(sys.argv[1])
keras.utils.set_random_seed(seed)
fit = search.fit_arguments(cifar10.load(cifar10.Request(train_images=2000)), seed)
history = search.build_model(setting).fit(epochs=search.LIVE_EPOCHS, verbose=0, **fit)
print(max(history.history["val_accuracy"]))
"""


def test_a_trial_trained_again_from_what_is_recorded_gives_the_same_bits(smoke):
    _, logs = smoke("search")
    (path,) = logs.rglob("random/seed-1-trials/*/trial_1/trial.json")
    trial = json.loads(path.read_text())
    seed = int(line_in_hparams(path.parents[2] / "1")[1]["seed"])
    arguments = json.dumps([trial["hyperparameters"]["values"], seed])
    done = subprocess.run([sys.executable, "-c", AGAIN, arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == trial["score"]
    assert trial["score"] > 2 * CHANCE  # More than six deviations of a guess on 400 validation images.


def test_killed_searches_resume_without_training_a_finished_trial_again(smoke, tmp_path):
    variants = ("grid", "hyperband")
    flags = ["--budget", "smoke", "--variants", *variants, "--jobs", "2", "--logdir", str(tmp_path)]
    start = [sys.executable, "-m", "recipes.search", *flags]
    process = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + 200
        # A search has put a trial away when it begins the next one.
        while not all(len(list(tmp_path.rglob(f"{name}/*/*/trial_*/trial.json"))) >= 2 for name in variants):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    trials = {path.parent: json.loads(path.read_text())["status"] for path in tmp_path.rglob("trial_*/trial.json")}
    assert set(trials.values()) == {"COMPLETED", "RUNNING"}
    before = {p: p.stat().st_mtime_ns for folder in trials if trials[folder] == "COMPLETED" for p in folder.iterdir()}
    assert cli.main(search.RECIPE, [*flags, "--resume"]) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    unbroken = numbers(evidence_in(smoke("search")[1])["records"])
    assert numbers(evidence_in(tmp_path)["records"]) == {(name, 1): unbroken[name, 1] for name in variants}
