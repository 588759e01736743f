"""The trials that the search recipe trains: their lines in HParams, and a search that is killed."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from lab.cli import commands
from lab.experiments import search as search_experiment
from tests.conftest import ROOT, evidence_in, trials_in


@pytest.mark.parametrize("name", ["search"])
def test_every_live_trial_has_its_line_in_hparams(smoke, name):
    _, logs = smoke(name)
    trials = trials_in(logs)
    config = search_experiment.EXPERIMENT.config_at("smoke")
    assert len(trials) >= len(search_experiment.VARIANTS) * config.trials
    assert {trial["status"] for trial in trials} == {"COMPLETED"}
    lines = set()
    for folder in logs.rglob("seed-1-trials"):
        for path in folder.rglob("trial.json"):
            trial = json.loads(path.read_text())
            group, hparams = line_in_hparams(folder / trial["trial_id"])
            wanted = {k: v for k, v in trial["hyperparameters"]["values"].items() if not k.startswith("tuner/")}
            assert hparams == wanted
            assert group == f"{folder.parent.name}/{folder.name}/{trial['trial_id']} {folder.parents[1].name}"
            lines.add(group)
    assert len(lines) == len(trials)  # A group each: TensorBoard shows a line for a group.


def line_in_hparams(folder):
    events = EventAccumulator(str(folder)).Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    values = {name: value.string_value or value.number_value for name, value in start.hparams.items()}
    return start.group_name, values


def test_killed_searches_resume_without_training_a_finished_trial_again(tmp_path):
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
    assert commands.run(search_experiment.EXPERIMENT, [*flags, "--resume"]) == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before
    records = evidence_in(tmp_path)["records"]
    assert [(record["variant"], record["status"]) for record in records] == [(name, "finished") for name in variants]
