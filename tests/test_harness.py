"""The harness in real processes, on recipes without a model: what dies, diverges, is killed and goes on."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes import __main__ as whole
from recipes.harness import cli, evidence, runner
from recipes.harness.run import carry_out
from tests.conftest import ROOT, evidence_in, numbers
from tests.toys import guess, pair


@pytest.fixture
def in_process(monkeypatch):
    """Carry tasks out right here: what is tested is neither processes nor how they end."""

    def one_by_one(tasks, jobs, gpus, started):
        for task in tasks:
            started(task)
            yield task, carry_out(dataclasses.replace(task, intra_op_threads=None))

    monkeypatch.setattr(cli.runner, "side_by_side", one_by_one)


@pytest.mark.parametrize("backend", ["local", "ray"])
def test_a_killed_worker_takes_its_own_run_down_and_no_other(command, tmp_path, backend):
    flags = ["--seeds", "3", "--jobs", "2", "--backend", backend, "--logdir", str(tmp_path)]
    done = command("tests.toys.guess", *flags, "--kill", "fair:2")
    records = evidence_in(tmp_path)["records"]
    bad = [(r["variant"], r["seed"], r["status"]) for r in records if r["status"] != "finished"]
    assert bad == [("fair", 2, "failed")]
    assert len(records) == 6
    assert done.returncode == 1
    assert "fair seed 2 failed: its worker died" in done.stdout
    assert "3, 1 failed" in done.stdout
    if backend == "local":
        assert "signal 9" in done.stdout


def test_exceptions_and_divergence_are_recorded_with_their_cause(in_process, capsys, tmp_path):
    flags = ["--seeds", "3", "--logdir", str(tmp_path), "--fail", "fair:1", "--diverge", "loaded:2"]
    assert cli.main(guess.RECIPE, flags) == 1
    printed = capsys.readouterr().out
    found = {(r["variant"], r["seed"]): r for r in evidence_in(tmp_path)["records"]}
    assert found["fair", 1]["status"] == "failed"
    assert found["fair", 1]["cause"] == "ValueError: the coin rolled under the table"
    assert found["loaded", 2]["status"] == "diverged"
    assert found["loaded", 2]["metrics"]["test_accuracy"] == 0.1
    assert "n = 2" in printed  # The failed run's pair is missing, the diverged one's is not.
    assert "fair seed 1 failed: ValueError: the coin rolled under the table" in printed
    assert "loaded seed 2 diverged" in printed


def test_resume_after_sigkill_keeps_what_is_done_and_ends_the_same(in_process, tmp_path):
    flags = ["--seeds", "4", "--jobs", "2", "--seconds", "0.8"]
    assert cli.main(guess.RECIPE, [*flags, "--logdir", str(tmp_path / "whole")]) == 0
    start = [sys.executable, "-m", "tests.toys.guess", *flags, "--logdir", str(tmp_path / "cut")]
    running = subprocess.Popen(start, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "cut").rglob("record.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut").rglob("record.json")}
    assert 2 <= len(kept) < 8
    workers = {int(path.read_text()) for path in (tmp_path / "cut").rglob("pid")}
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in workers), "workers outlive their parent"

    assert cli.main(guess.RECIPE, [*flags, "--logdir", str(tmp_path / "cut"), "--resume"]) == 0
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert numbers(evidence_in(tmp_path / "cut")["records"]) == numbers(evidence_in(tmp_path / "whole")["records"])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere, workers are not forked")
@pytest.mark.parametrize(("module", "begins"), [("recipes.sequential", True), ("recipes", False)])
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


def test_resume_does_failed_runs_again(in_process, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    assert cli.main(guess.RECIPE, [*flags, "--variants", "fair"]) == 0
    (path,) = tmp_path.rglob("record.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "failed"}))
    assert cli.main(guess.RECIPE, [*flags, "--resume"]) == 0
    assert [r["status"] for r in evidence_in(tmp_path)["records"]] == ["finished", "finished"]


def test_the_exclusive_form_does_all_variants_of_a_seed_in_one_process(tmp_path):
    assert cli.main(pair.RECIPE, ["--seeds", "2", "--logdir", str(tmp_path)]) == 0
    by_seed = {}
    for record in evidence_in(tmp_path)["records"]:
        by_seed.setdefault(record["seed"], set()).add(record["metrics"]["process"])
    assert [len(processes) for processes in by_seed.values()] == [1, 1]


def test_tuning_widens_the_grid_prints_the_winners_and_resumes(in_process, capsys, tmp_path):
    assert cli.main(guess.RECIPE, ["--tune", "--logdir", str(tmp_path)]) == 0
    (path,) = tmp_path.rglob("tuning.json")
    found = json.loads(path.read_text())
    assert found["winners"]["fair"]["best"]["rate"] == 1.0
    assert "fair  best       rate 1," in capsys.readouterr().out
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")}
    assert cli.main(guess.RECIPE, ["--tune", "--logdir", str(tmp_path), "--resume"]) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("record.json")} == before


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--variants", "crooked"], "There is no variant 'crooked': use any of fair, loaded."),
        (["--seeds", "0"], "--seeds must be at least 1, not 0."),
        (["--jobs", "-2"], "--jobs must be at least 1, not -2."),
        (["--seconds", "nan"], "--seconds must be at least 0 and finite, not nan."),
        (["--train-images", "12345"], "12,345 training images can't be had"),
        (["--train-images", "0"], "0 training images can't be had"),
        (["--resume"], "There is nothing to resume"),
        (["--logdir", "pyproject.toml"], "--logdir pyproject.toml is a file: name a folder."),
        (["--budget", "lavish"], "lavish"),
        (["--sedes", "3"], "--sedes"),
    ],
)
def test_bad_flags_get_one_sentence_and_exit_code_2(capsys, monkeypatch, tmp_path, flags, sentence):
    monkeypatch.chdir(ROOT)
    logs = [] if "--logdir" in flags else ["--logdir", str(tmp_path)]
    try:
        code = cli.main(guess.RECIPE, [*flags, *logs])
    except SystemExit as error:  # tyro ends the process itself.
        code = error.code
    assert code == 2
    printed = capsys.readouterr()
    assert sentence in printed.err + printed.out
    assert "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


def test_tune_without_anything_to_tune(capsys, tmp_path):
    assert cli.main(pair.RECIPE, ["--tune", "--logdir", str(tmp_path)]) == 2
    assert "has nothing to tune" in capsys.readouterr().err


def test_a_log_folder_that_cannot_be_made(capsys):
    assert cli.main(guess.RECIPE, ["--logdir", "/dev/null/logs"]) == 1
    assert "could not be written or read: Not a directory." in capsys.readouterr().err


def test_a_full_disk_loses_nothing_and_says_how_to_go_on(capsys, monkeypatch, tmp_path):
    real, written = evidence.write_json, []

    def fills_up(path, content):
        if path.name == "record.json" and len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, content)
        written.extend([path] * (path.name == "record.json"))

    def at_once(tasks, jobs, gpus, started):
        for task in tasks:
            started(task)
            yield task, [{**RECORD, "variant": task.variants[0], "seed": task.seed}]

    monkeypatch.setattr(cli.runner, "side_by_side", at_once)
    monkeypatch.setattr(evidence, "write_json", fills_up)
    assert cli.main(guess.RECIPE, ["--logdir", str(tmp_path), "--no-log"]) == 1
    printed = capsys.readouterr()
    assert "No space left on device. The disk is full: free some space, then add --resume." in printed.err
    assert "2 finished runs are kept" in printed.out
    assert "--resume" in printed.out
    assert len(list(tmp_path.rglob("record.json"))) == 2


RECORD = {
    "config": dataclasses.asdict(guess.Config()),
    "status": "finished",
    "cause": None,
    "metrics": {"test_accuracy": 0.5},
    "curves": {},
    "correct": None,
    "seconds": {},
    "peak_memory_mib": 1.0,
}


def test_flags_reach_the_config_and_the_budget_sets_their_defaults():
    from recipes.optimizers import RECIPE

    assert cli.parse(RECIPE, [])[1] == RECIPE.config()
    assert cli.parse(RECIPE, ["--budget", "smoke"])[1].batch_size == 64
    assert cli.parse(RECIPE, ["--budget=smoke", "--rate", "0.5"])[1].rate == 0.5
    assert cli.parse(RECIPE, ["--variants", "adam", "sgd"])[0].variants == ("adam", "sgd")


def test_a_worker_sees_the_gpu_of_its_slot_alone(monkeypatch):
    """On stand-ins: this says which calls are made, not that a GPU obeys them."""
    import tensorflow as tf

    calls = []
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:0", f"{kind}:1"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *call: calls.append(call))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *call: calls.append(call))
    runner.see_only(1)
    assert calls == [("GPU:1", "GPU"), ("GPU:1", True)]


def test_several_recipes_share_workers_at_smoke_and_each_gets_its_own_evidence(capsys, tmp_path):
    flags = ["--budget", "smoke", "--jobs", "2", "--logdir", str(tmp_path)]
    assert cli.main_of_all([pair.RECIPE, guess.RECIPE], flags) == 0
    printed = capsys.readouterr().out
    for recipe in (pair.RECIPE, guess.RECIPE):
        found = evidence_in(tmp_path / recipe.name)["records"]
        assert [record["status"] for record in found] == ["finished"] * 2
        assert recipe.question in printed
        assert list((tmp_path / recipe.name).rglob("figure.png"))
        assert list((tmp_path / recipe.name).rglob("workers.log"))
    assert "3/3" in printed
    assert "guess fair seed 1" in printed


def test_of_several_recipes_the_others_go_on_where_one_has_no_such_flag(in_process, tmp_path):
    flags = ["--budget", "smoke", "--rate", "0.5", "--logdir", str(tmp_path)]
    assert cli.main_of_all([pair.RECIPE, guess.RECIPE], flags) == 2
    assert [path.parent.parent.name for path in tmp_path.rglob("evidence.json")] == ["guess"]


def test_recipes_together_say_so_and_resume_as_they_began(in_process, capsys, tmp_path):
    flags = ["--budget", "smoke", "--seeds", "2", "--logdir", str(tmp_path)]
    assert cli.main_of_all([pair.RECIPE, guess.RECIPE], flags) == 0
    for name in ("pair", "guess"):
        found = evidence_in(tmp_path / name)
        assert found["together"]
        assert found["elapsed_seconds"] is None
        assert found["command"].startswith("python -m recipes pair guess --all --budget smoke")
    (card,) = (tmp_path / "pair").rglob("card.md")
    assert "with nothing beside it" not in card.read_text()
    capsys.readouterr()
    assert cli.main(pair.RECIPE, [*flags, "--resume"]) == 2
    assert "There is nothing to resume" in capsys.readouterr().err
    assert cli.main_of_all([pair.RECIPE, guess.RECIPE], [*flags, "--resume"]) == 0
    assert "Kept 4 finished runs" in capsys.readouterr().out


def test_a_broken_record_stops_its_own_recipe_and_no_other(in_process, capsys, tmp_path):
    flags = ["--budget", "smoke", "--logdir", str(tmp_path)]
    assert cli.main_of_all([pair.RECIPE, guess.RECIPE], flags) == 0
    next((tmp_path / "pair").rglob("record.json")).write_text("{")
    for path in tmp_path.rglob("evidence.json"):
        path.unlink()
    capsys.readouterr()
    assert cli.main_of_all([pair.RECIPE, guess.RECIPE], [*flags, "--resume"]) == 1
    printed = capsys.readouterr()
    assert "is not whole" in printed.err
    assert "--all --budget smoke" in printed.out
    assert [path.parent.parent.name for path in tmp_path.rglob("evidence.json")] == ["guess"]


def test_after_an_interruption_only_what_is_not_reported_is_to_be_resumed(monkeypatch, capsys, tmp_path):
    def interrupted(tasks, jobs, gpus, started):
        for number, task in enumerate(tasks):
            if number == 2:
                raise KeyboardInterrupt
            started(task)
            yield task, carry_out(dataclasses.replace(task, intra_op_threads=None))

    monkeypatch.setattr(cli.runner, "side_by_side", interrupted)
    flags = ["--budget", "smoke", "--logdir", str(tmp_path)]
    assert cli.main_of_all([guess.RECIPE, pair.RECIPE], flags) == 130
    printed = capsys.readouterr().out
    assert printed.count("Stopped. ") == 1  # Of pair, whose task of two variants came first, there is a report.
    assert f"1 finished runs are kept in {tmp_path / 'guess'}" in printed
    assert f"python -m recipes guess pair --all --budget smoke --logdir {tmp_path} --resume" in printed


def test_at_other_budgets_one_recipe_follows_the_other(in_process, capsys, tmp_path):
    flags = ["--seeds", "1", "--logdir", str(tmp_path)]
    assert cli.main_of_all([pair.RECIPE, guess.RECIPE], flags) == 0
    assert "2/2" in capsys.readouterr().out
    assert all(found["elapsed_seconds"] is not None for found in map(evidence_in, tmp_path.iterdir()))


def test_flags_of_the_whole_reach_the_recipes(monkeypatch):
    asked = []
    monkeypatch.setattr(cli, "main_of_all", lambda recipes, flags: asked.append(([r.name for r in recipes], flags)))
    whole.main(["--all", "--budget", "smoke", "--no-log"])
    whole.main(["search", "sequential", "--all", "--logdir", "there", "--epochs", "3"])
    assert asked == [
        (whole.NAMES, ["--budget", "smoke", "--no-log"]),
        (["search", "sequential"], ["--epochs", "3", "--logdir", "there"]),
    ]


def test_unknown_recipes_and_flags_of_the_whole():
    for flags in (
        ["publish", "no_such_recipe"],
        ["--sedes", "3"],
        ["frobnicate"],
        ["--logdir", "logs", "publish"],
        ["publish", "--all"],
    ):
        done = subprocess.run([sys.executable, "-m", "recipes", *flags], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 2
        assert "error:" in done.stderr
        assert "Traceback" not in done.stderr
