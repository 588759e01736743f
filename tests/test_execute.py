"""Runs in real processes, on recipes without a model: what dies, diverges, is killed and goes on."""

import dataclasses
import errno
import json
import os
import shutil
import subprocess
import sys
import time
import types
from multiprocessing import spawn
from pathlib import Path

import pebble
import pytest
from msgspec import structs

from lab import Objective, settings
from lab.cli import commands
from lab.core.perform import record_of
from lab.evidence import code_hash, records
from lab.execute import executor, invocation, job, own_model, scheduler
from lab.execute import ray as on_ray
from lab.execute import start as starting
from lab.execute.job import run_job
from lab.experiments import load
from lab.report import card
from lab.report.report import Report
from pipelines import sources
from tests.conftest import ROOT, evidence_in, numbers
from tests.toys import guess, made_up, pair


@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.processes
def test_a_killed_worker_takes_its_own_run_down_and_no_other(command, tmp_path, backend):
    flags = ["--seeds", "3", "--jobs", "2", "--backend", backend, "--logdir", str(tmp_path)]
    done = command("tests.toys.guess", *flags, "--kill", "fair:2")
    records = evidence_in(tmp_path)["records"]
    bad = [(r["variant"], r["seed"], r["status"]) for r in records if r["status"] != "finished"]
    assert bad == [("fair", 2, "failed")]
    assert len(records) == 6
    assert done.returncode == 1
    assert "fair seed 2 failed: its worker died" in done.stdout
    if backend == "local":
        assert "signal 9" in done.stdout


@pytest.mark.processes
def test_one_worker_after_the_other_does_its_share(command, tmp_path):
    """As with one core or one GPU: where no other run is under way when a worker ends."""
    flags = ["--seeds", "8", "--jobs", "1", "--logdir", str(tmp_path)]
    done = command("tests.toys.guess", *flags)
    records = evidence_in(tmp_path)["records"]
    assert len(records) == 16 > executor.RUNS_PER_WORKER
    assert {r["status"] for r in records} == {"finished"}
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("address", [None, "local", "10.0.0.1:6379"])
def test_a_ray_cluster_of_our_own_takes_orders_only_from_who_knows_its_token(monkeypatch, address):
    """Its servers listen on all addresses. A cluster of the user's own has its own rules, and keeps them."""
    monkeypatch.setattr(on_ray, "_check_reached", lambda address: None)
    seen = {}

    class Ray(types.ModuleType):
        def is_initialized(self):
            return False

        def init(self, **settings):
            names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
            seen.update(settings, variables=[os.environ.get(name) for name in names])

        def remote(self, **settings):
            return lambda function: function

        def shutdown(self):
            pass

    monkeypatch.setitem(sys.modules, "ray", Ray("ray"))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")  # So that all of them are as they were after the test.
        monkeypatch.delenv(name)
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    assert list(on_ray.on_ray([], 2, 0, lambda job: None)) == []
    mode, token = seen.pop("variables")
    if address == "10.0.0.1:6379":
        assert (mode, token) == (None, None)
        assert "num_cpus" not in seen
    else:
        assert mode == "token"
        assert len(token) == 64
        assert seen["num_cpus"] == 2


def test_exceptions_and_divergence_are_recorded_with_their_cause(started, capsys, tmp_path):
    flags = ["--seeds", "3", "--logdir", str(tmp_path), "--fail", "fair:1", "--diverge", "loaded:2"]
    assert commands.run(guess.EXPERIMENT, flags) == 1
    printed = capsys.readouterr().out
    found = {(r["variant"], r["seed"]): r for r in evidence_in(tmp_path)["records"]}
    assert found["fair", 1]["status"] == "failed"
    assert found["fair", 1]["cause"] == "ValueError: the coin rolled under the table"
    assert found["loaded", 2]["status"] == "diverged"
    assert found["loaded", 2]["metrics"]["test_accuracy"] == 0.1
    assert "(2 of 10 seeds)" in printed  # The failed run's pair is missing, the diverged one's is not.
    assert "fair seed 1 failed: ValueError: the coin rolled under the table" in printed
    assert "loaded seed 2 diverged" in printed


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere, workers are not forked")
@pytest.mark.parametrize(("module", "begins"), [("recipes.sequential", True), ("recipes", False)])
@pytest.mark.processes
def test_the_process_that_workers_are_forked_from_begins_with_the_command(module, begins):
    """With --help no worker is needed: if that process is there, it is because of the module's name."""
    running = subprocess.Popen([sys.executable, "-m", module, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL)
    seen = False
    while running.poll() is None:
        seen = seen or any(b"forkserver" in command for command in children(running.pid))
        time.sleep(0.01)
    assert running.returncode == 0
    assert seen == begins


def children(pid: int) -> list[bytes]:
    """The command lines of a process's children; none when it has ended."""
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [Path(f"/proc/{child}/cmdline").read_bytes() for child in pids]
    except OSError:
        return []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_resume_does_failed_runs_again(started, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, [*flags, "--variants", "fair"]) == 0
    (path,) = tmp_path.rglob("record.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed"}))
    assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 0
    assert [r["status"] for r in evidence_in(tmp_path)["records"]] == ["finished", "finished"]


@pytest.mark.processes
def test_the_exclusive_form_does_all_variants_of_a_seed_in_one_process(tmp_path):
    assert commands.run(pair.EXPERIMENT, ["--seeds", "2", "--logdir", str(tmp_path)]) == 0
    by_seed = {}
    for record in evidence_in(tmp_path)["records"]:
        by_seed.setdefault(record["seed"], set()).add(record["metrics"]["process"])
    assert [len(processes) for processes in by_seed.values()] == [1, 1]


def test_tuning_widens_the_grid_prints_the_winners_and_resumes(started, capsys, tmp_path):
    assert commands.run(guess.EXPERIMENT, ["tune", "--logdir", str(tmp_path)]) == 0
    (path,) = tmp_path.rglob("tuning.json")
    found = json.loads(path.read_text())
    assert found["winners"]["fair"]["rate"] == 1.0
    assert "fair  rate 1," in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}
    assert commands.run(guess.EXPERIMENT, ["tune", "--logdir", str(tmp_path), "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")} == before


def test_a_full_disk_loses_nothing_and_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    real, written = records.write_json, []

    def fills_up(path, content):
        if path.name == "record.json" and len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)
        written.extend([path] * (path.name == "record.json"))

    def at_once(work, jobs, gpus, started):
        for one in work:
            started(one)
            yield one, [record_of(one.variants[0], one.seed, one.config, metrics={"test_accuracy": 0.5})]

    monkeypatch.setattr(executor, "side_by_side", at_once)
    monkeypatch.setattr(scheduler, "write_json", fills_up)
    assert commands.run(guess.EXPERIMENT, ["--logdir", str(tmp_path), "--no-log"]) == 1
    printed = capsys.readouterr()
    assert "record.json could not be written or read: the disk is full" in printed.err
    assert "2 finished runs are kept" in printed.out
    assert "--resume" in printed.out
    assert len(list(tmp_path.rglob("record.json"))) == 2


@pytest.mark.processes
def test_each_worker_takes_a_gpu_of_its_own_and_one_that_died_frees_its(monkeypatch, tmp_path):
    """On stand-ins: this says which calls are made, not that a GPU obeys them."""
    import tensorflow as tf

    calls = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0", f"{kind}:1"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *call: calls.append(call))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *call: calls.append(call))
    take = f"from lab.execute.executor import *; print(take_gpu(Path({str(tmp_path)!r}), 2), flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", take], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"0\n"
    executor.see_only(executor.take_gpu(tmp_path, 2))
    assert calls == [("GPU:1", "GPU"), ("GPU:1", True)]
    other.kill()
    other.wait()
    assert executor.take_gpu(tmp_path, 2) == 0


def spoil(change):
    """A change to what a record holds, as a change to its file."""

    def to_file(path):
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return to_file


@pytest.mark.parametrize(
    ("damage", "at_fault"),
    [
        (lambda path: path.write_text("{"), "record.json"),
        (spoil(lambda record: record["config"].update(rate=0.5)), "settings"),
        (spoil(lambda record: record.update(seed=7)), "seed 7"),
        (spoil(lambda record: record.pop("status")), "status"),
    ],
)
def test_a_record_that_cannot_be_kept_is_said_and_that_run_done_again(started, capsys, tmp_path, damage, at_fault):
    flags = ["--seeds", "2", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    (path,) = tmp_path.rglob("fair/seed-1/record.json")
    whole = json.loads(path.read_text())
    damage(path)
    capsys.readouterr()
    assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 0
    said = next(line for line in capsys.readouterr().out.splitlines() if "done again" in line)
    assert str(path) in said
    assert at_fault in said
    assert numbers([json.loads(path.read_text())]) == numbers([whole])


def test_one_broken_newer_invocation_does_not_block_resuming(started, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    newer = tmp_path / "guess" / "99990101-000000"
    newer.mkdir()
    (newer / "invocation.json").write_text("{")
    assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 0


@pytest.mark.processes
def test_a_folder_that_another_process_works_in_is_named_and_one_that_was_killed_holds_none(started, capsys, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    (folder,) = (tmp_path / "guess").iterdir()
    hold = f"from lab.execute.invocation import *; held = locked(Path({str(folder)!r})); print(1, flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", hold], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdout.readline() == b"1\n"
    assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 2
    assert str(folder) in capsys.readouterr().err
    other.kill()
    other.wait()
    assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 0


def test_invocations_of_the_same_second_have_folders_of_their_own(tmp_path):
    assert len({invocation.new_folder(tmp_path) for _ in range(20)}) == 20


def test_code_that_was_changed_at_the_end_leaves_no_evidence(started, capsys, monkeypatch, tmp_path):
    """Nor does a later command of the same process, whose workers still run what was imported."""
    assert guess.EXPERIMENT.code
    monkeypatch.setattr(code_hash, "_shared", lambda: {"lab/core/run.py: Run": "changed"})
    for _ in range(2):
        assert commands.run(guess.EXPERIMENT, ["--seeds", "1", "--logdir", str(tmp_path)]) == 1
        printed = capsys.readouterr()
        assert f"The code of {guess.EXPERIMENT.name} is not" in printed.err
        assert "--resume" not in printed.out
    assert not list(tmp_path.rglob("evidence.json"))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("code", "the code changed while the command ran"),
        ("data_digest", "the images"),
        ("model_digest", "the file of --model"),
    ],
)
def test_a_run_of_other_code_images_or_model_than_was_meant_fails(tmp_path, what, words):
    mine = tmp_path / "mine.py"
    mine.write_text("def f(shape, classes): ...")
    meant = {"data_digest": sources.load().digest, "model": f"{mine}:f", "model_files": (str(mine),)}
    meant["model_digest"] = own_model.model_digest(meant["model_files"])
    meant[what] = "another"
    one = job.Job("tests.toys.guess", ("fair",), 1, {}, sources.Request(), str(tmp_path), **meant, alone=True)
    (record,) = run_job(one)
    assert record.status == "failed"
    assert words in record.cause


@pytest.mark.parametrize("variable", ["KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH"])
@pytest.mark.processes
def test_limits_of_the_environment_do_not_reach_the_numbers(variable):
    code = "import pipelines, keras; print(keras.config.max_epochs(), keras.config.max_steps_per_epoch())"
    environment = {**os.environ, variable: "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "None None\n", done.stderr


@pytest.mark.processes
def test_what_resume_takes_over_was_measured_by_the_same_code_on_the_same_images(started, capsys, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    for field in ("code", "data_digest", "keras", "versions", "machine"):
        shutil.rmtree(tmp_path / "guess", ignore_errors=True)
        assert commands.run(guess.EXPERIMENT, flags) == 0
        (path,) = tmp_path.rglob("invocation.json")
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, field: "another"}))
        assert commands.run(guess.EXPERIMENT, [*flags, "--resume"]) == 2, field
        assert "There is nothing to resume" in capsys.readouterr().err


@pytest.mark.processes
def test_workers_can_be_spawned(monkeypatch, tmp_path):
    """As they are where there is nothing to fork from."""
    monkeypatch.setattr(starting, "can_fork", lambda: False)
    flags = ["--seeds", "2", "--jobs", "2", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == 0
    assert {record["status"] for record in evidence_in(tmp_path)["records"]} == {"finished"}


@pytest.mark.parametrize("available", [["spawn"], ["spawn", "fork", "forkserver"]])
def test_without_a_server_to_fork_from_workers_are_spawned(monkeypatch, available):
    monkeypatch.setattr(starting.multiprocessing, "get_all_start_methods", lambda: available)
    method = starting.worker_context(0).get_start_method()
    assert method == ("forkserver" if "forkserver" in available and sys.platform == "linux" else "spawn")


SCRIPT = """
from lab import measure
from tests.toys.guess import EXPERIMENT

found = measure(EXPERIMENT, budget="smoke", logdir="logs", log=False)
print(found.table())
"""


@pytest.mark.processes
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_script_that_measures_is_not_run_again_by_its_workers(tmp_path, start):
    """Without `if __name__ == "__main__"`, and however workers start."""
    path = tmp_path / "mine.py"
    here = "import sys\nfrom lab.execute import start\n"
    path.write_text((here + "start.can_fork = lambda: False\n" if start == "spawn" else "") + SCRIPT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, path], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "80.35" in done.stdout
    assert len(list(tmp_path.rglob("evidence.json"))) == 1


def test_processes_of_the_readers_own_are_told_what_main_is(monkeypatch):
    """And workers are not."""
    script = types.ModuleType("__main__")
    script.__file__ = "/somewhere/mine.py"
    monkeypatch.setitem(sys.modules, "__main__", script)  # Those of pytest-xdist have no file.
    assert spawn.get_preparation_data("mine")["init_main_from_path"] == "/somewhere/mine.py"
    assert starting.WORKER == pebble.pool.process.WORKERS_NAME
    assert "init_main_from_path" not in spawn.get_preparation_data(starting.WORKER)


@pytest.mark.processes
def test_keras_settings_of_the_user_do_not_reach_the_numbers(tmp_path):
    home = tmp_path / "home" / ".keras"
    home.mkdir(parents=True)
    settings = {"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1, "backend": "jax"}
    (home / "keras.json").write_text(json.dumps(settings))
    code = (
        "import pipelines, keras; from lab.evidence import provenance;"
        "print(keras.config.backend(), keras.config.epsilon(), provenance.keras_settings(),"
        " keras.layers.Dense(1).compute_dtype)"
    )
    environment = {**os.environ, "HOME": str(tmp_path / "home"), "KERAS_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    expected = "tensorflow 1e-07 {'floatx': 'float32', 'image_data_format': 'channels_last'} float32\n"
    assert done.stdout == expected, done.stderr


def test_a_run_does_not_depend_on_the_one_before_it_in_its_process(tmp_path):
    """The first one leaves all settings of Keras, TensorFlow, numpy and the process another than they were."""
    jobs = [
        job.Job("tests.toys.company", (name,), 1, {}, sources.Request(), str(tmp_path / str(number)), logging=False)
        for number, name in enumerate(("tidy", "messy", "tidy"))
    ]
    alone, messy, after = (run_job(dataclasses.replace(one, alone=True))[0] for one in jobs)
    assert alone.status == messy.status == after.status == "finished", messy.cause
    assert messy.metrics == alone.metrics
    assert after.metrics == alone.metrics


def test_what_measures_times_has_the_machine_to_itself_and_a_gpu_has_one_run(tmp_path):
    def at_once(devices, alone=False, **fields):
        asked = settings.Settings("quick", (1,), (), sources.Request(), tmp_path, **fields)
        return scheduler._at_once(asked, devices, alone)

    assert at_once(0, alone=True, jobs=8) == 1
    assert at_once(0, jobs=3) == 3
    assert at_once(2) == 2
    assert at_once(2, jobs=3) == 2
    assert at_once(2, jobs=3, backend="ray") == 3


@pytest.mark.parametrize(
    ("name", "action", "alone"),
    [
        ("mixed_precision", "run", True),
        ("mixed_precision", "extend", True),
        ("mixed_precision", "tune", False),
        ("speedrun", "tune", False),
        ("optimizers", "run", False),
        ("optimizers", "tune", False),
    ],
)
def test_what_is_timed_has_the_machine_to_itself_and_a_sweep_has_not(name, action, alone):
    asked = types.SimpleNamespace(experiment=load(name), settings=types.SimpleNamespace(action=action))
    assert invocation.Invocation.alone.fget(asked) is alone


def test_a_sweep_for_the_fastest_has_the_machine_to_itself():
    tuning = dataclasses.replace(guess.TUNING, objective=Objective("seconds_to_target", lower=True))
    experiment = dataclasses.replace(guess.EXPERIMENT, tuning=tuning)
    asked = types.SimpleNamespace(experiment=experiment, settings=types.SimpleNamespace(action="tune"))
    assert invocation.Invocation.alone.fget(asked)


@pytest.fixture
def partly_apart(monkeypatch):
    """The toy that compares two sleeps, with a third variant that needs no company."""
    monkeypatch.setitem(pair.VARIANTS, "apart", 0.001)
    experiment = dataclasses.replace(pair.EXPERIMENT, variants=pair.VARIANTS, apart=("apart",))
    monkeypatch.setattr(pair, "EXPERIMENT", experiment)
    return experiment


def test_variants_apart_run_side_by_side_before_those_that_are_timed(partly_apart, monkeypatch, tmp_path):
    phases = []

    def phase(work, jobs, gpus, tell):
        phases.append((jobs, [(one.variants, one.seed, one.alone) for one in work]))
        for one in work:
            tell(one)
            yield one, run_job(dataclasses.replace(one, alone=True))

    monkeypatch.setattr(executor, "side_by_side", phase)
    assert commands.run(partly_apart, ["--seeds", "2", "--jobs", "2", "--logdir", str(tmp_path)]) == 0
    together = ("short", "long")
    assert phases == [
        (2, [(("apart",), 1, False), (("apart",), 2, False)]),
        (1, [(together, 1, True), (together, 2, True)]),
    ]
    assert {(r["variant"], r["seed"]) for r in evidence_in(tmp_path)["records"]} == {
        (name, seed) for name in (*together, "apart") for seed in (1, 2)
    }


def test_the_time_of_a_run_is_shared_by_those_that_it_runs_with(partly_apart):
    """On two cores: of what runs apart two at a time, and of what is compared the time of one process."""
    machine = structs.replace(made_up.evidence([]).machine, cores=2)
    of = {name: made_up.record(name, seconds={"total": 10.0}) for name in ("short", "long", "apart")}
    found = structs.replace(made_up.evidence(list(of.values()), variants=list(of), recipe="pair"), machine=machine)
    assert Report(partly_apart, found).seconds(found.records) == 10 / 2 + 10 / 2 + 10 / 2
    assert Report(pair.EXPERIMENT, found).seconds([of["apart"]]) == 5
    assert "The timed variants of a seed took turns" in card.notes(Report(partly_apart, found))
