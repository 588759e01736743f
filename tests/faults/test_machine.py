"""Faults of the machine: each has its sentence, and what was finished is there."""

import contextlib
import errno
import functools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from lab.cli import commands, cookbook
from lab.evidence import records
from lab.experiments import load
from pipelines import terminal
from tests.conftest import ROOT, evidence_in
from tests.toys import guess

LINEAR = [sys.executable, "-m", "recipes.sequential", "--budget", "smoke", "--variants", "linear", "--no-log"]
GUESS = [sys.executable, "-m", "tests.toys.guess", "--no-log"]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heeding() -> None:
    """Let a child heed signals that the tests ignore: a shell starts what is put into the background so, nohup too."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


start = functools.partial(
    subprocess.Popen, cwd=ROOT, preexec_fn=heeding, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
)


# With disks of our own


@pytest.fixture(scope="module")
def with_disks() -> list[str]:
    """What a command is put behind so that it may mount disks which nobody else sees, and which end with it."""
    for way in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        with contextlib.suppress(OSError):
            asked = [*way, "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
            if subprocess.run(asked, capture_output=True).returncode == 0:
                return way
    if os.environ.get("CI") == "true":
        pytest.fail("CI may not mount a disk of its own.")
    pytest.skip("no disk of one's own may be mounted here")


def on_a_disk(with_disks, tmp_path, size: str, script: str) -> subprocess.CompletedProcess:
    """Run a script in which $D is a small disk; what is on it at the end is copied to tmp_path/kept."""
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    whole = f"mount -t tmpfs -o size={size} tmpfs $D\n{script}\ncode=$?; cp -r $D {kept}; exit $code"
    return run([*with_disks, "bash", "-c", whole], D=str(disk), P=sys.executable)


@pytest.mark.processes
def test_a_disk_that_fills_up_is_a_sentence_and_what_was_finished_is_kept(with_disks, tmp_path):
    flags = "--seeds 12 --jobs 2 --no-log"
    done = on_a_disk(with_disks, tmp_path, "90k", f"$P -m tests.toys.guess {flags} --logdir $D/logs")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the disk is full" in done.stderr
    assert "--resume" in done.stdout
    kept = list((tmp_path / "kept").rglob("record.json"))
    assert 0 < len(kept) < 24
    before = {path: path.stat().st_mtime_ns for path in kept}
    asked = [*flags.split(), "--logdir", str(tmp_path / "kept" / "logs"), "--resume"]
    assert commands.run(guess.EXPERIMENT, asked) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert {record["status"] for record in evidence_in(tmp_path / "kept")["records"]} == {"finished"}


@pytest.mark.processes
def test_a_run_that_cannot_log_says_that_the_disk_is_full(with_disks, tmp_path):
    flags = "--budget smoke --variants linear --jobs 1"
    done = on_a_disk(with_disks, tmp_path, "60k", f"$P -m recipes.sequential {flags} --logdir $D")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "disk is full" in done.stdout + done.stderr


@pytest.mark.processes
def test_output_to_a_full_disk_is_a_sentence():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "recipes"], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.processes
def test_a_folder_that_may_not_be_written_to_any_more_is_a_sentence(tmp_path):
    script = (
        "$P -m tests.toys.guess --seeds 10 --jobs 1 --seconds 0.3 --no-log --logdir $D & running=$!\n"
        "until ls $D/guess/*/*/seed-*/record.json > /dev/null 2>&1; do sleep 0.1; done\n"
        "chmod -R a-w $D; wait $running"
    )
    mortal = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    done = run([*mortal, "bash", "-c", script], D=str(tmp_path), P=sys.executable)
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert re.search(r"1 finished run is kept in|\d finished runs are kept in", done.stdout)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.rglob("record.json"))


@pytest.mark.processes
def test_no_room_in_shared_memory_is_a_sentence(with_disks, tmp_path):
    fill = "mount -t tmpfs -o size=4k tmpfs /dev/shm; dd if=/dev/zero of=/dev/shm/full bs=4k count=1 2> /dev/null"
    done = on_a_disk(with_disks, tmp_path, "50m", f"{fill}; $P -m tests.toys.guess --seeds 1 --no-log --logdir $D")
    assert done.returncode == 1
    assert "/dev/shm" in done.stderr
    assert "Traceback" not in done.stderr


# Memory, clocks, ports, homes


@pytest.mark.processes
def test_a_worker_without_memory_fails_its_own_run_alone(tmp_path, started):
    mine = tmp_path / "greedy.py"
    mine.write_text(
        "import keras, numpy, pathlib\n"
        "def build(shape, classes):\n"
        "    for name in ('checked', 'checked again', 'first run'):\n"
        "        try:\n"
        "            (pathlib.Path(__file__).parent / name).touch(exist_ok=False)\n"
        "            break\n"
        "        except FileExistsError: pass\n"
        "    else: numpy.empty(2**50)\n"
        "    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(classes)])\n"
    )
    flags = ["--budget", "smoke", "--epochs", "1", "--variants", "sgd", "adam", "--no-log", "--model", f"{mine}:build"]
    assert commands.run(load("optimizers"), [*flags, "--logdir", str(tmp_path / "logs")]) == 1
    found = {record["status"]: record for record in evidence_in(tmp_path / "logs")["records"]}
    assert set(found) == {"finished", "failed"}
    assert "memory" in found["failed"]["cause"]


@pytest.mark.processes
def test_a_system_without_memory_for_tensorflow_is_a_sentence(tmp_path):
    done = run(["bash", "-c", f"ulimit -v 1500000; exec {' '.join(LINEAR)} --logdir {tmp_path}"])
    assert done.returncode == 1
    assert "could not be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_a_sentence(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cookbook.main(["board", "optimizers", "--reference", "--port", port]) == 1
    assert f"port {port}" in capsys.readouterr().err


@pytest.mark.processes
@pytest.mark.parametrize(("address", "code"), [("127.0.0.1:9", 1), ("nowhere", 2), ("127.0.0.1:70000", 2)])
def test_a_cluster_that_does_not_answer_is_a_sentence(monkeypatch, capsys, tmp_path, address, code):
    monkeypatch.setenv("RAY_ADDRESS", address)
    flags = ["--seeds", "1", "--no-log", "--backend", "ray", "--logdir", str(tmp_path)]
    assert commands.run(guess.EXPERIMENT, flags) == code
    assert address in capsys.readouterr().err


@pytest.mark.processes
def test_a_home_a_backend_of_figures_and_a_temporary_folder_are_not_needed(tmp_path):
    what = {"HOME": "/nonexistent/home", "MPLBACKEND": "rubbish", "TMPDIR": "/nonexistent/tmp"}
    done = run([*LINEAR, "--logdir", str(tmp_path)], **what)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.processes
def test_a_command_has_a_temporary_folder_of_its_own():
    begins = "import sys, tempfile; sys.argv[0] = '-m'; import recipes; print(tempfile.mkstemp()[1])"
    with tempfile.TemporaryDirectory(prefix="own-") as home:  # A short name: where it is long, there is none.
        done = run([sys.executable, "-c", begins], TMPDIR=home)
        assert Path(done.stdout.strip()).parent.parent == Path(home), done.stderr
        assert list(Path(home).iterdir()) == []


def test_without_room_for_temporary_files_a_command_begins_all_the_same(monkeypatch):
    """Whoever needs them will say so."""

    def nowhere(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(terminal.tempfile, "mkdtemp", nowhere)
    monkeypatch.setenv("TMPDIR", "as it was")
    terminal.own_scratch()
    assert os.environ["TMPDIR"] == "as it was"


def test_a_file_that_is_put_away_leaves_the_old_one_or_is_whole(monkeypatch, tmp_path):
    """Wherever the disk ends: at each of the calls that write."""
    path = tmp_path / "record.json"
    records.write_json(path, {"old": 1})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for where, name in ((os, "fsync"), (Path, "replace"), (Path, "chmod")):
        with monkeypatch.context() as patched:
            patched.setattr(where, name, full)
            with pytest.raises(OSError, match="No space left"):
                records.write_json(path, {"new": 2})
        assert json.loads(path.read_text()) == {"old": 1}
        assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


# Signals


@pytest.mark.processes
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_that_is_told_to_end_says_how_to_go_on(tmp_path, number, code):
    command = start([*GUESS, "--seeds", "20", "--seconds", "0.5", "--logdir", str(tmp_path)])
    deadline = time.monotonic() + 100
    while not list(tmp_path.rglob("record.json")) and time.monotonic() < deadline:
        time.sleep(0.1)
    command.send_signal(number)
    said, complained = command.communicate(timeout=60)
    assert command.returncode == code
    assert complained == ""
    assert re.search(r"1 finished run is kept in|\d finished runs are kept in", said)
    assert "--resume" in said


@pytest.mark.processes
@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_that_has_just_begun_ends_in_a_word(number):
    began = "import sys; sys.argv[0] = '-m'; import recipes, time; print('begun', flush=True); time.sleep(60)"
    command = start([sys.executable, "-c", began])
    assert command.stdout.readline() == "begun\n"
    command.send_signal(number)
    _, complained = command.communicate(timeout=60)
    assert (command.returncode, complained) == (130 if number == signal.SIGINT else 143, "\nStopped.\n")


@pytest.mark.processes
@pytest.mark.parametrize("swallowed", ["pass", "raise ImportError('initialization failed') from None"])
def test_an_interruption_that_a_library_swallows_ends_the_command_all_the_same(swallowed):
    told = "try:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept BaseException:\n    " + swallowed
    begins = "import os, signal, sys; sys.argv[0] = '-m'; import recipes\nfrom pipelines import terminal\n"
    command = start([sys.executable, "-c", f"{begins}{told}\nterminal.end_if_told()\nprint('went on')"])
    assert command.communicate(timeout=60) == ("", "\nStopped.\n")
    assert command.returncode == 130


@pytest.mark.processes
def test_ctrl_c_reaches_all_processes_of_a_terminal_and_one_of_them_has_a_word_to_say(tmp_path):
    """Also while the one that workers are forked from imports TensorFlow."""
    said = tmp_path / "said"
    with said.open("w") as output:
        command = subprocess.Popen(
            [*LINEAR, "--logdir", str(tmp_path)], cwd=ROOT, preexec_fn=own_terminal, stdout=output, stderr=output
        )
    deadline = time.monotonic() + 60
    while not psutil.Process(command.pid).children() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(timeout=60) == 130
    assert said.read_text() == "\nStopped.\n"


def own_terminal() -> None:
    heeding()
    os.setsid()
