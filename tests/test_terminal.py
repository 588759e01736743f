"""A command whose output goes nowhere, to a full disk, or to a terminal of few characters does its work."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.cli.cookbook import listing
from tests.conftest import ROOT

RUN = "-m tests.toys.guess --seeds 1 --no-log"


def shell(command: str, **variables: str) -> subprocess.CompletedProcess:
    """A command line of bash's, in which $P is this Python."""
    everything = {**os.environ, "P": sys.executable, **variables}
    words = ["bash", "-c", command]
    return subprocess.run(words, cwd=ROOT, env=everything, capture_output=True, text=True, timeout=300)


def test_whoever_reads_a_pipe_may_stop_reading():
    done = shell("$P -m recipes status | head -1; exit ${PIPESTATUS[0]}")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("command", ["status", "list"])
def test_a_full_disk_is_a_sentence(command):
    done = shell(f"$P -m recipes {command} > /dev/full")
    assert done.returncode == 1
    assert done.stderr == "Not all could be printed: No space left on device. What else was done is kept.\n"


@pytest.mark.parametrize(
    ("where", "code", "says"),
    [
        (">&- 2>&-", 0, ""),
        ("> /dev/full", 1, "Not all could be printed: No space left on device."),
        ("| head -1; exit ${PIPESTATUS[0]}", 0, ""),
    ],
    ids=["closed", "full", "head"],
)
def test_a_run_is_carried_out_wherever_its_output_goes(tmp_path, where, code, says):
    done = shell(f"$P {RUN} --logdir {tmp_path} {where}")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert says in done.stderr
    (evidence,) = tmp_path.rglob("evidence.json")
    assert evidence.stat().st_size > 1000


def test_what_a_terminal_can_not_show_is_replaced():
    done = shell("$P -m recipes list", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "optimizers" in done.stdout


@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.5])
def test_ctrl_c_during_the_start_is_a_word(tmp_path, seconds):
    command = [sys.executable, "-m", "recipes.sequential", "--budget", "smoke", "--logdir", str(tmp_path)]
    heeding = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731  What runs in the background does not.
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    started = subprocess.Popen(command, cwd=ROOT, preexec_fn=heeding, **pipes)
    time.sleep(seconds)
    started.send_signal(signal.SIGINT)
    said, _ = started.communicate(timeout=60)
    assert started.returncode == 130, said
    assert "Stopped." in said
    assert "Traceback" not in said


BEYOND_ALL = f'{{"claims": [], "stale": false, "quick_seconds": {10**400}}}'


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"claims": 5}', "", BEYOND_ALL])
def test_a_summary_that_is_broken_takes_only_its_own_row(monkeypatch, content):
    broken = ROOT / "results" / "optimizers" / "summary.json"
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, **how: content if path == broken else read(path, **how))
    cells = list(listing(["optimizers", "sequential"]).columns[2].cells)
    assert cells[0] == "its summary is broken: git checkout results/optimizers/summary.json"
    assert re.match("B1 holds", cells[1])
